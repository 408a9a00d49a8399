"""Nodes without a ledger: they accept entries that mean nothing, hold them in memory, and talk to each other.

A `Site` is what a session reads of its node; a `Network` carries the frames of its sessions, as bytes, in order, and as
long as a link is not cut.
"""

from collections import deque
from collections.abc import Iterable

from ledger.ids import ClaimId, TenantId
from ledger.operation import Release
from ledger.posting import Outcome
from replication.clock import MAX_HLC, Dot, Hlc, VectorClock, hlc_at
from replication.codec import Frame, Ranges, decode, encode
from replication.delivery import Alarm, Delivery
from replication.entry import GENESIS, VERSION, Entry, LogHead, happened_before, hash_of, seal
from replication.gossip import Close, Deliver, Effect, Heard, InFlight, Pace, Send, Session, Terms
from replication.log import MemoryLog
from replication.stability import Frontier

NOW = 1_700_000_000_000
RULES = "1"
DRIFT_MS = 10_000

PACE = Pace(
    anti_entropy_interval_ms=1_000,
    answer_timeout_ms=3_000,
    silence_ms=20_000,
    max_clock_drift_ms=DRIFT_MS,
    page_entries=100,
    page_bytes=100_000,
    window_entries=50,
)


def make_entry(
    replica: str, seq: int, *, ms: int = NOW, prev: bytes = GENESIS, seen: VectorClock | None = None, claim: str = "c"
) -> Entry:
    """An entry that releases nothing."""
    return Entry(
        VERSION, replica, seq, hlc_at(ms) + seq, {} if seen is None else seen, TenantId("t"), None, None,
        Release(ClaimId(claim)), {}, Outcome.CLOSED, None, None, prev,
    )  # fmt: skip


def make_log(replica: str, count: int, *, ms: int = NOW, claim: str = "c") -> list[bytes]:
    """A log of entries that had seen nothing of others."""
    log: list[bytes] = []
    prev = GENESIS
    for seq in range(1, count + 1):
        log.append(seal(make_entry(replica, seq, ms=ms, prev=prev, claim=claim)))
        prev = hash_of(log[-1])
    return log


class Site:
    """One node."""

    def __init__(self, region: str, regions: Iterable[str], *, boot: str = "b1", pace: Pace = PACE) -> None:
        self.region = region
        self.replica = f"{region}/{boot}"
        self.journal = MemoryLog()
        self.durable: VectorClock = {}
        self.hlc = Hlc()
        self.hlc.raise_ceiling(MAX_HLC)
        self.pace = pace
        self.regions = tuple(regions)
        self.frontier = Frontier(region, self.regions)
        self.in_flight = InFlight()
        self.order: list[Dot] = []
        self.others: dict[Dot, VectorClock] = {}
        self.alarms: list[Alarm] = []
        self.lacking: Ranges = {}
        self.rules = RULES
        self.cluster = "test"
        self._promised = 0
        self.delivery = self._begin([])

    def _begin(self, heads: Iterable[LogHead]) -> Delivery:
        return Delivery(
            self.replica,
            heads,
            self.journal,
            window_entries=self.pace.window_entries,
            max_clock_drift_ms=self.pace.max_clock_drift_ms,
        )

    def restart(self, boot: str) -> None:
        """A new boot, which takes up what the old one had applied."""
        self.replica = f"{self.region}/{boot}"
        self.delivery = self._begin(self.delivery.heads.values())
        self.commit()

    def accept(self, now: int = NOW) -> bytes:
        """Make an entry; it is not durable yet."""
        delivery, head = self.delivery, self.delivery.own_head
        entry = Entry(
            VERSION, self.replica, head.seq + 1, self.hlc.tick(now), delivery.news, TenantId("t"), None, None,
            Release(ClaimId(f"{self.region}-{head.seq + 1}")), {}, Outcome.CLOSED, None, None, head.hash,
        )  # fmt: skip
        sealed = seal(entry)
        self._hold(entry, sealed, delivery.append(entry, hash_of(sealed)))
        return sealed

    def deliver(self, page: list[bytes], now: int = NOW) -> int:
        """Take in entries; returns how many were applied."""
        delivered = self.delivery.receive(page, now)
        self.alarms += delivered.alarms
        for entry, sealed, others in delivered.arrivals:
            self.hlc.observe(entry.hlc)
            self._hold(entry, sealed, others)
        return len(delivered.arrivals)

    def retry(self, now: int) -> int:
        """The clock has moved."""
        arrivals = self.delivery.retry(now).arrivals
        for entry, sealed, others in arrivals:
            self._hold(entry, sealed, others)
        return len(arrivals)

    def _hold(self, entry: Entry, sealed: bytes, others: VectorClock) -> None:
        self.journal.add(entry.replica, entry.seq, sealed)
        self.order.append(entry.dot)
        self.others[entry.dot] = others

    def commit(self) -> list[bytes]:
        """Everything is durable; returns our own entries that just became so."""
        before = self.durable.get(self.replica, 0)
        self.durable = dict(self.delivery.clock)
        own = range(before + 1, self.durable.get(self.replica, 0) + 1)
        return [sealed for seq in own if (sealed := self.journal.sealed(self.replica, seq)) is not None]

    def promise(self, now: int) -> int:
        """A reading up to which every entry that this site ever accepts is durable."""
        if self.durable.get(self.replica, 0) == self.delivery.own_head.seq:
            self._promised = self.hlc.promise(now)
        return self._promised

    def lost(self, _peer: str, offered: VectorClock, _now: int, /) -> Ranges:
        """Entries that are to be asked for again: as `lacking` says, of whoever offers them, once."""
        ranges = {
            replica: (after, upto) for replica, (after, upto) in self.lacking.items() if offered.get(replica, 0) >= upto
        }
        for replica in ranges:
            del self.lacking[replica]
        return ranges

    def session(self) -> Session:
        """A new link's session."""
        peers = frozenset(self.regions) - {self.region}
        terms = Terms(self.cluster, self.region, self.replica, peers, self.rules)
        return Session(terms, self.pace, self, self.frontier, self.in_flight)

    def assert_causal(self) -> None:
        """Every entry was applied after all that it had seen."""
        for place, dot in enumerate(self.order):
            for later in self.order[place + 1 :]:
                assert not happened_before(later, dot, self.others[dot]), f"{later} came after {dot}, which had seen it"


