"""A cache that can't be had: one line that names it, wherever it is seen, and nothing is begun."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import entering
from tests.support.command_line import Run, command, pageferry, run_words
from tests.support.memory_limit import ELSEWHERE, MIB, group
from tests.support.running import destination, running
from tests.support.tiers import FULL

TINY = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")
HERE = ("--listen", "127.0.0.1:0", "--control")
COMMANDS = {
    "migrate": ("migrate", *TINY),
    "compare": ("compare", "--strategies", "pre-copy,post-copy", *TINY),
    "predict": ("predict", "--memory", "16MiB"),
    "source": ("source", "--to", "127.0.0.1:9", *TINY),
    "host": ("host", *HERE, "FOLDER/a", "--boot", "--memory", "16MiB"),
}
SAMPLE = {("migrate", "64GiB"), ("host", "1GiB"), ("source", "64GiB")}
CASES = [
    (name, cache)
    for name in COMMANDS
    for cache in ("1GiB", "64GiB")
    if FULL or (name, cache) in SAMPLE
]
LITTLE = [("address space", "1000000")]  # KiB: more than a small guest needs, and less than 1 GiB


def limited(*arguments: str) -> Run:
    """Run it to its end within that."""
    return run_words(entering.command(LITTLE, command(*arguments)), cwd=ELSEWHERE)


def named(run: Run, cache: str, exit_code: int) -> None:
    assert run.exit_code == exit_code, run
    assert "MemoryError" not in run.stderr
    assert f"a guest of 16MiB and a cache of {cache} (--cache)" in run.complaint
    assert len([line for line in run.lines if line.startswith("pageferry: ")]) == 1, run.stderr


def filled(name: str, folder: Path) -> list[str]:
    return [word.replace("FOLDER", str(folder)) for word in COMMANDS[name]]


@pytest.mark.parametrize(("name", "cache"), CASES)
def test_within_a_limit_of_the_process(name: str, cache: str, tmp_path: Path) -> None:
    run = limited(*filled(name, tmp_path), "--cache", cache)
    named(run, cache, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS if FULL else ["migrate", "host"])
def test_a_cache_too_large_for_the_container_is_refused(name: str, tmp_path: Path) -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as made:
        if name == "source":
            with destination("--once") as (_, where):
                run = made.run("source", "--to", where, *TINY, "--cache", "256MiB")
        else:
            run = made.run(*filled(name, tmp_path), "--cache", "256MiB")
        named(run, "256MiB", 2)
        assert "oom_kill 0" in made.read("memory.oom_control")


def test_a_destination_that_can_not_have_it_refuses_it() -> None:
    with destination(steps=LITTLE) as (dest, where):
        run = pageferry("source", "--to", where, *TINY, "--cache", "1GiB")
        named(run, "1GiB", 1)
        assert "no guest had been started" in run.complaint
        assert dest.process.poll() is None


def test_a_host_that_can_not_have_it_goes_on_without(tmp_path: Path) -> None:
    with running("host", *HERE, str(tmp_path / "a"), "--quiet", steps=LITTLE) as host:
        host.wait_key("listening")
        to = ("--host", str(tmp_path / "a"))
        named(pageferry("host", "boot", *to, "--memory", "16MiB", "--cache", "1GiB"), "1GiB", 2)
        assert pageferry("host", "boot", *to, "--memory", "16MiB").exit_code == 0
        host.tell(signal.SIGTERM)
        ended = host.end()
    assert ended.exit_code == 4, ended.stderr  # with the guest that was here
    assert ended.lines == [ended.complaint]


def test_a_guest_whose_cache_does_not_fit_there_goes_on_here(tmp_path: Path) -> None:
    here, there = ((*HERE, str(tmp_path / name)) for name in ("a", "b"))
    boot = ("--boot", "--guest", "g", "--memory", "16MiB", "--cache", "1GiB")
    with (
        running("host", *there, steps=LITTLE) as second,
        running("host", *here, *boot) as first,
    ):
        port = second.wait_key("listening")["port"]
        first.wait_said("guest g runs here")
        run = pageferry("move", "--host", str(tmp_path / "a"), "--to", f"127.0.0.1:{port}")
        named(run, "1GiB", 1)
        assert "goes on at the source" in run.complaint


def test_a_sweep_says_it_of_its_cells(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    options = 'memory = "16MiB"\nwarmup = "0s"\nrun-after = "0s"\nmax-bandwidth = "unlimited"\n'
    plan.write_text(f'runner = "migrate"\n[options]\n{options}[grid]\ncache = ["4MiB", "1GiB"]\n')
    run = limited("sweep", str(plan), "--output", str(tmp_path / "out"), "--quiet")
    assert run.exit_code == 1, run
    assert "1 of them failed" in run.stdout
    assert "a cache of 1GiB (--cache)" in run.stderr
    assert "MemoryError" not in run.stderr


def test_a_simulation_holds_none() -> None:
    link = ("--link", "rate=1gbit", "--max-bandwidth", "unlimited")
    run = limited("simulate", "--memory", "16MiB", "--cache", "64GiB", *link)
    assert (run.exit_code, run.stderr) == (0, "")
