"""Broken msgpack made from whole msgpack: values are changed where they stand, and everything round them stays.

Flipping bytes hardly ever gets past the first check of a strict decoder. So what is valid is read into a tree, a node
of the tree becomes something that it should not be, and the tree is written again; also in forms that no encoder
writes: maps with a key twice, numbers longer than they need be, text that is no UTF-8, extension types, lengths that
lie.
"""

import struct
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgpack

NUMBERS: Final = tuple(
    sorted(
        {
            sign * (2**bits + off)
            for bits in (0, 5, 7, 8, 15, 16, 31, 32, 47, 48, 53, 60, 62, 63)
            for off in (-1, 0, 1)
            for sign in (1, -1)
            if -(2**63) <= sign * (2**bits + off) < 2**64
        }
        | {2**64 - 1, 1_800_000_000_000, 1_800_000_000_000 << 16}
    )
)
TEXTS: Final = (
    "", "a", "acme", "eu/b1", "us/b1", "us-east", "lot/l1", "held/c1", "issued", "debt", "used", "hello", "have",
    "grant", "compensation", "applied", "open", "x" * 40, "x" * 300, "é" * 20, "a\n", "a/b", "\0", "/", "lot/", "2e400",
)  # fmt: skip


class Pairs(list[tuple[Any, Any]]):
    """A map as it is written: keys may stand in it twice."""


class Verbatim(bytes):
    """Bytes that are written as they are."""


def read(data: bytes) -> Any:
    """The tree in `data`. Raises whatever msgpack raises for what is none."""
    return msgpack.unpackb(
        data, object_pairs_hook=Pairs, strict_map_key=False, raw=False, unicode_errors="surrogateescape"
    )


def write(tree: Any) -> bytes:
    """A tree as msgpack, or as nearly msgpack as its `Verbatim` parts let it be."""
    out = bytearray()
    _write(tree, out)
    return bytes(out)


def _write(tree: Any, out: bytearray) -> None:
    match tree:
        case Verbatim():
            out += tree
        case Pairs():
            out += _packer.pack_map_header(len(tree))
            for key, value in tree:
                _write(key, out)
                _write(value, out)
        case list() | tuple():
            out += _packer.pack_array_header(len(tree))
            for value in tree:
                _write(value, out)
        case _:
            out += _packer.pack(tree)


_packer = msgpack.Packer(unicode_errors="surrogateescape")


def mutate(data: bytes, rng: Random, times: int = 1) -> bytes:
    """`data` with something wrong in `times` places; what is no msgpack, or too deep, has bytes changed."""
    try:
        tree = read(data)
        for _ in range(times):
            tree = _changed(tree, rng)
        mutated = write(tree)
    except (ValueError, OverflowError, msgpack.UnpackException, RecursionError):
        return flip(data, rng)
    return flip(mutated, rng) if rng.random() < 0.05 else mutated


def flip(data: bytes, rng: Random) -> bytes:
    """`data` with a byte changed, gone or new, or with its end cut off."""
    changed = bytearray(data)
    at = rng.randrange(len(changed) + 1)
    match rng.randrange(4):
        case 0 if at < len(changed):
            changed[at] = rng.randrange(256)
        case 1 if at < len(changed):
            del changed[at : at + rng.randint(1, 4)]
        case 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 4))
        case _:
            del changed[at:]
    return bytes(changed)


def _changed(tree: Any, rng: Random) -> Any:
    """The tree with one node, drawn at random, replaced by what `_instead_of` makes of it."""
    target = rng.randrange(_count(tree))
    found = _replaced(tree, target, lambda node: _instead_of(node, tree, rng))
    return found[0]


def _count(tree: Any) -> int:
    if isinstance(tree, Pairs):
        return 1 + sum(_count(key) + _count(value) for key, value in tree)
    return 1 + sum(map(_count, tree)) if isinstance(tree, list) else 1


