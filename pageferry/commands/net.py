"""`pageferry net`: shaped networks between two namespaces of this machine."""

from __future__ import annotations

import sys
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.units import figures, human_bytes
from pageferry.net.options import LinkOptions
from pageferry.net.shape import Shape, ShapeOptions, shape_of

_HELP = """Two network namespaces, src and dst, and a shaped link between them.

    pageferry net up --rate 800mbit --delay 5ms --loss 0.1%
    pageferry net exec dst -- pageferry dest --listen 10.77.0.2:4444 --insecure
    pageferry net exec src -- pageferry source --to 10.77.0.2:4444
    pageferry net down

Needs root, and the library pyroute2. `pageferry migrate --net rate=800mbit,delay=5ms` does all of
it for one migration; with --link relay also without root.
"""
DEFAULT_NAME = "lab"

NetworkOption = Annotated[
    str, Parameter(name="--name", help="NAME of the network, where there are several")
]


def up(
    *,
    shape: Annotated[ShapeOptions | None, Parameter(name="*")] = None,
    options: Annotated[LinkOptions | None, Parameter(name="*")] = None,
    name: NetworkOption = DEFAULT_NAME,
) -> int:
    """Make the two namespaces and the link, measure it, and leave it up.

    10.77.0.1 is the source's address, 10.77.0.2 the destination's. The options are for both
    directions; those with -back for the way from the destination to the source, where it differs.

    Args:
        shape: Rate, delay and so on of either direction; None is an unshaped link.
        options: How the link is made, and its schedule; None is all defaults.
        name: Name of the network.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: An option is wrong, the network is there already, or root or a library is
            missing.
        PageferryError: The link could not be made or measured; nothing of it is left.
    """
    from pageferry.net.link import NetworkLink
    from pageferry.net.namespaces import checked_name, require_namespaces
    from pageferry.net.schedule import parse_schedule, schedule_moments
    from pageferry.net.spec import LinkSpec

    checked_name(name)
    options = options or LinkOptions()
    wanted = shape_of(shape or ShapeOptions())
    moments = schedule_moments(wanted, parse_schedule(options.schedule))
    require_namespaces("pageferry net")
    spec = LinkSpec(
        kind="namespaces",
        name=name,
        shape=wanted,
        moments=moments,
        shaper=options.shaper,
        offloads=options.offloads,
    )
    with NetworkLink(spec) as link:
        if link.notice:
            print(f"pageferry: {link.notice}", file=sys.stderr)
        for line in network_lines(name, wanted, link.shaper, link.measured):
            print(line)
        sys.stdout.flush()
        link.stay()
    return EXIT_OK


def down(
    *,
    name: NetworkOption = DEFAULT_NAME,
    every: Annotated[bool, Parameter("--all", negative="")] = False,
) -> int:
    """Remove a network, what runs in it, and what a run that was killed has left of one.

    Args:
        name: Name of the network; unused with `every`.
        every: All networks of pageferry on this machine, also those of migrations that are running.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: There is no such network, its name is wrong, or root or a library is missing.
    """
    from pageferry.net import namespaces, spec
    from pageferry.net.link import end_keeper

    namespaces.checked_name(name)
    namespaces.require_namespaces("pageferry net")
    names = sorted({*namespaces.found(), *spec.remembered()}) if every else [name]
    gone = []
    for each in names:
        kept = end_keeper(each)
        left = namespaces.remove(each)
        remembered = each in spec.remembered()
        spec.forget(each)
        if kept or left or remembered:
            gone.append(each)
    if not gone and not every:
        raise UsageError(f"there is no network {name}")
    print(f"removed: {', '.join(gone)}" if gone else "there is none")
    return EXIT_OK


def execute(
    end: Literal["src", "dst"],
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    name: NetworkOption = DEFAULT_NAME,
) -> int:
    """Run a command in one of the two namespaces; its exit code is ours.

    Args:
        end: src or dst.
        command: What to run, behind `--`.
        name: Name of the network.

    Returns:
        Never: the process becomes the command.

    Raises:
        UsageError: There is no command or no such network, or the command cannot be run.
    """
    from pageferry.net.enter import replace_with
    from pageferry.net.namespaces import checked_name, namespace, require_namespaces

    if not command:
        raise UsageError("pageferry net exec needs a command, as in: net exec src -- ip address")
    checked_name(name)
    require_namespaces("pageferry net")
    sys.stdout.flush()
    replace_with(namespace(name, end), command)
    return EXIT_OK


def show() -> int:
    """List the networks there are, what each was asked to be, and what was measured.

    Returns:
        The exit code, 0.
    """
    from pageferry.net import namespaces, spec

    names = sorted({*namespaces.found(), *spec.remembered()})
    for each in names:
        state = spec.load_state(each)
        if state is None or not state.alive:
            print(f"{each}: left over, nobody keeps it: pageferry net down --name {each}")
            continue
        for line in network_lines(each, state.spec.shape, state.shaper, state.measured):
            print(line)
        for moment in state.spec.moments:
            print(f"  at {moment.at_s:g} s: {moment.words}")
    if not names:
        print("there is none")
    return EXIT_OK


def network_lines(name: str, shape: Shape, shaper: str, measured: object) -> list[str]:
    """Describe a network in a few lines.

    Args:
        name: Name of the network.
        shape: What it was asked to be.
        shaper: What shapes it, `tc` or `tun`.
        measured: A `LinkMeasurement`; anything else (None) leaves its line out.

    Returns:
        The lines.
    """
    from pageferry.net.measure import LinkMeasurement

    lines = [f"{name}: src 10.77.0.1, dst 10.77.0.2, shaped by {shaper}"]
    forward, back = shape.forward.words(), shape.back.words()
    both = " each way" if forward == back else f" there; {back} back"
    lines.append(f"  asked:    {forward}{both}")
    if isinstance(measured, LinkMeasurement):
        lines.append(
            f"  measured: round trip {figures(measured.rtt_ms, 3)} ms,"
            f" {human_bytes(measured.throughput_Bps)}/s there,"
            f" {human_bytes(measured.throughput_back_Bps)}/s back"
            f" ({human_bytes(measured.wire_Bps)}/s and {human_bytes(measured.wire_back_Bps)}/s with"
            " headers)"
        )
    return lines


net_app: Final = App(name="net", help=_HELP, help_format="plaintext")
net_app.command(up)
net_app.command(down)
net_app.command(execute, name="exec")
net_app.command(show)
