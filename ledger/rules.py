"""What all regions of a cluster must fold by alike: the version of the rules, and the times that the fold itself reads.

Regions with other rules would come to other states from the same entries. So the rules are written into every store and
said in every greeting; a store under other rules is not opened, a peer with other rules is not listened to.
"""

from typing import Final

from msgspec import Struct

VERSION: Final = 3
"""The version of the rules that are written in `ledger.account`."""

DAY_MS: Final = 86_400_000


class Rules(Struct, frozen=True, gc=False):
    """The rules of one cluster; times in ms."""

    key_lifetime_ms: int = 90 * DAY_MS
    """For how long an idempotency key is remembered, by the hybrid clock."""

    def __str__(self) -> str:
        """The rules as they are compared: equal texts, equal folds."""
        return f"{VERSION}, key_lifetime_ms {self.key_lifetime_ms}"
