"""A tenant's rules on the wire: ``PUT policy`` and ``GET policy`` under ``/v1/tenants/{tenant}``."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from creditmesh.wire.field import MAX_AMOUNT, ReadReply, Reply, Request

Limit = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]


class OnOverspend(StrEnum):
    """What becomes of a reservation whose credit turns out to have been spent earlier elsewhere."""

    DEBT = "debt"
    REVOKE = "revoke"


class Admission(StrEnum):
    """What a region may spend."""

    OPTIMISTIC = "optimistic"
    ESCROW = "escrow"


class PolicyRequest(Request, frozen=True, kw_only=True):
    """``PUT policy``: the tenant's rules from now on, all of them: what is left out has its default."""

    on_overspend: OnOverspend = OnOverspend.DEBT
    """``debt``: it stands, and the tenant owes what is missing. ``revoke``: it is void."""
    admission: Admission = Admission.OPTIMISTIC
    """``optimistic``: all that the tenant has, as far as the region knows. ``escrow``: its own shares, which no other
    region can spend; grants are split into shares from then on."""
    max_held: Limit | None = None
    """No reservation is accepted with which more than this would be held; null: no limit."""
    debt_limit: Limit | None = None
    """No debit is accepted into a debt of more than this; null: no limit. Usage of jobs is never refused."""


class Policy(Reply, frozen=True, kw_only=True):
    """A tenant's rules."""

    on_overspend: OnOverspend
    admission: Admission
    max_held: int | None
    debt_limit: int | None


class PolicyReply(Policy, frozen=True, kw_only=True):
    """200: the rules as they were set."""

    since: int
    """From when on, by the hybrid clock."""
    region: str


class PolicyChange(Policy, frozen=True, kw_only=True):
    """Rules that were set once."""

    since: int
    entry: str
    """The log entry that set them, ``<replica>:<number>``."""


class PolicyView(ReadReply, frozen=True, kw_only=True):
    """``GET policy``: the rules that count now, and how they came to be, the latest first; at most 100 of them."""

    tenant: str
    policy: Policy
    history: list[PolicyChange]
