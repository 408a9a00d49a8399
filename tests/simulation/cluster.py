"""One run: a cluster is put together, things go wrong for a while, all is healed, and everything must come to rest.

The safety phase lasts as long as the scenario says. In the liveness phase nothing goes wrong any more and nobody asks
anything; within a time that can be worked out in advance all regions must hold the same entries and owe nothing.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec import Struct

from node.alarms import AlarmKind
from tests.simulation.checks import all_checks
from tests.simulation.clients import Clientele
from tests.simulation.clock import WallClock
from tests.simulation.disk import SimulatedDisk
from tests.simulation.facts import Fact, Facts
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode
from tests.simulation.scenario import START_MS, Fault, Scenario
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace
from tests.simulation.watch import Broken, Watch

_SETTLING_BEATS: Final = 30
_FALLING_DUE_BEATS: Final = 10
_TELLING_BEATS: Final = 3
_LOOK_BEATS: Final = 3
_LINK_SILENCE_MS: Final = 2_000
_SILENT_BEATS: Final = 10


class Result(Struct, frozen=True):
    """What came of a run."""

    seed: int
    hash: str
    counts: dict[str, int]
    entries: int
    simulated_ms: int
    beat_ms: int
    """The pace of the world, which decides how much happens in a simulated second."""
    settled_share: float
    """How much of the time that it may take the cluster took to come to rest."""
    failure: str | None
    lines: list[str]


class Cluster:
    """The nodes, and all that is around them."""

    def __init__(self, scenario: Scenario, *, keep_lines: bool = False) -> None:
        self.scenario = scenario
        self.trace = Trace(START_MS, keep_lines=keep_lines)
        self.scheduler = Scheduler(START_MS)
        self._watch = Watch(all_checks())
        random = Random(f"cluster {scenario.seed}")
        self._network = Network(
            self.scheduler, self.trace, scenario.weather, scenario.beat, Random(f"network {scenario.seed}")
        )
        self.nodes: dict[str, SimulatedNode] = {}
        for name in scenario.regions:
            offset = random.randint(-scenario.skew_ms, scenario.skew_ms)
            drift = random.randint(-scenario.drift_ppm, scenario.drift_ppm)
            self.nodes[name] = SimulatedNode(
                scenario.settings_of(name),
                WallClock(START_MS, offset, drift),
                self.scheduler,
                self._network,
                self.trace,
                self._watch,
                tick_ms=scenario.tick,
                disk_ms=scenario.disk_ms,
            )
        self._agreed_on = 0
        """How many entries there were when the regions agreed last."""
        self._clientele = Clientele(scenario, self, self.scheduler, self.trace)
        self._nemesis = Nemesis(scenario, self, self._network, self.scheduler, self.trace)

    # -- what checks ask --------------------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """What is true of the run."""
        return self._watch.facts

    @property
    def is_garbled(self) -> bool:
        """Whether frames get spoilt in this world."""
        return self.scenario.weather.garbage > 0

    @property
    def has_lost_disks(self) -> bool:
        """Whether a region of this world may lose what it had on disk."""
        faults = {happening.fault for happening in self.scenario.happenings}
        return bool(faults & {Fault.LOST_DISK, Fault.RESTORED_BACKUP})

    def held_by_all(self, tenant: str) -> list[Fact]:
        """At rest: a tenant's entries, in canonical order."""
        region = next(iter(self.nodes.values())).region
        assert region is not None
        return self.facts.covered(tenant, region.clock)

    # -- a run ------------------------------------------------------------------------------------------------------

    def run(self) -> float:
        """Let it all happen. Returns what share of the time allowed it took to come to rest. Raises `Broken`."""
        self._watch.tell("begun", self)
        for node in self.nodes.values():
            node.start()
        self._network.begin(self.nodes)
        self._nemesis.begin()
        self._clientele.begin()
        self._look_again()
        self.scheduler.run_until(START_MS + self.scenario.duration)
        self._clientele.leave()
        self._nemesis.end()
        self.trace.note(self.scheduler.now, "cluster", "all is healed")
        self._watch.tell("healed", self)
        share = self._come_to_rest()
        self._scrub()
        self._stay_at_rest()
        self._scrub()
        self._let_all_fall_due()
        self._watch.tell("agreed", self)
        self._watch.tell("rested", self)
        for node in self.nodes.values():
            assert node.region is not None
            self.trace.note(self.scheduler.now, node.name, f"rests with {node.region.books.digest()}")
        return share

    def disk_replaced(self, node: SimulatedNode, disk: SimulatedDisk) -> None:
        """A node that is down gets another disk."""
        assert node.region is None
        before, node.disk = node.disk, disk
        self._watch.tell("disk_replaced", node, before.entries, disk.entries)

    def damaged(self, node: SimulatedNode, dots: Sequence[tuple[str, int]]) -> None:
        """A bit was flipped on a node's disk."""
        self._watch.tell("damaged", node, dots)

    def lied_to(self, node: SimulatedNode, alarm: AlarmKind, subject: str) -> None:
        """A node was told what cannot be."""
        self._watch.tell("lied_to", node, alarm, subject)

    def _look_again(self) -> None:
        """Every now and then: if the regions happen to agree, checks are told, while all goes on."""
        if self._is_at_rest() and not any(node.is_damaged for node in self.nodes.values()):
            held = sum(len(facts) for facts in self.facts.by_tenant.values())
            if held > self._agreed_on:
                self._agreed_on = held
                self.trace.count("regions agree meanwhile")
                self._watch.tell("agreed", self)
        self.scheduler.after(_LOOK_BEATS * self.scenario.beat, self._look_again)

    def _come_to_rest(self) -> float:
        began, allowed = self.scheduler.now, self._time_allowed()
        while not self._is_at_rest():
            if self.scheduler.now - began > allowed:
                if self._give_up_what_is_lost():
                    return self._come_to_rest()
                raise Broken(f"not at rest after {allowed} ms: {self._what_is_due()}")
            self.scheduler.run_until(self.scheduler.now + self.scenario.tick)
        return (self.scheduler.now - began) / allowed

    def _give_up_what_is_lost(self) -> bool:
        """What an operator does about an entry that was damaged where its only copy was: let the store be rebuilt."""
        hopeless = [node for node in self.nodes.values() if node.region is not None and node.region.mending.damaged]
        for node in hopeless:
            self.trace.count("operator gives a damaged entry up")
            node.rebuild("no peer has what was damaged here")
        return bool(hopeless)

    def _scrub(self) -> None:
        """Read everything there is on every disk that was damaged, so that what is damaged is found, and made whole."""
        damaged = [node for node in self.nodes.values() if node.is_damaged]
        while [node for node in damaged if not node.scrub()]:
            self._come_to_rest()

    def _stay_at_rest(self) -> None:
        """What is settled stays settled: no new compensations for a tenant of which there are no new operations."""
        before = {tenant: len(facts) for tenant, facts in self.facts.by_tenant.items()}
        self.scheduler.run_until(self.scheduler.now + self.scenario.settings["settle_at_most_ms"] + self.scenario.beat)
        for tenant, facts in self.facts.by_tenant.items():
            fresh = facts[before.get(tenant, 0) :]
            if fresh and not any(fact.is_operation for fact in fresh):
                raise Broken(f"{len(fresh)} compensations for {tenant} at rest")
        self._come_to_rest()

    def _let_all_fall_due(self) -> None:
        """Wait until the longest lease is over, dead links have been noticed, and what that brings about is done."""
        settings = self.scenario.settings
        leases = (getattr(fact.entry.content, "lease_until", 0) for fact in self.facts.by_dot.values())
        open_ms = max(leases, default=0) - min(node.now() for node in self.nodes.values())
        settling = settings["settle_at_most_ms"] + settings["settle_after_ms"] + _FALLING_DUE_BEATS * self.scenario.beat
        self.scheduler.run_until(self.scheduler.now + max(open_ms, self._silence_ms) + settling)
        told_ms = _TELLING_BEATS * self.scenario.beat + self.scenario.weather.slowest_ms
        known = -1
        while known < len(self.facts.by_dot):
            known = len(self.facts.by_dot)
            # What is posted now, everybody must also hear of that everybody has it.
            self._come_to_rest()
            self.scheduler.run_until(self.scheduler.now + told_ms)
        self._come_to_rest()

    def _is_at_rest(self) -> bool:
        regions = [node.region for node in self.nodes.values() if node.region is not None]
        first = regions[0] if len(regions) == len(self.nodes) else None
        return first is not None and all(
            region.clock == first.clock == region.durable
            and not region.unsettled_count
            and not region.journal.open_count
            and not region.mending.damaged
            for region in regions
        )

    def _what_is_due(self) -> str:
        return "; ".join(
            f"{node.name} {node.region.clock}, {node.region.unsettled_count} unsettled,"
            f" {node.region.delivery.waiting_count} waiting"
            for node in self.nodes.values()
            if node.region is not None
        )

    def _time_allowed(self) -> int:
        """How long it may take, in ms.

        Clocks that were ahead must be reached by the others; links that are dead must be noticed and dialled anew;
        every entry may need a page of its own, there and on; then the books must be quiet for long enough.
        """
        scenario, settings, now = self.scenario, self.scenario.settings, self.scheduler.now
        slowest = min(node.now() for node in self.nodes.values())
        latest = max((fact.entry.hlc >> 16 for fact in self.facts.by_dot.values()), default=now)
        ahead = max(0, latest - slowest)
        page_ms = 2 * scenario.weather.slowest_ms + 2 * scenario.disk_ms + scenario.tick
        pages = len(self.facts.by_dot) * page_ms
        settling = settings["settle_at_most_ms"] + settings["settle_after_ms"] + _SETTLING_BEATS * scenario.beat
        return ahead + self._silence_ms + pages + settling

    @property
    def _silence_ms(self) -> int:
        """After so long a link over which nothing comes is given up."""
        return max(_LINK_SILENCE_MS, _SILENT_BEATS * self.scenario.beat)


def simulate(scenario: Scenario, *, keep_lines: bool = False) -> Result:
    """Run one world to its end, or to the first broken promise."""
    cluster = Cluster(scenario, keep_lines=keep_lines)
    failure, share = None, 0.0
    try:
        share = cluster.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not have happened
        failure = _told(error)
        cluster.trace.note(cluster.scheduler.now, "BROKEN", failure)
    return Result(
        seed=scenario.seed,
        hash=cluster.trace.hash,
        counts=dict(cluster.trace.counts),
        entries=len(cluster.facts.by_dot),
        simulated_ms=cluster.scheduler.now - START_MS,
        beat_ms=scenario.beat,
        settled_share=share,
        failure=failure,
        lines=cluster.trace.lines,
    )


def _told(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
    return f"{type(error).__name__} ({where}): {error}"
