"""Which names are taken, and what canonical order is."""

import re

import msgspec
import pytest

from ledger.ids import (
    BOOT_PATTERN,
    REGION_PATTERN,
    CheckedClaim,
    CheckedJob,
    CheckedKey,
    CheckedLot,
    CheckedTenant,
    JobId,
    Key,
    NewClaim,
    NewLot,
    Position,
    TenantId,
    transfer_name,
    usage_name,
)
from tests.unit.ledger.story import place


@pytest.mark.parametrize("name", ["a", "lot-1", "A.b_c:d@e", "x" * 128])
def test_a_plain_name_is_a_lot_and_a_claim(name: str) -> None:
    assert msgspec.convert(name, CheckedLot) == name
    assert msgspec.convert(name, CheckedClaim) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", ".a", "é", "a\n", "a\0", "x" * 129])
def test_a_name_that_would_need_escaping_is_refused(name: str) -> None:
    for checked in (CheckedLot, CheckedClaim, CheckedTenant):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(name, checked)


MADE = [transfer_name(TenantId("acme"), TenantId("umbra"), Key("k")), usage_name(JobId("train"))]
"""Names that the ledger makes itself."""


@pytest.mark.parametrize("name", MADE)
def test_what_the_ledger_has_named_can_be_spoken_of_and_nobody_can_take_its_name(name: str) -> None:
    for checked in (CheckedLot, CheckedClaim):
        assert msgspec.convert(name, checked) == name
    for new in (NewLot, NewClaim, CheckedTenant):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(name, new)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("~" + name, CheckedLot)


def test_a_name_that_the_ledger_makes_is_the_same_in_every_region() -> None:
    assert MADE == ["~406382d87610ae2855d80e32", "~a0231dd9882ba90d29bbdd37"]


def test_a_transfer_is_named_after_giver_receiver_and_key() -> None:
    acme, umbra, key = TenantId("acme"), TenantId("umbra"), Key("k")
    others = [(umbra, acme, key), (acme, TenantId("umbrak"), key), (acme, umbra, Key("kk")), (acme, acme, key)]
    assert len({MADE[0], *(transfer_name(*other) for other in others)}) == 5


def test_no_job_can_be_called_so_that_its_claim_has_the_name_of_a_transfer() -> None:
    parts = "acme", "umbra", "k"
    assert usage_name(JobId("\0".join(parts))) != transfer_name(TenantId("acme"), TenantId("umbra"), Key("k"))
    assert usage_name(JobId("umbra\0k")) != MADE[0]


@pytest.mark.parametrize("name", ["a job / of: mine", "j" * 255, "ü"])
def test_a_job_is_whatever_its_scheduler_calls_it(name: str) -> None:
    assert msgspec.convert(name, CheckedJob) == name


@pytest.mark.parametrize("name", ["", "j" * 256])
def test_a_job_has_a_name_and_no_long_one(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, CheckedJob)


def test_a_tenant_has_a_shorter_name() -> None:
    assert msgspec.convert("t" * 64, CheckedTenant) == "t" * 64
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("t" * 65, CheckedTenant)


@pytest.mark.parametrize("key", ["!", "job/7;attempt=1", "k" * 255])
def test_a_key_is_any_printable_ascii(key: str) -> None:
    assert msgspec.convert(key, CheckedKey) == key


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "k\n", "\x7f", "ü"])
def test_a_key_holds_no_space_and_nothing_that_cannot_be_printed(key: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(key, CheckedKey)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (REGION_PATTERN, ["eu", "us-west-2", "9", "r" * 32], ["", "EU", "-eu", "r" * 33, "eu\n", "e/u"]),
        (BOOT_PATTERN, ["0", "b1", "z" * 32], ["", "B1", "b-1", "z" * 33, "b1\n"]),
    ],
)
def test_regions_and_boots_are_short_and_lower_case(pattern: str, good: list[str], bad: list[str]) -> None:
    assert all(re.match(pattern, name) for name in good)
    assert not any(re.match(pattern, name) for name in bad)


def test_now_is_the_physical_part_of_the_clock() -> None:
    assert Position((1_700_000_000_123 << 16) | 0xFFFF, "eu", "b1", 1).now == 1_700_000_000_123


def test_canonical_order_is_by_clock_then_region_then_boot_then_sequence() -> None:
    in_order = [
        place(1, seq=9, region="us", boot="b9"),
        place(1, counter=1, seq=9, region="us", boot="b9"),
        place(2, seq=9, region="ap", boot="b9"),
        place(2, seq=9, region="eu", boot="b1"),
        place(2, seq=1, region="eu", boot="b2"),
        place(2, seq=2, region="eu", boot="b2"),
        place(2, seq=10, region="eu", boot="b2"),
    ]
    assert sorted(in_order) == in_order
