"""Keys that sort as what they name, and values that come back as they went."""

from itertools import pairwise

import pytest

from ledger.cells import KeyUse
from ledger.claim import Claim, ClaimState
from ledger.ids import ClaimId, JobId, LotId, Position
from ledger.job import Job
from ledger.lot import Lot, LotState
from ledger.operation import Admission, OnOverspend, Policy
from ledger.timeline import BEGINNING
from node.store.rows import (
    DUPLICATE,
    NO_OPERATION,
    OPERATION,
    REVOCATION,
    VOID,
    after_prefix,
    conflict_key,
    conflict_of,
    decode_claim,
    decode_history,
    decode_job,
    decode_key_use,
    decode_lot,
    decode_policy,
    dot_at,
    dot_key,
    encode_value,
    history_key,
    job_key,
    number_key,
    number_of,
    pack,
    place_key,
    place_of,
    tenant_key,
    tenant_of,
    unpack,
)
from replication.clock import MAX_HLC, MAX_SEQ, Dot

PLACES = [
    Position(1, "eu", "b1", 1),
    Position(255, "eu", "b1", 1),
    Position(256, "eu", "b1", 1),
    Position(256, "eu", "b1", 2),
    Position(256, "eu", "b1", 256),
    Position(256, "eu", "b10", 1),
    Position(256, "eu", "b2", 1),
    Position(256, "eu-west", "b1", 1),
    Position(256, "eu1", "b1", 1),
    Position(256, "us", "0", 1),
    Position(MAX_HLC, "a", "b", MAX_SEQ),
]


def test_places_sort_as_their_keys_do() -> None:
    assert sorted(PLACES) == PLACES
    for earlier, later in pairwise(map(place_key, PLACES)):
        assert earlier < later


@pytest.mark.parametrize("place", PLACES)
def test_a_place_comes_back_from_its_key(place: Position) -> None:
    assert place_of(place_key(place)) == place


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tenant", ["a", "acme:b@c", "t" * 64])
def test_a_conflict_is_named_by_place_and_tenant(place: Position, tenant: str) -> None:
    assert conflict_of(conflict_key(place, tenant)) == (place, tenant)


def test_conflicts_sort_by_place_then_tenant_and_behind_the_place_alone() -> None:
    named = [(place, tenant) for place in PLACES for tenant in ("acme", "umbra")]
    keys = [conflict_key(*each) for each in named]
    assert sorted(keys) == keys
    for place, following in pairwise(PLACES):
        assert place_key(place) < conflict_key(place, "0") < conflict_key(place, "z" * 64) < place_key(following)


def test_a_job_has_a_key_of_its_own_however_long_its_name() -> None:
    names = ["a", "j" * 255, "ü" * 127, "ü" * 128, "ü" * 255, "ü" * 254 + "x", "a/b c", "a\0b"]
    keys = [job_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert max(map(len, keys)) <= 255
    assert [job_key(name) for name in names[:3]] == [name.encode() for name in names[:3]]
    assert all(key[0] == 0xFF for key in keys[3:6]), "no name in UTF-8 begins so"


def test_the_beginning_sorts_before_every_place() -> None:
    assert place_key(BEGINNING) < place_key(Position(0, "0", "0", 1))


def test_numbers_sort_as_their_keys_do_and_come_back() -> None:
    numbers = [0, 1, 255, 256, 2**32, 2**63 - 1]
    assert sorted(map(number_key, numbers)) == [number_key(number) for number in numbers]
    assert [number_of(number_key(number)) for number in numbers] == numbers


def test_the_entries_of_a_log_lie_side_by_side() -> None:
    keys = [dot_key("eu/b1", 1), dot_key("eu/b1", 300), dot_key("eu/b10", 1), dot_key("eu/b2", 1), dot_key("us/b1", 1)]
    assert sorted(keys) == keys


def test_the_rows_of_a_tenant_lie_side_by_side() -> None:
    prefix = tenant_key("acme")
    stop = after_prefix(prefix)
    for name in ("", "a", "~" * 255):
        assert prefix <= tenant_key("acme", name) < stop
    for other in ("acm", "acme0", "acme.x", "acmf", "ACME"):
        assert not prefix <= tenant_key(other, "x") < stop
    assert prefix < history_key("acme", BEGINNING) < history_key("acme", PLACES[0]) < stop
    assert history_key("acme", PLACES[-1]) < stop


def test_a_row_says_whose_it_is() -> None:
    assert tenant_of(tenant_key("acme")) == "acme"
    assert tenant_of(tenant_key("acme", "lot-1")) == "acme"
    assert tenant_of(history_key("a:b@c", PLACES[3])) == "a:b@c"


def test_a_place_names_its_entry() -> None:
    assert dot_at(Position(256, "eu-west", "0abc", 7)) == Dot("eu-west/0abc", 7)


def test_values_come_back() -> None:
    place = Position(256, "eu", "b1", 2)
    lot = Lot(LotId("L"), 100, 40, 1, 2**53 - 1, -3, place, LotState.REVOKED)
    assert decode_lot(encode_value(lot)) == lot
    claim = Claim(
        ClaimId("c"), ClaimState.LAPSED, 80, place, 500,
        ((LotId("L"), 20),), 10, ((LotId("M"), 30), (LotId("L"), 5)), 15, place, JobId("job"),
    )  # fmt: skip
    assert decode_claim(encode_value(claim)) == claim
    for use in (KeyUse("eu/b1", 2, "0123456789abcdef", 7), KeyUse("eu/b1", 2, None, 7)):
        assert decode_key_use(encode_value(use)) == use
    job = Job(JobId("ü" * 255), ClaimId("c"), 5, 20, None, ((5, 9), (10, 20)), 7, 3, place, place)
    assert decode_job(encode_value(job)) == job
    for policy in (Policy(), Policy(OnOverspend.REVOKE, max_held=0, debt_limit=5), Policy(admission=Admission.ESCROW)):
        assert decode_policy(encode_value(policy)) == policy
    sorts = {OPERATION, NO_OPERATION, REVOCATION, DUPLICATE, VOID}
    history = [(*place, sort) for sort in sorts]
    assert decode_history(encode_value(history)) == history
    assert len(sorts) == 5


def test_plain_values_come_back_with_tuples_as_lists() -> None:
    assert unpack(pack([("a", 1), {"eu/b1": 2}, b"\0", None])) == [["a", 1], {"eu/b1": 2}, b"\0", None]
