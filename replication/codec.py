"""Frames: what two nodes say to each other, as bytes. Strict, because a peer may be faulty, hostile, or newer.

A frame is one msgpack array and behind it the CRC-32 of the array's bytes. The array holds the version of this format,
the kind, the fields of the kind, and perhaps a map of optional fields, in which a later version may say more: it is
checked like the rest and otherwise left alone. Entries have hashes of their own; the checksum is for all else, for a
promise with one bit flipped on the way would be a promise that nobody gave.

    hello    who I am, what I speak, what I hold durably, my clock
    have     what I hold durably, what I know to be promised once you hold it too, my clock
    want     for some logs: send me what is behind number a, up to number b; the asker's number for the question
    entries  sealed entries in the order in which the sender applied them, how far they reach in each log, and the
             number of the question that they answer, 0 if nobody asked
    ask      please move credit of a tenant under escrow to my region's share
    bye      why I close the link

At most 1 MiB. The type of every value is read from its first byte, and every length is held against its limit, before
anything is unpacked, so that no frame can make its reader allocate more than its own size. No floats, no extension
types; a frame that is not in the one form that `encode` gives is refused. Whatever is wrong with a frame is a
`FrameError` with a reason for the metrics.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final
from zlib import crc32

import msgpack
from msgspec import Struct

from ledger.amount import MAX_AMOUNT
from ledger.ids import REGION_PATTERN, TENANT_PATTERN
from replication.clock import MAX_HLC, MAX_REPLICAS, MAX_SEQ, REPLICA_PATTERN, VectorClock
from replication.entry import MAX_SEALED_BYTES, MIN_SEALED_BYTES

FORMAT: Final = 1
CHECKSUM_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1024 * 1024
MAX_PAGE_ENTRIES: Final = 8192
MAX_REGIONS: Final = 256
MAX_TEXT_CHARS: Final = 255
MAX_OPTIONAL: Final = 16
MAX_NUMBER: Final = 2**63 - 1

Ranges = dict[str, tuple[int, int]]
"""Replica to (after, upto): the entries numbered after < seq <= upto of its log."""


class Hello(Struct, frozen=True):
    """The first frame each way. ``versions`` are the least and the greatest protocol version spoken."""

    cluster: str
    region: str
    replica: str
    versions: tuple[int, int]
    rules: str
    clock: VectorClock
    hlc: int


class Have(Struct, frozen=True):
    """What the sender holds durably, all of it, or with no ``promises`` perhaps only what is new to the reader.

    ``promises``: once you hold ``clock``, no entry of these regions up to these clock readings can be new to you.
    """

    clock: VectorClock
    promises: dict[str, int]
    hlc: int


class Want(Struct, frozen=True):
    """Please send these. ``number``, from 1, tells the answer."""

    number: int
    ranges: Ranges


class Entries(Struct, frozen=True):
    """A page of sealed entries. ``reaches``: the number of the last entry of each log in the page."""

    page: list[bytes]
    reaches: VectorClock
    answers: int


class Ask(Struct, frozen=True):
    """The sender's clients want more of a tenant's credit than its own shares hold; it would like so much moved."""

    tenant: str
    amount: int


class Bye(Struct, frozen=True):
    """The sender closes the link. ``reason`` is a word for programs, ``text`` for people."""

    reason: str
    text: str


Frame = Hello | Have | Want | Entries | Ask | Bye


class Fault(StrEnum):
    """What can be wrong with a frame."""

    OVERSIZE = "oversize"
    CHECKSUM = "checksum"
    TRUNCATED = "truncated"
    WRONG_TYPE = "wrong-type"
    OUT_OF_RANGE = "out-of-range"
    WRONG_SHAPE = "wrong-shape"
    UNKNOWN_FORMAT = "unknown-format"
    UNKNOWN_KIND = "unknown-kind"
    NOT_CANONICAL = "not-canonical"


class FrameError(ValueError):
    """These bytes are not a frame; ``fault`` says why, as a word for the metrics."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises `FrameError` if they are more than a frame may have."""
    data = with_checksum(_pack(_values(frame)))
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError(Fault.OVERSIZE, f"{len(data)} bytes")
    return data


