"""The simulator: a seed names a run, checks can fail, failing worlds get smaller, what was found stays found."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.campaign import Speed, Summary, run_seeds
from tests.simulation.checks import all_checks
from tests.simulation.cluster import simulate
from tests.simulation.mutations import MUTATIONS, caught_by
from tests.simulation.rare import EXPECTED
from tests.simulation.reduction import Reduction, read, shrink, written
from tests.simulation.scenario import draw

BUSY_SEEDS: Final = (40, 106, 167)
"""Worlds with crashes in them, and a hundred entries and more: much is read back from disk, and much is sent."""

NOTICED_BY: Final[dict[str, int]] = {
    "reply-before-commit": 0,
    "tell-before-commit": 0,
    "torn-batches": 489,
    "no-causal-check": 0,
    "same-log-after-restart": 41,
    "no-duplicate-rule": 0,
    "no-taken-names": 7,
    "keys-forgotten-on-disk": 0,
    "compensate-for-others": 0,
    "amends-not-counted": 0,
    "no-compensation": 0,
    "promise-without-ceiling": 322,
    "ceiling-forgotten": 1,
    "promise-while-entries-come-back": 325,
    "deaf-clock": 1,
    "no-drift-limit": 4,
    "frontier-without-clock": 0,
    "checkpoint-without-frontier": 0,
    "low-water-too-high": 1,
    "no-refold": 0,
    "debt-not-repaid": 0,
    "last-expiring-first": 3,
    "lapse-whatever-was-renewed": 474,
    "hold-without-credit": 0,
    "available-without-debt": 0,
    "endless-waiting": 63,
    "no-frame-checksum": 420,
    "rivals-forgotten": 0,
    "keys-not-undone": 0,
    "no-anti-entropy": 0,
    "happened-when-accepted": 0,
    "effects-before-causes": 0,
    "duplicates-counted-from-disk": 68,
    "settled-twice": 6,
    "settled-under-one-name": 3,
    "snapshots-in-memory-only": 67,
    "key-for-anything": 66,
    "refund-above-usage": 1,
    "ended-and-yet-open": 0,
    "late-and-yet-free": 4,
    "usage-of-tomorrow": 3,
    "usage-of-long-ago": 6,
    "grant-that-is-over": 302,
    "half-a-hold": 0,
    "endless-lease": 1,
    "held-without-limit": 66,
    "debt-without-limit": 622,
    "void-and-yet-held": 63,
    "transfer-from-any-lot": 50,
    "charged-twice": 39,
    "final-and-yet-held": 5,
    "key-for-ever": 399,
    "key-row-gone-early": 5,
    "key-row-for-ever": 5,
    "everybodys-shares": 51,
    "everybodys-debts": 0,
    "nothing-received": 72,
    "fork-of-our-own": 36,
    "another-history": 106,
    "batch-in-pieces": 6,
    "rebuild-that-is-not-begun-again": 918,
    "report-of-nothing": 0,
    "earlier-boots-not-swept": 8,
    "reopened-not-watched": 474,
    "expiry-looked-at-once": 899,
    "never-overdue": 0,
    "waiting-bytes-leak": 0,
    "push-beyond-the-window": 1,
    "own-entries-not-waited-for": 0,
    "merged-entries-not-waited-for": 0,
    "compensate-while-entries-come-back": 179,
    "acknowledged-and-forgotten": 47,
    "promises-wait-for-ever": 586,
    "forgotten-while-unsettled": 377,
    "lag-for-ever": 586,
}
"""For every safeguard a seed that breaks a promise, and soon, when it is off."""

FOUND: Final[dict[str, str]] = {
    "no-frame-checksum": "a bit flipped in a promise on its way was a promise that nobody gave",
    "promise-while-entries-come-back": "a rebuilt region promised that nothing earlier would come, and it was coming",
    "acknowledged-and-forgotten": "what was said of a conflict was gone where its loser had become stable",
}
"""What was missing once, until a seed found it, and what came of that."""


@pytest.mark.parametrize("seed", BUSY_SEEDS)
def test_a_seed_gives_the_same_run_whatever_the_hash_seed_of_the_process(seed: int) -> None:
    command = [sys.executable, "-m", "tests.simulation", "replay", str(seed), "--last", "1"]
    runs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        ).stdout
        for hash_seed in ("0", "1", "77")
    ]
    assert runs[0] == runs[1] == runs[2]
    result = simulate(draw(seed))
    assert result.hash in runs[0]
    assert result.entries >= 100
    assert result.counts["fault: crash"] > 0


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_mended(name: str) -> None:
    assert simulate(draw(NOTICED_BY[name])).failure is None


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_safeguard_is_missed_when_it_is_off(name: str) -> None:
    result = caught_by(name, NOTICED_BY[name])
    assert result.failure is not None, f"{name} is off, and seed {NOTICED_BY[name]} is as well as before"


def test_the_page_about_simulation_names_every_safeguard() -> None:
    page = (Path(__file__).parents[2] / "docs" / "internals" / "simulation.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    for name, safeguard in MUTATIONS.items():
        assert f"| `{name}` | {safeguard.what} | {NOTICED_BY[name]} |" in listed


def test_the_page_about_simulation_names_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs" / "internals" / "simulation.md").read_text()
    for check in all_checks():
        assert f"| `{type(check).__module__.rpartition('.')[2]}` | " in page


def test_a_failing_world_is_made_smaller_and_still_fails() -> None:
    name = "hold-without-credit"
    scenario = draw(NOTICED_BY[name])
    with MUTATIONS[name].off():
        reduction = shrink(scenario, lambda smaller: simulate(smaller).failure is not None, lambda _: None)
        smaller = reduction.of(scenario)
        assert simulate(smaller).failure is not None
    assert len(smaller.intents) <= 4 < len(scenario.intents)
    assert len(smaller.happenings) <= 1 < len(scenario.happenings)


def test_numbers_on_the_command_line_come_back_as_they_were() -> None:
    for numbers in ((), (3,), (0, 1, 2), (0, 2, 3, 4, 9)):
        assert read(written(numbers)) == numbers
    assert Reduction(happenings=(), intents=(1, 2, 7)).arguments() == "--happenings '' --intents '1-2,7'"


def test_a_campaign_in_which_something_never_happened_is_not_well() -> None:
    summary = Summary(Speed(seeds=1_000))
    summary.counts.update(EXPECTED)
    before = summary.is_well
    del summary.counts["conflict: duplicate"]
    assert (before, summary.is_well) == (True, False)
    assert summary.never_happened == ["conflict: duplicate"]


def test_two_processes_come_to_what_one_does() -> None:
    one, two = ([result.hash for result, _ in run_seeds(range(2), workers)] for workers in (1, 2))
    assert one == two
