"""The command line: ``creditmesh``. Exit codes: 0 done, 1 refused or a check failed, 2 usage, 3 no node answered.

Whatever goes wrong is one line on standard error, never a traceback.
"""

import sys
from collections.abc import Sequence
from typing import Final

import typer

from node.cli import (
    backup,
    chaos,
    conflicts,
    credit,
    demo,
    many,
    operate,
    policy,
    rebuild,
    reconcile,
    replay,
    statement,
    up,
)
from node.cli.exits import INTERRUPTED, OK, REFUSED, USAGE, Stop
from node.config import ConfigError

app: Final = typer.Typer(
    name="creditmesh",
    help="A credit store for GPU schedulers that takes writes in several regions at once.",
    epilog="Exit codes: 0 done, 1 refused or a check failed, 2 usage, 3 no node answered.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (
    up, credit, statement, policy, many, conflicts, reconcile, operate, backup, rebuild, chaos, replay, demo,
):  # fmt: skip
    commands.add_to(app)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns the exit code."""
    try:
        return app(list(arguments), prog_name="creditmesh", standalone_mode=False) or OK
    except Stop as stop:
        return _end(stop.code, stop.line)
    except ConfigError as error:
        return _end(USAGE, str(error))
    except typer.TyperException as error:
        return _end(error.exit_code, _usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return _end(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; the interpreter would complain about that at exit
        return REFUSED


def main() -> None:
    """What the console script runs."""
    sys.exit(run(sys.argv[1:]))


def _end(code: int, line: str) -> int:
    if line:
        typer.echo(f"creditmesh: {line}", err=True)
    return code


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line; nothing where its help has been shown instead."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message} (--help tells more)" if message else ""
