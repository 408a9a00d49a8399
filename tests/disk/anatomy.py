"""What is each byte of an LMDB file? So that bits can be flipped in every kind of place, also in rare ones.

Written against the layout in lmdb.h and mdb.c (0.9, 64 bits), for a file that is whole; see also `node.store.pages`.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

_PAGE: Final = 4096
_HEADER: Final = 16
_HEAD_BYTES: Final = 152  # of a head page: the header, and what LMDB keeps there
_NO_PAGE: Final = (1 << 64) - 1
_BRANCH, _LEAF = 1, 2

Span: TypeAlias = tuple[int, int]  # where it begins, how long it is
Anatomy: TypeAlias = dict[str, list[Span]]


def anatomy(data: Path) -> Anatomy:
    """All bytes of the file, by what they are."""
    return _Anatomy(data.read_bytes()).spans


class _Anatomy:
    def __init__(self, image: bytes) -> None:
        self._image = image
        self.spans: Anatomy = defaultdict(list)
        heads = [struct.unpack_from("<Q", image, slot * _PAGE + 144)[0] for slot in (0, 1)]
        current = heads.index(max(heads))
        for slot in (0, 1):
            self._add("current head" if slot == current else "older head", slot * _PAGE, _HEAD_BYTES)
            self._add("unused space", slot * _PAGE + _HEAD_BYTES, _PAGE - _HEAD_BYTES)
        self._reached = {0, 1}
        at = current * _PAGE + 40
        free_root, main_root = (struct.unpack_from("<Q", image, at + n * 48 + 40)[0] for n in (0, 1))
        tables: dict[bytes, int] = {}

        def take(name: bytes, record: bytes) -> None:
            tables[name] = struct.unpack_from("<Q", record, 40)[0]

        self._walk("free list", free_root)
        self._walk("list of tables", main_root, take)
        for name, root in tables.items():
            self._walk("log" if name == b"log" else "derived", root)
        for page in range(len(image) // _PAGE):
            if page not in self._reached:
                self._add("free page", page * _PAGE, _PAGE)

    def _add(self, kind: str, start: int, length: int) -> None:
        if length:
            self.spans[kind].append((start, length))

    def _walk(self, what: str, page: int, take: Callable[[bytes, bytes], None] = lambda _, __: None) -> None:
        if page == _NO_PAGE:
            return
        self._reached.add(page)
        at = page * _PAGE
        sort, lower, upper = struct.unpack_from("<HHH", self._image, at + 10)
        kind = "branch" if sort == _BRANCH else what
        self._add(f"{kind}: page header", at, _HEADER)
        self._add(f"{kind}: offsets", at + _HEADER, lower - _HEADER)
        self._add("unused space", at + lower, upper - lower)
        for (offset,) in struct.iter_unpack("<H", self._image[at + _HEADER : at + lower]):
            self._row(kind, what, at + offset, sort, take)

    def _row(self, kind: str, what: str, node: int, sort: int, take: Callable[[bytes, bytes], None]) -> None:
        low, high, flags, key_bytes = struct.unpack_from("<HHHH", self._image, node)
        self._add(f"{kind}: row headers", node, 8)
        start = node + 8 + key_bytes
        self._add(f"{kind}: keys", node + 8, key_bytes)
        length = low | high << 16
        in_page = 0 if sort == _BRANCH else 8 if flags & 1 else length
        self._add("unused space", start + in_page, (key_bytes + in_page) % 2)  # rows begin at even places
        if sort == _BRANCH:
            self._walk(what, length | flags << 32, take)
            return
        if flags & 1:
            self._add(f"{kind}: numbers of long values", start, 8)
            (page,) = struct.unpack_from("<Q", self._image, start)
            pages = struct.unpack_from("<I", self._image, page * _PAGE + 12)[0]
            self._reached.update(range(page, page + pages))
            start = page * _PAGE + _HEADER
            self._add(f"{kind}: page header", page * _PAGE, _HEADER)
            self._add("unused space", start + length, pages * _PAGE - _HEADER - length)
        self._add(f"{kind}: values", start, length)
        take(self._image[node + 8 : node + 8 + key_bytes], self._image[start : start + length])


def offsets_in(spans: list[Span]) -> Iterator[int]:
    """Every byte of some spans."""
    for start, length in spans:
        yield from range(start, start + length)
