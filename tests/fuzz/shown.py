"""All that a node can be asked about a tenant, asked: what is held can be shown, and is what the books say."""

from contextlib import suppress

import msgspec

from ledger.account import Account
from ledger.amount import MAX_TIME_MS
from ledger.command import Command
from ledger.ids import Position, TenantId
from ledger.rules import Rules
from ledger.statement import Statement
from ledger.timeline import BEGINNING
from node.api import replies
from node.api.replies import OtherEntry
from node.api.writes import WRITES
from node.audit import canonical_books
from node.history import History
from node.region import Accepted, Region
from replication.clock import MAX_HLC
from replication.entry import hash_of, open_sealed, seal

END = Position(MAX_HLC + 1, "", "", 0)
_MOST_ENTRIES = 10_000
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
        _show(replies.reservation_fields(tenant, claim))
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
    kind = command.__struct_config__.tag
    routes = {
        "reserve": "reservations",
        "capture": "capture",
        "release": "release",
        "debit": "debits",
        "grant": "grants",
    }
    (write,) = (write for write in WRITES.values() if write.path.rsplit("/", 1)[-1] == routes[str(kind)])
    return write.reply(answer.filed, region)


def _show(reply: object) -> None:
    for encode in _forms:
        encode(reply)
