"""What a request may look like, to the field; and that replies may grow."""

from typing import Any

import msgspec
import pytest

from creditmesh import wire


def decode(request: type[wire.Request], body: str) -> Any:
    return msgspec.json.decode(body.encode(), type=request)


def test_a_grant_needs_only_amount_and_expiry() -> None:
    grant = decode(wire.GrantRequest, '{"amount": 5, "expires_at": 9}')
    assert grant == wire.GrantRequest(amount=5, expires_at=9, starts_at=None, priority=0, lot=None)


@pytest.mark.parametrize(
    ("request_type", "body"),
    [
        (wire.GrantRequest, '{"amount": 5, "expires_at": 9, "expire_at": 9}'),
        (wire.ReserveRequest, '{"amount": 5, "lease_ms": 9, "priority": 1}'),
        (wire.ReleaseRequest, '{"final": true}'),
        (wire.ConflictsQuery, '{"since": 4}'),
    ],
)
def test_an_unknown_field_is_refused_by_name(request_type: type[wire.Request], body: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `(expire_at|priority|final|since)`"):
        decode(request_type, body)


@pytest.mark.parametrize("amount", ["0", "-1", "1.0", '"5"', "true", "null", str(2**53)])
def test_an_amount_is_an_integer_from_1_to_2_to_the_53_less_1(amount: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(wire.DebitRequest, f'{{"amount": {amount}}}')
    assert decode(wire.DebitRequest, f'{{"amount": {2**53 - 1}}}').amount == 2**53 - 1


@pytest.mark.parametrize("lease_ms", [0, -1, 31 * 86_400_000 + 1])
def test_a_lease_is_longer_than_nothing_and_at_most_31_days(lease_ms: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(wire.RenewRequest, f'{{"lease_ms": {lease_ms}}}')
    assert decode(wire.RenewRequest, f'{{"lease_ms": {31 * 86_400_000}}}')


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "ä", "x" * 129, "a\\n"])
def test_an_id_can_stand_in_a_path_and_in_an_account_name(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(wire.DebitRequest, f'{{"amount": 1, "debit": "{name}"}}')


def test_a_lot_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="starts_at must be before expires_at"):
        decode(wire.GrantRequest, '{"amount": 5, "expires_at": 9, "starts_at": 9}')


def test_a_capture_of_nothing_must_be_final() -> None:
    assert decode(wire.CaptureRequest, '{"final": true}') == wire.CaptureRequest(amount=0, at=None, final=True)
    with pytest.raises(msgspec.ValidationError, match="unless the capture is final"):
        decode(wire.CaptureRequest, '{"amount": 0}')


@pytest.mark.parametrize("query", [wire.StatementQuery, wire.ExpiringQuery])
def test_a_period_begins_before_it_ends(query: type[wire.Request]) -> None:
    assert decode(query, '{"from": 0, "to": 1}')
    for body in ('{"from": 1, "to": 1}', '{"from": 2, "to": 1}'):
        with pytest.raises(msgspec.ValidationError, match="from must be before to"):
            decode(query, body)


def test_a_statement_in_csv_has_no_pages() -> None:
    assert decode(wire.StatementQuery, '{"from": 0, "to": 1, "format": "csv"}').format is wire.StatementFormat.CSV
    for field, value in (("after", '"5:2:1:eu/b:1"'), ("limit", "5")):
        with pytest.raises(msgspec.ValidationError, match=f"{field} must be left out"):
            decode(wire.StatementQuery, f'{{"from": 0, "to": 1, "format": "csv", "{field}": {value}}}')


def test_a_query_string_decodes_like_a_body() -> None:
    query = msgspec.convert({"from": "7", "kind": "lease", "limit": "3"}, wire.ConflictsQuery, strict=False)
    assert query == wire.ConflictsQuery(kind=wire.ConflictKind.LEASE, since=7, limit=3)
    with pytest.raises(msgspec.ValidationError, match="<= 1000"):
        msgspec.convert({"limit": "1001"}, wire.ConflictsQuery, strict=False)


def test_a_reader_passes_over_reply_fields_of_a_later_version() -> None:
    reply = msgspec.json.decode(b'{"lot": "l1", "amount": 60, "share": "us-east"}', type=wire.FundingPart)
    assert reply == wire.FundingPart(lot="l1", amount=60)


def test_a_reservation_read_on_its_own_shows_what_the_list_shows() -> None:
    in_list = set(wire.ReservationRecord.__struct_fields__)
    assert in_list < set(wire.ReservationView.__struct_fields__)
    assert set(wire.ReservationReply.__struct_fields__) < set(wire.ReservationView.__struct_fields__)


def test_a_problem_carries_only_the_fields_that_its_kind_has() -> None:
    problem = wire.Problem(
        type=wire.problem_type(wire.ProblemKind.NOT_FOUND), title="no such lot", status=404, region="us-east"
    )
    assert msgspec.to_builtins(problem) == {
        "type": "urn:creditmesh:problem:not-found",
        "title": "no such lot",
        "status": 404,
        "region": "us-east",
    }
    assert problem.kind == wire.ProblemKind.NOT_FOUND


def test_every_problem_kind_has_its_status() -> None:
    assert set(wire.STATUS) == set(wire.ProblemKind)
    assert all(400 <= status < 600 for status in wire.STATUS.values())
