"""What refusals say, for programs and for people."""

import pytest

from ledger.amount import MAX_TOTAL
from ledger.posting import USED
from ledger.pricing import NoPrice
from ledger.refusal import (
    Limits,
    Reason,
    Refusal,
    event_time,
    invalid,
    not_found,
    too_much_used,
    unpriced,
)
from tests.unit.ledger.story import Story

LIMITS = Limits(max_lease_ms=1_000, max_ahead_ms=50, max_late_ms=200)


def test_what_is_invalid_names_the_field_and_the_rule() -> None:
    assert invalid("lease_ms", "must be at most 5") == Refusal(
        Reason.INVALID_REQUEST, "lease_ms must be at most 5", {"field": "lease_ms", "rule": "must be at most 5"}
    )


def test_what_has_no_price_names_the_field_and_the_rule() -> None:
    assert unpriced(NoPrice("gpu_type", "has no price")) == invalid("gpu_type", "has no price")


def test_what_is_not_found_is_named_and_a_hint_is_for_people() -> None:
    assert not_found("lot", "L") == Refusal(Reason.NOT_FOUND, "no such lot", {"lot": "L"})
    assert not_found("tenant", "acme", "; ask") == Refusal(Reason.NOT_FOUND, "no such tenant; ask", {"tenant": "acme"})


@pytest.mark.parametrize("at", [800, 1_000, 1_050])
def test_an_event_lies_within_what_the_node_takes(at: int) -> None:
    assert event_time(at, 1_000, LIMITS) == at


def test_an_event_without_a_time_is_now() -> None:
    assert event_time(None, 1_000, LIMITS) == 1_000


def test_an_event_too_far_ahead_or_back_is_told_by_how_much() -> None:
    assert event_time(1_051, 1_000, LIMITS) == invalid("at", "lies 51 ms in the future; at most 50 are taken")
    assert event_time(799, 1_000, LIMITS, "end") == invalid("end", "lies 201 ms in the past; at most 200 are taken")


def test_usage_stays_within_the_largest_total() -> None:
    account = Story().account
    account.totals[USED] = MAX_TOTAL - 5
    assert too_much_used(account, 5) is None
    assert too_much_used(account, 6) == invalid("amount", f"would bring the tenant's usage above {MAX_TOTAL}")
