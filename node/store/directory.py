"""Whose directory is this? A store works only in one that is empty or its own, and only one process at a time.

Whatever is refused is left as it was: a data directory that was named by mistake belongs to somebody.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.store.errors import DirectoryInUse, DirectoryUnreadable, DiskFull, ForeignDirectory, StorageError

DATA_FILE: Final = "data.mdb"
UNFINISHED_FILE: Final = "data.mdb.new"
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOCK_FILE: Final = "LOCK"
_BEFORE_DATA: Final = frozenset(
    {_LOCK_FILE, UNFINISHED_FILE, "lock.mdb"}
)  # what a first start that was cut short leaves


class DirectoryLock:
    """The right of this process to work in a directory, until `release` or its end, however that comes."""

    def __init__(self, path: Path) -> None:
        """Raises DirectoryInUse when another process (or another store of this one) has the right."""
        self._fd = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise DirectoryInUse(
                f"{path}: in use by process {holder or 'unknown'}; stop that process, or name another directory"
            ) from None

    def sign(self) -> None:
        """Say in the lock file which process this is, for the one that is refused."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others in. The file stays: removing it would let two processes lock two files of the same name."""
        os.close(self._fd)


def take(path: Path, inspect: Callable[[Path], None]) -> DirectoryLock:
    """Make the directory if need be, and lock it.

    `inspect` looks into the data file, if there is one, and raises when it is another store's. Raises
    DirectoryInUse, ForeignDirectory, DirectoryUnreadable, and what `inspect` raises.
    """
    try:
        _make(path)
        names = set(os.listdir(path))
        data = path / DATA_FILE
        if DATA_FILE not in names and not names <= _BEFORE_DATA:
            raise ForeignDirectory(
                f"{path}: holds {_named(names - _BEFORE_DATA)} and no store; name an empty or a new directory"
            )
        # Where there is a lock file it comes first, so that nobody writes while we look. Where there is none, no store
        # is at work, and none must be left behind if the data turn out to be somebody else's.
        if _LOCK_FILE not in names and DATA_FILE in names:
            inspect(data)
        lock = DirectoryLock(path)
        try:
            if data.exists():
                inspect(data)
            lock.sign()
        except BaseException:
            lock.release()
            raise
        return lock
    except OSError as error:
        raise _explained(error, path) from error


def _explained(error: OSError, path: Path) -> StorageError:
    if error.errno in NO_ROOM:
        return DiskFull(f"{path}: {error.strerror}; make room on that disk and restart the node")
    if error.errno == errno.EIO:
        return StorageError(
            f"{path}: {error.strerror}; see what the disk and the kernel's log say, then restart the node"
        )
    return DirectoryUnreadable(
        f"{path}: {error.strerror}; give this user read and write permission there, or name another directory"
    )


def _make(path: Path) -> None:
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: syncing a new file does not promise that its name survives."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _named(names: set[str]) -> str:
    first, *more = sorted(names)
    return f"{first!r} and {len(more)} more" if more else repr(first)
