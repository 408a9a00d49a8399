"""Nothing is buffered without bound: not by a flood of entries, not by a peer that is away for hours.

And what counts against a bound is given back: what no longer waits must not take the room of what will.
"""

from typing import TYPE_CHECKING

from replication.codec import Entries, Frame
from replication.delivery import weight_of
from replication.gossip import Session
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class BoundedQueues(Check):
    """What waits for its causes, what one page carries, how far a peer is pushed beyond what it says that it holds."""

    def sends(self, node: "SimulatedNode", session: Session, frame: Frame) -> None:
        if not isinstance(frame, Entries):
            return
        assert node.region is not None
        settings, own = node.settings, node.region.replica
        ahead = frame.reaches.get(own, 0) - session.peer_has.get(own, 0)
        if not frame.answers and ahead > settings.window_entries:
            raise Broken(f"{node.name} pushes {session.region} {ahead} entries beyond what it is known to have")
        size = sum(map(len, frame.page))
        if len(frame.page) > settings.page_entries or (len(frame.page) > 1 and size > settings.page_bytes):
            raise Broken(f"{node.name} sends a page of {len(frame.page)} entries, {size} bytes")

    def ticked(self, node: "SimulatedNode") -> None:
        region = node.region
        assert region is not None
        delivery, window = region.delivery, node.settings.window_entries
        for log, waiting in delivery._waiting.items():
            if len(waiting) > window:
                raise Broken(f"{node.name}: {len(waiting)} entries of {log} wait, {window} may")
        weight = sum(weight_of(*held) for waiting in delivery._waiting.values() for held in waiting.values())
        if delivery._waiting_bytes != weight:
            raise Broken(
                f"{node.name} counts {delivery._waiting_bytes} bytes of entries that wait, which have {weight}"
            )
