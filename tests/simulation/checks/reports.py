"""Every region shows the same conflicts: all there are, and none that is not one."""

from typing import TYPE_CHECKING, Final

from conflict.report import Report
from ledger.ids import Position
from ledger.operation import Compensation
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode

_END: Final = Position(2**63, "", "", 0)


class EqualReports(Check):
    """Whenever the regions agree: their reports, against each other and against what canonical order says."""

    def agreed(self, cluster: "Cluster") -> None:
        shown = {node.name: _reports(node) for node in cluster.nodes.values()}
        first = next(iter(shown.values()))
        for name, reports in shown.items():
            if reports != first:
                differing = [pair for pair in zip(first, reports, strict=False) if pair[0] != pair[1]]
                raise Broken(f"{name} shows other conflicts: {len(reports)}, not {len(first)}: {differing[:1]}")
        for report in first:
            cluster.trace.count(f"conflict: {report.kind}")
            cluster.trace.count(f"conflict {report.state}")
            if not report.rival_count:
                raise Broken(f"{report.id} names no rival")
        expected = _losers(cluster)
        found = {(report.tenant, report.loser.replica, report.loser.seq) for report in first}
        if found != expected:
            raise Broken(f"reported but no conflict: {found - expected}; not reported: {expected - found}")


def _reports(node: "SimulatedNode") -> list[Report]:
    assert node.region is not None
    return list(node.region.reports(None, _END, node.now()))


def _losers(cluster: "Cluster") -> set[tuple[str, str, int]]:
    """What lost: operations that canonical order makes something else of, or for which amends were made on the way."""
    losers: set[tuple[str, str, int]] = set()
    for tenant in list(cluster.facts.by_tenant):
        facts = cluster.held_by_all(tenant)
        by_place = {fact.place: fact for fact in facts}
        for line, verdict in serial_ledger(facts, cluster.scenario.key_lifetime_ms).verdicts():
            fact = by_place[line.place]
            if (verdict.postings, verdict.outcome) != (fact.postings, fact.outcome):
                losers.add((tenant, *fact.dot))
        for fact in facts:
            if isinstance(fact.entry.content, Compensation):
                losers |= {(tenant, part.replica, part.seq) for part in fact.entry.content.of}
    return losers
