"""Clocks: who has seen what (vector clocks), and one order in which causes come before consequences (hybrid clocks).

A *dot* names one entry: the n-th of a replica's log. A *vector clock* says, for each replica, how many of its entries
have been seen; logs have no gaps, so a count says it all, and a replica that is absent counts as 0. The relations have
the names that they have in the literature: `a` *descends* from `b` if it has seen all that `b` has; it *dominates* `b`
if it has also seen more; neither descends from the other: *concurrent*.

A *hybrid clock* reading is one integer, milliseconds since the epoch in the upper 48 bits and a counter in the lower
16. It is greater than every reading seen before, and close to physical time as long as physical clocks are. It orders;
it never decides what is concurrent. (Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally
Distributed Databases", 2014.)
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from ledger.ids import BOOT_PATTERN, REGION_PATTERN

VectorClock = dict[str, int]
"""Replica to the number of its entries seen; no zeros."""

MAX_SEQ: Final = 2**53 - 1
MAX_HLC: Final = 2**63 - 1
MAX_REPLICAS: Final = 4096
MAX_TOKEN_CHARS: Final = 6144
"""What fits a header line of the HTTP servers and proxies in use, with room to spare."""

REPLICA_PATTERN: Final = REGION_PATTERN.removesuffix(r"\Z") + "/" + BOOT_PATTERN.removeprefix("^")

CheckedReplica = Annotated[str, Meta(pattern=REPLICA_PATTERN)]
CheckedSeq = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
CheckedHlc = Annotated[int, Meta(ge=0, le=MAX_HLC)]

_COUNTER_BITS: Final = 16


class Dot(NamedTuple):
    """The name of one entry: the `seq`-th of the replica's log, from 1."""

    replica: str
    seq: int


def region_of(replica: str) -> str:
    """The region that a replica is a boot of."""
    return replica.partition("/")[0]


# -- vector clocks --------------------------------------------------------------------------------------------


def descends(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """Whether `a` has seen all that `b` has."""
    return all(a.get(replica, 0) >= count for replica, count in b.items())


def dominates(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """Whether `a` has seen all that `b` has, and more."""
    return descends(a, b) and not descends(b, a)


def concurrent(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """Whether each has seen something that the other has not."""
    return not descends(a, b) and not descends(b, a)


def merge(a: Mapping[str, int], b: Mapping[str, int]) -> VectorClock:
    """What has been seen by either."""
    merged = dict(a)
    for replica, count in b.items():
        if count > merged.get(replica, 0):
            merged[replica] = count
    return merged


def covers(clock: Mapping[str, int], dot: Dot) -> bool:
    """Whether the entry has been seen."""
    return clock.get(dot.replica, 0) >= dot.seq


def lacking_count(behind: Mapping[str, int], ahead: Mapping[str, int]) -> int:
    """How many entries `ahead` has seen that `behind` has not."""
    return sum(max(0, count - behind.get(replica, 0)) for replica, count in ahead.items())


def essential(clock: Mapping[str, int], heads: Iterable[Mapping[str, int]]) -> VectorClock:
    """The part of a node's clock that implies the rest of it, `heads` being what its logs' last entries had seen.

    Entries are applied only after all that they had seen, so whoever has seen an entry has seen everything below it.
    Keeps tokens short: past boots of a region drop out as soon as a later entry has seen their last.
    """
    implied: VectorClock = {}
    for others in heads:
        for replica, count in others.items():
            if count > implied.get(replica, 0):
                implied[replica] = count
    return {replica: count for replica, count in clock.items() if count > implied.get(replica, 0)}


# -- tokens --------------------------------------------------------------------------------------------


class TokenError(ValueError):
    """Not a clock token that this version made, or too long to be one."""


_decode_clock = msgspec.msgpack.Decoder(
    Annotated[dict[CheckedReplica, CheckedSeq], Meta(max_length=MAX_REPLICAS)]
).decode
_encode_clock = msgspec.msgpack.Encoder(order="deterministic").encode


def encode_token(clock: Mapping[str, int]) -> str:
    """The clock as an opaque, URL-safe word; equal clocks give equal words.

    Raises `TokenError` if it would be longer than a header may be (see `essential`).
    """
    token = urlsafe_b64encode(_encode_clock(clock)).rstrip(b"=").decode()
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenError(f"a clock of {len(clock)} replicas does not fit a token")
    return token


def decode_token(token: str) -> VectorClock:
    """The clock in a token. Raises `TokenError` for anything that `encode_token` would not have written."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenError("the token is too long")
    try:
        clock: VectorClock = _decode_clock(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (Base64Error, ValueError, msgspec.DecodeError):
        raise TokenError("not a clock token") from None
    if encode_token(clock) != token:
        raise TokenError("not a clock token")
    return clock


# -- hybrid clock --------------------------------------------------------------------------------------------


def hlc_at(ms: int) -> int:
    """The least reading at the time `ms` (milliseconds since the epoch)."""
    return ms << _COUNTER_BITS


def ms_of(hlc: int) -> int:
    """The physical part of a reading: milliseconds since the epoch."""
    return hlc >> _COUNTER_BITS


class Hlc:
    """A node's hybrid clock.

    Relations kept: every reading to come is greater than ``latest``; ``latest`` is at least every reading given out,
    observed or promised; nothing above ``ceiling`` is ever promised. The ceiling is on disk before it is set here, and
    a node starts with ``latest`` at the ceiling that it finds, so that a promise outlives a crash.
    """

    __slots__ = ("ceiling", "latest")

    def __init__(self, ceiling: int = 0) -> None:
        self.ceiling = ceiling
        self.latest = ceiling

    def tick(self, now_ms: int) -> int:
        """The next reading. A full counter runs over into the milliseconds, and the order stays right."""
        hlc = max(self.latest + 1, now_ms << _COUNTER_BITS)
        if hlc > MAX_HLC:
            raise OverflowError("the hybrid clock has no reading left")
        self.latest = hlc
        return hlc

    def observe(self, hlc: int) -> None:
        """Take note of another node's reading. The caller has made sure that it is not too far ahead."""
        if hlc > self.latest:
            self.latest = hlc

    def promise(self, now_ms: int) -> int:
        """A reading that all readings to come exceed, the latest that the ceiling allows."""
        self.latest = max(self.latest, now_ms << _COUNTER_BITS)
        return min(self.latest, self.ceiling)

    def raise_ceiling(self, hlc: int) -> None:
        """Promises up to `hlc` may be made from now on: the ceiling is durable."""
        self.ceiling = max(self.ceiling, hlc)
