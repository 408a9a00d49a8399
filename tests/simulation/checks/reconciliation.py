"""What is found does not add up, by the entries alone; what was settled does not stand any more, and was settled once.

It does not stand under that name, that is, as long as keys are remembered: what goes wrong again has another.

At rest no compensation is due, those who owe are found and nobody else, and every region finds the same, but for what
its own schedulers say. What a node has told a scheduler to be on disk is there after a restart.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ledger.command import GrantCredit
from ledger.ids import Position, TenantId
from ledger.operation import Compensation, Hold
from ledger.refusal import Refusal
from node.alarms import AlarmKind
from node.applying import Applied
from node.finding import Finding, FindingKind, key_of
from node.reconcile import standing
from node.region import Accepted
from tests.simulation.checks.serial import SerialLedger, SerialLedgers, serial_ledger
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.checks.admission import Admission
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode


class Reconciled(Check):
    """Holds findings against the serial ledgers, and answers against entries."""

    def __init__(self, ledgers: SerialLedgers, admission: "Admission") -> None:
        self._ledgers = ledgers
        self._admission = admission
        self._told: defaultdict[str, dict[str, int]] = defaultdict(dict)
        """By node and source, of when the last snapshot is that was said to be on disk."""

    # -- settling ---------------------------------------------------------------------------------------------------

    def settling(self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, now: int) -> None:
        if finding is not None:
            self._must_not_be_settled(node, finding, now)
        if finding is not None and finding.remedy is not None and not isinstance(finding.remedy, Compensation):
            self._admission.asked(node, tenant, finding.remedy, key_of(name), now)

    def settled(
        self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, answer: Applied, now: int
    ) -> None:
        assert node.region is not None
        if isinstance(answer, Accepted) and answer.replayed:
            self._must_be_of(node, tenant, name, answer)
        elif self._was_settled(node, tenant, name, answer, now):
            raise Broken(f"{node.name} knows that {name} of {tenant} was settled, and says {answer}")
        elif isinstance(answer, Accepted):
            if finding is None:
                raise Broken(f"{node.name} settles {name} of {tenant}, which does not stand")
            if standing(node.region, finding, now) is not None:
                raise Broken(f"{node.name} has settled {name} of {tenant} by {answer}, and it stands")
            node.count(f"settled: {finding.kind}")
        command = finding.remedy if finding is not None else None
        if command is None or isinstance(command, Compensation) or _is_about_the_finding(answer):
            return
        assert isinstance(answer, Accepted | Refusal)
        if isinstance(answer, Refusal) or not answer.replayed:
            self._admission.decided(node, tenant, command, key_of(name), answer, now)

    def _must_not_be_settled(self, node: "SimulatedNode", finding: Finding, now: int) -> None:
        assert node.region is not None
        ledger = self._ledgers.of(node, finding.tenant).ledger
        if ledger.remembers(key_of(finding.id), node.region.present(now)):
            by = ledger.key_users[key_of(finding.id)]
            raise Broken(f"{node.name} finds {finding}, which was settled under that name by {by}")

    def _must_be_of(self, node: "SimulatedNode", tenant: TenantId, name: str, answer: Accepted) -> None:
        entry = answer.filed.entry
        is_compensation = isinstance(entry.content, Compensation)
        if entry.tenant != tenant or (not is_compensation and entry.key != key_of(name)):
            raise Broken(f"{node.name} answers to {name} of {tenant} with {entry}")

    def _was_settled(self, node: "SimulatedNode", tenant: TenantId, name: str, answer: Applied, now: int) -> bool:
        """Whether an operation stands under the finding's key, other than one that was accepted just now."""
        assert node.region is not None
        ledger, key = self._ledgers.of(node, tenant).ledger, key_of(name)
        just_now = answer.filed.position.now if isinstance(answer, Accepted) else None
        return ledger.remembers(key, node.region.present(now)) and ledger.keys[key] != just_now

    # -- snapshots --------------------------------------------------------------------------------------------------

    def snapshot_landed(self, node: "SimulatedNode", source: str, at: int) -> None:
        told = self._told[node.name]
        told[source] = max(at, told.get(source, at))

    def disk_replaced(self, node: "SimulatedNode", before: dict[str, int], after: dict[str, int]) -> None:
        self._told[node.name].clear()

    def rebuilt(self, node: "SimulatedNode") -> None:
        self._told[node.name].clear()

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        if any(alarm.kind is AlarmKind.REBUILT for alarm in node.region.alarms.all()):
            self._told[node.name].clear()
        for name, at in self._told[node.name].items():
            kept = node.region.snapshots.source(name)
            if kept is None or kept.at < at:
                raise Broken(f"{node.name} has {kept}; of {name} a snapshot of {at} was on disk")
            node.count("snapshot survives a restart")

    # -- at rest ----------------------------------------------------------------------------------------------------

    def rested(self, cluster: "Cluster") -> None:
        nodes = list(cluster.nodes.values())
        now = max(node.region.present(node.now()) for node in nodes if node.region is not None)
        told = {tenant for node in nodes if node.region is not None for tenant in node.region.snapshots.tenants()}
        by_node = [
            {finding.id: finding for finding in node.findings(None, now) if finding.tenant not in told}
            for node in nodes
        ]
        for node, found in zip(nodes, by_node, strict=True):
            if found != by_node[0]:
                raise Broken(f"{node.name} finds {found}, {nodes[0].name} finds {by_node[0]}")
            self._must_stand(node, now)
        for tenant in list(cluster.facts.by_tenant):
            serial = serial_ledger(cluster.held_by_all(tenant), cluster.scenario.key_lifetime_ms)
            for node in nodes:
                self._must_owe(node, tenant, serial, now)
            if tenant not in told:
                grace = cluster.scenario.settings["grace_ms"]
                expected = _never_started(serial, now, grace) | _unfinished(serial, now, grace)
                self._must_be(
                    tenant, [finding for finding in by_node[0].values() if finding.tenant == tenant], expected
                )

    def _must_stand(self, node: "SimulatedNode", now: int) -> None:
        for finding in node.findings(None, now):
            self._must_not_be_settled(node, finding, now)
            if finding.kind is FindingKind.BOOKS_DIFFER:
                raise Broken(f"at rest {node.name} finds {finding}")

    def _must_owe(self, node: "SimulatedNode", tenant: str, serial: SerialLedger, now: int) -> None:
        debt = -serial.ledger.balance("debt")
        found = [
            finding.remedy.amount
            for finding in node.findings(TenantId(tenant), now)
            if finding.kind is FindingKind.NEGATIVE_BALANCE and isinstance(finding.remedy, GrantCredit)
        ]
        owing = {claim.debtor_since.region for claim in serial.ledger.claims.values() if claim.debtor_since is not None}
        if sum(found) != debt or not all(found) or len(found) > len(owing):
            raise Broken(f"{node.name} finds that {tenant} owes {found}; one serial ledger has {debt}")

    def _must_be(self, tenant: str, found: Iterable[Finding], expected: set[tuple[FindingKind, str]]) -> None:
        kinds = (FindingKind.NEVER_STARTED, FindingKind.UNFINISHED_USAGE)
        of_tenant = [finding for finding in found if finding.tenant == tenant and finding.kind in kinds]
        told = {(finding.kind, finding.subject) for finding in of_tenant}
        if told != expected:
            raise Broken(f"of {tenant} is found {told}; by the entries there is {expected}")


