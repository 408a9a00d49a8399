"""What the routes need of a node: nothing else of it is known here.

The runtime is one; tests have another, in memory. What a `render` makes of a book or of the region is shown only once
all that it could see is durable; it is called at once, and once.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.alarms import Alarm
from node.applying import Applied
from node.book import LedgerBook
from node.books import Books
from node.clock import WallClock
from node.config import NodeConfig
from node.conflicts import Conflicts
from node.metrics import Metrics
from node.reconcile import Reconciliation
from node.region import Accepted, Received
from node.snapshots import ScheduledJob
from replication.clock import VectorClock
from replication.filed import Filed

T = TypeVar("T")

Asked = tuple[TenantId, Command, Key]
"""One command of a batch."""


class Unavailable(Exception):
    """The node cannot do what was asked of it; says why. A write may or may not be on disk all the same."""


class NothingDone(Unavailable):
    """As `Unavailable`, and nothing was written: asking again, later, does no harm."""


class RegionView(Protocol):
    """The region's state, for as long as a `render` runs."""

    @property
    def books(self) -> Books:
        """The books of all tenants."""
        ...

    @property
    def conflicts(self) -> Conflicts:
        """The reports of conflicts, and which of them have changed."""
        ...


class Lag(Protocol):
    """How far this node may be behind a peer."""

    @property
    def entries(self) -> int:
        """Entries that the peer said it has and this node lacks."""
        ...

    @property
    def heard_ms_ago(self) -> int | None:
        """None until anything was heard."""
        ...


class PeerState(Protocol):
    """A peer region, as this node sees it."""

    @property
    def region(self) -> str:
        """Its name."""
        ...

    @property
    def linked(self) -> bool:
        """Whether a link is up."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the link is cut on purpose."""
        ...

    @property
    def heard_ms_ago(self) -> int | None:
        """None until anything was heard."""
        ...

    @property
    def missing_here(self) -> int:
        """Entries that the peer has and this node lacks."""
        ...

    @property
    def missing_there(self) -> int:
        """Entries that this node has and the peer lacks."""
        ...

    @property
    def promise(self) -> int | None:
        """The hybrid clock reading up to which the peer will send nothing new."""
        ...


class ClusterState(Protocol):
    """The cluster, as this node sees it."""

    @property
    def clock(self) -> VectorClock:
        """The durable clock."""
        ...

    @property
    def digest(self) -> str | None:
        """Of canonical state, if asked for."""
        ...

    @property
    def unsettled_tenants(self) -> int:
        """Tenants whose books this node may still have to put right."""
        ...

    @property
    def findings(self) -> Mapping[str, int] | None:
        """By kind: what the last reconciliation by itself found; None before the first."""
        ...

    @property
    def peers(self) -> Sequence[PeerState]:
        """The other regions."""
        ...

    @property
    def frontier(self) -> int | None:
        """The hybrid clock reading up to which everything is stable."""
        ...

    @property
    def held_back_by(self) -> str | None:
        """The region whose promise is the least."""
        ...

    @property
    def alarms(self) -> Sequence[Alarm]:
        """What an operator must look at, oldest first."""
        ...


class AuditedLog(Protocol):
    """One replica's log, read and checked."""

    @property
    def replica(self) -> str:
        """Whose it is."""
        ...

    @property
    def entries(self) -> int:
        """How many it has."""
        ...

    @property
    def ok(self) -> bool:
        """Whether its chain is whole."""
        ...


class Audit(Protocol):
    """What an audit found."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        ...

    @property
    def entries(self) -> int:
        """How many were read."""
        ...

    @property
    def logs(self) -> Mapping[str, AuditedLog]:
        """By replica."""
        ...

    @property
    def tenants(self) -> int:
        """How many were folded."""
        ...

    @property
    def books_equal(self) -> bool:
        """Whether the sum of all postings is canonical state."""
        ...

    @property
    def findings(self) -> Sequence[str]:
        """What is wrong, in words."""
        ...


class Node(Protocol):
    """One region's node. Times are in ms."""

    @property
    def config(self) -> NodeConfig:
        """What it was told."""
        ...

    @property
    def name(self) -> str:
        """The region."""
        ...

    @property
    def replica(self) -> str:
        """``region/boot``."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Where to count."""
        ...

    @property
    def clock(self) -> WallClock:
        """Its wall clock, which may be set wrong on purpose."""
        ...

    def now(self) -> int:
        """The time at which a command would be judged."""
        ...

    async def submit(self, tenant: TenantId, command: Command, key: Key, wait_ms: int) -> Accepted | Refusal:
        """Judge a command; what stands is durable when this returns. Raises `Unavailable`.

        Of a tenant under escrow it waits up to `wait_ms` for credit to be moved here from other regions.
        """
        ...

    async def submit_all(self, asked: Sequence[Asked]) -> list[Accepted | Refusal | NothingDone]:
        """Judge commands in order, each by itself; what stands is durable, in one commit, when this returns.

        Raises `Unavailable`.
        """
        ...

    async def put_jobs(
        self, source: str, at: int, jobs: Mapping[TenantId, Sequence[ScheduledJob]]
    ) -> Received | Refusal:
        """Take a scheduler's snapshot; what is taken is on disk when this returns. Raises `Unavailable`."""
        ...

    async def reconcile(self, result: Reconciliation) -> None:
        """Look for what does not add up. Raises `Unavailable`."""
        ...

    async def acknowledge(self, command: AcknowledgeConflict, key: Key) -> Accepted | Refusal:
        """Note that a conflict was seen to; what is noted is durable when this returns. Raises `Unavailable`."""
        ...

    async def apply_finding(self, tenant: TenantId, name: str) -> Applied:
        """Settle a finding, once; what was posted is durable when this returns. Raises `Unavailable`."""
        ...

    async def read(self, tenant: TenantId, render: Callable[[LedgerBook], T]) -> T | None:
        """What `render` makes of a tenant's book; None for a tenant without any entry. Raises `Unavailable`."""
        ...

    async def read_all(self, render: Callable[[RegionView, int], T]) -> T:
        """What `render` makes of the region and the time. Raises `Unavailable`."""
        ...

    def in_slices(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """What long work yields, step by step, others being served in between. Raises `Unavailable`."""
        ...

    def promises(self) -> Mapping[str, int]:
        """By region, this one too: the hybrid clock reading up to which it has promised that nothing more comes."""
        ...

    async def caught_up(self, clock: VectorClock, timeout_ms: int) -> bool:
        """Wait until the durable clock has seen all of `clock`; False if it has not in time."""
        ...

    def as_of(self) -> str:
        """The token of what is applied: of what a `render` sees."""
        ...

    async def landed(self, after: int, timeout_s: float) -> int | None:
        """Wait until a commit later than `after` is durable, so long at most; the last one that is.

        None as soon as the node is about to stop.
        """
        ...

    def behind(self) -> Mapping[str, Lag]:
        """By peer region."""
        ...

    def not_ready(self) -> Sequence[str]:
        """Why no writes are taken; empty when they are. Asked at every write."""
        ...

    async def cluster(self, with_digest: bool) -> ClusterState:
        """The cluster, as this node sees it."""
        ...

    async def audit(self) -> Audit:
        """Check every log and every book."""
        ...

    def export(self, after: VectorClock) -> AsyncIterator[tuple[Filed, bytes]]:
        """All durable entries that `after` has not seen, with their hashes, causes before consequences."""
        ...

    def set_link(self, peer: str, cut: bool) -> None:
        """Cut the link to a peer, or open it again."""
        ...
