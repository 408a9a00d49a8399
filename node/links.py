"""The sessions with all peers, the frontier they make, and what is known of each peer: pure.

The host opens a session for every link that comes up, passes in what arrives, and sends what is in `take_outgoing`. A
region has one link to each peer: where a second one comes up, the first is closed.
"""

from collections.abc import Iterable

from msgspec import Struct

from ledger.ids import TenantId
from node.alarms import AlarmKind
from node.region import Region
from replication.clock import MAX_REPLICAS, VectorClock, merge
from replication.codec import Frame, FrameError, Hello
from replication.delivery import Alarm
from replication.gossip import Asked, Close, Deliver, Effect, Heard, InFlight, Pace, Reason, Send, Session, Terms
from replication.stability import Frontier

_ANSWER_INTERVALS = 5
_SILENT_INTERVALS = 10
_LEAST_PATIENCE_MS = 2_000


class Peer(Struct):
    """What is known of a peer region, over all links to it; times in ms. What it ``has`` is its latest process's."""

    region: str
    replica: str = ""
    session: Session | None = None
    is_cut: bool = False
    has: VectorClock = {}
    promise: int = 0
    hlc: int = 0
    heard_at: int | None = None


class Links:
    """The peers of one region.

    Relations kept: ``_sessions`` holds every link that is up; ``peers[r].session`` is the one of them whose hello named
    r, if any; a peer that is cut has none.
    """

    def __init__(self, region: Region) -> None:
        settings = region.settings
        self._region = region
        self._terms = Terms(
            settings.cluster, settings.region, region.replica, frozenset(settings.peers), str(settings.rules)
        )
        interval = settings.anti_entropy_interval_ms
        self._pace = Pace(
            anti_entropy_interval_ms=interval,
            answer_timeout_ms=max(_LEAST_PATIENCE_MS, _ANSWER_INTERVALS * interval),
            silence_ms=max(_LEAST_PATIENCE_MS, _SILENT_INTERVALS * interval),
            max_clock_drift_ms=settings.max_clock_drift_ms,
            page_entries=settings.page_entries,
            page_bytes=settings.page_bytes,
            window_entries=settings.window_entries,
        )
        self._in_flight = InFlight()
        self._outgoing: list[tuple[Session, Frame | Close]] = []
        self._sessions: dict[Session, None] = {}
        self.rubbish = 0
        """How many pages had something in them that is no entry."""
        self.frontier = Frontier(settings.region, settings.regions)
        self.peers = {peer: Peer(peer) for peer in settings.peers}

    # -- links come and go ------------------------------------------------------------------------------------------

    def open(self, now: int) -> Session:
        """A link is up; whose it is, its hello will say."""
        session = Session(self._terms, self._pace, self._region, self.frontier, self._in_flight)
        self._sessions[session] = None
        self._carry_out(session, session.opened(now), now)
        return session

    def lost(self, session: Session) -> None:
        """A link is down."""
        session.closed()
        self._sessions.pop(session, None)
        peer = self.peers.get(session.region)
        if peer is not None and peer.session is session:
            peer.session = None

    def set_cut(self, region: str, is_cut: bool, now: int) -> None:
        """Cut the link to a peer, or let it come up again."""
        peer = self.peers[region]
        peer.is_cut = is_cut
        if is_cut and peer.session is not None:
            self._stop(peer.session, now)

    def stop(self, now: int) -> None:
        """Say goodbye to everyone."""
        for session in list(self._sessions):
            self._stop(session, now)

    def _stop(self, session: Session, now: int) -> None:
        self._carry_out(session, session.stop(Reason.STOPPING, ""), now)
        self.lost(session)

    # -- what happens on them ---------------------------------------------------------------------------------------

    def receive(self, session: Session, frame: Frame, now: int) -> None:
        """A frame came in."""
        effects = session.receive(frame, now)
        if isinstance(frame, Hello) and session.peer is frame:
            effects = self._make_way(session, effects, now)
        self._carry_out(session, effects, now)
        peer = self.peers.get(session.region)
        # A frame that was under way when its link was ended does not bring the link back.
        if peer is not None and session in self._sessions:
            peer.heard_at = now
            if peer.session is None:
                peer.session = session

    def refuse(self, session: Session, error: FrameError, now: int) -> None:
        """What came in is not a frame."""
        self._carry_out(session, session.refuse(error), now)

    def push(self, fresh: list[bytes], now: int) -> None:
        """Own entries have become durable."""
        for session in list(self._sessions):
            self._carry_out(session, session.fresh(fresh), now)

    def acknowledge(self, now: int) -> None:
        """Something has become durable."""
        for session in list(self._sessions):
            self._carry_out(session, session.acknowledge(), now)

    def tick(self, now: int) -> None:
        """Time has passed."""
        region = self._region
        region.frontier = self.frontier.advance(region.durable, region.promise(now))
        self.ask_around(now)
        for session in list(self._sessions):
            self._carry_out(session, session.tick(now), now)

    def ask_around(self, now: int) -> None:
        """Ask the peers that are linked for credit that this region's clients want, and that others' shares hold."""
        linked = {name: peer.session for name, peer in self.peers.items() if peer.session is not None}
        for wish in self._region.take_wishes(linked, now):
            self._carry_out(linked[wish.region], linked[wish.region].ask_for(wish.tenant, wish.amount), now)

    def take_outgoing(self) -> list[tuple[Session, Frame | Close]]:
        """What is to be sent, or closed, in this order; it is yours from here on."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _make_way(self, session: Session, effects: list[Effect], now: int) -> list[Effect]:
        """A hello has been accepted: end an earlier link to that region, or this one, if it is to be cut."""
        peer = self.peers[session.region]
        if peer.is_cut:
            self._stop(session, now)
            return []
        if peer.session is not None and peer.session is not session:
            self._stop(peer.session, now)
        assert session.peer is not None
        if peer.replica != session.peer.replica:
            # It has started again, perhaps without its disk: what its earlier processes had, perhaps nobody has.
            peer.replica, peer.has = session.peer.replica, {}
        return effects

    def _carry_out(self, session: Session, effects: Iterable[Effect], now: int) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self._outgoing.append((session, frame))
                case Close():
                    self._outgoing.append((session, effect))
                case Deliver(page):
                    if self._region.receive(page, now, session.region):
                        self.rubbish += 1
                        self._carry_out(session, session.stop(Reason.BAD_FRAME, "what it sent are no entries"), now)
                case Heard(region, clock):
                    peer = self.peers[region]
                    known = merge(peer.has, clock)
                    # What an earlier link said is let go before all links together name more logs than there can be.
                    peer.has = known if len(known) <= MAX_REPLICAS else clock
                    self._region.aside.heard(region, clock)
                    peer.promise = max(peer.promise, session.peer_promise)
                    peer.hlc = session.peer_hlc
                case Asked(peer_region, tenant, amount):
                    self._region.give(TenantId(tenant), peer_region, amount, now)
                case Alarm(kind, subject, detail):
                    self._region.alarms.raise_(AlarmKind(kind), subject, detail, now)
