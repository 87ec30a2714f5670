#!/usr/bin/env bash
# A link-local IPv6 address needs its interface: the fourth part of its socket address, the scope id.
# uvloop loses it in both directions. `loop.getaddrinfo("fe80::1%lo", ...)` answers with scope id 0,
# where asyncio's own loop (and socket.getaddrinfo in the same process) has the interface's number; and
# `loop.sock_connect(sock, (host, port, 0, scope_id))` connects without the scope id, which the kernel
# refuses with EINVAL. The way that works in both is the zone as text: ("fe80::1%lo", port).
# Beside it: `create_connection(..., happy_eyeballs_delay=...)`, RFC 8305 as asyncio has it since
# Python 3.8, is a TypeError in uvloop, so that a first address which is silent is waited for.
#
# In a network namespace of its own, with fe80::1 on its loopback; needs root or user namespaces.
# Exit 0: seen as described. 1: it was different. 77: can't be asked here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat > ask.py <<'P'
import asyncio, json, socket, sys

async def tried(call, *arguments, **options):
    try:
        await call(*arguments, **options)
        return "connected"
    except (OSError, TypeError) as error:
        return type(error).__name__ if isinstance(error, TypeError) else f"errno {error.errno}"

async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "::", 0)
    port = server.sockets[0].getsockname()[1]
    found = {}
    answers = await loop.getaddrinfo("fe80::1%lo", port, type=socket.SOCK_STREAM)
    found["loop.getaddrinfo's scope id"] = answers[0][4][3]
    found["socket.getaddrinfo's scope id"] = socket.getaddrinfo("fe80::1%lo", port)[0][4][3]
    for name, address in (("scope id", ("fe80::1", port, 0, socket.if_nametoindex("lo"))),
                          ("zone as text", ("fe80::1%lo", port))):
        with socket.socket(socket.AF_INET6) as sock:
            sock.setblocking(False)
            found[f"sock_connect, {name}"] = await tried(loop.sock_connect, sock, address)
    found["happy_eyeballs_delay"] = await tried(
        loop.create_connection, asyncio.Protocol, "::1", port, happy_eyeballs_delay=0.25)
    print(json.dumps(found))

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
P
ask() { # in a namespace: of root's, or of a user's own
  local flags=-n; [ "$(id -u)" -eq 0 ] || flags=-rn
  unshare $flags sh -c 'ip link set lo up && ip addr add fe80::1/64 dev lo nodad && exec venv/bin/python ask.py "$1"' sh "$1"
}
echo "Linux $(uname -r), Python $(venv/bin/python -c 'import sys; print(sys.version.split()[0])'), uvloop $(venv/bin/python -c 'import uvloop; print(uvloop.__version__)')"
a=$(ask asyncio) || { echo "no network namespace with IPv6 can be made here"; exit 77; }
u=$(ask uvloop)
echo "asyncio: $a"
echo "uvloop:  $u"
venv/bin/python - "$a" "$u" <<'P'
import errno, json, sys
a, u = map(json.loads, sys.argv[1:])
index = a["socket.getaddrinfo's scope id"]
right = {"loop.getaddrinfo's scope id": index, "socket.getaddrinfo's scope id": index,
         "sock_connect, scope id": "connected", "sock_connect, zone as text": "connected",
         "happy_eyeballs_delay": "connected"}
wrong = {"loop.getaddrinfo's scope id": 0, "sock_connect, scope id": f"errno {errno.EINVAL}",
         "happy_eyeballs_delay": "TypeError"}
ok = index > 0 and a == right and u == right | wrong
print("as described: uvloop knows a zone only as text" if ok else "different from what was described")
sys.exit(not ok)
P
