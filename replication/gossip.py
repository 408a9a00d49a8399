"""Gossip: the conversation with one peer, as a state machine. Frames and ticks come in, effects go out as values.

Both sides open with a hello and check that they belong together. After that each side

    pushes    its own entries as soon as they are durable, while the peer has all before them and has not fallen more
              than a window behind in saying that it holds them;
    tells     what it holds durably: of the peer's own log as soon as it moves, of all every interval;
    asks      for whatever the peer holds of any log and this node does not: one question at a time, each answered with
              a page, the next one sent before the page is applied, so that the link is not idle meanwhile. What this
              node has lost of what it held comes first.

Nothing that is not durable is ever sent. What gets lost is not missed for longer than an interval: every question is
worked out afresh from what both sides hold. A log of which a page could not be applied is not asked for again until the
next interval, so that entries that have to wait neither come over and over nor keep the others back.

The host carries out the effects in the order given, and all of them before it calls the session again.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from replication.clock import MAX_REPLICAS, Hlc, VectorClock, descends, hlc_at, merge, ms_of, region_of
from replication.codec import (
    MAX_FRAME_BYTES,
    MAX_PAGE_ENTRIES,
    Ask,
    Bye,
    Entries,
    Frame,
    FrameError,
    Have,
    Hello,
    Ranges,
    Want,
)
from replication.delivery import Alarm, AlarmKind, Delivery, wanted
from replication.log import LogStore
from replication.stability import Frontier

PROTOCOLS: Final = (1, 1)
"""The least and the greatest protocol version that this code speaks."""


class Terms(Struct, frozen=True):
    """Who this node is and whom it talks to; ``rules`` are those of the fold (`ledger.rules`)."""

    cluster: str
    region: str
    replica: str
    peers: frozenset[str]
    rules: str
    protocols: tuple[int, int] = PROTOCOLS


class Pace(Struct, frozen=True, kw_only=True):
    """Intervals and limits. A page leaves half of a frame for what is beside it."""

    anti_entropy_interval_ms: int
    answer_timeout_ms: int
    silence_ms: int
    max_clock_drift_ms: int
    page_entries: int
    page_bytes: int
    window_entries: int

    def __post_init__(self) -> None:
        assert 0 < self.page_entries <= MAX_PAGE_ENTRIES
        assert 0 < self.page_bytes <= MAX_FRAME_BYTES // 2


class Local(Protocol):
    """What a session reads of its own node."""

    @property
    def delivery(self) -> Delivery:
        """What has been applied."""
        ...

    @property
    def durable(self) -> VectorClock:
        """What is on disk, and may be told and sent."""
        ...

    @property
    def journal(self) -> LogStore:
        """The logs."""
        ...

    @property
    def hlc(self) -> Hlc:
        """The node's hybrid clock."""
        ...

    def promise(self, now: int) -> int:
        """A reading up to which every entry that this node ever accepts is in ``durable``."""
        ...

    def lost(self, peer: str, offered: VectorClock, now: int, /) -> Ranges:
        """Entries that ``durable`` counts and that cannot be read any more, to be asked now of a peer that has them.

        Empty nearly always. Whoever is given them has been asked.
        """
        ...


class Reason(StrEnum):
    """Why a link is closed."""

    WRONG_CLUSTER = "wrong-cluster"
    NOT_A_PEER = "not-a-peer"
    VERSIONS_DIFFER = "versions-differ"
    RULES_DIFFER = "rules-differ"
    UNEXPECTED_FRAME = "unexpected-frame"
    BAD_FRAME = "bad-frame"
    SILENT = "silent"
    PEER_LEFT = "peer-left"
    STOPPING = "stopping"


class Send(Struct, frozen=True):
    """Send this frame to the peer."""

    frame: Frame


class Deliver(Struct, frozen=True):
    """Hand these sealed entries to `Delivery.receive`, and apply what arrives."""

    page: list[bytes]


class Heard(Struct, frozen=True):
    """The peer has said that it holds ``clock`` durably."""

    region: str
    clock: VectorClock


class Asked(Struct, frozen=True):
    """The peer would like so much of a tenant's credit moved to its shares."""

    region: str
    tenant: str
    amount: int


class Close(Struct, frozen=True):
    """Close the link, after what has been sent; the session is over."""

    reason: Reason
    text: str


Effect = Send | Deliver | Heard | Asked | Alarm | Close


