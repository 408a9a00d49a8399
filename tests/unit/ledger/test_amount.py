"""The bounds of amounts, times and priorities."""

import json

import msgspec
import pytest

from ledger.amount import MAX_AMOUNT, MAX_TIME_MS, MAX_TOTAL, Amount, Millis, Priority


def test_the_largest_amount_is_the_largest_integer_that_a_float_can_tell_from_its_neighbours() -> None:
    assert float(MAX_AMOUNT) == MAX_AMOUNT
    assert float(MAX_AMOUNT + 1) == float(MAX_AMOUNT + 2)
    assert json.loads(json.dumps(MAX_AMOUNT), parse_int=float) == MAX_AMOUNT


def test_several_regions_that_each_reach_the_largest_total_still_fit_64_bits() -> None:
    assert 7 * MAX_TOTAL < 2**63
    assert MAX_AMOUNT <= MAX_TOTAL


def test_every_time_fits_the_physical_part_of_a_hybrid_clock() -> None:
    assert (MAX_TIME_MS << 16) | 0xFFFF == 2**64 - 1


@pytest.mark.parametrize("value", [1, MAX_AMOUNT])
def test_an_amount_within_bounds_is_taken(value: int) -> None:
    assert msgspec.convert(value, Amount) == value


@pytest.mark.parametrize("value", [0, -1, MAX_AMOUNT + 1, 1.0, 1.5, "1", True, None])
def test_what_is_no_positive_integer_within_bounds_is_no_amount(value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Amount)


@pytest.mark.parametrize("value", [0, MAX_TIME_MS])
def test_a_time_within_bounds_is_taken(value: int) -> None:
    assert msgspec.convert(value, Millis) == value


@pytest.mark.parametrize("value", [-1, MAX_TIME_MS + 1, 0.5])
def test_a_time_that_no_clock_could_show_is_refused(value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Millis)


@pytest.mark.parametrize("value", [-(2**31) - 1, 2**31])
def test_a_priority_is_a_32_bit_integer(value: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Priority)
