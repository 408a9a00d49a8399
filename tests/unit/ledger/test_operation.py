"""Which operations can be decoded: what a peer sends is taken only when every field is what it must be."""

import msgspec
import pytest

from ledger.amount import MAX_AMOUNT, MAX_TIME_MS
from ledger.ids import ClaimId, LotId
from ledger.operation import Compensation, Content, Difference, Grant, Hold, Operation, Policy, Settle
from tests.unit.ledger.story import (
    VOID,
    capture,
    debit,
    expire,
    grant,
    heartbeat,
    hold,
    lapse,
    refund,
    release,
    renew,
    revoke,
    transfer,
    usage,
)

GIFT = "~" + 24 * "a"

EVERY_KIND: list[Operation] = [
    grant("L", 100), hold("c", 60), renew("c", 90), capture("c", 5, at=4, final=True), release("c"), lapse("c", at=9),
    debit("d", 7, at=3), refund("d", 7), revoke("L"), expire("L"), Settle(), VOID, Policy(max_held=0, debt_limit=0),
    transfer(GIFT, 5), heartbeat("train", 4, 9, started=True), usage("train", 4, 9, 0, claim=GIFT, final=True),
]  # fmt: skip


@pytest.mark.parametrize("operation", EVERY_KIND, ids=lambda operation: type(operation).__name__)
def test_every_operation_survives_the_way_to_another_region(operation: Operation) -> None:
    encoded = msgspec.msgpack.encode(operation)
    assert msgspec.msgpack.decode(encoded, type=Content) == operation
    assert msgspec.msgpack.decode(encoded)["kind"] == type(operation).__name__.lower()


def test_a_compensation_survives_too() -> None:
    compensation = Compensation((Difference("eu/b1", 3, {"lot/L": 20, "debt": -20}),))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(compensation), type=Content) == compensation


def test_a_transfer_is_a_claim_of_the_one_and_a_lot_of_the_other() -> None:
    gift = transfer(GIFT, 5, until=90)
    assert gift.claim == GIFT
    assert gift.grant == Grant(LotId(GIFT), 5, 0, 90, 0)


def test_an_operation_is_frozen() -> None:
    operation = Hold(ClaimId("c"), 60, 500, None)
    with pytest.raises(AttributeError):
        operation.amount = 61  # type: ignore[misc]


HELD = {"kind": "hold", "claim": "c", "amount": 60, "lease_until": 500, "job": None}
GIVEN = {"kind": "grant", "lot": "L", "amount": 60, "starts_at": 0, "expires_at": 9, "priority": 0}
PASSED = {"kind": "transfer", "name": GIFT, "to": "umbra", "amount": 5, "starts_at": 0, "expires_at": 9, "priority": 0}
RAN = {"kind": "usage", "job": "train", "claim": None, "start": 0, "end": 9, "amount": 5, "final": False}
SEEN = {"kind": "heartbeat", "job": "train", "claim": None, "at": 0, "lease_until": 9, "started": False}
RULED = {"kind": "policy", "on_overspend": "revoke", "max_held": 0, "debt_limit": None}


@pytest.mark.parametrize(
    "raw",
    [
        {**HELD, "amount": 0},
        {**HELD, "amount": -60},
        {**HELD, "amount": 60.0},
        {**HELD, "amount": MAX_AMOUNT + 1},
        {**HELD, "lease_until": -1},
        {**HELD, "lease_until": MAX_TIME_MS + 1},
        {**HELD, "claim": "c/d"},
        {**HELD, "claim": ""},
        {**HELD, "job": ""},
        {**HELD, "job": "j" * 256},
        {**HELD, "colour": "red"},
        {**HELD, "kind": "hug"},
        {name: value for name, value in HELD.items() if name != "job"},
        {**GIVEN, "priority": 2**31},
        {**GIVEN, "lot": "a b"},
        {**GIVEN, "lot": GIFT},
        {**HELD, "claim": GIFT},
        {"kind": "settle", "lot": "L"},
        {**PASSED, "name": "gift"},
        {**PASSED, "name": GIFT + "0"},
        {**PASSED, "name": "~" + 24 * "g"},
        {**PASSED, "name": GIFT + "\n"},
        {**PASSED, "to": "a/b"},
        {**PASSED, "amount": 0},
        {**RAN, "amount": -1},
        {**RAN, "job": ""},
        {**RAN, "claim": "~~"},
        {**RAN, "end": MAX_TIME_MS + 1},
        {**SEEN, "job": "j" * 256},
        {**SEEN, "started": 1},
        {**SEEN, "at": None},
        {**RULED, "on_overspend": "forgive"},
        {**RULED, "max_held": -1},
        {**RULED, "debt_limit": MAX_AMOUNT + 1},
        {"kind": "capture", "claim": "c", "amount": 5, "at": 4, "final": 1},
    ],
)
def test_an_operation_with_a_field_that_cannot_be_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=Content)


@pytest.mark.parametrize(
    "of",
    [
        [],
        [["eu", 3, {}]],
        [["eu/b1/x", 3, {}]],
        [["EU/b1", 3, {}]],
        [["eu/b1", 0, {}]],
        [["eu/b1", 3, {"debt": 0.5}]],
        [["eu/b1", 3]],
        [["eu/b1", 3, {}, 1]],
        [["eu/b1", number + 1, {}] for number in range(1001)],
    ],
    ids=["none", "no boot", "three parts", "capitals", "no sequence", "fraction", "too short", "too long", "too many"],
)
def test_a_compensation_names_at_least_one_and_at_most_a_thousand_dots(of: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"kind": "compensation", "of": of}), type=Content)
