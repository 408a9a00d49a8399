"""What can still be read of a damaged commit: its entries, each of which says by its hash whether it is whole.

Nothing else in the row is believed. An entry is looked for wherever two bytes stand with which entries begin. How long
it is the bytes before it say, as the journal writes them; if those are damaged, its own structure does.
"""

from collections.abc import Iterator
from typing import Final

import msgpack

from replication.entry import ENTRY_BEGINS, HASH_BYTES, MAX_SEALED_BYTES, Entry, Malformed, open_sealed

_HEADERS: Final = ((0xC4, 1), (0xC5, 2), (0xC6, 4))
"""How msgpack begins bytes: the first byte, and how many more say their length."""


def whole_entries(stored: bytes) -> Iterator[tuple[Entry, bytes]]:
    """The whole entries, in the order in which they stand there, with their bytes."""
    at = stored.find(ENTRY_BEGINS)
    while at >= 0:
        found = _entry_at(stored, at)
        if found is not None:
            yield found
        at = stored.find(ENTRY_BEGINS, at + (1 if found is None else len(found[1])))


def _entry_at(stored: bytes, at: int) -> tuple[Entry, bytes] | None:
    for length in _lengths(stored, at):
        sealed = stored[at : at + length]
        try:
            return open_sealed(sealed)[0], sealed
        except Malformed:
            continue
    return None


def _lengths(stored: bytes, at: int) -> Iterator[int]:
    for first, size in _HEADERS:
        if at > size and stored[at - size - 1] == first:
            yield int.from_bytes(stored[at - size : at], "big")
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_SEALED_BYTES)
    unpacker.feed(stored[at : at + MAX_SEALED_BYTES])
    try:
        unpacker.skip()
    except (msgpack.UnpackException, ValueError):
        return
    yield unpacker.tell() + HASH_BYTES
