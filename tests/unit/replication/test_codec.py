"""Frames: strict, bounded, and of one form."""

import tracemalloc
from typing import Any

import msgpack
import pytest

from replication.codec import (
    CHECKSUM_BYTES,
    MAX_FRAME_BYTES,
    MAX_PAGE_ENTRIES,
    Bye,
    Entries,
    Fault,
    Frame,
    FrameError,
    Have,
    Hello,
    Want,
    decode,
    encode,
    with_checksum,
)
from tests.unit.replication.sites import make_log

FRAMES: list[Frame] = [
    Hello("prod", "eu", "eu/b1", (1, 3), "7", {"eu/b1": 5, "us/b1": 2**40}, 2**60),
    Have({"eu/b1": 5}, {"eu": 2**60, "us": 0}, 2**60),
    Have({}, {}, 0),
    Want(1, {"eu/b1": (0, 5), "us/b1": (3, 4)}),
    Entries(make_log("eu/b1", 3), {"eu/b1": 3}, 9),
    Entries([], {}, 9),
    Bye("stopping", "höhere Gewalt"),
]


def fault_of(data: bytes) -> Fault:
    with pytest.raises(FrameError) as caught:
        decode(data)
    return caught.value.fault


def plain(frame: Frame) -> list[Any]:
    """The values of a frame, to be tampered with."""
    values: list[Any] = msgpack.unpackb(array_of(frame), use_list=True)
    return values


def array_of(frame: Frame) -> bytes:
    """The bytes of a frame without its checksum, to be tampered with."""
    return encode(frame)[:-CHECKSUM_BYTES]


def made_of(values: list[Any]) -> bytes:
    """A frame of these values, whatever they are."""
    return with_checksum(msgpack.packb(values))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
class TestEveryFrame:
    def test_comes_back_as_it_was_sent(self, frame: Frame) -> None:
        assert decode(encode(frame)) == frame

    def test_is_refused_wherever_it_is_cut(self, frame: Frame) -> None:
        data, array = encode(frame), array_of(frame)
        faults = {fault_of(data[:length]) for length in range(len(data))}
        assert faults == {Fault.TRUNCATED, Fault.CHECKSUM}
        assert {fault_of(with_checksum(array[:length])) for length in range(len(array))} == {Fault.TRUNCATED}

    def test_is_refused_with_any_bit_flipped(self, frame: Frame) -> None:
        data = encode(frame)
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            assert fault_of(bytes(flipped)) is Fault.CHECKSUM

    def test_is_refused_with_something_behind_it(self, frame: Frame) -> None:
        assert fault_of(with_checksum(array_of(frame) + b"\xc0")) is Fault.NOT_CANONICAL

    def test_is_taken_with_optional_fields_of_a_later_version(self, frame: Frame) -> None:
        later = [*plain(frame), {"colour": "blue", "weight": 3, "raw": b"\x00", "new": True, "none": None}]
        assert decode(made_of(later)) == frame

    def test_is_refused_with_a_field_too_few_or_two_too_many(self, frame: Frame) -> None:
        values = plain(frame)
        for other in (values[:-1], [*values, {}, {}]):
            with pytest.raises(FrameError):
                decode(made_of(other))

    @pytest.mark.parametrize(
        "intruder", [1.0, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), -1, None, True, [[]], {"a": {}}, 2**64 - 1]
    )
    def test_is_refused_with_a_value_of_another_type_in_any_place(self, frame: Frame, intruder: object) -> None:
        for place in range(len(plain(frame))):
            values = plain(frame)
            values[place] = intruder
            with pytest.raises(FrameError):
                decode(made_of(values))

    @pytest.mark.parametrize("intruder", [0.5, msgpack.ExtType(1, b"x"), [], {}, [1.0]])
    def test_is_refused_with_optional_fields_that_are_not_plain(self, frame: Frame, intruder: object) -> None:
        with pytest.raises(FrameError):
            decode(made_of([*plain(frame), {"later": intruder}]))


