"""Sealed entries are taken as they were made or not at all; logs are chains."""

from hashlib import blake2b
from typing import Any

import msgpack
import msgspec
import pytest

from ledger.claim import ClaimState, ClaimView
from ledger.ids import ClaimId, JobId, Key, LotId, Position, TenantId
from ledger.operation import Compensation, Difference, Hold, Transfer
from ledger.posting import Outcome
from replication.clock import Dot, hlc_at
from replication.entry import (
    ENTRY_BEGINS,
    GENESIS,
    MAX_SEALED_BYTES,
    VERSION,
    Entry,
    Fork,
    Gap,
    Known,
    LogHead,
    Malformed,
    are_concurrent,
    check_hash,
    happened_before,
    hash_of,
    open_sealed,
    seal,
)
from tests.unit.replication.sites import NOW, make_entry, make_log

EU, US = "eu/b1", "us/b1"

HOLD = Entry(
    VERSION, EU, 1, hlc_at(NOW), {US: 7}, TenantId("acme"), Key("k-1"), "0123456789abcdef",
    Hold(ClaimId("c"), 60, NOW + 1000, JobId("job-1")), {"lot/gold": -60, "held/c": 60}, Outcome.APPLIED,
    ClaimView(ClaimState.OPEN, 60, 60, 0, NOW + 1000, ((LotId("gold"), 60),), 0), None, GENESIS,
)  # fmt: skip


GIFT = "~" + 24 * "a"
TRANSFER = Entry(
    VERSION, EU, 1, hlc_at(NOW), {}, TenantId("acme"), Key("k-1"), "0123456789abcdef",
    Transfer(GIFT, TenantId("umbra"), 60, NOW, NOW + 1000, 0), {"lot/gold": -60, "transferred": 60}, Outcome.APPLIED,
    ClaimView(ClaimState.TRANSFERRED, 60, 0, 60, 0, ((LotId("gold"), 60),), 0),
    {"issued": -60, f"lot/{GIFT}": 60}, GENESIS,
)  # fmt: skip


def sealed_raw(body: bytes) -> bytes:
    """Bytes with a hash that matches, whatever they are."""
    return body + blake2b(body, digest_size=32).digest()


def fields(entry: Entry = HOLD) -> list[Any]:
    """The entry as plain values, to be tampered with."""
    plain: list[Any] = msgpack.unpackb(seal(entry)[:-32])
    return plain


