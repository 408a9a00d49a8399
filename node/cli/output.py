"""What commands print: tables for people, the wire's own structs for programs, and where colour may be.

Results go to stdout, everything else to stderr. Away from a terminal there is no colour and the width is 120 columns.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec
import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH: Final = 120
_UNFOLDED: Final = 10_000


class Format(StrEnum):
    """What a command prints its result as."""

    TABLE = "table"
    JSON = "json"


def console(*, stderr: bool = False) -> Console:
    """A console for results, or for everything else. Nothing in a text is markup but what is a `Text`."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PLAIN_WIDTH
    return made


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table. A column whose name ends in ``#`` is one of figures, to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    return made


class Fitting:
    """The `wide` table where there is room for it unfolded, and else the `narrow` one."""

    def __init__(self, wide: Table, narrow: Table) -> None:
        self._wide = wide
        self._narrow = narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Decide when it is printed, and the width is known."""
        needed = Measurement.get(console, options.update(max_width=_UNFOLDED), self._wide).maximum
        yield self._wide if needed <= options.max_width else self._narrow


def facts(**rows: str | Text) -> Table:
    """Names and what they stand for, one to a line; ``_`` in a name is a space."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, fact in rows.items():
        made.add_row(name.replace("_", " "), fact)
    return made


def printable(text: str) -> str:
    """What others have named, with nothing in it that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def amount(value: int | None) -> str:
    """``1,234``; nothing for what is not there."""
    return "" if value is None else f"{value:,}"


def signed(value: int) -> str:
    """``+1,234``, ``−1,234`` or ``0``."""
    return f"{value:+,}".replace("-", "−") if value else "0"


def postings(entry: dict[str, int]) -> str:
    """Every account and what was posted on it, what is taken first."""
    return "  ".join(f"{name} {signed(value)}" for name, value in sorted(entry.items(), key=lambda part: part[1]))


def print_json(value: Any) -> None:
    """A reply exactly as the wire has it, indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
