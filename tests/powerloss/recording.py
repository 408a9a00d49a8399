"""What did a store ask of the disk, in which order, and what may be left of it when the power goes?

A `Recording` is a list of steps, taken from the calls that really were made (`tests.disk.tap`). `Platter` replays
them, and knows at every step what is certain and what is still pending. What a disk promises, and nothing more:

- A sector of 512 bytes is the old one or the new one, never a mixture. Of several writes to it that were not synced,
  any may be the one that is there, whatever became of other sectors.
- A file's length is one of those that it had since its last sync. Where it has grown and nothing came, there are zeros,
  or whatever lay there before.
- A name is there when its directory was synced after it was made. A rename is done or not done.
- A sync is a promise about what was written before it began. A write through a synced descriptor (O_DSYNC) is a promise
  about its own sectors, once it has returned, and about nothing else.
- A write that the disk refused may be read back from the kernel's cache all the same, and no later sync tries it again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeAlias

from tests.disk.tap import Call, Proceed, tapped

SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes went to a file."""

    path: Path
    offset: int
    written: bytes
    is_refused: bool = False
    """The disk said no, after the kernel had said yes."""


@dataclass(frozen=True, slots=True)
class Resized:
    """A file got another length."""

    path: Path
    length: int


@dataclass(frozen=True, slots=True)
class Made:
    """A file or a directory came to be."""

    path: Path
    is_directory: bool


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file got another name."""

    path: Path
    to: Path


@dataclass(frozen=True, slots=True)
class Removed:
    """A name went away."""

    path: Path


@dataclass(frozen=True, slots=True)
class Synced:
    """What was written before is durable: of a file its bytes and length, of a directory its names.

    With `only`, what one write put there, and nothing else: (offset, length).
    """

    path: Path
    only: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """The host said something, such as that an entry is acknowledged."""

    what: Any


Step: TypeAlias = Wrote | Resized | Made | Renamed | Removed | Synced | Noted


class Recording:
    """The steps so far. Every thread of the process may add some."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._lock = Lock()

    def note(self, what: object) -> None:
        """The host says something, now."""
        self.add(Noted(what))

    @contextmanager
    def of(self, root: Path) -> Iterator[None]:
        """Record what happens to the files below `root`."""
        with tapped(root, self.handle):
            yield

    def handle(self, call: Call, proceed: Proceed) -> int:
        """Let a call proceed, and note it: a write before it is made (who knows how far it comes?), a sync after."""
        if call.is_sync:
            result = proceed()
            self.add(Synced(call.path))
        elif call.is_write:
            self.add(Wrote(call.path, call.offset, call.data))
            result = proceed()
            assert result == len(call.data), "a short write on a good disk"
            if call.is_synced:
                self.add(Synced(call.path, (call.offset, len(call.data))))
        else:
            result = proceed()
            self.add(_step_of(call))
        return result

    def add(self, step: Step) -> None:
        """One more step."""
        with self._lock:
            self.steps.append(step)


def _step_of(call: Call) -> Step:
    match call.name:
        case "open" | "mkdir":
            return Made(call.path, call.name == "mkdir")
        case "ftruncate":
            return Resized(call.path, call.offset)
        case "unlink":
            return Removed(call.path)
        case "rename":
            assert call.to is not None
            return Renamed(call.path, call.to)
    raise AssertionError(call.name)


