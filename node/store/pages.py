"""Do the pages of a data file hang together?

LMDB keeps no checksums: it follows page numbers, offsets and lengths wherever they lead, out of the file too, and a
flipped bit in one of them makes rows vanish, or old ones come back, or ends the process. So before LMDB sees a file
everything in it that is not a row's own bytes is looked at, once, in the order in which LMDB would follow it:

- Of the two heads, each is what LMDB writes into its slot, and they are one commit apart. (The older one may have the
  trees of a commit that the disk refused. A flipped bit in the number of a head cannot always be told from that.)
- Every page that can be reached is reached once, has its own number, and lies in the file.
- In a page, each row has a place of its own, its length included, and nothing is left over.
- The first and the last key of each page lie between the keys that lead to it.
- The numbers of pages and rows that each tree claims are those that were found.
- What cannot be reached is free, what is free cannot be reached, and together they are all pages.

What is left are the rows' own bytes, keys included; those have checksums (`node.store.kv`).

Layout of LMDB 0.9 on machines with 64 bits, least byte first: lmdb.h and mdb.c of OpenLDAP.
"""

import mmap
import struct
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

_SIZES: Final = frozenset({4096, 8192, 16384, 32768})  # of pages: the machine's, up to what LMDB can do
_NO_PAGE: Final = (1 << 64) - 1
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _HEAD = 1, 2, 4, 8
_BIG, _TREE = 1, 2
_INTEGER_KEYS: Final = 8
_MADE_AS_A_FILE: Final = 0x4000  # how the environment was opened that made the file: no matter
_APART: Final = frozenset({1, 3})  # 3: a disk refused a head, and the next commit went to the other
_MOST_MAP_BYTES: Final = 1 << 47
_HEADER: Final = struct.Struct("<QHHHH")  # number, unused, sort, end of the offsets, begin of the rows
_EXTENT: Final = struct.Struct("<QHHI")  # the same of a long value: number, unused, sort, pages
_NODE: Final = struct.Struct("<HHHH")  # two halves of the value's length, flags, the key's length; or a child's number
_POINTER: Final = struct.Struct("<Q")
_PAGE_BYTES: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<IHHQQQQQ")
_FIRST: Final = struct.Struct("<IIQQ")  # magic, version, address, map size
_LAST: Final = struct.Struct("<QQ")  # last page, commit
_MOST_NEVER_WRITTEN: Final = 1 << 20  # pages that were taken and given back before they were ever written
_READ_AT_ONCE: Final = 1 << 20


class Misshapen(Exception):
    """The pages do not hang together: what was found, in one sentence, and of which tables if that is known."""

    def __init__(self, finding: str, tables: frozenset[bytes] = frozenset()) -> None:
        super().__init__(finding)
        self.tables = tables


