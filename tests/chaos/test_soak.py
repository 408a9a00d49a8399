"""Everything at once, for a minute: the short form of `make chaos`, for every change."""

import sys
from pathlib import Path

import pytest

from tests.chaos.soak import soak

SECONDS = 60


@pytest.mark.timeout(400)
async def test_a_minute_of_every_fault_leaves_nothing_wrong(tmp_path: Path) -> None:
    summary = await soak(SECONDS, seed=1, root=tmp_path, say=lambda line: print(line, file=sys.stderr))
    assert summary.is_well, "\n".join(summary.lines())
