"""What two operations of one tenant can contend for, and what each kind of operation does about it.

A scene prepares a world that both regions know whole; then they are cut. Each act is one operation of one kind, in one
region, about what the scene is about. Acts that only sweepers post are let happen: the region that looks after the
claim or the lot is the one that is to act, and it ticks when the time has come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ledger.command import Command, DebitUsage, GrantCredit, OnShortage, ReportUsage, SetPolicy
from ledger.ids import ClaimId, LotId
from ledger.operation import Admission
from replication.filed import Filed
from tests.regions import (
    HOUR_MS,
    UMBRA,
    VOID_IF_SHORT,
    Regions,
    capture,
    debit,
    grant,
    heartbeat,
    refund,
    release,
    renew,
    reserve,
    revoke,
    transfer,
    usage,
)
from tests.world import START_MS, TENANT

REPAYING = "who repays what is owed"
"""All operations contend for this: whichever comes first after a lot has started, or credit has come, repays."""

EARLIER, LATER, ELSEWHERE = "eu", "us", "ap"
"""Where the rival is accepted; where the loser; where what neither of them looks after comes from."""


class Kind(StrEnum):
    """The kinds of operation: a transfer as each of its tenants sees it, usage while a job runs and when it ends."""

    GRANT = "grant"
    HOLD = "hold"
    RENEW = "renew"
    CAPTURE = "capture"
    RELEASE = "release"
    LAPSE = "lapse"
    DEBIT = "debit"
    REFUND = "refund"
    REVOKE = "revoke"
    EXPIRE = "expire"
    SETTLE = "settle"
    POLICY = "policy"
    GIVEN = "transfer given"
    RECEIVED = "transfer received"
    HEARTBEAT = "heartbeat"
    USAGE = "usage"
    FINAL = "final usage"
    MOVE = "move"


@dataclass(frozen=True)
class Pair:
    """Who is to act: the rival, and later the loser."""

    rival: Kind
    loser: Kind

    def where(self, kind: Kind, otherwise: str = EARLIER) -> str:
        """The region that acts in this way, or else the one that is named."""
        return LATER if self.loser is kind else EARLIER if self.rival is kind else otherwise

    def both(self, kind: Kind) -> bool:
        """Whether both are of this kind."""
        return self.rival is kind and self.loser is kind


Act = Callable[[Regions, str], Filed]
"""Something that a region, the named one, accepts or posts."""


@dataclass(frozen=True)
class Scene:
    """What is contended for, in words; how it is prepared; what each kind does; between which pairs it makes sense."""

    what: str
    prepare: Callable[[Regions, Pair], None]
    acts: Mapping[Kind, Act]
    fits: Callable[[Pair], bool] = lambda _: True
    names: tuple[str, ...] = (EARLIER, LATER)
    at: int = 3_500
    """When the two act: ms since the story began."""

    def has(self, pair: Pair) -> bool:
        """Whether this pair can contend in this scene."""
        return pair.rival in self.acts and pair.loser in self.acts and self.fits(pair)


# -- acts -----------------------------------------------------------------------------------------------------------


def _ask(command: Command) -> Act:
    return lambda world, name: world.do(name, command)


def _of_side(command: Callable[[str], Command]) -> Act:
    """About something of the acting region's own."""
    return lambda world, name: world.do(name, command(name))


def _received(amount: int) -> Act:
    return lambda world, name: world.do(name, transfer(TENANT, amount), tenant=UMBRA)


def _swept(kind: Kind) -> Act:
    """What the region posts by itself, now that the time has come."""
    return _posted(kind, lambda world, name: world.tick(name))


def _given_up(amount: int) -> Act:
    """Credit of the acting region's shares that the other one has asked for."""

    def give(world: Regions, name: str) -> None:
        other = EARLIER if name == LATER else LATER
        world.region(name).give(TENANT, other, amount, world.now)

    return _posted(Kind.MOVE, give)


def _posted(kind: Kind, has_posted: Callable[[Regions, str], None]) -> Act:
    """The one entry of a kind that a region posts, asked for by no client."""

    def act(world: Regions, name: str) -> Filed:
        region = world.region(name)
        before = region.delivery.own_head.seq
        has_posted(world, name)
        world.land(name)
        own = [region.journal.find(region.replica, seq) for seq in range(before + 1, region.delivery.own_head.seq + 1)]
        (posted,) = [
            filed for filed in own if filed is not None and type(filed.entry.content).__name__.lower() == kind.value
        ]
        return posted

    return act


def _late(claim: str, amount: int, at: int) -> Act:
    return _ask(DebitUsage(amount, START_MS + at, ClaimId(claim), OnShortage.DEBT))


def _until(world: Regions, ms: int) -> int:
    """The lease that a reservation made next has to have, to end so many ms after the story began."""
    return START_MS + ms - world.now - 1


