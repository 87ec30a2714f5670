"""The pytest plug-in: fixtures that migrate, and a marker for limits (docs/pytest.md).

    @pytest.mark.pageferry(downtime_ms=50)
    def test_downtime(pageferry_migrate):
        pageferry_migrate(workload="zipf:rate=40MB/s", strategy="pre-copy")

pytest loads this in every session of an environment that has pageferry, so nothing is imported here
that takes time: a fixture imports what it needs when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pageferry.pytest_plugin.destination import Destination as Destination
    from pageferry.pytest_plugin.hosts import Hosts as Hosts
    from pageferry.pytest_plugin.limits import FigureLimits
    from pageferry.pytest_plugin.links import Link as Link
    from pageferry.pytest_plugin.migrating import Migrate as Migrate

MARKER = "pageferry"
_FOR_ANNOTATIONS = {
    "Destination": "destination",
    "Hosts": "hosts",
    "Link": "links",
    "Migrate": "migrating",
}
_MARKER_LINE = (
    "pageferry(downtime_ms=..., total_time_ms=..., bytes_on_wire=..., ...): limits of every"
    " migration that the test makes with a fixture of pageferry"
)
_LIMITS: pytest.StashKey[FigureLimits] = pytest.StashKey()


def __getattr__(name: str) -> Any:
    """Load a fixture's type when somebody names it."""
    if name not in _FOR_ANNOTATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FOR_ANNOTATIONS[name]}"), name)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker.

    Args:
        config: The session's, to which the marker's line is added.
    """
    config.addinivalue_line("markers", _MARKER_LINE)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Read the marker's limits, so that what is wrong with them is said before the test runs.

    Args:
        item: The test; its limits are kept in its stash.
    """
    markers = list(item.iter_markers(MARKER))
    if markers:
        from pageferry.pytest_plugin.limits import read_limits

        item.stash[_LIMITS] = read_limits(markers)


@pytest.hookimpl(trylast=True)  # after the test itself, where that has raised nothing
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a test whose limits were never looked at: it would pass for nothing.

    Args:
        item: The test, which has just run.
    """
    limits = item.stash.get(_LIMITS, None)
    if limits is not None:
        limits.need_looks()


def _limits(request: pytest.FixtureRequest) -> FigureLimits:
    """Return the limits of the test that asks; none for a fixture of a wider scope."""
    from pageferry.pytest_plugin.limits import FigureLimits

    stash = getattr(request.node, "stash", None)
    found = stash.get(_LIMITS, None) if stash is not None else None
    return FigureLimits({}) if found is None else found


@pytest.fixture
def pageferry_migrate(request: pytest.FixtureRequest, tmp_path: Path) -> Migrate:
    """Give a `pageferry.migrate` for small guests, held to the limits of the test's marker.

    Unless the test says otherwise, the guest has 16 MiB and runs for 100 ms before and after. Each
    migration's logs are in a folder of the test's `tmp_path`.

    Args:
        request: The test that asks, whose limits count.
        tmp_path: Where the folders of logs are made.

    Returns:
        To be called as `pageferry.migrate`; its `reports` are those of this test.
    """
    from pageferry.pytest_plugin.migrating import Migrate

    return Migrate(tmp_path, _limits(request))


@pytest.fixture
def pageferry_dest(request: pytest.FixtureRequest) -> Iterator[Destination]:
    """Run a destination agent on loopback in its own process; `.migrate(...)` sends it a guest.

    Args:
        request: The test that asks, whose limits count.

    Yields:
        The agent, which listens, and ends with the test.
    """
    from pageferry.pytest_plugin.destination import Destination

    with Destination(_limits(request)) as destination:
        yield destination


@pytest.fixture
def pageferry_hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Start hosts, as they are asked for, that keep guests and send them to one another.

    Args:
        request: The test that asks, whose limits count.

    Yields:
        `.here`, `.there` or `["any name"]`; all of them end with the test.
    """
    from pageferry.pytest_plugin.hosts import Hosts

    with Hosts(_limits(request)) as hosts:
        yield hosts


@pytest.fixture
def pageferry_link() -> Link:
    """Make a shaped link's options for `pageferry_migrate`: namespaces as root, else a relay.

    Returns:
        To be called with the shape: `pageferry_link("rate=100mbit,delay=5ms")`.
    """
    from pageferry.pytest_plugin.links import Link

    return Link()
