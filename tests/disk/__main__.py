"""A campaign of flipped bits of any size: `python -m tests.disk --seeds 1:3 --each 50`; ends with 1 if one misleads."""

import argparse
import sys
from collections import Counter

from tests.disk.flips import WAYS, Report, campaign


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk", description=__doc__)
    parser.add_argument("--seeds", default="1:1", help="from:to, both included; each makes another store")
    parser.add_argument("--each", type=int, default=20, help="flips in each kind of place, in each way")
    parser.add_argument("--way", choices=WAYS, help="only this one")
    asked = parser.parse_args()
    first, last = map(int, asked.seeds.split(":"))
    totals: dict[tuple[str, str], Counter[str]] = {}
    wrong: list[str] = []
    for seed in range(first, last + 1):
        report = Report()
        for report in campaign(seed, asked.each, (asked.way,) if asked.way else WAYS):
            flips = sum(sum(counts.values()) for counts in report.results.values())
            sys.stderr.write(f"\rseed {seed}: {flips} flips, {len(report.wrong)} wrong ")
        for place, counts in report.results.items():
            totals.setdefault(place, Counter()).update(counts)
        wrong += [f"seed {seed}, {each}" for each in report.wrong]
    sys.stderr.write("\n")
    for (way, kind), counts in totals.items():
        sys.stdout.write(f"{way:8} {kind:36} {dict(counts)}\n")
    for way in WAYS:
        sys.stdout.write(f"{way}: {dict(sum((c for (w, _), c in totals.items() if w == way), Counter()))}\n")
    sys.stdout.writelines(f"{each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