class TestSealing:
    def test_an_entry_comes_back_as_it_was_sealed(self) -> None:
        sealed = seal(HOLD)
        assert open_sealed(sealed) == (HOLD, hash_of(sealed))
        check_hash(sealed)

    def test_an_entry_knows_its_name_and_place(self) -> None:
        assert HOLD.dot == Dot(EU, 1)
        assert HOLD.position == Position(hlc_at(NOW), "eu", "b1", 1)
        assert (HOLD.region, HOLD.boot) == ("eu", "b1")

    def test_a_compensation_comes_back_as_it_was_sealed(self) -> None:
        part = Difference(EU, 3, {"lot/gold": 5, "debt": -5})
        entry = msgspec.structs.replace(
            HOLD, key=None, content=Compensation((part,)), result=None, outcome=Outcome.POSTED
        )
        assert open_sealed(seal(entry))[0] == entry

    def test_a_compensation_that_nobody_would_take_is_not_sealed(self) -> None:
        forged = {"lot/gold": -(2**60) - 1, "debt": 2**60 + 1}
        entry = msgspec.structs.replace(
            HOLD, key=None, result=None, outcome=Outcome.POSTED, postings=forged,
            content=Compensation((Difference(EU, 3, forged),)),
        )  # fmt: skip
        with pytest.raises(Malformed):
            seal(entry)

    def test_every_flipped_bit_is_noticed(self) -> None:
        sealed = seal(HOLD)
        for place in range(len(sealed)):
            for bit in range(8):
                bad = bytearray(sealed)
                bad[place] ^= 1 << bit
                with pytest.raises(Malformed):
                    open_sealed(bytes(bad))
                with pytest.raises(Malformed):
                    check_hash(bytes(bad))

    def test_every_truncation_is_noticed_even_under_a_hash_that_matches(self) -> None:
        sealed = seal(HOLD)
        for length in range(len(sealed)):
            with pytest.raises(Malformed):
                open_sealed(sealed[:length])
            with pytest.raises(Malformed):
                open_sealed(sealed_raw(sealed[: min(length, len(sealed) - 33)]))

    def test_text_that_is_no_utf8_is_malformed_under_a_hash_that_matches(self) -> None:
        body = seal(HOLD)[:-32]
        for text in (b"acme", b"job-1", b"lot/gold", b"applied", b"k-1"):
            with pytest.raises(Malformed):
                open_sealed(sealed_raw(body.replace(text, b"\xff" * len(text))))

    def test_what_follows_an_entry_is_noticed(self) -> None:
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(seal(HOLD)[:-32] + b"\xc0"))

    def test_an_entry_too_long_is_neither_sealed_nor_opened(self) -> None:
        postings = {f"lot/{number:0120}": number for number in range(-3000, 3001) if number}
        with pytest.raises(Malformed):
            seal(msgspec.structs.replace(HOLD, postings=postings))
        with pytest.raises(Malformed):
            open_sealed(bytes(MAX_SEALED_BYTES + 1))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (0, 1),
            (0, 3),
            (1, "eu"),
            (1, "EU/b1"),
            (1, "eu/b1\n"),
            (2, 0),
            (2, 2**53),
            (2, 1.0),
            (2, "1"),
            (2, True),
            (3, -1),
            (3, 2**63),
            (4, {US: 0}),
            (4, {"nowhere": 1}),
            (4, None),
            (5, ""),
            (5, "a/b"),
            (6, "a key with spaces"),
            (7, "0123456789ABCDEF"),
            (8, {"kind": "gift"}),
            (8, {"kind": "release", "claim": "c", "why": "no such field"}),
            (9, {"lot/gold": -60}),
            (9, {"lot/gold": 0}),
            (9, {"lot/gold": -0.5, "debt": 0.5}),
            (10, "wonderful"),
            (11, []),
            (12, {}),
            (12, {"lot/gold": 60, "issued": -60}),
            (13, b""),
            (13, bytes(31)),
            (13, "0" * 32),
            (13, msgpack.ExtType(1, bytes(32))),
        ],
    )
    def test_a_field_that_no_correct_replica_would_write_is_refused(self, field: int, value: object) -> None:
        plain = fields()
        plain[field] = value
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(msgpack.packb(plain)))

    def test_a_field_too_many_or_too_few_is_refused(self) -> None:
        for plain in ([*fields(), None], fields()[:-1]):
            with pytest.raises(Malformed):
                open_sealed(sealed_raw(msgpack.packb(plain)))

    def test_a_key_that_stands_twice_is_refused(self) -> None:
        body = seal(msgspec.structs.replace(HOLD, delta={}))[:-32]
        one = msgpack.packb({US: 7})
        twice = b"\x82" + one[1:] * 2
        assert open_sealed(sealed_raw(body.replace(b"\x80", one, 1)))[0].delta == {US: 7}
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(body.replace(b"\x80", twice, 1)))

    def test_a_number_written_longer_than_needed_is_refused(self) -> None:
        body = seal(HOLD)[:-32]
        assert body[1] == VERSION
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(body[:1] + b"\xcc\x02" + body[2:]))

    @pytest.mark.parametrize("header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
    def test_a_length_that_is_a_lie_is_refused(self, header: bytes) -> None:
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(header))
        plain = fields()
        for field in range(len(plain)):
            body = ENTRY_BEGINS[:1] + b"".join(map(msgpack.packb, plain[:field])) + header
            with pytest.raises(Malformed):
                open_sealed(sealed_raw(body))

    def test_deep_nesting_is_refused(self) -> None:
        with pytest.raises(Malformed):
            open_sealed(sealed_raw(b"\x91" * 100_000))


class TestTransfers:
    def test_a_transfer_comes_back_as_it_was_sealed_and_stands_in_two_books(self) -> None:
        assert open_sealed(seal(TRANSFER))[0] == TRANSFER
        assert TRANSFER.tenants == ("acme", "umbra")
        assert HOLD.tenants == ("acme",)

    def test_a_receiver_that_owed_all_of_it_has_nothing_in_the_new_lot(self) -> None:
        entry = msgspec.structs.replace(TRANSFER, received={"issued": -60, "debt": 60})
        assert open_sealed(seal(entry))[0] == entry

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"received": None}, "a transfer that nobody received"),
            ({"tenant": TenantId("umbra")}, "a transfer from umbra to itself"),
            ({"received": {"issued": -60, f"lot/{GIFT}": 59}}, "the postings do not sum to zero"),
            ({"received": {"issued": 0}}, "the postings do not sum to zero"),
            ({"received": {"issued": -60, "pocket": 60}}, "a posting of 60 on 'pocket'"),
            ({"received": {"issued": -(2**60) - 1, f"lot/{GIFT}": 2**60 + 1}}, "a posting of -1152921504606846977"),
            ({"content": HOLD.content}, "received, and not transferred"),
        ],
    )
    def test_one_that_no_correct_replica_would_make_is_refused(self, change: dict[str, Any], why: str) -> None:
        with pytest.raises(Malformed, match=why):
            open_sealed(seal(msgspec.structs.replace(TRANSFER, **change)))

    def test_a_compensation_is_received_by_nobody(self) -> None:
        entry = msgspec.structs.replace(
            TRANSFER, key=None, content=Compensation((Difference(EU, 3, {"lot/gold": 5, "debt": -5}),)), result=None
        )
        with pytest.raises(Malformed, match="received, and not transferred"):
            open_sealed(seal(entry))


