"""An alarm has a cause: what no fault of this run can bring about is not raised.

A difference without a rival, a fork and an entry that is too long never happen among correct nodes; one that a faulty
peer tells of a fork must say so. An entry before the frontier breaks a promise that was given: only a region that lost
its disk, or part of it, may break its promises.
"""

from typing import TYPE_CHECKING, Final

from node.alarms import AlarmKind
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode

_NEVER: Final = {
    AlarmKind.NO_RIVAL,
    AlarmKind.FORK,
    AlarmKind.TOO_LONG,
    AlarmKind.RULES_DIFFER,
    AlarmKind.WRONG_CLUSTER,
}


class NoFalseAlarm(Check):
    """Looks at the alarms of every node whenever it has done what was due."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, AlarmKind, str]] = set()
        self._lies: set[tuple[str, AlarmKind, str]] = set()
        self._cluster: Cluster

    def begun(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    def lied_to(self, node: "SimulatedNode", alarm: AlarmKind, subject: str) -> None:
        assert node.region is not None
        self._lies.add((node.region.replica, alarm, subject))
        if not any((raised.kind, raised.subject) == (alarm, subject) for raised in node.region.alarms.all()):
            raise Broken(f"{node.name} was told of {subject} what cannot be, and raises no alarm {alarm}")

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        for alarm in node.region.alarms.all():
            if (node.region.replica, alarm.kind, alarm.subject) not in self._seen:
                self._seen.add((node.region.replica, alarm.kind, alarm.subject))
                node.count(f"alarm: {alarm.kind}")
            if (node.region.replica, alarm.kind, alarm.subject) in self._lies:
                continue
            if alarm.kind in _NEVER:
                raise Broken(f"{node.name} raises {alarm}")
            if alarm.kind is AlarmKind.MALFORMED and not self._cluster.is_garbled:
                raise Broken(f"{node.name} raises {alarm}, and nothing was spoilt")
            if alarm.kind is AlarmKind.LATE and not self._cluster.has_lost_disks:
                raise Broken(f"{node.name} raises {alarm}, and no disk was lost")
