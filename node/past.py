"""The checkpointed past of one tenant, read from its rows: a cell at a time, or in order, and never all at once."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ledger.cells import DEFAULT_POLICY, KeyUse
from ledger.claim import Claim
from ledger.ids import ClaimId, JobId, Key, Position, TenantId
from ledger.job import Job
from ledger.operation import Policy
from ledger.posting import DEBT, TOTALS
from node.store.kv import Overlay, Row, Table
from node.store.rows import (
    State,
    StoredContest,
    after_prefix,
    decode_claim,
    decode_contest,
    decode_history,
    decode_job,
    decode_key_use,
    decode_policy,
    history_key,
    job_key,
    owed_prefix,
    place_of,
    read,
    tenant_key,
)

_TENANTS_ROWS: Final = (
    Table.STATES,
    Table.LOTS,
    Table.OPEN,
    Table.CLOSED,
    Table.KEYS,
    Table.RUNNING,
    Table.RESTING,
    Table.POLICIES,
    Table.HISTORY,
    Table.CONFLICTS,
    Table.UNSETTLED,
    Table.OWED,
)
"""What is kept tenant by tenant."""

T = TypeVar("T")


class StoredPast:
    """The rows of a tenant."""

    __slots__ = ("_overlay", "_prefix", "_stop", "_tenant")

    def __init__(self, overlay: Overlay, tenant: TenantId) -> None:
        self._overlay = overlay
        self._tenant = tenant
        self._prefix = tenant_key(tenant)
        self._stop = after_prefix(self._prefix)

    def claim(self, claim: ClaimId) -> Claim | None:
        """A claim that has ended; those that are open or owe are in memory."""
        row = self._overlay.get(Table.CLOSED, key := self._prefix + claim.encode())
        return None if row is None else read(decode_claim, Table.CLOSED, key, row)

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used a key first."""
        row = self._overlay.get(Table.KEYS, name := self._prefix + key.encode())
        return None if row is None else read(decode_key_use, Table.KEYS, name, row)

    def job(self, job: JobId) -> Job | None:
        """A job, whether or not its reports say that it runs."""
        name = self._prefix + job_key(job)
        for table in (Table.RUNNING, Table.RESTING):
            row = self._overlay.get(table, name)
            if row is not None:
                return read(decode_job, table, name, row)
        return None

    def contest(self, place: Position) -> StoredContest | None:
        """What is kept of the conflict of the operation at a place."""
        row = self._overlay.get(Table.CONFLICTS, key := history_key(self._tenant, place))
        return None if row is None else read(decode_contest, Table.CONFLICTS, key, row)

    def all(self, table: Table, decode: Callable[[bytes], T]) -> Iterator[T]:
        """The tenant's values in a table, in the order of their keys."""
        for key, value in self._overlay.rows(table, self._prefix, self._stop):
            yield read(decode, table, key, value)

    def ended_claims(self, after: ClaimId | None, limit: int) -> list[Claim]:
        """Claims that have ended, by id."""
        start = self._prefix if after is None else self._prefix + after.encode() + b"\0"
        rows = self._overlay.scan(Table.CLOSED, start, self._stop, limit)
        return [read(decode_claim, Table.CLOSED, key, value) for key, value in rows]

    def policy(self) -> Policy:
        """The tenant's rules."""
        return next((policy for _, policy in self.policies(1)), DEFAULT_POLICY)

    def policies(self, at_most: int) -> list[tuple[Position, Policy]]:
        """The rules that the tenant has had and the places of their entries, the latest first."""
        rows = self._overlay.scan(Table.POLICIES, self._prefix, self._stop, at_most, reverse=True)
        return [
            (place_of(key.removeprefix(self._prefix)), read(decode_policy, Table.POLICIES, key, value))
            for key, value in rows
        ]

    def owed_for(self, claim: ClaimId | None) -> Iterator[Position]:
        """The places of losers for which a claim owed more than recorded; None: for which the tenant did."""
        prefix = owed_prefix(self._tenant, claim)
        for key, _ in self._overlay.rows(Table.OWED, prefix, after_prefix(prefix)):
            yield place_of(key.removeprefix(prefix))

    def places(self, after: Position) -> Iterator[tuple[Position, int]]:
        """The places of entries behind `after`, in canonical order, each with its sort."""
        start = history_key(self._tenant, after)
        # A row has the places of one checkpoint: the row before may go on behind `after`.
        rows = self._overlay.scan(Table.HISTORY, self._prefix, start, 1, reverse=True)
        yield from self._places_in(rows, after)
        for row in self._overlay.rows(Table.HISTORY, start, self._stop):
            yield from self._places_in([row], after)

    def _places_in(self, rows: list[Row], after: Position) -> Iterator[tuple[Position, int]]:
        for key, value in rows:
            for hlc, region, boot, seq, sort in read(decode_history, Table.HISTORY, key, value):
                place = Position(hlc, region, boot, seq)
                if place > after:
                    yield place, sort

    def clear(self) -> None:
        """Delete all rows of the tenant."""
        for table in _TENANTS_ROWS:
            for key, _ in self._overlay.rows(table, self._prefix, self._stop):
                self._overlay.delete(table, key)


def stored_debt(state: State) -> int:
    """What a tenant owes, by its row."""
    return -int(state.totals[TOTALS.index(DEBT)])
