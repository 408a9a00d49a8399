"""A campaign of any size: `python -m tests.powerloss --seeds 1:20`; ends with 1 if anything was found."""

import argparse
import sys

from tests.powerloss.campaign import Report, campaign

_SHOWN = 20


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss", description=__doc__)
    parser.add_argument("--seeds", default="1:3", help="from:to, both included")
    parser.add_argument("--batches", type=int, default=100, help="length of each recording")
    parser.add_argument("--tries", type=int, default=6, help="states at each step of a recording")
    parser.add_argument("--without", choices=("sync", "metasync"), help="open LMDB without this safeguard")
    asked = parser.parse_args()
    first, last = map(int, asked.seeds.split(":"))
    flags = {asked.without: False} if asked.without else {}
    total = Report()
    for seed in range(first, last + 1):
        report = Report()
        for report in campaign(seed, asked.batches, asked.tries, **flags):
            if report.states % 50 == 0:
                sys.stderr.write(f"\rseed {seed}: {report.states} states, {len(report.findings)} findings ")
        total.states += report.states
        total.pending += report.pending
        total.lost += report.lost
        total.findings += report.findings
    sys.stderr.write("\n")
    sys.stdout.write(
        f"{total.states} states; pending: {dict(total.pending)}\n"
        f"acknowledged batches lost: {dict(sorted(total.lost.items())) or 'none'}; {len(total.findings)} findings\n"
    )
    sys.stdout.writelines(f"{finding}\n" for finding in total.findings[:_SHOWN])
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
