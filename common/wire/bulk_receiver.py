"""The receiving end of a bulk connection: pages from a socket to where they belong.

Once it has read something, a receiver that has said nothing for a while sends a probe (`probes`).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from pageferry.common.errors import ConnectionBroken
from pageferry.common.wire import decoder, encoder, frames
from pageferry.common.wire.budget import BudgetShare
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy
from pageferry.common.wire.payload import Placer
from pageferry.common.wire.probes import IDLE_S, MAX_NUMBER, ProbeFrame
from pageferry.common.wire.spans import IOV_MAX, Spans, SpanTable
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tcp import os_reason
from pageferry.common.wire.tls_threads import ScatteringTls

# A receiver looks when a probe has come, which may be a little early by its own clock.
_SAY_S: Final = 0.8 * IDLE_S
_PLAINEST: Final = StreamFormat()


class BulkReceiver:
    """The receiving end of a bulk connection, for a thread of its own.

    Args:
        sock: Connected and blocking; `close` closes it.
        placer: Knows where pages belong.
        n_pages: Pages of the guest.
        stream: Of the connection.
        link: Of the session; its tap is used.
        attempt: Of the connection, for probes.
        places: Where pages of these extents are, or None where they must be received elsewhere
            first; asked for frames without a checksum, and not with TLS.
        share: From which large frames draw; None: there is no bound.

    Attributes:
        received_bytes: Without what TLS adds.
    """

    def __init__(
        self,
        sock: socket.socket,
        placer: Placer,
        n_pages: int,
        *,
        stream: StreamFormat = _PLAINEST,
        link: LinkPolicy = DEFAULT,
        attempt: int = 0,
        places: Callable[[Extents], SpanTable | None] | None = None,
        share: BudgetShare | None = None,
    ) -> None:
        self._sock = sock if not isinstance(sock, ssl.SSLSocket) else ScatteringTls(sock)
        self._connection = sock
        self._attempt, self._checked = attempt, stream.checksum
        self._share = share
        self._said_at = time.monotonic()
        self._probes = 0
        self._unsaid = b""  # of a probe
        self._fd = sock.fileno()
        self._tap = link.tap
        self._decoder = decoder.FrameDecoder(
            placer,
            stream=stream,
            n_pages=n_pages,
            attempt=attempt,
            places=None if isinstance(sock, ssl.SSLSocket) else places,
            share=share,
        )
        self._decoder.legal.most_control = 0
        self.received_bytes = 0

    @property
    def unpack_cpu_s(self) -> float:
        """CPU seconds that decompressing has cost so far."""
        return self._decoder.unpack_cpu_s

    def run(self, deliver: Callable[[frames.Frame], None]) -> None:
        """Receive until the peer ends the connection between two frames.

        Args:
            deliver: Gets each frame but probes; what it raises ends this.

        Raises:
            ConnectionBroken: If the connection ends elsewhere, breaks or is aborted.
            RemoteProtocolError: If something illegal comes.
        """
        try:
            while True:
                n = self._read(self._decoder.spans)
                if n == 0:
                    break
                self.received_bytes += n
                for frame in self._decoder.received(n):
                    if not isinstance(frame, ProbeFrame):
                        deliver(frame)
                    if self._share is not None:  # before a barrier, where others are waited for
                        self._share.give_back()
                self.keep_open()
                if self._tap is not None:
                    self._tap.incoming(n)
        except OSError as error:
            raise ConnectionBroken(f"a bulk connection broke: {os_reason(error)}") from None
        if not self._decoder.at_boundary:
            raise ConnectionBroken("a bulk connection ended in the middle of a frame")

    def keep_open(self) -> None:
        """Send a probe if none has gone for a while; does not wait. For the reading thread."""
        now = time.monotonic()
        if now - self._said_at < _SAY_S:
            return
        self._said_at = now
        if not self._unsaid:
            number = self._probes & MAX_NUMBER
            self._unsaid = encoder.encode_probe(self._attempt, number, checked=self._checked)
            self._probes += 1
        # A source that does not take it may well go on sending; reading shows whether it is gone.
        with contextlib.suppress(OSError):
            if isinstance(self._connection, ssl.SSLSocket):
                n = self._connection.send(self._unsaid)
            else:
                n = self._connection.send(self._unsaid, socket.MSG_DONTWAIT)
            self._unsaid = self._unsaid[n:]

    def _read(self, spans: Spans | None) -> int:
        if spans is not None:
            return spans.read(self._fd)
        return self._sock.recvmsg_into(self._decoder.buffers()[:IOV_MAX])[0]

    def abort(self) -> None:
        """Have `run` end at once; from any thread."""
        if self._share is not None:
            self._share.close()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket, and what the frame that was being read has drawn."""
        self._sock.close()
        if self._share is not None:
            self._share.end()
