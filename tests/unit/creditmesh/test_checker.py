"""The checkers: each fault that they are for is planted in a log that was in order, and found."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from creditmesh import Dot, wire
from creditmesh.checker import (
    AT_MOST,
    FIRST_PREV,
    Log,
    failed_audits,
    findings,
    unequal_digests,
    unequal_logs,
    unequal_reports,
)
from creditmesh.history import Ending, Record
from tests.unit.node.cli_story import OVERSPEND

EAST = "us-east/b1"
WEST = "eu-west/b1"


def entry(
    seq: int, key: str | None, postings: dict[str, int], replica: str = EAST, **changes: Any
) -> wire.ExportedEntry:
    fields: dict[str, Any] = {
        "replica": replica,
        "seq": seq,
        "hlc": (1000 + seq, 0),
        "clock": {replica: seq},
        "tenant": "acme",
        "kind": "hold",
        "key": key,
        "request": None,
        "body": {"amount": 60},
        "postings": postings,
        "outcome": "applied",
        "result": None,
        "received": None,
        "prev": FIRST_PREV if seq == 1 else f"hash of {replica} {seq - 1}",
        "hash": f"hash of {replica} {seq}",
    }
    return wire.ExportedEntry(**{**fields, **changes})


def record(key: str, dot: Dot | None, ending: Ending = Ending.ACCEPTED, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "key": key,
        "kind": "hold",
        "amount": 60,
        "ending": ending,
        "reason": "",
        "dot": dot,
        "replayed": False,
        "asked_ms": 1,
        "took_ms": 1.0,
    }
    return Record(**{**fields, **changes})


HOLD = {"lot/l1": -60, "held/c1": 60}
SHORT = {"lot/l1": -40, "debt": -20, "held/c2": 60}
UNDO = {"lot/l1": 60, "held/c1": -60}

FIRST, SECOND, REPEATED = entry(1, "k1", HOLD), entry(2, "k2", SHORT), entry(1, "k1", HOLD, WEST)
UNDONE = entry(2, None, UNDO, WEST, kind="compensation", body={"of": [[WEST, 1, UNDO]]})
IN_ORDER = [FIRST, SECOND, REPEATED, UNDONE]
ACKNOWLEDGED = [record("k1", Dot(EAST, 1)), record("k2", Dot(EAST, 2)), record("k1", Dot(WEST, 1))]


def found(
    entries: list[wire.ExportedEntry], records: list[Record] | None = None, debts: dict[str, int] | None = None
) -> list[str]:
    log = Log("us-east")
    for exported in entries:
        log.add(exported)
    return findings(log, ACKNOWLEDGED if records is None else records, {"acme": 20} if debts is None else debts)


def test_a_log_in_order_has_no_findings() -> None:
    assert found(IN_ORDER) == []


def test_a_missing_operation_is_found() -> None:
    assert found([FIRST, REPEATED, UNDONE], debts={}) == [
        "us-east: hold k2 of acme was acknowledged as us-east/b1:2, which is missing"
    ]


def test_a_doubled_entry_is_found() -> None:
    assert found([*IN_ORDER, SECOND]) == ["us-east: us-east/b1:2 stands in the export twice"]


def test_a_request_with_effect_in_two_regions_is_found() -> None:
    assert found([FIRST, SECOND, REPEATED]) == ["us-east: k1 of acme has effect 2 times: us-east/b1:1, eu-west/b1:1"]


def test_an_operation_that_is_not_what_was_asked_is_found() -> None:
    changed = structs.replace(SECOND, body={"amount": 61})
    assert found([FIRST, changed, REPEATED, UNDONE]) == [
        "us-east: hold k2 of acme of 60 stands in the log as hold of 61"
    ]


def test_an_operation_under_the_wrong_key_is_found() -> None:
    changed = structs.replace(SECOND, key="k9")
    assert found([FIRST, changed, REPEATED, UNDONE]) == [
        "us-east: hold k2 of acme was acknowledged as us-east/b1:2, where another request stands"
    ]


def test_an_acknowledgement_without_a_dot_is_found() -> None:
    assert found(IN_ORDER, [record("k1", None)]) == [
        "us-east: hold k1 of acme was acknowledged without the name of its entry"
    ]


def test_a_refused_request_that_stands_in_the_log_is_found() -> None:
    refused = record("k2", None, Ending.REFUSED)
    assert found(IN_ORDER, [refused]) == ["us-east: k2 of acme was refused, but stands in the log as us-east/b1:2"]


@pytest.mark.parametrize("ending", [Ending.ACCEPTED, Ending.UNKNOWN])
def test_a_request_that_was_refused_first_may_stand_there(ending: Ending) -> None:
    later = record("k2", Dot(EAST, 2) if ending is Ending.ACCEPTED else None, ending)
    assert found(IN_ORDER, [record("k2", None, Ending.REFUSED), later]) == []


def test_a_gap_in_a_log_is_found() -> None:
    assert found([entry(1, None, {}), entry(3, None, {})], [], {}) == ["us-east: log us-east/b1 goes from 1 to 3"]


def test_a_log_that_does_not_begin_at_its_beginning_is_found() -> None:
    assert found([entry(2, None, {})], [], {}) == ["us-east: log us-east/b1 goes from 0 to 2"]


def test_a_log_continued_from_a_clock_is_no_gap() -> None:
    log = Log("us-east", {EAST: 1})
    log.add(entry(2, None, {}))
    assert findings(log, [], None) == []


def test_a_broken_chain_is_found() -> None:
    forged = structs.replace(SECOND, prev="ff" * 32)
    assert found([FIRST, forged, REPEATED, UNDONE]) == [
        "us-east: us-east/b1:2 does not name the hash of the entry before it"
    ]


def test_postings_that_do_not_sum_to_zero_are_found() -> None:
    assert found([entry(1, None, {"used": 5})], [], {}) == ["us-east: the postings of us-east/b1:1 do not sum to zero"]


def test_a_debt_that_is_not_the_sum_of_its_postings_is_found() -> None:
    assert found(IN_ORDER, debts={"acme": 21, "else": 1}) == [
        "us-east: acme owes 20 by its postings, but 21 by the list of debts",
        "us-east: else owes 0 by its postings, but 1 by the list of debts",
    ]


def test_many_findings_of_a_sort_are_counted() -> None:
    lost = [record(f"k{number}", Dot(EAST, number)) for number in range(10, 20)]
    assert found(IN_ORDER, lost)[AT_MOST:] == ["us-east: … and 5 more of these"]


def test_equal_digests_are_no_finding() -> None:
    assert unequal_digests({"us-east": "aa", "eu-west": "aa"}) == []


@pytest.mark.parametrize("digest", ["bb", None])
def test_unequal_digests_are_found(digest: str | None) -> None:
    assert unequal_digests({"us-east": "aa", "eu-west": digest}) == [
        f"the digests differ: eu-west {digest}, us-east aa"
    ]


def test_digests_that_nobody_says_are_not_equal() -> None:
    assert unequal_digests({"us-east": None, "eu-west": None})


def test_a_region_that_tells_a_conflict_otherwise_or_not_at_all_is_found() -> None:
    assert unequal_reports({"us-east": [OVERSPEND], "eu-west": [OVERSPEND]}) == []
    otherwise = msgspec.structs.replace(OVERSPEND, debt=1)
    assert unequal_reports({"us-east": [OVERSPEND], "eu-west": [otherwise], "ap-south": []}) == [
        f"us-east and eu-west tell 1 conflicts differently: {OVERSPEND.id}",
        f"us-east and ap-south tell 1 conflicts differently: {OVERSPEND.id}",
    ]


def log(region: str, *entries: wire.ExportedEntry) -> Log:
    read = Log(region)
    for exported in entries:
        read.add(exported)
    return read


def test_equal_logs_are_no_finding_in_whatever_order_they_come() -> None:
    assert unequal_logs([log("us-east", FIRST, SECOND, REPEATED), log("eu-west", REPEATED, FIRST, SECOND)]) == []


def test_a_region_that_lacks_entries_is_found() -> None:
    assert unequal_logs([log("us-east", FIRST, SECOND), log("eu-west", FIRST, REPEATED)]) == [
        "eu-west lacks 1 entries, us-east/b1:2 among them",
        "us-east lacks 1 entries, eu-west/b1:1 among them",
    ]


def test_two_entries_under_one_name_are_found() -> None:
    forged = structs.replace(FIRST, hash="of another")
    assert unequal_logs([log("us-east", FIRST), log("eu-west", forged)]) == [
        "us-east and eu-west hold different entries us-east/b1:1"
    ]


def audit(ok: bool, books_equal: bool, *said: str) -> wire.AuditReply:
    return wire.AuditReply(
        ok=ok, entries=1, replicas=[], tenants=1, books_equal=books_equal, findings=list(said), digest="aa",
        region="us-east", as_of="t", behind={},
    )  # fmt: skip


def test_what_an_audit_finds_is_a_finding_and_so_are_books_that_wait() -> None:
    assert failed_audits({"us-east": audit(True, True)}) == []
    assert failed_audits({"us-east": audit(False, False, "log us-east/b1 at 3: a gap")}) == [
        "us-east: the audit says: log us-east/b1 at 3: a gap"
    ]
    assert failed_audits({"us-east": audit(True, False)}) == ["us-east: the books wait for a compensation"]