def decode(data: bytes) -> Frame:
    """The frame in these bytes. Raises `FrameError`, and nothing else."""
    if not CHECKSUM_BYTES < len(data) <= MAX_FRAME_BYTES:
        raise FrameError(Fault.TRUNCATED if len(data) <= CHECKSUM_BYTES else Fault.OVERSIZE, f"{len(data)} bytes")
    array = data[:-CHECKSUM_BYTES]
    if crc32(array) != int.from_bytes(data[-CHECKSUM_BYTES:], "big"):
        raise FrameError(Fault.CHECKSUM, "changed on its way, or cut short")
    return _frame_of(array)


def with_checksum(array: bytes) -> bytes:
    """The msgpack bytes of a frame's array, made a frame."""
    return array + crc32(array).to_bytes(CHECKSUM_BYTES, "big")


def _frame_of(array: bytes) -> Frame:
    reader = _Reader(array)
    try:
        length = reader.array(MAX_OPTIONAL)
        if length < 2:
            raise FrameError(Fault.WRONG_SHAPE, f"an array of {length}")
        if reader.number() != FORMAT:
            raise FrameError(Fault.UNKNOWN_FORMAT, "another version of the frame format")
        kind = reader.text()
        read = _READERS.get(kind)
        if read is None:
            raise FrameError(Fault.UNKNOWN_KIND, "no such frame")
        frame = read(reader)
        values = _values(frame)
        if length == len(values) + 1:
            values.append(reader.optional())
        elif length != len(values):
            raise FrameError(Fault.WRONG_SHAPE, f"{length} values in a {kind} frame")
    except (IndexError, msgpack.OutOfData):
        raise FrameError(Fault.TRUNCATED, "ends early") from None
    except FrameError:
        raise
    except (msgpack.UnpackException, ValueError) as error:
        raise FrameError(Fault.WRONG_TYPE, str(error)) from None
    if _pack(values) != array:
        raise FrameError(Fault.NOT_CANONICAL, "not in the one form that frames have")
    return frame


# -- values out --------------------------------------------------------------------------------------------------

_pack: Callable[[Any], bytes] = msgpack.packb


def _values(frame: Frame) -> list[Any]:
    match frame:
        case Hello(cluster, region, replica, versions, rules, clock, hlc):
            return [FORMAT, "hello", cluster, region, replica, versions, rules, clock, hlc]
        case Have(clock, promises, hlc):
            return [FORMAT, "have", clock, promises, hlc]
        case Want(number, ranges):
            return [FORMAT, "want", number, ranges]
        case Entries(page, reaches, answers):
            return [FORMAT, "entries", page, reaches, answers]
        case Ask(tenant, amount):
            return [FORMAT, "ask", tenant, amount]
        case Bye(reason, text):
            return [FORMAT, "bye", reason, text]


# -- values in --------------------------------------------------------------------------------------------------

_is_region = re.compile(REGION_PATTERN).match
_is_tenant = re.compile(TENANT_PATTERN).match
_is_replica = re.compile(REPLICA_PATTERN).match

_TEXT: Final = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))
_NUMBER: Final = frozenset((*range(0x80), 0xCC, 0xCD, 0xCE, 0xCF))
_BYTES: Final = frozenset((0xC4, 0xC5, 0xC6))
_ARRAY: Final = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_MAP: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_PLAIN: Final = _TEXT | _NUMBER | _BYTES | {0xC0, 0xC2, 0xC3}


