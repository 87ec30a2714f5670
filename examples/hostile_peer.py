"""A peer that lies to a destination agent: it gets an answer, a line in the log, and an exit code.

    python examples/hostile_peer.py

Three lies over loopback, each to an agent of its own: a guest of 1 TiB where 64 MiB are allowed, a
message that was changed on its way, and a page that the guest does not have. Whoever writes a
proxy, a fuzzer or another source can begin with this file. `pageferry.common.wire.messages` draws
the protocol, `pageferry.common.wire.frames` the frames; like all submodules they may change.
"""

import socket
import subprocess
import sys

import numpy as np

from pageferry.common.config.guest import GuestConfig
from pageferry.common.wire import encoder, messages
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.header import HEADER, TRAILER

DEST = ("-m", "pageferry.cli", "dest", "--once", "--max-memory", "64MiB", "--listen", "127.0.0.1:0")


class Peer(socket.socket):
    """A connection to an agent, which has said hello and was welcomed."""

    def __init__(self, port: int, role: str) -> None:
        super().__init__()
        self.settimeout(30)
        self.connect(("127.0.0.1", port))
        self.sendall(encoder.encode_preface())
        hello = {"role": role, "session": "0123456789abcdef" * 2, "token": "ab" * 32}
        self.say(messages.Hello.model_validate(hello))
        self.recv(16, socket.MSG_WAITALL)  # the agent's own preface
        self.hear()

    def say(self, message: messages.Message, flip: int | None = None) -> None:
        """Send a message; flip: the byte of its frame in which a bit is wrong."""
        frame = bytearray(encoder.encode_control(messages.encode_message(message)))
        if flip is not None:
            frame[flip] ^= 1
        self.sendall(frame)

    def hear(self) -> messages.Message:
        """Wait for the agent's next message."""
        length = HEADER.unpack(self.recv(HEADER.size, socket.MSG_WAITALL))[-1]
        body = self.recv(length + TRAILER.size, socket.MSG_WAITALL)
        return messages.decode_message(body[:length])


def coming(memory: int) -> messages.Setup:
    """Announce a guest of so many bytes."""
    guest = GuestConfig(memory=memory, workload="idle", cache=0)
    how = {"channels": 1, "congestion": "cubic", "run_after": 0.0, "vcpu_nice": 0}
    return messages.Setup.model_validate({"guest": guest, **how, "verify": True, "checksum": True})


def lie(what: str, port: int) -> messages.Message:
    """Tell one lie, and return what the agent answers."""
    with Peer(port, "control") as control:
        if what == "a guest of 1 TiB":
            control.say(coming(2**40))
        elif what == "a message with a wrong bit":
            control.say(coming(2**20), flip=40)
        else:
            control.say(coming(2**20))
            control.hear()  # it is ready for pages
            with Peer(port, "bulk") as bulk:
                page = from_pages(np.array([1_000_000]))
                bulk.sendall(encoder.encode_zero(page, checked=True))
                return control.hear()
        return control.hear()


def main() -> None:
    """Tell each lie to a fresh agent; print what it answers, what it logs, and how it ends."""
    for what in ("a guest of 1 TiB", "a message with a wrong bit", "page 1,000,000 of 256"):
        print(f"{what}:")
        command = [sys.executable, "-P", *DEST]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
            try:
                for line in agent.stderr or ():
                    if " listening on " in line:
                        print(f"  answered: {lie(what, int(line.rpartition(':')[2]))!r}")
                    elif " ended: " in line:
                        print(f"  logged:   {line.strip()}")
            except BaseException:
                agent.kill()  # without a guest it would wait for one for ever
                raise
        print(f"  exit code {agent.returncode}")


if __name__ == "__main__":
    main()
