"""Clients: schedulers that reserve, renew, use and release, ask again when no answer comes, and sometimes get it wrong.

A request that got no answer is unknown, neither accepted nor refused. Its client asks again under the same key, there
or in another region, and gives up at some point.
"""

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import ClaimId, JobId, Key, LotId, TenantId
from ledger.operation import Admission, Debit, Grant, Hold, OnOverspend
from ledger.pricing import Work
from ledger.refusal import Refusal
from node.applying import Gone
from node.finding import Finding
from node.region import Accepted
from node.snapshots import JobState, ScheduledJob
from tests.simulation.node import Answer, SimulatedNode, Unavailable
from tests.simulation.scenario import GPU, Ask, Intent, Scenario
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

T = TypeVar("T")

_ABOUT_CLAIMS: Final = {Ask.RENEW, Ask.CAPTURE, Ask.RELEASE, Ask.REFUND}

_WITHIN_A_BATCH: Final = (Ask.HOLD, Ask.DEBIT, Ask.USAGE, Ask.RENEW, Ask.GRANT, Ask.TRANSFER, Ask.CAPTURE)

ESCROWED: Final = TenantId("e0")
_NAMES: Final = 5
"""How many names clients like so much that they meet."""


class Request(Struct):
    """One request under its key, however often it is sent."""

    client: int
    tenant: TenantId
    command: Command
    key: Key
    attempts: int = 0
    is_answered: bool = False


