"""How large a control message may be, by its kind, before any of it is unpacked.

A byte of msgpack may become an object of some 70 bytes (an empty map, an empty list), so a limit on
bytes alone does not limit memory: how many objects a message has, and how deep they are nested, is
counted first, without making any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire.frames import MAX_CONTROL
from pageferry.common.wire.results import MOST_TEXT

OBJECT_BYTES: Final = 80  # that one takes in memory at most, what it refers to not counted
_TEXT: Final = 4 * MOST_TEXT + 256  # bytes, with all that stands around it


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits of one kind of message.

    Attributes:
        size: Bytes of the message.
        objects: Objects in it, keys too.
        depth: How deep they are nested.
    """

    size: int
    objects: int
    depth: int


_SMALL: Final = Bound(256, 16, 1)
_WORDS: Final = Bound(_TEXT, 16, 1)
BOUNDS: Final[dict[bytes, Bound]] = {
    b"hello": Bound(512, 16, 1),
    b"welcome": Bound(4 * _TEXT, 16, 1),
    b"refuse": _WORDS,
    b"ping": _SMALL,
    b"pong": _SMALL,
    b"setup": Bound(16 * 1024, 128, 2),
    b"ready": Bound(2 * _TEXT, 16, 1),
    b"round-done": _SMALL,
    b"commit": Bound(MAX_CONTROL, 128, 3),
    b"resumed": _SMALL,
    b"complete": _SMALL,
    b"resync": Bound(MAX_CONTROL, 8, 1),
    b"finished": Bound(MAX_CONTROL, 1_500_000, 5),
    b"bye": _SMALL,
    b"cancel": _WORDS,
    b"failed": _WORDS,
    b"outcome": _WORDS,
}
_KIND: Final = b"\xa4kind"
_LONGEST_KIND: Final = 31  # bytes: a short string of msgpack


def message_kind(body: bytes) -> bytes:
    """Return the kind that a message says it is: its first key, as we write it.

    Args:
        body: Of a control frame, as it came.

    Returns:
        The kind's name, which may be none of ours.

    Raises:
        RemoteProtocolError: If the message does not begin with it.
    """
    start = {0xDE: 3, 0xDF: 5}.get(body[0], 1) if body else 0
    at = start + len(_KIND)
    if body[start:at] != _KIND or len(body) <= at or not 0xA0 < body[at] <= 0xA0 + _LONGEST_KIND:
        raise RemoteProtocolError("a control message that does not begin with its kind")
    return body[at + 1 : at + 1 + body[at] - 0xA0]


def check_bounds(body: bytes) -> int:
    """Check a message against the bounds of its kind.

    Args:
        body: Of a control frame, as it came.

    Returns:
        Bytes that it will take in memory at most, with itself.

    Raises:
        RemoteProtocolError: If it is of no known kind, or beyond its bounds.
    """
    kind = message_kind(body)
    bound = BOUNDS.get(kind)
    if bound is None:
        raise RemoteProtocolError(f"a control message of no known kind: {kind!r}")
    name = kind.decode()
    if len(body) > bound.size:
        raise RemoteProtocolError(
            f"a message {name} of {len(body)} bytes, expected at most {bound.size}"
        )
    objects = count_objects(body, bound.objects, bound.depth, name)
    return len(body) + objects * OBJECT_BYTES


# By a token's first byte: bytes of the whole token (`_FIXED`); bytes of the length behind it
# (`_SIZED`); bytes of the count behind it, and objects that each counts for (`_LISTS`: a pair of a
# map is two).
_FIXED: Final[dict[int, int]] = {
    **dict.fromkeys((*range(0x80), 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)), 1),
    **{0xA0 + n: 1 + n for n in range(32)},
    **{0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9},
}
_SIZED: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bytes, text
_LISTS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def count_objects(body: bytes, most: int, most_depth: int, name: str = "") -> int:
    """Count the objects of a msgpack value, keys too.

    Args:
        body: The value, as it came.
        most: How many it may have.
        most_depth: How deep they may be nested.
        name: What error messages call it.

    Returns:
        How many there are.

    Raises:
        RemoteProtocolError: If there are more or they are deeper, or if it is not one whole value.
    """
    at, objects, size = 0, 0, len(body)
    due: list[int] = []  # objects that are still to come, of each list or map that is open
    fixed = _FIXED
    while at < size:
        head = body[at]
        objects += 1
        if objects > most:
            raise RemoteProtocolError(f"a message {name} of more than {most} objects")
        if due:
            due[-1] -= 1
        elif objects > 1:
            raise RemoteProtocolError(f"a message {name} with something behind it")
        step = fixed.get(head)
        if step is not None:
            at += step
        elif head in _SIZED:
            digits = _SIZED[head]
            at += 1 + digits + int.from_bytes(body[at + 1 : at + 1 + digits], "big")
        else:
            digits, inside = _inside(body, at, head)
            at += 1 + digits
            if objects + inside > most:
                raise RemoteProtocolError(f"a message {name} of more than {most} objects")
            due.append(inside)
            if inside and len(due) > most_depth:
                raise RemoteProtocolError(f"a message {name} nested deeper than {most_depth}")
        while due and due[-1] == 0:
            due.pop()
    if due or at != size or not objects:
        raise RemoteProtocolError(f"a message {name} that is cut off")
    return objects


def _inside(body: bytes, at: int, head: int) -> tuple[int, int]:
    """Return of a list or a map: bytes of its count, objects in it.

    Raises:
        RemoteProtocolError: If it is neither.
    """
    if 0x80 <= head < 0x90:
        return 0, 2 * (head & 0x0F)
    if 0x90 <= head < 0xA0:
        return 0, head & 0x0F
    if head not in _LISTS:  # an extension type
        raise RemoteProtocolError(f"a control message with a type that is not ours: {head:#x}")
    digits, each = _LISTS[head]
    return digits, each * int.from_bytes(body[at + 1 : at + 1 + digits], "big")
