"""Which states may a disk be in after the power went, at any moment of a recording?

At every step all that is pending may be lost, or there, or any mixture: where few things are pending every mixture is
made, otherwise a seeded choice of them, in which each thing is lost with a probability that is drawn anew each time:
so one lost sector among hundreds comes up, and one that came through.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.powerloss.recording import SECTOR, File, NameChange, Noted, Platter, Step

_LOCK_FILES: Final = frozenset({"LOCK", "lock.mdb"})
"""Never synced, and the second one is written through memory: whatever is in them, if they are there, must not matter.
It is drawn at random for every state, and two states that differ in nothing else count as one."""
_HEADS: Final = frozenset({0, 4096 // SECTOR})  # LMDB's two head pages, of which the newer is the current one
_CHANCES: Final = (0.03, 0.2, 0.5, 0.8, 0.97)


@dataclass(frozen=True, slots=True)
class State:
    """A disk after a power loss: files with their bytes (None: a directory), after how many steps, and what the host
    had said by then."""

    steps: int
    said: tuple[Any, ...]
    image: dict[Path, bytes | None]
    story: str
    pending: frozenset[str]
    """Of which kinds of things it was open whether they came through: names, lengths, heads, pages."""
    name: bytes
    """Equal for equal images."""

    def write(self, source: Path, target: Path) -> None:
        """Lay the files out below `target`, as they were below `source`."""
        for path, contents in sorted(self.image.items()):
            there = target / path.relative_to(source)
            if contents is None:
                there.mkdir()
            else:
                there.write_bytes(contents)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What came through: of the changes of names, of each file's lengths, of each sector's contents."""

    names: Sequence[NameChange]
    lengths: dict[int, int]  # by id(file): 0 is the certain length, n the n-th pending one
    sectors: dict[tuple[int, int], int]  # by (id(file), sector): 0 is the certain contents, n the n-th pending one
    unwritten: bytes  # what lies where a file grew and nothing came


def states(steps: Sequence[Step], seed: int, tries: int) -> Iterator[State]:
    """Different states, at each step that changes what is pending; up to `tries` tries each."""
    random = Random(seed)
    platter = Platter()
    said: list[Any] = []
    seen: set[tuple[bytes, int]] = set()
    for number, step in enumerate(steps, 1):
        platter.apply(step)
        if isinstance(step, Noted):
            said.append(step.what)
        if number < len(steps) and isinstance(steps[number], Noted):
            continue  # of equal disks, the one of which most has been said is the hardest to live up to
        for choice in _choices(platter, random, tries):
            state = _state(platter, choice, number, tuple(said), random)
            if (state.name, len(said)) not in seen:
                seen.add((state.name, len(said)))
                yield state


def _choices(platter: Platter, random: Random, tries: int) -> Iterator[_Choice]:
    files = _pending_files(platter)
    changes = [change for change in platter.pending if not _is_of_lock_files(change)]
    sectors = {(id(file), number): len(versions) for file in files for number, versions in file.sectors.items()}
    lengths = {id(file): len(file.lengths) for file in files if file.lengths}
    ways = [2 for _ in changes] + [count + 1 for count in (*lengths.values(), *sectors.values())]
    total = 1
    for count in ways:
        total *= count
        if total > tries:
            break
    picks: Iterator[Sequence[int]]
    if total <= tries:
        picks = iter(list(product(*map(range, ways))))
    else:
        nothing, everything = [0] * len(ways), [count - 1 for count in ways]
        picks = iter([nothing, everything, *(_pick(ways, random) for _ in range(tries - 2))])
    for pick in picks:
        rest = iter(pick)
        kept = [change for change in changes if next(rest)]
        names = [
            change
            for change in platter.pending
            if change in kept or (_is_of_lock_files(change) and random.random() < 0.5)
        ]
        yield _Choice(
            names,
            {file: next(rest) for file in lengths},
            {sector: next(rest) for sector in sectors},
            random.choice((b"\0", b"\xff\0\x01", _older_page(files))),
        )


def _pick(ways: Sequence[int], random: Random) -> list[int]:
    chance = random.choice(_CHANCES)
    return [random.randrange(1, count) if random.random() < chance else 0 for count in ways]


def _is_of_lock_files(change: NameChange) -> bool:
    return all(path.name in _LOCK_FILES for path in change)


def _pending_files(platter: Platter) -> list[File]:
    """Files that have a name now, or may have one again, and of which something is not certain."""
    named = [*platter.names.items(), *platter.certain_names.items()]
    return list(
        {
            id(node): node
            for path, node in named
            if isinstance(node, File) and (node.sectors or node.lengths) and path.name not in _LOCK_FILES
        }.values()
    )


def _older_page(files: Sequence[File]) -> bytes:
    """Blocks that a file gets may have been its own, or another store's, before: here they hold what looks right."""
    return max((bytes(file.certain[-8 * SECTOR :]) for file in files), key=len, default=b"") or b"\0"


def _state(platter: Platter, choice: _Choice, steps: int, said: tuple[Any, ...], random: Random) -> State:
    image: dict[Path, bytes | None] = {}
    name = blake2b(digest_size=16)
    for path, node in sorted(platter.names_with(choice.names).items()):
        if path.name in _LOCK_FILES:
            assert isinstance(node, File)
            image[path] = random.choice((bytes(node.current), random.randbytes(len(node.current)), b""))
            continue
        contents = image[path] = _contents(node, choice) if isinstance(node, File) else None
        name.update(repr((path, contents is None, len(contents or b""))).encode() + (contents or b""))
    pending = _pending_files(platter)
    lost = sum(not version for version in choice.sectors.values())
    story = f"after step {steps}: {lost} of {len(choice.sectors)} unsynced sectors lost"
    return State(steps, said, image, story, _kinds(platter, pending), name.digest())


def _kinds(platter: Platter, files: Sequence[File]) -> frozenset[str]:
    sectors = {number for file in files for number in file.sectors}
    kinds = {
        "names": not all(map(_is_of_lock_files, platter.pending)),
        "lengths": any(file.lengths for file in files),
        "heads": not _HEADS.isdisjoint(sectors),
        "pages": bool(sectors - _HEADS),
    }
    return frozenset(kind for kind, there in kinds.items() if there)


def _contents(file: File, choice: _Choice) -> bytes:
    kept = choice.lengths.get(id(file), 0)
    length = file.lengths[kept - 1] if kept else len(file.certain)
    contents = bytearray(file.certain[:length])
    grown = length - len(contents)
    contents.extend((choice.unwritten * (grown // len(choice.unwritten) + 1))[:grown])
    for number, versions in file.sectors.items():
        if version := choice.sectors[id(file), number]:
            written = versions[version - 1]
            start = number * SECTOR
            if start < length:
                contents[start : start + len(written)] = written[: length - start]
    return bytes(contents)
