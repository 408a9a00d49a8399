"""An LMDB file looked at from outside: is it whole, whose is it, and what do LMDB's errors mean to an operator?"""

import errno
import os
from collections.abc import Mapping
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

import lmdb

from node.store.directory import DATA_FILE, NO_ROOM, UNFINISHED_FILE, sync_directory
from node.store.errors import DamagedRow, DamagedStore, DirectoryUnreadable, DiskFull, ForeignDirectory, StorageError
from node.store.kv import Table, checked, verified
from node.store.pages import Misshapen, check_pages

_OURS: Final = frozenset(table.encode() for table in Table)
ENGINE: Final = 0  # LMDB 0.9's file format, whatever LMDB_DEFAULT_LIB_VERSION says
FORMAT: Final = b"2"  # of what is in the tables; 1 had no checksums
_FORMAT_KEY: Final = b"store/format"
_CLUSTER_KEY: Final = b"store/cluster"
_REGION_KEY: Final = b"store/region"

_NOT_ALLOWED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_DAMAGED: Final = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PageNotFoundError,
    lmdb.BadTxnError,  # what a fresh read transaction says when the tree's root makes no sense
)


def identity(cluster: str, region: str) -> dict[bytes, bytes]:
    """The rows of META that say whose store this is; the format in plain text, for programs that know another one."""
    names = {_CLUSTER_KEY: cluster, _REGION_KEY: region}
    return {_FORMAT_KEY: FORMAT} | {key: checked(Table.META, key, name.encode()) for key, name in names.items()}


def create(path: Path, ours: Mapping[bytes, bytes]) -> None:
    """Make an empty store in a directory. Raises lmdb.Error and OSError.

    A data file is whole from the moment at which it has its name, whenever the power goes: it is made under another
    name, of which nothing is left but rubbish if it was not finished, and renamed when all of it is on the disk.
    """
    unfinished = path / UNFINISHED_FILE
    unfinished.unlink(missing_ok=True)
    with lmdb.open(
        str(unfinished), subdir=False, lock=False, max_dbs=len(Table), mode=0o600, lib_version=ENGINE
    ) as env:
        open_tables(env, ours)
    unfinished.rename(path / DATA_FILE)
    sync_directory(path)


def open_tables(env: lmdb.Environment, ours: Mapping[bytes, bytes]) -> "dict[Table, lmdb._Database]":
    """All tables, made if need be, and a commit that says whose they are.

    The commit is made even if nothing is new: a process may have ended between writing a commit and hearing that it is
    durable, so what can be read here might not be. Once a later commit is durable, all that was there before it is.
    """
    with env.begin(write=True) as txn:
        tables = {table: env.open_db(table.encode(), txn=txn) for table in Table}
        for key, value in ours.items():
            txn.put(key, value, db=tables[Table.META])
    return tables


def inspect(data: Path, ours: Mapping[bytes, bytes], *, at_rest: bool = True) -> None:
    """Look into a data file without changing it. Raises DamagedStore or ForeignDirectory if it is not ours, whole.

    All pages are looked at if nobody writes to it meanwhile: before LMDB sees them, which trusts them.
    """
    if data.stat().st_size == 0:
        raise damaged(data, "it is empty")  # which it never was since it has its name
    tables = _tables_in(data) if at_rest else _OURS
    theirs: dict[bytes, bytes | None] = {}
    try:
        with (
            lmdb.open(
                str(data), subdir=False, readonly=True, lock=False, create=False, max_dbs=1, lib_version=ENGINE
            ) as env,
            env.begin() as txn,
        ):
            meta = env.open_db(Table.META.encode(), txn=txn, create=False)
            theirs = {key: txn.get(key, db=meta) for key in ours}
    except (lmdb.NotFoundError, lmdb.IncompatibleError):
        pass  # no table of that name: theirs stays empty
    except lmdb.Error as error:
        raise explained(error, data) from error
    strange = tables - _OURS
    if strange and len(strange) < len(tables) and (theirs or Table.META.encode() not in tables):
        raise damaged(data, f"it has a table {min(strange).decode(errors='replace')!r}")
    _refuse_foreign(data, theirs, ours)


def _tables_in(data: Path) -> frozenset[bytes]:
    try:
        return check_pages(data)
    except Misshapen as error:
        if error.tables.isdisjoint(_OURS) and error.tables:
            raise _not_ours(data) from error
        raise damaged(data, str(error)) from error
    except OSError as error:
        raise explained(error, data) from error


def _refuse_foreign(data: Path, theirs: Mapping[bytes, bytes | None], ours: Mapping[bytes, bytes]) -> None:
    path = data.parent
    for what, key in (("format", _FORMAT_KEY), ("cluster", _CLUSTER_KEY), ("region", _REGION_KEY)):
        found = theirs.get(key)
        if found is None:
            raise _not_ours(data)
        if found == ours[key]:
            continue
        if key == _FORMAT_KEY:
            raise ForeignDirectory(
                f"{path}: holds a store of format {found.decode(errors='replace')!r}, this program has format"
                f" {FORMAT.decode()!r}; start with an empty directory: what the peers hold comes back from them,"
                " and what no peer holds the program that wrote the store can export"
            )
        try:
            names = [verified(Table.META, key, each).decode() for each in (found, ours[key])]
        except DamagedRow:
            raise damaged(data, f"it does not say which {what} it is of") from None
        raise ForeignDirectory(
            f"{path}: holds a store of {what} {names[0]!r}, not of {names[1]!r};"
            f" name the directory that belongs to this {what}"
        )


def _not_ours(data: Path) -> ForeignDirectory:
    return ForeignDirectory(f"{data.parent}: holds another program's LMDB file; name an empty or a new directory")


def explained(error: lmdb.Error | OSError, data: Path) -> StorageError:
    """The same, as an error of the store: one line that says what to do."""
    path = data.parent
    number = error.errno if isinstance(error, OSError) else error.code
    if number in NO_ROOM or (number == errno.EIO and _is_out_of_room(data)):
        return DiskFull(f"{path}: {error}; make room on that disk and restart the node")
    if number in _NOT_ALLOWED:
        return DirectoryUnreadable(f"{path}: {error}; give this user read and write permission there")
    if isinstance(error, _DAMAGED):
        return damaged(data, str(error))
    return StorageError(f"{path}: {error}; see what the disk and the kernel's log say, then restart the node")


def _is_out_of_room(data: Path) -> bool:
    """LMDB calls a write that was cut short an input/output error: write one more page to hear the true reason."""
    try:
        with data.open("r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes(PAGESIZE))  # behind the last page that counts: whatever comes there is written over
    except OSError as error:
        return error.errno in NO_ROOM
    return False


def damaged(data: Path, finding: str) -> DamagedStore:
    """What was found in a data file, and what to do about it."""
    return DamagedStore(
        f"{data.parent}: the data file is damaged ({finding}); restore a backup, or move the directory away"
        " and let the node fetch its state from its peers"
    )
