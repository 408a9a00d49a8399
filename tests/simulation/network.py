"""The network between the regions: links that come up and break, and frames that get lost, doubled, late and spoilt.

Two regions talk over one link at a time, which the one whose name sorts first opens, as in production; a link is a pair
of sessions. What differs is that frames need not arrive in order, or once, or at all, or as they were sent, while the
link stays up: harsher than the sockets of production, and nothing that the protocol relies on.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING

from msgspec import Struct

from replication.gossip import Session
from tests.simulation.scenario import Weather
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class End(Struct):
    """One region's end of a link."""

    link: int
    region: str
    peer: str
    session: Session
    has_sent: bool = False
    quiet_until: int = 0
    """When the last frame sent on it arrives: the next one comes later, unless it overtakes."""


class Network:
    """All links of the cluster.

    Relations kept: ``_ends`` holds every end that its node takes for up; the other end of its link may be gone.
    """

    def __init__(self, scheduler: Scheduler, trace: Trace, weather: Weather, dial_ms: int, random: Random) -> None:
        self._scheduler = scheduler
        self._trace = trace
        self._weather = weather
        self._dial_ms = dial_ms
        self._random = random
        self._nodes: dict[str, SimulatedNode] = {}
        self._ends: dict[Session, End] = {}
        self._blocked: Counter[tuple[str, str]] = Counter()
        self._numbers = 0
        self.in_flight: Counter[tuple[str, str]] = Counter()
        """Frames on their way, by sender and receiver."""

    def begin(self, nodes: dict[str, "SimulatedNode"]) -> None:
        """These nodes are connected from now on."""
        self._nodes = nodes
        for one, other in combinations(sorted(nodes), 2):
            self._scheduler.after(self._random.randint(0, self._dial_ms), partial(self._dial, one, other))

    # -- faults -----------------------------------------------------------------------------------------------------

    def block(self, sender: str, receiver: str) -> bool:
        """Let nothing through in one direction, once more; whether anything got through before."""
        self._blocked[sender, receiver] += 1
        return self._blocked[sender, receiver] == 1

    def unblock(self, sender: str, receiver: str) -> None:
        """Take back one `block`."""
        self._blocked[sender, receiver] -= 1

    def break_link(self, one: str, other: str) -> None:
        """What is between two regions resets their connection: both learn it at once."""
        for end in list(self._ends.values()):
            if {end.region, end.peer} == {one, other}:
                self._lost(end)

    def session_between(self, sender: str, receiver: str) -> Session | None:
        """The receiver's session of the link on which frames of the sender come in, if it is up both ways."""
        end = next((end for end in self._ends.values() if (end.region, end.peer) == (sender, receiver)), None)
        other = self._other_end(end) if end is not None else None
        return other.session if other is not None and not self._is_blocked(sender, receiver) else None

    def calm(self) -> None:
        """From now on nothing is blocked, lost, doubled, spoilt or overtaken."""
        self._blocked.clear()
        weather = self._weather
        self._weather = Weather(weather.fastest_ms, weather.slowest_ms, 0.0, 0.0, 0, 0.0, 0.0)

    # -- what nodes do ----------------------------------------------------------------------------------------------

    def send(self, session: Session, data: bytes) -> None:
        """A frame goes out."""
        end = self._ends.get(session)
        if end is None:
            return
        weather, random = self._weather, self._random
        if self._is_blocked(end.region, end.peer):
            self._trace.count("frame blocked")
            return
        if not end.has_sent:
            # Without its hello a link is nothing: that one comes through, or the link would never get anywhere.
            end.has_sent = True
            self._carry(end, data, calm=True)
            return
        if random.random() < weather.loss:
            self._trace.count("frame lost")
            return
        self._carry(end, data)
        if random.random() < weather.duplication:
            self._trace.count("frame doubled")
            self._carry(end, data)

    def close(self, session: Session) -> None:
        """A node ends a link; its peer hears of it, unless nothing gets through."""
        end = self._ends.pop(session, None)
        if end is not None:
            self._scheduler.after(self._latency(), lambda: self._tell_closed(end))

    def gone(self, region: str) -> None:
        """A process is gone: its links are, and its peers hear of it where that gets through."""
        for end in self._ends_of(region):
            self.close(end.session)

    def _ends_of(self, region: str) -> list[End]:
        return [end for end in self._ends.values() if end.region == region]

    # -- links ------------------------------------------------------------------------------------------------------

    def _dial(self, one: str, other: str) -> None:
        self._scheduler.after(self._dial_ms, lambda: self._dial(one, other))
        if any(end.region == one and end.peer == other for end in self._ends.values()):
            return
        if self._is_blocked(one, other) or self._is_blocked(other, one):
            return
        if not (self._nodes[one].is_awake and self._nodes[other].is_awake):
            return
        self._numbers += 1
        self._trace.note(self._scheduler.now, one, f"links to {other}")
        for here, there in ((one, other), (other, one)):
            session = self._nodes[here].open_session()
            self._ends[session] = End(self._numbers, here, there, session)
        for here in (one, other):
            self._nodes[here].send_out()

    def _is_blocked(self, sender: str, receiver: str) -> bool:
        return self._blocked[sender, receiver] > 0

    def _other_end(self, end: End) -> End | None:
        return next((each for each in self._ends.values() if each.link == end.link and each.region == end.peer), None)

    def _tell_closed(self, end: End) -> None:
        other = self._other_end(end)
        if other is not None and not self._is_blocked(end.region, end.peer):
            self._lost(other)

    def _lost(self, end: End) -> None:
        if self._ends.pop(end.session, None) is not None:
            self._nodes[end.region].lost_session(end.session)

    # -- frames -----------------------------------------------------------------------------------------------------

    def _latency(self) -> int:
        return self._random.randint(self._weather.fastest_ms, self._weather.slowest_ms)

    def _carry(self, end: End, data: bytes, *, calm: bool = False) -> None:
        weather, random = self._weather, self._random
        weather = weather if not calm else Weather(weather.fastest_ms, weather.slowest_ms, 0.0, 0.0, 0, 0.0, 0.0)
        arrives = self._scheduler.now + self._latency()
        if random.random() < weather.reordering:
            arrives += random.randint(0, weather.stray_ms)
            self._trace.count("frame overtaken")
        else:
            arrives = end.quiet_until = max(arrives, end.quiet_until)
        if random.random() < weather.garbage:
            self._trace.count("frame spoilt")
            data = spoilt(data, random)
        self.in_flight[end.region, end.peer] += 1
        self._scheduler.after(arrives - self._scheduler.now, lambda: self._arrive(end, data))

    def _arrive(self, end: End, data: bytes) -> None:
        self.in_flight[end.region, end.peer] -= 1
        other = self._other_end(end)
        if other is not None and not self._is_blocked(end.region, end.peer):
            self._nodes[end.peer].receive(other.session, data)


def spoilt(data: bytes, random: Random) -> bytes:
    """What a faulty peer makes of a frame: bits flipped, cut short, or rubbish altogether."""
    match random.randrange(3):
        case 0:
            changed = bytearray(data)
            for _ in range(random.randint(1, 4)):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            return bytes(changed)
        case 1:
            return data[: random.randrange(len(data))]
        case _:
            return random.randbytes(random.randint(1, 60))


def pairs_between(some: list[str], others: list[str]) -> Iterator[tuple[str, str]]:
    """Every directed pair of a region here and one there, both ways."""
    for one in some:
        for other in others:
            yield one, other
            yield other, one
