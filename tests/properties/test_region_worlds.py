"""Whole regions under random histories of commands, crashes and cuts: what is promised holds whatever happens."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
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
from ledger.ids import ClaimId, JobId, LotId, Position, TenantId
from ledger.operation import OnOverspend, Transfer
from ledger.rules import Rules
from ledger.timeline import BEGINNING
from node.audit import canonical_books
from node.region import Accepted
from replication.clock import descends
from tests.reference.fold import Line, fold
from tests.world import START_MS, TENANT, World

NAMES = ("ap", "eu", "us")
UMBRA = TenantId("umbra")
END = Position(2**62, "", "", 0)

claims = st.sampled_from(["c1", "c2", "c3", "c4"]).map(ClaimId)
lots = st.sampled_from(["l1", "l2", "l3"]).map(LotId)
amounts = st.integers(1, 60)
leases = st.sampled_from([50, 400, 5_000])
times = st.one_of(st.none(), st.integers(0, 3_000).map(lambda ms: START_MS + ms))
jobs = st.sampled_from(["j1", "j2"]).map(JobId)
usages = st.builds(
    lambda job, start, lasts, cost, final: ReportUsage(
        job, START_MS + start + lasts, START_MS + start, cost, final=final
    ),
    jobs, st.integers(0, 1_000), st.integers(1, 400), amounts, st.booleans(),
)  # fmt: skip
gifts = st.builds(TransferCredit, to=st.just(UMBRA), amount=amounts)
gifts_back = st.builds(TransferCredit, to=st.just(TENANT), amount=amounts)

commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        GrantCredit,
        amount=amounts,
        expires_at=st.integers(500, 60_000).map(lambda ms: START_MS + ms),
        starts_at=times,
        priority=st.integers(0, 1),
        lot=lots,
    ),
    st.builds(Reserve, amount=amounts, lease_ms=leases, reservation=claims, job=st.one_of(st.none(), jobs)),
    st.builds(RenewLease, reservation=claims, lease_ms=leases),
    st.builds(CaptureUsage, reservation=claims, amount=amounts, at=times, final=st.booleans()),
    st.builds(ReleaseHold, reservation=claims),
    st.builds(DebitUsage, amount=amounts, at=times, on_shortage=st.sampled_from(OnShortage)),
    st.builds(RefundUsage, claim=claims, amount=amounts, at=times),
    st.builds(RevokeLot, lot=lots),
    st.builds(SetPolicy, on_overspend=st.sampled_from(OnOverspend)),
    st.builds(ReportHeartbeat, job=jobs, lease_ms=leases, started=st.booleans()),
    usages,
    usages,
    gifts,
)
keys = st.one_of(st.integers(0, 40).map(lambda number: f"k{number}"), st.uuids().map(str))
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("submit"), names, commands, keys),
    st.tuples(st.just("submit"), names, commands, keys),
    st.tuples(st.just("give back"), names, gifts_back, keys),
    st.tuples(st.just("land"), names),
    st.tuples(st.just("tick"), names),
    st.tuples(st.just("deliver"), st.integers(1, 20)),
    st.tuples(st.just("set_cut"), names, names, st.booleans()),
    st.tuples(st.just("crash"), names),
    st.tuples(st.just("pass_time"), st.sampled_from([1, 40, 300, 2_000])),
)


def run(world: World, history: list[tuple[Any, ...]]) -> dict[str, set[tuple[str, int]]]:
    """Let a history happen; returns the dots of what was acknowledged, by region, that is: durable when answered."""
    acknowledged: dict[str, set[tuple[str, int]]] = {name: set() for name in NAMES}
    pending: dict[str, set[tuple[str, int]]] = {name: set() for name in NAMES}
    for tenant in (TENANT, UMBRA):
        world.submit("us", GrantCredit(100, START_MS + 50_000, lot=LotId("l1")), "first", tenant)
    for name in NAMES:
        world.tick(name)
        world.land(name)
        world.deliver()
    for kind, *arguments in history:
        match kind:
            case "submit" | "give back":
                name, command, key = arguments
                answer = world.submit(name, command, key, TENANT if kind == "submit" else UMBRA)
                if isinstance(answer, Accepted):
                    pending[name].add(answer.filed.dot)
            case "land":
                world.land(arguments[0])
                acknowledged[arguments[0]] |= pending[arguments[0]]
                pending[arguments[0]] = set()
            case "crash":
                world.crash(arguments[0])
                pending[arguments[0]] = set()
            case "set_cut":
                if arguments[0] != arguments[1]:
                    world.set_cut(*arguments)
            case _:
                getattr(world, kind)(*arguments)
    return acknowledged


def held(world: World, name: str) -> set[tuple[str, int]]:
    """The dots of all entries that a region holds."""
    clock = world.region(name).clock
    return {(replica, seq) for replica, count in clock.items() for seq in range(1, count + 1)}


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, max_size=70))
def test_regions_converge_on_one_serial_ledger_and_lose_nothing(history: list[tuple[Any, ...]]) -> None:
    world = World(NAMES)
    acknowledged = run(world, history)
    world.settle()
    clocks = [world.region(name).clock for name in NAMES]
    assert clocks[0] == clocks[1] == clocks[2]
    assert len({world.region(name).books.digest() for name in NAMES}) == 1
    reports = [list(world.region(name).conflicts.reports(None, END, world.now)) for name in NAMES]
    assert reports[0] == reports[1] == reports[2]
    for name in NAMES:
        assert acknowledged[name] <= held(world, name)
        result = world.audit(name)
        assert result.ok, result.findings
        assert result.books_equal
        assert not world.region(name).alarms.all()

    for tenant in (TENANT, UMBRA):
        is_one_serial_ledger(world, tenant)


def is_one_serial_ledger(world: World, tenant: TenantId) -> None:
    """A tenant's books are what one ledger has that was given its operations in canonical order; each key once."""
    book = world.region("us").books.existing(tenant, world.now)
    assert book is not None
    operations = [filed for filed in book.entries(BEGINNING, 100_000) if filed.operation is not None]
    serial = fold(
        (Line(filed.position, filed.operation, filed.key) for filed in operations if filed.operation),
        Rules().key_lifetime_ms,
    )
    assert {name: amount for name, amount in serial.accounts.items() if amount} == canonical_books(book.account)
    effects = Counter(
        filed.key
        for filed, verdict in zip(operations, serial.verdicts, strict=True)
        # A transfer is known by its name, whatever else its key was used for.
        if filed.key and verdict.postings and not isinstance(filed.operation, Transfer)
    )
    assert not effects or max(effects.values()) == 1, "a key has had two effects"


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=50), names)
def test_a_region_that_lost_its_disk_gets_everything_back(history: list[tuple[Any, ...]], victim: str) -> None:
    world = World(NAMES)
    run(world, history)
    world.settle(rounds=20)
    clock = dict(world.region(victim).clock)
    world.lose_disk(victim)
    world.settle(rounds=20)
    assert descends(world.region(victim).clock, clock)
    assert len({world.region(name).books.digest() for name in NAMES}) == 1
    assert world.audit(victim).books_equal


@settings(max_examples=60, deadline=None)
@given(st.lists(steps.filter(lambda step: step[0] not in ("set_cut", "crash")), max_size=60))
def test_one_region_alone_never_compensates(history: list[tuple[Any, ...]]) -> None:
    world = World(NAMES)
    for kind, *arguments in history:
        if kind == "submit":
            world.submit("us", arguments[1], arguments[2])
        elif kind == "pass_time":
            world.pass_time(arguments[0])
        world.tick("us")
        world.land("us")
    world.settle()
    assert not list(world.region("us").conflicts.reports(None, END, world.now))
    assert not world.region("us").alarms.all()
