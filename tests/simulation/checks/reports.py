"""Every region shows the same conflicts: all there are, and none that is not one."""

from typing import TYPE_CHECKING

from conflict.contest import MAX_ACKNOWLEDGEMENTS
from conflict.report import Report
from ledger.command import AcknowledgeConflict
from ledger.operation import Acknowledge, Compensation
from ledger.refusal import Refusal
from node.region import Accepted
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.node import THE_END
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


class EqualReports(Check):
    """In the end: the reports of all regions, against each other and against what canonical order says."""

    def conflict_acknowledged(
        self, node: "SimulatedNode", said: AcknowledgeConflict, answer: Accepted | Refusal
    ) -> None:
        assert node.region is not None
        if isinstance(answer, Accepted) and not answer.replayed:
            report = node.region.report(said.conflict, node.now())
            if report is None or answer.filed.dot not in [each.dot for each in report.acknowledged]:
                raise Broken(f"{node.name} has accepted that {said} by {answer.filed.dot}, and shows {report}")

    def rested(self, cluster: "Cluster") -> None:
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
            said = [said.dot for said in report.acknowledged]
            if said != _said_of(cluster, report):
                raise Broken(f"{report.id} was acknowledged by {_said_of(cluster, report)}, and shows {said}")
            if len(said) > 1:
                cluster.trace.count("conflict with several acknowledgements")
        expected = _losers(cluster)
        found = {(report.tenant, report.loser.replica, report.loser.seq) for report in first}
        if found != expected:
            raise Broken(f"reported but no conflict: {found - expected}; not reported: {expected - found}")


def _reports(node: "SimulatedNode") -> list[Report]:
    assert node.region is not None
    return list(node.region.reports(None, THE_END, node.now()))


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


def _said_of(cluster: "Cluster", report: Report) -> list[tuple[str, int]]:
    """The entries that acknowledge a report: of one key the first, and of its loser in all only the first few."""
    first: dict[tuple[str, str | None], tuple[str, int]] = {}
    for fact in sorted(cluster.held_by_all(report.tenant), key=lambda fact: fact.place):
        content = fact.entry.content
        if isinstance(content, Acknowledge) and (content.replica, content.seq) == (
            report.loser.replica,
            report.loser.seq,
        ):
            first.setdefault((content.report, fact.key), fact.dot)
    kept = list(first.items())[:MAX_ACKNOWLEDGEMENTS]
    return [dot for (kind, _), dot in kept if kind == report.kind]
