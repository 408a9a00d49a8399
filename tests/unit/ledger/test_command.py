"""When two requests are the same request, and which ids they mean."""

import re

import pytest

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
    derived_id,
    fingerprint,
)
from ledger.ids import ID_PATTERN, ClaimId, JobId, Key, LotId, TenantId
from ledger.operation import OnOverspend
from ledger.pricing import Work

DIFFERENT: list[Command] = [
    GrantCredit(100, 900), GrantCredit(101, 900), GrantCredit(100, 901), GrantCredit(100, 900, starts_at=0),
    GrantCredit(100, 900, priority=1), GrantCredit(100, 900, lot=LotId("L")),
    RevokeLot(LotId("L")), Reserve(100, 900), Reserve(100, 900, reservation=ClaimId("L")),
    Reserve(100, 900, job=JobId("L")), Reserve(Estimate(Work("L", 1), 900), 900),
    RenewLease(ClaimId("L"), 900), CaptureUsage(ClaimId("L"), 900), CaptureUsage(ClaimId("L"), 900, at=0),
    CaptureUsage(ClaimId("L"), 900, final=True), ReleaseHold(ClaimId("L")), DebitUsage(100), DebitUsage(100, at=900),
    DebitUsage(100, debit=ClaimId("L")), DebitUsage(100, on_shortage=OnShortage.DEBT), RefundUsage(ClaimId("L"), 900),
    TransferCredit(TenantId("L"), 100), TransferCredit(TenantId("L"), 100, 900), TransferCredit(TenantId("M"), 100),
    TransferCredit(TenantId("L"), 100, priority=1), SetPolicy(), SetPolicy(OnOverspend.REVOKE), SetPolicy(max_held=100),
    SetPolicy(debt_limit=100), ReportHeartbeat(JobId("L")), ReportHeartbeat(JobId("L"), started=True),
    ReportHeartbeat(JobId("L"), 100), ReportHeartbeat(JobId("L"), lease_ms=100), ReportUsage(JobId("L"), 900),
    ReportHeartbeat(JobId("L"), reservation=ClaimId("L")), ReportUsage(JobId("L"), 900, 100),
    ReportUsage(JobId("L"), 900, cost=100), ReportUsage(JobId("L"), 900, cost=Work("L", 100)),
    ReportUsage(JobId("L"), 900, final=True), ReportUsage(JobId("L"), 900, reservation=ClaimId("L")),
]  # fmt: skip


def test_the_same_request_has_the_same_fingerprint() -> None:
    assert fingerprint(Reserve(60, 500, job=JobId("train"))) == fingerprint(Reserve(60, 500, job=JobId("train")))


def test_requests_that_differ_in_anything_have_different_fingerprints() -> None:
    assert len({fingerprint(command) for command in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("command", DIFFERENT, ids=lambda command: type(command).__name__)
def test_a_fingerprint_is_16_hex_digits(command: Command) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(command))


def test_a_fingerprint_stays_what_it_was_when_the_log_was_written() -> None:
    assert fingerprint(Reserve(60, 500)) == "84fdd620c6c77a98"
    assert derived_id(TenantId("acme"), Key("k-1")) == "1c6513a691cb5760decaa102"


def test_the_same_key_means_the_same_id_in_every_region() -> None:
    assert derived_id(TenantId("acme"), Key("k-1")) == derived_id(TenantId("acme"), Key("k-1"))


def test_another_tenant_or_another_key_means_another_id() -> None:
    pairs = [("acme", "k-1"), ("acme", "k-2"), ("acm", "ek-1"), ("acmek", "-1"), ("a", "k-1")]
    assert len({derived_id(TenantId(tenant), Key(key)) for tenant, key in pairs}) == len(pairs)


def test_a_derived_id_is_an_id() -> None:
    assert re.match(ID_PATTERN, derived_id(TenantId("acme"), Key("~!@/" * 60)))
