"""How a command is refused, and what decides that beside the tenant's own state.

A refusal leaves nothing behind: no entry, no key. It says why, in a word for programs and a sentence for people.
"""

from enum import StrEnum

from msgspec import Struct, field

from ledger.account import Account
from ledger.amount import MAX_TOTAL
from ledger.posting import USED
from ledger.pricing import NoPrice, RateCard


class Reason(StrEnum):
    """Why a command was refused."""

    INSUFFICIENT_CREDIT = "insufficient-credit"
    HELD_LIMIT = "held-limit"
    DEBT_LIMIT = "debt-limit"
    NOT_FOUND = "not-found"
    ALREADY_EXISTS = "already-exists"
    RESERVATION_ENDED = "reservation-ended"
    LOT_CLOSED = "lot-closed"
    START_UNKNOWN = "start-unknown"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    INVALID_REQUEST = "invalid-request"


class Refusal(Struct, frozen=True):
    """A command that was not accepted: the reason, a sentence for people, and fields for programs."""

    reason: Reason
    detail: str
    fields: dict[str, int | str | None] = {}


class Limits(Struct, frozen=True):
    """What a node accepts, from its configuration; times in ms."""

    max_lease_ms: int
    max_ahead_ms: int
    """How far in the future an event time may lie: clocks differ."""
    max_late_ms: int = 35 * 86_400_000
    """How far in the past an event time, or the start of a lot, may lie. What is older is closed."""
    heartbeat_lease_ms: int = 600_000
    """For how long a heartbeat extends a lease that does not say."""


class Terms(Struct, frozen=True):
    """What a command is judged by beside the tenant's own state."""

    limits: Limits
    rates: RateCard = field(default_factory=RateCard)
    region: str = ""
    """Where it is judged."""
    weights: tuple[tuple[str, int], ...] = ()
    """All regions, and how a grant is split over them for a tenant under escrow."""


def invalid(field: str, rule: str) -> Refusal:
    """A refusal that names the field at fault and the rule that it breaks."""
    return Refusal(Reason.INVALID_REQUEST, f"{field} {rule}", {"field": field, "rule": rule})


def unpriced(no: NoPrice) -> Refusal:
    """Work that has no price."""
    return invalid(no.field, no.rule)


def not_found(what: str, name: str, hint: str = "") -> Refusal:
    """There is no such thing, as far as this node knows."""
    return Refusal(Reason.NOT_FOUND, f"no such {what}{hint}", {what: name})


def event_time(at: int | None, now: int, limits: Limits, field: str = "at") -> int | Refusal:
    """When something happened: now, if nothing else is said; neither too far ahead nor too long ago."""
    if at is None:
        return now
    if at > now + limits.max_ahead_ms:
        return invalid(field, f"lies {at - now} ms in the future; at most {limits.max_ahead_ms} are taken")
    if at < now - limits.max_late_ms:
        return invalid(field, f"lies {now - at} ms in the past; at most {limits.max_late_ms} are taken")
    return at


def too_much_used(account: Account, amount: int) -> Refusal | None:
    """Usage that would bring the tenant's total out of bounds."""
    if account.totals[USED] + amount > MAX_TOTAL:
        return invalid("amount", f"would bring the tenant's usage above {MAX_TOTAL}")
    return None
