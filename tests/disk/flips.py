"""A campaign of flipped bits: in every kind of place of a real store's file, at rest and under a running node."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from select import select
from tempfile import TemporaryDirectory
from typing import Final

from node.store.directory import DATA_FILE
from tests.disk.anatomy import anatomy, offsets_in
from tests.disk.interrogation import WRONG
from tests.powerloss.campaign import fast_directory
from tests.powerloss.load import run

WAYS: Final = ("at_rest", "alive")
SAFEGUARDS: Final = {
    "pages": "from node.store import lmdb_file; lmdb_file.check_pages = lambda _: frozenset()",
    "neighbours": "from node.store import lmdb_disk; lmdb_disk.vouch_for_gap = lambda *_, **__: True",
    "checksums": "from node.store import kv, neighbours; kv.verified = neighbours.verified = lambda *row: row[2][:-4]",
}
"""By name: what a process does that lives without it."""
_BATCHES: Final = 60
_PATIENCE_SECONDS: Final = 30.0
_NEVER: Final = f"{WRONG}: no answer, and no end"


@dataclass(slots=True)
class Report:
    """What came of how many flips, by way and kind of place."""

    results: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, way: str, kind: str, result: str, flip: tuple[int, int]) -> None:
        """One more flip."""
        outcome = result.partition(":")[0] if result.startswith(WRONG) else result
        self.results.setdefault((way, kind), Counter())[outcome] += 1
        if outcome == WRONG:
            self.wrong.append(f"{way}, {kind}, byte {flip[0]} bit {flip[1]}: {result}")

    def of(self, way: str) -> Counter[str]:
        """Over all kinds of places."""
        return sum((counts for (each, _), counts in self.results.items() if each == way), Counter())


def campaign(
    seed: int, each: int, ways: tuple[str, ...] = WAYS, without: str = "", places: str = ""
) -> Iterator[Report]:
    """`each` flips in each kind of place, in each way; the report so far, after each flip.

    `without` switches one of the `SAFEGUARDS` off; `places` are those whose name has it in it.
    """
    report, random = Report(), Random(seed)
    with TemporaryDirectory(dir=fast_directory()) as directory:
        recorded = run(Path(directory) / "recorded", seed, _BATCHES)
        data = recorded.store / DATA_FILE
        kinds = {kind: list(offsets_in(spans)) for kind, spans in sorted(anatomy(data).items())}
        with _Child(data, Path(directory) / "scratch", SAFEGUARDS.get(without, "")).ready() as child:
            for way in ways:
                for kind, offsets in kinds.items():
                    for _ in range(each if places in kind else 0):
                        flip = random.choice(offsets), random.randrange(8)
                        report.add(way, kind, child.result(way, *flip), flip)
                        yield report


class _Child:
    """The process that is asked; when it dies, another one says what the next start says."""

    def __init__(self, data: Path, scratch: Path, before: str) -> None:
        program = f"{before}\nfrom tests.disk.interrogation import main\nmain()"
        self._command = [sys.executable, "-c", program, str(data), str(scratch)]

    @contextmanager
    def ready(self) -> Iterator["_Child"]:
        self._start()
        try:
            yield self
        finally:
            self._end()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _end(self) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate()

    def result(self, way: str, offset: int, bit: int) -> str:
        """What comes of a flip."""
        answer = self._ask(way, offset, bit)
        if answer is None:
            self._end()
            self._start()
            answer = self._ask("again", 0, 0)
            if answer is None:
                self._end()
                self._start()
                return f"{WRONG}: the process dies, and dies again when it is started again"
        elif answer == _NEVER:
            self._process.kill()
            self._end()
            self._start()
        return answer

    def _ask(self, way: str, offset: int, bit: int) -> str | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([way, offset, bit]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        if not select([self._process.stdout], [], [], _PATIENCE_SECONDS)[0]:
            return _NEVER
        line = self._process.stdout.readline()
        return str(json.loads(line)) if line else None
