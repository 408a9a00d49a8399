"""Acknowledging a conflict: somebody says that it was seen to, and every region shows who, when and what they said.

What says so is an entry of the tenant's log that does nothing to the account. Its idempotency key counts within the
conflict: it neither uses up a key of the tenant's, so that no request can be lost to it, nor is lost to one.
"""

from typing import Final

from conflict.contest import MAX_ACKNOWLEDGEMENTS
from ledger.command import AcknowledgeConflict, fingerprint
from ledger.ids import Key
from ledger.operation import Acknowledge
from ledger.refusal import Reason, Refusal, invalid, not_found
from node.region import Accepted, Region

_OTHER_REQUEST: Final = "the idempotency key was used for another acknowledgement of the conflict; take a new key"


def acknowledge(region: Region, command: AcknowledgeConflict, key: Key, now: int) -> Accepted | Refusal:
    """Acknowledge a conflict at `now` (ms); again, if somebody has before."""
    name = command.conflict
    found = region.conflicts.contested(name, now)
    if found is None:
        return not_found("conflict", name)
    book, contest = found
    request = fingerprint(command)
    for said in contest.acknowledged:
        if said.key == key:
            filed = region.journal.find(*said.dot)
            assert filed is not None, f"a conflict names {said.dot}, which the journal lacks"
            if filed.request != request:
                return Refusal(Reason.IDEMPOTENCY_MISMATCH, _OTHER_REQUEST, {"key": key})
            return Accepted(filed, replayed=True)
    report = region.conflicts.report(name, now)
    if report is None:
        return not_found("conflict", name)
    if len(contest.acknowledged) == MAX_ACKNOWLEDGEMENTS:
        return invalid("conflict", f"has been acknowledged {MAX_ACKNOWLEDGEMENTS} times, and no more is kept")
    loser = contest.loser.dot
    again = bool(report.acknowledged)
    content = Acknowledge(loser.replica, loser.seq, report.kind, command.by, command.note, again=again)
    return Accepted(region.remark(book, content, key, request, now), replayed=False)
