"""A conflict told in full: the sentences, and the figures that they rest on."""

import io

import pytest
from msgspec import structs
from rich.console import Console

from creditmesh import wire
from creditmesh.wire import ConflictKind, ConflictState
from node.cli.story import tell, what_happened
from node.cli.summary import worth_telling
from tests.unit.node.cli_story import LOSER, OVERSPEND, RIVALS

REGIONS = ("ap-south", "eu-west", "us-east")


def told(conflict: wire.Conflict) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(*tell(conflict, REGIONS), sep="\n")
    return out.getvalue()


def test_an_overspend_in_sentences() -> None:
    assert what_happened(OVERSPEND) == (
        "us-east accepted a hold of 600 of tenant acme at 12:00:07.955 UTC. "
        "It had not heard of one operation that eu-west had accepted earlier. "
        "In canonical order 480 of its credit was spent already: that much is debt. "
        "us-east put its books right 13.1 s later."
    )


def test_several_rivals_in_sentences() -> None:
    conflict = structs.replace(OVERSPEND, rivals=RIVALS, rival_count=1200)
    assert "had not heard of 1,200 operations that ap-south, eu-west had accepted" in what_happened(conflict)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ConflictState.DETECTED, "us-east has yet to put its books right."),
        (ConflictState.REPAID, "and the debt has been repaid since."),
        (ConflictState.CLEARED, "later entries took the difference back."),
    ],
)
def test_what_became_of_it(state: ConflictState, words: str) -> None:
    assert what_happened(structs.replace(OVERSPEND, state=state)).endswith(words)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ConflictKind.DUPLICATE, "The same request, claim or lot stands among them"),
        (ConflictKind.KEY_MISMATCH, "Its idempotency key stands among them with another request"),
        (ConflictKind.REVOKED, "a lot that it counted on had been revoked: 480 of it is debt"),
        (ConflictKind.LEASE, "it found another lease: it is closed, not applied"),
        (ConflictKind.OVERLAP, "another report of the job is charged for that time"),
        (ConflictKind.REFUND, "the usage had been refunded"),
        (ConflictKind.REALLOCATED, "nobody owes anything more"),
    ],
)
def test_every_kind_has_its_words(kind: ConflictKind, words: str) -> None:
    assert words in what_happened(structs.replace(OVERSPEND, kind=kind, canonical_outcome="closed"))


def test_a_void_hold_is_told_as_such() -> None:
    void = structs.replace(OVERSPEND, kind=ConflictKind.REVOKED, canonical_outcome="revoked", debt=0)
    assert "spent already, and the tenant's policy makes it void." in what_happened(void)


def test_the_figures_stand_at_full_width_in_a_hundred_columns() -> None:
    lines = [" ".join(line.split()) for line in told(OVERSPEND).splitlines()]
    for figures in (
        "◆ loser us-east:655 12:00:07.955 +2 hold 600 applied",
        "● rival 1 eu-west:812 12:00:07.412 +0 hold 480 applied",
        "◆ loser c7 demo:job-7:hold",
        "◆ loser 790 < 812 655",
        "● rival 1 812 601",
        "lot/l1 −600 −120 +480",
        "debt −480",
        "■ us-east:702 12:00:21.030 +0 debt −480 lot/l1 +480",
    ):
        assert figures in lines


def test_what_is_not_detected_yet_says_so() -> None:
    conflict = structs.replace(OVERSPEND, state=ConflictState.DETECTED, compensations=[], detected_at=None)
    assert "not yet" in told(conflict)
    assert "put right by" not in told(conflict)


def test_the_conflict_worth_telling_is_an_overspend_that_was_put_right() -> None:
    duplicate = structs.replace(OVERSPEND, kind=ConflictKind.DUPLICATE, debt=9000)
    open_ = structs.replace(OVERSPEND, compensations=[], debt=9000)
    crowded = structs.replace(OVERSPEND, rival_count=100, debt=9000)
    assert worth_telling([duplicate, crowded, OVERSPEND, open_]) is OVERSPEND
    assert worth_telling([]) is None


def test_the_loser_is_never_without_its_clock() -> None:
    unheard = structs.replace(OVERSPEND, loser=structs.replace(LOSER, clock={}))
    assert "0 < 812" in told(unheard)


def test_who_has_seen_to_it_is_told_with_what_they_said() -> None:
    said = wire.Acknowledgement(by="Ann", note="customer\u202e told", at=LOSER.hlc[0], region="eu-west", entry="e/b:9")
    out = told(structs.replace(OVERSPEND, acknowledged=[said, structs.replace(said, by="Bob", note=None)]))
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert "Ann 2031-01-23 12:00:07.955 eu-west customer· told" in rows
    assert "Bob 2031-01-23 12:00:07.955 eu-west" in rows
    assert "acknowledged by" not in told(OVERSPEND)