class InFlight:
    """What the sessions of one node have asked for, so that no two ask for the same entries."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, Ranges]] = {}

    def claim(self, asker: str, ranges: Ranges, until: int) -> None:
        """These are on their way to `asker`, it is hoped by the time `until` (ms). Replaces its earlier claim."""
        self._asked[asker] = until, ranges

    def release(self, asker: str) -> None:
        """Nothing is on its way to `asker` any more."""
        self._asked.pop(asker, None)

    def expected(self, asker: str, clock: VectorClock, now: int) -> VectorClock:
        """What there will be when the others have got what they asked for."""
        expected = dict(clock)
        for other, (until, ranges) in self._asked.items():
            if other != asker and now < until:
                for replica, (after, upto) in ranges.items():
                    if after <= expected.get(replica, 0) < upto:
                        expected[replica] = upto
        return expected


class Session:
    """One link to a peer, from opening to close. A new link is a new session.

    Relations kept: ``peer_has`` is what the peer holds durably, as far as it has said so; ``_sent`` is the number of
    the last entry of our own log that the peer has or that is on its way to it; ``_question`` is None unless an answer
    to question ``_number`` is awaited; ``_reached`` is how far the last answer went; ``_stuck`` are the logs of which
    an answer of this interval could not be applied; before ``_ask_from`` others are to be asked, because this peer had
    nothing to say when it was asked last; ``_told`` is what we have said that we hold.
    """

    __slots__ = (
        "_ask_from", "_asked_at", "_closed", "_frontier", "_have_at", "_in_flight", "_is_behind", "_local", "_number",
        "_pace", "_question", "_reached", "_sent", "_stuck", "_terms", "_told", "heard_at", "peer", "peer_has",
        "peer_hlc", "peer_promise",
    )  # fmt: skip

    def __init__(self, terms: Terms, pace: Pace, local: Local, frontier: Frontier, in_flight: InFlight) -> None:
        self._terms = terms
        self._pace = pace
        self._local = local
        self._frontier = frontier
        self._in_flight = in_flight
        self._closed = False
        self._told: VectorClock = {}
        self._have_at = 0
        self._sent = 0
        self._is_behind = False
        self._number = 0
        self._question: Ranges | None = None
        self._asked_at = 0
        self._ask_from = 0
        self._reached: VectorClock = {}
        self._stuck: set[str] = set()
        self.heard_at = 0
        """When the last frame came in, in ms."""
        self.peer: Hello | None = None
        """The peer's hello, once it has been accepted."""
        self.peer_has: VectorClock = {}
        self.peer_hlc = 0
        self.peer_promise = 0
        """The reading up to which the peer's region will accept nothing that it has not got."""

    @property
    def region(self) -> str:
        """The peer's region; empty before its hello."""
        return "" if self.peer is None else self.peer.region

    # -- what the host calls ----------------------------------------------------------------------------------------

    def opened(self, now: int) -> list[Effect]:
        """The link is up."""
        self.heard_at = self._have_at = now
        terms, local = self._terms, self._local
        self._told = dict(local.durable)
        hello = Hello(
            terms.cluster, terms.region, terms.replica, terms.protocols, terms.rules, self._told, local.hlc.latest
        )
        return [Send(hello)]

    def receive(self, frame: Frame, now: int) -> list[Effect]:
        """A frame came in. Passes on what the local journal raises when it cannot read what is asked for."""
        if self._closed:
            return []
        self.heard_at = now
        match frame:
            case Bye(reason, text):
                return self._close(Reason.PEER_LEFT, f"{reason}: {text}" if text else reason)
            case Hello():
                return self._greeted(frame, now)
            case _ if self.peer is None:
                return self.stop(Reason.UNEXPECTED_FRAME, "hello comes first")
            case Have():
                return self._told_of(frame, now)
            case Want(number, ranges):
                return self._answer(number, ranges)
            case Entries():
                return self._taken(frame, now)
            case Ask(tenant, amount):
                return [Asked(self.region, tenant, amount)]

    def refuse(self, error: FrameError) -> list[Effect]:
        """What came in is not a frame."""
        return self.stop(Reason.BAD_FRAME, str(error))

    def fresh(self, entries: Sequence[bytes]) -> list[Effect]:
        """Our own newest entries, the last that ``durable`` counts, have just become durable."""
        if self._closed or self.peer is None or not entries:
            return []
        own = self._terms.replica
        last = self._local.durable[own]
        before = last - len(entries)
        if self._sent >= last:
            return []
        if self._sent < before or last - self.peer_has.get(own, 0) > self._pace.window_entries:
            # The peer will ask; it is told once that there is something to ask for, and again when it has caught up.
            behind, self._is_behind = self._is_behind, True
            return [] if behind else [self._tell_news([own])]
        pushes: list[Effect] = []
        page: list[bytes] = []
        size = 0
        for number, sealed in enumerate(entries[self._sent - before :], self._sent + 1):
            if page and (len(page) == self._pace.page_entries or size + len(sealed) > self._pace.page_bytes):
                pushes.append(Send(Entries(page, {own: number - 1}, 0)))
                page, size = [], 0
            page.append(sealed)
            size += len(sealed)
        self._sent = last
        return [*pushes, Send(Entries(page, {own: last}, 0))]

    def ask_for(self, tenant: str, amount: int) -> list[Effect]:
        """Our clients want more of a tenant's credit than our shares hold; what comes of it, entries tell."""
        return [] if self._closed or self.peer is None else [Send(Ask(tenant, amount))]

    def acknowledge(self) -> list[Effect]:
        """Something has become durable: say so, if it is of the peer's own log."""
        if self._closed or self.peer is None:
            return []
        replica = self.peer.replica
        if self._local.durable.get(replica, 0) <= self._told.get(replica, 0):
            return []
        return [self._tell_news([replica])]

    def tick(self, now: int) -> list[Effect]:
        """Time has passed."""
        if self._closed:
            return []
        pace = self._pace
        if now < self._have_at:
            # The clock was set back: what was measured by it is measured anew.
            self.heard_at = self._have_at = self._asked_at = self._ask_from = now
        if now - self.heard_at >= pace.silence_ms:
            return self.stop(Reason.SILENT, f"nothing heard for {now - self.heard_at} ms")
        if self.peer is None:
            return []
        effects: list[Effect] = []
        overdue = self._question is not None and now - self._asked_at >= pace.answer_timeout_ms
        if overdue:
            self._drop_question()
            self._ask_from = now + pace.anti_entropy_interval_ms
        is_due = now - self._have_at >= pace.anti_entropy_interval_ms
        if is_due:
            self._stuck.clear()
            effects.append(self._tell_all(now))
        if is_due:
            effects += self._ask(self._local.delivery.clock, now)
        return effects

    def stop(self, reason: Reason, text: str) -> list[Effect]:
        """End the link, telling the peer why."""
        return [] if self._closed else [Send(Bye(reason, text[:200])), *self._close(reason, text)]

    def closed(self) -> None:
        """The link is down, for whatever reason."""
        self._close(Reason.PEER_LEFT, "")

    # -- the frames -------------------------------------------------------------------------------------------------

    def _greeted(self, hello: Hello, now: int) -> list[Effect]:
        terms = self._terms
        if self.peer is not None:
            return self.stop(Reason.UNEXPECTED_FRAME, "a second hello")
        if hello.cluster != terms.cluster:
            text = f"it belongs to the cluster {hello.cluster}"
            alarm = Alarm(AlarmKind.WRONG_CLUSTER, hello.region, text)
            return [alarm, *self.stop(Reason.WRONG_CLUSTER, text)]
        if hello.region not in terms.peers or hello.region == terms.region:
            return self.stop(Reason.NOT_A_PEER, f"{hello.region} is no peer of {terms.region}")
        if region_of(hello.replica) != hello.region:
            return self.stop(Reason.NOT_A_PEER, f"{hello.replica} is not of {hello.region}")
        if max(hello.versions[0], terms.protocols[0]) > min(hello.versions[1], terms.protocols[1]):
            return self.stop(Reason.VERSIONS_DIFFER, f"it speaks {hello.versions}, we {terms.protocols}")
        if hello.rules != terms.rules:
            text = f"its rules are «{hello.rules}», ours «{terms.rules}»"
            return [Alarm(AlarmKind.RULES_DIFFER, hello.region, text), *self.stop(Reason.RULES_DIFFER, text)]
        self.peer = hello
        self._sent = hello.clock.get(terms.replica, 0)
        return [self._tell_all(now), *self._heard(hello.clock, hello.hlc, now)]

    def _told_of(self, have: Have, now: int) -> list[Effect]:
        if have.promises:
            self._frontier.heard(self.region, have.clock, have.promises)
            self.peer_promise = max(self.peer_promise, have.promises.get(self.region, 0))
        return self._heard(have.clock, have.hlc, now)

    def _heard(self, clock: VectorClock, hlc: int, now: int) -> list[Effect]:
        effects: list[Effect] = []
        self.peer_hlc = hlc
        ahead_ms = ms_of(hlc) - now
        if hlc <= hlc_at(now + self._pace.max_clock_drift_ms):
            self._local.hlc.observe(hlc)
        else:
            effects.append(Alarm(AlarmKind.CLOCK_AHEAD, self.region, f"{ahead_ms} ms ahead of our clock"))
        known = merge(self.peer_has, clock)
        if len(known) > MAX_REPLICAS:
            return [*effects, *self.stop(Reason.BAD_FRAME, f"it names {len(known)} logs; no cluster has so many")]
        self.peer_has = known
        self._sent = max(self._sent, self.peer_has.get(self._terms.replica, 0))
        effects.append(Heard(self.region, self.peer_has))
        if self._question is None:
            effects += self._ask(self._local.delivery.clock, now)
        return effects

    def _answer(self, number: int, ranges: Ranges) -> list[Effect]:
        """Send a page of what is wanted; of our own log all there is, so that pushing can go on from there."""
        local, own = self._local, self._terms.replica
        durable = local.durable
        held: VectorClock = {}
        known = dict(durable)
        for replica, (after, upto) in ranges.items():
            count = durable.get(replica, 0)
            if count > after:
                # Of what the peer has held before it wants no more than it says.
                goes_on = replica == own and upto > self.peer_has.get(own, 0)
                held[replica] = count if goes_on else min(count, upto)
                known[replica] = after
        page = local.journal.page(held, known, self._pace.page_entries, self._pace.page_bytes) if held else []
        reaches = {replica: seq for replica, seq, _ in page}
        self._sent = max(self._sent, reaches.get(own, 0))
        if self._sent == durable.get(own, 0):
            self._is_behind = False
        answer = Send(Entries([sealed for _, _, sealed in page], reaches, number))
        # What is new comes first, so that the peer knows whether to go on asking.
        return [answer] if descends(self._told, durable) else [self._tell_news(durable), answer]

    def _taken(self, entries: Entries, now: int) -> list[Effect]:
        effects: list[Effect] = []
        if entries.answers == self._number and self._question is not None:
            effects = self._go_on_asking(entries.reaches, now)
        if entries.page:
            effects.append(Deliver(entries.page))
        return effects

    # -- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, known: VectorClock, now: int) -> list[Effect]:
        """Ask for what was lost, or for what the peer holds beyond `known` and beyond what others were asked for."""
        if self._question is not None or now < self._ask_from:
            return []
        ranges = self._local.lost(self.region, self.peer_has, now)
        if not ranges:
            expected = self._in_flight.expected(self.region, known, now)
            ranges = wanted(expected, self.peer_has, self._stuck.union(self._local.delivery.refused))
        if not ranges:
            return []
        self._number += 1
        self._question = ranges
        self._asked_at = now
        self._in_flight.claim(self.region, ranges, now + self._pace.answer_timeout_ms)
        return [Send(Want(self._number, ranges))]

    def _go_on_asking(self, reaches: VectorClock, now: int) -> list[Effect]:
        """The question has been answered up to `reaches`, which is still to be applied: ask for what comes next."""
        applied = self._local.delivery.clock
        self._stuck.update(replica for replica, seq in self._reached.items() if applied.get(replica, 0) < seq)
        self._drop_question()
        if not reaches:
            self._ask_from = now + self._pace.anti_entropy_interval_ms
            return []
        self._reached = reaches
        return self._ask(merge(applied, reaches), now)

    def _drop_question(self) -> None:
        self._question = None
        self._reached = {}
        self._in_flight.release(self.region)

    # -- telling ----------------------------------------------------------------------------------------------------

    def _tell_all(self, now: int) -> Send:
        """All that we hold, and what is promised to whoever holds it too."""
        local = self._local
        self._told = dict(local.durable)
        self._have_at = now
        self._frontier.advance(self._told, local.promise(now))
        return Send(Have(self._told, dict(self._frontier.counted), local.hlc.latest))

    def _tell_news(self, replicas: Iterable[str]) -> Send:
        """What we hold of these logs that we have not told yet."""
        durable = self._local.durable
        news = {replica: durable[replica] for replica in replicas if durable[replica] > self._told.get(replica, 0)}
        self._told = merge(self._told, news)
        return Send(Have(news, {}, self._local.hlc.latest))

    def _close(self, reason: Reason, text: str) -> list[Effect]:
        if self._closed:
            return []
        self._closed = True
        self._drop_question()
        return [Close(reason, text)]
