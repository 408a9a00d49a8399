"""What no input may do: take much more memory than it has bytes, or steps that grow faster than it does.

Steps are calls, of this program and of what it is built on; nothing here looks at a clock.
"""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import msgspec
import pytest

import replication.delivery
from creditmesh import wire
from ledger.claim import ClaimState, ClaimView
from ledger.ids import LotId
from ledger.operation import Compensation, Difference
from node.api.problems import Refused
from node.api.requests import Body
from replication.clock import MAX_REPLICAS
from replication.codec import (
    MAX_FRAME_BYTES,
    MAX_PAGE_ENTRIES,
    Entries,
    FrameError,
    Have,
    decode,
    encode,
    with_checksum,
)
from replication.delivery import Delivery, weight_of
from replication.entry import Entry, Malformed, open_sealed, seal
from replication.log import MemoryLog
from tests.fuzz.seeds import NOON, an_entry

MOST_BYTES = 64 * 1024 * 1024


def bombs() -> Iterator[Entry]:
    """Entries that are much larger in memory than sealed."""
    small = an_entry()
    yield small
    yield msgspec.structs.replace(small, delta={f"a/{number:x}": 1 for number in range(MAX_REPLICAS)})
    yield msgspec.structs.replace(small, postings={f"lot/{number}": 1 - number % 2 * 2 for number in range(40_000)})
    funding = tuple((LotId(""), 1) for _ in range(150_000))
    yield msgspec.structs.replace(small, result=ClaimView(ClaimState.OPEN, 1, 1, 1, 1, funding, 0))
    parts = tuple(Difference("us-east/b1", 1, {f"lot/{n}": 1 - n % 2 * 2 for n in range(40)}) for _ in range(1000))
    yield msgspec.structs.replace(small, content=Compensation(parts))


def frames() -> Iterator[bytes]:
    """The worst that fits a frame."""
    room = MAX_FRAME_BYTES - 100
    for bomb in bombs():
        sealed = seal(bomb)
        yield encode(Entries([sealed] * min(room // (len(sealed) + 5), MAX_PAGE_ENTRIES), {}, 0))
    name = "r" * 32 + "/" + "b" * 26
    yield encode(Have({f"{name}{number:06}": 2**53 - 1 for number in range(MAX_REPLICAS)}, {}, 0))
    yield with_checksum(b"\x91" * room)
    yield with_checksum(b"\x95\x01\xa7entries" + b"\xdd\x00\x0f\xff\xff" + b"\x90" * room)
    yield with_checksum(b"\x95\x01\xa4have" + b"\xdf\x00\x0f\xff\xff" + b"\x80" * room)
    yield with_checksum(b"\x93\x01\xa3bye" + b"\xdb" + room.to_bytes(4, "big") + b"x" * room)
    yield with_checksum(b"\x95\x01\xa3bye\xa0\xa0\x81\xa1k\xc6" + room.to_bytes(4, "big") + b"x" * room)


def peak_of(act: Callable[[], object]) -> int:
    """The most memory that was taken on the way, in bytes."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def steps_of(act: Callable[[], object]) -> int:
    """How many calls it takes."""
    count = 0

    def tick(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def take(frame: bytes) -> list[Entry]:
    """Everything that is done with a frame before anybody believes it."""
    with suppress(FrameError):
        found = decode(frame)
        if isinstance(found, Entries):
            return [open_sealed(sealed)[0] for sealed in found.page]
    return []


@pytest.mark.parametrize("number", range(len(list(frames()))))
def test_no_frame_takes_more_than_64_mib(number: int) -> None:
    frame = list(frames())[number]
    assert len(frame) <= MAX_FRAME_BYTES + 4
    assert peak_of(lambda: take(frame)) < MOST_BYTES


def test_what_waits_is_weighed_as_it_lies_in_memory() -> None:
    for bomb in bombs():
        sealed = seal(bomb)
        kept: list[Entry] = []
        taken = peak_of(partial(_keep, kept, sealed))
        assert taken < 3 * (weight_of(bomb, sealed) + len(sealed))


def _keep(kept: list[Entry], sealed: bytes) -> None:
    kept.append(open_sealed(sealed)[0])


def test_what_waits_is_bounded_whatever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 8 * 1024 * 1024
    monkeypatch.setattr(replication.delivery, "MAX_WAITING_BYTES", most)
    delivery = Delivery("eu/b1", (), MemoryLog(), window_entries=4096, max_clock_drift_ms=10_000)
    funding = tuple((LotId(""), 1) for _ in range(20_000))
    bomb = msgspec.structs.replace(an_entry(), result=ClaimView(ClaimState.OPEN, 1, 1, 1, 1, funding, 0))

    def flood() -> None:
        for seq in range(2, 30):
            delivery.receive([seal(msgspec.structs.replace(bomb, seq=seq))], NOON)

    assert peak_of(flood) < 2 * most
    assert 0 < delivery.waiting_count < 10


@pytest.mark.parametrize(
    "make",
    [
        lambda size: encode(Entries([seal(an_entry())] * size, {}, 0)),
        lambda size: encode(Have({f"r/b{number}": 1 for number in range(size)}, {}, 0)),
        lambda size: encode(Entries([seal(_posting(size))], {}, 0)),
        lambda size: with_checksum(b"\x91" * size),
        lambda size: with_checksum(b"\x95\x01\xa4have" + b"\xde" + size.to_bytes(2, "big") + b"\xa3r/b\x01" * size),
    ],
)
def test_steps_grow_as_a_frame_does(make: Callable[[int], bytes]) -> None:
    one, two = make(500), make(1000)
    assert steps_of(lambda: take(two)) < 2.2 * steps_of(lambda: take(one)) + 100


def _posting(size: int) -> Entry:
    return msgspec.structs.replace(an_entry(), postings={f"lot/{number}": 1 - number % 2 * 2 for number in range(size)})


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b'{"amount":1,"lease_ms":1' + b',"amount":1' * size + b"}",
        lambda size: b'{"' + b"k" * size + b'":1}',
        lambda size: b'{"amount":' + b"1" * size + b"}",
        lambda size: b'{"amount":' + b"[" * size,
        lambda size: b'{"amount":1,"lease_ms":1,"job":"' + b"x" * size + b'"}',
        lambda size: b'{"amount":1,"lease_ms":1,"job":"' + b":" * 200 + b'"}' + b" " * size,
    ],
)
def test_no_body_takes_many_times_its_size_or_ever_more_steps(make: Callable[[int], bytes]) -> None:
    decode_body = Body(wire.ReserveRequest).decode

    def read(body: bytes) -> None:
        with suppress(Refused):
            decode_body(body, packed=False)

    whole = make(100_000)
    assert peak_of(lambda: read(whole)) < 20 * len(whole) + 100_000
    one, two = make(2_000), make(4_000)
    assert steps_of(lambda: read(two)) < 2.2 * steps_of(lambda: read(one)) + 100


def test_the_bombs_are_taken_so_that_they_are_measured() -> None:
    for bomb in bombs():
        assert open_sealed(seal(bomb))[0] == bomb
    with pytest.raises(Malformed):
        open_sealed(b"x" * 100)