class _Reader:
    """Takes one value after the other off the front of a frame; the first byte of each must be of the type asked for.

    A frame that ends early comes out as IndexError or msgpack.OutOfData, text that is no UTF-8 as ValueError.
    """

    __slots__ = ("_data", "_take", "_tell", "_unpacker")

    def __init__(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=len(data), read_size=len(data), max_ext_len=0)
        unpacker.feed(data)
        self._data = data
        self._unpacker = unpacker
        self._take = unpacker.unpack
        self._tell = unpacker.tell

    def _expect(self, first_bytes: frozenset[int], what: str) -> None:
        if self._data[self._tell()] not in first_bytes:
            raise FrameError(Fault.WRONG_TYPE, f"not {what}")

    def array(self, most: int) -> int:
        """The length of an array whose items come next."""
        self._expect(_ARRAY, "an array")
        return _at_most(self._unpacker.read_array_header(), most)

    def map(self, most: int) -> int:
        """The length of a map whose keys and values come next."""
        self._expect(_MAP, "a map")
        return _at_most(self._unpacker.read_map_header(), most)

    def pair(self) -> tuple[int, int]:
        """Two numbers."""
        if self.array(2) != 2:
            raise FrameError(Fault.WRONG_SHAPE, "not a pair")
        return self.number(), self.number()

    def number(self, most: int = MAX_NUMBER) -> int:
        """A number that is not negative."""
        self._expect(_NUMBER, "a number")
        return _at_most(self._take(), most)

    def text(self) -> str:
        """A short text."""
        self._expect(_TEXT, "a text")
        text: str = self._take()
        _at_most(len(text), MAX_TEXT_CHARS)
        return text

    def region(self) -> str:
        """The name of a region."""
        return _matching(_is_region, self.text())

    def tenant(self) -> str:
        """The name of a tenant."""
        return _matching(_is_tenant, self.text())

    def replica(self) -> str:
        """The name of a replica."""
        return _matching(_is_replica, self.text())

    def clock(self) -> VectorClock:
        """A vector clock."""
        clock: VectorClock = {}
        for _ in range(self.map(MAX_REPLICAS)):
            replica = self.replica()
            clock[replica] = _at_least_1(self.number(MAX_SEQ))
        return clock

    def promises(self) -> dict[str, int]:
        """Clock readings by region."""
        promises: dict[str, int] = {}
        for _ in range(self.map(MAX_REGIONS)):
            region = self.region()
            promises[region] = self.number(MAX_HLC)
        return promises

    def ranges(self) -> Ranges:
        """What is wanted, by replica."""
        ranges: Ranges = {}
        for _ in range(self.map(MAX_REPLICAS)):
            replica = self.replica()
            after, upto = ranges[replica] = self.pair()
            if not after < upto <= MAX_SEQ:
                raise FrameError(Fault.OUT_OF_RANGE, "a range that holds nothing")
        return ranges

    def page(self) -> list[bytes]:
        """Sealed entries."""
        data, tell, take = self._data, self._tell, self._take
        page: list[bytes] = []
        for _ in range(self.array(MAX_PAGE_ENTRIES)):
            if data[tell()] not in _BYTES:
                raise FrameError(Fault.WRONG_TYPE, "not bytes")
            sealed = take()
            if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
                raise FrameError(Fault.OUT_OF_RANGE, f"a sealed entry of {len(sealed)} bytes")
            page.append(sealed)
        return page

    def optional(self) -> dict[str, Any]:
        """The map of optional fields: plain values only, for what it may one day hold in them is not known here."""
        optional: dict[str, Any] = {}
        for _ in range(self.map(MAX_OPTIONAL)):
            name = self.text()
            self._expect(_PLAIN, "a plain value")
            optional[name] = self._take()
        return optional


_READERS: Final[dict[str, Callable[[_Reader], Frame]]] = {
    "hello": lambda reader: Hello(
        reader.text(), reader.region(), reader.replica(), reader.pair(), reader.text(), reader.clock(),
        reader.number(MAX_HLC),
    ),
    "have": lambda reader: Have(reader.clock(), reader.promises(), reader.number(MAX_HLC)),
    "want": lambda reader: Want(_at_least_1(reader.number()), reader.ranges()),
    "entries": lambda reader: Entries(reader.page(), reader.clock(), reader.number()),
    "ask": lambda reader: Ask(reader.tenant(), _at_least_1(reader.number(MAX_AMOUNT))),
    "bye": lambda reader: Bye(reader.text(), reader.text()),
}  # fmt: skip


def _at_most(number: int, most: int) -> int:
    if number > most:
        raise FrameError(Fault.OUT_OF_RANGE, f"more than {most}")
    return number


def _at_least_1(number: int) -> int:
    if not number:
        raise FrameError(Fault.OUT_OF_RANGE, "a number below 1")
    return number


def _matching(matches: Callable[[str], re.Match[str] | None], name: str) -> str:
    if not matches(name):
        raise FrameError(Fault.OUT_OF_RANGE, "not a name")
    return name
