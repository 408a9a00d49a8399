"""Forgetting idempotency keys whose lifetime is over: the fold takes no notice of them, so their rows can go.

What decides is not the wall clock but the earliest operation that may still be folded: to that one, and so to all
others, the key must be forgotten already. The rows are looked at a few at a time, over and over, with rests in between.
"""

from collections.abc import Callable
from typing import Final

from ledger.ids import TenantId
from node.store.kv import Overlay, Table
from node.store.rows import decode_key_use, read, tenant_of

_AT_ONCE: Final = 50
_RESTS: Final = 100
"""A pass over all keys begins at most so often in a lifetime."""


class Forgetting:
    """Goes through the keys of all tenants. Times in ms."""

    def __init__(self, overlay: Overlay, key_lifetime_ms: int) -> None:
        self._overlay = overlay
        self._lifetime_ms = key_lifetime_ms
        self._next = b""
        self._rests_until = 0

    def look(self, now: int, earliest: Callable[[TenantId], int]) -> int:
        """Look at the next few keys; `earliest` says when the first operation of a tenant that may still be folded is.

        Returns how many were forgotten.
        """
        rest_ms = self._lifetime_ms // _RESTS
        # A rest that has more before it than a whole one was begun by a clock that has been set back since.
        if now < self._rests_until <= now + rest_ms:
            return 0
        rows = self._overlay.scan(Table.KEYS, self._next, None, _AT_ONCE)
        forgotten = 0
        for key, value in rows:
            use = read(decode_key_use, Table.KEYS, key, value)
            if earliest(TenantId(tenant_of(key))) - use.at >= self._lifetime_ms:
                self._overlay.delete(Table.KEYS, key)
                forgotten += 1
        if rows:
            self._next = rows[-1][0] + b"\0"
        else:
            self._next = b""
            self._rests_until = now + rest_ms
        return forgotten
