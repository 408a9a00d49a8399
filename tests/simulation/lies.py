"""What a faulty peer says: frames that are as well-formed as any, and cannot be.

Nothing here can be told from the truth and is not: a peer that makes up entries which fit would be believed (as long as
logs are not signed), and nobody could say what is right then.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ledger.ids import TenantId
from ledger.operation import Settle
from ledger.posting import Outcome
from node.alarms import AlarmKind
from replication.codec import Ask, Entries, Frame, Have, Hello, Want
from replication.entry import GENESIS, MIN_SEALED_BYTES, VERSION, Entry, seal
from tests.simulation.facts import Fact
from tests.simulation.scenario import START_MS

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class Lie(Struct, frozen=True):
    """A frame, and the alarm that it must raise, with its subject, if it must raise one."""

    frame: Frame
    alarm: AlarmKind | None = None
    subject: str = ""


def lie(node: "SimulatedNode", liar: str, dice: Random) -> Lie:
    """Something that the region `liar` might tell a node."""
    return dice.choice(_LIES)(node, liar, dice)


def _rubbish(node: "SimulatedNode", liar: str, dice: Random) -> Lie:  # noqa: ARG001
    page = [dice.randbytes(MIN_SEALED_BYTES + dice.randrange(100))]
    return Lie(Entries(page, {f"{liar}/rubbish": 1}, 0), AlarmKind.MALFORMED, liar)


def _of_the_own_log(node: "SimulatedNode", liar: str, dice: Random) -> Lie:  # noqa: ARG001
    """An entry that nobody but the node itself could have made."""
    assert node.region is not None
    replica = node.region.replica
    made = _made_up(replica, node.region.clock.get(replica, 0) + dice.randint(1, 3), GENESIS, START_MS << 16)
    return Lie(_page(made), AlarmKind.FORK, replica)


def _about_an_old_log(node: "SimulatedNode", liar: str, dice: Random) -> Lie:
    """Another entry of a log that goes on no more, all of which the node has: refusing it does no harm."""
    logs = _finished_logs(node)
    if not logs:
        return _of_the_own_log(node, liar, dice)
    last = dice.choice(logs)
    replica, seq = last.dot
    match dice.randrange(3):
        case 0:
            return Lie(_page(_made_up(replica, dice.randint(1, seq), GENESIS, 1)), AlarmKind.FORK, replica)
        case 1:
            return Lie(_page(_made_up(replica, seq + 1, GENESIS, last.entry.hlc + 1)), AlarmKind.FORK, replica)
        case _:
            return Lie(_page(_made_up(replica, seq + 1, last.hash, last.entry.hlc)), AlarmKind.MALFORMED, replica)


def _of_no_use(node: "SimulatedNode", liar: str, dice: Random) -> Lie:
    """What may be said, and nobody can do anything with."""
    assert node.region is not None
    settings = node.settings
    hello = Hello(settings.cluster, liar, f"{liar}/again", (1, 1), str(settings.rules), {}, 1)
    far = {f"{liar}/{number}": (10**6, 10**6 + 5) for number in range(3)}
    frames: list[Frame] = [
        hello,
        Want(99, far),
        Ask("nobody", 5),
        Ask("t0", 2**50),
        Have({}, {}, 1),
        Entries([], {}, 99),
    ]
    return Lie(dice.choice(frames))


_LIES: Final[tuple[Callable[["SimulatedNode", str, Random], Lie], ...]] = (
    _rubbish,
    _of_the_own_log,
    _about_an_old_log,
    _about_an_old_log,
    _of_no_use,
)


def _page(entry: Entry) -> Entries:
    return Entries([seal(entry)], {entry.replica: entry.seq}, 0)


def _made_up(replica: str, seq: int, prev: bytes, hlc: int) -> Entry:
    """An entry that does nothing."""
    tenant = TenantId("t0")
    return Entry(VERSION, replica, seq, hlc, {}, tenant, None, None, Settle(), {}, Outcome.APPLIED, None, None, prev)


def _finished_logs(node: "SimulatedNode") -> list[Fact]:
    """The last entries of logs that a later boot has taken the place of, and that the node has to the end."""
    assert node.region is not None
    last = {fact.entry.replica: fact for fact in node.facts.by_dot.values()}
    newest = {
        fact.entry.region: max(log for log in last if log.startswith(f"{fact.entry.region}/")) for fact in last.values()
    }
    durable = node.region.durable
    return [
        fact for log, fact in last.items() if log != newest[fact.entry.region] and durable.get(log, 0) == fact.entry.seq
    ]