class TestStrictness:
    def test_a_name_that_stands_twice_is_refused(self) -> None:
        data = array_of(Have({"eu/b1": 1}, {}, 0))
        clock = msgpack.packb({"eu/b1": 1})
        assert fault_of(with_checksum(data.replace(clock, b"\x82" + clock[1:] * 2))) is Fault.NOT_CANONICAL

    def test_a_number_or_length_written_longer_than_needed_is_refused(self) -> None:
        data = array_of(Have({}, {}, 5))
        assert fault_of(with_checksum(data[:-1] + b"\xcc\x05")) is Fault.NOT_CANONICAL
        assert fault_of(with_checksum(b"\xdc\x00\x05" + data[1:])) is Fault.NOT_CANONICAL

    @pytest.mark.parametrize(
        "frame",
        [
            Hello("prod", "EU", "eu/b1", (1, 1), "1", {}, 0),
            Hello("prod", "eu", "eu", (1, 1), "1", {}, 0),
            Hello("p" * 256, "eu", "eu/b1", (1, 1), "1", {}, 0),
            Have({"eu/b1": 0}, {}, 0),
            Have({"nobody": 1}, {}, 0),
            Have({"eu/b1": 2**53}, {}, 0),
            Have({}, {"no region": 1}, 0),
            Have({}, {}, 2**63),
            Want(0, {}),
            Want(1, {"eu/b1": (5, 5)}),
            Want(1, {"eu/b1": (6, 5)}),
            Entries([b"too short"], {}, 0),
            Entries([b"x" * 600_000], {}, 0),
        ],
    )
    def test_values_out_of_range_are_refused(self, frame: Frame) -> None:
        assert fault_of(encode(frame)) is Fault.OUT_OF_RANGE

    def test_what_is_no_utf8_is_refused(self) -> None:
        assert fault_of(with_checksum(array_of(Bye("x", "yy")).replace(b"yy", b"\xff\xfe"))) is Fault.WRONG_TYPE

    def test_other_formats_and_kinds_are_told_apart_from_rubbish(self) -> None:
        assert fault_of(made_of([2, "have", {}, {}, 0])) is Fault.UNKNOWN_FORMAT
        assert fault_of(made_of([1, "gossip"])) is Fault.UNKNOWN_KIND
        assert fault_of(made_of([1])) is Fault.WRONG_SHAPE
        assert fault_of(b"GET / HTTP/1.1\r\n") is Fault.CHECKSUM
        assert fault_of(with_checksum(b"GET / HTTP/1.1\r\n")) is Fault.WRONG_TYPE
        assert fault_of(b"") is Fault.TRUNCATED


class TestBounds:
    def test_a_frame_too_long_is_neither_read_nor_written(self) -> None:
        assert fault_of(bytes(MAX_FRAME_BYTES + 1)) is Fault.OVERSIZE
        with pytest.raises(FrameError):
            encode(Entries([bytes(400_000)] * 3, {}, 0))

    def test_a_page_of_the_most_entries_is_taken_and_one_more_is_not(self) -> None:
        page = [b"x" * 40] * MAX_PAGE_ENTRIES
        assert decode(encode(Entries(page, {}, 0))) == Entries(page, {}, 0)
        assert fault_of(encode(Entries([*page, b"x" * 40], {}, 0))) is Fault.OUT_OF_RANGE

    @pytest.mark.parametrize(
        "lie",
        [
            b"\xdd\xff\xff\xff\xff",
            b"\x95\x01\xa4have\xdf\xff\xff\xff\xff",
            b"\x95\x01\xa7entries\xdd\xff\xff\xff\xff",
            b"\x95\x01\xa7entries\x91\xc6\xff\xff\xff\xff",
            b"\x95\x01\xdb\xff\xff\xff\xff",
            b"\x94\x01\xa3bye" + b"\xdd\x00\x00\x20\x00" * 1000,
            b"\x95\x01\xa7entries" + b"\xdd\x00\x00\x20\x00" * 1000,
            b"\x96\x01\xa4have\x80\x80\x00" + b"\x81\xa1x\xdd\x00\x00\x20\x00" * 1000,
            b"\xdd\x00\x0f\xff\xff" * 200_000,
        ],
        ids=range(9),
    )
    def test_a_length_that_is_a_lie_makes_nobody_allocate(self, lie: bytes) -> None:
        frame = with_checksum(lie)
        tracemalloc.start()
        try:
            with pytest.raises(FrameError):
                decode(frame)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * len(lie) + 100_000