LAPSE, EXPIRE, SETTLE = _swept(Kind.LAPSE), _swept(Kind.EXPIRE), _swept(Kind.SETTLE)
OVER, STABLE, STARTS, ACT = 2_900, 3_600, 4_500, 4_700
"""When (ms) a lot is over; when nothing from before that can come any more; when a lot starts; when the two act."""


# -- scenes ---------------------------------------------------------------------------------------------------------


def _spending(world: Regions, pair: Pair) -> None:
    """40 of 100 are available; each region has a reservation of 20 and a debit of 10 of its own."""
    world.do(EARLIER, grant("L", 100, starts=0))
    world.do(EARLIER, grant("U", 100), tenant=UMBRA)
    world.meet()
    for name, kind in ((EARLIER, pair.rival), (LATER, pair.loser)):
        lease_ms = _until(world, 3_400) if kind is Kind.LAPSE else HOUR_MS
        world.do(name, reserve(f"c-{name}", 20, lease_ms, job=f"job-{name}"))
        world.do(name, debit(f"d-{name}", 10))
    world.meet()


SPENDING: Mapping[Kind, Act] = {
    Kind.GRANT: _of_side(lambda name: grant(f"M-{name}", 30)),
    Kind.HOLD: _of_side(lambda name: reserve(f"x-{name}", 30)),
    Kind.CAPTURE: _of_side(lambda name: capture(f"c-{name}", 50)),
    Kind.RELEASE: _of_side(lambda name: release(f"c-{name}")),
    Kind.LAPSE: LAPSE,
    Kind.DEBIT: _of_side(lambda name: debit(f"x-{name}", 30)),
    Kind.REFUND: _of_side(lambda name: refund(f"d-{name}", 10)),
    Kind.REVOKE: _ask(revoke("L")),
    Kind.GIVEN: _ask(transfer(UMBRA, 30)),
    Kind.RECEIVED: _received(30),
    Kind.USAGE: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 50)),
    Kind.FINAL: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 50, final=True)),
}


def _void_if_short(world: Regions, pair: Pair) -> None:
    _spending(world, pair)
    world.do(EARLIER, VOID_IF_SHORT)
    world.meet()


def _one_claim(world: Regions, pair: Pair) -> None:
    """A reservation of 60 for a job, of which 20 are used; whoever is to let it lapse has made it."""
    world.do(EARLIER, grant("L", 100, starts=0))
    world.meet()
    lease_ms = _until(world, 3_400) if Kind.LAPSE in (pair.rival, pair.loser) else HOUR_MS
    world.do(pair.where(Kind.LAPSE), reserve("c", 60, lease_ms, job="train"))
    world.meet()
    world.do(EARLIER, capture("c", 20))
    world.meet()


ONE_CLAIM: Mapping[Kind, Act] = {
    Kind.RENEW: _ask(renew("c", 2 * HOUR_MS)),
    Kind.CAPTURE: _ask(capture("c", 30)),
    Kind.RELEASE: _ask(release("c")),
    Kind.LAPSE: LAPSE,
    Kind.REFUND: _ask(refund("c", 15)),
    Kind.REVOKE: _ask(revoke("L")),
    Kind.HEARTBEAT: _ask(heartbeat("train", 2 * HOUR_MS)),
    Kind.USAGE: _of_side(lambda name: _own_stretch(name, final=False)),
    Kind.FINAL: _of_side(lambda name: _own_stretch(name, final=True)),
}


def _own_stretch(name: str, *, final: bool) -> ReportUsage:
    """Usage of the one job for a time that only this region reports."""
    start = 1_500 if name == EARLIER else 1_600
    return usage("train", start, start + 100, 30, final=final)


def _some_credit(world: Regions, _: Pair) -> None:
    world.do(EARLIER, grant("L", 100, starts=0))
    world.meet()


ONE_NAME: Mapping[Kind, Act] = {
    Kind.GRANT: _ask(grant("n", 30)),
    Kind.HOLD: _ask(reserve("n", 30)),
    Kind.DEBIT: _ask(debit("n", 20)),
}


def _reserved(world: Regions, pair: Pair) -> None:
    _some_credit(world, pair)
    world.do(EARLIER, reserve("c", 60, job="train"))
    world.meet()


ONE_TIME: Mapping[Kind, Act] = {
    Kind.CAPTURE: _ask(capture("c", 30)),
    Kind.HEARTBEAT: _ask(heartbeat("train", 2 * HOUR_MS)),
    Kind.USAGE: _ask(usage("train", 1_500, 1_600, 30)),
    Kind.FINAL: _ask(usage("train", 1_500, 1_600, 30, final=True)),
}

