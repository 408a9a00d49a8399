"""The stream of conflicts: who follows it is told each that appears or changes, and what is promised of that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import aiohttp
import msgspec
import pytest
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ConflictEvent, ProblemKind
from node.api import following
from node.api.facade import NothingDone
from node.changes import Changes
from tests.unit.node.in_process import Browser, refused
from tests.unit.node.test_api_oversight import Overspent, conflicts, overspent

__all__ = ["overspent"]

PATH = "/v1/conflicts/stream"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for so that more may come."""
    monkeypatch.setattr(following, "PAUSE_S", 0.0)


class Reader:
    """Reads events, and remembers the id of the last."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> dict[str, str]:
        """The fields of the next block of lines; a comment has none but its id."""
        fields: dict[str, str] = {}
        while line := (await self.response.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        self.last_id = fields.get("id", self.last_id)
        return fields

    async def event(self) -> ConflictEvent:
        """The next event."""
        while "data" not in (fields := await self.block()):
            assert fields, "the stream has ended"
        told = msgspec.json.decode(fields["data"], type=ConflictEvent)
        assert told.event.value == fields["event"]
        return told

    async def conflict(self) -> wire.Conflict:
        """The next event, which must be a report."""
        told = (await self.event()).conflict
        assert told is not None
        return told


@asynccontextmanager
async def reading(browser: Browser, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with browser.session.get(f"{browser.url}{PATH}{query}", headers=named) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        reader = Reader(response)
        assert (await reader.block())["retry"] == str(following.RETRY_MS)
        yield reader


async def acknowledge(browser: Browser, by: str, query: str = "") -> None:
    (told,) = await conflicts(browser, query)
    answer = await browser.post(f"/v1/conflicts/{told.id}/ack", {"by": by})
    assert answer.status == 201, answer.body


async def test_each_step_of_a_conflict_is_told_when_it_happens(east: Browser, west: Browser) -> None:
    await east.granted(100)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    async with reading(west) as reader:
        west.node.hear(east.node)
        assert (await reader.conflict()).state == "detected"
        east.node.hear(west.node)
        east.node.tick(1_000)
        west.node.hear(east.node)
        assert (await reader.conflict()).state == "compensated"
        await acknowledge(west, "ann")
        told = await reader.conflict()
        assert [said.by for said in told.acknowledged] == ["ann"]
        await west.granted(20, "l2")
        assert (await reader.conflict()).state == "repaid"
        assert told.id == (await conflicts(west))[0].id


async def test_who_begins_is_not_told_what_was(overspent: Overspent) -> None:
    async with reading(overspent.west) as reader:
        await acknowledge(overspent.west, "ann")
        assert [said.by for said in (await reader.conflict()).acknowledged] == ["ann"]


@pytest.mark.parametrize("as_header", [True, False])
async def test_who_comes_back_is_told_the_newest_of_what_changed_meanwhile(
    overspent: Overspent, as_header: bool
) -> None:
    async with reading(overspent.west) as reader:
        pass
    for by in ("ann", "bob"):
        await acknowledge(overspent.west, by)
    resumed = {"Last_Event_ID": reader.last_id} if as_header else {}
    async with reading(overspent.west, "" if as_header else f"?after={reader.last_id}", **resumed) as again:
        assert [said.by for said in (await again.conflict()).acknowledged] == ["ann", "bob"]
        await acknowledge(overspent.west, "eve")
        assert len((await again.conflict()).acknowledged) == 3


async def test_who_has_been_told_is_not_told_again_although_something_touched_it(overspent: Overspent) -> None:
    node = overspent.west.node
    async with reading(overspent.west) as reader:
        await acknowledge(overspent.west, "ann")
        await reader.conflict()
        ((_, contested),) = node.region.conflicts.changes.after(0, 10)
        node.region.conflicts.changes.touch(*contested)
        await overspent.west.granted(1, "l3")
        await acknowledge(overspent.west, "bob")
        assert len((await reader.conflict()).acknowledged) == 2


async def test_what_another_process_told_is_a_gap(overspent: Overspent) -> None:
    for last in ("eu-west/0older:7", "us-east/0boot:1", "eu-west/0boot:999"):
        async with reading(overspent.west, Last_Event_ID=last) as reader:
            told = await reader.event()
            assert (told.event, told.region) == ("gap", "eu-west")
            assert reader.last_id.startswith("eu-west/0boot:")


async def test_so_is_what_was_too_long_ago(overspent: Overspent, monkeypatch: pytest.MonkeyPatch) -> None:
    region = overspent.west.node.region
    async with reading(overspent.west) as reader:
        await acknowledge(overspent.west, "ann")
        await reader.conflict()
        first = reader.last_id
        forgetful = Changes(most=1)
        forgetful.last = forgetful.lost = region.conflicts.changes.last + 100
        monkeypatch.setattr(region.conflicts, "changes", forgetful)
        await acknowledge(overspent.west, "bob")
        assert (await reader.event()).event == "gap", "who was too slow is told so while reading"
    async with reading(overspent.west, Last_Event_ID=first) as again:
        assert (await again.event()).event == "gap"


async def test_a_conflict_that_comes_to_nothing_is_gone(east: Browser, west: Browser) -> None:
    """The rival gave back what it held before the loser asked, and that is heard of later."""
    await east.granted(100)
    west.node.hear(east.node)
    west.node.clock_ms += 50
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    async with reading(west) as reader:
        west.node.hear(east.node)
        told = await reader.conflict()
        assert told.loser.claim == "r-west"
        east.node.clock_ms += 10
        await east.post("/v1/tenants/acme/reservations/r-east/release")
        west.node.hear(east.node)
        gone = await reader.event()
        assert (gone.event, gone.gone, gone.conflict) == ("gone", told.id, None)
        assert await conflicts(west) == []


async def test_what_becomes_another_kind_is_gone_for_those_who_do_not_ask_for_that(
    east: Browser, west: Browser
) -> None:
    """A grant that is heard of later pays for the loser after all, so that only the lots are others."""
    await east.granted(100)
    west.node.hear(east.node)
    west.node.clock_ms += 50
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    async with reading(west) as reader, reading(west, "?kind=reallocated") as other:
        west.node.hear(east.node)
        told = await reader.conflict()
        east.node.clock_ms += 10
        await east.granted(100, "l2")
        west.node.hear(east.node)
        assert (await reader.event()).gone == (await other.event()).gone == told.id
        assert (await other.conflict()).kind == "reallocated"
        await west.granted(1, "l3")
        await acknowledge(west, "ann", "?kind=reallocated")
        assert (await other.event()).gone == told.id, "whoever was told is told again, with what is new"
        assert [said.by for said in (await other.conflict()).acknowledged] == ["ann"]


async def test_the_filters_are_held_against_the_report_as_it_is_told(overspent: Overspent) -> None:
    async with (
        reading(overspent.west, "?acknowledged=false") as only_new,
        reading(overspent.west, "?tenant=acme&state=repaid") as only_repaid,
    ):
        await acknowledge(overspent.west, "ann")
        await overspent.west.granted(20, "l2")
        assert (await only_repaid.conflict()).state == "repaid"
        overspent.west.node.end_streams()
        assert await only_new.response.content.read() == b""


async def test_who_hears_nothing_for_long_hears_that_the_node_is_there(
    overspent: Overspent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.0)
    async with reading(overspent.west) as reader:
        fields = await reader.block()
        assert fields.keys() == {"id"}, "a comment, and where one stands"


async def test_it_ends_when_the_node_does(overspent: Overspent) -> None:
    async with reading(overspent.west) as reader:
        overspent.west.node.end_streams()
        assert await reader.response.content.read() == b""
        assert reader.response.content.at_eof()


async def test_head_has_the_headers_alone(overspent: Overspent) -> None:
    answer = await overspent.west.send("HEAD", PATH)
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")


async def test_what_makes_no_sense_is_refused(overspent: Overspent) -> None:
    for query in ("?after=7", "?kind=x", "?limit=3", "?acknowledged=perhaps"):
        refused(await overspent.west.get(PATH + query), ProblemKind.INVALID_REQUEST)
    refused(await overspent.west.get(PATH, Last_Event_ID="?"), ProblemKind.INVALID_REQUEST)


async def test_only_so_many_follow_at_a_time(overspent: Overspent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_READERS", 1)
    async with reading(overspent.west):
        refused(await overspent.west.get(PATH), ProblemKind.NOT_READY)


async def test_who_does_not_read_is_dropped(overspent: Overspent, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(_: object, __: bytes) -> None:
        raise TimeoutError

    monkeypatch.setattr(web.StreamResponse, "write", stuck)
    with pytest.raises(aiohttp.ClientError):
        async with overspent.west.session.get(overspent.west.url + PATH) as response:
            await response.read()


async def test_several_are_told_what_was_written_down_once(
    overspent: Overspent, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = overspent.west.node.region
    read = Mock(wraps=region.conflicts.report_at)
    monkeypatch.setattr(region.conflicts, "report_at", read)
    async with reading(overspent.west) as one, reading(overspent.west) as other:
        await acknowledge(overspent.west, "ann")
        assert await one.conflict() == await other.conflict()
    assert read.call_count == 1


async def test_what_cannot_be_read_now_is_told_when_it_can(
    overspent: Overspent, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = overspent.west.node
    read_all, fails = node.read_all, asyncio.Event()

    async def damaged(render: object) -> object:
        if fails.is_set():
            raise NothingDone("an entry is being mended")
        return await read_all(render)  # type: ignore[arg-type]

    async with reading(overspent.west) as reader:
        monkeypatch.setattr(node, "read_all", damaged)
        fails.set()
        (told,) = await conflicts(overspent.east)
        await overspent.west.post(f"/v1/conflicts/{told.id}/ack", {"by": "ann"})
        fails.clear()
        await overspent.west.granted(1, "l9")
        assert [said.by for said in (await reader.conflict()).acknowledged] == ["ann"]
