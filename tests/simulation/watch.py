"""What checks are told while a run goes on.

A check is told what happens, looks at whatever it wants, raises `Broken` when a promise is broken, and changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ledger.command import AcknowledgeConflict, Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.alarms import AlarmKind
from node.applying import Applied
from node.book import LedgerBook
from node.finding import Finding
from node.region import Accepted
from node.store.errors import StorageError
from replication.codec import Frame
from replication.entry import EntryError
from replication.filed import Filed
from replication.gossip import Session
from tests.simulation.facts import Fact, Facts

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Answer, SimulatedNode


class Broken(AssertionError):
    """A promise does not hold."""


class Check:
    """One promise. Every method is told of one thing that happens, after it happened; none does anything by itself."""

    def begun(self, cluster: "Cluster") -> None:
        """The cluster is there, its nodes are about to start."""

    def started(self, node: "SimulatedNode") -> None:
        """A process has started from its disk."""

    def rebuilt(self, node: "SimulatedNode") -> None:
        """A process is gone that had rebuilt the store, or part of it, and done nothing else."""

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        """A node is applying an entry: it has judged it, and is about to put it into its journal."""

    def asked(self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, now: int) -> None:
        """A node is about to decide on a command, at its own time `now`."""

    def decided(
        self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, answer: "Answer", now: int
    ) -> None:
        """A node has decided on a command, at its own time `now`; nobody has heard of it yet."""

    def settling(self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, now: int) -> None:
        """A node is about to decide, at its own time `now`, on settling a finding, which stands unless it is None."""

    def settled(
        self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, answer: Applied, now: int
    ) -> None:
        """A node has decided, at its own time `now`, on settling a finding, which stood unless it is None."""

    def conflict_acknowledged(
        self, node: "SimulatedNode", said: AcknowledgeConflict, answer: Accepted | Refusal
    ) -> None:
        """A node has decided on the acknowledgement of a conflict."""

    def snapshot_landed(self, node: "SimulatedNode", source: str, at: int) -> None:
        """A scheduler's snapshot is on the disk of a node, and its scheduler is told so."""

    def seen(self, node: "SimulatedNode", book: LedgerBook, now: int) -> None:
        """A balance was looked at."""

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        """A node gives an answer to a client."""

    def tells(self, node: "SimulatedNode", tenant: TenantId, clock: dict[str, int]) -> None:
        """A node tells a client something about a tenant, as it stood when the node had applied what `clock` counts."""

    def sends(self, node: "SimulatedNode", session: Session, frame: Frame) -> None:
        """A node sends a frame to a peer."""

    def landed(self, node: "SimulatedNode") -> None:
        """A batch is on the disk of a node."""

    def ticked(self, node: "SimulatedNode") -> None:
        """A node has done what was due."""

    def disk_replaced(self, node: "SimulatedNode", before: dict[str, int], after: dict[str, int]) -> None:
        """A node that is down has lost part of what was on its disk; counts of entries by replica."""

    def damaged(self, node: "SimulatedNode", dots: Sequence[tuple[str, int]]) -> None:
        """A bit was flipped on the disk of a node, of a row with these entries in it."""

    def lied_to(self, node: "SimulatedNode", alarm: AlarmKind, subject: str) -> None:
        """A node has just been told something that cannot be, for which it raises an alarm."""

    def agreed(self, cluster: "Cluster") -> None:
        """All regions hold the same entries, durably, and owe nothing to the books: now and then, and in the end."""

    def healed(self, cluster: "Cluster") -> None:
        """From here on nothing goes wrong any more, and nobody asks for anything."""

    def rested(self, cluster: "Cluster") -> None:
        """All is healed, everything has been exchanged, and nothing is due: the longest lease is over."""


class Watch:
    """Tells all checks."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.facts = Facts()
        self._told = {what: _those_who_listen(checks, what) for what in vars(Check) if not what.startswith("_")}

    def tell(self, what: str, *arguments: Any) -> None:
        """Tell all checks of something, by the name of the method for it."""
        for listens in self._told[what]:
            listens(*arguments)

    def started(self, node: "SimulatedNode") -> None:
        """See `Check.started`."""
        self.tell("started", node)

    def rebuilt(self, node: "SimulatedNode") -> None:
        """See `Check.rebuilt`."""
        self.tell("rebuilt", node)

    def applied(self, node: "SimulatedNode", filed: Filed, sealed: bytes) -> None:
        """See `Check.applied`."""
        try:
            fact = self.facts.learn(sealed)
        except EntryError as error:
            raise Broken(f"{node.name} joins to its journal what is no entry: {error}") from None
        if filed.clock != fact.clock:
            raise Broken(f"{node.name} files {fact.dot} with the clock {filed.clock}, which is {fact.clock}")
        self.tell("applied", node, fact)

    def asked(self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, now: int) -> None:
        """See `Check.asked`."""
        self.tell("asked", node, tenant, command, key, now)

    def decided(
        self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, answer: "Answer", now: int
    ) -> None:
        """See `Check.decided`."""
        self.tell("decided", node, tenant, command, key, answer, now)

    def settling(self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, now: int) -> None:
        """See `Check.settling`."""
        self.tell("settling", node, tenant, name, finding, now)

    def settled(
        self, node: "SimulatedNode", tenant: TenantId, name: str, finding: Finding | None, answer: Applied, now: int
    ) -> None:
        """See `Check.settled`."""
        self.tell("settled", node, tenant, name, finding, answer, now)

    def conflict_acknowledged(
        self, node: "SimulatedNode", said: AcknowledgeConflict, answer: Accepted | Refusal
    ) -> None:
        """See `Check.conflict_acknowledged`."""
        self.tell("conflict_acknowledged", node, said, answer)

    def snapshot_landed(self, node: "SimulatedNode", source: str, at: int) -> None:
        """See `Check.snapshot_landed`."""
        self.tell("snapshot_landed", node, source, at)

    def seen(self, node: "SimulatedNode", book: LedgerBook, now: int) -> int:
        """See `Check.seen`; returns what is available."""
        self.tell("seen", node, book, now)
        return book.account.available(now)

    def answers(self, node: "SimulatedNode", answer: "Answer") -> None:
        """See `Check.answers`."""
        self.tell("answers", node, answer)

    def tells(self, node: "SimulatedNode", tenant: TenantId, clock: dict[str, int]) -> None:
        """See `Check.tells`."""
        self.tell("tells", node, tenant, clock)

    def sends(self, node: "SimulatedNode", session: Session, frame: Frame) -> None:
        """See `Check.sends`."""
        self.tell("sends", node, session, frame)

    def landed(self, node: "SimulatedNode") -> None:
        """See `Check.landed`."""
        self.tell("landed", node)

    def ticked(self, node: "SimulatedNode") -> None:
        """See `Check.ticked`."""
        self.tell("ticked", node)

    def failed(self, node: "SimulatedNode", error: StorageError) -> None:
        """A node found its store damaged. In a world in which nothing was damaged that must not happen."""
        if not node.is_damaged:
            raise Broken(f"{node.name} stops without cause: {error}")


def _those_who_listen(checks: Sequence[Check], what: str) -> list[Callable[..., None]]:
    """The methods of the checks that are not the empty one."""
    return [getattr(check, what) for check in checks if getattr(type(check), what) is not getattr(Check, what)]
