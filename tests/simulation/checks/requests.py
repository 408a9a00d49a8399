"""A request has at most one effect, counted over all regions: of its entries, what is posted in the end is one's."""

from collections import defaultdict
from typing import TYPE_CHECKING

from node.region import Accepted
from tests.simulation.checks.compensations import final_postings
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


class OneEffect(Check):
    """Counts, for every key, the entries that have an effect in the books when all is at rest."""

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        if isinstance(answer, Accepted) and answer.replayed:
            node.count("answer replayed")
            if answer.filed.entry.region != node.name:
                node.count("answer of another region replayed")

    def rested(self, cluster: "Cluster") -> None:
        for tenant in list(cluster.facts.by_tenant):
            effects: defaultdict[str, list[str]] = defaultdict(list)
            facts = cluster.held_by_all(tenant)
            posted = final_postings(facts)
            for fact in facts:
                if fact.entry.key is not None:
                    cluster.trace.count("request with an entry")
                    if posted[fact.dot]:
                        effects[fact.entry.key].append(f"{fact.dot}: {posted[fact.dot]}")
            for key, found in effects.items():
                if len(found) > 1:
                    raise Broken(f"the key {key} of {tenant} has more than one effect: {found}")
