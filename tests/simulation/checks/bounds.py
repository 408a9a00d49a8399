"""Nothing is buffered without bound: not by a flood of entries, not by a peer that is away for hours."""

from typing import TYPE_CHECKING

from replication.codec import Entries, Frame
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class BoundedQueues(Check):
    """What waits for its causes, what one page carries."""

    def sends(self, node: "SimulatedNode", frame: Frame) -> None:
        if not isinstance(frame, Entries):
            return
        settings = node.settings
        size = sum(map(len, frame.page))
        if len(frame.page) > settings.page_entries or (len(frame.page) > 1 and size > settings.page_bytes):
            raise Broken(f"{node.name} sends a page of {len(frame.page)} entries, {size} bytes")

    def ticked(self, node: "SimulatedNode") -> None:
        region = node.region
        assert region is not None
        waiting, window = region.delivery.waiting_count, node.settings.window_entries
        if waiting > window * len(node.facts.logs):
            raise Broken(f"{node.name}: {waiting} entries wait, {window} of a log may")
