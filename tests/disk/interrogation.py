"""Everything that a region can be asked, and what it answers; so that two stores can be compared by their answers.

Run as a program it interrogates damaged copies of one store, one after the other, each in the way in which a node would
live with it, and prints a line for each. A damaged page can be the end of the process: then the line is missing.
"""

import json
import shutil
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from ledger.command import GrantCredit
from ledger.ids import ClaimId, Key
from ledger.refusal import Limits, Terms
from ledger.timeline import BEGINNING
from node.alarms import AlarmKind
from node.audit import AuditResult, audit
from node.book import LedgerBook
from node.rebuild import mark, opened
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.directory import DATA_FILE
from node.store.errors import DamagedEntry, DamagedRows, StorageError
from node.store.lmdb_disk import LmdbDisk
from tests.powerloss.load import CLUSTER, HERE, HOUR_MS, PEER, TENANTS
from tests.regions import END
from tests.world import START_MS

NOW: Final = START_MS + HOUR_MS
Answers = dict[str, str]

# What came of a flip
UNAFFECTED = "unaffected: every answer is the same"
REFUSED = "refused at the start"
ENTRY_WAITS = "an entry is refused, every other answer is the same"
AUDITED = "named by the audit, every answer is the same"
REBUILT = "stopped, rebuilt: every answer is the same"
SHORTER = "stopped, rebuilt: entries are missing, and said to be"
REBUILD_REFUSED = "stopped, and refused at the next start"
DIED = "the process died, and the next start refuses"
LIVES_AGAIN = "the process died, and after the next start every answer is the same"
WRONG = "WRONG"


def opened_store(path: Path) -> LmdbDisk:
    """The store, as its node opens it."""
    return LmdbDisk(path, cluster=CLUSTER, region=HERE, map_bytes=1 << 24)


def opened_region(disk: LmdbDisk) -> Region:
    """The region, as its node begins it: rebuilt, if need be."""
    settings = RegionSettings(
        cluster=CLUSTER, region=HERE, regions=(HERE, PEER), terms=Terms(Limits(10**9, 60_000)), checkpoint_after_ms=0
    )
    return opened(disk, disk.commit_now, settings, "after", NOW)


