"""kill −9 of real nodes, under load: fewer kills than `make kills` does, for every change."""

from pathlib import Path

import pytest

from tests.chaos.kills import run

CYCLES = 24


@pytest.mark.timeout(400)
async def test_what_was_acknowledged_survives_kills_at_any_moment(tmp_path: Path) -> None:
    outcome = await run(CYCLES, seed=1, root=tmp_path)
    assert not outcome.findings, outcome.findings
    assert outcome.kills.total() == CYCLES
    assert outcome.kills["serving"]
    assert outcome.kills["starting"]
    assert outcome.acknowledged > 2 * CYCLES, "there was load between the kills"
    assert outcome.unanswered, "some kills came while requests were under way"
