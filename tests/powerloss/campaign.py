"""Many states of many recordings, judged: how many, of which kinds, and what was found."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.powerloss.judge import judge
from tests.powerloss.load import run
from tests.powerloss.states import states


@dataclass(slots=True)
class Report:
    """What a campaign came to."""

    states: int = 0
    pending: Counter[str] = field(default_factory=Counter)
    """In how many states things of a kind might have come through, or not."""
    kept: set[int] = field(default_factory=set)
    """After which batches stores stood."""
    lost: Counter[int] = field(default_factory=Counter)
    """By number of acknowledged batches that were not there: how many states."""
    findings: list[str] = field(default_factory=list)


def campaign(seed: int, batches: int, tries: int, **flags: bool) -> Iterator[Report]:
    """One recording of `batches` batches, up to `tries` states at each of its steps; the report so far, each time."""
    report = Report()
    with TemporaryDirectory(dir=fast_directory()) as directory:
        root = Path(directory) / "recorded"
        recorded = run(root, seed, batches, **flags)
        for state in states(recorded.steps, seed, tries):
            verdict = judge(state, recorded, Path(directory) / "scratch")
            report.states += 1
            report.pending.update(state.pending or {"nothing"})
            report.kept.add(verdict.kept)
            if verdict.lost:
                report.lost[verdict.lost] += 1
            report.findings += [f"seed {seed}, {state.story}: {finding}" for finding in verdict.findings]
            yield report


def fast_directory() -> Path | None:
    """Where syncing costs nothing: the losses are made here, not by this machine. None: wherever temporary files go."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None
