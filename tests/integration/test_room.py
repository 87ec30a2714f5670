"""Limits of a container, and of a process, and not of the machine."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import (
    PYTHON,
    SMALL,
    Run,
    environment,
    pageferry,
)
from tests.support.commands import destination
from tests.support.memory_limit import ELSEWHERE, MIB, Group, group, ulimited, within
from tests.support.tiers import full_only

TINY = ("--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")


def of_group(made: Group, limit: int) -> str:
    """What a refusal has to name: how much is free, and of whose how much."""
    return rf"[0-9]+MiB is free of memory cgroup \S*{made.folder.name}'s {limit}MiB"


@contextlib.contextmanager
def dest(made: Group, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A destination in a group, and its port."""
    running = made.start("dest", "--listen", "127.0.0.1:0", *options)
    with running:
        try:
            assert running.stderr is not None
            line = running.stderr.readline()
            found = re.search(r"listening on 127\.0\.0\.1:([0-9]+)", line)
            assert found, line
            yield int(found[1]), running
        finally:
            running.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(10)
            running.kill()


@pytest.mark.parametrize("strategy", ["post-copy", "three-path"])
def test_a_destination_in_a_small_container_takes_no_large_guest(strategy: str) -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as made, dest(made) as (port, running):
        to = ("--to", f"127.0.0.1:{port}", "--strategy", strategy)
        run = pageferry("source", *to, "--memory", "512MiB", *TINY)
        assert run.exit_code == 1, run.stderr
        assert "guest of 512MiB does not fit" in run.complaint
        assert re.search(of_group(made, 300), run.complaint)
        fits = pageferry("source", *to, "--memory", "16MiB", *TINY)
        assert fits.exit_code == 0, fits.stderr
        assert running.poll() is None


def test_more_than_there_is_can_not_be_allowed() -> None:
    """The container's limit holds below that of an option, and the option's below that one."""
    with (
        group("memory", memory_limit_in_bytes=300 * MIB) as made,
        dest(made, "--max-memory", "4GiB") as (port, running),
    ):
        to = ("--to", f"127.0.0.1:{port}", "--strategy", "post-copy")
        run = pageferry("source", *to, "--memory", "512MiB", *TINY)
        assert run.exit_code == 1, run.stderr
        assert re.search(of_group(made, 300), run.complaint)
        assert running.poll() is None
    with (
        group("memory", memory_limit_in_bytes=300 * MIB) as made,
        dest(made, "--max-memory", "32MiB") as (port, _),
    ):
        run = pageferry("source", "--to", f"127.0.0.1:{port}", "--memory", "64MiB", *TINY)
        assert run.exit_code == 1, run.stderr
        assert "--max-memory" in run.complaint


def test_a_destination_that_sees_it_itself_ends_with_2() -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as made, dest(made, "--once") as found:
        port, running = found
        run = pageferry("source", "--to", f"127.0.0.1:{port}", "--memory", "512MiB", *TINY)
        assert run.exit_code == 1, run.stderr
        _, said = running.communicate(timeout=40)
        assert running.returncode == 2
        assert re.search(of_group(made, 300), said)


@pytest.mark.parametrize(
    "asked",
    [
        ("migrate", "--strategy", "post-copy", "--memory", "512MiB"),
        ("migrate", "--memory", "64MiB"),  # once it fits, and twice it does not
        ("compare", "--strategies", "post-copy,pre-copy", "--memory", "512MiB"),
        ("predict", "--memory", "512MiB"),
        ("host", "--listen", "127.0.0.1:0", "--boot", "--memory", "512MiB"),
        ("reproduce", "--rates", "100MB/s"),
    ],
    ids=lambda asked: asked[0],
)
def test_what_does_not_fit_into_the_container_is_not_begun(asked: tuple[str, ...]) -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as made:
        timing = TINY if asked[0] in ("migrate", "compare") else ()
        run = made.run(*asked, *timing)
        assert run.exit_code == 2, run.stderr
        assert re.search(of_group(made, 300), run.stderr)
        assert "Traceback" not in run.stderr
        assert "oom_kill 0" in made.read("memory.oom_control")


