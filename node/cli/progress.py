"""How a long command says on stderr how it gets on: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from node.cli.output import console

LINE_EVERY_S: Final = 5.0


class Teller:
    """Says what happens, with the seconds since it began."""

    def __init__(self) -> None:
        self._out = console(stderr=True)
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        )
        self._task: TaskID | None = None
        self._told_at = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def say(self, line: str, style: str = "") -> None:
        """A line that stays."""
        self._bar.console.print(Text.assemble((f"{self.seconds:5.1f} s  ", "dim"), (line, style)), soft_wrap=True)

    def count(self, what: str, done: int, total: int) -> None:
        """How much of something is done: the bar, or now and then a line."""
        if self._out.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total)
            self._bar.update(self._task, completed=done, total=total)
        elif self.seconds - self._told_at >= LINE_EVERY_S:
            self._told_at = self.seconds
            self.say(f"{what}: {done:,} of {total:,}")

    def counted(self) -> None:
        """The bar has served its turn."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
