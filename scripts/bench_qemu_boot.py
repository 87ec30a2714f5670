"""The guest that QEMU runs in the benchmarks: a boot sector that fills memory, and dirties it.

It goes from real mode straight into 64-bit mode, where KVM runs it on the processor itself: real
and protected mode may be emulated, instruction by instruction, on a host that is a guest itself.
Memory from `START` on is filled with the output of a generator (each page another, none
compressible); then it says `READY` on QEMU's debug console, and idles or writes one word a page for
ever. Any BIOS can boot it; `firmware` is the least that can, and saves the seconds that an
emulated BIOS takes.

The listing below is its own assembler's: bytes in hex, what they mean after the semicolon.
`<name:n>` is a parameter of n bytes, little endian; `NAME:` is a label, `<NAME:r>` one byte that
jumps there, `<NAME:a>` its address in two.
"""

from __future__ import annotations

import re
from typing import Final

SECTOR: Final = 512
ORIGIN: Final = 0x7C00
START: Final = 16 * 2**20  # below it are the BIOS, its tables and holes
TAIL: Final = 2**20  # at memory's end are the BIOS's, too
READY: Final = "R"
PAGE: Final = 4096
BATCH_PAGES: Final = 16
SHIFT: Final = 6
PM_TIMER_HZ: Final = 3_579_545  # of ACPI

_BOOT: Final = """
    fa                      ; cli: there is no handler for any interrupt
    31 c0                   ; xor ax, ax
    8e d8  8e c0  8e d0     ; mov ds, ax / es, ax / ss, ax
    bc 00 7c                ; mov sp, 0x7c00
    fc                      ; cld
    e4 92  0c 02  e6 92     ; address line 20 on, by port 0x92
    ; page tables: one root at 0x1000, one directory at 0x2000, four of 2 MiB pages from 0x3000 on
    bf 00 10  b9 00 18      ; mov di, 0x1000 / cx, 0x1800
    66 31 c0  66 f3 ab      ; xor eax, eax / rep stosd: 24 KiB of zeros
    c7 06 00 10 03 20       ; mov word [0x1000], 0x2003: present, writable
    c7 06 00 20 03 30       ; mov word [0x2000], 0x3003
    c7 06 08 20 03 40       ; mov word [0x2008], 0x4003
    c7 06 10 20 03 50       ; mov word [0x2010], 0x5003
    c7 06 18 20 03 60       ; mov word [0x2018], 0x6003
    bf 00 30                ; mov di, 0x3000
    66 b8 83 00 00 00       ; mov eax, 0x83: present, writable, large
MAP:
    66 89 05                ; mov [di], eax
    83 c7 08                ; add di, 8
    66 05 00 00 20 00       ; add eax, 2 MiB
    73 <MAP:r>              ; jnc MAP: to the end of 4 GiB
    0f 20 e0  0c 20  0f 22 e0           ; mov eax, cr4 / or al, PAE / mov cr4, eax
    66 b8 00 10 00 00  0f 22 d8         ; mov eax, 0x1000 / cr3, eax
    66 b9 80 00 00 c0                   ; mov ecx, EFER
    0f 32  80 cc 01  0f 30              ; rdmsr / or ah, LME / wrmsr
    0f 01 16 <GDTR:a>                   ; lgdt [GDTR]
    0f 20 c0  66 0d 01 00 00 80  0f 22 c0   ; cr0 |= PG + PE
    ea <LONG:a> 08 00                   ; jmp 8:LONG
LONG:
    b8 10 00 00 00          ; mov eax, 16
    8e d8  8e c0  8e d0     ; mov ds, eax / es, eax / ss, eax
"""

_FILL: Final = """
    bf <start:4>            ; mov edi, start
    be <end:4>              ; mov esi, end
    48 bb <multiplier:8>    ; mov rbx, multiplier
FILL:
    48 0f af c3  48 01 d8   ; imul rax, rbx / add rax, rbx
    48 ab                   ; stosq
    48 39 f7  72 <FILL:r>   ; cmp rdi, rsi / jb FILL
"""

_SAY_READY: Final = """
    b0 <ready:1>  e6 e9     ; mov al, ready / out 0xe9, al
    b0 0a  e6 e9            ; mov al, newline / out 0xe9, al
"""

_IDLE: Final = """
IDLE:
    f4  eb <IDLE:r>         ; hlt / jmp IDLE
"""

_FLAT_OUT: Final = """
    be <until:4>            ; mov esi, until
AGAIN:
    bf <start:4>            ; mov edi, start
WRITE:
    48 ff 07                ; inc qword [rdi]
    48 81 c7 00 10 00 00    ; add rdi, 4096
    48 39 f7  72 <WRITE:r>  ; cmp rdi, rsi / jb WRITE
    eb <AGAIN:r>            ; jmp AGAIN
"""

