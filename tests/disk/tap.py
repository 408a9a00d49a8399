"""How does a test get between a store and the kernel, in the process, without root, compiler or debugger?

Two ways lead from a store to its files: LMDB calls libc, and the store's own code calls `os`. While a tap is on, both
go through a handler: each call that creates, changes, names or syncs a file below a directory becomes a `Call`, and the
handler lets it proceed, does something else instead, or makes it fail with any errno.

Rules:

- Nothing slips by. LMDB's module must not import a function that could change a file and is not tapped, and must not
  map a data file for writing. What `os` offers beyond `_tapped_os` is not used by the store; the recorder's test
  compares what it saw with the files that came out.
- An exception in a handler that is no OSError makes the call fail with EIO, and is raised again when the tap is left.
"""

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from unittest.mock import patch

from tests.disk.linkage import slots_of, swap

_libc = ctypes.CDLL(None, use_errno=True)

_int, _long, _pointer, _text = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_char_p
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "open": (_int, _text, _int, _int),
    "mkdir": (_int, _text, _int),
    "write": (_long, _int, _pointer, _long),
    "writev": (_long, _int, _pointer, _int),
    "pwrite": (_long, _int, _pointer, _long, _long),
    "pwritev": (_long, _int, _pointer, _int, _long),
    "ftruncate": (_int, _int, _long),
    "fsync": (_int, _int),
    "fdatasync": (_int, _int),
    "msync": (_int, _pointer, _long, _int),
    "mmap": (_pointer, _pointer, _long, _int, _int, _int, _long),
}
_SAME_ON_64_BITS: Final = frozenset({"open64", "pwrite64", "pwritev64", "ftruncate64", "mmap64"})
_WOULD_SLIP_BY = """
    openat openat64 creat creat64 fallocate fallocate64 posix_fallocate posix_fallocate64 truncate truncate64 rename
    renameat renameat2 unlink unlinkat remove link symlink mkdirat sync syncfs sync_file_range copy_file_range
    sendfile sendfile64 splice fwrite fputs pwritev2 pwritev64v2 aio_write aio_fsync syscall
"""
_MAP_SHARED, _PROT_WRITE, _FAILED = 1, 2, -1


@dataclass(frozen=True, slots=True)
class Call:
    """One call that creates, changes, names or syncs a file.

    `path` is the file's, `data` what would be written, `offset` where (or the new length, for ftruncate), `to` the new
    name, for rename. `is_synced`: the descriptor makes every write wait until it is durable (O_DSYNC).
    """

    name: str
    path: Path
    data: bytes = b""
    offset: int = 0
    fd: int = -1
    is_synced: bool = False
    to: Path | None = None

    @property
    def is_write(self) -> bool:
        """Whether it puts bytes into a file."""
        return "write" in self.name

    @property
    def is_sync(self) -> bool:
        """Whether it does nothing but wait for the disk."""
        return "sync" in self.name


Proceed: TypeAlias = Callable[[], int]
Handler: TypeAlias = Callable[[Call, Proceed], int]
"""Answers a call: with what `proceed()` returned, with another number, or by raising an OSError."""


@contextmanager
def tapped(root: Path, handler: Handler) -> Iterator[None]:
    """Send what this process does to the files below `root` through `handler`."""
    tap = _Tap(root.resolve(), handler)
    _never_freed.append(tap)
    try:
        with ExitStack() as undo:
            for symbol, slots in slots_of(lmdb_module()).items():
                assert symbol not in _WOULD_SLIP_BY.split(), f"LMDB's module calls {symbol}: the tap does not see that"
                name = symbol.removesuffix("64") if symbol in _SAME_ON_64_BITS else symbol
                if name in _SIGNATURES:
                    for slot in slots:
                        undo.callback(swap, slot, swap(slot, tap.callback(name)))
            for name, stand_in in tap.of_os().items():
                undo.enter_context(patch.object(os, name, stand_in))
            yield
    finally:
        if tap.broken is not None:
            raise tap.broken  # whatever else went wrong went wrong because of it


def lmdb_module() -> Path:
    """The file of the extension module that LMDB is part of."""
    return Path(str(sys.modules["lmdb.cpython"].__file__))