@dataclass(slots=True)
class File:
    """The bytes of one file: as the process sees them, as they are certain to be, and what is between."""

    current: bytearray = field(default_factory=bytearray)
    certain: bytearray = field(default_factory=bytearray)
    sectors: dict[int, list[bytes]] = field(default_factory=dict)
    """By number: what was written to a sector since it was certain, oldest first."""
    lengths: list[int] = field(default_factory=list)
    """The lengths since that which is certain, oldest first."""
    refused: set[int] = field(default_factory=set)
    """Sectors that no sync brings to the disk until they are written again."""

    def write(self, offset: int, written: bytes, is_refused: bool) -> None:
        end = offset + len(written)
        if end > len(self.current):
            self.resize(end)
        self.current[offset:end] = written
        for number in range(offset // SECTOR, -(-end // SECTOR)):
            self.sectors.setdefault(number, []).append(self._sector(number))
            self.refused.discard(number)
            if is_refused:
                self.refused.add(number)

    def resize(self, length: int) -> None:
        if length < len(self.current):
            del self.current[length:]
        else:
            self.current.extend(bytes(length - len(self.current)))
        self.lengths.append(length)

    def sync(self) -> None:
        before = {number: bytes(self.certain[_span(number)]) for number in self.refused}
        self.certain[:] = self.current
        for number, contents in before.items():
            self.certain[_span(number)] = contents
        self.sectors = {number: self.sectors[number] for number in self.refused}
        self.lengths.clear()

    def sync_only(self, offset: int, length: int) -> None:
        end = offset + length
        assert end <= len(self.certain), "a synced write that made the file longer: not seen so far, so not modelled"
        for number in range(offset // SECTOR, -(-end // SECTOR)):
            self.certain[_span(number)] = self._sector(number)
            self.sectors.pop(number, None)

    def _sector(self, number: int) -> bytes:
        return bytes(self.current[_span(number)])


def _span(sector: int) -> slice:
    return slice(sector * SECTOR, (sector + 1) * SECTOR)


class Directory:
    """What a name stands for when it is no file."""


Node: TypeAlias = File | Directory
NameChange: TypeAlias = Mapping[Path, Node | None]  # all of it, or nothing


class Platter:
    """The disk at one step: `names` as the process sees them, `certain_names`, and the changes `pending` in between."""

    def __init__(self) -> None:
        self.names: dict[Path, Node] = {}
        self.certain_names: dict[Path, Node] = {}
        self.pending: list[NameChange] = []
        self._directories: set[Path] = set()

    def apply(self, step: Step) -> None:
        """Let a step happen."""
        match step:
            case Wrote(path, offset, written, is_refused):
                self._file(path).write(offset, written, is_refused)
            case Resized(path, length):
                self._file(path).resize(length)
            case Made(path, is_directory):
                self._rename({path: Directory() if is_directory else File()})
                if is_directory:
                    self._directories.add(path)
            case Renamed(path, to):
                self._rename({to: self.names[path], path: None})
            case Removed(path):
                self._rename({path: None})
            case Synced(path, None):
                node = self.names.get(path)
                if isinstance(node, File):
                    node.sync()
                else:
                    self._sync_names(path)
            case Synced(path, (offset, length)):
                self._file(path).sync_only(offset, length)
            case Noted():
                pass

    def names_with(self, kept: Sequence[NameChange]) -> dict[Path, Node]:
        """What is there if, of the pending changes of names, those in `kept` came through."""
        names = dict(self.certain_names)
        for change in kept:
            _change(names, change)
        gone = self._directories - names.keys()
        return {path: node for path, node in names.items() if gone.isdisjoint(path.parents)}

    def files(self) -> dict[Path, bytes]:
        """Every file as the process sees it."""
        return {path: bytes(node.current) for path, node in self.names.items() if isinstance(node, File)}

    def _file(self, path: Path) -> File:
        node = self.names[path]
        assert isinstance(node, File)
        return node

    def _rename(self, change: NameChange) -> None:
        _change(self.names, change)
        self.pending.append(change)

    def _sync_names(self, directory: Path) -> None:
        here = [change for change in self.pending if any(path.parent == directory for path in change)]
        for change in here:
            _change(self.certain_names, change)
        self.pending = [change for change in self.pending if change not in here]


def _change(names: dict[Path, Node], change: NameChange) -> None:
    for path, node in change.items():
        if node is None:
            names.pop(path, None)
        else:
            names[path] = node
