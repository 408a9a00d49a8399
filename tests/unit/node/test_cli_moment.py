"""Times and durations as people write and read them."""

import pytest

from node.cli.moment import parse_duration, parse_time, shown_clock, shown_duration, shown_time

NOON_MS = 1_926_936_000_000  # 2031-01-23 12:00 UTC


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("30d", 2_592_000_000),
        ("2h", 7_200_000),
        ("1h30m", 5_400_000),
        ("90s", 90_000),
        ("250ms", 250),
        ("1.5h", 5_400_000),
        ("2w", 1_209_600_000),
        ("5000", 5000),
        (" 10M ", 600_000),
    ],
)
def test_a_duration_in_many_forms(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "h", "3 days", "-5s", "1h-30m", "5y", "1e3s"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match="30d, 2h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2031-01-23T12:00", NOON_MS),
        ("2031-01-23T12:00:00Z", NOON_MS),
        ("2031-01-23T13:00+01:00", NOON_MS),
        ("2031-01-23", NOON_MS - 43_200_000),
        (str(NOON_MS), NOON_MS),
        ("30d", NOON_MS + 2_592_000_000),
        ("+1h", NOON_MS + 3_600_000),
        ("-2h", NOON_MS - 7_200_000),
    ],
)
def test_a_time_is_absolute_or_counted_from_now(text: str, ms: int) -> None:
    assert parse_time(text, now_ms=NOON_MS) == ms


def test_seconds_since_the_epoch_are_not_taken_for_milliseconds() -> None:
    with pytest.raises(ValueError, match="milliseconds since the epoch, not seconds"):
        parse_time("1926936000")


@pytest.mark.parametrize("text", ["tomorrow", "2031-13-01", "12:00"])
def test_what_is_no_time_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; write"):
        parse_time(text)


def test_times_are_shown_in_utc() -> None:
    assert shown_time(NOON_MS) == "2031-01-23 12:00:00Z"
    assert shown_time(NOON_MS + 7) == "2031-01-23 12:00:00.007Z"
    assert shown_clock(NOON_MS + 7) == "12:00:00.007"


def test_a_time_beyond_the_calendar_is_shown_as_a_number() -> None:
    assert shown_time(2**60) == f"{2**60} ms"


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (40, "40 ms"),
        (2500, "2.5 s"),
        (5_400_000, "1 h 30 min"),
        (86_400_000, "1 d"),
        (90_061_000, "1 d 1 h"),
        (60_000, "1 min"),
    ],
)
def test_durations_are_shown_in_their_two_largest_units(ms: int, shown: str) -> None:
    assert shown_duration(ms) == shown