Link = tuple[str, str]


class Network:
    """Sites, the links between them, and the time."""

    def __init__(self, *sites: Site) -> None:
        self.sites = {site.region: site for site in sites}
        self.now = NOW
        self.sessions: dict[Link, Session] = {}
        self.wires: dict[Link, deque[bytes]] = {}
        self.heard: list[Heard] = []
        self.closed: dict[Link, Close] = {}
        self.frames: list[tuple[Link, Frame]] = []

    def connect(self, one: str, other: str) -> None:
        """A new link, both ways."""
        for link in ((one, other), (other, one)):
            self.sessions[link] = self.sites[link[0]].session()
            self.wires[link] = deque()
            self.closed.pop(link, None)
        for link in ((one, other), (other, one)):
            self._carry_out(link, self.sessions[link].opened(self.now))

    def cut(self, one: str, other: str) -> None:
        """The link is gone, with all that was on it."""
        for link in ((one, other), (other, one)):
            if link in self.sessions:
                self.sessions.pop(link).closed()
                self.wires.pop(link)

    def mesh(self) -> None:
        """A link between any two."""
        names = sorted(self.sites)
        for place, one in enumerate(names):
            for other in names[place + 1 :]:
                self.connect(one, other)

    def commit(self, region: str) -> None:
        """What the site has applied is durable; its sessions hear of it."""
        site = self.sites[region]
        fresh = site.commit()
        for link in self._links_of(region):
            self._carry_out(link, self.sessions[link].fresh(fresh))
            self._carry_out(link, self.sessions[link].acknowledge())

    def carry(self, link: Link) -> None:
        """The first frame on a wire arrives."""
        frame = decode(self.wires[link].popleft())
        self.arrive(link, frame)

    def arrive(self, link: Link, frame: Frame) -> None:
        """A frame comes in at the end of a link."""
        self.frames.append((link, frame))
        back = (link[1], link[0])
        if back in self.sessions:
            self._carry_out(back, self.sessions[back].receive(frame, self.now))

    def settle(self) -> None:
        """Carry frames, and make everything durable, until nothing moves."""
        while True:
            busy = [link for link, wire in self.wires.items() if wire]
            for link in busy:
                self.carry(link)
            if not busy:
                for region in self.sites:
                    self.commit(region)
                if not any(self.wires.values()):
                    return

    def pass_time(self, ms: int) -> None:
        """Time passes, and everybody notices."""
        self.now += ms
        for site in self.sites.values():
            site.retry(self.now)
        for link in list(self.sessions):
            self._carry_out(link, self.sessions[link].tick(self.now))

    def _links_of(self, region: str) -> list[Link]:
        return [link for link in self.sessions if link[0] == region]

    def _carry_out(self, link: Link, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self.wires[link].append(encode(frame))
                case Deliver(page):
                    self.sites[link[0]].deliver(page, self.now)
                case Heard():
                    self.heard.append(effect)
                case Alarm():
                    self.sites[link[0]].alarms.append(effect)
                case Close():
                    self.closed[link] = effect
