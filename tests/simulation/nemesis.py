"""What goes wrong: carries out the happenings of a scenario, and in the end puts everything right.

What is counted is what a fault has done, not that it was to happen: where it finds nothing to do, it comes to nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from random import Random
from typing import TYPE_CHECKING, Final

from node.rebuild import mark
from tests.simulation.disk import SimulatedDisk
from tests.simulation.lies import lie
from tests.simulation.network import Network, pairs_between
from tests.simulation.node import SimulatedNode
from tests.simulation.scenario import Fault, Happening, Scenario
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

_OF_THE_NETWORK: Final = {Fault.CUT, Fault.SPLIT, Fault.LONG_CUT, Fault.ONE_WAY, Fault.RING, Fault.BRIDGE, Fault.FLAP}
_OF_A_PROCESS: Final = {
    Fault.CRASH,
    Fault.CRASH_IN_START,
    Fault.STOP,
    Fault.PAUSE,
    Fault.DISK_FULL,
    Fault.LOW_DISK,
    Fault.REBOOT,
    Fault.NONSENSE,
}
"""They hit the next node that has a process to be hit."""

_HOURS_MS: Final = 2 * 3_600_000
_FLAPS: Final = 4
_FARTHEST_STEP_BEATS: Final = 12


class Nemesis:
    """Arranges the faults of one run. What a fault takes away it gives back when its time is over."""

    def __init__(
        self, scenario: Scenario, cluster: "Cluster", network: Network, scheduler: Scheduler, trace: Trace
    ) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._network = network
        self._scheduler = scheduler
        self._trace = trace
        self._random = Random(f"nemesis {scenario.seed}")
        self._backups: dict[Happening, SimulatedDisk] = {}
        self._is_over = False

    def begin(self) -> None:
        """Arrange for all that is to happen."""
        for happening in self._scenario.happenings:
            if happening.fault is Fault.RESTORED_BACKUP:
                before = max(0, happening.at - happening.lasts)
                self._at(before, partial(self._back_up, happening))
            self._at(happening.at, partial(self._strike, happening))

    def end(self) -> None:
        """No more faults; what is down comes up, what is wrong is put right."""
        self._is_over = True
        self._network.calm()
        for node in self._cluster.nodes.values():
            node.fails_next, node.is_low_on_disk = None, False
            node.clock.set_right(self._scheduler.now, self._scenario.settings["max_clock_drift_ms"] // 4)
            if node.is_paused:
                node.resume()
            self._start(node)

    def _at(self, delay_ms: int, action: Callable[[], object]) -> None:
        def act() -> None:
            if not self._is_over:
                action()

        self._scheduler.after(delay_ms, act)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _strike(self, happening: Happening) -> None:
        names = list(self._cluster.nodes)
        one = self._cluster.nodes[names[happening.one % len(names)]]
        awake = next((node for node in self._starting_with(one) if node.is_awake), None)
        if happening.fault in _OF_A_PROCESS:
            if awake is None:
                return
            one = awake
        others = [name for name in names if name != one.name]
        self._trace.note(self._scheduler.now, one.name, f"suffers {happening.fault} for {happening.lasts} ms")
        if happening.fault in _OF_THE_NETWORK:
            self._count_if(self._cut(happening, one.name, others), happening.fault)
        else:
            self._count_if(self._hit(happening, one, others), happening.fault)

    def _starting_with(self, one: SimulatedNode) -> list[SimulatedNode]:
        nodes = list(self._cluster.nodes.values())
        first = nodes.index(one)
        return nodes[first:] + nodes[:first]

    def _count_if(self, has_struck: bool, fault: Fault) -> None:
        if has_struck:
            self._trace.count(f"fault: {fault}")

    def _cut(self, happening: Happening, one: str, others: list[str]) -> bool:
        """A fault of the network; whether it keeps back anything that would have got through."""
        names = list(self._cluster.nodes)
        other = others[happening.other % len(others)]
        match happening.fault:
            case Fault.CUT:
                return self._block(list(pairs_between([one], [other])), happening)
            case Fault.SPLIT:
                size = 1 + happening.other % (len(names) - 1)
                return self._block(list(pairs_between(names[:size], names[size:])), happening)
            case Fault.LONG_CUT:
                if self._block(list(pairs_between([one], others)), happening):
                    if happening.lasts >= _HOURS_MS:
                        self._trace.count("cut for hours")
                    return True
                return False
            case Fault.ONE_WAY:
                return self._block([(one, other)], happening)
            case Fault.RING:
                near = {(here, (here + 1) % len(names)) for here in range(len(names))}
                near |= {(there, here) for here, there in near}
                far = [pair for pair in permutations(range(len(names)), 2) if pair not in near]
                return self._block([(names[here], names[there]) for here, there in far], happening)
            case Fault.BRIDGE:
                half = len(others) // 2
                return self._block(list(pairs_between(others[:half], others[half:])), happening)
            case _:
                return self._flap(one, other, happening)

    def _hit(self, happening: Happening, one: SimulatedNode, others: list[str]) -> bool:
        """A fault of one node; whether it has done anything by now."""
        match happening.fault:
            case Fault.CRASH:
                one.stop("it crashes", flight_lands=happening.coin < 0.5)
                self._restart_after(one, happening.lasts // 4)
            case Fault.CRASH_IN_START:
                one.stop("it crashes", flight_lands=happening.coin < 0.5)
                if happening.other % 2:
                    mark(one.disk.rows.write, "somebody wants it")
                self._at(happening.lasts // 8, lambda: self._crash_in_start(one, happening))
                self._restart_after(one, happening.lasts // 4)
                return False
            case Fault.STOP:
                one.leave()
                self._restart_after(one, happening.lasts // 4)
            case Fault.PAUSE:
                one.pause()
                self._at(happening.lasts, lambda: one.resume() if one.is_paused else None)
            case Fault.RESTORED_BACKUP:
                return self._replace_disk(one, self._backups[happening], happening)
            case Fault.LOST_DISK:
                return self._replace_disk(one, SimulatedDisk(), happening)
            case Fault.DISK_FULL:
                # The next commit will tell, and count it.
                one.fails_next = happening.coin < 0.5
                self._at(happening.lasts, lambda: self._give_room(one))
                return False
            case Fault.LOW_DISK:
                one.is_low_on_disk = True
                self._at(happening.lasts, lambda: setattr(one, "is_low_on_disk", False))
            case Fault.CLOCK_STEP:
                one.clock.step(int((2 * happening.coin - 1) * _FARTHEST_STEP_BEATS * self._scenario.beat))
            case Fault.CLOCK_FREEZE:
                if one.clock.is_frozen:
                    return False
                one.clock.freeze(self._scheduler.now)
                self._at(happening.lasts, lambda: one.clock.thaw(self._scheduler.now))
            case Fault.FLIPPED_BIT:
                where, dots = one.disk.damage(self._random)
                if where is None:
                    return False
                one.is_damaged = True
                one.note(f"has a bit flipped: {where}")
                self._cluster.damaged(one, dots)
            case Fault.REBOOT:
                one.clock.step(int(happening.coin * _FARTHEST_STEP_BEATS * self._scenario.beat))
                soon = (1 + happening.other % 3) * self._scenario.beat
                self._at(soon, lambda: self._reboot(one, others, happening))
                return False
            case _:
                return self._talk_nonsense(one, others[happening.other % len(others)])
        return True

    def _block(self, pairs: list[tuple[str, str]], happening: Happening) -> bool:
        kept_back = 0
        for sender, receiver in pairs:
            kept_back += self._network.block(sender, receiver)
            if happening.coin < 0.5:
                # A cable that is pulled tells nobody; a router that goes down may reset what goes through it.
                self._network.break_link(sender, receiver)
            self._at(happening.lasts, partial(self._network.unblock, sender, receiver))
        return kept_back > 0

    def _flap(self, one: str, other: str, happening: Happening) -> bool:
        step = max(1, happening.lasts // (2 * _FLAPS))
        kept_back = self._network.block(one, other)
        self._at(step, partial(self._network.unblock, one, other))
        for number in range(_FLAPS):
            for pair in ((one, other), (other, one)):
                self._at(2 * number * step, partial(self._network.block, *pair))
                self._at((2 * number + 1) * step, partial(self._network.unblock, *pair))
        return kept_back

    def _talk_nonsense(self, node: SimulatedNode, liar: str) -> bool:
        session = self._network.session_between(liar, node.name)
        if session is None or session.peer is None:
            return False
        told = lie(node, liar, self._random)
        node.note(f"is told nonsense by {liar}: {type(told.frame).__name__} {told.alarm or ''} {told.subject}")
        node.hear(session, told.frame)
        if told.alarm is not None and node.region is not None and not node.region.mending.damaged:
            self._cluster.lied_to(node, told.alarm, told.subject)
        return True

    # -- processes and disks ----------------------------------------------------------------------------------------

    def _start(self, node: SimulatedNode) -> None:
        if node.region is None:
            node.start()

    def _restart_after(self, node: SimulatedNode, delay_ms: int) -> None:
        self._at(delay_ms, lambda: self._start(node))

    def _crash_in_start(self, node: SimulatedNode, happening: Happening) -> None:
        if node.region is None:
            node.start(fuse=happening.one + 4 * happening.other)
            self._count_if(node.region is None, Fault.CRASH_IN_START)

    def _give_room(self, node: SimulatedNode) -> None:
        node.fails_next = None
        self._start(node)

    def _reboot(self, node: SimulatedNode, others: list[str], happening: Happening) -> None:
        self._count_if(node.region is not None, Fault.REBOOT)
        node.stop("its machine goes down", flight_lands=False)
        node.clock.set_right(self._scheduler.now, 0)
        self._block(list(pairs_between([node.name], others)), happening)
        self._restart_after(node, happening.lasts // 8)

    def _back_up(self, happening: Happening) -> None:
        names = list(self._cluster.nodes)
        self._backups[happening] = self._cluster.nodes[names[happening.one % len(names)]].disk.copy()

    def _replace_disk(self, node: SimulatedNode, disk: SimulatedDisk, happening: Happening) -> bool:
        node.stop(f"its disk is replaced ({happening.fault})", flight_lands=happening.coin < 0.5)
        is_less = disk.entries != node.disk.entries
        self._cluster.disk_replaced(node, disk)
        self._restart_after(node, happening.lasts // 4)
        return is_less
