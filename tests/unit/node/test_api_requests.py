"""What a request may say in its headers, body and query, and how it is told what is wrong."""

import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import Position
from node.api.problems import Refused
from node.api.requests import Body, Query, idempotency_key, is_msgpack, place_in, place_token, wants_msgpack


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


# -- the key -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("k1", "k1"),
        ('"k1"', "k1"),
        (r'"a\"b\\c"', 'a"b\\c'),
        (r"a\b", r"a\b"),
        ("a,b;c=1", "a,b;c=1"),
        (255 * "k", 255 * "k"),
    ],
)
def test_a_key_is_bare_or_a_quoted_string(sent: str, key: str) -> None:
    assert idempotency_key(headers(("idempotency-key", sent))) == key


@pytest.mark.parametrize(
    "sent", ["", '""', '"', '"open', '"a"b"', r'"a\b"', '"k";p=1', "a b", '"a b"', "ä", '"ä"', 256 * "k", "a\x7f"]
)
def test_what_is_no_key_is_refused_with_the_rule(sent: str) -> None:
    with pytest.raises(Refused, match=r"^Idempotency-Key must be 1 to 255") as caught:
        idempotency_key(headers(("Idempotency-Key", sent)))
    assert caught.value.kind is ProblemKind.INVALID_REQUEST
    assert caught.value.fields["field"] == "Idempotency-Key"


def test_a_key_is_required_and_only_one() -> None:
    with pytest.raises(Refused, match="is required on every write"):
        idempotency_key(headers())
    with pytest.raises(Refused, match="is sent more than once"):
        idempotency_key(headers(("Idempotency-Key", "a"), ("Idempotency-Key", "a")))


# -- media types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "packed"),
    [
        ("application/json", False),
        ("Application/JSON; charset=utf-8", False),
        ("application/msgpack", True),
        ("application/x-msgpack", True),
        ("application/vnd.msgpack;v=1", True),
    ],
)
def test_a_body_is_json_or_msgpack(sent: str, packed: bool) -> None:
    assert is_msgpack(headers(("Content-Type", sent))) is packed


def test_a_body_that_does_not_say_what_it_is_is_json() -> None:
    assert is_msgpack(headers()) is False


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([("Content-Type", "text/plain")], "Content-Type"),
        ([("Content-Type", "application/x-www-form-urlencoded")], "Content-Type"),
        ([("Content-Type", "")], "Content-Type"),
        ([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], "Content-Encoding"),
    ],
)
def test_another_form_is_not_supported(pairs: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(Refused) as caught:
        is_msgpack(headers(*pairs))
    assert caught.value.kind is ProblemKind.UNSUPPORTED_MEDIA_TYPE
    assert caught.value.fields == {"field": field}


@pytest.mark.parametrize(
    ("accept", "after_json", "after_msgpack"),
    [
        (None, False, True),
        ("*/*", False, True),
        ("application/*", False, True),
        ("text/html", False, True),
        ("application/msgpack", True, True),
        ("application/x-msgpack", True, True),
        ("application/json", False, False),
        ("application/json, application/msgpack", False, True),
        ("application/json;q=0.5, application/msgpack", True, True),
        ("application/msgpack;q=0.5, application/json", False, False),
        ("application/msgpack;q=0, */*", False, False),
        ("application/msgpack, */*;q=0.1", True, True),
        ("application/msgpack;q=x, application/json;q=0.1", False, False),
    ],
)
def test_the_reply_is_as_accept_prefers_and_else_like_the_body(
    accept: str | None, after_json: bool, after_msgpack: bool
) -> None:
    given = headers() if accept is None else headers(("Accept", accept))
    assert wants_msgpack(given, body_is_msgpack=False) is after_json
    assert wants_msgpack(given, body_is_msgpack=True) is after_msgpack


# -- bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ('{"amount": 1.5, "lease_ms": 5}', "amount", "is not right: expected `int | null`, got `float`"),
        ('{"amount": 1.0, "lease_ms": 5}', "amount", "is not right: expected `int | null`, got `float`"),
        ('{"amount": -1, "lease_ms": 5}', "amount", "is not right: expected `int` >= 1"),
        ('{"amount": 9007199254740992, "lease_ms": 5}', "amount", "is not right: expected `int` <= 9007199254740991"),
        ('{"amount": 1e400, "lease_ms": 5}', "amount", None),
        ('{"amount": "5", "lease_ms": 5}', "amount", "is not right: expected `int | null`, got `str`"),
        ('{"amount": 5}', "lease_ms", "is required"),
        ('{"lease_ms": 5}', "amount", "is required unless there is an estimate"),
        ("{}", "lease_ms", "is required"),
        ("", "lease_ms", "is required"),
        ('{"amount": 5, "lease_ms": 5, "tenant": "x"}', "tenant", "is not known"),
        ('{"amount": 5, "lease_ms": 5, "reservation": "a b"}', "reservation", None),
        ('{"amount": 5, "lease_ms": 5, "job": ""}', "job", "is not right: expected `str` of length >= 1"),
        ("[]", "body", "is not right: expected `object`, got `array`"),
        ("null", "body", "is not right: expected `object`, got `null`"),
        ("{", "body", "is not JSON: Input data was truncated"),
        ('{"amount": 5, "lease_ms": 5} {}', "body", None),
        ('{"amount": 5, "lease_ms": 5, "job": "\udcff"}', "body", None),
        (100_000 * "[", "body", "is not right: expected `object`, got `array`"),
    ],
)
def test_a_bad_body_is_told_the_field_and_the_rule(body: str, field: str, rule: str | None) -> None:
    with pytest.raises(Refused) as caught:
        Body(wire.ReserveRequest).decode(body.encode("utf-8", "surrogateescape"), packed=False)
    assert caught.value.kind is ProblemKind.INVALID_REQUEST
    assert caught.value.fields["field"] == field
    if rule is not None:
        assert caught.value.fields["rule"] == rule
    assert caught.value.detail == f"{field} {caught.value.fields['rule']}"


