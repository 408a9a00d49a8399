"""A hostile peer among honest regions: eu says what the bytes say, us and ap are real nodes with real clients.

eu may do anything that gets past the decoders: frames in any order, entries of any log with right hashes and wrong
contents, clocks and promises and questions about logs that nobody has. Whatever it does,

    no node fails: nothing is raised, and all that a node says can be encoded, read again, and shown to a client
    tenants that eu does not write to are as if it were not there
    every tenant's state is the fold of the entries that are held, in memory, on the disk and after a restart
    what waits for something, and what is remembered of a peer, stays within its bounds
    honest regions that hold the same entries show the same digest
"""

from itertools import count, islice
from typing import Final

from msgspec import Struct

from ledger.command import (
    AcknowledgeConflict,
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import ClaimId, Key, LotId, TenantId
from ledger.operation import Admission, OnOverspend
from ledger.refusal import Limits, Terms
from ledger.timeline import BEGINNING
from node.acknowledging import acknowledge
from node.alarms import AlarmKind
from node.links import Links
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.kv import MemoryDisk, Overlay
from replication.clock import MAX_REPLICAS
from replication.codec import Frame, decode, encode
from replication.gossip import Close, Session
from tests.fuzz.dice import Dice
from tests.fuzz.forger import JOBS, NOON, Forger
from tests.fuzz.shown import END, show_acknowledgement, show_everything, show_findings

HONEST: Final = ("ap", "us")
REGIONS: Final = ("ap", "eu", "us")
SPARED: Final = TenantId("spared")
"""The tenant that eu never writes to."""

SHARED: Final = TenantId("acme")
WINDOW: Final = 32
DRIFT_MS: Final = 10_000
MOST_STEPS: Final = 60


class Honest(Struct):
    """One honest node: its disk, and what runs on it."""

    name: str
    disk: MemoryDisk
    region: Region
    links: Links
    to_eu: Session | None = None
    to_peer: Session | None = None


class Siege:
    """us and ap, linked to each other and to eu."""

    def __init__(self) -> None:
        self.now = NOON
        self._boots = count(1)
        self._keys = count(1)
        self._replicas: set[str] = set()
        self._forked = False
        self.honest = {name: self._boot(name, MemoryDisk()) for name in HONEST}
        self._link()
        for name in HONEST:
            for tenant in (SPARED, SHARED):
                self.ask(name, tenant, GrantCredit(1000, NOON + 10**7, lot=LotId(f"l-{name}")))
        self.exchange()

    def _boot(self, name: str, disk: MemoryDisk) -> Honest:
        settings = RegionSettings(
            cluster="test",
            region=name,
            regions=REGIONS,
            terms=Terms(Limits(10**9, 60_000)),
            settle_after_ms=100,
            settle_at_most_ms=1_000,
            checkpoint_after_ms=0,
            max_clock_drift_ms=DRIFT_MS,
            anti_entropy_interval_ms=100,
            page_entries=8,
            window_entries=WINDOW,
            tenants_in_memory=2,
        )
        region = Region(settings, Overlay(disk), f"h{next(self._boots)}", self.now)
        self._replicas.add(region.replica)
        return Honest(name, disk, region, Links(region))

    # -- what the honest do -----------------------------------------------------------------------------------------

    def ask(self, name: str, tenant: TenantId, command: Command, key: str | None = None) -> None:
        """A client of an honest region asks, and is answered from the entry when that is durable."""
        node = self.honest[name]
        answer = node.region.submit(tenant, command, Key(key or f"k{next(self._keys)}"), self.now)
        self.land(node)
        if isinstance(answer, Accepted):
            show_everything(node.region, tenant, self.now, command, answer)

    def acknowledge(self, name: str, dice: Dice) -> None:
        """An operator says of a conflict that it was seen to."""
        node = self.honest[name]
        reports = list(islice(node.region.conflicts.reports(SHARED, END, self.now), 8))
        if not reports:
            return
        conflict = dice.pick(reports).id
        said = AcknowledgeConflict(conflict, "ann", "seen" if dice.below(2) else None)
        answer = acknowledge(node.region, said, Key(f"k{dice.below(4)}"), self.now)
        self.land(node)
        if isinstance(answer, Accepted):
            show_acknowledgement(answer, conflict, name)
            show_everything(node.region, SHARED, self.now)

    def land(self, node: Honest) -> None:
        """Everything that a node has decided becomes durable, and is told."""
        while batch := node.region.seal():
            node.disk.write(batch)
            fresh = node.region.landed()
            node.links.push(fresh, self.now)
            node.links.acknowledge(self.now)

    def tick(self, node: Honest) -> None:
        """A node notices the time."""
        node.region.tick(self.now)
        node.links.tick(self.now)
        self.land(node)

    def exchange(self, rounds: int = 1) -> list[Frame]:
        """us and ap go on for a while, and hear each other; returns what they had to say to eu."""
        heard: list[Frame] = []
        for _ in range(rounds):
            self.now += 100
            self._link()
            for node in self.honest.values():
                self.tick(node)
            for _ in range(200):
                carried = [self._carry(node, heard) for node in self.honest.values()]
                if not any(carried):
                    break
        return heard

    def _carry(self, node: Honest, heard: list[Frame]) -> bool:
        """Take what a node wants sent to where it goes; whether there was anything for the other honest one."""
        other = self.honest[HONEST[node.name == HONEST[0]]]
        moved = False
        for session, item in node.links.take_outgoing():
            if isinstance(item, Close):
                self._close(node, session)
                continue
            data = encode(item)
            assert decode(data) == item, "a frame that its own node would not read"
            if session is node.to_eu:
                heard.append(item)
            elif session is node.to_peer and other.to_peer is not None:
                moved = True
                other.links.receive(other.to_peer, decode(data), self.now)
                self.land(other)
        return moved

    def _link(self) -> None:
        ap, us = self.honest.values()
        if ap.to_peer is None or us.to_peer is None:
            for node in (ap, us):
                if node.to_peer is not None:
                    node.links.lost(node.to_peer)
                node.to_peer = node.links.open(self.now)

    def _close(self, node: Honest, session: Session) -> None:
        node.links.lost(session)
        if session is node.to_eu:
            node.to_eu = None
        elif session is node.to_peer:
            node.to_peer = None

    def restart(self, name: str) -> None:
        """A node is started anew from its disk; what it shows is what it showed."""
        node = self.honest[name]
        self.land(node)
        shown = node.region.books.digest()
        self.honest[name] = again = self._boot(name, node.disk)
        assert again.region.books.digest() == shown, "another state after a restart"
        for other in self.honest.values():
            if other.to_peer is not None:
                other.links.lost(other.to_peer)
                other.to_peer = None

    # -- what eu does -----------------------------------------------------------------------------------------------

    def hear(self, name: str, frame: Frame) -> None:
        """An honest node hears a frame from eu, over the link that there is, or a new one."""
        node = self.honest[name]
        if node.to_eu is None:
            node.to_eu = node.links.open(self.now)
        node.links.receive(node.to_eu, decode(encode(frame)), self.now)
        self.land(node)

    def leave(self, name: str) -> None:
        """The link to eu breaks."""
        node = self.honest[name]
        if node.to_eu is not None:
            self._close(node, node.to_eu)

    # -- what has to hold -------------------------------------------------------------------------------------------

    def check_bounds(self) -> None:
        """What is kept because of eu is bounded."""
        for node in self.honest.values():
            delivery = node.region.delivery
            self._forked |= bool(delivery.refused) or bool(node.region.alarms.count(AlarmKind.FORK))
            assert len(delivery.clock) <= MAX_REPLICAS
            assert delivery.waiting_count <= WINDOW * (len(delivery.clock) + MAX_REPLICAS)
            assert len(delivery.refused) <= MAX_REPLICAS
            assert len(node.region.alarms.all()) <= 1000
            for peer in node.links.peers.values():
                assert len(peer.has) <= MAX_REPLICAS

    def _differ(self, one: Honest, other: Honest) -> bool:
        """Whether eu has told the two different entries under one name: then they hold different things."""
        return any(
            one.region.journal.sealed(replica, seq) != other.region.journal.sealed(replica, seq)
            for replica, length in one.region.clock.items()
            for seq in range(1, min(length, other.region.clock.get(replica, 0)) + 1)
        )

    def check(self) -> None:
        """Everything holds, now and when the honest have told each other everything."""
        # Whoever was asked and says nothing is given up after two seconds, and another is asked.
        self.exchange(rounds=60)
        self.check_bounds()
        for node in self.honest.values():
            for tenant in list(node.region.books.tenants()):
                show_everything(node.region, tenant, self.now)
            show_findings(node.region, self.now)
        ap, us = self.honest.values()
        # Who has seen a log fork goes on without the rest of it; who has not waits for it, and so for the other.
        if not self._forked and not self._differ(ap, us):
            assert ap.region.clock == us.region.clock, "the honest do not tell each other everything"
            assert ap.region.books.digest() == us.region.books.digest(), "equal clocks, different digests"
        for node in self.honest.values():
            book = node.region.books.existing(SPARED, self.now)
            assert book is not None
            theirs = {filed.entry.replica for filed in book.entries(BEGINNING, 10_000)}
            assert theirs <= self._replicas, "somebody else has written to the tenant that eu spares"
        for name in HONEST:
            self.restart(name)


COMMANDS: Final = (
    lambda dice: Reserve(dice.below(60) + 1, (50, 400, 5_000)[dice.below(3)], ClaimId(f"c{dice.below(4)}")),
    lambda dice: CaptureUsage(ClaimId(f"c{dice.below(4)}"), dice.below(60) + 1, final=dice.rarely()),
    lambda dice: ReleaseHold(ClaimId(f"c{dice.below(4)}")),
    lambda dice: DebitUsage(dice.below(60) + 1, on_shortage=OnShortage.DEBT),
    lambda dice: GrantCredit(dice.below(200) + 1, NOON + 500 + dice.below(9) * 1000, lot=LotId(f"l{dice.below(4)}")),
    lambda dice: RenewLease(ClaimId(f"c{dice.below(4)}"), 5_000),
    lambda dice: RefundUsage(ClaimId(f"c{dice.below(4)}"), dice.below(20) + 1),
    lambda dice: RevokeLot(LotId(f"l{dice.below(4)}")),
    lambda dice: TransferCredit(dice.pick((SHARED, SPARED)), dice.below(60) + 1),
    lambda dice: SetPolicy(
        dice.pick(tuple(OnOverspend)), dice.pick(tuple(Admission)), dice.pick((None, 100)), dice.pick((None, 20))
    ),
    lambda dice: Reserve(dice.below(60) + 1, 5_000, ClaimId(f"c{dice.below(4)}"), dice.pick(JOBS)),
    lambda dice: ReportHeartbeat(dice.pick(JOBS), started=dice.rarely()),
    lambda dice: ReportUsage(
        dice.pick(JOBS), NOON + dice.below(500), NOON - dice.below(500), dice.below(60), None, bool(dice.below(2))
    ),
)
"""What the clients of honest regions ask, under names that eu uses too."""


def besiege(data: bytes) -> None:
    """Let happen what the bytes say; raises where something does not hold."""
    dice = Dice(data)
    siege = Siege()
    forger = Forger(dice, {node.region.replica for node in siege.honest.values()})
    for name in HONEST:
        siege.hear(name, forger.hello())
    for _ in range(MOST_STEPS):
        if dice.is_empty:
            break
        name = dice.pick(HONEST)
        match dice.below(9):
            case 0:
                tenant = dice.pick((SHARED, SPARED))
                key = f"k{dice.below(6)}" if dice.rarely() else None
                siege.ask(name, tenant, COMMANDS[dice.below(len(COMMANDS))](dice), key)
            case 1:
                forger.learn(siege.exchange(1 + dice.below(3)))
            case 2 if dice.rarely():
                siege.restart(name)
            case 2 if dice.rarely():
                siege.leave(name)
            case 2:
                siege.now += dice.pick((1, 30, 2_500, 30_000))
            case 8:
                siege.acknowledge(name, dice)
            case _:
                siege.hear(name, forger.frame(siege.now))
        siege.check_bounds()
    siege.check()
