"""What goes wrong: carries out the happenings of a scenario, and in the end puts everything right."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, assert_never

from tests.simulation.disk import SimulatedDisk
from tests.simulation.network import Network, pairs_between
from tests.simulation.node import SimulatedNode
from tests.simulation.scenario import Fault, Happening, Scenario
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

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

    def _at(self, delay_ms: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self._is_over:
                action()

        self._scheduler.after(delay_ms, act)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _strike(self, happening: Happening) -> None:
        names = list(self._cluster.nodes)
        one = self._cluster.nodes[names[happening.one % len(names)]]
        others = [name for name in names if name != one.name]
        other = others[happening.other % len(others)]
        self._trace.note(self._scheduler.now, one.name, f"suffers {happening.fault} for {happening.lasts} ms")
        self._trace.count(f"fault: {happening.fault}")
        match happening.fault:
            case Fault.CUT:
                self._block(list(pairs_between([one.name], [other])), happening)
            case Fault.SPLIT:
                size = 1 + happening.other % (len(names) - 1)
                self._block(list(pairs_between(names[:size], names[size:])), happening)
            case Fault.LONG_CUT:
                self._block(list(pairs_between([one.name], others)), happening)
            case Fault.ONE_WAY:
                self._block([(one.name, other)], happening)
            case Fault.RING:
                near = {(here, (here + 1) % len(names)) for here in range(len(names))}
                near |= {(there, here) for here, there in near}
                self._block(
                    [
                        (names[here], names[there])
                        for here in range(len(names))
                        for there in range(len(names))
                        if here != there and (here, there) not in near
                    ],
                    happening,
                )
            case Fault.BRIDGE:
                half = len(others) // 2
                self._block(list(pairs_between(others[:half], others[half:])), happening)
            case Fault.FLAP:
                self._flap(one.name, other, happening)
            case Fault.CRASH:
                one.stop("it crashes", flight_lands=happening.coin < 0.5)
                self._restart_after(one, happening.lasts // 4)
            case Fault.PAUSE:
                self._pause(one, happening)
            case Fault.RESTORED_BACKUP:
                self._replace_disk(one, self._backups[happening], happening)
            case Fault.LOST_DISK:
                self._replace_disk(one, SimulatedDisk(), happening)
            case Fault.DISK_FULL:
                one.fails_next = happening.coin < 0.5
                self._restart_after(one, happening.lasts)
            case Fault.MAP_FULL:
                one.fails_next = False
                self._restart_after(one, happening.lasts)
            case Fault.LOW_DISK:
                one.is_low_on_disk = True
                self._at(happening.lasts, lambda: setattr(one, "is_low_on_disk", False))
            case Fault.CLOCK_STEP:
                farthest = _FARTHEST_STEP_BEATS * self._scenario.beat
                one.clock.step(int((2 * happening.coin - 1) * farthest))
            case Fault.CLOCK_FREEZE:
                one.clock.freeze(self._scheduler.now)
                self._at(happening.lasts, lambda: one.clock.thaw(self._scheduler.now))
            case Fault.FLIPPED_BIT:
                where, dots = one.disk.damage(self._random)
                one.is_damaged = True
                one.note(f"has a bit flipped: {where}")
                self._cluster.damaged(one, dots)
            case Fault.REBOOT:
                one.clock.step(int(happening.coin * _FARTHEST_STEP_BEATS * self._scenario.beat))
                soon = (1 + happening.other % 3) * self._scenario.beat
                self._at(soon, lambda: self._reboot(one, others, happening))
            case _:
                assert_never(happening.fault)

    def _block(self, pairs: list[tuple[str, str]], happening: Happening) -> None:
        for sender, receiver in pairs:
            self._network.block(sender, receiver)
            if happening.coin < 0.5:
                # A cable that is pulled tells nobody; a router that goes down may reset what goes through it.
                self._network.break_link(sender, receiver)
            self._at(happening.lasts, partial(self._network.unblock, sender, receiver))

    def _flap(self, one: str, other: str, happening: Happening) -> None:
        step = max(1, happening.lasts // (2 * _FLAPS))
        for number in range(_FLAPS):
            for pair in ((one, other), (other, one)):
                self._at(2 * number * step, partial(self._network.block, *pair))
                self._at((2 * number + 1) * step, partial(self._network.unblock, *pair))

    # -- processes and disks ----------------------------------------------------------------------------------------

    def _start(self, node: SimulatedNode) -> None:
        if node.region is None:
            node.start()

    def _restart_after(self, node: SimulatedNode, delay_ms: int) -> None:
        self._at(delay_ms, lambda: self._start(node))

    def _reboot(self, node: SimulatedNode, others: list[str], happening: Happening) -> None:
        node.stop("its machine goes down", flight_lands=False)
        node.clock.set_right(self._scheduler.now, 0)
        self._block(list(pairs_between([node.name], others)), happening)
        self._restart_after(node, happening.lasts // 8)

    def _pause(self, node: SimulatedNode, happening: Happening) -> None:
        if node.is_awake:
            node.pause()
            self._at(happening.lasts, lambda: node.resume() if node.is_paused else None)

    def _back_up(self, happening: Happening) -> None:
        names = list(self._cluster.nodes)
        self._backups[happening] = self._cluster.nodes[names[happening.one % len(names)]].disk.copy()

    def _replace_disk(self, node: SimulatedNode, disk: SimulatedDisk, happening: Happening) -> None:
        node.stop(f"its disk is replaced ({happening.fault})", flight_lands=happening.coin < 0.5)
        self._cluster.disk_replaced(node, disk)
        self._restart_after(node, happening.lasts // 4)