_PACED: Final = """
    be <until:4>            ; mov esi, until
    bf <start:4>            ; mov edi, start
    ba 08 06 00 00          ; mov edx, 0x608: the power-management timer, 24 bits
    ed  89 c3               ; in eax, dx / mov ebx, eax
    0f 31  48 c1 e2 20  48 09 d0    ; rdtsc / shl rdx, 32 / or rax, rdx
    49 89 c0                ; mov r8, rax
    ; how much the time-stamp counter counts in 2^SHIFT batches: reading it costs nobody but us
CALIBRATE:
    ba 08 06 00 00  ed      ; mov edx, 0x608 / in eax, dx
    29 d8  25 ff ff ff 00   ; sub eax, ebx / and eax, 0xffffff
    3d <ticks:4>            ; cmp eax, ticks
    72 <CALIBRATE:r>        ; jb CALIBRATE
    0f 31  48 c1 e2 20  48 09 d0    ; rdtsc / shl rdx, 32 / or rax, rdx
    48 89 c3                ; mov rbx, rax: when the last batch was due
    4c 29 c0                ; sub rax, r8
    48 c1 e8 <shift:1>      ; shr rax, SHIFT
    49 89 c0                ; mov r8, rax: from one batch to the next
TICK:
    f3 90                   ; pause
    0f 31  48 c1 e2 20  48 09 d0    ; rdtsc / shl rdx, 32 / or rax, rdx
    48 29 d8  4c 39 c0      ; sub rax, rbx / cmp rax, r8
    72 <TICK:r>             ; jb TICK
    4c 01 c3                ; add rbx, r8
    b9 <pages:4>            ; mov ecx, pages
WRITE:
    48 ff 07                ; inc qword [rdi]
    48 81 c7 00 10 00 00    ; add rdi, 4096
    48 39 f7  72 <NEXT:r>   ; cmp rdi, rsi / jb NEXT
    bf <start:4>            ; mov edi, start
NEXT:
    ff c9  75 <WRITE:r>     ; dec ecx / jnz WRITE
    eb <TICK:r>             ; jmp TICK
"""

_TABLES: Final = """
GDT:
    00 00 00 00 00 00 00 00
    00 00 00 00 00 9a 20 00 ; code, 64 bits
    00 00 00 00 00 92 00 00 ; data
GDTR:
    17 00 <GDT:a> 00 00
"""

_FIRMWARE: Final = """
    66 ba f8 0c 00 00               ; mov edx, 0xcf8: the PCI bus
    66 b8 40 0b 00 80  66 ef        ; mov eax, 0x80000b40 / out dx, eax: device 1.3, register 0x40
    b2 fc                           ; mov dl, 0xfc
    66 b8 01 06 00 00  66 ef        ; mov eax, 0x601 / out dx, eax: its timer is at port 0x608 ...
    b2 f8                           ; mov dl, 0xf8
    66 b8 80 0b 00 80  66 ef        ; mov eax, 0x80000b80 / out dx, eax
    b2 fc  b0 01  ee                ; mov dl, 0xfc / mov al, 1 / out dx, al: ... and on
    fc  31 c0  8e c0                ; cld / xor ax, ax / mov es, ax
    31 f6  bf 00 7c  b9 00 01       ; xor si, si / mov di, 0x7c00 / mov cx, 256
    f3 2e a5                        ; rep movsw from the ROM
    ea 00 7c 00 00                  ; jmp 0:0x7c00
"""
ROM: Final = 65536

_TOKEN: Final = re.compile(r"[0-9a-f]{2}|<(\w+):(\w)>|(\w+):")


def assemble(listing: str, parameters: dict[str, int]) -> bytes:
    """The bytes of a listing. Raises `ValueError` where it is none, or a jump goes too far."""
    code, labels, jumps = bytearray(), dict[str, int](), list[tuple[int, str, str]]()
    for line in listing.splitlines():
        for word in line.partition(";")[0].split():
            match = _TOKEN.fullmatch(word)
            if match is None:
                raise ValueError(f"{word!r} is neither a byte, a parameter nor a label")
            name, size, label = match.groups()
            if label:
                labels[label] = len(code)
            elif name is None:
                code.append(int(word, 16))
            elif size in "ra":
                jumps.append((len(code), name, size))
                code += bytes(1 if size == "r" else 2)
            else:
                code += parameters[name].to_bytes(int(size), "little")
    for at, name, size in jumps:
        if size == "a":
            code[at : at + 2] = (ORIGIN + labels[name]).to_bytes(2, "little")
        else:
            code[at : at + 1] = (labels[name] - at - 1).to_bytes(1, "little", signed=True)
    return bytes(code)


def boot_sector(
    memory: int, working_set: int = 0, rate_Bps: float = 0.0, *, fills: bool = True
) -> bytes:
    """512 bytes that boot.

    memory: of the machine, bytes, filled but for `START` and `TAIL`, unless somebody else `fills`
    it. working_set: the bytes whose pages are written in turn, one word each, 0: none. rate_Bps: of
    pages visited; 0: flat out. Raises `ValueError` where that does not fit.
    """
    end = memory - TAIL
    if not START + working_set <= end < 2**32 or working_set % PAGE:
        raise ValueError(f"no {working_set} bytes of pages between {START} and {end}")
    program = _IDLE if not working_set else _PACED if rate_Bps else _FLAT_OUT
    parameters = {
        "start": START,
        "end": end,
        "until": START + working_set,
        "multiplier": 6364136223846793005,  # Knuth's, for 64 bits
        "ready": ord(READY),
        "pages": BATCH_PAGES,
        "ticks": round(PM_TIMER_HZ * BATCH_PAGES * PAGE * 2**SHIFT / rate_Bps) if rate_Bps else 0,
        "shift": SHIFT,
    }
    if parameters["ticks"] >= 2**23:
        raise ValueError(f"a rate of {rate_Bps:g} bytes/s is too low for the timer's 24 bits")
    code = assemble(_BOOT + _FILL * fills + _SAY_READY + program + _TABLES, parameters)
    if len(code) > SECTOR - 2:
        raise ValueError(f"{len(code)} bytes are too many for a boot sector")
    return code.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def firmware(sector: bytes) -> bytes:
    """A ROM of 64 KiB that switches the power-management timer on and starts this boot sector."""
    start = assemble(_FIRMWARE, {})
    reset = bytes.fromhex("ea 00 02 00 f0")  # jmp 0xf000:0x200, behind the sector
    return (sector + start).ljust(ROM - 16, b"\0") + reset.ljust(16, b"\0")
