"""How a command ends when it does not end well: its exit code, and the one line that says why.

0  done
1  refused by the node, or a check failed
2  the command line or the configuration makes no sense
3  no node answered
130  interrupted
"""

from typing import Final

from creditmesh import ApiError, CreditmeshError, ProtocolError, Unavailable, wire
from node.cli.moment import shown_time

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

WHAT_TO_DO: Final[dict[str, str]] = {
    wire.ProblemKind.NOT_FOUND: "; check the name, or ask the region where it was made: this one may not know it yet",
    wire.ProblemKind.IDEMPOTENCY_MISMATCH: "; take another --key for another request",
    wire.ProblemKind.HELD_LIMIT: "; release something, or set another policy",
    wire.ProblemKind.DEBT_LIMIT: "; grant credit, or set another policy",
    wire.ProblemKind.RESERVATION_ENDED: "; usage can still be captured, as an overrun",
}


class Stop(Exception):
    """The command ends here, with this exit code and this line on stderr."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.code = code
        self.line = line


def stop_for(error: CreditmeshError, key: str | None = None) -> Stop:
    """What an error of the client comes to; `key` is the request's, if it was a write."""
    match error:
        case ApiError():
            code, line = REFUSED, _refusal(error)
        case Unavailable():
            code, line = UNREACHABLE, _no_answer(error)
        case ProtocolError():
            code, line = UNREACHABLE, f"the answer is not one of a creditmesh node: {error}"
        case _:
            code, line = REFUSED, str(error)
    if error.maybe_accepted and key is not None:
        line += f"; it may have been accepted all the same: ask again with --key {key}, that cannot count twice"
    return Stop(code, line)


def _refusal(error: ApiError) -> str:
    problem = error.problem
    line = problem.detail or problem.title
    if problem.field is not None and problem.field not in line:
        line = f"{problem.field}: {line}"
    if problem.kind == wire.ProblemKind.INSUFFICIENT_CREDIT:
        return line + _what_there_is(problem)
    return line if ";" in line else line + WHAT_TO_DO.get(problem.kind, "")  # a node may have said it itself


def _what_there_is(problem: wire.Problem) -> str:
    known = {"available": problem.available, "held": problem.held, "owed": problem.debt, "elsewhere": problem.elsewhere}
    figures = ", ".join(f"{name} {amount:,}" for name, amount in known.items() if amount is not None)
    upcoming = "" if problem.next_start is None else f"; the next lot starts {shown_time(problem.next_start)}"
    last = "grant credit, or wait for other regions to give some (--wait)" if problem.elsewhere else "or grant credit"
    return f" ({figures}){upcoming}; ask for less, release something, {last}"


def _no_answer(error: Unavailable) -> str:
    times = "once" if error.attempts == 1 else f"{error.attempts} times"
    address, refused, _ = error.last.partition(": Cannot connect to host ")
    if refused:
        return f"nobody answers at {address} (asked {times}); start the cluster with `creditmesh up`"
    return f"{error.last} (asked {times}); ask again later"
