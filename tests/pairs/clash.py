"""One pair in one scene: what became of the loser, once the regions have met and the books are right."""

from dataclasses import dataclass

from conflict.report import Report
from ledger.ids import TenantId
from ledger.operation import Compensation
from ledger.timeline import BEGINNING
from replication.filed import Filed, legs_of
from tests.pairs.scenes import EARLIER, LATER, SCENES, Kind, Pair, Scene
from tests.regions import UMBRA, Regions
from tests.world import START_MS, TENANT

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Fate:
    """What became of the loser: as it was recorded, or a conflict."""

    kind: str = UNCHANGED
    outcome: str = ""
    """What it is in canonical order, if that is another than was recorded."""
    debt: int = 0

    def __str__(self) -> str:
        if self.kind == UNCHANGED:
            return UNCHANGED
        words = [f"`{self.kind}`"]
        if self.outcome not in ("", self.kind, "duplicate"):
            words.append(f"outcome {self.outcome}")
        if self.debt:
            words.append(f"{self.debt} owed")
        return ", ".join(words)


def fates(pair: Pair) -> dict[str, Fate]:
    """What becomes of the loser, by what the two contend for."""
    return {scene.what: fate(scene, pair) for scene in SCENES if scene.has(pair)}


def fate(scene: Scene, pair: Pair) -> Fate:
    """Let a pair happen in a scene."""
    world = Regions(*scene.names)
    scene.prepare(world, pair)
    assert not world.reports(LATER), "nothing has happened yet"
    world.part()
    assert world.now < START_MS + scene.at, "the scene takes too long to prepare"
    world.now = START_MS + scene.at
    scene.acts[pair.rival](world, EARLIER)
    world.now = START_MS + scene.at + 10
    loser = scene.acts[pair.loser](world, LATER)
    put_right(world)
    return fate_of(world, loser, is_receipt=pair.loser is Kind.RECEIVED)


def put_right(world: Regions) -> None:
    """The regions meet, and agree; what is due is posted once."""
    world.put_right()
    posted = _compensations(world)
    world.exchange(2_000)
    assert _compensations(world) == posted, "compensations set off others"
    for name in world.names:
        result = world.audit(name)
        assert result.books_equal, result.findings
        assert not world.region(name).alarms.all()
    assert len({world.region(name).books.digest() for name in world.names}) == 1
    told = [world.reports(name) for name in world.names]
    assert all(reports == told[0] for reports in told)
    assert all(report.state != "detected" and report.rival_count for report in told[0])


def _compensations(world: Regions) -> int:
    books = [world.region(LATER).books.existing(tenant, world.now) for tenant in (TENANT, UMBRA)]
    entries = [filed for book in books if book is not None for filed in book.entries(BEGINNING, 1_000)]
    return sum(isinstance(filed.entry.content, Compensation) for filed in entries)


def fate_of(world: Regions, loser: Filed, *, is_receipt: bool) -> Fate:
    """What became of an operation."""
    leg = next(leg for leg in legs_of(loser) if leg.is_receipt == is_receipt)
    report = _report_of(world, leg, leg.tenant)
    if report is None:
        return Fate()
    is_other = report.canonical_outcome != report.loser.outcome
    return Fate(report.kind.value, report.canonical_outcome.value if is_other else "", report.debt)


def _report_of(world: Regions, loser: Filed, tenant: TenantId) -> Report | None:
    found = [each for each in world.reports(LATER, tenant) if (each.loser.replica, each.loser.seq) == loser.dot]
    return found[0] if found else None