def test_a_source_in_a_small_container() -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as made:
        with destination() as (_, port):
            run = made.run("source", "--to", f"127.0.0.1:{port}", "--memory", "512MiB", *TINY)
        assert run.exit_code == 2, run.stderr
        assert re.search(of_group(made, 300), run.complaint)


def test_a_parents_limit_binds_as_well() -> None:
    with group("memory", memory_limit_in_bytes=300 * MIB) as outer:
        inner = Group(outer.folder / "inner")
        inner.folder.mkdir()
        try:
            run = inner.run("migrate", "--memory", "512MiB", *TINY)
        finally:
            inner.remove()
        assert run.exit_code == 2, run.stderr
        assert re.search(of_group(outer, 300), run.complaint)


def test_file_cache_counts_as_free(tmp_path: Path) -> None:
    with group("memory", memory_limit_in_bytes=600 * MIB) as made:
        script = (
            f"echo $$ > {made.folder}/cgroup.procs; exec dd if=/dev/zero of=big bs=1M count=400"
        )
        subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, check=True, capture_output=True)
        subprocess.run(["/bin/sync", "big"], cwd=tmp_path, check=True)
        assert int(made.read("memory.usage_in_bytes")) > 380 * MIB
        run = made.run("migrate", "--memory", "64MiB", *TINY)
        assert run.exit_code == 0, run.stderr


def test_a_sweep_says_it_of_the_cells_that_do_not_fit(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'runner = "migrate"\n[options]\nwarmup = "0s"\nrun-after = "0s"\n'
        'max-bandwidth = "unlimited"\n[grid]\nmemory = ["16MiB", "512MiB"]\n'
    )
    with group("memory", memory_limit_in_bytes=400 * MIB) as made:
        run = made.run("sweep", str(plan), "--output", str(tmp_path / "out"), "--quiet")
        assert run.exit_code == 1, run.stderr
        assert "2 of 2 cells have finished, 1 of them failed" in run.stdout
        assert re.search(of_group(made, 400), run.stderr)


def test_an_agent_that_the_kernel_kills_for_memory_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others take the rest of the container's memory, each of them less than an agent has."""
    monkeypatch.setenv("PAGEFERRY_TEST_LOADED_ANEW", "1")  # a command has less of it than an agent
    taking = (
        "import os, sys, time;"
        "open(sys.argv[1], 'w').write(str(os.getpid()));"
        f"kept = [b'x' * {MIB} for _ in range(50)]; time.sleep(60)"
    )
    with (
        group("memory", memory_limit_in_bytes=600 * MIB) as made,
        contextlib.ExitStack() as others,
        made.start("migrate", "--memory", "128MiB", "--warmup", "40s", "--quiet") as running,
    ):
        while int(made.read("memory.usage_in_bytes")) < 250 * MIB:
            assert running.poll() is None
            time.sleep(0.05)
        for _ in range(10):
            arguments = [PYTHON, "-c", taking, str(made.folder / "cgroup.procs")]
            other = others.enter_context(subprocess.Popen(arguments))
            others.callback(other.kill)
        _, said = running.communicate(timeout=60)
    assert running.returncode in (1, 4), said
    assert re.search(r"agent was ended by SIGKILL \(out of memory: .*600MiB\)", said), said


def _agents_and_limits() -> list[Any]:
    """A destination of small guests fits into `-v 500000`, which has a test of its own below."""
    commands = {
        "migrate": SMALL,
        "source": ("--to", "127.0.0.1:9", *SMALL),
        "dest": ("--listen", "127.0.0.1:0"),
        "host": ("--listen", "127.0.0.1:0"),
        "predict": ("--memory", "16MiB"),
        "compare": ("--strategies", "pre-copy,post-copy", *SMALL),
        "reproduce": ("--quick", "--rates", "1GB/s"),
    }
    limits = ("-n 10", "-n 12", "-v 500000", "-v 300000", "-d 150000")
    pairs = [(name, limit) for name in commands for limit in limits]
    # Each limit, each command, and both kinds of limit of a command that starts agents.
    sample = {("dest", limit) for limit in limits} | {("migrate", "-v 500000")}
    sample |= {(name, ("-n 12", "-v 500000")[i % 2]) for i, name in enumerate(commands)}
    return [
        pytest.param(
            (name, *commands[name]),
            limit,
            id=f"{name}{limit}",
            marks=() if (name, limit) in sample else (pytest.mark.full, full_only),
        )
        for name, limit in pairs
        if (name, limit) != ("dest", "-v 500000")
    ]


