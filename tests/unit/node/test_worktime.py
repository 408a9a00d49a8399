"""When a job was at work, and for which of that time nobody was charged."""

import pytest

from ledger.ids import ClaimId, JobId, Position
from ledger.job import Job
from node.snapshots import JobState, ScheduledJob, Told
from node.worktime import Stretch, not_charged, reports_of, seen_at, was_at_work

J = JobId("j")
EARLIER, LATER = Position(1, "eu", "b1", 1), Position(2, "eu", "b1", 2)


def told(state: JobState, started_at: int | None = None, ended_at: int | None = None) -> Told:
    return Told("slurm", 100, ScheduledJob(J, state, started_at, ended_at))


@pytest.mark.parametrize(
    ("job", "said", "start"),
    [
        (Job(J), None, None),
        (Job(J, started_at=10), None, 10),
        (Job(J, started_at=10), told(JobState.RUNNING), 10),
        (Job(J, started_at=10), told(JobState.RUNNING, 20), 20),
        (Job(J, started_at=10, covered=((10, 20), (30, 40))), None, 40),
        (Job(J, covered=((10, 20),)), told(JobState.RUNNING, 25), 25),
    ],
)
def test_what_was_not_charged_begins_where_what_was_ends_or_the_job_begins(
    job: Job, said: Told | None, start: int | None
) -> None:
    assert not_charged(job, said, 90) == Stretch(start, 90)


def test_there_is_none_where_all_of_it_was_charged() -> None:
    assert Stretch(90, 90).is_empty
    assert not Stretch(89, 90).is_empty
    assert not Stretch(None, 90).is_empty


@pytest.mark.parametrize(
    ("said", "at"),
    [
        (None, -1),
        (told(JobState.PENDING), -1),
        (told(JobState.RUNNING), 100),
        (told(JobState.FINISHED, 10, 20), 20),
        (told(JobState.FINISHED, None, 20), -1),
        (told(JobState.FINISHED), -1),
    ],
)
def test_a_scheduler_saw_it_when_it_spoke_or_when_it_ended(said: Told | None, at: int) -> None:
    assert seen_at(said) == at
    assert said is None or was_at_work(said.job) == (at >= 0)


def test_the_reports_that_say_so_are_the_first_without_a_reservation_and_the_last() -> None:
    assert reports_of(Job(J, ClaimId("c"))) == []
    assert reports_of(Job(J, last=LATER)) == [LATER]
    assert reports_of(Job(J, unheld=EARLIER, last=LATER)) == [EARLIER, LATER]
