"""A number that names canonical state: equal in every node that has applied the same entries.

A tenant's digest covers its totals, its policy, its lots, and its claims that are open or owe, which is all that can
still change without a refund; claims that have ended, keys and jobs are covered by the audit. The digest of a node is
the sum of its tenants', modulo 2^128, so that it can be kept up to date tenant by tenant.
"""

from hashlib import blake2b
from typing import Final

import msgspec

from ledger.account import Account
from ledger.ids import TenantId
from ledger.posting import TOTALS

MODULUS: Final = 2**128
_encode = msgspec.msgpack.Encoder().encode


def tenant_digest(tenant: TenantId, account: Account) -> int:
    """The digest of one tenant's canonical state."""
    state = (
        tenant,
        [str(account.totals[name]) for name in TOTALS],
        account.policy,
        [account.lots[lot] for lot in sorted(account.lots)],
        [account.claims[claim] for claim in sorted(account.claims) if not account.claims[claim].is_ended],
    )
    return int.from_bytes(blake2b(_encode(state), digest_size=16).digest(), "big")


def shown(digest: int) -> str:
    """A digest as 32 hex digits."""
    return f"{digest:032x}"