ONE_JOB: Mapping[Kind, Act] = {
    Kind.HOLD: _of_side(lambda name: reserve(f"c-{name}", 40, job="train")),
    Kind.HEARTBEAT: ONE_TIME[Kind.HEARTBEAT],
    Kind.USAGE: ONE_TIME[Kind.USAGE],
    Kind.FINAL: ONE_TIME[Kind.FINAL],
}


def _debt(world: Regions, pair: Pair) -> None:
    """30 are owed when a lot of 50 starts: the first operation behind that repays them."""
    world.do(ELSEWHERE, grant("L", 100, starts=0))
    world.do(ELSEWHERE, grant("U", 100), tenant=UMBRA)
    world.meet()
    for name, kind in ((EARLIER, pair.rival), (LATER, pair.loser)):
        if kind is Kind.EXPIRE:
            world.do(name, grant(f"E-{name}", 5, until=OVER))
        lease_ms = _until(world, STARTS - 100) if kind is Kind.LAPSE else HOUR_MS
        world.do(name, reserve(f"c-{name}", 10, lease_ms, job=f"job-{name}"))
    world.meet()
    owed = 30 + world.book(ELSEWHERE).account.available(world.now)
    world.do(ELSEWHERE, debit("d", owed, OnShortage.DEBT))
    starters = [name for name, kind in ((EARLIER, pair.rival), (LATER, pair.loser)) if kind is Kind.SETTLE]
    for name in starters or [ELSEWHERE]:
        world.do(name, grant(f"S-{name}" if pair.both(Kind.SETTLE) else "S", 50, starts=STARTS))
    world.exchange(START_MS + STABLE - world.now)


DEBT: Mapping[Kind, Act] = {
    Kind.GRANT: _of_side(lambda name: grant(f"N-{name}", 40)),
    Kind.HOLD: _of_side(lambda name: reserve(f"x-{name}", 15)),
    Kind.RENEW: _of_side(lambda name: renew(f"c-{name}", 2 * HOUR_MS)),
    Kind.CAPTURE: _of_side(lambda name: capture(f"c-{name}", 25)),
    Kind.RELEASE: _of_side(lambda name: release(f"c-{name}")),
    Kind.LAPSE: LAPSE,
    Kind.DEBIT: _of_side(lambda name: debit(f"x-{name}", 15)),
    Kind.REFUND: _ask(refund("d", 30)),
    Kind.REVOKE: _ask(revoke("S")),
    Kind.EXPIRE: EXPIRE,
    Kind.SETTLE: SETTLE,
    Kind.POLICY: _ask(SetPolicy()),
    Kind.GIVEN: _ask(transfer(UMBRA, 15)),
    Kind.RECEIVED: _received(40),
    Kind.HEARTBEAT: _of_side(lambda name: heartbeat(f"job-{name}", 2 * HOUR_MS)),
    Kind.USAGE: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 25)),
    Kind.FINAL: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 25, final=True)),
}


def _lot_that_is_over(world: Regions, pair: Pair) -> None:
    """A lot of 100 is over, but open, since usage of its time may still come; of it 40 are held and 20 were used."""
    world.do(pair.where(Kind.EXPIRE, ELSEWHERE), grant("E", 100, until=OVER, starts=0))
    world.do(EARLIER, grant("U", 100), tenant=UMBRA)
    world.meet()
    lease_ms = _until(world, STARTS - 100) if Kind.LAPSE in (pair.rival, pair.loser) else HOUR_MS
    world.do(pair.where(Kind.LAPSE), reserve("c", 40, lease_ms, job="train"))
    world.do(EARLIER, debit("d", 20))
    world.do(EARLIER, grant("L", 100, starts=OVER))
    world.exchange(START_MS + STABLE - world.now)


LOT_THAT_IS_OVER: Mapping[Kind, Act] = {
    Kind.GRANT: _of_side(lambda name: grant(f"N-{name}", 40)),
    Kind.HOLD: _ask(reserve("x", 15)),
    Kind.RENEW: _ask(renew("c", 2 * HOUR_MS)),
    Kind.CAPTURE: lambda world, name: world.do(name, _late_capture()),
    Kind.RELEASE: _ask(release("c")),
    Kind.LAPSE: LAPSE,
    Kind.DEBIT: _late("x", 30, OVER - 100),
    Kind.REFUND: _ask(refund("d", 20)),
    Kind.REVOKE: _ask(revoke("E")),
    Kind.EXPIRE: EXPIRE,
    Kind.POLICY: _ask(SetPolicy()),
    Kind.GIVEN: _ask(transfer(UMBRA, 15)),
    Kind.RECEIVED: _received(40),
    Kind.HEARTBEAT: _ask(heartbeat("train", 2 * HOUR_MS)),
    Kind.USAGE: _ask(usage("train", OVER - 100, OVER, 60)),
    Kind.FINAL: _ask(usage("train", OVER - 100, OVER, 60, final=True)),
}