@pytest.mark.parametrize(("asked", "limit"), _agents_and_limits())
def test_a_limit_of_the_process(asked: tuple[str, ...], limit: str) -> None:
    run = ulimited(limit, *asked)
    assert run.exit_code == 2, run.stderr
    assert f"(ulimit {limit[:2]})" in run.stderr
    assert "Traceback" not in run.stderr
    assert len(lines_of_ours(run)) == 1, run.stderr


def test_a_destination_with_little_address_space_takes_small_guests_only() -> None:
    with listening("-v 500000") as (port, running):
        to = ("--to", f"127.0.0.1:{port}", "--strategy", "post-copy", *TINY)
        large = pageferry("source", *to, "--memory", "512MiB")
        assert large.exit_code == 1, large.stderr
        assert re.search(r"512MiB does not fit: .* \(ulimit -v\)'s 488MiB", large.complaint)
        small = pageferry("source", *to, "--memory", "16MiB")
        assert small.exit_code == 0, small.stderr
        assert running.poll() is None


@contextlib.contextmanager
def listening(limit: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A destination within a limit of `ulimit`, and its port."""
    with subprocess.Popen(
        within(limit, "dest", "--listen", "127.0.0.1:0"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ELSEWHERE,
    ) as running:
        try:
            assert running.stderr is not None
            line = running.stderr.readline()
            found = re.search(r"listening on 127\.0\.0\.1:([0-9]+)", line)
            assert found, line
            yield int(found[1]), running
        finally:
            running.terminate()


def lines_of_ours(run: Run) -> list[str]:
    return [line for line in run.lines if line.startswith("pageferry: ")]


def test_channels_are_held_against_the_descriptors() -> None:
    run = ulimited("-n 100", "migrate", *SMALL, "--channels", "64")
    assert run.exit_code == 2, run.stderr
    assert "64 channel(s)" in run.complaint
    assert "(ulimit -n)" in run.complaint


def test_a_destination_with_few_descriptors_refuses_many_channels() -> None:
    with listening("-n 48") as (port, _):
        to = ("--to", f"127.0.0.1:{port}")
        many = pageferry("source", *to, *SMALL, "--channels", "64")
        one = pageferry("source", *to, *SMALL)
    assert many.exit_code == 1, many.stderr
    assert re.search(r"64 channel\(s\) needs .* of this process's 48 \(ulimit -n\)", many.complaint)
    assert one.exit_code == 0, one.stderr


def test_cpus_are_those_that_we_may_use() -> None:
    with group("cpu", cpu_cfs_quota_us=50_000) as made:
        run = made.run("migrate", *SMALL, "--compress", "zstd", "--json", "-")
        assert run.exit_code == 0, run.stderr
        config = run.json["config"]
        assert (config["cpus"], config.get("cpu_quota")) == (1, 0.5)
        assert config["cpus_from"].endswith("quota of 0.5 CPUs")


def test_cpus_are_those_of_the_affinity() -> None:
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})  # whoever is started from here inherits it
    try:
        run = pageferry("migrate", *SMALL, "--json", "-", cwd=ELSEWHERE)
    finally:
        os.sched_setaffinity(0, ours)
    assert run.exit_code == 0, run.stderr
    assert run.json["config"]["cpus"] == 1


def test_threads_are_held_against_the_container() -> None:
    with group("pids", pids_max=12) as made:
        run = made.run("migrate", *SMALL)
        assert run.exit_code == 2, run.stderr
        assert re.search(rf"pids cgroup \S*{made.folder.name}'s 12", run.complaint)
