"""The names of findings: one for what stands, another when it happens again, and none that was made up."""

import pytest

from ledger.ids import TenantId
from node.finding import (
    FindingKind,
    difference_id,
    difference_in,
    finding_id,
    is_finding_id,
    key_of,
    request_of,
    unsettled_id,
    write_off,
)
from replication.clock import Dot
from tests.world import TENANT

NAME = finding_id(FindingKind.NEVER_STARTED, TENANT, "c1", "eu/b1:3")


def test_a_name_is_a_function_of_what_the_finding_rests_on() -> None:
    assert finding_id(FindingKind.NEVER_STARTED, TENANT, "c1", "eu/b1:3") == NAME
    others = {
        finding_id(FindingKind.LAPSED_RUNNING, TENANT, "c1", "eu/b1:3"),
        finding_id(FindingKind.NEVER_STARTED, TenantId("other"), "c1", "eu/b1:3"),
        finding_id(FindingKind.NEVER_STARTED, TENANT, "c2", "eu/b1:3"),
        finding_id(FindingKind.NEVER_STARTED, TENANT, "c1", "eu/b1:4"),
    }
    assert len(others) == 4
    assert NAME not in others


def test_a_name_tells_that_it_is_one() -> None:
    assert is_finding_id(TENANT, NAME)
    assert not is_finding_id(TenantId("other"), NAME)


@pytest.mark.parametrize("name", ["", "x", "never_started", "never_started.", NAME[:-1], NAME + "0", "." + NAME])
def test_what_was_made_up_is_none(name: str) -> None:
    assert not is_finding_id(TENANT, name)
    assert difference_in(name) is None


def test_who_knows_how_names_are_made_cannot_make_one_of_a_kind_that_is_none() -> None:
    assert is_finding_id(TENANT, finding_id(FindingKind.LAPSED_RUNNING, TENANT, "x"))
    assert not is_finding_id(TENANT, finding_id("overdue", TENANT, "x"))  # type: ignore[arg-type]


def test_a_name_with_one_letter_changed_is_none() -> None:
    kind, _, digits = NAME.partition(".")
    for at, digit in enumerate(digits):
        changed = f"{kind}.{digits[:at]}{'0' if digit != '0' else '1'}{digits[at + 1 :]}"
        assert not is_finding_id(TENANT, changed)


def test_the_name_of_a_difference_says_which_entry_and_which_time() -> None:
    name = difference_id(Dot("us-east/b1", 17), 2)
    assert name == "books_differ.us-east.b1.17.2"
    assert difference_in(name) == (Dot("us-east/b1", 17), 2)


@pytest.mark.parametrize(
    "name",
    ["books_differ.us.b1.17", "books_differ.us.b1.x.2", "books_differ.us.b1.17.²", "books_differ.us.b1.17.2.3",
     "never_started.us.b1.17.2", "books_differ.u s.b1.17.2", "books_differ.us.B1.17.2",
     f"books_differ.us.b1.{'9' * 17}.2", "books_differ.us.b1.-1.2"],
)  # fmt: skip
def test_what_is_no_name_of_a_difference(name: str) -> None:
    assert difference_in(name) is None


def test_the_key_is_the_name_with_a_prefix_of_its_own() -> None:
    assert key_of("books_differ.us.b1.17.2") == "reconciliation:books_differ.us.b1.17.2"


def test_what_was_settled_under_a_name_stands_under_the_next_one() -> None:
    settled: set[str] = set()
    names = []
    for _ in range(3):
        names.append(unsettled_id(settled.__contains__, FindingKind.NEVER_STARTED, TENANT, "c1", "eu/b1:3"))
        settled.add(names[-1])
    assert names[0] == NAME
    assert len(set(names)) == 3
    assert all(is_finding_id(TENANT, name) for name in names)
    assert unsettled_id({names[0]}.__contains__, FindingKind.NEVER_STARTED, TENANT, "c1", "eu/b1:3") == names[1]


def test_the_request_and_the_lot_of_a_name_are_its_own() -> None:
    other = finding_id(FindingKind.NEVER_STARTED, TENANT, "c2", "eu/b1:3")
    assert len(request_of(NAME)) == 16
    assert request_of(NAME) != request_of(other)
    assert write_off(NAME) == f"write-off-{NAME.removeprefix('never_started.')}"
