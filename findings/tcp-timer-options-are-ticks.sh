#!/usr/bin/env bash
# TCP_RTO_MIN_US (45) and TCP_DELACK_MAX_US (46, both Linux 6.15) take microseconds, and think in the
# kernel's ticks: what is asked for is rounded up to whole ticks and read back so, one tick or less
# (4,000 us at 250 Hz) is EINVAL and not "as little as can be", and so is anything above 200 ms: they
# can shorten the usual timers and never lengthen them. At 250 Hz the least is therefore 8 ms, four
# times a round trip of a fast network. TCP_RTO_MAX_MS (44, Linux 6.15) rounds likewise, in ms.
#
# One socket that is not connected; the tick is found by asking. Exit 0: seen as described. 1: it was
# different. 77: a kernel without them.
set -euo pipefail
echo "Linux $(uname -r), $(python3 --version)"
python3 - <<'P'
import errno, math, socket, sys

RTO_MAX_MS, RTO_MIN_US, DELACK_MAX_US = 44, 45, 46
sock = socket.socket()

def asked(option, value):
    """What is read back, or the error."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError as error:
        return errno.errorcode[error.errno]
    return sock.getsockopt(socket.IPPROTO_TCP, option)

if "ENOPROTOOPT" in (asked(RTO_MIN_US, 100_000), asked(DELACK_MAX_US, 100_000)):
    print("this kernel has no such options")
    sys.exit(77)
ok = True
for name, option in (("TCP_RTO_MIN_US", RTO_MIN_US), ("TCP_DELACK_MAX_US", DELACK_MAX_US)):
    answers = {value: asked(option, value) for value in range(500, 40_000, 500)}
    accepted = sorted({each for each in answers.values() if isinstance(each, int)})
    tick = min(b - a for a, b in zip(accepted, accepted[1:]))
    longer = asked(option, 200_001), asked(option, 1_000_000)
    print(f"{name}: a tick of {tick} us; least {accepted[0]} us; "
          + ", ".join(f"{each} -> {asked(option, each)}" for each in (1, 1000, 5000, 10_000, 15_000, 200_000))
          + f", 200001 -> {longer[0]}")
    ok &= accepted[0] == 2 * tick and longer == ("EINVAL", "EINVAL") and asked(option, 200_000) == 200_000
    ok &= all(got == ("EINVAL" if value <= tick else math.ceil(value / tick) * tick)
              for value, got in answers.items())
milliseconds = asked(RTO_MAX_MS, 4001)
print(f"TCP_RTO_MAX_MS: 4001 -> {milliseconds}")
ok &= milliseconds == math.ceil(4_001_000 / tick) * tick / 1000
print("as described: microseconds in name, ticks in fact" if ok else "different from what was described")
sys.exit(not ok)
P