def _is_about_the_finding(answer: Applied) -> bool:
    """Whether an answer was given without asking the ledger."""
    if isinstance(answer, Refusal):
        return "finding" in answer.fields or "tenant" in answer.fields or answer.fields.get("field") == "finding"
    return not isinstance(answer, Accepted)


def _never_started(serial: SerialLedger, now: int, grace_ms: int) -> set[tuple[FindingKind, str]]:
    """Reservations that are open as they were made, for jobs of which nothing was heard since."""
    ledger, found = serial.ledger, set()
    made: dict[str, tuple[Hold, Position]] = {}
    for line, verdict in serial.verdicts():
        if isinstance(line.operation, Hold) and verdict.outcome == "applied":
            made[line.operation.claim] = line.operation, line.place
    for name, (hold, place) in made.items():
        claim = ledger.claims[name]
        if claim.state != "open" or hold.job is None or claim.used or claim.lease_until != hold.lease_until:
            continue
        job = ledger.jobs[hold.job]
        is_heard_of = bool(job.seen) and (not job.finished or max(job.seen) > place.now)
        if now - place.now > grace_ms and not is_heard_of:
            found.add((FindingKind.NEVER_STARTED, name))
    return found


def _unfinished(serial: SerialLedger, now: int, grace_ms: int) -> set[tuple[FindingKind, str]]:
    """Jobs that were seen and did not finish."""
    jobs = serial.ledger.jobs.items()
    return {
        (FindingKind.UNFINISHED_USAGE, name)
        for name, job in jobs
        if job.seen and not job.finished and now - max(job.seen) > grace_ms
    }