class _Tap:
    """What stands in the place of libc's functions and of Python's."""

    def __init__(self, root: Path, handler: Handler) -> None:
        self._root = root
        self._handler = handler
        self._callbacks: dict[str, Any] = {}
        self.broken: BaseException | None = None

    # LMDB's calls

    def callback(self, name: str) -> int:
        """The address of what stands for a function of libc."""
        if name not in self._callbacks:
            kind = ctypes.CFUNCTYPE(*_SIGNATURES[name], use_errno=True)
            real = cast(Any, kind)((name, _libc))
            self._callbacks[name] = kind(lambda *arguments: self._answer(name, real, arguments))
        return cast(int, ctypes.cast(self._callbacks[name], ctypes.c_void_p).value)

    def _answer(self, name: str, real: Callable[..., int], arguments: tuple[Any, ...]) -> int:
        try:
            call = _call_of_lmdb(name, arguments)
            return real(*arguments) if call is None else self._handled(call, lambda: _proceed(real, arguments))
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
        except BaseException as error:  # noqa: BLE001 - ctypes would print it and go on
            self.broken = self.broken or error
            ctypes.set_errno(errno.EIO)
        return _FAILED

    def _handled(self, call: Call, proceed: Proceed) -> int:
        return self._handler(call, proceed) if call.path.is_relative_to(self._root) else proceed()

    # Python's calls

    def of_os(self) -> dict[str, Callable[..., Any]]:
        """By name: what stands for functions of `os`."""
        mkdir, open_, ftruncate, pwrite = os.mkdir, os.open, os.ftruncate, os.pwrite
        fsync, rename, unlink = os.fsync, os.rename, os.unlink
        handled = self._handled

        def opening(path: Any, flags: int, *more: Any, **named: Any) -> int:
            there = Path(os.fsdecode(path)).absolute()
            if not flags & os.O_CREAT or there.exists():
                return open_(path, flags, *more, **named)
            return handled(Call("open", there), lambda: open_(path, flags, *more, **named))

        def making(path: Any, *more: Any, **named: Any) -> None:
            there = Path(path).absolute()
            if there.exists():
                return mkdir(path, *more, **named)
            handled(Call("mkdir", there), lambda: mkdir(path, *more, **named) or 0)
            return None

        def renaming(path: Any, to: Any) -> None:
            handled(Call("rename", Path(path).absolute(), to=Path(to).absolute()), lambda: rename(path, to) or 0)

        def unlinking(path: Any, **named: Any) -> None:
            handled(Call("unlink", Path(path).absolute()), lambda: unlink(path, **named) or 0)

        return {
            "mkdir": making,
            "open": opening,
            "rename": renaming,
            "unlink": unlinking,
            "ftruncate": lambda fd, length: handled(
                Call("ftruncate", _path_of(fd), b"", length, fd), lambda: ftruncate(fd, length) or 0
            ),
            "pwrite": lambda fd, written, offset: handled(
                Call("pwrite", _path_of(fd), bytes(written), offset, fd), lambda: pwrite(fd, written, offset)
            ),
            "fsync": lambda fd: handled(Call("fsync", _path_of(fd), fd=fd), lambda: fsync(fd) or 0),
        }


_never_freed: list[_Tap] = []  # a thread may still be on its way out of a callback when the tap is left


def _proceed(real: Callable[..., int], arguments: tuple[Any, ...]) -> int:
    result = real(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _call_of_lmdb(name: str, arguments: tuple[Any, ...]) -> Call | None:
    """The call in our words; None if it changes nothing."""
    if name in ("open", "mkdir"):
        path = Path(os.fsdecode(arguments[0])).absolute()
        is_new = not path.exists() and (name == "mkdir" or arguments[1] & os.O_CREAT)
        return Call(name, path) if is_new else None
    if name == "mmap":
        _, _, protection, flags, fd, _ = arguments
        is_shared = fd >= 0 and flags & _MAP_SHARED and protection & _PROT_WRITE
        assert not is_shared or _path_of(fd).suffix != ".mdb" or _path_of(fd).stem == "lock", (
            f"{_path_of(fd)} is written through memory, and the tap does not see that"
        )
        return None
    assert name != "msync", "LMDB syncs memory, and the tap does not see what is in it"
    fd = arguments[0]
    path = _path_of(fd)
    if name == "ftruncate":
        return Call(name, path, b"", arguments[1], fd)
    if name in ("fsync", "fdatasync"):
        return Call(name, path, fd=fd)
    is_synced = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC)
    offset = arguments[3] if name.startswith("p") else os.lseek(fd, 0, os.SEEK_CUR)
    return Call(name, path, _written(name, *arguments[1:3]), offset, fd, is_synced)


def _written(name: str, address: int, count: int) -> bytes:
    if not name.endswith("v"):
        return ctypes.string_at(address, count)
    words = (ctypes.c_size_t * (2 * count)).from_address(address)  # struct iovec: a pointer and a length, each
    return b"".join(ctypes.string_at(words[n], words[n + 1]) for n in range(0, 2 * count, 2))


def _path_of(fd: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{fd}"))