def _replaced(tree: Any, target: int, change: Callable[[Any], Any]) -> tuple[Any, int]:
    """The tree with its node number `target` changed, and how many nodes were passed."""
    if target == 0:
        return change(tree), _count(tree)
    passed = 1
    if isinstance(tree, Pairs):
        pairs = Pairs()
        for key, value in tree:
            key, count = _replaced(key, target - passed, change) if passed <= target else (key, _count(key))
            passed += count
            value, count = _replaced(value, target - passed, change) if passed <= target else (value, _count(value))
            passed += count
            pairs.append((key, value))
        return pairs, passed
    if isinstance(tree, list):
        items = []
        for item in tree:
            item, count = _replaced(item, target - passed, change) if passed <= target else (item, _count(item))
            passed += count
            items.append(item)
        return items, passed
    return tree, 1


def _instead_of(node: Any, tree: Any, rng: Random) -> Any:
    if rng.random() < 0.5:
        match node:
            case bool() | None:
                return rng.choice((True, False, None, 0, 1))
            case int():
                return rng.choice((node + 1, node - 1, -node, node * 2 % 2**63, rng.choice(NUMBERS), _wide(node)))
            case str():
                return _other_text(node, rng)
            case bytes():
                return flip(node, rng)
            case Pairs() | list() if node:
                return _rearranged(node, rng)
    return _anything(tree, rng)


def _other_text(text: str, rng: Random) -> Any:
    at = rng.randrange(len(text) + 1)
    return rng.choice(
        (
            text[:at] + rng.choice("\0\n /é\udcff~A") + text[at:],
            text[:at],
            text * rng.choice((2, 50)),
            rng.choice(TEXTS),
            text.encode("utf-8", "surrogateescape"),
        )
    )


def _rearranged(items: Any, rng: Random) -> Any:
    """A list or map with an item twice, gone, elsewhere, or very often."""
    changed = type(items)(items)
    at = rng.randrange(len(items))
    match rng.randrange(5):
        case 0:
            changed.insert(rng.randrange(len(items) + 1), items[at])
        case 1:
            del changed[at]
        case 2:
            rng.shuffle(changed)
        case 3:
            changed.extend([items[at]] * rng.choice((3, 20, 300)))
        case _:
            changed.clear()
    return changed


def _anything(tree: Any, rng: Random) -> Any:
    makers: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice((None, True, False, 0.0, 1.5, float("nan"), float("inf"))),
        lambda: rng.randbytes(rng.choice((0, 1, 31, 32, 33, 400))),
        lambda: rng.choice(([], Pairs(), [[]], Pairs([("", 0)]), Pairs([(0, 0)]), Pairs([([], 0)]))),
        lambda: msgpack.ExtType(rng.randrange(128), rng.randbytes(rng.choice((0, 1, 4, 17)))),
        lambda: Verbatim(rng.choice(_LIES)),
        lambda: _nested(rng),
        lambda: _subtree(tree, rng),
    )
    return rng.choice(makers)()


_LIES: Final = (
    b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\xd9\x02\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa2\xc0\xaf",
    b"\xcc\x01", b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", b"\xd0\x01", b"\xde\x00\x00", b"\xd6\xff\x00\x00\x00\x00",
)  # fmt: skip
"""Lengths that lie, text that is no UTF-8, numbers and lengths longer than need be, a time stamp, nothing at all."""


def _wide(number: int) -> Any:
    return Verbatim(b"\xd3" + struct.pack(">q", number)) if -(2**63) <= number < 2**63 else number


def _nested(rng: Random) -> Any:
    depth = rng.choice((3, 40, 500))
    return Verbatim((b"\x91" if rng.random() < 0.5 else b"\x81\xa1k") * depth + b"\x00")


def _subtree(tree: Any, rng: Random) -> Any:
    found: list[Any] = []
    _replaced(tree, rng.randrange(_count(tree)), lambda node: found.append(node) or node)  # type: ignore[func-returns-value]
    return found[0]
