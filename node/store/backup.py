"""A copy of a store that may be at work, and a store made from a copy.

A backup is a directory with one file, ``data.mdb``: all that one commit had made durable, and nothing of a later one.
It is a store like any other, without its free pages.

- It is made by a process of its own, from a snapshot that LMDB keeps for it as for any reader: the node writes on, and
  its file grows by what it rewrites meanwhile. LMDB's other way of copying would wait for the node's writer, which
  always has a transaction open.
- A directory that is not empty is never written into, and what has not been written to its end never has the name of a
  store: the file gets it when it is on the disk.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import lmdb

from node.store.directory import DATA_FILE, sync_directory, take
from node.store.errors import DirectoryInUse, DirectoryUnreadable, StorageError
from node.store.lmdb_file import ENGINE, explained, inspect
from node.store.lmdb_reader import unused

_UNFINISHED: Final = DATA_FILE + ".new"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRIES: Final = 3
_COPIED_AT_ONCE: Final = 1 << 20


def back_up(store: Path, target: Path, ours: Mapping[bytes, bytes]) -> int:
    """Copy a store that nobody or a running node works in into an empty or new directory; returns the copy's bytes.

    `ours` says whose store it must be (`lmdb_file.identity`). Raises StorageError.
    """
    data = store / DATA_FILE
    if not data.is_file():
        raise StorageError(f"{store}: holds no store; name the directory of a region that has been started")
    _inspect_live(data, ours)
    with _unfinished(target) as file:
        try:
            with lmdb.open(str(store), readonly=True, create=False, max_dbs=1, lib_version=ENGINE) as env:
                env.reader_check()  # what a backup that was killed still holds
                _copy_snapshot(env, file)
        except lmdb.Error as error:
            place = target if error.code in _NO_ROOM else store
            raise explained(error, place / DATA_FILE) from error
        return os.fstat(file.fileno()).st_size


def restore(backup: Path, target: Path, ours: Mapping[bytes, bytes]) -> int:
    """Make a store from a backup, or from the store of a node that is stopped, where there is none; returns its bytes.

    Raises StorageError: also where a store lies in `target` already, or a process works in either directory.
    """
    data = backup / DATA_FILE
    if not data.is_file():
        raise StorageError(f"{backup}: holds no backup; name a directory that `creditmesh backup` has made")
    with unused(backup):
        inspect(data, ours)
        lock = take(target, _refuse_store)
        try:
            with data.open("rb") as source, _finished(target) as file:
                shutil.copyfileobj(source, file, _COPIED_AT_ONCE)
                return file.tell()
        except OSError as error:
            raise explained(error, target / DATA_FILE) from error
        finally:
            lock.release()


def _copy_snapshot(env: lmdb.Environment, file: BinaryIO) -> None:
    for attempt in range(_TRIES):
        try:
            env.copyfd(file.fileno(), compact=True)
            return
        except lmdb.MapResizedError:  # the node's file has grown since we looked
            if attempt == _TRIES - 1:
                raise
            env.set_mapsize(0)


def _inspect_live(data: Path, ours: Mapping[bytes, bytes]) -> None:
    """Look into a file that may be written to: what is found wrong once may have been in the middle of a change."""
    for attempt in range(_TRIES):
        try:
            inspect(data, ours, at_rest=False)
            return
        except StorageError:
            if attempt == _TRIES - 1:
                raise


@contextmanager
def _unfinished(target: Path) -> Iterator[BinaryIO]:
    """A new file in an empty or new directory, which becomes its store when the block has ended well."""
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = sorted(each.name for each in target.iterdir())
        if present:
            raise StorageError(f"{target}: is not empty, it holds {present[0]!r}; name an empty or a new directory")
        with _finished(target) as file:
            yield file
    except FileExistsError:
        raise StorageError(f"{target}: is a file; name an empty or a new directory") from None
    except OSError as error:
        raise DirectoryUnreadable(
            f"{target}: {error.strerror}; name a directory that this user may write to, with room for the backup"
        ) from error


@contextmanager
def _finished(target: Path) -> Iterator[BinaryIO]:
    unfinished = target / _UNFINISHED
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.rename(target / DATA_FILE)
    sync_directory(target)


def _refuse_store(data: Path) -> None:
    raise DirectoryInUse(f"{data.parent}: holds a store already; move it away first, nothing is written over")
