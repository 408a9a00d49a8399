"""Every region shows the same conflicts: all there are, and none that is not one; and each says what is the case.

What a report has to say is worked out again (tests/reference/conflicts.py) from the bytes of entries and from what one
serial ledger makes of them.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from conflict.contest import MAX_ACKNOWLEDGEMENTS
from conflict.report import Report, State, report_id
from conflict.rivals import MAX_RIVALS
from ledger.command import AcknowledgeConflict
from ledger.operation import Acknowledge, Compensation, Transfer
from ledger.refusal import Refusal
from node.region import Accepted
from tests.reference.conflicts import Case
from tests.reference.fold import Ledger, Verdict, owed_by
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.facts import Dot, Fact
from tests.simulation.node import THE_END
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode

Loser = tuple[str, Dot]


class EqualReports(Check):
    """Whenever the regions agree: their reports, against each other and against what canonical order says."""

    def conflict_acknowledged(
        self, node: "SimulatedNode", said: AcknowledgeConflict, answer: Accepted | Refusal
    ) -> None:
        assert node.region is not None
        if isinstance(answer, Accepted) and not answer.replayed:
            report = node.region.conflicts.report(said.conflict, node.now())
            if report is None or answer.filed.dot not in [each.dot for each in report.acknowledged]:
                raise Broken(f"{node.name} has accepted that {said} by {answer.filed.dot}, and shows {report}")

    def agreed(self, cluster: "Cluster") -> None:
        shown = {node.name: _reports(node) for node in cluster.nodes.values()}
        first = next(iter(shown.values()))
        for name, reports in shown.items():
            if reports != first:
                differing = [pair for pair in zip(first, reports, strict=False) if pair[0] != pair[1]]
                raise Broken(f"{name} shows other conflicts: {len(reports)}, not {len(first)}: {differing[:1]}")
        expected: dict[Loser, dict[str, object]] = {}
        for tenant in list(cluster.facts.by_tenant):
            expected |= _expected(cluster.held_by_all(tenant), cluster.scenario.key_lifetime_ms)
        found = {(report.tenant, (report.loser.replica, report.loser.seq)): report for report in first}
        if found.keys() != expected.keys():
            spare, missing = found.keys() - expected.keys(), expected.keys() - found.keys()
            raise Broken(f"reported but no conflict: {spare}; not reported: {missing}")
        for loser, report in found.items():
            cluster.trace.count(f"conflict: {report.kind}")
            cluster.trace.count(f"conflict {report.state}")
            says = _says(report)
            if says != expected[loser]:
                wrong = {
                    name: (said, expected[loser][name]) for name, said in says.items() if said != expected[loser][name]
                }
                raise Broken(f"{report.id} of {report.tenant} says, and should say: {wrong}")
            if not report.rival_count:
                raise Broken(f"{report.id} names no rival")
            if len(report.acknowledged) > 1:
                cluster.trace.count("conflict with several acknowledgements")


def _reports(node: "SimulatedNode") -> list[Report]:
    assert node.region is not None
    return list(node.region.conflicts.reports(None, THE_END, node.now()))


def _says(report: Report) -> dict[str, object]:
    loser = report.loser
    return {
        "id": report.id,
        "kind": report.kind,
        "state": report.state,
        "outcomes": (loser.outcome, report.canonical_outcome),
        "loser": (loser.region, loser.hlc, loser.clock, loser.key, loser.claim, loser.amount),
        "rivals": [(rival.replica, rival.seq) for rival in report.rivals],
        "rival_count": report.rival_count,
        "lots": [(share.lot, share.recorded, share.canonical) for share in report.lots],
        "amount": report.amount,
        "debt": report.debt,
        "compensations": [(tuple(amends.dot), amends.postings) for amends in report.compensations],
        "detected_at": report.detected_at,
        "acknowledged": [said.dot for said in report.acknowledged],
    }


def _expected(facts: list[Fact], key_lifetime_ms: int) -> dict[Loser, dict[str, object]]:
    """What is to be said of each operation of a tenant that lost.

    An operation lost if canonical order makes something else of it, or amends were made for it on the way.
    """
    amends: defaultdict[Dot, list[tuple[Fact, dict[str, int]]]] = defaultdict(list)
    for fact in facts:
        content = fact.entry.content
        for part in content.of if isinstance(content, Compensation) else ():
            amends[part.replica, part.seq].append((fact, part.postings))
    said = _acknowledged(facts)
    operations = [fact for fact in facts if fact.is_operation]
    serial = serial_ledger(operations, key_lifetime_ms)
    users = _first_users(operations, key_lifetime_ms)
    expected: dict[Loser, dict[str, object]] = {}
    for fact, (_, canonical) in zip(operations, serial.verdicts(), strict=True):
        shown = fact.entry.result
        recorded = Verdict(fact.postings, fact.outcome, owed=shown.debt if shown is not None else 0)
        if canonical != recorded or amends[fact.dot]:
            rivals = [each for each in operations if each.place < fact.place and not fact.knew(each)]
            user = users.get(fact.dot)
            case = Case(
                fact.operation,
                recorded,
                canonical,
                [rival.operation for rival in rivals],
                user is not None and user.entry.request != fact.entry.request,
                amends[fact.dot][0][1] if amends[fact.dot] else {},
            )
            expected[fact.tenant, fact.dot] = _report(
                fact, case, rivals, amends[fact.dot], said[fact.dot], serial.ledger
            )
    return expected


def _report(
    fact: Fact,
    case: Case,
    rivals: list[Fact],
    amends: list[tuple[Fact, dict[str, int]]],
    said: list[tuple[str, Dot]],
    ledger: Ledger,
) -> dict[str, object]:
    claim = case.canonical.claim
    # What a duplicate had repaid, any claim may owe.
    owes = owed_by(ledger, claim) if claim is not None else -ledger.balance("debt")
    state = State.REPAID if case.debt() and not owes else State.COMPENSATED
    if case.canonical == case.recorded:
        state = State.CLEARED
    operation = fact.operation
    named: str | None = getattr(operation, "claim", None)
    return {
        "id": report_id(fact.place, case.kind(), is_receipt=fact.is_receipt),
        "kind": case.kind(),
        "state": state,
        "outcomes": (case.recorded.outcome, case.canonical.outcome),
        "loser": (
            fact.entry.region,
            fact.entry.hlc,
            fact.clock,
            fact.entry.key,
            named,
            getattr(operation, "amount", None),
        ),
        "rivals": [rival.dot for rival in rivals[:MAX_RIVALS]],
        "rival_count": len(rivals),
        "lots": case.lots(),
        "amount": case.amount(),
        "debt": case.debt(),
        "compensations": [(each.dot, postings) for each, postings in amends],
        "detected_at": amends[0][0].place.now if amends else None,
        "acknowledged": [dot for kind, dot in said if kind == case.kind()],
    }


def _acknowledged(facts: list[Fact]) -> defaultdict[Dot, list[tuple[str, Dot]]]:
    """The kinds of report that entries acknowledge, by their loser: of one key the first, and only the first few."""
    first: defaultdict[Dot, dict[tuple[str, str | None], Dot]] = defaultdict(dict)
    for fact in sorted(facts, key=lambda fact: fact.place):
        content = fact.entry.content
        if isinstance(content, Acknowledge):
            first[content.replica, content.seq].setdefault((content.report, fact.key), fact.dot)
    said: defaultdict[Dot, list[tuple[str, Dot]]] = defaultdict(list)
    for loser, dots in first.items():
        said[loser] = [(kind, dot) for (kind, _), dot in list(dots.items())[:MAX_ACKNOWLEDGEMENTS]]
    return said


def _first_users(operations: list[Fact], key_lifetime_ms: int) -> dict[Dot, Fact]:
    """For every operation with a key, the one that had used the key first, so far as it was not forgotten there.

    A transfer is known by its name instead, in both accounts, for ever.
    """
    users: dict[str, Fact] = {}
    makers: dict[str, Fact] = {}
    found: dict[Dot, Fact] = {}
    for fact in operations:
        if fact.key is not None:
            if fact.key not in users or fact.place.now - users[fact.key].place.now >= key_lifetime_ms:
                users[fact.key] = fact
            found[fact.dot] = users[fact.key]
        if isinstance(fact.entry.content, Transfer):
            found[fact.dot] = makers.setdefault(fact.entry.content.name, fact)
    return found
