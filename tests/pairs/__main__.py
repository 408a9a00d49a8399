"""Write the page: `python -m tests.pairs > docs/internals/pairs.md`."""

import sys

from tests.pairs.clash import fates
from tests.pairs.page import page, row, same_key, section
from tests.pairs.scenes import Kind, Pair


def main() -> None:
    """Let every pair happen, and print what came of it."""
    found = {loser: {rival: fates(Pair(rival, loser)) for rival in Kind} for loser in Kind}
    overview = [row(loser, each) for loser, each in found.items()]
    sections = [section(loser, each) for loser, each in found.items()]
    sys.stdout.write(page(overview, sections, same_key()))


if __name__ == "__main__":
    main()
