"""What a node counts and measures, in Prometheus' terms; the alert rules and dashboards read it under these names.

Two ways in. What happens is counted as it happens, by plain integers: a count costs a few dozen nanoseconds, and only
the event loop counts, so nothing is locked. What merely is (debt, lag, queues) is told once in a while, as `Gauges`,
and a scrape shows what was told last. No metric has a label for tenants: there are millions of them, and they are
nobody's business here.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

SECONDS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ENTRIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

ACCEPTED: Final = "accepted"
REPLAYED: Final = "replayed"


class Gauges(Struct, frozen=True, kw_only=True):
    """How things stand, and what the region has counted by now."""

    conflicts: Mapping[str, int]
    """By kind: operations of this region that lost."""
    orphaned_holds: int
    """Reservations of this region that lapsed: their jobs neither renewed nor ended them."""
    forks: int
    """Logs found to have two continuations."""
    damaged_commits: int
    """Commits of the journal that cannot be read at present."""
    mended_commits: int
    """Those that could not, and were made whole again."""
    debt_outstanding: int
    """Credit that tenants owe, all together, as a number of at least 0."""
    negative_balances: int
    """Tenants that owe more than they have."""
    findings: Mapping[str, int]
    """By kind: what the last reconciliation found; empty before the first."""
    replication_lag_entries: Mapping[str, int]
    """Per peer region: entries that it has and this node lacks."""
    replication_silence_seconds: Mapping[str, float]
    """Per peer region: how long ago anything was heard of it; absent until something was."""
    frontier_age_seconds: Mapping[str, float]
    """Per region: how far its promise is behind the clock; the greatest is what holds checkpoints back."""
    clock_offset_seconds: Mapping[str, float]
    """Per peer region: how far its clock was ahead of this node's when it was last heard."""
    queue_depth: Mapping[str, int]
    """Per queue: what waits in it."""


class Histogram:
    """Observations, counted by bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Upper bound and how many observations are at or below it."""
        below = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            yield bound, below


class Metrics(Collector):
    """One node's metrics. Call the methods from the event loop."""

    def __init__(self) -> None:
        self._gauges: Gauges | None = None
        self._attempts: dict[str, int] = {}
        self._insufficient = 0
        self._frames_refused: dict[str, int] = {}
        self._admission = Histogram(SECONDS)
        self._write = Histogram(SECONDS)
        self._commit = Histogram(SECONDS)
        self._batch = Histogram(ENTRIES)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # -- counting ---------------------------------------------------------------------------------------------------

    def reservation(self, outcome: str, seconds: float) -> None:
        """A request to reserve was answered: `ACCEPTED`, `REPLAYED`, or the reason of the refusal."""
        self._attempts[outcome] = self._attempts.get(outcome, 0) + 1
        self._admission.observe(seconds)

    def insufficient_credit(self) -> None:
        """A request of any kind was refused for lack of credit."""
        self._insufficient += 1

    def written(self, seconds: float) -> None:
        """A client's command became a durable entry."""
        self._write.observe(seconds)

    def batch_sealed(self, entries: int) -> None:
        """A batch was handed to the disk."""
        self._batch.observe(entries)

    def commit_landed(self, seconds: float) -> None:
        """A batch became durable, so long after it was handed over."""
        self._commit.observe(seconds)

    def frame_refused(self, reason: str) -> None:
        """A peer sent what this node does not take."""
        self._frames_refused[reason] = self._frames_refused.get(reason, 0) + 1

    def observe(self, gauges: Gauges) -> None:
        """How things stand now."""
        self._gauges = gauges

    # -- scraping ---------------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What prometheus-client asks for at a scrape."""
        yield from self._counted()
        yield from self._measured()
        if self._gauges is not None:
            yield from self._standing(self._gauges)

    def _counted(self) -> Iterator[Metric]:
        yield _by(
            CounterMetricFamily("creditmesh_reservation_attempts", "Requests to reserve", labels=["outcome"]),
            self._attempts,
        )
        yield CounterMetricFamily(
            "creditmesh_insufficient_credit_refusals", "Requests refused for lack of credit", self._insufficient
        )
        yield _by(
            CounterMetricFamily("creditmesh_frames_refused", "Frames of peers not taken", labels=["reason"]),
            self._frames_refused,
        )

    def _measured(self) -> Iterator[Metric]:
        for name, meaning, histogram in (
            ("admission_latency_seconds", "From a request to reserve, read, to its answer", self._admission),
            ("ledger_write_latency_seconds", "From a command to its durable entry", self._write),
            ("commit_latency_seconds", "From a batch's hand-over to its being durable", self._commit),
            ("batch_entries", "Entries in one durable batch", self._batch),
        ):
            yield HistogramMetricFamily(
                f"creditmesh_{name}", meaning, buckets=list(histogram.buckets()), sum_value=histogram.total
            )

    def _standing(self, now: Gauges) -> Iterator[Metric]:
        yield _by(
            CounterMetricFamily("creditmesh_conflicts", "Operations of this region that lost", labels=["kind"]),
            now.conflicts,
        )
        yield CounterMetricFamily(
            "creditmesh_orphaned_holds", "Reservations of this region that lapsed", now.orphaned_holds
        )
        yield CounterMetricFamily("creditmesh_forks", "Logs found with two continuations", now.forks)
        yield CounterMetricFamily(
            "creditmesh_mended_commits", "Damaged commits of the journal, whole again", now.mended_commits
        )
        yield GaugeMetricFamily(
            "creditmesh_damaged_commits", "Commits of the journal that cannot be read", now.damaged_commits
        )
        yield GaugeMetricFamily("creditmesh_debt_outstanding_credits", "Credit owed", now.debt_outstanding)
        yield GaugeMetricFamily(
            "creditmesh_negative_balance_tenants", "Tenants that owe more than they have", now.negative_balances
        )
        for name, meaning, label, values in (
            ("reconciliation_findings", "What the last reconciliation found", "kind", now.findings),
            ("replication_lag_entries", "Entries that a peer has and this node lacks", "peer",
             now.replication_lag_entries),
            ("replication_silence_seconds", "Since anything was heard of a peer", "peer",
             now.replication_silence_seconds),
            ("frontier_age_seconds", "How far a region's promise is behind the clock", "region",
             now.frontier_age_seconds),
            ("clock_offset_seconds", "A peer's clock, ahead of this node's", "peer", now.clock_offset_seconds),
            ("queue_depth", "What waits", "queue", now.queue_depth),
        ):  # fmt: skip
            yield _by(GaugeMetricFamily(f"creditmesh_{name}", meaning, labels=[label]), values)


def _by(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for value in sorted(values):
        family.add_metric([value], values[value])
    return family
