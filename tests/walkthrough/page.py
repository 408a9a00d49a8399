"""A page with commands and what they print: its commands, run one after the other, and what differs from run to run.

A command starts with ``$`` in a ``console`` block and goes on while its quotes and here-documents are open, told by
lines that begin with ``>``; what follows it, up to the next command, is what it prints.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_OPEN: Final = "```console\n"
_CLOSE: Final = "```\n"

_VARIES: Final = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<key>"),
    (re.compile(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(?:\.\d+)?Z?(?: +\+\d+\b)?"), "<time>"),
    (re.compile(r"\b1[789]\d{11}\b"), "<ms>"),
    (re.compile(r"\b(us-east|eu-west|ap-south)([/.])[0-9a-z]{14}\b"), r"\1\2<boot>"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])[0-9a-f]{16,64}\b"), "<digest>"),
    (re.compile(r"\b\d+\.\d s\b"), "<duration>"),
    (re.compile(r"[ ─]+"), " "),
)


@dataclass(frozen=True)
class Shown:
    """A command, and what the page shows of it."""

    command: str
    output: str


def commands(page: str) -> Iterator[Shown]:
    """All of them, in their order."""
    for block in page.split(_OPEN)[1:]:
        yield from _in_block(block.partition(_CLOSE)[0])


def written(page: str, run: Callable[[str], str]) -> str:
    """The page with the output of a run in place of what it shows."""
    head, *blocks = page.split(_OPEN)
    pieces = [head]
    for block in blocks:
        inside, close, rest = block.partition(_CLOSE)
        shown = "".join(_told(each.command, run(each.command)) for each in _in_block(inside))
        pieces += [_OPEN, shown, close, rest]
    return "".join(pieces)


def essence(output: str) -> list[str]:
    """The lines of an output without what is another in every run: times, boots, hashes, the width of columns."""
    lines = []
    for line in output.splitlines():
        for pattern, word in _VARIES:
            line = pattern.sub(word, line)
        lines.append(line.strip())
    return [line for line in lines if line]


def _in_block(inside: str) -> Iterator[Shown]:
    command: list[str] = []
    output: list[str] = []
    for line in inside.splitlines(keepends=True):
        if line.startswith("$ "):
            if command:
                yield Shown("".join(command), "".join(output))
            command, output = [line[2:]], []
        elif line.startswith("> ") and not output:
            command.append(line[2:])
        else:
            output.append(line)
    if command:
        yield Shown("".join(command), "".join(output))


def _told(command: str, output: str) -> str:
    first, *more = command.splitlines(keepends=True)
    lines = [line.rstrip() + "\n" for line in output.splitlines()]
    return f"$ {first}" + "".join(f"> {line}" for line in more) + "".join(lines)
