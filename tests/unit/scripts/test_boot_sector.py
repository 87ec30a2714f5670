"""The guest that QEMU runs: its bytes. That it runs is seen by `scripts/bench qemu`."""

import pytest

from scripts.bench_qemu_boot import ORIGIN, ROM, START, TAIL, assemble, boot_sector, firmware

MIB = 2**20
MEMORY = 512 * MIB


@pytest.mark.parametrize(
    ("working_set", "rate"), [(0, 0.0), (256 * MIB, 0.0), (24 * MIB, 40e6)], ids=str
)
@pytest.mark.parametrize("fills", [True, False])
def test_it_is_a_boot_sector(working_set: int, rate: float, fills: bool) -> None:
    sector = boot_sector(MEMORY, working_set, rate, fills=fills)
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert (START.to_bytes(4, "little") in sector) is (fills or working_set > 0)
    assert ((MEMORY - TAIL).to_bytes(4, "little") in sector) is fills
    if working_set:
        assert (START + working_set).to_bytes(4, "little") in sector


def test_its_tables_are_where_it_looks_for_them() -> None:
    sector = boot_sector(MEMORY)
    at = sector.index(b"\x0f\x01\x16") + 3  # lgdt
    gdtr = int.from_bytes(sector[at : at + 2], "little") - ORIGIN
    limit = int.from_bytes(sector[gdtr : gdtr + 2], "little")
    gdt = int.from_bytes(sector[gdtr + 2 : gdtr + 6], "little") - ORIGIN
    assert limit == 3 * 8 - 1
    assert sector[gdt : gdt + 8] == bytes(8)
    assert sector[gdt + 13 : gdt + 15] == b"\x9a\x20"  # code, of 64 bits


def test_the_far_jump_goes_to_what_follows_it() -> None:
    sector = boot_sector(MEMORY)
    at = sector.index(b"\x0f\x22\xc0\xea") + 4  # mov cr0, eax; jmp
    assert int.from_bytes(sector[at : at + 2], "little") == ORIGIN + at + 4


@pytest.mark.parametrize(
    ("memory", "working_set", "rate"),
    [
        (START, 0, 0.0),
        (64 * MIB, 64 * MIB, 0.0),
        (64 * MIB, 4097, 0.0),
        (2**33, 0, 0.0),
        (64 * MIB, MIB, 1000.0),
    ],
)
def test_what_does_not_fit_is_refused(memory: int, working_set: int, rate: float) -> None:
    with pytest.raises(ValueError, match=r"between|too low"):
        boot_sector(memory, working_set, rate)


def test_the_assembler_knows_bytes_parameters_and_labels() -> None:
    listing = """
        90 eb <END:r>       ; forward
    BACK:
        <n:4>  eb <BACK:r>
    END:
        ea <BACK:a>
    """
    expected = "90 eb 06 78 56 34 12 eb fa ea 03 7c"
    assert assemble(listing, {"n": 0x12345678}) == bytes.fromhex(expected)


def test_the_assembler_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="'mov' is neither"):
        assemble("mov ax, 1", {})
    with pytest.raises(OverflowError):
        assemble("A: " + "90 " * 200 + "eb <A:r>", {})


def test_the_firmware_starts_it() -> None:
    sector = boot_sector(MEMORY)
    rom = firmware(sector)
    assert len(rom) == ROM
    assert rom[:512] == sector
    assert rom[0xFFF0:0xFFF5] == b"\xea\x00\x02\x00\xf0"  # where a processor begins
    assert rom[0x200:].rstrip(b"\0").startswith(bytes.fromhex("66 ba f8 0c 00 00"))