class TestTheChain:
    def test_a_log_is_followed_entry_by_entry(self) -> None:
        head = LogHead(EU)
        for sealed in make_log(EU, 3):
            entry, digest = open_sealed(sealed)
            head.extend(entry, digest)
        assert (head.seq, head.hash) == (3, digest)

    def test_entries_that_learnt_nothing_share_one_clock(self) -> None:
        head = LogHead(EU)
        first = head.extend(make_entry(EU, 1, seen={US: 2}), b"1" * 32)
        second = head.extend(make_entry(EU, 2, prev=b"1" * 32), b"2" * 32)
        third = head.extend(make_entry(EU, 3, prev=b"2" * 32, seen={"ap/b1": 1}), b"3" * 32)
        assert first is second
        assert (second, third) == ({US: 2}, {US: 2, "ap/b1": 1})

    def test_a_missing_entry_is_a_gap(self) -> None:
        with pytest.raises(Gap):
            LogHead(EU).extend(make_entry(EU, 2), bytes(32))

    def test_the_head_again_is_known_and_another_head_is_a_fork(self) -> None:
        head = LogHead(EU, 1, b"1" * 32)
        with pytest.raises(Known):
            head.extend(make_entry(EU, 1), b"1" * 32)
        with pytest.raises(Fork):
            head.extend(make_entry(EU, 1), b"x" * 32)

    def test_an_entry_behind_another_predecessor_is_a_fork(self) -> None:
        with pytest.raises(Fork):
            LogHead(EU, 1, b"1" * 32).extend(make_entry(EU, 2, prev=b"x" * 32), b"2" * 32)

    def test_a_log_whose_clock_runs_backwards_is_malformed(self) -> None:
        head = LogHead(EU, 1, b"1" * 32, hlc_at(NOW + 1))
        with pytest.raises(Malformed):
            head.extend(make_entry(EU, 2, prev=b"1" * 32, ms=NOW), b"2" * 32)

    @pytest.mark.parametrize("seen", [{US: 4}, {US: 3}, {EU: 1}])
    def test_a_log_that_unlearns_or_speaks_of_itself_is_malformed(self, seen: dict[str, int]) -> None:
        head = LogHead(EU, 1, b"1" * 32, 0, {US: 4})
        with pytest.raises(Malformed):
            head.extend(make_entry(EU, 2, prev=b"1" * 32, seen=seen), b"2" * 32)

    def test_a_refused_entry_leaves_the_head_as_it_was(self) -> None:
        head = LogHead(EU, 1, b"1" * 32, 0, {US: 4})
        with pytest.raises(Fork):
            head.extend(make_entry(EU, 2, seen={US: 5}), b"2" * 32)
        assert (head.seq, head.hash, head.others) == (1, b"1" * 32, {US: 4})


class TestWhoKnewWhom:
    def test_earlier_entries_of_one_log_happened_before_later_ones(self) -> None:
        assert happened_before(Dot(EU, 1), Dot(EU, 2), {})
        assert not happened_before(Dot(EU, 2), Dot(EU, 2), {})

    def test_an_entry_happened_before_those_that_had_seen_it(self) -> None:
        assert happened_before(Dot(EU, 3), Dot(US, 1), {EU: 3})
        assert not happened_before(Dot(EU, 4), Dot(US, 1), {EU: 3})

    def test_entries_that_had_not_seen_each_other_are_concurrent(self) -> None:
        assert are_concurrent(Dot(EU, 4), {}, Dot(US, 1), {EU: 3})
        assert not are_concurrent(Dot(EU, 4), {US: 1}, Dot(US, 1), {EU: 3})
