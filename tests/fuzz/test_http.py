"""The served interface is what its description says it is, whatever it is asked."""

import re
import statistics
from pathlib import Path

import pytest

from tests.fuzz.http import try_everything

EXAMPLES = 4
LEAST_CASES = 1000
LEAST_DONE = 0.5
"""Of the valid requests of most operations, so many are carried out."""


@pytest.mark.timeout(300)
async def test_the_node_answers_as_its_description_says(tmp_path: Path) -> None:
    verdict = await try_everything(tmp_path, EXAMPLES)
    assert verdict.code == 0, verdict.report
    assert "Traceback" not in verdict.log, verdict.log
    # A run that tried nothing would have found nothing.
    tried = [int(count) for count in re.findall(r"(\d+) generated", verdict.report)]
    assert tried
    assert max(tried) > LEAST_CASES, verdict.report
    # Nor would one that was refused everything.
    assert statistics.median(verdict.done.values()) > LEAST_DONE, verdict.table()
