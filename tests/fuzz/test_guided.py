"""The guided fuzzer finds nothing in a fixed number of runs from a fixed seed, and does find what is there."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

RUNS = {
    "frames": 20_000,
    "entries": 10_000,
    "rows": 10_000,
    "bodies": 20_000,
    "texts": 2_000,
    "config": 500,
    "peers": 100,
}
SEED = 7

pytestmark = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris has wheels for Python 3.11 on Linux; the corpus is replayed anywhere"
)


def run(target: str, runs: int, place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *more, "-m", "tests.fuzz", target, "--runs", str(runs), "--seed", str(SEED)],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=place,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "0"},
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize(("target", "runs"), RUNS.items())
def test_the_guided_fuzzer_finds_nothing(target: str, runs: int, tmp_path: Path) -> None:
    result = run(target, runs, tmp_path)
    assert result.returncode == 0, result.stderr[-4000:]
    assert f"stat::number_of_executed_units: {runs}" in result.stderr
    assert not list(tmp_path.glob("crash-*"))
