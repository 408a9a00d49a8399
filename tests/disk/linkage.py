"""Where, in this process, does a loaded module keep the addresses of the functions that it imports?

The dynamic linker fills them in when the module is loaded: one slot for each imported function that is called (the
procedure linkage table's), and one for each whose address is taken. Whoever changes what is in a slot gets the
module's calls. Source: System V ABI, chapter 5 ("Dynamic Section", "Relocation", "Global Offset Table"), and its
supplements for x86-64 and AArch64.
"""

import ctypes
import struct
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

_IMPORTED_ADDRESS: Final = {62: (1, 6, 7), 183: (257, 1025, 1026)}
"""By machine (x86-64, AArch64): the relocations that put an imported function's address somewhere."""
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 5, 6, 7, 8, 23
_RELOCATION_BYTES, _SYMBOL_BYTES = 24, 24
_READ_WRITE = 3
_libc = ctypes.CDLL(None, use_errno=True)


def slots_of(module: Path) -> dict[str, list[int]]:
    """By name of the imported function: the addresses, in this process, of its slots."""
    image = module.read_bytes()
    assert image[:6] == b"\x7fELF\x02\x01", f"{module}: not a 64-bit little-endian ELF file"
    (machine,) = struct.unpack_from("<H", image, 18)
    assert machine in _IMPORTED_ADDRESS, f"{module}: for a machine (ELF {machine}) whose tables are not known here"
    base = _base_of(module)
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    headers = [struct.unpack_from("<IIQQQQ", image, table + n * size) for n in range(count)]

    def at(address: int) -> int:
        """Where in the file the byte lies that is loaded at an address."""
        for kind, _, offset, start, _, length in headers:
            if kind == _PT_LOAD and start <= address < start + length:
                return int(address - start + offset)
        raise AssertionError(f"{module}: nothing is loaded at {address:#x}")

    (dynamic,) = (header for header in headers if header[0] == _PT_DYNAMIC)
    tags = dict(struct.unpack_from("<qQ", image, dynamic[2] + n) for n in range(0, dynamic[5], 16))
    slots: dict[str, list[int]] = {}
    for start, length in ((_DT_JMPREL, _DT_PLTRELSZ), (_DT_RELA, _DT_RELASZ)):
        for n in range(0, tags.get(length, 0), _RELOCATION_BYTES):
            offset, sort, _ = struct.unpack_from("<QQq", image, at(tags[start]) + n)
            name, _, _, section = struct.unpack_from(
                "<IBBH", image, at(tags[_DT_SYMTAB]) + _SYMBOL_BYTES * (sort >> 32)
            )
            if sort & 0xFFFFFFFF in _IMPORTED_ADDRESS[machine] and section == 0:
                begin = at(tags[_DT_STRTAB]) + name
                slots.setdefault(image[begin : image.index(b"\0", begin)].decode(), []).append(base + offset)
    return slots


def _base_of(module: Path) -> int:
    real = str(module.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == real and int(fields[2], 16) == 0:
            return int(fields[0].partition("-")[0], 16)
    raise AssertionError(f"{module} is not loaded")


def swap(slot: int, address: int) -> int:
    """Put an address into a slot, which the linker may have made read-only; returns what was there."""
    page = slot // PAGESIZE * PAGESIZE
    if _libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGESIZE), _READ_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    there = ctypes.c_size_t.from_address(slot)
    before, there.value = there.value, address
    return before
