"""Safeguards, each switched off on purpose: a test of the tests. With all of them on no check complains.

Each mutation replaces one small piece of production code, or of the host that the simulator puts around it, with what
somebody might write who did not know why the piece is there. Some seed must then break a promise.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from msgspec import structs

from conflict.compensate import compensations
from conflict.contest import Amends, Contest
from conflict.rivals import RivalIndex
from ledger.account import Account
from ledger.cells import NOTHING, Effect, KeyUse
from ledger.claim import Claim, ClaimState
from ledger.event_time import EventTimes
from ledger.ids import Key, Position
from ledger.lot import Lot, SpendingPlace, spending_place
from ledger.operation import Lapse, Operation
from ledger.posting import Outcome
from ledger.timeline import Timeline
from node.book import LedgerBook
from node.compensating import Compensating
from node.lowwater import LowWater
from node.past import StoredPast
from node.region import Region
from node.store.kv import Overlay, Table
from node.store.rows import NO_OPERATION, OPERATION
from replication.clock import Hlc
from replication.delivery import Delivery
from replication.filed import Filed
from replication.gossip import Session
from tests.simulation.cluster import Result, simulate
from tests.simulation.ledger_mutations import LEDGER_MUTATIONS
from tests.simulation.node import SimulatedNode
from tests.simulation.node_mutations import NODE_MUTATIONS
from tests.simulation.safeguard import Safeguard
from tests.simulation.scenario import draw


def _reply_before_commit() -> AbstractContextManager[object]:
    def at_once(self: SimulatedNode, commit: int, action: Callable[[], None]) -> None:  # noqa: ARG001
        action()

    return patch.object(SimulatedNode, "when_durable", at_once)


def _tell_before_commit() -> AbstractContextManager[object]:
    applied = property(lambda self: self.clock, lambda self, value: None)  # noqa: ARG005
    return patch.object(Region, "durable", applied, create=True)


def _torn_batches() -> AbstractContextManager[object]:
    stop = SimulatedNode.stop

    def half(self: SimulatedNode, why: str, *, flight_lands: bool) -> None:
        flight = self._flight
        if flight is not None and not flight_lands:
            self.disk.rows.write(flight.batch[::2])
        stop(self, why, flight_lands=flight_lands)

    return patch.object(SimulatedNode, "stop", half)


def _no_causal_check() -> AbstractContextManager[object]:
    apply = Delivery._apply

    def any_order(self: Delivery, entry: Any, *arguments: Any) -> Any:
        clock = {**dict.fromkeys(entry.delta, 2**60), **self.clock}
        seen = {replica: max(count, entry.delta.get(replica, 0)) for replica, count in clock.items()}
        mine, self.clock = self.clock, seen
        try:
            return apply(self, entry, *arguments)
        finally:
            mine[entry.replica] = self.clock.get(entry.replica, mine.get(entry.replica, 0))
            self.clock = mine

    return patch.object(Delivery, "_apply", any_order)


def _same_log_after_restart() -> AbstractContextManager[object]:
    return patch.object(SimulatedNode, "boot", lambda _: "b001")


def _no_duplicate_rule() -> AbstractContextManager[object]:
    return patch.object(
        Account, "apply", lambda self, operation, place, key, request: self.accept(operation, place, key, request)
    )


def _no_taken_names() -> AbstractContextManager[object]:
    return patch.object(Account, "_is_taken", lambda _, __: False)


def _keys_forgotten_on_disk() -> AbstractContextManager[object]:
    def nothing(self: StoredPast, key: Key) -> KeyUse | None:  # noqa: ARG001
        return None

    return patch.object(StoredPast, "key_use", nothing)


@contextmanager
def _compensate_for_others() -> Iterator[object]:
    def everyones(owed: list[Contest], region: str, *limits: int) -> Any:
        for region in sorted({contest.loser.position.region for contest in owed}):
            yield from compensations(owed, region, *limits)

    with (
        patch("node.compensating.compensations", everyones),
        patch.object(Compensating, "_owes", lambda _, __, contest, ___: not contest.is_settled) as off,
    ):
        yield off


def _amends_not_counted() -> AbstractContextManager[object]:
    def nothing(self: Contest, amends: Amends) -> None:
        """What was posted is not remembered."""

    return patch.object(Contest, "add", nothing)


def _no_compensation() -> AbstractContextManager[object]:
    return patch.object(Compensating, "_owes", lambda *_: False)


def _promise_without_ceiling() -> AbstractContextManager[object]:
    def promise(self: Hlc, now_ms: int) -> int:
        self.latest = max(self.latest, now_ms << 16)
        return self.latest

    return patch.object(Hlc, "promise", promise)


def _ceiling_forgotten() -> AbstractContextManager[object]:
    made = Hlc.__init__

    def from_nothing(self: Hlc, ceiling: int = 0) -> None:  # noqa: ARG001
        made(self, 0)

    return patch.object(Hlc, "__init__", from_nothing)


def _promise_while_entries_come_back() -> AbstractContextManager[object]:
    return patch.object(Region, "_may_be_missed", property(lambda _: False))


def _deaf_clock() -> AbstractContextManager[object]:
    return patch.object(Hlc, "observe", lambda _, __: None)


def _no_drift_limit() -> AbstractContextManager[object]:
    apply = Delivery._apply

    def at_once(self: Delivery, entry: Any, sealed: bytes, digest: bytes, latest: int, delivered: Any) -> Any:  # noqa: ARG001
        return apply(self, entry, sealed, digest, 2**63, delivered)

    return patch.object(Delivery, "_apply", at_once)


def _frontier_without_clock() -> AbstractContextManager[object]:
    return patch("replication.stability.descends", lambda *_: True)


def _checkpoint_without_frontier() -> AbstractContextManager[object]:
    checkpoint = LedgerBook.checkpoint
    return patch.object(LedgerBook, "checkpoint", lambda self, frontier, most: checkpoint(self, frontier | 2**62, most))


def _low_water_too_high() -> AbstractContextManager[object]:
    return patch.object(LowWater, "left", lambda _, commit: 0 * commit)


def _no_refold() -> AbstractContextManager[object]:
    def at_the_end(self: Timeline[Any], entry: Any) -> None:
        account = self.account
        index = len(self._entries)
        while index and self._places[index - 1] > entry.position:
            index -= 1
        operation = entry.operation
        effect = (
            account.apply(operation, entry.position, entry.key, entry.request) if operation is not None else NOTHING
        )
        self._entries.insert(index, entry)
        self._places.insert(index, entry.position)
        self._effects.insert(index, effect)
        self._unseen = min(self._unseen, index)

    return patch.object(Timeline, "insert", at_the_end)


def _debt_not_repaid() -> AbstractContextManager[object]:
    return patch.object(Account, "_repay", lambda *_: None)


def _last_expiring_first() -> AbstractContextManager[object]:
    def reversed_(lot: Lot) -> SpendingPlace:
        place = spending_place(lot)
        return place._replace(expires_at=-place.expires_at)

    return patch("ledger.account.spending_place", reversed_)


def _lapse_whatever_was_renewed() -> AbstractContextManager[object]:
    def lapse(self: Account, lapse: Lapse) -> tuple[Outcome, Claim | None]:
        claim = self.claim(lapse.claim)
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        return Outcome.LAPSED, self._end(claim, ClaimState.LAPSED)

    return patch.object(Account, "_lapse", lapse)


def _hold_without_credit() -> AbstractContextManager[object]:
    return patch.object(Account, "available", lambda *_: 2**40)


def _available_without_debt() -> AbstractContextManager[object]:
    return patch.object(Account, "available", Account.live_credit)


def _endless_waiting() -> AbstractContextManager[object]:
    def keep(self: Delivery, entry: Any, sealed: bytes, applied: int, delivered: Any) -> bool:  # noqa: ARG001
        self._waiting.setdefault(entry.replica, {})[entry.seq] = entry, sealed
        return True

    return patch.object(Delivery, "_keep", keep)


def _no_frame_checksum() -> AbstractContextManager[object]:
    return patch("replication.codec.crc32", lambda _: 0)


def _rivals_forgotten() -> AbstractContextManager[object]:
    def none(self: RivalIndex, loser: Any, at_most: int) -> tuple[list[Position], int]:  # noqa: ARG001
        return [], 0

    return patch.object(RivalIndex, "of", none)


def _undone_wrongly() -> AbstractContextManager[object]:
    undo = Account.undo

    def but_for_keys(self: Account, effect: Any) -> None:
        undo(self, structs.replace(effect, changes=tuple(c for c in effect.changes if c.cell != "key")))

    return patch.object(Account, "undo", but_for_keys)


def _no_anti_entropy() -> AbstractContextManager[object]:
    return patch.object(Session, "_ask", lambda *_: [])


def _happened_when_accepted() -> AbstractContextManager[object]:
    def of(self: EventTimes, operation: Operation, accepted: int) -> int:  # noqa: ARG001
        return accepted

    return patch.object(EventTimes, "of", of)


def _effects_before_causes() -> AbstractContextManager[object]:
    return patch.object(EventTimes, "_uses", lambda _, __, at: at)


def _duplicates_counted_from_disk() -> AbstractContextManager[object]:
    def by_what_they_are(filed: Filed, effect: Effect) -> int:  # noqa: ARG001
        return NO_OPERATION if filed.operation is None else OPERATION

    return patch("node.book._sort", by_what_they_are)


def _settled_twice() -> AbstractContextManager[object]:
    return patch.object(Region, "accepted_under", lambda *_: None)


def _snapshots_in_memory_only() -> AbstractContextManager[object]:
    put = Overlay.put

    def but_for_snapshots(self: Overlay, table: Table, key: bytes, value: bytes) -> None:
        if table is not Table.SNAPSHOTS:
            put(self, table, key, value)

    return patch.object(Overlay, "put", but_for_snapshots)


MUTATIONS: Final[dict[str, Safeguard]] = {
    "reply-before-commit": Safeguard("an answer waits for the commit of its entry", _reply_before_commit),
    "tell-before-commit": Safeguard("peers hear only of what is durable", _tell_before_commit),
    "torn-batches": Safeguard("a batch lands whole or not at all", _torn_batches),
    "no-causal-check": Safeguard("an entry waits for what it had seen", _no_causal_check),
    "same-log-after-restart": Safeguard("every boot opens a log of its own", _same_log_after_restart),
    "no-duplicate-rule": Safeguard("a key that was used earlier has no second effect", _no_duplicate_rule),
    "no-taken-names": Safeguard("a lot or claim that exists is not made again", _no_taken_names),
    "keys-forgotten-on-disk": Safeguard("checkpointed keys are looked up", _keys_forgotten_on_disk),
    "compensate-for-others": Safeguard("a region compensates its own operations only", _compensate_for_others),
    "amends-not-counted": Safeguard("what was posted already is subtracted", _amends_not_counted),
    "no-compensation": Safeguard("the books are put right", _no_compensation),
    "promise-without-ceiling": Safeguard("nothing above the durable ceiling is promised", _promise_without_ceiling),
    "ceiling-forgotten": Safeguard("a boot starts its clock at the ceiling on disk", _ceiling_forgotten),
    "promise-while-entries-come-back": Safeguard(
        "nothing is promised while own entries that were damaged come back", _promise_while_entries_come_back
    ),
    "deaf-clock": Safeguard("the hybrid clock is greater than all it has seen", _deaf_clock),
    "no-drift-limit": Safeguard("entries far ahead of our clock wait", _no_drift_limit),
    "frontier-without-clock": Safeguard("a promise counts when its clock is covered", _frontier_without_clock),
    "checkpoint-without-frontier": Safeguard("only what is stable is checkpointed", _checkpoint_without_frontier),
    "low-water-too-high": Safeguard(
        "the journal is replayed from the first entry not checkpointed", _low_water_too_high
    ),
    "no-refold": Safeguard("what lies behind a late arrival is folded again", _no_refold),
    "debt-not-repaid": Safeguard("debt is repaid before and after every operation", _debt_not_repaid),
    "last-expiring-first": Safeguard("the lot that expires first pays first", _last_expiring_first),
    "lapse-whatever-was-renewed": Safeguard(
        "a renewal beats a sweep that had not seen it", _lapse_whatever_was_renewed
    ),
    "hold-without-credit": Safeguard("a hold needs available credit", _hold_without_credit),
    "available-without-debt": Safeguard("debt counts against what is available", _available_without_debt),
    "endless-waiting": Safeguard("what waits for its causes is bounded", _endless_waiting),
    "no-frame-checksum": Safeguard("a frame changed on its way is refused", _no_frame_checksum),
    "rivals-forgotten": Safeguard("a report names who the loser lost to", _rivals_forgotten),
    "keys-not-undone": Safeguard("an operation folded again is first undone whole", _undone_wrongly),
    "no-anti-entropy": Safeguard("what was lost on the way is asked for", _no_anti_entropy),
    "happened-when-accepted": Safeguard("late usage counts from when it happened", _happened_when_accepted),
    "effects-before-causes": Safeguard("usage of a hold happens no earlier than the hold", _effects_before_causes),
    "duplicates-counted-from-disk": Safeguard(
        "a checkpointed duplicate takes no part in event order", _duplicates_counted_from_disk
    ),
    "settled-twice": Safeguard("a finding is settled once, however often that is asked for", _settled_twice),
    "snapshots-in-memory-only": Safeguard(
        "a snapshot is on disk before its scheduler is told so", _snapshots_in_memory_only
    ),
    **LEDGER_MUTATIONS,
    **NODE_MUTATIONS,
}


def caught_by(name: str, seed: int) -> Result:
    """What comes of a seed with this safeguard off."""
    with MUTATIONS[name].off():
        return simulate(draw(seed))


def first_caught(name: str, seeds: Iterable[int]) -> Result | None:
    """The first of the seeds that breaks a promise with this safeguard off, or None."""
    results = (caught_by(name, seed) for seed in seeds)
    return next((result for result in results if result.failure is not None), None)
