"""When regions count as agreed, and that the proof reads every region from where the run began."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from msgspec import structs

from creditmesh import AsyncClient, Dot, wire
from creditmesh.history import Ending, Record
from node.cli import drive
from node.cli.drive import prove, until_all_know, until_they_agree
from node.cli.exits import Stop
from replication.clock import encode_token
from tests.unit.node.test_cli_demo import AUDIT, STATE
from tests.unit.node.test_cli_oversight import ENTRY

FULL = {"us-east/b1": 2, "eu-west/b1": 9}


class ScriptedRegion:
    """A region that says what it is told to; the last thing it is told, for ever."""

    def __init__(self, *states: wire.ClusterReply, audits: list[wire.AuditReply] | None = None) -> None:
        self.states = list(states)
        self.audits = audits or [AUDIT]
        self.entries: list[wire.ExportedEntry] = []
        self.asked_after: list[str | None] = []

    async def cluster(self, **_: Any) -> wire.ClusterReply:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def audit(self) -> wire.AuditReply:
        return self.audits.pop(0) if len(self.audits) > 1 else self.audits[0]

    async def debts(self) -> wire.DebtsReply:
        return wire.DebtsReply(debts=[], region="us-east", as_of="t", behind={})

    async def export(self, *, after: str | None = None) -> AsyncIterator[wire.ExportedEntry]:
        self.asked_after.append(after)
        for entry in self.entries:
            yield entry


def clients(**regions: ScriptedRegion) -> dict[str, AsyncClient]:
    return cast(dict[str, AsyncClient], regions)


def state(**changes: Any) -> wire.ClusterReply:
    return structs.replace(STATE, **changes)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "POLL_S", 0.001)
    monkeypatch.setattr(drive, "AGREE_WITHIN_S", 0.1)


async def test_equal_clocks_digests_and_books_are_agreement() -> None:
    agreed = await until_they_agree(clients(east=ScriptedRegion(state()), west=ScriptedRegion(state())))
    assert agreed.states["west"].digest == STATE.digest


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (state(clock={"us-east/b1": 1}), "do not hold the same entries"),
        (state(digest="cd" * 16), "the digests differ"),
        (state(unsettled_tenants=2), "compensations are due for 2 tenants in west"),
    ],
)
async def test_regions_that_never_agree_are_told_apart(other: wire.ClusterReply, says: str) -> None:
    with pytest.raises(Stop, match=says):
        await until_they_agree(clients(east=ScriptedRegion(state()), west=ScriptedRegion(other)))


async def test_regions_that_agree_later_are_waited_for() -> None:
    west = ScriptedRegion(state(clock={"us-east/b1": 1}), state(unsettled_tenants=1), state())
    await until_they_agree(clients(east=ScriptedRegion(state()), west=west))


async def test_an_entry_that_comes_in_while_the_audits_run_makes_them_run_again() -> None:
    later = state(clock={"us-east/b1": 1_501})
    east = ScriptedRegion(state(), later, later)
    west = ScriptedRegion(state(), later, later)
    agreed = await until_they_agree(clients(east=east, west=west))
    assert agreed.states["east"].clock == later.clock


async def test_a_fault_found_by_an_audit_is_told_at_once() -> None:
    bad = structs.replace(AUDIT, ok=False, findings=["log us-east/b1 at 5: the hash differs"])
    with pytest.raises(Stop, match="audit of east found: log us-east/b1 at 5"):
        await until_they_agree(clients(east=ScriptedRegion(state(), audits=[bad])))


async def test_books_that_are_not_canonical_are_no_agreement() -> None:
    unequal = structs.replace(AUDIT, books_equal=False)
    with pytest.raises(Stop, match="no agreement"):
        await until_they_agree(clients(east=ScriptedRegion(state(), audits=[unequal])))


async def test_a_region_that_does_not_hear_of_the_grants_is_no_start() -> None:
    with pytest.raises(Stop, match="did not hear of each other"):
        await until_all_know(clients(east=ScriptedRegion(state()), west=ScriptedRegion(state(clock={}))))


async def test_the_proof_reads_what_came_after_the_beginning_of_the_run() -> None:
    # The token of a reply leaves out what the rest of it implies; an export after it would repeat that.
    region = ScriptedRegion(state())
    region.entries = [ENTRY]
    counts, wrong = await prove(clients(east=region), [], {"east": state(clock=FULL, as_of="shorter")})
    assert (counts, wrong) == ({"east": 1}, [])
    assert region.asked_after == [encode_token(FULL)]


async def test_the_proof_finds_what_one_region_lacks() -> None:
    east, west = ScriptedRegion(state()), ScriptedRegion(state())
    first = structs.replace(ENTRY, seq=1, prev="00" * 32)
    east.entries = [first]
    kept = Record("acme", "k", "hold", 1, Ending.ACCEPTED, "", Dot("us-east/b1", 1), False, 1, 1.0)
    counts, wrong = await prove(clients(east=east, west=west), [kept], None)
    assert counts == {"east": 1, "west": 0}
    assert wrong == ["west: hold k of acme was acknowledged as us-east/b1:1, which is missing"]
