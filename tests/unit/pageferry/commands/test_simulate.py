"""`pageferry simulate` as a command: what it prints, writes, refuses; measured runs once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.network import DirectionReport, NetReport
from pageferry.runs.simulate_from import MeasuredMigration, read_measured, simulated_again
from pageferry.sim.options import SimulationOptions
from pageferry.sim.run import simulated_report


def run(*arguments: object) -> int:
    return run_app(make_app(), ["simulate", *map(str, arguments)])


def as_if_measured(rtt_ms: float = 0.0, **values: Any) -> Report:
    """A report that might have been measured: with link and guest a little other than by default.

    What only a measurement has is not needed here.
    """
    config = MigrationConfig.model_validate({"memory": "128MiB", **values})
    text = "rate=80MB/s" + (f",delay={rtt_ms / 2}ms" if rtt_ms else "")
    report = simulated_report(config, SimulationOptions(link=text, guest_speed=3e6))
    del report.config["simulated"]
    if rtt_ms:
        report.net = net_of(rtt_ms)
    return report


def net_of(rtt_ms: float) -> NetReport:
    """Of a shaped network of which only the round trip counts."""
    rates = ("throughput_Bps", "throughput_back_Bps", "wire_Bps", "wire_back_Bps")
    return NetReport(
        link="namespaces",
        shaper="tun",
        forward=DIRECTION,
        back=DIRECTION,
        rtt_ms=rtt_ms,
        **dict.fromkeys(rates, 1e9),
    )


def write(tmp_path: Path, report: Report) -> Path:
    file = tmp_path / "run.json"
    file.write_text(report.to_json())
    return file


class TestOne:
    def test_the_table_and_the_report(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, page = tmp_path / "out.json", tmp_path / "out.html"
        # To look at the marks of so many pages takes a third of a second.
        limits = ("--max-bandwidth", "100gbit", "--downtime-limit", "1s")
        options = ("--memory", "1TiB", "--strategy", "pre-copy", *limits)
        assert run(*options, "--json", file, "--html", page) == 0
        out = capsys.readouterr().out
        assert "pre-copy · idle · 1TiB" in out
        report = Report.model_validate_json(file.read_text())
        assert report.config["simulated"] is True
        assert (report.cpu_s, report.cache, report.verified, report.pages) == (None,) * 4
        assert report.total_time_ms == pytest.approx(2**40 / 12.5e9 * 1e3, rel=0.02)
        assert "pageferry" in page.read_text()

    def test_json_on_standard_output_stands_alone(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("--memory", "64MiB", "--json", "-") == 0
        assert json.loads(capfd.readouterr().out)["strategy"] == "three-path"

    def test_the_link_is_what_slows_it_down(self, capfd: pytest.CaptureFixture[str]) -> None:
        totals = []
        for link in ("rate=10gbit", "delay=20ms", "delay=20ms,loss=0.1%"):
            assert run("--memory", "64MiB", "--link", link, "--json", "-") == 0
            totals.append(json.loads(capfd.readouterr().out)["total_time_ms"])
        assert totals == sorted(totals)
        assert totals[2] > 2 * totals[1]


DIRECTION = DirectionReport(
    rate_Bps=None, delay_ms=12.0, jitter_ms=0.0, loss=0.0, reorder=0.0, queue_bytes=0
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--link", "warp"), "--link"),
        (("--link", "rate=0"), "--link: rate"),
        (("--max-bandwidth", "unlimited"), "nothing limits the link"),
        (("--workload", "chess"), "chess"),
        (("--workload", "trace:/nonexistent.npz"), "/nonexistent.npz"),
        (("--guest-speed", "0"), "--guest-speed"),
        (("--guest-speed", "nan"), "--guest-speed"),
        (("--timeout", "5s"), "--timeout: a simulated round"),
        (("--inject", "set-up:reset"), "--inject"),
        (("--log-dir", "x"), "--log-dir"),
        (("--from", "/nonexistent.json"), "/nonexistent.json"),
        (("--fleet", "/nonexistent.toml"), "--fleet"),
        (("--evacuate", "0"), "--evacuate"),
        (("--evacuate", "3", "--from", "x.json"), "--from re-runs one"),
        (("--evacuate", "3", "--workload", "idle"), "--evacuate draws its guests"),
        (("--json", "/nonexistent/x.json"), "/nonexistent"),
    ],
)
def test_bad_input_is_refused_without_output(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


class TestFrom:
    @pytest.mark.parametrize(
        ("strategy", "workload"),
        [
            ("pre-copy", "uniform:rate=40MB/s,lines=4"),
            ("three-path", "matrix-multiply"),
            ("post-copy", "memory-intensive"),
            ("stop-and-copy", "idle"),
            ("hybrid", "zipf:rate=40MB/s"),
        ],
    )
    @pytest.mark.parametrize("rtt_ms", [0.0, 40.0])
    def test_a_run_comes_out_as_it_was(
        self, strategy: str, workload: str, rtt_ms: float, tmp_path: Path
    ) -> None:
        """Rate, speed and history are in the report: no option says them again.

        With a delay the rate is not what was carried in a time that had a slow start in it.
        """
        was = as_if_measured(rtt_ms, strategy=strategy, workload=workload)
        file = write(tmp_path, was)
        measured = read_measured(file, {})
        now = simulated_again(measured, SimulationOptions(from_file=file))
        assert now.config["simulated_from"] == str(file)
        assert now.total_time_ms == pytest.approx(was.total_time_ms, rel=0.02)
        assert now.downtime_ms == pytest.approx(was.downtime_ms, rel=0.1, abs=1)
        assert now.bytes_on_wire == pytest.approx(was.bytes_on_wire, rel=0.02)
        assert [each.kind for each in now.rounds] == [each.kind for each in was.rounds]

    def test_what_the_rounds_saw_counts_for_more_than_the_workload(self) -> None:
        was = as_if_measured(strategy="pre-copy", workload="uniform:rate=10MB/s")
        for each in was.rounds[:1]:
            each.dirty_pages_after *= 3
        config = MigrationConfig.model_validate(
            {"memory": "128MiB", "strategy": "pre-copy", "workload": "uniform:rate=10MB/s"}
        )
        under = MeasuredMigration(was, config, ()).conditions(None, None)
        round_s = was.rounds[0].duration_ms / 1e3
        assert under.stale_between(0.0, round_s).pages == pytest.approx(
            was.rounds[0].dirty_pages_after, rel=0.01
        )

    @pytest.mark.parametrize(
        ("workload", "speed"),
        [("memory-intensive", 3e6), ("uniform:rate=40MB/s,lines=4", 4 * 4e7 / 4096)],
    )
    def test_a_guest_that_ran_flat_out_is_as_fast_as_it_was(
        self, workload: str, speed: float
    ) -> None:
        was = as_if_measured(workload=workload)
        config = MigrationConfig.model_validate({"memory": "128MiB", "workload": workload})
        under = MeasuredMigration(was, config, ()).conditions(None, None)
        assert under.guest.steps_per_s == pytest.approx(speed, rel=0.01)

    def test_the_round_trip_of_a_shaped_network_is_that_of_the_link(self) -> None:
        """Both agents had one clock, so that the clocks' comparison says nothing of it."""
        was = as_if_measured(strategy="post-copy")
        was.downtime_error_ms = 0.0
        was.net = net_of(24.0)
        config = MigrationConfig.model_validate({"memory": "128MiB", "strategy": "post-copy"})
        assert MeasuredMigration(was, config, ()).conditions(None, None).rtt_s == pytest.approx(
            0.024
        )

    def test_it_says_how_far_off_it_is(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write(tmp_path, as_if_measured(strategy="post-copy"))
        assert run("--from", file) == 0
        out = capsys.readouterr().out
        for words in ("simulated beside measured", "total ms", "downtime ms", "bytes", "faults"):
            assert words in out

    def test_options_change_what_is_simulated(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write(tmp_path, as_if_measured(strategy="post-copy", workload="zipf:rate=9MB/s"))
        assert run("--from", file, "--strategy", "pre-copy") == 0
        out = capsys.readouterr().out
        assert "pre-copy · zipf:rate=9MB/s · 128MiB" in out
        assert "other than measured: --strategy" in out

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"outcome": "failed"}, "was not completed"),
            ({"config": {"simulated": True}}, "was simulated itself"),
            (
                {"config": {"memory": "lots", "strategy": "pre-copy", "workload": "idle"}},
                "lots",
            ),
            ({"config": {}}, "its config has no strategy"),
            ({"schema_version": 2}, "schema_version"),
        ],
    )
    def test_other_reports_are_refused(
        self,
        change: dict[str, Any],
        words: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        data = json.loads(as_if_measured().to_json())
        file = tmp_path / "run.json"
        file.write_text(json.dumps(data | change))
        assert run("--from", file) == 2
        assert words in capsys.readouterr().err


class TestEvacuate:
    def test_an_evacuation_is_printed_and_written_to_files(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, page = tmp_path / "out.json", tmp_path / "out.html"
        assert run("--evacuate", 30, "--seed", 4, "--json", file, "--html", page) == 0
        out = capsys.readouterr().out
        for words in ("30 guests over 1.25GB/s", "shortest first", "chosen", "█"):
            assert words in out
        document = json.loads(file.read_text())
        assert len(document["guests"]) == 30
        assert document["plan"]["total_time_ms"] >= document["least_total_time_ms"]
        assert sum(row["chosen"] for row in document["table"]) == 1
        assert max(guest["end_ms"] for guest in document["guests"]) == pytest.approx(
            document["plan"]["total_time_ms"]
        )
        assert "an evacuation" in page.read_text()

    def test_a_file_of_guests(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text('[[guest]]\nname = "web"\nmemory = "1GiB"\ncount = 3\n')
        assert run("--fleet", fleet, "--link", "rate=1gbit", "--json", "-") == 0
        document = json.loads(capfd.readouterr().out)
        assert [guest["name"] for guest in document["guests"]] == ["web"] * 3
        assert document["least_total_time_ms"] == pytest.approx(3 * 2**30 / 125e6 * 1e3, rel=1e-3)

    def test_a_workload_that_is_wrong_is_said_with_its_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text('[[guest]]\nmemory = "1GiB"\nworkload = "zipf:speed=3"\n')
        assert run("--fleet", fleet) == 2
        said = capsys.readouterr().err
        assert "fleet.toml" in said
        assert "guest 1" in said
        assert "zipf has no option 'speed'" in said

    def test_ten_thousand_guests_are_as_many_as_their_kinds(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text('[[guest]]\nmemory = "1GiB"\n')
        assert run("--evacuate", 10_000, "--fleet", fleet, "--json", "-") == 0
        assert len(json.loads(capfd.readouterr().out)["guests"]) == 10_000


def test_a_congestion_control_that_is_not_modelled_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--memory", "16MiB", "--congestion", "nosuch", "--quiet") == 0
    assert "--congestion nosuch: a simulation knows cubic, reno or bbr" in capsys.readouterr().err
    assert run("--memory", "16MiB", "--congestion", "reno", "--quiet") == 0
    assert capsys.readouterr().err == ""
