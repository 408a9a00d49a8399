"""For which time a job has been charged: intervals that grow together, and what a part of one costs."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ids import ClaimId, JobId, Position
from ledger.job import Intervals, Job, cover, share

EARLIER, PLACE = Position(1, "eu", "b1", 1), Position(2, "us", "b1", 1)

times = st.integers(0, 40)
reports = st.lists(st.tuples(times, times), max_size=12)


def milliseconds(intervals: Intervals) -> set[int]:
    return {ms for start, end in intervals for ms in range(start, end)}


def covered_by(reported: list[tuple[int, int]]) -> Intervals:
    covered: Intervals = ()
    for start, end in reported:
        covered, _ = cover(covered, start, end)
    return covered


class TestCover:
    @pytest.mark.parametrize(
        ("start", "end", "expected", "fresh"),
        [
            (40, 50, ((10, 20), (30, 35), (40, 50)), 10),
            (0, 5, ((0, 5), (10, 20), (30, 35)), 5),
            (22, 28, ((10, 20), (22, 28), (30, 35)), 6),
            (20, 25, ((10, 25), (30, 35)), 5),
            (5, 10, ((5, 20), (30, 35)), 5),
            (20, 30, ((10, 35),), 10),
            (15, 32, ((10, 35),), 10),
            (12, 18, ((10, 20), (30, 35)), 0),
            (10, 20, ((10, 20), (30, 35)), 0),
            (5, 25, ((5, 25), (30, 35)), 10),
            (5, 40, ((5, 40),), 20),
            (25, 25, ((10, 20), (30, 35)), 0),
            (15, 15, ((10, 20), (30, 35)), 0),
            (30, 20, ((10, 20), (30, 35)), 0),
        ],
        ids=[
            "behind", "before", "between", "touching behind", "touching before", "bridging", "bridging and overlapping",
            "nested", "again", "around one", "around all", "empty", "empty inside", "backwards",
        ],
    )  # fmt: skip
    def test_an_interval_joins_what_it_touches(self, start: int, end: int, expected: Intervals, fresh: int) -> None:
        assert cover(((10, 20), (30, 35)), start, end) == (expected, fresh)

    def test_the_first_interval_is_all_there_is(self) -> None:
        assert cover((), 10, 20) == (((10, 20),), 10)

    @given(reports)
    def test_what_is_covered_is_the_set_of_all_milliseconds_reported(self, reported: list[tuple[int, int]]) -> None:
        assert milliseconds(covered_by(reported)) == milliseconds(tuple(reported))

    @given(reports, times, times)
    def test_fresh_is_what_was_in_no_report_before(self, reported: list[tuple[int, int]], start: int, end: int) -> None:
        before = covered_by(reported)
        _, fresh = cover(before, start, end)
        assert fresh == len(set(range(start, end)) - milliseconds(before))

    @given(reports)
    def test_intervals_stand_in_order_with_gaps_between_them(self, reported: list[tuple[int, int]]) -> None:
        covered = covered_by(reported)
        assert all(start < end for start, end in covered)
        assert all(first[1] < then[0] for first, then in pairwise(covered))

    @given(reports.flatmap(lambda reported: st.tuples(st.just(reported), st.permutations(reported))))
    def test_the_order_of_reports_makes_no_difference(self, orders: tuple[list[tuple[int, int]], ...]) -> None:
        assert covered_by(orders[0]) == covered_by(orders[1])


class TestShare:
    def test_the_whole_costs_what_it_costs(self) -> None:
        assert share(100, 7, 7) == 100

    def test_a_part_costs_its_share_rounded_up(self) -> None:
        assert [share(100, part, 3) for part in (1, 2)] == [34, 67]
        assert share(100, 1, 4) == 25

    def test_what_costs_nothing_costs_nothing_in_part(self) -> None:
        assert share(0, 1, 3) == 0

    @given(st.integers(0, 2**53), st.integers(1, 2**48), st.integers(0, 2**48))
    def test_a_share_is_exact_but_for_less_than_one_unit(self, amount: int, part: int, rest: int) -> None:
        exact = Fraction(amount) * part / (part + rest)
        assert exact <= share(amount, part, part + rest) < exact + 1

    @given(st.integers(0, 10_000), st.lists(st.integers(1, 50), min_size=1, max_size=6))
    def test_all_parts_together_cost_at_least_the_whole(self, amount: int, parts: list[int]) -> None:
        whole = sum(parts)
        together = sum(share(amount, part, whole) for part in parts)
        assert amount <= together < amount + len(parts)


class TestJob:
    JOB = Job(JobId("train"))

    def test_the_latest_reservation_is_the_one(self) -> None:
        assert self.JOB.reserved(ClaimId("a")).reserved(ClaimId("b")).claim == "b"

    def test_it_started_when_it_was_first_said_to_and_was_seen_last_when_it_was(self) -> None:
        job = self.JOB.seen(50, PLACE, started=False, held=True)
        assert (job.started_at, job.seen_at) == (None, 50)
        job = job.seen(40, PLACE, started=True, held=True)
        assert (job.started_at, job.seen_at) == (40, 50)
        assert job.seen(45, PLACE, started=True, held=True).started_at == 40
        assert job.seen(30, PLACE, started=True, held=True).started_at == 30
        assert job.seen(60, PLACE, started=False, held=True) == Job(JobId("train"), None, 40, 60, last=PLACE)

    def test_usage_says_that_it_was_seen_until_then(self) -> None:
        job = self.JOB.used(((10, 20),), 20, 7, PLACE, reserved=True, held=True, final=False)
        assert job == Job(JobId("train"), None, None, 20, None, ((10, 20),), 7, 0, None, PLACE)
        assert job.used(((5, 20),), 10, 1, PLACE, reserved=True, held=True, final=False).seen_at == 20

    def test_a_final_report_ends_it_and_the_latest_end_counts(self) -> None:
        job = self.JOB.used(((10, 20),), 20, 7, PLACE, reserved=True, held=True, final=True)
        assert job.finished_at == 20
        assert job.used(((10, 30),), 30, 7, PLACE, reserved=True, held=True, final=False).finished_at == 20
        assert job.used(((10, 30),), 30, 7, PLACE, reserved=True, held=True, final=True).finished_at == 30
        assert job.used(((10, 20),), 15, 0, PLACE, reserved=True, held=True, final=True).finished_at == 20

    def test_what_no_reservation_was_there_for_is_counted_apart(self) -> None:
        job = self.JOB.used(((10, 20),), 20, 7, PLACE, reserved=True, held=True, final=False)
        job = job.used(((10, 30),), 30, 5, PLACE, reserved=False, held=True, final=False)
        assert (job.charged, job.unreserved) == (12, 5)

    def test_reports_of_one_sort_leave_alone_what_others_have_said(self) -> None:
        job = Job(JobId("train"), ClaimId("a"), 5, 20, 25, ((5, 20),), 7, 3, None, EARLIER)
        assert job.reserved(ClaimId("b")) == Job(
            JobId("train"), ClaimId("b"), 5, 20, 25, ((5, 20),), 7, 3, None, EARLIER
        )
        assert job.seen(30, PLACE, started=False, held=True) == Job(
            JobId("train"), ClaimId("a"), 5, 30, 25, ((5, 20),), 7, 3, None, PLACE
        )
        assert job.used(((5, 30),), 30, 1, PLACE, reserved=True, held=True, final=False) == Job(
            JobId("train"), ClaimId("a"), 5, 30, 25, ((5, 30),), 8, 3, None, PLACE
        )

    def test_the_report_that_saw_it_last_is_named_whichever_came_last(self) -> None:
        job = self.JOB.seen(50, EARLIER, started=False, held=True)
        assert job.seen(40, PLACE, started=False, held=True).last == EARLIER
        assert job.used((), 50, 0, PLACE, reserved=True, held=True, final=False).last == PLACE

    def test_the_first_report_since_nothing_is_held_for_it_is_named(self) -> None:
        job = self.JOB.seen(50, EARLIER, started=False, held=False)
        assert job.unheld == EARLIER
        job = job.used((), 60, 0, PLACE, reserved=False, held=False, final=False)
        assert job.unheld == EARLIER
        assert job.reserved(ClaimId("a")).unheld is None
        assert job.seen(70, PLACE, started=False, held=True).unheld is None

    def test_one_that_has_ended_without_a_reservation_or_a_charge_was_free(self) -> None:
        job = self.JOB.seen(50, PLACE, started=True, held=False)
        assert not job.is_free, "it runs"
        over = job.used((), 60, 0, PLACE, reserved=False, held=False, final=True)
        assert over.is_free
        assert not over.reserved(ClaimId("a")).is_free
        assert not job.used(((50, 60),), 60, 0, PLACE, reserved=False, held=False, final=True).is_free
        assert not job.used((), 60, 0, PLACE, reserved=True, held=True, final=True).is_free
        assert not job.used((), 50, 0, PLACE, reserved=False, held=False, final=True).is_free
        assert not self.JOB.used((), 60, 0, PLACE, reserved=False, held=False, final=True).is_free
