"""Laws of the codec: what goes in comes out; what comes in is a frame of the one form, or a typed refusal."""

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.clock import MAX_HLC, MAX_SEQ
from replication.codec import (
    CHECKSUM_BYTES,
    Bye,
    Entries,
    Frame,
    FrameError,
    Have,
    Hello,
    Want,
    decode,
    encode,
    with_checksum,
)
from replication.entry import Malformed, open_sealed, seal
from tests.unit.replication.sites import make_entry

regions = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
replicas = st.builds("{}/{}".format, regions, st.from_regex(r"[0-9a-z]{1,8}", fullmatch=True))
seqs = st.integers(1, MAX_SEQ)
hlcs = st.integers(0, MAX_HLC)
numbers = st.integers(0, 2**63 - 1)
texts = st.text(max_size=60)
clocks = st.dictionaries(replicas, seqs, max_size=20)
ranges = st.lists(st.integers(0, MAX_SEQ), min_size=2, max_size=2, unique=True).map(lambda pair: tuple(sorted(pair)))

frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, texts, regions, replicas, st.tuples(numbers, numbers), texts, clocks, hlcs),
    st.builds(Have, clocks, st.dictionaries(regions, hlcs, max_size=5), hlcs),
    st.builds(Want, seqs, st.dictionaries(replicas, ranges, max_size=20)),
    st.builds(Entries, st.lists(st.binary(min_size=33, max_size=80), max_size=20), clocks, numbers),
    st.builds(Bye, texts, texts),
)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
nearly_frames = st.tuples(
    st.just(1), st.sampled_from(["hello", "have", "want", "entries", "bye"]), st.lists(plain, max_size=8)
).map(lambda parts: msgpack.packb([parts[0], parts[1], *parts[2]]))


@given(frames)
def test_a_frame_comes_back_as_it_was_sent(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@given(frames, st.data())
def test_every_truncation_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    length = data.draw(st.integers(0, len(whole) - 1))
    try:
        decode(whole[:length])
    except FrameError:
        return
    raise AssertionError(f"taken after {length} of {len(whole)} bytes")


@given(st.one_of(st.binary(max_size=200), nearly_frames))
def test_bytes_are_either_a_frame_of_the_one_form_or_refused(data: bytes) -> None:
    with suppress(FrameError):
        frame = decode(with_checksum(data))
        plain_values = msgpack.unpackb(data)
        without_optional = (
            plain_values[:-1] if msgpack.unpackb(encode(frame)[:-CHECKSUM_BYTES]) != plain_values else plain_values
        )
        assert msgpack.unpackb(encode(frame)[:-CHECKSUM_BYTES]) == without_optional
        assert msgpack.packb(plain_values) == data


@given(frames, st.data())
def test_a_tampered_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = bytearray(encode(frame))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        decode(bytes(whole))


@given(replicas, seqs, clocks, st.integers(0, 2**46))
def test_an_entry_comes_back_as_it_was_sealed(replica: str, seq: int, seen: dict[str, int], ms: int) -> None:
    entry = (
        make_entry(replica, seq=1, ms=ms, seen=seen) if seq == 1 else make_entry(replica, seq=seq % 2**16 + 1, ms=ms)
    )
    assert open_sealed(seal(entry))[0] == entry


@given(st.binary(max_size=300))
def test_no_bytes_are_an_entry_by_chance(data: bytes) -> None:
    try:
        open_sealed(data)
    except Malformed:
        return
    raise AssertionError("taken for an entry")
