"""A node judges rightly by what it knows, and records what canonical order makes of a command among what it knows.

What speaks against a request is worked out a second time (tests/reference/admit.py) from the serial ledger of all that
the node holds, just before it decides. Both ways: what is accepted, nothing speaks against, and its entry is what was
asked, field by field; what is refused, is refused for a reason that holds, with the figures that are true.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.command import Command, TransferCredit
from ledger.ids import Key, Position, TenantId
from ledger.operation import Lapse, Operation
from ledger.posting import Outcome
from ledger.refusal import Reason, Refusal
from node.finding import KEY_PREFIX
from node.region import Accepted
from tests.reference.admit import House, Objection, Request, accepted_as, objections
from tests.reference.fold import Ledger, concerned
from tests.simulation.checks.serial import SerialLedgers
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


@dataclass(frozen=True)
class _Judgement:
    """What must come of a request: a reply made before, an operation, or a refusal for one of these reasons."""

    replay_of: Position | None
    operation: Operation | None
    objections: list[Objection]


class Admission(Check):
    """Holds every decision against the serial ledger of what the node knew when it decided."""

    def __init__(self, ledgers: SerialLedgers) -> None:
        self._ledgers = ledgers
        self._houses: dict[str, House] = {}
        self._commands: dict[Position, Command] = {}
        """What was asked for, by the place of the entry that came of it."""
        self._requests: dict[str, Command | Key] = {}
        """What was asked for, by the fingerprint in the entry."""
        self._judgement = _Judgement(None, None, [])

    def begun(self, cluster: "Cluster") -> None:
        self._houses = {name: cluster.scenario.house_of(name) for name in cluster.nodes}

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        """Of an own operation, the newest of all: it records what it does in a serial ledger."""
        assert node.region is not None
        if fact.entry.replica != node.region.replica or not fact.is_operation:
            return
        for leg in fact.legs:
            serial = self._ledgers.of(node, leg.tenant)
            line, verdict = serial.verdicts()[-1]
            if line.place != leg.place:
                raise Broken(f"{node.name} accepts {leg.dot} before {line.place}, which it knows")
            if (verdict.postings, verdict.outcome) != (leg.postings, leg.outcome):
                raise Broken(f"{node.name} records {leg.outcome} {leg.postings} for {leg.dot}; it does {verdict}")
        _must_show_the_claim(node, fact, self._ledgers.of(node, fact.tenant).ledger)
        if isinstance(fact.operation, Lapse) and fact.outcome is not Outcome.LAPSED:
            raise Broken(f"{node.name} sweeps {fact.operation}, which does not lapse: {fact.outcome}")

    def asked(self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, now: int) -> None:
        assert node.region is not None
        request = Request(tenant, command, key, node.region.present(now))
        ledger, house = self._ledgers.of(node, tenant).ledger, self._houses[node.name]
        if ledger.remembers(key, request.now):
            first = ledger.key_users[key]
            mismatch = [] if self._commands[first] == command else [Objection(Reason.IDEMPOTENCY_MISMATCH)]
            self._judgement = _Judgement(first, None, mismatch)
            return
        receiver = self._ledgers.of(node, command.to).ledger if isinstance(command, TransferCredit) else Ledger(0)
        against = objections(request, ledger, receiver, house)
        self._judgement = _Judgement(None, None if against else accepted_as(request, ledger, house), against)

    def decided(
        self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, answer: "Answer", now: int
    ) -> None:
        judgement, what = self._judgement, f"{node.name}: {command} of {tenant} under {key}"
        match answer:
            case Accepted(filed, _) if judgement.objections:
                raise Broken(f"{what} was accepted as {filed.dot}, against {judgement.objections}")
            case Accepted(filed, is_replay) if is_replay != (judgement.replay_of is not None):
                raise Broken(f"{what} is answered with {filed.dot}, first made at {judgement.replay_of}")
            case Accepted(filed, True) if filed.position != judgement.replay_of:
                raise Broken(f"{what} is answered with {filed.position}, first made at {judgement.replay_of}")
            case Accepted(filed, False):
                entry = filed.entry
                if (entry.tenant, entry.key, entry.content) != (tenant, key, judgement.operation):
                    raise Broken(f"{what} becomes {entry.content}, not {judgement.operation}")
                assert entry.request is not None
                # Who asks for a finding says which, and not what would settle it.
                request = key if key.startswith(KEY_PREFIX) else command
                if self._requests.setdefault(entry.request, request) != request:
                    raise Broken(f"{what} has the fingerprint of {self._requests[entry.request]}")
                self._commands[entry.position] = command
            case Refusal():
                if not any(objection.explains(answer) for objection in judgement.objections):
                    raise Broken(f"{what} was refused, {answer}, although {judgement}")
                if answer.reason is Reason.RESERVATION_ENDED:
                    is_void = answer.fields["state"] == "revoked"
                    if is_void != ("conflict" in answer.fields):
                        raise Broken(f"{what} was refused, {answer}, and the conflict is named wrongly")


def _must_show_the_claim(node: "SimulatedNode", fact: Fact, ledger: Ledger) -> None:
    """The claim as the entry leaves it is what every reply to the request is made from."""
    name, shown = concerned(ledger, fact.operation), fact.entry.result
    claim = ledger.claims.get(name) if name is not None else None
    if claim is None or shown is None:
        if (claim is None) != (shown is None):
            raise Broken(f"{node.name} records {shown} for {fact.dot}; a serial ledger has {claim}")
        return
    coins = claim.held + claim.used
    counted = (claim.state, len(claim.held), len(claim.used), claim.lease_until, coins.count(None))
    paid = {lot: coins.count(lot) for lot in coins if lot is not None}
    if (shown.state, shown.held, shown.captured, shown.lease_until, shown.debt) != counted or dict(
        shown.funding
    ) != paid:
        raise Broken(f"{node.name} records {shown} for {fact.dot}; a serial ledger has {claim}")
