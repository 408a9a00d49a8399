"""When a job was at work, by its reports and by its scheduler, and for which of that time nobody was charged."""

from typing import NamedTuple

from ledger.ids import Position
from ledger.job import Job
from node.snapshots import JobState, ScheduledJob, Told


class Stretch(NamedTuple):
    """Time of a job that was not charged; ``start`` is None where nobody says when it began."""

    start: int | None
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether there is no such time."""
        return self.start is not None and self.start >= self.end


def not_charged(job: Job, told: Told | None, until: int) -> Stretch:
    """From the end of what was charged, or else from the job's start.

    What lies between two reports that were charged is left alone: a job can be stopped and go on later.
    """
    start = job.started_at if told is None or told.job.started_at is None else told.job.started_at
    if job.covered:
        start = max(job.covered[-1][1], 0 if start is None else start)
    return Stretch(start, until)


def reports_of(job: Job) -> list[Position]:
    """The first report since nothing is held for a job, and the one that saw it last."""
    return [place for place in (job.unheld, job.last) if place is not None]


def was_at_work(job: ScheduledJob) -> bool:
    """Whether a scheduler says that a job runs, or when it has run."""
    has_run = job.state is JobState.FINISHED and job.started_at is not None and job.ended_at is not None
    return job.state is JobState.RUNNING or has_run


def seen_at(told: Told | None) -> int:
    """When (ms) a job was last at work, to its scheduler; -1 if it does not say that it was."""
    if told is None or not was_at_work(told.job):
        return -1
    return told.at if told.job.ended_at is None else told.job.ended_at
