"""The guided fuzzer: it watches which lines of this program an input reaches, and breeds those that reach new ones.

    python -m tests.fuzz TARGET [--runs N | --seconds S] [--seed N] [--corpus DIRECTORY]
    python -m tests.fuzz TARGET --replay FILE
    python -m tests.fuzz all --seconds S

What it learns is kept in the corpus directory (a temporary one, if none is given). An input that breaks something is
saved beside it as ``TARGET-crash-…``, with the command that replays it; replaying needs no fuzzer. ``all`` tries one
target after the other and keeps everything in ``var/fuzz``.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from tests.fuzz.trees import mutate

NAMES: Final = ("frames", "entries", "rows", "bodies", "many", "snapshots", "texts", "config", "peers")
PACKED: Final = {"frames": 0, "entries": 0, "rows": 1}
"""The targets that read msgpack, and how many bytes stand before it."""

MAX_INPUT_BYTES: Final = 65_536
MEMORY_MIB: Final = 1024
PATIENCE_S: Final = 20
"""An input that takes longer is a finding."""


def fuzz(target: str, runs: int | None, seconds: int | None, seed: int, corpus: Path) -> None:
    """Run the fuzzer. It ends the process: with 0, or with what it ends with when it has found something."""
    import atheris

    with atheris.instrument_imports(include=["ledger", "replication", "conflict", "node", "creditmesh"]):
        from tests.fuzz.seeds import seeds_of
        from tests.fuzz.targets import TARGETS
    seeds = seeds_of(target)
    for number, content in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(content)
    skipped = PACKED.get(target)

    def breed(data: bytes, most: int, draw: int) -> bytes:
        """Half of the time as the values stand in it, half of the time as the fuzzer likes it.

        Now and then from what is right again: much of what decodes is no Python, and the fuzzer cannot watch it.
        """
        rng = Random(draw)
        if skipped is None or rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        data = rng.choice(seeds) if rng.random() < 0.5 else data
        return (data[:skipped] + mutate(data[skipped:], rng, rng.choice((1, 1, 2, 5))))[:most]

    limits = [f"-runs={runs}"] if runs is not None else []
    limits += [f"-max_total_time={seconds}"] if seconds is not None else []
    flags = [f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}", f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={PATIENCE_S}"]
    saved = corpus.parent / f"{target}-"
    atheris.Setup(
        [sys.argv[0], *flags, *limits, "-print_final_stats=1", f"-artifact_prefix={saved}", str(corpus)],
        TARGETS[target],
        custom_mutator=breed,
    )
    atheris.Fuzz()


def fuzz_all(seconds: int, seed: int, place: Path) -> int:
    """Each target for so long, in a process of its own; says what came of it, and returns 1 if anything was found."""
    code = 0
    for target in NAMES:
        known = set(place.glob(f"{target}-*"))
        arguments = [target, "--seconds", str(seconds), "--seed", str(seed), "--corpus", str(place / target)]
        child = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        runs = re.search(r"number_of_executed_units: (\d+)", child.stdout)
        sys.stdout.write(f"{target}: {runs[1] if runs else 'no'} executions\n")
        if child.returncode:
            code = 1
            sys.stdout.write(child.stdout[-4000:])
        for found in sorted(set(place.glob(f"{target}-*")) - known):
            sys.stdout.write(f"replay it: {sys.executable} -m tests.fuzz {target} --replay {found}\n")
        sys.stdout.flush()
    return code


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz one target, or replay what was found.")
    parser.add_argument("target", choices=(*NAMES, "all"))
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    if asked.target == "all":
        sys.exit(fuzz_all(asked.seconds or 60, asked.seed, Path("var/fuzz").absolute()))
    if asked.replay is not None:
        from tests.fuzz.targets import TARGETS

        TARGETS[asked.target](asked.replay.read_bytes())
        return
    with TemporaryDirectory(prefix="creditmesh-corpus-") as scratch:
        corpus = asked.corpus or Path(scratch, asked.target)
        corpus.mkdir(parents=True, exist_ok=True)
        fuzz(asked.target, asked.runs, asked.seconds, asked.seed, corpus)


if __name__ == "__main__":
    main()
