"""The command line of the simulator: run seeds, tell one as a story, make it smaller, switch safeguards off.

python -m tests.simulation run 0:1000
python -m tests.simulation replay 17
python -m tests.simulation replay 17 --shrink
python -m tests.simulation mutate
"""

import sys
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.campaign import Stopwatch, Summary, run_seeds
from tests.simulation.cluster import Result, simulate
from tests.simulation.mutations import MUTATIONS, first_caught
from tests.simulation.reduction import Reduction, read, shrink
from tests.simulation.scenario import Scenario, draw

app = typer.Typer(add_completion=False, no_args_is_help=True)
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, highlight=False)


@app.command()
def run(
    seeds: Annotated[str, typer.Argument(help="from:to, without the last; or one seed")],
    workers: Annotated[int, typer.Option(help="processes")] = 2,
    counts: Annotated[bool, typer.Option(help="say how often each fault and rare branch happened")] = True,
) -> None:
    """Run a range of seeds. Exits with 1 if a promise was broken, or if something that should happen never did."""
    first, last = _range(seeds)
    summary, watch = Summary(), Stopwatch()
    columns = (TextColumn("seeds {task.fields[broken]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=last - first, broken="")
        for result, cpu_seconds in run_seeds(range(first, last), workers):
            summary.add(result, cpu_seconds)
            if result.failure is not None:
                out.print(f"seed {result.seed}: {result.failure}\n  {_replay(result.seed)}", markup=False)
            progress.update(task, advance=1, broken=f"({len(summary.failures)} broken)" if summary.failures else "")
    if counts:
        out.print(_table(summary))
    speed = summary.speed
    out.print(
        f"{speed.seeds} seeds, {speed.entries:,} entries, {speed.simulated_ms / 3_600_000:,.1f} simulated hours"
        f" in {watch.seconds:,.0f} s ({speed.cpu_seconds:,.0f} CPU s);"
        f" the slowest came to rest in {summary.slowest_to_settle:.0%} of the time allowed"
    )
    for beat_ms, part in sorted(summary.speed_by_beat.items()):
        out.print(
            f"  beat {beat_ms:>7,} ms: {part.seeds:>4} seeds, {part.times_real_time:>9,.1f} simulated seconds"
            f" and {part.entries_per_second:>5,.0f} entries in a CPU second"
        )
    if summary.failures:
        out.print(f"broken: {', '.join(str(result.seed) for result in summary.failures)}")
    elif summary.never_happened:
        out.print(f"never happened: {', '.join(summary.never_happened)}", markup=False)
    raise typer.Exit(0 if summary.is_well else 1)


@app.command()
def replay(
    seed: int,
    happenings: Annotated[str | None, typer.Option(help="only these faults, by number: 0,3-5")] = None,
    intents: Annotated[str | None, typer.Option(help="only these requests, by number")] = None,
    calm: Annotated[str | None, typer.Option(help="without these: loss,garbage,skew…")] = None,
    regions: Annotated[int | None, typer.Option(help="only so many regions")] = None,
    smaller: Annotated[bool, typer.Option("--shrink", help="look for a smaller world that still fails")] = False,
    last: Annotated[int, typer.Option(help="show so many lines of the story; 0: all")] = 0,
) -> None:
    """Run one seed again and tell what happened. Exits with 1 if a promise was broken."""
    reduction = Reduction(
        None if happenings is None else read(happenings),
        None if intents is None else read(intents),
        tuple(calm.split(",")) if calm else (),
        regions,
    )
    scenario = draw(seed)
    if smaller:
        reduction = _shrink(scenario)
    result = simulate(reduction.of(scenario), keep_lines=True)
    for line in result.lines[-last:]:
        out.print(line, markup=False)
    if result.failure is not None:
        out.print(f"broken: {result.failure}\n  {_replay(seed, reduction)}", markup=False)
    out.print(f"trace {result.hash}, {result.entries} entries, {result.simulated_ms / 1000:,.0f} s simulated")
    raise typer.Exit(0 if result.failure is None else 1)


@app.command()
def mutate(
    names: Annotated[list[str] | None, typer.Argument(help="which safeguards; all, if none is named")] = None,
    most: Annotated[int, typer.Option(help="try so many seeds for each")] = 1_000,
) -> None:
    """Switch safeguards off, one at a time, and say which seed notices. Exits with 1 if one is missed by nobody."""
    unnoticed = []
    for name in names or list(MUTATIONS):
        watch = Stopwatch()
        caught = first_caught(name, range(most))
        if caught is None:
            unnoticed.append(name)
            out.print(f"{name}: nobody noticed in {most} seeds", markup=False)
        else:
            out.print(f"{name}: seed {caught.seed} ({watch.seconds:.0f} s): {str(caught.failure)[:140]}", markup=False)
    raise typer.Exit(1 if unnoticed else 0)


def _shrink(scenario: Scenario) -> Reduction:
    whole = simulate(scenario)
    if whole.failure is None:
        err.print(f"seed {scenario.seed} does not fail")
        raise typer.Exit(0)
    with ExitStack() as stack:
        status = stack.enter_context(err.status("shrinking"))
        return shrink(scenario, lambda smaller: _same(whole, simulate(smaller)), lambda text: status.update(text[:100]))


def _same(one: Result, other: Result) -> bool:
    """Whether two runs broke the same promise, at the same line of the same check."""
    return other.failure is not None and str(one.failure).split(":")[:2] == other.failure.split(":")[:2]


def _replay(seed: int, reduction: Reduction | None = None) -> str:
    arguments = "" if reduction is None else f" {reduction.arguments()}".rstrip()
    return f"python -m tests.simulation replay {seed}{arguments}"


def _range(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        bounds = int(first), int(last) if colon else int(first) + 1
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no range of seeds; write from:to, such as 0:100") from None
    if bounds[0] >= bounds[1]:
        raise typer.BadParameter(f"{text!r} has no seeds; write from:to, such as 0:100")
    return bounds


def _table(summary: Summary) -> Table:
    table = Table("what happened", "times", title=None)
    for name, count in sorted(summary.counts.items()):
        table.add_row(name, f"{count:,}")
    for name in summary.never_happened:
        table.add_row(name, "never")
    return table


if __name__ == "__main__":
    app()