class Clientele:
    """All clients of the cluster, and what they remember between them."""

    def __init__(self, scenario: Scenario, cluster: "Cluster", scheduler: Scheduler, trace: Trace) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._scheduler = scheduler
        self._trace = trace
        self._random = Random(f"clients {scenario.seed}")
        self._claims: dict[TenantId, list[tuple[ClaimId, SimulatedNode]]] = {}
        """What clients have been told of, and where."""
        self._lots: dict[TenantId, list[LotId]] = {}
        self._found: list[tuple[TenantId, str]] = []
        """Findings that somebody has asked to settle."""
        self._sent: list[Request] = []
        self._have_left = False
        self.unanswered = 0

    def begin(self) -> None:
        """Arrange for all that is intended."""
        if self._scenario.escrow:
            self._scheduler.after(0, self._put_under_escrow)
        for number, intent in enumerate(self._scenario.intents):
            self._scheduler.after(intent.at, partial(self._act, intent, number))

    def _put_under_escrow(self) -> None:
        """One tenant has never been anything else: nobody hears of its credit without hearing of that."""
        home, scenario = self._home(0), self._scenario
        grant = GrantCredit(2 * scenario.largest_amount, self._scheduler.now + 2 * scenario.lot_ms)
        commands: list[Command] = [grant, SetPolicy(admission=Admission.ESCROW)]
        home.submit_all(
            [(ESCROWED, command, Key(f"escrow{number}")) for number, command in enumerate(commands)],
            [lambda _: None for _ in commands],
        )

    def leave(self) -> None:
        """From now on nobody asks, nor waits for an answer."""
        self._have_left = True

    # -- what is asked ----------------------------------------------------------------------------------------------

    def _act(self, intent: Intent, number: int) -> None:
        tenant = TenantId(f"t{intent.tenant % self._scenario.tenants}")
        if self._scenario.escrow and intent.tenant % 4 == 0 and intent.ask not in (Ask.POLICY, Ask.REVOKE):
            tenant = ESCROWED
        home = self._home(intent.client)
        if intent.ask is Ask.READ:
            if home.region is not None:
                home.read(
                    tenant, lambda available: self._trace.note(self._scheduler.now, "client", f"reads {available}")
                )
            return
        if intent.ask is Ask.BATCH:
            self._send_batch(intent, number, tenant, home)
            return
        if intent.ask is Ask.SNAPSHOT:
            if home.region is not None:
                home.put_jobs(f"scheduler{intent.client % 2}", self._jobs(intent, home))
            return
        if intent.ask is Ask.APPLY:
            self._settle(intent, tenant, home)
            return
        if intent.ask is Ask.ACKNOWLEDGE:
            if home.region is not None:
                home.acknowledge(intent, self._trace.count)
            return
        if intent.ask is Ask.AGAIN and self._sent:
            earlier = self._sent[intent.choice % len(self._sent)]
            self._trace.count("request repeated")
            request = Request(intent.client, earlier.tenant, earlier.command, earlier.key)
        elif intent.ask is Ask.MISUSE and self._sent:
            earlier = self._sent[intent.choice % len(self._sent)]
            self._trace.count("key misused")
            command: Command = DebitUsage(1 + intent.other % 7, on_shortage=OnShortage.DEBT)
            request = Request(intent.client, earlier.tenant, command, earlier.key)
        else:
            claim, where = self._one_of(self._claims.get(tenant, []), intent.choice, (ClaimId("nobody"), home))
            command = self._command(intent.ask, intent, tenant, claim)
            request = Request(intent.client, tenant, command, Key(f"k{number}"))
            self._sent.append(request)
            if intent.ask in _ABOUT_CLAIMS and intent.other % 3:
                # Mostly the scheduler that asks is the one that reserved.
                home = where
        self._send(request, home)

    def _jobs(self, intent: Intent, home: SimulatedNode) -> dict[TenantId, list[ScheduledJob]]:
        """What a scheduler knows of some jobs; now and then of a tenant that does not exist."""
        scenario, now = self._scenario, home.now()
        jobs: dict[TenantId, list[ScheduledJob]] = {}
        for number in range(1 + intent.choice % _NAMES):
            spin = intent.other // (number + 1)
            state = list(JobState)[spin % 3]
            started_at = now - intent.amount % (3 * scenario.beat) if state is not JobState.PENDING else None
            ended_at = now - spin % (2 * scenario.beat) if state is JobState.FINISHED else None
            if ended_at is not None and started_at is not None and ended_at < started_at:
                started_at = ended_at
            tenant = TenantId(f"t{(intent.tenant + number) % (scenario.tenants + 1)}")
            claim, _ = self._one_of(self._claims.get(tenant, []), intent.choice, (ClaimId("nobody"), home))
            said = ScheduledJob(
                JobId(f"job{number}"),
                state,
                started_at if spin % 5 else None,
                ended_at,
                claim if spin % 7 == 0 else None,
                GPU if spin % 11 else None,
                1 if spin % 13 else None,
            )
            jobs.setdefault(tenant, []).append(said)
        return jobs

    def _settle(self, intent: Intent, tenant: TenantId, home: SimulatedNode) -> None:
        """Settle what somebody finds now or, sometimes, what was found before, wherever that was."""
        if home.region is None:
            return
        if intent.other % 3 == 0 and self._found:
            owner, earlier = self._one_of(self._found, intent.choice, (tenant, ""))
            home.settle(owner, lambda _: earlier, self._hear_of)
            return

        def choose(found: list[Finding]) -> str | None:
            if not found:
                return None
            chosen = found[intent.choice % len(found)].id
            self._found.append((tenant, chosen))
            return chosen

        home.settle(tenant, choose, self._hear_of)

    def _hear_of(self, answer: Answer) -> None:
        match answer:
            case Accepted(filed, replayed):
                kind = filed.entry.content.__class__.__name__
                self._trace.count(f"finding {'settled before' if replayed else 'settled'}: {kind}")
            case Refusal():
                self._trace.count("finding not settled")
            case Gone():
                self._trace.count("finding gone")
            case Unavailable():
                pass

    def _send_batch(self, intent: Intent, number: int, tenant: TenantId, home: SimulatedNode) -> None:
        """Several requests at once: they are judged one after the other, and answered when one commit has landed."""
        if home.region is None:
            return
        self._trace.count("batch")
        requests = []
        for index in range(2 + intent.choice % 4):
            ask = _WITHIN_A_BATCH[(intent.other + index) % len(_WITHIN_A_BATCH)]
            claim, _ = self._one_of(self._claims.get(tenant, []), intent.choice + index, (ClaimId("nobody"), home))
            command = self._command(ask, intent, tenant, claim)
            requests.append(Request(intent.client, tenant, command, Key(f"k{number}.{index}"), attempts=1))
        self._sent += requests
        home.submit_all(
            [(each.tenant, each.command, each.key) for each in requests],
            [partial(lambda each, answer: self._reply(each, answer, home), each) for each in requests],
        )

    def _command(self, ask: Ask, intent: Intent, tenant: TenantId, claim: ClaimId) -> Command:
        scenario, now = self._scenario, self._scheduler.now
        amount = 1 + intent.amount % scenario.largest_amount
        late = None if intent.other % 3 else now - intent.other % scenario.lot_ms
        lease = 1 + intent.other % scenario.lease_ms
        job = JobId(f"job{intent.other % _NAMES}")
        match ask:
            case Ask.GRANT:
                return GrantCredit(
                    amount=2 * amount + scenario.largest_amount,
                    expires_at=now + scenario.lot_ms // 4 + intent.choice % scenario.lot_ms,
                    starts_at=[None, None, None, now - scenario.beat, now + scenario.lot_ms // 8][intent.other % 5],
                    priority=intent.other % 2,
                    lot=LotId(f"lot{intent.other % _NAMES}") if intent.choice % 4 == 0 else None,
                )
            case Ask.HOLD:
                named = ClaimId(f"claim{intent.other % _NAMES}") if intent.choice % 5 == 0 else None
                asked: int | Estimate = amount
                if intent.other % 7 == 0:
                    work = Work(GPU, 1 + intent.choice % 4, "high" if intent.choice % 3 == 0 else None)
                    asked = Estimate(work, 30 + intent.choice % 90)
                return Reserve(asked, lease, named, job if intent.choice % 3 else None)
            case Ask.RENEW:
                return RenewLease(claim, lease)
            case Ask.CAPTURE:
                return CaptureUsage(claim, amount, late, final=intent.choice % 2 == 0)
            case Ask.RELEASE:
                return ReleaseHold(claim)
            case Ask.REFUND:
                return RefundUsage(claim, 1 + intent.amount % 4)
            case Ask.REVOKE:
                return RevokeLot(self._one_of(self._lots.get(tenant, []), intent.choice, LotId("nothing")))
            case Ask.TRANSFER:
                to = TenantId(f"t{(int(tenant[1:]) + 1 + intent.choice % 2) % scenario.tenants}")
                if scenario.escrow and intent.choice % 5 == 0:
                    to = ESCROWED
                expires_at = now + intent.other % scenario.lot_ms if intent.other % 3 == 0 else None
                return TransferCredit(to, amount, expires_at, intent.choice % 2)
            case Ask.POLICY:
                escrow = scenario.escrow and intent.amount % 3 > 0
                return SetPolicy(
                    OnOverspend.REVOKE if intent.other % 3 and not escrow else OnOverspend.DEBT,
                    Admission.ESCROW if escrow else Admission.OPTIMISTIC,
                    2 * scenario.largest_amount if intent.choice % 3 == 0 else None,
                    scenario.largest_amount if intent.choice % 2 else None,
                )
            case Ask.HEARTBEAT:
                named = claim if intent.choice % 3 == 0 else None
                lease_ms = lease if intent.other % 2 else None
                return ReportHeartbeat(job, late, named, lease_ms, started=intent.choice % 2 == 0)
            case Ask.USAGE:
                return self._usage(intent, job, claim)
            case Ask.NONSENSE:
                return ReleaseHold(ClaimId("nobody")) if intent.other % 2 else GrantCredit(amount, now - 1)
            case _:
                shortage = OnShortage.DEBT if intent.choice % 3 == 0 else OnShortage.REFUSE
                return DebitUsage(amount, late, on_shortage=shortage)

    def _usage(self, intent: Intent, job: JobId, claim: ClaimId) -> ReportUsage:
        """Some time up to now, or up to an earlier time, which may overlap with what was reported before."""
        scenario, now = self._scenario, self._scheduler.now
        end = now - [0, intent.choice % scenario.lease_ms, intent.choice % scenario.lot_ms][intent.other % 3]
        lasts = intent.amount % (3 * scenario.beat)
        final = intent.choice % 4 == 0
        amount = 1 + intent.amount % scenario.largest_amount
        cost: int | Work | None = amount
        if lasts < 4 * 60_000 and intent.choice % 5 == 0:
            cost = Work(GPU, 1 + intent.other % 3)
        elif final and intent.other % 4 == 0:
            cost = None
        start = None if intent.choice % 7 == 0 else end - lasts
        return ReportUsage(job, end, start, cost, claim if intent.other % 3 == 0 else None, final)

    def _one_of(self, known: list[T], choice: int, otherwise: T) -> T:
        return known[-1 - choice % min(len(known), 8)] if known else otherwise

    # -- how it is asked --------------------------------------------------------------------------------------------

    def _home(self, client: int) -> SimulatedNode:
        names = self._scenario.regions
        return self._cluster.nodes[names[client % len(names)]]

    def _latency(self) -> int:
        weather = self._scenario.weather
        return self._random.randint(weather.fastest_ms, weather.slowest_ms)

    def _send(self, request: Request, node: SimulatedNode) -> None:
        request.attempts += 1
        attempt = request.attempts
        self._scheduler.after(self._scenario.clients.timeout_ms, lambda: self._timed_out(request, attempt))
        if self._is_lost("request lost"):
            return
        self._scheduler.after(self._latency(), lambda: self._arrive(request, node))

    def _arrive(self, request: Request, node: SimulatedNode) -> None:
        if node.region is not None:
            node.submit(request.tenant, request.command, request.key, lambda answer: self._reply(request, answer, node))

    def _reply(self, request: Request, answer: Answer, node: SimulatedNode) -> None:
        self._trace.note(self._scheduler.now, node.name, told(request, answer))
        if not self._is_lost("reply lost"):
            self._scheduler.after(self._latency(), lambda: self._hear(request, answer, node))

    def _hear(self, request: Request, answer: Answer, node: SimulatedNode) -> None:
        if request.is_answered or isinstance(answer, Unavailable | Gone):
            return
        request.is_answered = True
        if isinstance(answer, Refusal):
            self._trace.count(f"refused: {answer.reason}")
            return
        content = answer.filed.entry.content
        self._trace.count(f"accepted: {content.__class__.__name__}")
        if isinstance(content, Hold | Debit):
            self._claims.setdefault(request.tenant, []).append((content.claim, node))
        elif isinstance(content, Grant):
            self._lots.setdefault(request.tenant, []).append(content.lot)

    def _timed_out(self, request: Request, attempt: int) -> None:
        if request.is_answered or attempt != request.attempts or self._have_left:
            return
        clients, names = self._scenario.clients, self._scenario.regions
        if request.attempts >= clients.attempts:
            self._trace.count("client gives up")
            self.unanswered += 1
            return
        node = self._home(request.client)
        if self._random.random() < clients.elsewhere:
            self._trace.count("retry elsewhere")
            node = self._cluster.nodes[names[self._random.randrange(len(names))]]
        self._send(request, node)

    def _is_lost(self, name: str) -> bool:
        if self._random.random() < self._scenario.clients.loss:
            self._trace.count(name)
            return True
        return False


def told(request: Request, answer: Answer) -> str:
    """What came of a request, as a line of the story."""
    asked = f"{type(request.command).__name__} of {request.tenant} under {request.key}"
    match answer:
        case Accepted(filed, replayed):
            again = " (a replay)" if replayed else ""
            entry = filed.entry
            return f"accepts {asked}: {entry.replica}:{entry.seq} {entry.outcome} {entry.postings}{again}"
        case Refusal():
            return f"refuses {asked}: {answer.reason}, {answer.detail}"
        case Unavailable(why):
            return f"takes no requests ({why}): {asked}"
        case Gone():
            raise AssertionError("no request is about a finding")
