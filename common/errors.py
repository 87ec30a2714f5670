"""Every error that pageferry raises on purpose, and the exit code that each one means.

    PageferryError                 1  the migration failed; the guest goes on at the source
    ├── UsageError                 2  bad usage or bad input
    ├── InternalError              1  something of our own that should never fail has failed
    ├── ProtocolError              1
    │   ├── LocalProtocolError        we tried an illegal step (a bug of ours)
    │   └── RemoteProtocolError       the peer sent something illegal
    │       └── CorruptFrame          or the wire damaged it: the checksum is wrong
    ├── PeerError                  1
    │   ├── PeerUnreachable           nobody listens, no route, name unknown
    │   ├── PeerRefused               the peer said no, and why
    │   └── ConnectionBroken          the connection ended before it should have
    │       └── PeerSilent            or nothing came over it for longer than allowed
    ├── VerificationError          3  the two digests differ
    ├── GuestLostError             4  pages are missing for good, or the guest ended
    ├── InDoubtError               4  nobody knows whether the destination runs the guest
    ├── CancelledByUser          130  cancelled; the guest goes on at the source
    └── MigrationError             *  of `common.report.failure`: what the API raises

Nothing is raised where all went well except that a limit was missed: with `--enforce` that is 5.

A message is one line: what, where, what was expected. It is shown to the user as it is.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_VERIFIED = 3
EXIT_IN_DOUBT = 4
EXIT_LIMIT_MISSED = 5
EXIT_CANCELLED = 130


class PageferryError(Exception):
    """A failure that the user is told about in one line."""

    exit_code = EXIT_FAILED


class UsageError(PageferryError):
    """Bad usage or bad input: an option, a file, an address."""

    exit_code = EXIT_USAGE


class InternalError(PageferryError):
    """Failure, in any thread, of something that should never fail; trying again does not help."""


class ProtocolError(PageferryError):
    """A step that the protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """An illegal step that we tried; the state is unchanged."""


class RemoteProtocolError(ProtocolError):
    """Something that the peer sent and that is illegal here; the session ends."""


class CorruptFrame(RemoteProtocolError):
    """A frame that is not the one that was sent."""


class PeerError(PageferryError):
    """A problem with the other agent or the way to it."""


class PeerUnreachable(PeerError):
    """A connection that could not be made."""


class PeerRefused(PeerError):
    """A refusal: the peer answered, and said no."""


class ConnectionBroken(PeerError):
    """An established connection that ended before it should have."""


class PeerSilent(ConnectionBroken):
    """A peer that has said nothing for longer than it may: nobody knows whether it is alive."""


class VerificationError(PageferryError):
    """A guest at the destination that is not the guest that left the source."""

    exit_code = EXIT_NOT_VERIFIED


class InDoubtError(PageferryError):
    """A commit that was sent and whose outcome is unknown."""

    exit_code = EXIT_IN_DOUBT


class GuestLostError(PageferryError):
    """A guest that ended with its process, or whose post-copy could not be recovered."""

    exit_code = EXIT_IN_DOUBT


class CancelledByUser(PageferryError):
    """A signal or a time limit; the guest goes on at the source."""

    exit_code = EXIT_CANCELLED
