"""What clients ask for: an intent of the world, made into a command by what clients have been told until then.

Schedulers mostly ask for what makes sense: they renew and release what is open, as far as they know, and give back what
was used. Now and then one asks for what has to be refused.
"""

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Final

from msgspec import Struct

from ledger.claim import ClaimState, ClaimView
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import MAX_NAME, ClaimId, JobId, LotId, Position, TenantId
from ledger.operation import Admission, Grant, OnOverspend, Revoke, Transfer
from ledger.pricing import Work
from replication.entry import Entry
from tests.simulation.scenario import GPU, START_MS, Ask, Intent, Scenario

ESCROWED: Final = TenantId("e0")
ABOUT_CLAIMS: Final = frozenset({Ask.RENEW, Ask.CAPTURE, Ask.RELEASE, Ask.REFUND})

NAMES: Final = 5
"""How many names clients like so much that they meet."""

_SENSIBLE: Final = 0.9
_LATEST: Final = 8
_NOBODY: Final = ClaimId("nobody")


class Told(Struct, frozen=True):
    """What clients were told of a claim last, and by which region."""

    region: str
    place: Position
    view: ClaimView


class Memory:
    """What all clients together have been told of."""

    def __init__(self) -> None:
        self._claims: defaultdict[TenantId, dict[ClaimId, Told]] = defaultdict(dict)
        self._lots: defaultdict[TenantId, list[LotId]] = defaultdict(list)
        self._revoked: defaultdict[TenantId, list[LotId]] = defaultdict(list)

    def hear(self, entry: Entry, region: str) -> None:
        """An answer has come: the entry that it is made from."""
        content, tenant = entry.content, entry.tenant
        match content:
            case Grant(lot=lot):
                self._lots[tenant].append(lot)
            case Transfer(name=name, to=to):
                self._lots[to].append(LotId(name))
            case Revoke(lot=lot):
                self._revoked[tenant].append(lot)
            case _:
                claim: ClaimId | None = getattr(content, "claim", None)
                if claim is not None and entry.result is not None:
                    known = self._claims[tenant].get(claim)
                    if known is None or known.place < entry.position:
                        self._claims[tenant][claim] = Told(region, entry.position, entry.result)

    def region_of(self, tenant: TenantId, claim: ClaimId) -> str | None:
        """Which region told of a claim."""
        told = self._claims[tenant].get(claim)
        return told.region if told is not None else None

    def claim_for(self, ask: Ask, tenant: TenantId, dice: Random, now: int) -> ClaimId | None:
        """One of the latest claims for which it makes sense to ask for this, or, rarely, any; None if there is none."""
        known = self._claims[tenant]
        if dice.random() < _SENSIBLE:
            names = [name for name, told in known.items() if _makes_sense(ask, told.view, now)]
        else:
            names = list(known)
        return dice.choice(names[-_LATEST:]) if names else None

    def captured(self, tenant: TenantId, claim: ClaimId) -> int:
        """How much a claim has used, as far as clients know; 1 if they know of nothing."""
        told = self._claims[tenant].get(claim)
        return max(1, told.view.captured) if told is not None else 1

    def lot(self, tenant: TenantId, dice: Random, *, is_revoked: bool) -> LotId:
        """One of the latest lots."""
        lots = self._revoked[tenant] if is_revoked else self._lots[tenant]
        return dice.choice(lots[-_LATEST:]) if lots else LotId("nothing")


def _makes_sense(ask: Ask, view: ClaimView, now: int) -> bool:
    if ask is Ask.REFUND:
        return view.captured > 0
    return view.state is ClaimState.OPEN and view.lease_until > now


class Asking:
    """Makes commands of intents."""

    def __init__(self, scenario: Scenario, memory: Memory) -> None:
        self._scenario = scenario
        self._memory = memory

    def opening(self, now: int) -> GrantCredit:
        """The first grant of a tenant, which nobody has a reason to refuse, and which lasts as long as anybody asks."""
        scenario = self._scenario
        return GrantCredit(scenario.opening, now + 2 * scenario.duration + 4 * scenario.skew_ms, priority=1)

    def command(self, ask: Ask, intent: Intent, number: int, tenant: TenantId, now: int) -> Command:
        """What a client asks for who wants this at `now`; `number` tells the requests of a batch apart."""
        return _Command(self._scenario, self._memory, Random(intent.choice + number), tenant, now).of(ask)


