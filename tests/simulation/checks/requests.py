"""A request has at most one effect, counted over all regions: of its entries, when the regions agree, one has it.

A key is remembered for its lifetime, by the hybrid clock; used again after that, it is another request's.
"""

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from ledger.operation import Transfer
from node.region import Accepted
from tests.simulation.checks.compensations import final_postings
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


class OneEffect(Check):
    """Counts, for every key, the entries that have an effect in the books whenever the regions agree."""

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        if isinstance(answer, Accepted) and answer.replayed:
            node.count("answer replayed")
            if answer.filed.entry.region != node.name:
                node.count("answer of another region replayed")

    def agreed(self, cluster: "Cluster") -> None:
        for tenant in list(cluster.facts.by_tenant):
            effects: defaultdict[str, list[Fact]] = defaultdict(list)
            facts = cluster.held_by_all(tenant)
            posted = final_postings(facts)
            for fact in facts:
                if fact.key is not None and fact.is_operation:
                    cluster.trace.count("request with an entry")
                    if posted[fact.dot]:
                        effects[_request(fact)].append(fact)
            for request, found in effects.items():
                for first, then in pairwise(found):
                    if then.place.now - first.place.now < cluster.scenario.key_lifetime_ms:
                        raise Broken(f"{request} of {tenant} has more than one effect: {first.dot}, {then.dot}")
                    cluster.trace.count("key used again after its lifetime")


def _request(fact: Fact) -> str:
    """What may have one effect in a key's lifetime: a transfer is known by its name."""
    operation = fact.operation
    return operation.name if isinstance(operation, Transfer) else str(fact.key)
