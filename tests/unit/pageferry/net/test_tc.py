from __future__ import annotations

from typing import Any, Literal

import pytest

from pageferry.common.errors import PageferryError, UsageError
from pageferry.net.schedule import parse_schedule, schedule_moments
from pageferry.net.shape import LARGEST_PACKET, Shape, parse_shape
from pageferry.net.tc import NO_NETEM, TcLink, choose_shaper, netlink, qdiscs
from pageferry.net.tun import TunLink


def test_a_rate_is_one_bucket_at_the_root() -> None:
    shape = parse_shape("rate=800mbit")
    (got,) = qdiscs(shape.forward, shape, outage=False)
    assert got == {
        "kind": "tbf",
        "rate": 100_000_000,
        "burst": 200_000,
        "limit": 5_200_000,
        "handle": 0x10000,
    }


def test_a_slow_bucket_still_holds_a_packet() -> None:
    shape = parse_shape("rate=1mbit")
    (got,) = qdiscs(shape.forward, shape, outage=False)
    assert got["burst"] >= 1514
    assert got["limit"] >= LARGEST_PACKET


def test_delay_and_loss_are_netem_and_the_rate_stands_behind_it() -> None:
    shape = parse_shape("rate=80mbit,delay=10ms,jitter=1ms,loss=0.1%,reorder=2%,queue=20ms")
    first, second = qdiscs(shape.forward, shape, outage=False)
    assert first["kind"] == "netem"
    assert (first["delay"], first["jitter"]) == (10_000, 1000)
    assert first["loss"] == pytest.approx(0.1)
    assert first["prob_reorder"] == pytest.approx(2)
    assert second["kind"] == "tbf"
    assert second["parent"] == first["handle"] | 1
    assert second["handle"] != first["handle"]


def test_nothing_asked_is_nothing_there_and_an_outage_swallows_everything() -> None:
    assert qdiscs(Shape().forward, Shape(), outage=False) == []
    shape = parse_shape("rate=80mbit,delay=10ms")
    assert [each["kind"] for each in qdiscs(shape.forward, shape, outage=True)] == ["blackhole"]


@pytest.mark.parametrize(
    ("asked", "shape", "schedule", "has_netem", "shaper", "notice"),
    [
        ("auto", "rate=1mbit", "", False, "tc", None),
        ("auto", "rate=1mbit", "at 1s outage=1s", False, "tc", None),
        ("auto", "delay=1ms", "", False, "tun", NO_NETEM),
        ("auto", "delay=1ms", "", True, "tc", None),
        ("auto", "rate=1mbit", "at 1s loss=1%", False, "tun", NO_NETEM),
        ("auto", "rate=1mbit,loss-back=1%", "", False, "tun", NO_NETEM),
        ("tun", "rate=1mbit", "", True, "tun", None),
        ("tc", "rate=1mbit", "", False, "tc", None),
    ],
)
def test_the_kernel_shapes_where_it_can_and_else_the_userspace_link(
    asked: Literal["auto", "tc", "tun"],
    shape: str,
    schedule: str,
    has_netem: bool,
    shaper: str,
    notice: str | None,
) -> None:
    wanted = parse_shape(shape)
    moments = schedule_moments(wanted, parse_schedule([schedule]))
    assert choose_shaper(asked, wanted, moments, has_netem=has_netem) == (shaper, notice)


def test_the_kernel_is_not_asked_for_what_it_has_not() -> None:
    with pytest.raises(UsageError, match="--shaper tc: this kernel has no netem"):
        choose_shaper("tc", parse_shape("delay=1ms"), [], has_netem=False)


@pytest.mark.parametrize("kind", [TcLink, TunLink])
def test_what_the_kernel_refuses_is_one_line(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("pyroute2.netlink.exceptions")

    def refuse(*_: object, **__: object) -> None:
        with netlink():
            raise exceptions.NetlinkError(95, "Operation not supported")

    monkeypatch.setattr(TcLink, "_make_pair", refuse)
    monkeypatch.setattr(TunLink, "_device", refuse)
    more = {} if kind is TcLink else {"seed": 1, "offloads": False, "tell": print}
    with pytest.raises(PageferryError, match=r"can't make the.* link: .*Operation not supported"):
        kind("any", parse_shape("rate=1mbit"), **more)