class _Command:
    """One command in the making. Times are true; nodes have their own."""

    def __init__(self, scenario: Scenario, memory: Memory, dice: Random, tenant: TenantId, now: int) -> None:
        self._scenario = scenario
        self._memory = memory
        self._dice = dice
        self._tenant = tenant
        self._now = now

    def of(self, ask: Ask) -> Command:
        """A command of this kind; where no claim is known for it, the one that would make one."""
        claim = self._memory.claim_for(ask, self._tenant, self._dice, self._now)
        match ask:
            case Ask.GRANT:
                return self._grant()
            case Ask.RENEW if claim is not None:
                return RenewLease(claim, self._lease_ms())
            case Ask.CAPTURE if claim is not None:
                return CaptureUsage(claim, self._amount(), self._at(), final=self._dice.random() < 0.4)
            case Ask.RELEASE if claim is not None:
                return ReleaseHold(claim)
            case Ask.REFUND if claim is not None:
                return RefundUsage(claim, self._dice.randint(1, self._memory.captured(self._tenant, claim)), self._at())
            case Ask.HOLD | Ask.RENEW | Ask.CAPTURE | Ask.RELEASE:
                return self._hold()
            case Ask.REVOKE:
                return RevokeLot(self._memory.lot(self._tenant, self._dice, is_revoked=False))
            case Ask.TRANSFER:
                return self._transfer()
            case Ask.POLICY:
                return self._policy()
            case Ask.HEARTBEAT:
                return self._heartbeat(claim)
            case Ask.USAGE:
                return self._usage(claim)
            case Ask.NONSENSE:
                return self._nonsense()
            case _:
                shortage = self._dice.choice([OnShortage.DEBT, OnShortage.REFUSE, OnShortage.REFUSE])
                return DebitUsage(self._amount(), self._at(), on_shortage=shortage)

    # -- what makes sense -------------------------------------------------------------------------------------------

    def _grant(self) -> GrantCredit:
        scenario, dice, now = self._scenario, self._dice, self._now
        weights = None
        if self._tenant == ESCROWED and dice.random() < 0.3:
            some = dice.sample(scenario.regions, dice.randint(1, len(scenario.regions)))
            weights = tuple((region, dice.randint(0, 3)) for region in sorted(some))
        return GrantCredit(
            amount=scenario.largest_amount + 2 * self._amount(),
            expires_at=now + scenario.lot_ms // 4 + dice.randrange(scenario.lot_ms),
            starts_at=dice.choice([None, None, None, now - scenario.beat, now + scenario.lot_ms // 8]),
            priority=dice.randrange(2),
            lot=LotId(f"lot{dice.randrange(NAMES)}") if dice.random() < 0.2 else None,
            weights=weights,
        )

    def _hold(self) -> Reserve:
        dice = self._dice
        asked: int | Estimate = self._amount()
        if dice.random() < 0.15:
            work = Work(GPU, dice.randint(1, 4), dice.choice([None, None, "high"]))
            asked = Estimate(work, dice.randint(30, 119))
        named = ClaimId(f"claim{dice.randrange(NAMES)}") if dice.random() < 0.15 else None
        return Reserve(asked, self._lease_ms(), named, self._job() if dice.random() < 0.7 else None)

    def _transfer(self) -> TransferCredit:
        scenario, dice = self._scenario, self._dice
        others = [TenantId(f"t{number}") for number in range(scenario.tenants)]
        if scenario.escrow:
            others.append(ESCROWED)
        to = dice.choice([other for other in others if other != self._tenant] or [self._tenant])
        expires_at = self._now + dice.randrange(1, scenario.lot_ms) if dice.random() < 0.3 else None
        return TransferCredit(to, self._amount(), expires_at, dice.randrange(2))

    def _policy(self) -> SetPolicy:
        scenario, dice = self._scenario, self._dice
        is_escrowed = scenario.escrow and dice.random() < 0.6
        return SetPolicy(
            OnOverspend.REVOKE if dice.random() < 0.6 and not is_escrowed else OnOverspend.DEBT,
            Admission.ESCROW if is_escrowed else Admission.OPTIMISTIC,
            2 * scenario.largest_amount if dice.random() < 0.3 else None,
            scenario.largest_amount if dice.random() < 0.5 else None,
        )

    def _heartbeat(self, claim: ClaimId | None) -> ReportHeartbeat:
        dice = self._dice
        named = claim if dice.random() < 0.3 else None
        lease_ms = self._lease_ms() if dice.random() < 0.5 else None
        return ReportHeartbeat(self._job(), self._at(), named, lease_ms, started=dice.random() < 0.5)

    def _usage(self, claim: ClaimId | None) -> ReportUsage:
        """Some time up to now, or up to an earlier time, which may overlap with what was reported before."""
        scenario, dice = self._scenario, self._dice
        end = dice.choice([self._now, self._now - dice.randrange(scenario.beat), self._earlier()])
        lasts = dice.randrange(3 * scenario.beat)
        final = dice.random() < 0.25
        cost: int | Work | None = self._amount()
        if lasts < 4 * 60_000 and dice.random() < 0.2:
            cost = Work(GPU, dice.randint(1, 3))
        elif final and dice.random() < 0.3:
            cost = None
        start = None if dice.random() < 0.15 else end - lasts
        return ReportUsage(self._job(), end, start, cost, claim if dice.random() < 0.3 else None, final)

    # -- what does not ----------------------------------------------------------------------------------------------

    def _nonsense(self) -> Command:
        """What has to be refused, if the clock of whoever is asked is about right."""
        return self._dice.choice(_NONSENSE)(self)

    def _unheard_of(self) -> Command:
        return self._one_of(ReleaseHold(_NOBODY), RefundUsage(_NOBODY, 1), RevokeLot(LotId("nothing")))

    def _untimely(self) -> Command:
        """Usage of tomorrow, or of long ago."""
        limits, beat = self._scenario.limits, self._scenario.beat
        ahead = self._now + limits.max_ahead_ms + self._dice.randint(1, 4 * beat)
        at = self._dice.choice([ahead, self._now - limits.max_late_ms - self._dice.randint(1, 4 * beat)])
        claim = self._memory.claim_for(Ask.CAPTURE, self._tenant, self._dice, self._now) or _NOBODY
        return self._one_of(
            DebitUsage(1, at, on_shortage=OnShortage.DEBT),
            CaptureUsage(claim, 1, at),
            RefundUsage(claim, 1, at),
            ReportHeartbeat(self._job(), at),
            ReportUsage(self._job(), at, at - beat, 1),
        )

    def _too_long_a_lease(self) -> Command:
        lease_ms = self._scenario.limits.max_lease_ms + self._dice.randint(1, 10)
        claim = self._memory.claim_for(Ask.RENEW, self._tenant, self._dice, self._now) or _NOBODY
        return self._one_of(
            Reserve(1, lease_ms), RenewLease(claim, lease_ms), ReportHeartbeat(self._job(), lease_ms=lease_ms)
        )

    def _empty_grant(self) -> Command:
        """Credit that is over before it begins, that began too long ago, or that nobody is given."""
        now, lot_ms = self._now, self._scenario.lot_ms
        too_early = now - self._scenario.limits.max_late_ms - self._dice.randint(1, lot_ms)
        lately = now - self._dice.randint(1, 5 * self._scenario.beat)
        return self._one_of(
            GrantCredit(5, lately),
            GrantCredit(5, lately, starts_at=lately - self._scenario.beat),
            GrantCredit(5, now + lot_ms, starts_at=now + lot_ms + self._dice.randrange(2)),
            GrantCredit(5, now + lot_ms, starts_at=too_early),
            GrantCredit(5, now + lot_ms, weights=(("atlantis", 1),)),
            GrantCredit(5, now + lot_ms, weights=((self._scenario.regions[0], 0),)),
            GrantCredit(5, now + lot_ms, lot=LotId("l" * MAX_NAME), weights=((self._scenario.regions[0], 1),)),
        )

    def _more_than_was_used(self) -> Command:
        claim = self._memory.claim_for(Ask.REFUND, self._tenant, self._dice, self._now) or _NOBODY
        return RefundUsage(claim, self._memory.captured(self._tenant, claim) + self._dice.randint(1, 3))

    def _revoked_again(self) -> Command:
        return RevokeLot(self._memory.lot(self._tenant, self._dice, is_revoked=True))

    def _contradiction(self) -> Command:
        now, beat = self._now, self._scenario.beat
        return self._one_of(
            SetPolicy(OnOverspend.REVOKE, Admission.ESCROW),
            TransferCredit(self._tenant, 1),
            TransferCredit(TenantId("nobody"), 1),
            TransferCredit(TenantId("t0"), 1, now - self._dice.randrange(beat)),
            ReportUsage(self._job(), now - beat, now, 1),
            ReportUsage(self._job(), now - beat, now - beat, 1),
        )

    def _without_a_price(self) -> Command:
        work = self._dice.choice([Work("abacus", 1), Work(GPU, 1, "royal")])
        return self._one_of(Reserve(Estimate(work, 60), 1), ReportUsage(self._job(), self._now, self._now - 1, work))

    def _more_than_there_is(self) -> Command:
        much = 100 * self._scenario.opening
        return self._one_of(Reserve(much, 1), DebitUsage(much, self._at()), TransferCredit(TenantId("t0"), much))

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _one_of(self, *commands: Command) -> Command:
        return self._dice.choice(commands)

    def _amount(self) -> int:
        return self._dice.randint(1, self._scenario.largest_amount)

    def _lease_ms(self) -> int:
        return self._dice.randint(self._scenario.lease_ms // 4, self._scenario.lease_ms)

    def _job(self) -> JobId:
        return JobId(f"job{self._dice.randrange(NAMES)}")

    def _at(self) -> int | None:
        """When usage happened: now, mostly, or earlier, or a little later, by a clock that is ahead."""
        late, ahead = self._earlier(), self._now + self._dice.randint(0, self._scenario.limits.max_ahead_ms)
        return self._dice.choice([None, None, None, None, late, late, ahead])

    def _earlier(self) -> int:
        """Since the tenant was given anything, or shortly before."""
        return self._dice.randint(START_MS - self._scenario.beat, self._now)


_NONSENSE: Final[tuple[Callable[[_Command], Command], ...]] = (
    _Command._unheard_of,
    _Command._untimely,
    _Command._untimely,
    _Command._too_long_a_lease,
    _Command._empty_grant,
    _Command._more_than_was_used,
    _Command._revoked_again,
    _Command._contradiction,
    _Command._without_a_price,
    _Command._more_than_there_is,
)
