"""What can go wrong with a store: one line each, saying what is wrong, where, and what to do about it."""

from typing import Final

_NUMBER_BYTES: Final = 8


class StorageError(Exception):
    """The store cannot do what was asked of it. A running node stops: what is on disk is no longer certain."""


class DiskFull(StorageError):
    """No room for a batch: the disk, a quota, or the store's own limit."""


class DamagedStore(StorageError):
    """The file is not what was written to it: cut off, overwritten, or with pages that make no sense."""


class DamagedRows(DamagedStore):
    """Rows are not what was written, or do not fit together. A running node stops; its next start rebuilds them.

    See `node.rebuild`: the state is folded again from all entries that are whole.
    """


class DamagedRow(DamagedRows):
    """One row is not what was written under its key; `stored` are its bytes as they are now."""

    def __init__(self, table: str, key: bytes, stored: bytes, why: str) -> None:
        super().__init__(f"the row {shown(key)} of the table {table} is not what was written: {why}")
        self.stored = stored


class DamagedEntry(DamagedRows):
    """A commit of the journal cannot be read: the entries in it are fetched again from the peers, if any has them.

    What needs one of them has to wait; everything else goes on.
    """


class DirectoryInUse(StorageError):
    """Another process works in the directory."""


class ForeignDirectory(StorageError):
    """The directory holds something else: other files, another cluster, another region, another format."""


class DirectoryUnreadable(StorageError):
    """The operating system does not let this process make or use the directory."""


def shown(key: bytes) -> str:
    """A key for people: a number, or text as it is, the zero byte that ends a part as ·, any other byte in hex."""
    if len(key) == _NUMBER_BYTES and not key[0]:
        return str(int.from_bytes(key, "big"))
    return "".join("·" if byte == 0 else chr(byte) if 32 < byte < 127 else f"\\x{byte:02x}" for byte in key)
