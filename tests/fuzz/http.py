"""The node's interface against its own description: schemathesis, over real sockets, against a node with a real store.

    python -m tests.fuzz.http [--examples N] [--seconds S] [--seed N]

Every operation of the served document is asked with valid and with broken requests, one by one and in chains that
follow its links. What is checked: only the statuses, headers and forms that are told of, replies that match their
schemas, no failure but 503, what is broken is refused, what is valid is not (but for rules of meaning, see
`tests.fuzz.http_hooks`), other methods get 405 with Allow. And most operations must have had something to do.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from creditmesh.testing import LocalCluster
from tests.fuzz.http_hooks import ANSWERS
from tests.fuzz.http_steering import OTHER_REGION, RATES, REGION, seed

SETTINGS: Final = f"[limits]\nclock_wait_ms = 20\n\n[store]\nmin_free_bytes = 0\n\n{RATES}"
CHAOS: Final = "^/v1/chaos/"

Answers = dict[str, dict[int, int]]
"""By operation and status, how many."""

_HERE: Final = Path(__file__).parent


class Verdict:
    """What schemathesis had to say: its exit code (0: nothing found) and its report; and what the node had.

    ``done``: of the valid requests of each operation, the share that was carried out.
    """

    def __init__(self) -> None:
        self.code = 0
        self.report = ""
        self.log = ""
        self.done: dict[str, float] = {}

    def table(self) -> str:
        """The shares, for people."""
        return "".join(f"{share:7.0%}  {operation}\n" for operation, share in sorted(self.done.items()))


async def try_everything(root: Path, examples: int, seconds: int | None = None, seed_of_run: int = 1) -> Verdict:
    """Serve a node from `root` and try its interface; last its chaos routes, after which its clock is wrong."""
    verdict = Verdict()
    async with LocalCluster([REGION, OTHER_REGION], root, SETTINGS) as cluster:
        await cluster.start()
        url = cluster.urls[REGION]
        await seed(cluster, root)
        limits = ["--seed", str(seed_of_run), "--max-examples", str(examples)]
        limits += [] if seconds is None else ["--max-time", str(seconds)]
        await _run(verdict, root, url, ["--exclude-path-regex", CHAOS, *limits])
        # Nothing links to them, so there are no chains.
        single = ["--phases", "coverage,fuzzing", "--max-examples", str(examples)]
        await _run(verdict, root, url, ["--include-path-regex", CHAOS, *single])
        verdict.log = cluster.log_of(REGION)
    return verdict


async def _run(verdict: Verdict, root: Path, url: str, arguments: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        *("--no-color", "--config-file", str(_HERE / "schemathesis.toml"), "run", f"{url}/openapi.json"),
        *("--mode", "all", "--warnings", "off", *arguments),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(_HERE.parents[1]), "SCHEMATHESIS_HOOKS": "tests.fuzz.http_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await process.communicate()
    verdict.report += report.decode()
    verdict.code = verdict.code or process.returncode or 0
    for operation, answers in msgspec.json.decode((root / ANSWERS).read_bytes(), type=Answers).items():
        done = sum(count for status, count in answers.items() if status in (200, 201))
        verdict.done[operation] = done / sum(answers.values())


def main() -> int:
    """Run it from the command line; the exit code is schemathesis' own."""
    parser = argparse.ArgumentParser(description="Try the HTTP interface against its description.")
    parser.add_argument("--examples", type=int, default=100, help="cases for each operation and phase")
    parser.add_argument("--seconds", type=int, help="go on for so long")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="creditmesh-fuzz-") as root:
        verdict = asyncio.run(try_everything(Path(root), asked.examples, asked.seconds, asked.seed))
    sys.stdout.write(f"{verdict.report}\nof the valid requests, carried out:\n{verdict.table()}")
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