class Tree(NamedTuple):
    """What LMDB says of one tree."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflow: int
    entries: int
    root: int


class Head(NamedTuple):
    """One of the two pages that say what the current commit is."""

    commit: int
    last_page: int
    free: Tree
    main: Tree


class _Bounded(NamedTuple):
    """A page to be visited: its level in the tree, and the keys that all of its keys lie between."""

    page: int
    level: int
    low: bytes
    high: bytes | None


Take: TypeAlias = Callable[[bytes, bytes, int], None]  # key, value, flags


def check_pages(data: Path) -> frozenset[bytes]:
    """Look at everything; returns the names of the tables. Raises Misshapen, and OSError if the file cannot be read."""
    with data.open("rb", buffering=0) as file:
        into = bytearray(_READ_AT_ONCE)
        while file.readinto(into):  # in one go, rather than page by page in the order of the tree
            pass
        with (
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as every,
            every[: len(every) // 2 * 2].cast("H") as words,
        ):
            try:
                return _Pages(mapped, words).check()
            except (struct.error, IndexError):
                raise Misshapen("it is cut off, or a length or an offset leads out of a page") from None


class _Pages:
    """Relation kept: ``_seen`` has a 1 for every page that has been reached so far."""

    def __init__(self, mapped: mmap.mmap, words: memoryview) -> None:
        self._mapped = mapped
        self._words = words
        self._page_bytes: int = _PAGE_BYTES.unpack_from(mapped, _HEADER.size + _FIRST.size)[0]
        if self._page_bytes not in _SIZES:
            raise Misshapen("it does not begin as LMDB's files do")
        self._in_file = len(mapped) // self._page_bytes
        older, self._current = sorted(self._head(slot) for slot in (0, 1))
        apart = self._current.commit - older.commit
        if (apart not in _APART and self._current.commit) or older.last_page > self._current.last_page:
            raise Misshapen(f"its heads are not of two commits, of which {self._current.commit} is the later one")
        if self._current.last_page > 2 * self._in_file + _MOST_NEVER_WRITTEN:
            raise Misshapen(f"it is cut off: it had {self._current.last_page + 1} pages, and has {self._in_file}")
        self._seen = bytearray(self._current.last_page + 1)
        self._seen[:2] = b"\1\1"

    def check(self) -> frozenset[bytes]:
        """All of it; returns the names of the tables."""
        freed: dict[int, list[int]] = {}
        tables: dict[bytes, Tree] = {}

        def take_table(name: bytes, record: bytes, flags: int) -> None:
            if flags == _TREE:
                tables[name] = Tree(*_RECORD.unpack(record))

        def take_freed(commit: bytes, pages: bytes, _flags: int) -> None:
            count, *numbers = memoryview(pages).cast("Q") if len(pages) % 8 == 0 else (0, 0)
            if count != len(numbers) or len(commit) != 8:
                raise Misshapen("a list of free pages is longer or shorter than it says")
            freed[int.from_bytes(commit, "little")] = numbers

        self._walk("the list of free pages", self._current.free, take_freed)
        self._walk("the list of tables", self._current.main, take_table, _TREE)
        for name, tree in tables.items():
            what = f"table {name.decode(errors='replace')}"
            if tree.flags or tree.pad:
                raise Misshapen(f"{what} is of another sort than a store's tables", frozenset(tables))
            self._walk(what, tree)
        self._check_free(freed)
        return frozenset(tables)

    def _head(self, slot: int) -> Head:
        at = slot * self._page_bytes
        number, _, sort, _, _ = _HEADER.unpack_from(self._mapped, at)
        at += _HEADER.size
        magic, version, _, map_bytes = _FIRST.unpack_from(self._mapped, at)
        at += _FIRST.size
        free, main = (Tree(*_RECORD.unpack_from(self._mapped, at + n * _RECORD.size)) for n in (0, 1))
        last_page, commit = _LAST.unpack_from(self._mapped, at + 2 * _RECORD.size)
        if (magic, version, number, sort) != (_MAGIC, _VERSION, slot, _HEAD):
            raise Misshapen(f"head {slot} is none of LMDB's")
        if (
            (commit and commit % 2 != slot)
            or map_bytes % self._page_bytes
            or map_bytes > _MOST_MAP_BYTES
            or (free.pad, free.flags & ~_MADE_AS_A_FILE) != (self._page_bytes, _INTEGER_KEYS)
            or (main.pad, main.flags) != (0, 0)
        ):
            raise Misshapen(f"head {slot} says what LMDB never does")
        return Head(commit, last_page, free, main)

    def _reach(self, page: int, what: str) -> int:
        """A page has been reached; returns where it lies."""
        if not 2 <= page < len(self._seen):
            raise Misshapen(f"{what}: page {page} is none of its {len(self._seen)} pages")
        if self._seen[page]:
            raise Misshapen(f"{what}: page {page} is in two places")
        if page >= self._in_file:
            raise Misshapen(f"it is cut off: {what} has page {page}, and the file {self._in_file}")
        self._seen[page] = 1
        return page * self._page_bytes

    # Trees

    def _walk(self, what: str, tree: Tree, take: Take | None = None, sorts: int = _BIG) -> None:
        """Visit a tree; `take` gets every row. `sorts` are the flags that its rows may have."""
        if tree.root == _NO_PAGE:
            if any(tree[2:7]):
                raise Misshapen(f"{what} has no root, and yet {tree.entries} rows")
            return
        found = [0, 0, 0, 0]  # branches, leaves, pages of long values, rows
        pending = [_Bounded(tree.root, 1, b"", None)]
        while pending:
            here = pending.pop()
            name = f"page {here.page} of {what}"
            at = self._reach(here.page, what)
            is_leaf = here.level == tree.depth
            number, _, sort, lower, upper = _HEADER.unpack_from(self._mapped, at)
            if number != here.page or sort != (_LEAF if is_leaf else _BRANCH):
                raise Misshapen(f"{name} is not the page that belongs there")
            offsets = self._words[(at + _HEADER.size) >> 1 : (at + lower) >> 1].tolist()
            if not offsets or lower & 1:
                raise Misshapen(f"{name} has no rows")
            self._check_layout(at, offsets, upper, sorts if is_leaf else None, name)
            nodes = [at + offset for offset in offsets]
            if is_leaf:
                found[1] += 1
                found[3] += len(nodes)
                keys = [self._key(nodes[0], tree), self._key(nodes[-1], tree)]
                if take is not None or tree.overflow:
                    found[2] += sum(self._row(node, what, take) for node in nodes)
            else:
                found[0] += 1
                keys = [self._key(node, tree) for node in nodes[1:]]  # the first child's key is the page's own
                bounds = [here.low, *keys, here.high]
                for node, low, high in zip(nodes, bounds, bounds[1:], strict=False):
                    pending.append(_Bounded(self._child(node), here.level + 1, low or b"", high))
            if keys != sorted(keys) or any(key < here.low or (here.high and key >= here.high) for key in keys):
                raise Misshapen(f"{name} has keys that do not belong there")
        if found != list(tree[3:7]):
            raise Misshapen(
                f"{what} should have {tree.entries} rows on {tree.leaves} pages, and has {found[3]} on {found[1]}"
            )

    def _check_layout(self, at: int, offsets: list[int], upper: int, sorts: int | None, name: str) -> None:
        """Rows, and nothing else, fill a page from `upper` to its end."""
        node, mapped, expected = _NODE.unpack_from, self._mapped, upper
        for offset in sorted(offsets):
            if offset != expected:
                break
            low, high, flags, key_bytes = node(mapped, at + offset)
            size = _NODE.size + key_bytes
            if sorts is not None:
                size += _POINTER.size if flags & _BIG else low | high << 16
                if flags & ~sorts:
                    raise Misshapen(f"{name} has a row of a sort that is not kept there")
            expected += size + (size & 1)
        else:
            if expected == self._page_bytes:
                return
        raise Misshapen(f"the rows of {name} are not laid out as LMDB does it")

    def _key(self, node: int, tree: Tree) -> bytes:
        """A row's key, such that it sorts as LMDB sorts it."""
        start = node + _NODE.size
        key = self._mapped[start : start + self._words[(node >> 1) + 3]]
        return key[::-1] if tree.flags & _INTEGER_KEYS else key

    def _child(self, node: int) -> int:
        low, middle, high, _ = _NODE.unpack_from(self._mapped, node)
        return int(low | middle << 16 | high << 32)

    def _row(self, node: int, what: str, take: Take | None) -> int:
        """Visit a row; returns how many pages its value has to itself."""
        low, high, flags, key_bytes = self._words[node >> 1 : (node >> 1) + 4]
        length, start, pages = low | high << 16, node + _NODE.size + key_bytes, 0
        if flags & _BIG:
            (page,) = _POINTER.unpack_from(self._mapped, start)
            start = self._reach(page, what) + _HEADER.size
            number, _, sort, pages = _EXTENT.unpack_from(self._mapped, start - _HEADER.size)
            if number != page or sort != _OVERFLOW or not 0 < _HEADER.size + length <= pages * self._page_bytes:
                raise Misshapen(f"{what}: page {page} does not hold the value that belongs there")
            for more in range(page + 1, page + pages):
                self._reach(more, what)
        if take is not None:
            name = self._mapped[node + _NODE.size : node + _NODE.size + key_bytes]
            take(name, self._mapped[start : start + length], flags & ~_BIG)
        return pages

    def _check_free(self, freed: Mapping[int, list[int]]) -> None:
        for page in chain.from_iterable(freed.values()):
            if not 2 <= page < len(self._seen) or self._seen[page]:
                raise Misshapen(f"page {page} is free, and in use")
            self._seen[page] = 1
        lost = self._seen.count(0)
        if lost:
            raise Misshapen(f"{lost} pages, the first of them {self._seen.index(0)}, are neither free nor in use")
