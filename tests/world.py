"""A few regions in one thread: real regions, links and journals over disks in memory, and a network that is a list.

Nothing happens by itself: the test says who acts, when frames arrive, when batches land, who crashes.
"""

from itertools import count
from typing import ClassVar

from msgspec import Struct

from ledger.command import Command
from ledger.ids import Key, TenantId
from ledger.refusal import Limits, Refusal, Terms
from ledger.rules import Rules
from node.audit import AuditResult, audit
from node.links import Links
from node.rebuild import opened
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.kv import MemoryDisk, Write
from replication.codec import Frame, decode, encode
from replication.gossip import Close, Session

START_MS = 1_800_000_000_000
TENANT = TenantId("acme")


class Member(Struct):
    """One region's node: what a process would hold, and the disk that outlives it."""

    name: str
    disk: MemoryDisk
    region: Region
    links: Links
    sealed: list[list[Write]] = []
    sessions: dict[str, Session] = {}


class World:
    """Regions that are linked, all to all, unless cut."""

    terms: ClassVar[Terms] = Terms(Limits(10**9, 60_000))

    def __init__(self, names: tuple[str, ...], **settings: int | Rules) -> None:
        self.names = names
        self.now = START_MS
        self._settings = settings
        self._boots = count(1)
        self.cut: set[frozenset[str]] = set()
        self.wire: list[tuple[str, str, Session, bytes]] = []
        self.members: dict[str, Member] = {}
        for name in names:
            self._boot(name, MemoryDisk())

    def _boot(self, name: str, disk: MemoryDisk) -> None:
        settings = RegionSettings(
            cluster="test",
            region=name,
            regions=self.names,
            terms=self.terms,
            **{"checkpoint_after_ms": 0, "anti_entropy_interval_ms": 100, **self._settings},  # type: ignore[arg-type]
        )
        region = opened(disk, disk.write, settings, f"b{next(self._boots)}", self.now)
        self.members[name] = Member(name, disk, region, Links(region))

    # -- what a test lets happen ------------------------------------------------------------------------------------

    def submit(self, name: str, command: Command, key: str, tenant: TenantId = TENANT) -> Accepted | Refusal:
        """A client asks."""
        return self.members[name].region.submit(tenant, command, Key(key), self.now)

    def land(self, name: str) -> None:
        """Everything that the region has decided becomes durable."""
        member = self.members[name]
        while batch := member.region.seal():
            member.disk.write(batch)
            fresh = member.region.landed()
            member.links.push(fresh, self.now)
            member.links.acknowledge(self.now)
        self._collect(member)

    def tick(self, name: str) -> None:
        """Time is noticed."""
        member = self.members[name]
        self._link(member)
        member.region.tick(self.now)
        member.links.tick(self.now)
        self._collect(member)

    def deliver(self, at_most: int = 1000) -> None:
        """The oldest frames on their way arrive."""
        for _ in range(min(at_most, len(self.wire))):
            sender, receiver, source, data = self.wire.pop(0)
            if frozenset((sender, receiver)) in self.cut or self.members[sender].sessions.get(receiver) is not source:
                continue
            member = self.members[receiver]
            session = member.sessions.get(sender)
            if session is not None:
                member.links.receive(session, decode(data), self.now)
                self._collect(member)

    def set_cut(self, one: str, other: str, is_cut: bool) -> None:
        """Cut the link between two regions, or let it come up again."""
        pair = frozenset((one, other))
        if is_cut:
            self.cut.add(pair)
            self._unlink(one, other)
        else:
            self.cut.discard(pair)

    def crash(self, name: str) -> None:
        """The process is gone, with all that had not landed; another boot starts from the disk."""
        for other in self.names:
            if other != name:
                self._unlink(name, other)
        self._boot(name, self.members[name].disk)

    def lose_disk(self, name: str) -> None:
        """The process is gone and so is its disk."""
        self.members[name].disk = MemoryDisk()
        self.crash(name)

    def pass_time(self, ms: int) -> None:
        """The clocks go on."""
        self.now += ms

    def settle(self, rounds: int = 60) -> None:
        """Heal everything and let all that is due happen, for `rounds` rounds and until nothing is under way."""
        self.cut.clear()
        for _ in range(rounds):
            self._round()
        for _ in range(rounds):
            if not any(member.region.unsettled_count for member in self.members.values()):
                return
            self._round()
        raise AssertionError("the regions do not come to rest")

    def _round(self) -> None:
        self.pass_time(200)
        for name in self.names:
            self.tick(name)
            self.land(name)
        while self.wire:
            self.deliver()
            for name in self.names:
                self.land(name)

    # -- what a test looks at ---------------------------------------------------------------------------------------

    def region(self, name: str) -> Region:
        """One region's state machine."""
        return self.members[name].region

    def audit(self, name: str) -> AuditResult:
        """The audit of one region."""
        result = AuditResult()
        for _ in audit(self.region(name), self.now, result):
            pass
        return result

    # -- links ------------------------------------------------------------------------------------------------------

    def _link(self, member: Member) -> None:
        for other in self.names:
            pair = frozenset((member.name, other))
            if other != member.name and other not in member.sessions and pair not in self.cut:
                peer = self.members[other]
                member.sessions[other] = member.links.open(self.now)
                peer.sessions[member.name] = peer.links.open(self.now)
                self._collect(peer)

    def _unlink(self, one: str, other: str) -> None:
        for here, there in ((one, other), (other, one)):
            session = self.members[here].sessions.pop(there, None)
            if session is not None:
                self.members[here].links.lost(session)

    def _collect(self, member: Member) -> None:
        owners = {session: peer for peer, session in member.sessions.items()}
        for session, item in member.links.take_outgoing():
            peer = owners.get(session)
            if peer is None:
                continue
            if isinstance(item, Close):
                self._unlink(member.name, peer)
            else:
                self.wire.append((member.name, peer, session, _bytes(item)))


def _bytes(frame: Frame) -> bytes:
    return encode(frame)