def _late_capture() -> Command:
    late = capture("c", 60)
    return type(late)(late.reservation, late.amount, START_MS + OVER - 100)


def _shares(world: Regions, pair: Pair) -> None:
    """Each region has 30 of its share left, and a reservation and a debit of its own; a lot from before may be over."""
    world.do(EARLIER, grant("seed", 1))
    world.do(EARLIER, grant("U", 100), tenant=UMBRA)
    world.meet()
    for name, kind in ((EARLIER, pair.rival), (LATER, pair.loser)):
        if kind is Kind.EXPIRE:
            world.do(name, grant(f"E-{name}", 5, until=OVER))
    world.do(EARLIER, revoke("seed"))
    world.meet()
    world.do(EARLIER, ESCROW)
    world.do(EARLIER, grant("L", 100, starts=0))
    world.meet()
    for name, kind in ((EARLIER, pair.rival), (LATER, pair.loser)):
        lease_ms = _until(world, STARTS - 100) if kind is Kind.LAPSE else HOUR_MS
        world.do(name, reserve(f"c-{name}", 10, lease_ms, job=f"job-{name}"))
        world.do(name, debit(f"d-{name}", 10))
    world.exchange(START_MS + STABLE - world.now)


def _debt_of_a_region(world: Regions, pair: Pair) -> None:
    """Who is to settle owes 30 from before the escrow, and a lot of its own starts; the other has a share of 50."""
    debtor, other = (EARLIER, LATER) if pair.rival is Kind.SETTLE else (LATER, EARLIER)
    world.do(debtor, grant("S", 50, starts=STARTS))
    world.do(debtor, debit("d", 30, OnShortage.DEBT))
    world.do(debtor, ESCROW)
    world.meet()
    world.do(other, GrantCredit(50, START_MS + HOUR_MS, lot=LotId("L"), weights=((other, 1),)))
    world.meet()


SHARES: Mapping[Kind, Act] = {
    Kind.GRANT: _of_side(lambda name: grant(f"N-{name}", 40)),
    Kind.HOLD: _of_side(lambda name: reserve(f"x-{name}", 30)),
    Kind.RENEW: _of_side(lambda name: renew(f"c-{name}", 2 * HOUR_MS)),
    Kind.CAPTURE: _of_side(lambda name: capture(f"c-{name}", 40)),
    Kind.RELEASE: _of_side(lambda name: release(f"c-{name}")),
    Kind.LAPSE: LAPSE,
    Kind.DEBIT: _of_side(lambda name: debit(f"x-{name}", 30)),
    Kind.REFUND: _of_side(lambda name: refund(f"d-{name}", 10)),
    Kind.REVOKE: _ask(revoke("L")),
    Kind.EXPIRE: EXPIRE,
    Kind.POLICY: _ask(SetPolicy()),
    Kind.GIVEN: _ask(transfer(UMBRA, 30)),
    Kind.RECEIVED: _received(30),
    Kind.HEARTBEAT: _of_side(lambda name: heartbeat(f"job-{name}", 2 * HOUR_MS)),
    Kind.USAGE: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 40)),
    Kind.FINAL: _of_side(lambda name: usage(f"job-{name}", 1_500, 1_600, 40, final=True)),
    Kind.MOVE: _given_up(20),
}

ESCROW = SetPolicy(admission=Admission.ESCROW)

THREE = (ELSEWHERE, EARLIER, LATER)

SCENES = (
    Scene("the same credit", _spending, SPENDING),
    Scene(
        "the same credit, and a hold that falls short is void",
        _void_if_short,
        SPENDING,
        lambda pair: pair.loser is Kind.HOLD,
    ),
    Scene("the same reservation", _one_claim, ONE_CLAIM, lambda pair: not pair.both(Kind.LAPSE)),
    Scene("the same name", _some_credit, ONE_NAME),
    Scene("the same time of a job", _reserved, ONE_TIME),
    Scene("the same job, for which nothing was reserved", _some_credit, ONE_JOB),
    Scene(
        "a lot that is over",
        _lot_that_is_over,
        LOT_THAT_IS_OVER,
        lambda pair: bool({pair.rival, pair.loser} & {Kind.EXPIRE, Kind.REVOKE}) and not pair.both(Kind.EXPIRE),
        THREE,
        ACT,
    ),
    Scene(
        "shares of one grant, under escrow",
        _shares,
        SHARES,
        lambda pair: Kind.MOVE in (pair.rival, pair.loser),
        at=ACT,
    ),
    Scene(
        "a debt of one region, under escrow",
        _debt_of_a_region,
        {Kind.SETTLE: SETTLE, Kind.MOVE: _given_up(20)},
        lambda pair: pair.rival is not pair.loser,
        at=ACT,
    ),
    Scene(REPAYING, _debt, DEBT, names=THREE, at=ACT),
)
