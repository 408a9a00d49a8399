"""Compensations are sound, and complete.

Sound: posted by the region that accepted what is put right, for an operation with a rival: one of the same tenant,
earlier in canonical order, that the loser had not seen; and never in ignorance of what the region itself has posted for
it before, unless that went with a whole disk. Complete: whenever the regions agree every operation has
posted what canonical order makes of it, and where nothing happens any more, nothing more is posted.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from ledger.operation import Compensation
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


class Compensations(Check):
    """Looks at every compensation when it is posted, and at all of them whenever the regions agree."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def begun(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        content = fact.entry.content
        assert node.region is not None
        if not isinstance(content, Compensation) or fact.entry.replica != node.region.replica:
            return
        posted: defaultdict[str, int] = defaultdict(int)
        for part in content.of:
            known = node.facts.by_dot[part.replica, part.seq]
            loser = next((leg for leg in known.legs if leg.tenant == fact.tenant), known)
            self._must_be_sound(node, fact, loser)
            self._must_know_the_others(node, fact, loser)
            for account, amount in part.postings.items():
                posted[account] += amount
        if {account: amount for account, amount in posted.items() if amount} != fact.entry.postings:
            raise Broken(f"the postings of {fact.dot} are not the sum of its parts")

    def _must_be_sound(self, node: "SimulatedNode", fact: Fact, loser: Fact) -> None:
        if loser.entry.region != fact.entry.region or loser.tenant != fact.tenant:
            raise Broken(f"{fact.dot} compensates {loser.dot}, which is not {node.name}'s to put right")
        if not fact.knew(loser) or not loser.is_operation:
            raise Broken(f"{fact.dot} compensates {loser.dot}, which it cannot know")
        rivals = (
            other
            for other in node.facts.by_tenant[loser.tenant]
            if other.is_operation and other.place < loser.place and not loser.knew(other) and fact.knew(other)
        )
        if next(rivals, None) is None:
            raise Broken(f"{fact.dot} compensates {loser.dot}, which has no rival")

    def _must_know_the_others(self, node: "SimulatedNode", fact: Fact, loser: Fact) -> None:
        assert self._cluster is not None
        if self._cluster.has_lost_disks:
            return
        others = [peer for peer in self._cluster.nodes.values() if peer is not node]
        for other in node.facts.by_tenant[loser.tenant]:
            content = other.entry.content
            if isinstance(content, Compensation) and not fact.knew(other) and other.entry.region == fact.entry.region:
                is_there = any(peer.disk.entries.get(other.entry.replica, 0) >= other.entry.seq for peer in others)
                if is_there and loser.dot in [(part.replica, part.seq) for part in content.of]:
                    raise Broken(f"{fact.dot} compensates {loser.dot} as if {other.dot} had not done so")

    def agreed(self, cluster: "Cluster") -> None:
        for tenant in list(cluster.facts.by_tenant):
            facts = cluster.held_by_all(tenant)
            posted = final_postings(facts)
            by_place = {fact.place: fact for fact in facts}
            serial = serial_ledger(facts, cluster.scenario.key_lifetime_ms)
            for line, verdict in serial.verdicts():
                fact = by_place[line.place]
                if posted[fact.dot] != verdict.postings:
                    raise Broken(f"{fact.dot} has come to {posted[fact.dot]}; canonical order has {verdict}")


def final_postings(facts: list[Fact]) -> dict[tuple[str, int], dict[str, int]]:
    """What every operation has posted in the end, its compensations included."""
    posted: dict[tuple[str, int], defaultdict[str, int]] = {}
    for fact in facts:
        if fact.is_operation:
            posted[fact.dot] = defaultdict(int, fact.postings)
    for fact in facts:
        content = fact.entry.content
        for part in content.of if isinstance(content, Compensation) else ():
            for account, amount in part.postings.items():
                posted[part.replica, part.seq][account] += amount
    return {dot: {account: amount for account, amount in sums.items() if amount} for dot, sums in posted.items()}
