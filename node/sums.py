"""What all tenants come to together: who owes what, and the digest of the node.

Both are kept up to date book by book: a book that has changed is looked at again when somebody asks, and no other.
"""

from collections.abc import Iterable

from ledger.ids import TenantId
from ledger.posting import DEBT
from node.book import LedgerBook
from node.digest import MODULUS, shown, tenant_digest


class Sums:
    """Sums over the tenants of a node.

    Relations kept: ``_owing`` has what each tenant owes, but for the books in ``_changed``; once the digest has been
    asked for, ``_digest`` is the sum of what each book was last counted with, and ``_undigested`` holds those that have
    changed since.
    """

    def __init__(self) -> None:
        self._owing: dict[TenantId, int] = {}
        self._changed: dict[TenantId, LedgerBook] = {}
        self._digest: int | None = None
        self._undigested: dict[TenantId, LedgerBook] = {}

    def begin_with(self, tenant: TenantId, debt: int) -> None:
        """A tenant owes so much, by its row."""
        self._owing[tenant] = debt

    def loaded(self, book: LedgerBook) -> None:
        """A book was read back from its rows: it is counted as it stands."""
        if self._digest is not None and book.exists:
            book.digest_counted = tenant_digest(book.tenant, book.account)

    def changed(self, book: LedgerBook) -> None:
        """A book has a new entry."""
        self._changed[book.tenant] = book
        if self._digest is not None:
            self._undigested[book.tenant] = book

    def leaving(self, book: LedgerBook) -> None:
        """A book is about to be dropped from memory."""
        self.debts()
        self._count(book)
        self._undigested.pop(book.tenant, None)

    def owes(self, tenant: TenantId) -> bool:
        """Whether a tenant owed anything when its debt was last looked at."""
        return tenant in self._owing

    def debts(self) -> dict[TenantId, int]:
        """What each tenant owes, of those that owe anything. Never change it."""
        for book in self._changed.values():
            debt = -book.account.totals[DEBT]
            if debt:
                self._owing[book.tenant] = debt
            else:
                self._owing.pop(book.tenant, None)
        self._changed = {}
        return self._owing

    def digest(self, in_memory: dict[TenantId, LedgerBook], others: Iterable[LedgerBook]) -> str:
        """The digest of the node (see `node.digest`); `others`, the books not in memory, are read the first time."""
        if self._digest is None:
            self._digest = 0
            for book in others:
                self._count(book)
            self._undigested = dict(in_memory)
        for book in self._undigested.values():
            self._count(book)
        self._undigested = {}
        return shown(self._digest)

    def _count(self, book: LedgerBook) -> None:
        if self._digest is not None and book.exists:
            digest = tenant_digest(book.tenant, book.account)
            self._digest = (self._digest + digest - book.digest_counted) % MODULUS
            book.digest_counted = digest
