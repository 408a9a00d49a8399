"""The log's entries: what stands in one, how it is sealed, and how a log hangs together.

An entry is an immutable fact: an operation (or a compensation) that one replica accepted, with what it recorded as its
effect. Sealed, it is the msgpack bytes of its fields followed by their BLAKE2b-256 hash; each entry names the hash of
the one before it, so a log is a chain, and two nodes whose logs agree in one entry agree in all before it.

An entry's vector clock is everything that its origin had applied when it was made. Only the change since the origin's
previous entry is stored: ``delta`` holds the new counts of the other replicas that moved (of the first entry: of all),
so the cost of an entry does not grow with the number of replicas. Whoever follows the log knows the whole clock.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.claim import ClaimView
from ledger.ids import CheckedKey, CheckedTenant, Position, TenantId
from ledger.operation import Acknowledge, Compensation, Content, Transfer
from ledger.posting import Outcome, balanced, is_account
from replication.clock import MAX_REPLICAS, CheckedHlc, CheckedReplica, CheckedSeq, Dot, VectorClock, covers, region_of

VERSION: Final = 2
HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)
"""What the first entry of a log names as the hash before it."""

MAX_SEALED_BYTES: Final = 512 * 1024
"""The longest sealed entry: half of what a frame holds."""

ENTRY_BEGINS: Final = b"\x9e\x02"
"""What every sealed entry begins with: an array of 14, version 2."""

MIN_SEALED_BYTES: Final = HASH_BYTES + 1

MAX_POSTING: Final = 2**60
"""Of either sign: more than anything that a correct replica posts, and little enough that sums of many fit 64 bits."""

Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Hash = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


class EntryError(ValueError):
    """An entry that this node does not take, or cannot take yet."""


class Malformed(EntryError):
    """Not the sealed form of an entry, or an entry that no correct replica would make."""


class Fork(EntryError):
    """A second entry under a known dot, or one that does not follow the entry before it."""


class Gap(EntryError):
    """Entries of this log are missing before this one."""


class Known(EntryError):
    """An entry at or below the head of its log."""


class Entry(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """One entry of a replica's log.

    ``key`` and ``request`` (fingerprint) are the client's; ``postings`` and ``outcome`` are what the origin recorded,
    ``result`` the claim after it, so that a retry's reply is a function of the entry. ``received`` is what a transfer
    posted in the account of the tenant that it went to; None for all else. ``prev`` is the hash before it.
    """

    version: Literal[2]
    replica: CheckedReplica
    seq: CheckedSeq
    hlc: CheckedHlc
    delta: Annotated[dict[CheckedReplica, CheckedSeq], Meta(max_length=MAX_REPLICAS)]
    tenant: CheckedTenant
    key: CheckedKey | None
    request: Fingerprint | None
    content: Content
    postings: dict[str, int]
    outcome: Outcome
    result: ClaimView | None
    received: dict[str, int] | None
    prev: Hash

    @property
    def region(self) -> str:
        """Where it was accepted."""
        return _parts(self.replica)[0]

    @property
    def boot(self) -> str:
        """Which boot of the region accepted it."""
        return _parts(self.replica)[1]

    @property
    def tenants(self) -> tuple[TenantId, ...]:
        """The tenants in whose books it stands."""
        content = self.content
        return (self.tenant, content.to) if isinstance(content, Transfer) else (self.tenant,)

    @property
    def dot(self) -> Dot:
        """Its name."""
        return Dot(self.replica, self.seq)

    @property
    def position(self) -> Position:
        """Its place in canonical order."""
        region, boot = _parts(self.replica)
        return Position(self.hlc, region, boot, self.seq)


@lru_cache(maxsize=4096)
def _parts(replica: str) -> tuple[str, str]:
    region, _, boot = replica.partition("/")
    return region, boot


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def seal(entry: Entry) -> bytes:
    """The bytes under which the entry is stored and sent; the last 32 are its hash.

    Raises `Malformed` if it is too long, or a compensation that posts more than any node takes: it would have to if
    what it makes up for was forged.
    """
    if isinstance(entry.content, Compensation):
        _check_postings(entry.postings)
        for part in entry.content.of:
            _check_postings(part.postings)
    body = _encode(entry)
    if len(body) > MAX_SEALED_BYTES - HASH_BYTES:
        raise Malformed(f"an entry of {len(body)} bytes is too long")
    return body + blake2b(body, digest_size=HASH_BYTES).digest()


def hash_of(sealed: bytes) -> bytes:
    """The hash that a sealed entry carries."""
    return sealed[-HASH_BYTES:]


def check_hash(sealed: bytes) -> None:
    """Raise `Malformed` if a sealed entry is not what was written."""
    if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
        raise Malformed(f"a sealed entry of {len(sealed)} bytes")
    if blake2b(memoryview(sealed)[:-HASH_BYTES], digest_size=HASH_BYTES).digest() != sealed[-HASH_BYTES:]:
        raise Malformed("the hash does not match")


def open_sealed(sealed: bytes) -> tuple[Entry, bytes]:
    """The entry and its hash. Raises `Malformed` for anything that `seal` would not have written."""
    if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
        raise Malformed(f"a sealed entry of {len(sealed)} bytes")
    body, digest = sealed[:-HASH_BYTES], sealed[-HASH_BYTES:]
    if blake2b(body, digest_size=HASH_BYTES).digest() != digest:
        raise Malformed("the hash does not match")
    try:
        entry = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if _encode(entry) != body:
        raise Malformed("not in the one form that entries have")
    _check_postings(entry.postings)
    content = entry.content
    if isinstance(content, Compensation):
        for part in content.of:
            _check_postings(part.postings)
            if region_of(part.replica) != entry.region:
                raise Malformed(f"{entry.region} makes amends for {part.replica}")
    if isinstance(content, Acknowledge) and (entry.postings or entry.outcome is not Outcome.POSTED):
        raise Malformed("an acknowledgement that does something")
    if entry.received is not None:
        _check_postings(entry.received)
    if isinstance(content, Transfer):
        if content.to == entry.tenant:
            raise Malformed(f"a transfer from {entry.tenant} to itself")
        if entry.received is None:
            raise Malformed("a transfer that nobody received")
    elif entry.received is not None:
        raise Malformed("received, and not transferred")
    return entry, digest


def _check_postings(postings: dict[str, int]) -> None:
    if not balanced(postings):
        raise Malformed("the postings do not sum to zero")
    for account, amount in postings.items():
        if not -MAX_POSTING <= amount <= MAX_POSTING or not is_account(account):
            raise Malformed(f"a posting of {amount} on {account!r:.140}")


# -- the chain --------------------------------------------------------------------------------------------


class LogHead:
    """How far a log has been followed: its last entry, and what that entry had seen of the other replicas.

    Relations kept: ``hash`` and ``hlc`` are those of the entry ``(replica, seq)``; ``others`` is its vector clock
    without its own replica. ``others`` is shared with those who file the entries: it is replaced, never changed.
    """

    __slots__ = ("hash", "hlc", "others", "replica", "seq")

    def __init__(
        self, replica: str, seq: int = 0, digest: bytes = GENESIS, hlc: int = -1, others: VectorClock | None = None
    ) -> None:
        self.replica = replica
        self.seq = seq
        self.hash = digest
        self.hlc = hlc
        self.others: VectorClock = {} if others is None else others

    def check(self, entry: Entry, digest: bytes) -> None:
        """Raise unless the entry is the next of this log: `Gap`, `Known`, `Fork`, `Malformed`."""
        if entry.seq != self.seq + 1:
            if entry.seq > self.seq:
                raise Gap(f"{self.replica} is at {self.seq}, not yet at {entry.seq}")
            if entry.seq == self.seq and digest != self.hash:
                raise Fork(f"two entries {self.replica} {self.seq}")
            raise Known(f"{self.replica} is at {self.seq} already")
        if entry.prev != self.hash:
            raise Fork(f"{self.replica} {entry.seq} does not follow the entry before it")
        if entry.hlc <= self.hlc:
            raise Malformed(f"the clock of {self.replica} runs backwards at {entry.seq}")
        if entry.delta:
            seen = self.others
            for replica, count in entry.delta.items():
                if count <= seen.get(replica, 0) or replica == entry.replica:
                    raise Malformed(f"{self.replica} {entry.seq} says nothing new of {replica}")

    def extend(self, entry: Entry, digest: bytes) -> VectorClock:
        """Follow the log by one entry; returns what the entry had seen of the other replicas. Raises as `check`.

        Consecutive entries that learnt nothing share one clock: never change it.
        """
        self.check(entry, digest)
        return self.advance(entry, digest)

    def advance(self, entry: Entry, digest: bytes) -> VectorClock:
        """As `extend`, for an entry that has been checked, or that this node has just made."""
        self.seq = entry.seq
        self.hash = digest
        self.hlc = entry.hlc
        if entry.delta:
            self.others = {**self.others, **entry.delta}
        return self.others


def happened_before(first: Dot, then: Dot, then_others: Mapping[str, int]) -> bool:
    """Whether the entry `then`, which had seen `then_others` of other replicas, had seen `first`."""
    if first.replica == then.replica:
        return first.seq < then.seq
    return covers(then_others, first)


def are_concurrent(a: Dot, a_others: Mapping[str, int], b: Dot, b_others: Mapping[str, int]) -> bool:
    """Whether neither of two different entries had seen the other."""
    return not happened_before(a, b, b_others) and not happened_before(b, a, a_others)
