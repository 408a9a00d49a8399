"""The condition of a node and its cluster, as this node sees it: for the cluster page, for replies and for metrics."""

from collections.abc import Mapping

from msgspec import Struct

from node.alarms import Alarm, AlarmKind
from node.links import Links
from node.metrics import Gauges
from node.region import Region
from replication.clock import VectorClock, lacking_count, ms_of


class Lag(Struct, frozen=True):
    """How far this node may be behind a peer."""

    entries: int
    heard_ms_ago: int | None


class PeerState(Struct, frozen=True, kw_only=True):
    """A peer region as this node sees it."""

    region: str
    linked: bool
    cut: bool
    heard_ms_ago: int | None
    missing_here: int
    missing_there: int
    promise: int | None


class ClusterState(Struct, frozen=True, kw_only=True):
    """The cluster as this node sees it."""

    clock: VectorClock
    digest: str | None
    unsettled_tenants: int
    findings: Mapping[str, int] | None
    peers: list[PeerState]
    frontier: int | None
    held_back_by: str | None
    alarms: list[Alarm]


def lags(region: Region, links: Links, now: int) -> dict[str, Lag]:
    """How far this node may be behind each peer at `now` (ms)."""
    return {
        name: Lag(lacking_count(region.clock, peer.has), _ago(peer.heard_at, now)) for name, peer in links.peers.items()
    }


def cluster_state(
    region: Region, links: Links, findings: Mapping[str, int] | None, now: int, with_digest: bool
) -> ClusterState:
    """The cluster at `now` (ms)."""
    clock = dict(region.clock)
    frontier = links.frontier
    return ClusterState(
        clock=clock,
        digest=region.books.digest() if with_digest else None,
        unsettled_tenants=region.unsettled_count,
        findings=findings,
        peers=[
            PeerState(
                region=peer.region,
                linked=peer.session is not None,
                cut=peer.is_cut,
                heard_ms_ago=_ago(peer.heard_at, now),
                missing_here=lacking_count(clock, peer.has),
                missing_there=lacking_count(peer.has, clock),
                promise=peer.promise or None,
            )
            for peer in links.peers.values()
        ],
        frontier=frontier.reached or None,
        held_back_by=frontier.holders[0] if links.peers else None,
        alarms=region.alarms.all(),
    )


def gauges(
    region: Region, links: Links, findings: Mapping[str, int] | None, waiting: int, started_at: int, now: int
) -> Gauges:
    """What metrics show at `now`, times in ms; `waiting` requests wait for a commit."""
    peers = links.peers.values()
    debts = region.books.debts()
    return Gauges(
        conflicts=region.counts.conflicts,
        orphaned_holds=region.counts.lapsed,
        forks=region.alarms.count(AlarmKind.FORK),
        damaged_commits=region.mending.damaged,
        mended_commits=region.mending.mended,
        debt_outstanding=sum(debts.values()),
        negative_balances=len(debts),
        findings=findings or {},
        replication_lag_entries={peer.region: lacking_count(region.clock, peer.has) for peer in peers},
        replication_silence_seconds={
            peer.region: (now - peer.heard_at) / 1000 for peer in peers if peer.heard_at is not None
        },
        frontier_age_seconds={
            name: max(0, now - (ms_of(promise) or started_at)) / 1000
            for name, promise in links.frontier.counted.items()
        },
        clock_offset_seconds={
            peer.region: (ms_of(peer.hlc) - peer.heard_at) / 1000 for peer in peers if peer.heard_at and peer.hlc
        },
        queue_depth={"commit": waiting, "delivery": region.delivery.waiting_count},
    )


def _ago(then: int | None, now: int) -> int | None:
    return None if then is None else max(0, now - then)
