"""Where compiled kernels are kept, for how long, and what is announced."""

from __future__ import annotations

import os
import time
from pathlib import Path

import llvmlite.binding
import numba
import pytest

from pageferry.common.guest import jit
from pageferry.common.guest.kernelstore import KernelStore
from pageferry.common.process.notices import redirect


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What users are told meanwhile."""
    lines: list[str] = []
    monkeypatch.setattr("pageferry.common.process.notices._said", set())
    monkeypatch.setattr("pageferry.common.process.notices._tell", None)
    redirect(lines.append)
    return lines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one in which kernels are kept meanwhile."""
    monkeypatch.setattr(jit, "STORE", KernelStore((tmp_path,), tmp_path))
    return tmp_path


def twice(n: int) -> int:
    return 2 * n


def compiled() -> list[bool]:
    """Call it with two signatures; for each: whether it had to be compiled."""
    out = []
    for value in (3, 1.5):
        misses: list[bool] = []
        with jit.before_compiling(lambda misses=misses: misses.append(True)):  # type: ignore[misc]
            function = jit.kernel(twice)
            assert function(value) == 2 * value  # type: ignore[arg-type]
        out.append(bool(misses))
    return out


class TestKeeping:
    def test_each_signature_in_a_file_of_its_own(self, folder: Path, said: list[str]) -> None:
        assert compiled() == [True, True]
        assert len(list(folder.iterdir())) == 2
        assert compiled() == [False, False]
        assert said == []

    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            (lambda data, _: data[: len(data) // 2], "is not what was written"),
            (lambda data, _: data[:30], "is not one"),
            (lambda _, __: b"", "is empty"),
            (lambda _, __: os.urandom(4096), "is not one"),
            (lambda data, _: data[:-9] + b"x" * 9, "is not what was written"),
            (lambda _, other: other, "is of another function or signature"),
        ],
    )
    def test_a_damaged_one_is_compiled_anew_once(
        self, folder: Path, said: list[str], harm: object, why: str
    ) -> None:
        compiled()
        first, second = sorted(folder.iterdir())
        data = [path.read_bytes() for path in (first, second)]
        assert callable(harm)
        first.write_bytes(harm(*data))
        second.write_bytes(harm(*reversed(data)))
        assert compiled() == [True, True]
        assert said == [f"a compiled kernel in {folder} {why}: it is compiled anew"]
        assert compiled() == [False, False]

    @pytest.mark.usefixtures("folder")
    def test_what_numba_cannot_load_is_compiled_anew(self, said: list[str]) -> None:
        compiled()
        cache = jit.KernelCache(twice, "")
        target = jit.kernel(twice).targetctx  # type: ignore[attr-defined]
        codegen = target.codegen()
        key = cache._key((numba.int64,), codegen)
        assert jit.STORE.load(cache._name, key) is not None
        jit.STORE.save(cache._name, key, b"no pickle")
        assert compiled() == [True, False]
        assert [line.partition("can't be loaded")[1] for line in said] == ["can't be loaded"]
        assert compiled() == [False, False]

    @pytest.mark.usefixtures("folder")
    def test_the_code_of_another_signature_is_not_taken(self, said: list[str]) -> None:
        """Whatever the key says: as numba's own cache can leave it."""
        compiled()
        cache = jit.KernelCache(twice, "")
        codegen = jit.kernel(twice).targetctx.codegen()  # type: ignore[attr-defined]
        keys = [cache._key((kind,), codegen) for kind in (numba.int64, numba.float64)]
        code = jit.STORE.load(cache._name, keys[1])
        assert code is not None
        jit.STORE.save(cache._name, keys[0], code)
        assert compiled() == [True, False]
        assert len(said) == 1

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_what_others_could_have_written_is_not_loaded(
        self, folder: Path, said: list[str], mode: int
    ) -> None:
        compiled()
        for path in folder.iterdir():
            path.chmod(mode)
        assert compiled() == [True, True]
        assert "could have been written by others" in said[0]
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    def test_nor_what_belongs_to_somebody_else(self, folder: Path, said: list[str]) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        compiled()
        for path in folder.iterdir():
            os.chown(path, 12345, 12345)
        assert compiled() == [True, True]
        assert "could have been written by others" in said[0]

    @pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
    def test_nor_what_is_no_file(self, folder: Path, said: list[str], kind: str) -> None:
        compiled()
        path, _ = sorted(folder.iterdir())
        elsewhere = folder.parent / f"{kind}-elsewhere"
        path.rename(elsewhere)
        if kind == "link":
            path.symlink_to(elsewhere)
        elif kind == "pipe":
            os.mkfifo(path, 0o600)
        else:
            path.mkdir()
        assert sum(compiled()) == 1
        assert "compiled anew" in said[0]

    def test_a_folder_that_has_gone(self, folder: Path, said: list[str]) -> None:
        folder.rmdir()
        assert compiled() == [True, True]
        assert "can't be kept" in said[0]

    def test_no_folder_at_all(self, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
        monkeypatch.setattr(jit, "STORE", KernelStore((), None))
        assert compiled() == [True, True]
        assert said == ["compiled kernels can't be kept, no folder for them can be written to"]

    def test_what_can_only_be_read_is_used(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
    ) -> None:
        compiled()
        other = tmp_path.parent / f"{tmp_path.name}-other"
        other.mkdir()
        monkeypatch.setattr(jit, "STORE", KernelStore((folder, other), other))
        assert compiled() == [False, False]
        assert list(other.iterdir()) == []
        next(folder.iterdir()).write_bytes(b"")
        assert sum(compiled()) == 1
        assert "it is compiled anew, at every start: it can't be replaced" in said[0]
        assert len(list(other.iterdir())) == 1


def root_of(monkeypatch: pytest.MonkeyPatch, *roots: Path) -> KernelStore:
    monkeypatch.setattr(jit, "_roots", lambda: iter(roots))
    return jit._find_store()


class TestPlaces:
    def test_the_first_that_can_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = root_of(monkeypatch, tmp_path / "a", tmp_path / "b")
        assert store.writable is not None
        assert store.writable.parent == tmp_path / "a"
        assert not (tmp_path / "b").exists()
        assert store.writable.stat().st_mode & 0o777 == 0o700

    def test_not_one_that_others_may_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(0o777)
        store = root_of(monkeypatch, tmp_path / "a", tmp_path / "b")
        assert [folder.parent for folder in store.readable] == [tmp_path / "b"]

    def test_not_through_a_link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir(0o700)
        (tmp_path / "a").symlink_to(tmp_path / "real")
        store = root_of(monkeypatch, tmp_path / "a", tmp_path / "b")
        assert [folder.parent for folder in store.readable] == [tmp_path / "b"]

    def test_one_that_can_only_be_read_comes_before_one_to_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root_of(monkeypatch, tmp_path / "a")
        monkeypatch.setattr(jit, "_writable", lambda folder: tmp_path / "a" not in folder.parents)
        store = root_of(monkeypatch, tmp_path / "a", tmp_path / "b")
        assert [folder.parent.name for folder in store.readable] == ["a", "b"]
        assert store.writable == store.readable[1]

    def test_without_a_usable_folder_nothing_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        store = root_of(monkeypatch, tmp_path / "file" / "a")
        assert (store.readable, store.writable, store.folder) == ((), None, None)

    def test_relative_folders_are_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative one would be a folder of whoever works here; so would a home called ~."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setenv("TMPDIR", "tmp")
        monkeypatch.setenv("HOME", "home")
        monkeypatch.setattr(jit, "_make", lambda *_: False)
        jit._find_store()
        assert not any(root.is_absolute() and tmp_path in root.parents for root in jit._roots())
        assert list(tmp_path.iterdir()) == []

    def test_the_key_of_a_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = {jit._fingerprint()}
        for target, name, value in (
            (llvmlite, "__version__", "0"),
            (numba, "__version__", "0"),
            (llvmlite.binding, "get_host_cpu_name", lambda: "other"),
            (numba.config, "OPT", 0),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(target, name, value)
                found.add(jit._fingerprint())
        assert len(found) == 5


def test_kernels_that_nobody_runs_are_removed(tmp_path: Path) -> None:
    old, recent, other = (tmp_path / name for name in ("kernels-a", "kernels-b", "results"))
    for folder in (old, recent, other):
        folder.mkdir(mode=0o700)
        (folder / "file").touch()
    long_ago = time.time() - jit.UNUSED_S - 60
    for folder in (old, other):
        os.utime(folder, (long_ago, long_ago))
    jit.forget_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-b", "results"]


def test_a_link_in_their_place_is_not_followed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir(mode=0o700)
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (root / "kernels-a").symlink_to(elsewhere)
    jit.forget_old(root, unused_s=-1)
    assert (elsewhere / "file").exists()


def test_the_folder_in_use_is_fresh() -> None:
    assert jit.STORE.writable is not None
    assert time.time() - jit.STORE.writable.stat().st_mtime < jit.UNUSED_S
