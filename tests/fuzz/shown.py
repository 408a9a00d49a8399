"""All that a node can be asked about a tenant, asked: what is held can be shown, and is what the books say."""

from contextlib import suppress

import msgspec

from creditmesh import wire
from ledger.account import Account
from ledger.amount import MAX_TIME_MS
from ledger.command import Command, ReportHeartbeat, ReportUsage
from ledger.ids import Position, TenantId
from ledger.rules import Rules
from ledger.statement import Statement
from ledger.timeline import BEGINNING
from node.api import replies
from node.api.replies import OtherEntry
from node.api.writes import WRITES
from node.audit import canonical_books
from node.history import History
from node.reconcile import Reconciliation, reconcile, standing
from node.region import Accepted, Region
from replication.clock import MAX_HLC
from replication.entry import hash_of, open_sealed, seal

END = Position(MAX_HLC + 1, "", "", 0)
_MOST_ENTRIES = 10_000
_MOST_POLICIES = 100
_forms = (msgspec.json.Encoder().encode, msgspec.msgpack.Encoder().encode)


def show_everything(
    region: Region, tenant: TenantId, now: int, command: Command | None = None, answer: Accepted | None = None
) -> None:
    """Ask for all there is of a tenant, and compare its state with all its entries folded anew."""
    if command is not None and answer is not None:
        with suppress(OtherEntry):
            _show(_reply_to(command, answer, region.settings.region))
    book = region.books.existing(tenant, now)
    assert book is not None
    _show(replies.balance_fields(book.account, now, region.settings.region))
    _show(replies.all_lots(book.account))
    _show(replies.debt_of(tenant, book.account))
    for claim in list(book.account.claims.values()):
        if claim.is_reservation:
            _show(replies.reservation_fields(tenant, claim))
    _show([replies.policy_change(filed, policy) for filed, policy in book.policies(_MOST_POLICIES)])
    folded = Account(Rules())
    for filed in book.entries(BEGINNING, _MOST_ENTRIES):
        sealed = seal(filed.entry)
        assert open_sealed(sealed)[0] == filed.entry, "an entry that no node would take"
        _show(replies.exported(filed, hash_of(sealed)))
        if filed.operation is not None:
            folded.apply(filed.operation, filed.position, filed.key, filed.request)
    assert canonical_books(folded) == canonical_books(book.account), "not what its entries come to"
    _show_history(History(book), now)
    for report in region.conflicts.reports(tenant, END, now):
        _show(replies.conflict(report))
        assert region.conflicts.report(report.id, now) == report


def show_acknowledgement(answer: Accepted, conflict: str, region: str) -> None:
    """Answer to the acknowledgement of a conflict."""
    with suppress(OtherEntry):
        _show(replies.acknowledge_reply(answer.filed, conflict, region))


def show_findings(region: Region, now: int) -> None:
    """Ask what does not add up, of all tenants; what is found stands when it is looked at again."""
    result = Reconciliation(limit=_MOST_ENTRIES)
    for _ in reconcile(region, now, result):
        pass
    for finding in result.found:
        _show(replies.finding(finding))
        assert standing(region, finding, now) is not None, "a finding that is gone at once"


def _show_history(history: History, now: int) -> None:
    """By event time: what it was, line by line, and what it is at the end of all that is known to come."""
    for _ in history.read():
        pass
    statement = Statement(history.fold(), 0, MAX_TIME_MS + 1)
    for _ in statement.begin():
        pass
    lines = [line for line in statement.lines() if line is not None]
    _show([replies.statement_line(line) for line in lines])
    assert sum(line.amount for line in lines) == statement.closing.available, "the lines do not add up"
    for at in (now, MAX_TIME_MS):
        fold = history.fold()
        for _ in fold.before(at + 1):
            pass
        _show(replies.balance_fields(fold.account, at, "eu"))
        _show(replies.standing(fold.standing(at)))
    assert fold.standing(MAX_TIME_MS) == statement.closing


def _reply_to(command: Command, answer: Accepted, region: str) -> object:
    """What the route of this kind of command would answer."""
    if isinstance(command, ReportHeartbeat | ReportUsage):
        return replies.event_result(answer.filed, "event", replayed=answer.replayed)
    return WRITES[wire.BatchKind(str(command.__struct_config__.tag))].reply(answer.filed, region)


def _show(reply: object) -> None:
    for encode in _forms:
        encode(reply)
