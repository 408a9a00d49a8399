"""How rows are named and written: keys that sort as the things they name, values in msgpack.

Ids never contain a zero byte, so a zero byte ends each part of a key, and the rows of one tenant lie side by side.
What is read is decoded with exact types: a row that says something else is damaged, and named.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar

import msgpack
import msgspec

from ledger.cells import KeyUse
from ledger.claim import Claim
from ledger.ids import ClaimId, LotId, Position, TenantId
from ledger.job import Job
from ledger.lot import Lot
from ledger.operation import Policy
from ledger.posting import Outcome, Postings
from node.store.errors import DamagedRow
from node.store.kv import Table
from replication.clock import Dot, VectorClock

_SEQ_BYTES: Final = 8
_MAX_NAME_BYTES: Final = 255

T = TypeVar("T")


class State(NamedTuple):
    """A tenant's row: up to which place its rows are true, its totals as numerals, how many entries they include."""

    place: Position
    totals: list[str]
    entry_count: int


class StoredContest(NamedTuple):
    """The contest of a checkpointed entry, without the entry."""

    postings: Postings
    outcome: Outcome
    claim: ClaimId | None
    owed: int
    amends: list[tuple[Position, Postings]]
    rivals: list[Position]
    rival_count: int
    revoked: list[LotId]
    is_other_request: bool


class StoredHead(NamedTuple):
    """How far a log had been followed."""

    replica: str
    seq: int
    hash: bytes
    hlc: int
    others: VectorClock


RULES_KEY: Final = b"rules"
LOW: Final = b"low"
CEILING: Final = b"ceiling"
CEILING_AGAIN: Final = b"ceiling/again"
"""Twice, because no other row, no entry and no peer says what it says: see `node.rebuild`."""
REBUILD: Final = b"rebuild"
LOST: Final = b"lost"

encode_value = msgspec.msgpack.Encoder().encode
decode_lot = msgspec.msgpack.Decoder(Lot).decode
decode_claim = msgspec.msgpack.Decoder(Claim).decode
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_policy = msgspec.msgpack.Decoder(Policy).decode
decode_key_use = msgspec.msgpack.Decoder(KeyUse).decode
decode_history = msgspec.msgpack.Decoder(list[tuple[int, str, str, int, int]]).decode
"""Places, each with its sort: one of those below."""
decode_state = msgspec.msgpack.Decoder(State).decode
decode_contest = msgspec.msgpack.Decoder(StoredContest).decode
decode_place = msgspec.msgpack.Decoder(Position).decode
decode_number = msgspec.msgpack.Decoder(int).decode
decode_rules = msgspec.msgpack.Decoder(int | str).decode
"""Rules were numbers once."""
decode_counts = msgspec.msgpack.Decoder(dict[str, int]).decode
decode_low = msgspec.msgpack.Decoder(tuple[int, list[StoredHead]]).decode

COMPENSATION: Final = 0
OPERATION: Final = 1
REVOCATION: Final = 2
DUPLICATE: Final = 3
"""An operation that canonical order lets do nothing, because another one is the request."""
VOID: Final = 4
"""A hold that the tenant's policy makes void."""


def pack(value: Any) -> bytes:
    """msgpack bytes of plain values."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack(value: bytes) -> Any:
    """The plain values of msgpack bytes; arrays become lists."""
    return msgpack.unpackb(value, strict_map_key=False)


def read(decode: Callable[[bytes], T], table: Table, key: bytes, value: bytes) -> T:
    """What a row says. Raises DamagedRow if that is nothing that such a row may say."""
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedRow(table, key, value, str(error)) from None


def number_key(number: int) -> bytes:
    """A number as a key: eight bytes, big-endian."""
    return number.to_bytes(_SEQ_BYTES, "big")


def number_of(key: bytes) -> int:
    """The number that `number_key` wrote."""
    return int.from_bytes(key, "big")


def tenant_key(tenant: str, name: str = "") -> bytes:
    """The row `name` of a tenant; without a name, what all of them start with."""
    return f"{tenant}\0{name}".encode()


def job_key(job: str) -> bytes:
    """A job's name in a key: as it is or, where that would be too long for one, by its hash."""
    name = job.encode()
    return name if len(name) <= _MAX_NAME_BYTES else b"\xff" + blake2b(name, digest_size=24).digest()


def tenant_of(key: bytes) -> str:
    """The tenant whose row a key names."""
    return key[: key.index(0)].decode()


def dot_key(replica: str, seq: int) -> bytes:
    """An entry's name as a key: entries of one log lie side by side, by number."""
    return replica.encode() + b"\0" + number_key(seq)


def replica_of(key: bytes) -> str:
    """The log in what `dot_key` wrote."""
    return key[: -_SEQ_BYTES - 1].decode()


def seq_of(key: bytes) -> int:
    """The entry's number in what `dot_key` wrote."""
    return number_of(key[-_SEQ_BYTES:])


def place_key(place: Position) -> bytes:
    """A place in canonical order as a key that sorts like it.

    A zero byte sorts before everything that a region or boot may contain, as the end of a string does in a tuple.
    """
    return b"%b%b\0%b\0%b" % (
        number_key(max(place.hlc, 0)),
        place.region.encode(),
        place.boot.encode(),
        number_key(place.seq),
    )


def place_of(key: bytes) -> Position:
    """The place that `place_key` wrote."""
    region, boot = key[_SEQ_BYTES : -_SEQ_BYTES - 1].split(b"\0")
    return Position(number_of(key[:_SEQ_BYTES]), region.decode(), boot.decode(), number_of(key[-_SEQ_BYTES:]))


def conflict_key(place: Position, tenant: str) -> bytes:
    """The conflict of the entry at a place, in the account of a tenant: a transfer can lose in both."""
    return place_key(place) + tenant.encode()


def conflict_of(key: bytes) -> tuple[Position, TenantId]:
    """The place and the tenant in what `conflict_key` wrote."""
    boot = key.index(0, _SEQ_BYTES) + 1
    end = key.index(0, boot) + 1 + _SEQ_BYTES
    return place_of(key[:end]), TenantId(key[end:].decode())


def history_key(tenant: str, place: Position) -> bytes:
    """A stretch of a tenant's history, named by the place of its first entry."""
    return tenant_key(tenant) + place_key(place)


def after_prefix(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix`, which ends in a zero byte."""
    return prefix[:-1] + b"\1"


def dot_at(place: Position) -> Dot:
    """The name of the entry at a place."""
    return Dot(f"{place.region}/{place.boot}", place.seq)
