"""What is due by itself is done: whoever looks after it has been down, has another boot, or has had other things to do.

Leases that are over lapse, also those of earlier boots; lots that have expired are closed once that is stable; what is
owed is repaid as soon as there is credit that may repay it: any live credit, or, under escrow, the debtor region's own.
Books that others' entries keep coming in for are put right after `settle_at_most_ms` all the same.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from replication.clock import ms_of
from tests.reference.fold import Ledger
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode

_PATIENCE_BEATS: Final = 5
_PUT_RIGHT_AT_ONCE: Final = 3
"""A region puts off the rest of its books when those that it has looked at had many contests."""


class NothingOverdue(Check):
    """In the end, when the longest lease is over: what the serial ledger of what all hold has left open.

    All the time: since when each book has waited to be put right, as seen from tick to tick.
    """

    def __init__(self) -> None:
        self._unsettled: dict[tuple[str, str], int] = {}

    def started(self, node: "SimulatedNode") -> None:
        self._forget(node, ())

    def ticked(self, node: "SimulatedNode") -> None:
        region, now = node.region, node.now()
        assert region is not None
        self._forget(node, region.compensating.unsettled)
        if region.aside or region.mending.damaged or len(region.compensating.unsettled) > _PUT_RIGHT_AT_ONCE:
            self._forget(node, ())
        for tenant in region.compensating.unsettled:
            since = self._unsettled.setdefault((node.name, tenant), now)
            # The clock may have been set back.
            self._unsettled[node.name, tenant] = since = min(since, now)
            if now - since > node.settings.settle_at_most_ms:
                raise Broken(f"{node.name} has not put the books of {tenant} right for {now - since} ms")

    def _forget(self, node: "SimulatedNode", unsettled: Collection[str]) -> None:
        for who in [who for who in self._unsettled if who[0] == node.name and who[1] not in unsettled]:
            del self._unsettled[who]

    def rested(self, cluster: "Cluster") -> None:
        settings = cluster.scenario.settings
        patience_ms = (
            settings["settle_after_ms"] + settings["settle_at_most_ms"] + _PATIENCE_BEATS * cluster.scenario.beat
        )
        now = min(node.now() for node in cluster.nodes.values()) - patience_ms
        stable = min(ms_of(node.region.frontier) for node in cluster.nodes.values() if node.region) - patience_ms
        for tenant in list(cluster.facts.by_tenant):
            ledger = serial_ledger(cluster.held_by_all(tenant), cluster.scenario.key_lifetime_ms).ledger
            for name, claim in ledger.claims.items():
                if claim.state == "open" and claim.lease_until <= now:
                    raise Broken(
                        f"the lease of {name} of {tenant} ended at {claim.lease_until}, and nobody has noticed"
                    )
            for lot, grant in ledger.grants.items():
                if lot not in ledger.closed and grant.expires_at <= stable:
                    raise Broken(f"{lot} of {tenant} expired at {grant.expires_at}, and nobody has closed it")
            for region in cluster.nodes:
                _must_be_repaid(ledger, tenant, region, now, patience_ms)


def _must_be_repaid(ledger: Ledger, tenant: str, region: str, now: int, patience_ms: int) -> None:
    """Whatever has been live for long enough, and still is, has repaid what it may."""
    owed = [claim for claim in ledger.claims.values() if ledger.repays(region, claim)]
    debt = sum((claim.held + claim.used).count(None) for claim in owed)
    live = set(ledger.live_lots(now)) & set(ledger.live_lots(now + patience_ms))
    idle = [lot for lot in ledger.lots_of(region, live) if ledger.remaining(lot)]
    if debt and idle:
        raise Broken(f"{debt} are owed by {tenant} in {region} beside what is left of {sorted(idle)}")
