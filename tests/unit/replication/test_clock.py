"""Who has seen what, and readings that only grow."""

import pytest

from replication.clock import (
    MAX_HLC,
    Dot,
    Hlc,
    TokenError,
    concurrent,
    covers,
    decode_token,
    descends,
    dominates,
    encode_token,
    essential,
    hlc_at,
    lacking_count,
    merge,
    ms_of,
    region_of,
)

A, B = "eu/a", "us/b"


def test_a_clock_descends_from_itself_and_dominates_only_what_is_less() -> None:
    assert descends({A: 2}, {A: 2})
    assert not dominates({A: 2}, {A: 2})
    assert dominates({A: 2, B: 1}, {A: 2})
    assert descends({A: 1}, {})


def test_clocks_that_each_saw_something_else_are_concurrent() -> None:
    assert concurrent({A: 2, B: 1}, {A: 1, B: 2})
    assert not concurrent({A: 2}, {A: 1})
    assert not concurrent({A: 2}, {A: 2})


def test_merged_clocks_have_seen_what_either_had() -> None:
    assert merge({A: 2, B: 1}, {A: 1, B: 2, "ap/c": 3}) == {A: 2, B: 2, "ap/c": 3}


def test_a_count_covers_all_entries_up_to_it() -> None:
    assert covers({A: 2}, Dot(A, 2))
    assert not covers({A: 2}, Dot(A, 3))
    assert not covers({}, Dot(A, 1))


def test_what_is_lacking_is_counted_log_by_log() -> None:
    assert lacking_count({A: 5, B: 1}, {A: 3, B: 4, "ap/c": 2}) == 5


def test_past_boots_drop_out_of_a_token_once_a_later_entry_has_seen_their_last() -> None:
    clock = {"eu/old": 7, "eu/new": 2, "us/b": 4}
    heads = [{}, {"eu/old": 7, "us/b": 3}, {"eu/old": 5}]
    assert essential(clock, heads) == {"eu/new": 2, "us/b": 4}


def test_a_replica_is_a_boot_of_a_region() -> None:
    assert region_of("us-east-1/01abc") == "us-east-1"


class TestTokens:
    def test_a_token_gives_back_its_clock(self) -> None:
        clock = {A: 2**40, B: 1}
        assert decode_token(encode_token(clock)) == clock

    def test_equal_clocks_have_equal_tokens(self) -> None:
        assert encode_token({A: 1, B: 2}) == encode_token({B: 2, A: 1})

    @pytest.mark.parametrize(
        "token", ["", "!", "AAAA", "gA=", "gA ", "gaRldS9hAA", "gaRldS9hywAAAAAAAAAA", "é" * 8, "x" * 9999]
    )
    def test_what_is_not_a_token_is_refused(self, token: str) -> None:
        with pytest.raises(TokenError):
            decode_token(token)

    def test_the_empty_clock_has_a_token(self) -> None:
        assert decode_token(encode_token({})) == {}

    def test_a_clock_too_long_for_a_header_has_none(self) -> None:
        with pytest.raises(TokenError):
            encode_token({f"eu/{boot:030}": 1 for boot in range(200)})


class TestHlc:
    def test_readings_follow_physical_time(self) -> None:
        assert Hlc().tick(1000) == hlc_at(1000)

    def test_readings_grow_while_physical_time_stands_still_or_steps_back(self) -> None:
        hlc = Hlc()
        readings = [hlc.tick(ms) for ms in (1000, 1000, 400, 1000)]
        assert readings == sorted(set(readings))
        assert ms_of(readings[-1]) == 1000

    def test_a_full_counter_runs_over_into_the_milliseconds(self) -> None:
        hlc = Hlc()
        hlc.observe(hlc_at(1001) - 1)
        assert hlc.tick(1000) == hlc_at(1001)

    def test_a_reading_is_greater_than_any_observed(self) -> None:
        hlc = Hlc()
        hlc.observe(hlc_at(5000) + 3)
        hlc.observe(hlc_at(4000))
        assert hlc.tick(1000) == hlc_at(5000) + 4

    def test_nothing_is_promised_above_the_durable_ceiling(self) -> None:
        hlc = Hlc()
        hlc.raise_ceiling(hlc_at(2000))
        assert hlc.promise(1000) == hlc_at(1000)
        assert hlc.promise(3000) == hlc_at(2000)

    def test_readings_exceed_what_was_promised_even_when_time_steps_back(self) -> None:
        hlc = Hlc()
        hlc.raise_ceiling(hlc_at(9000))
        promise = hlc.promise(5000)
        assert hlc.tick(1000) > promise

    def test_readings_after_a_crash_exceed_what_was_promised_before(self) -> None:
        before = Hlc()
        before.raise_ceiling(hlc_at(9000))
        promise = before.promise(8000)
        assert Hlc(before.ceiling).tick(1000) > promise

    def test_a_clock_without_readings_left_stops(self) -> None:
        hlc = Hlc()
        hlc.observe(MAX_HLC)
        with pytest.raises(OverflowError):
            hlc.tick(1000)
