"""Escrow: what this region's clients want of credit that lies in the shares of others, and whom to ask for it: pure.

For a tenant under escrow a region spends its own shares only, so it may have to refuse what another region could pay.
Then it wishes for the credit: the next time that peers can be asked, those whose shares are largest are asked to move
what is lacking, and what comes of it comes as entries. A wish is made when a client has been refused, or has left the
region low, never because credit was given away; so regions do not pass credit to and fro among themselves.
"""

from collections.abc import Collection, Iterator

from msgspec import Struct

from ledger.account import Account
from ledger.ids import LotId, TenantId

LOW_SHARE: int = 4
"""A region runs low when it has less than this part of an even share."""


class Wish(Struct, frozen=True):
    """Ask `region` to move `amount` of a tenant's credit to this region's shares."""

    region: str
    tenant: TenantId
    amount: int


class Wishes:
    """What is wished for, tenant by tenant; a tenant's wishes go out at most once in `pause_ms`."""

    def __init__(self, region: str, pause_ms: int) -> None:
        self._region = region
        self._pause_ms = pause_ms
        self._wanted: dict[TenantId, int] = {}
        self._asked_at: dict[TenantId, int] = {}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def want(self, tenant: TenantId, amount: int) -> None:
        """This region's clients could spend so much, all in all."""
        self._wanted[tenant] = max(amount, self._wanted.get(tenant, 0))

    def due(self, now: int) -> list[TenantId]:
        """The tenants whose wishes may go out at `now` (ms)."""
        self._asked_at = {tenant: at for tenant, at in self._asked_at.items() if at <= now < at + self._pause_ms}
        return [tenant for tenant in self._wanted if tenant not in self._asked_at]

    def take(
        self, tenant: TenantId, account: Account, linked: Collection[str], present: int, now: int
    ) -> Iterator[Wish]:
        """Whom to ask at `now` for what a tenant lacks here at `present` (both ms), the largest share first."""
        rest = self._wanted.pop(tenant) - account.available(present, self._region)
        self._asked_at[tenant] = now
        shares: dict[str, int] = {}
        for place in account.spending_order:
            lot = account.lots[place.lot]
            if lot.remaining and lot.is_live(present):
                shares[lot.owner] = shares.get(lot.owner, 0) + lot.remaining
        for region in sorted(shares, key=lambda region: (-shares[region], region)):
            if rest <= 0:
                return
            if region in linked:
                yield Wish(region, tenant, min(rest, shares[region]))
                rest -= shares[region]


def wanted_when_low(account: Account, region: str, regions: int, now: int) -> int:
    """How much a region that runs low at `now` (ms) would like to have; 0 if it does not run low."""
    even = account.live_credit(now) // regions
    return even // 2 if account.available(now, region) < even // LOW_SHARE else 0


def parts_of(account: Account, region: str, amount: int, now: int) -> list[tuple[LotId, int]]:
    """What of `amount` the region's own live lots can give away at `now` (ms), lot by lot, as they would be spent."""
    rest = min(amount, account.available(now, region))
    parts: list[tuple[LotId, int]] = []
    for place in account.spending_order:
        lot = account.lots[place.lot]
        if rest <= 0:
            break
        if lot.owner == region and lot.remaining and lot.is_live(now):
            parts.append((lot.id, min(rest, lot.remaining)))
            rest -= lot.remaining
    return parts