def questions(region: Region, names: "Names") -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be asked. The names are those of the whole store, so that what has vanished is asked for too."""
    yield "clock", lambda: sorted(region.durable.items())
    yield "tenants", lambda: list(region.books.tenants())
    yield "debts", lambda: sorted(region.books.debts().items())
    for tenant in TENANTS:
        book = region.books.existing(tenant, NOW)
        if book is None:
            yield tenant, lambda: "no such tenant"
            continue
        yield f"{tenant}: totals", partial(sorted, book.account.totals.items())
        yield f"{tenant}: available", partial(book.account.available, NOW)
        yield f"{tenant}: lots", partial(sorted, map(str, book.account.lots.values()))
        yield f"{tenant}: ended", partial(book.ended_claims, None, 10_000)
        yield f"{tenant}: entries", partial(_dots, book)
        for claim in names.claims:
            yield f"{tenant}: {claim}", partial(book.account.claim, claim)
        for key in names.keys:
            yield f"{tenant}: {key}", partial(book.account.key_use, key)
    for dot in names.dots:
        yield "entry {}:{}".format(*dot), partial(region.journal.sealed, *dot)
    yield "export", lambda: [dot for *dot, _ in region.journal.page(dict(region.durable), {}, 10_000, 1 << 30)]
    yield "conflicts", lambda: list(map(str, region.conflicts.reports(None, END, NOW)))
    yield "digest", region.books.digest


def _dots(book: LedgerBook) -> list[str]:
    return [str(filed.dot) for filed in book.entries(BEGINNING, 10_000)]


class Names:
    """What the whole store has names for, and some that it does not have."""

    def __init__(self, region: Region) -> None:
        self.dots = [(replica, seq) for replica, count in sorted(region.durable.items()) for seq in range(1, count + 1)]
        entries = [region.journal.find(*dot) for dot in self.dots]
        self.keys = [*(Key(filed.entry.key) for filed in entries if filed and filed.entry.key), Key("never used")]
        self.claims = [ClaimId(f"{sort}-{n}") for n in range(1, len(self.dots) + 20) for sort in ("claim", "debit")]


def answers(region: Region, names: Names) -> Answers:
    """Every answer. An entry that cannot be read is refused by itself; anything else that is damaged ends the node."""
    given: Answers = {}
    for question, ask in questions(region, names):
        try:
            given[question] = str(ask())
        except DamagedEntry as error:
            given[question] = f"refused: {error}"
    return given


def written(disk: LmdbDisk, region: Region) -> None:
    """The node goes on: one more write, which must be there afterwards."""
    accepted = region.submit(TENANTS[0], GrantCredit(1, NOW + HOUR_MS), Key("one more"), NOW)
    assert isinstance(accepted, Accepted), accepted
    disk.commit_now(region.seal())
    region.landed()
    assert region.journal.sealed(region.replica, accepted.filed.entry.seq) is not None


def audited(region: Region) -> list[str]:
    """What the audit finds."""
    result = AuditResult()
    for _ in audit(region, NOW, result):
        pass
    return result.findings


class Interrogator:
    """Compares what a damaged copy answers with what the whole store did."""

    def __init__(self, whole: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._image = whole.read_bytes()
        with closing(self._laid_out(self._image)) as disk:
            region = opened_region(disk)
            self._names = Names(region)
            self._expected = answers(region, self._names)
            assert audited(region) == []

    def at_rest(self, offset: int, bit: int) -> str:
        """A bit has flipped while nobody ran: what comes of the next start."""
        damaged = bytearray(self._image)
        damaged[offset] ^= 1 << bit
        try:
            disk = self._laid_out(bytes(damaged))
        except StorageError:
            return REFUSED
        return self._outcome(disk, lambda: None)

    def alive(self, offset: int, bit: int) -> str:
        """A bit flips under a running node, which has not read anything yet but what a start reads."""

        def flip() -> None:
            with (self._scratch / DATA_FILE).open("r+b", buffering=0) as file:
                file.seek(offset)
                (byte,) = file.read(1)
                file.seek(offset)
                file.write(bytes([byte ^ 1 << bit]))

        return self._outcome(self._laid_out(self._image), flip)

    def again(self) -> str:
        """The process has died: what the next start says, of the files as they lie there."""
        try:
            with closing(opened_store(self._scratch)) as disk:
                outcome = self._verdict(disk, opened_region(disk))
        except StorageError:
            return DIED
        return outcome if outcome.startswith(WRONG) else LIVES_AGAIN

    def _laid_out(self, image: bytes) -> LmdbDisk:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        (self._scratch / DATA_FILE).write_bytes(image)
        return opened_store(self._scratch)

    def _outcome(self, disk: LmdbDisk, flip: Callable[[], None]) -> str:
        with closing(disk):
            try:
                region = opened_region(disk)
                flip()
                return self._verdict(disk, region)
            except DamagedRows as error:
                reason = str(error)
            except StorageError:
                return self._after_restart()
            with suppress(StorageError):
                mark(disk.commit_now, reason)
        return self._after_restart()

    def _after_restart(self) -> str:
        try:
            with closing(opened_store(self._scratch)) as disk:
                return self._verdict(disk, opened_region(disk))
        except StorageError:
            return REBUILD_REFUSED

    def _verdict(self, disk: LmdbDisk, region: Region) -> str:
        rebuilt = any(alarm.kind is AlarmKind.REBUILT for alarm in region.alarms.all())
        given = answers(region, self._names)
        wrong = {name: answer for name, answer in self._expected.items() if given.get(name) != answer}
        refused = {name for name in wrong if _is_refusal(name, given.get(name, ""), self._expected[name])}
        findings = audited(region)
        written(disk, region)
        if not wrong:
            return AUDITED if findings else REBUILT if rebuilt else UNAFFECTED
        if wrong.keys() == refused:
            return ENTRY_WAITS
        if rebuilt and not findings and given["clock"] != self._expected["clock"] and self._holds_no_other_entry(given):
            return SHORTER
        name = min(wrong.keys() - refused)
        return f"{WRONG}: {name}: {given.get(name)!r:.200} instead of {self._expected[name]!r:.200}"

    def _holds_no_other_entry(self, given: Answers) -> bool:
        entries = [name for name in self._expected if name.startswith("entry ")]
        return all(given[name] in (self._expected[name], "None") for name in entries)


def _is_refusal(question: str, answer: str, expected: str) -> bool:
    """An entry that is not given, and an export that leaves some out, say nothing wrong: peers ask somebody else."""
    if question == "export":
        return _is_part_of(literal_eval(answer), literal_eval(expected))
    return answer.startswith("refused: ") or (question.startswith("entry ") and answer == "None")


def _is_part_of(given: list[list[Any]], whole: list[list[Any]]) -> bool:
    """Whether entries come in the same order, and of each log without gaps from its beginning on."""
    rest = iter(whole)
    logs: dict[str, list[int]] = {}
    for replica, seq in given:
        logs.setdefault(replica, []).append(seq)
    return all(dot in rest for dot in given) and all(log == list(range(1, len(log) + 1)) for log in logs.values())


def main() -> None:
    """Whole store, scratch directory, and a line on standard input for each flip: way, offset, bit."""
    interrogator = Interrogator(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in sys.stdin:
        way, offset, bit = json.loads(line)
        if way == "again":
            result = interrogator.again()
        else:
            try:
                result = getattr(interrogator, way)(offset, bit)
            except Exception as error:  # noqa: BLE001 - no type of the store's: a finding
                result = f"{WRONG}: not a refusal, but {type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
