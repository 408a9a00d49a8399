"""Whatever is decoded is taken as it was written or refused as declared: the targets of the fuzzer, under hypothesis.

Hypothesis draws where and how a valid input is broken, and finds the least breakage that goes wrong; the guided fuzzer
(`tests.fuzz.test_guided`) goes further. What either has found lies in ``corpus/`` and is tried first.
"""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.rules import Rules
from replication.codec import Have, Hello
from tests.fuzz.__main__ import NAMES, PACKED
from tests.fuzz.seeds import seeds_of
from tests.fuzz.siege import Siege, besiege
from tests.fuzz.targets import TARGETS
from tests.fuzz.trees import flip, mutate, read, write

DECODERS = tuple(name for name in NAMES if name != "peers")
moderately = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("target", NAMES)
def test_what_is_right_is_taken_and_what_was_found_before_stays_found(target: str) -> None:
    assert TARGETS.keys() == set(NAMES)
    for data in seeds_of(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", DECODERS)
@moderately
@given(st.data())
def test_bytes_that_somebody_changed_do_no_harm(target: str, data: st.DataObject) -> None:
    right = data.draw(st.sampled_from(seeds_of(target)))
    rng = data.draw(st.randoms(use_true_random=False))
    for _ in range(data.draw(st.integers(1, 6))):
        right = flip(right, rng)
    TARGETS[target](right)


@pytest.mark.parametrize("target", PACKED)
@moderately
@given(st.data())
def test_values_that_somebody_changed_do_no_harm(target: str, data: st.DataObject) -> None:
    right = data.draw(st.sampled_from(seeds_of(target)))
    rng = data.draw(st.randoms(use_true_random=False))
    before = PACKED[target]
    TARGETS[target](right[:before] + mutate(right[before:], rng, data.draw(st.integers(1, 4))))


@moderately
@given(st.data())
def test_packed_bodies_that_somebody_changed_do_no_harm(data: st.DataObject) -> None:
    right = data.draw(st.sampled_from([seed for seed in seeds_of("bodies") if seed[0] & 1]))
    rng = data.draw(st.randoms(use_true_random=False))
    TARGETS["bodies"](right[:1] + mutate(right[1:], rng, data.draw(st.integers(1, 4))))


@pytest.mark.parametrize("target", DECODERS)
@moderately
@given(st.binary(max_size=400))
def test_any_bytes_do_no_harm(target: str, data: bytes) -> None:
    TARGETS[target](data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400))
def test_a_hostile_peer_does_no_harm(data: bytes) -> None:
    besiege(data)


def try_all(target: str, inputs: Iterable[bytes]) -> None:
    for data in inputs:
        TARGETS[target](data)


def test_an_error_that_nobody_declared_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.entry.UnicodeDecodeError", KeyError, raising=False)
    right = seeds_of("entries")[0]
    with pytest.raises(UnicodeDecodeError):
        try_all("entries", (mutate(right, Random(number)) for number in range(10_000)))


def test_books_that_are_not_what_their_entries_come_to_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.timeline.bisect_right", lambda places, _: len(places))
    with pytest.raises(AssertionError):
        try_all("peers", (Random(number).randbytes(300) for number in range(1_000)))


def test_a_bound_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.gossip.MAX_REPLICAS", 10**9)
    monkeypatch.setattr("node.links.MAX_REPLICAS", 10**9)
    siege = Siege()
    siege.hear("us", Hello("test", "eu", "eu/b1", (1, 1), str(Rules()), {}, 0))
    for boot in "ab":
        siege.hear("us", Have({f"eu/{boot}{number}": 1 for number in range(3_000)}, {}, 0))
    with pytest.raises(AssertionError):
        siege.check_bounds()


@pytest.mark.parametrize("target", PACKED)
def test_the_fuzzers_changes_are_not_all_alike_and_what_is_unchanged_comes_back(target: str) -> None:
    for seed in seeds_of(target):
        packed = seed[PACKED[target] :]
        assert write(read(packed)) == packed
        assert len({mutate(packed, Random(number)) for number in range(50)}) > 15
