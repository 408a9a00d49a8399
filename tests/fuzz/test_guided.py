"""The guided fuzzer finds nothing in a fixed number of runs from a fixed seed, and does find what is there."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

RUNS = {
    "frames": 5_000,
    "entries": 3_000,
    "rows": 5_000,
    "bodies": 10_000,
    "many": 5_000,
    "snapshots": 2_500,
    "texts": 400,
    "config": 150,
    "peers": 30,
}
SEED = 7

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        find_spec("atheris") is None,
        reason="atheris has wheels for Python 3.11 on Linux; the corpus is replayed anywhere",
    ),
]


BROKEN = """
import sys
from tests.fuzz import targets
from tests.fuzz.__main__ import main

def fails(data):
    assert not data.endswith(b"}")

targets.TARGETS["bodies"] = fails
main()
"""


def run(target: str, place: Path, *arguments: str, program: tuple[str, ...] = ("-m", "tests.fuzz")) -> tuple[int, str]:
    """The exit code of a fuzzer that keeps what it learns in `place`, and what it said."""
    result = subprocess.run(
        [sys.executable, *program, target, "--seed", str(SEED), "--corpus", str(place / "corpus"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=place,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "0"},
        timeout=280,
        check=False,
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize(("target", "runs"), RUNS.items())
def test_the_guided_fuzzer_finds_nothing(target: str, runs: int, tmp_path: Path) -> None:
    code, said = run(target, tmp_path, "--runs", str(runs))
    assert code == 0, said[-4000:]
    assert f"stat::number_of_executed_units: {runs}" in said
    assert not list(tmp_path.glob(f"{target}-*"))


def test_what_it_finds_is_saved_and_can_be_replayed(tmp_path: Path) -> None:
    code, said = run("bodies", tmp_path, "--runs", "1000", program=("-c", BROKEN))
    assert code != 0
    (saved,) = tmp_path.glob("bodies-crash-*")
    assert saved.read_bytes().endswith(b"}")
    assert "AssertionError" in said
    for program, expected in ((("-c", BROKEN), 1), (("-m", "tests.fuzz"), 0)):
        assert run("bodies", tmp_path, "--replay", str(saved), program=program)[0] == expected