def test_a_name_as_long_as_the_body_is_not_said_back_whole() -> None:
    with pytest.raises(Refused) as caught:
        Body(wire.ReserveRequest).decode(b'{"' + 100_000 * b"k" + b'":1}', packed=False)
    assert caught.value.fields["field"] == 200 * "k"


def test_a_rule_between_fields_names_the_first() -> None:
    with pytest.raises(Refused) as caught:
        Body(wire.GrantRequest).decode(b'{"amount": 1, "starts_at": 6, "expires_at": 5}', packed=False)
    assert caught.value.fields == {"field": "starts_at", "rule": "must be before expires_at"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (msgspec.msgpack.encode({"amount": 1.0, "lease_ms": 5}), "amount"),
        (msgspec.msgpack.encode({"amount": 1, "lease_ms": 5, "x": 1}), "x"),
        (msgspec.msgpack.encode({1: 2}), "body"),
        (msgspec.msgpack.encode({"amount": 1, "lease_ms": 5}) + b"\0", "body"),
        (b"\xc1", "body"),
        (b"", "lease_ms"),
    ],
)
def test_msgpack_is_read_as_strictly(body: bytes, field: str) -> None:
    with pytest.raises(Refused) as caught:
        Body(wire.ReserveRequest).decode(body, packed=True)
    assert caught.value.fields["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        b'{"amount":1,"amount":2,"lease_ms":5}',
        b'{"amount":1,"lease_ms":5,"amount" : 1}',
        b'{"amount":1,"lease_ms":5,"\\u0061mount":1}',
        b'{"reservation":"a:b","amount":1,"lease_ms":5,"reservation":"c"}',
    ],
)
def test_a_field_that_stands_in_a_body_twice_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="is given more than once"):
        Body(wire.ReserveRequest).decode(body, packed=False)


@pytest.mark.parametrize("size", [b"\x83", b"\xde\x00\x03", b"\xdf\x00\x00\x00\x03"])
def test_a_field_that_stands_in_a_packed_body_twice_is_refused(size: bytes) -> None:
    with pytest.raises(Refused, match="has a field twice"):
        Body(wire.ReserveRequest).decode(size + b"\xa6amount\x01\xa8lease_ms\x05\xa6amount\x02", packed=True)


def test_a_colon_in_a_text_is_no_field() -> None:
    said = wire.ReserveRequest(amount=1, lease_ms=5, reservation="job:42", job='"amount":1,"amount":2')
    for packed, encode in ((False, msgspec.json.encode), (True, msgspec.msgpack.encode)):
        assert Body(wire.ReserveRequest).decode(encode(said), packed) == said


def test_an_empty_body_is_one_without_any_field() -> None:
    assert Body(wire.ReleaseRequest).decode(b"", packed=False) == wire.ReleaseRequest()


# -- queries -----------------------------------------------------------------------------------------------------


def test_a_query_is_read_by_the_types_of_its_parameters() -> None:
    query = Query(wire.ConflictsQuery).decode("tenant=007&kind=lease&from=5&limit=7&after=a%2Fb%3A1")
    assert query == wire.ConflictsQuery(tenant="007", kind=wire.ConflictKind.LEASE, since=5, limit=7, after="a/b:1")
    assert Query(wire.ConflictsQuery).decode("") == wire.ConflictsQuery()
    assert Query(wire.ClusterQuery).decode("digest=true").digest
    assert not Query(wire.ClusterQuery).decode("digest=false").digest


def test_a_query_that_is_not_percent_encoded_is_refused() -> None:
    for query in ("tenant=é", "\udcff=1", "tenant=\udcff"):
        with pytest.raises(Refused, match="percent-encoded"):
            Query(wire.ConflictsQuery).decode(query)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=5.0", "limit"),
        ("limit=", "limit"),
        ("limit=+5", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("from=null", "from"),
        ("from=-1", "from"),
        ("kind=feud", "kind"),
        ("state=null", "state"),
        ("tenant=a%20b", "tenant"),
        ("since=5", "since"),
        ("colour", "colour"),
        ("&".join(f"p{n}=" for n in range(33)), "query"),
    ],
)
def test_a_bad_query_is_told_the_parameter(query: str, field: str) -> None:
    with pytest.raises(Refused) as caught:
        Query(wire.ConflictsQuery).decode(query)
    assert caught.value.kind is ProblemKind.INVALID_REQUEST
    assert caught.value.fields["field"] == field


@pytest.mark.parametrize("text", ["1", "yes", "True", ""])
def test_a_truth_value_is_true_or_false(text: str) -> None:
    with pytest.raises(Refused, match="digest"):
        Query(wire.ClusterQuery).decode(f"digest={text}")


# -- pages -------------------------------------------------------------------------------------------------------

FIRST = Position(-1, "", "", 0)


def test_a_place_comes_back_from_its_token() -> None:
    place = Position(123 << 16 | 4, "us-east", "0boot", 7)
    assert place_in(place_token(place), FIRST) == place
    assert place_in(None, FIRST) == FIRST


@pytest.mark.parametrize(
    "token",
    ["", "1", "1:us-east:2", "1:us-east/b:", "-1:us-east/b:2", f"{2**63}:a/b:2", "1:US/b:2", "1:a/b:2:3", "٣:a/b:2"],
)
def test_a_token_that_no_page_gave_is_refused(token: str) -> None:
    with pytest.raises(Refused) as caught:
        place_in(token, FIRST)
    assert caught.value.fields["field"] == "after"
