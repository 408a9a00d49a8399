"""The report of a conflict, as every region with the same entries shows it.

Its id is derived from the loser's dot and the kind; a transfer can be a loser in both accounts, and the one in the
receiver's is told apart. Its life:

    detected --books put right--> compensated --debt paid--> repaid
        `---- canonical order is as recorded after all ----> cleared

``detected_at`` is the time of the first compensating entry, the moment at which the region that accepted the loser
found it out; it is None until that entry is known. Whether somebody has seen to it is no state: it can be acknowledged
in any, by the name that it has. Nothing in a report depends on where or when it is asked for.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from conflict.contest import Acknowledgement, Amends, Contest
from conflict.detect import Kind, new_debt
from conflict.rivals import Rivals
from ledger.ids import ClaimId, Position, TenantId
from ledger.operation import Capture, Debit, Heartbeat, Hold, Lapse, Refund, Release, Renew, Transfer, Usage
from ledger.posting import LOT_PREFIX, Outcome, Postings, subtract
from replication.clock import Dot, VectorClock
from replication.filed import Filed

MAX_SEQ_DIGITS: Final = 16
_RECEIVED: Final = ".received"


class State(StrEnum):
    """Where a conflict is in its life."""

    DETECTED = "detected"
    COMPENSATED = "compensated"
    REPAID = "repaid"
    CLEARED = "cleared"


class Party(Struct, frozen=True, gc=False):
    """One operation of a conflict: who, when, knowing what, and what it was."""

    replica: str
    seq: int
    region: str
    hlc: int
    clock: VectorClock
    kind: str
    key: str | None
    claim: str | None
    amount: int | None
    outcome: str


class LotShare(Struct, frozen=True, gc=False):
    """What the loser posted on a lot, as recorded and in canonical order."""

    lot: str
    recorded: int
    canonical: int


class Report(Struct, frozen=True, gc=False):
    """One conflict, whole."""

    id: str
    kind: Kind
    state: State
    tenant: TenantId
    loser: Party
    canonical_outcome: Outcome
    rivals: tuple[Party, ...]
    rival_count: int
    lots: tuple[LotShare, ...]
    amount: int
    debt: int
    compensations: tuple[Amends, ...]
    detected_at: int | None
    acknowledged: tuple[Acknowledgement, ...]


_KINDS: Final = frozenset(kind.value for kind in Kind)


def report_id(loser: Position, kind: Kind, *, is_receipt: bool = False) -> str:
    """The name of a conflict: the loser's dot and the kind, readable and fit for a URL."""
    return f"{loser.region}.{loser.boot}.{loser.seq}.{kind}{_RECEIVED if is_receipt else ''}"


def loser_in(report: str) -> tuple[Dot, bool] | None:
    """The loser that the id of a report names, and whether as a receipt; None if it is no such id."""
    match report.removesuffix(_RECEIVED).split("."):
        case [region, boot, seq, kind] if seq.isdecimal() and len(seq) <= MAX_SEQ_DIGITS and kind in _KINDS:
            return Dot(f"{region}/{boot}", int(seq)), report.endswith(_RECEIVED)
        case _:
            return None


def build_report(contest: Contest, rivals: Rivals, first: Iterable[Filed], owed_now: int) -> Report:
    """Tell one conflict; `first` are the entries of the first rivals, `owed_now` what is still owed of its debt."""
    loser, recorded, canonical = contest.loser, contest.loser.postings, contest.canonical.postings
    kind = contest.kind(rivals)
    debt = new_debt(loser, contest.canonical)
    change = subtract(canonical, recorded)
    lots = tuple(
        LotShare(account.removeprefix(LOT_PREFIX), recorded.get(account, 0), canonical.get(account, 0))
        for account in sorted(change)
        if account.startswith(LOT_PREFIX)
    )
    return Report(
        id=report_id(loser.position, kind, is_receipt=loser.is_receipt),
        kind=kind,
        state=_state(contest, debt, owed_now),
        tenant=loser.tenant,
        loser=party(loser),
        canonical_outcome=contest.canonical.outcome,
        rivals=tuple(party(rival) for rival in first),
        rival_count=rivals.count,
        lots=lots,
        amount=debt or _moved(change),
        debt=debt,
        compensations=tuple(contest.amends),
        detected_at=contest.amends[0].position.now if contest.amends else None,
        acknowledged=tuple(said for said in contest.acknowledged if said.report == kind),
    )


def party(filed: Filed) -> Party:
    """An entry as a report names it."""
    entry = filed.entry
    return Party(
        entry.replica,
        entry.seq,
        filed.position.region,
        entry.hlc,
        filed.clock,
        kind_of(filed),
        entry.key,
        claim_of(filed),
        getattr(entry.content, "amount", None),
        filed.outcome,
    )


def kind_of(filed: Filed) -> str:
    """The operation's name, as the log tags it."""
    return str(filed.entry.content.__struct_config__.tag)


def claim_of(filed: Filed) -> ClaimId | None:
    """The claim that an entry names, if it names one."""
    match filed.operation:
        case Hold() | Debit() | Capture() | Release() | Renew() | Lapse() | Refund() | Transfer() as operation:
            return operation.claim
        case Usage() | Heartbeat() as operation:
            return operation.claim
        case _:
            return None


def _moved(change: Postings) -> int:
    """How much credit came from or went to other accounts than recorded."""
    return sum(amount for amount in change.values() if amount > 0)


def _state(contest: Contest, debt: int, owed_now: int) -> State:
    if contest.open_difference:
        return State.DETECTED
    if contest.is_cleared:
        return State.CLEARED
    return State.REPAID if debt and not owed_now else State.COMPENSATED
