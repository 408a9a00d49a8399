"""Following conflicts: what a stream is made of, what is taken up again after a break, and when that is given up."""

import msgspec
import pytest

from creditmesh import Invalid, ProtocolError, Unavailable, following, wire
from creditmesh.wire import ConflictEvent, ConflictEventKind
from tests.unit.creditmesh.misbehaving import Behaviour, MisbehavingNode, drop, refuse, reply
from tests.unit.creditmesh.test_client import Naps, client_of

NOT_READY = refuse(wire.ProblemKind.NOT_READY, headers={"Retry-After": "7"})
HELLO = b"retry: 2000\nid: r/b:1\n\n"


def gone(name: str) -> ConflictEvent:
    return ConflictEvent(event=ConflictEventKind.GONE, region="r", gone=name)


def told(name: str, number: int) -> bytes:
    """An event as a node writes it."""
    return b"event: gone\ndata: %b\nid: r/b:%d\n\n" % (msgspec.json.encode(gone(name)), number)


def streams(*pieces: bytes) -> Behaviour:
    return reply(HELLO + b"".join(pieces))


async def test_events_are_told_and_a_stream_that_ends_is_taken_up_behind_the_last() -> None:
    script = (streams(told("a", 4), b":\nid: r/b:9\n\n"), drop, NOT_READY, streams(told("b", 12)))
    naps = Naps()
    async with MisbehavingNode(*script) as node, client_of(node.url, naps=naps) as client:
        stream = client.follow_conflicts(tenant="acme", acknowledged=False)
        events = aiter(stream)
        assert [await anext(events), await anext(events)] == [gone("a"), gone("b")]
        assert stream.last_id == "r/b:1", "until the next event is asked for, this one may have been in vain"
        await events.aclose()
    assert {path for _, path, _, _ in node.requests} == {"/v1/conflicts/stream?tenant=acme&acknowledged=false"}
    assert node.event_ids == [None, "r/b:9", "r/b:9", "r/b:9"]
    assert naps.slept[-1] == pytest.approx(7)


async def test_it_gives_up_after_so_many_failures_in_a_row_and_can_be_gone_on_with() -> None:
    script = (NOT_READY, NOT_READY, streams(told("a", 4)), *3 * [NOT_READY], streams(told("b", 5)))
    async with MisbehavingNode(*script) as node, client_of(node.url, attempts=4) as client:
        stream = client.follow_conflicts(after="r/b:0")
        events = aiter(stream)
        assert await anext(events) == gone("a")
        with pytest.raises(Unavailable):
            await anext(events)
        assert stream.last_id == "r/b:4"
        events = aiter(stream)
        assert await anext(events) == gone("b")
        await events.aclose()
    assert node.event_ids == 3 * ["r/b:0"] + 4 * ["r/b:4"]


async def test_a_node_that_ends_every_stream_at_once_is_not_asked_for_ever() -> None:
    async with MisbehavingNode(streams()) as node, client_of(node.url, attempts=3) as client:
        with pytest.raises(Unavailable, match="3 attempts; the last: the stream has ended"):
            await anext(aiter(client.follow_conflicts()))


async def test_a_refusal_is_final() -> None:
    async with MisbehavingNode(refuse(wire.ProblemKind.INVALID_REQUEST)) as node, client_of(node.url) as client:
        with pytest.raises(Invalid):
            await anext(aiter(client.follow_conflicts(after="?")))
    assert len(node.requests) == 1


async def test_half_an_event_is_none() -> None:
    async with (
        MisbehavingNode(streams(told("a", 4), told("b", 5)[:-1]), streams(told("c", 6))) as node,
        client_of(node.url) as client,
    ):
        events = aiter(client.follow_conflicts())
        assert [await anext(events), await anext(events)] == [gone("a"), gone("c")]
        await events.aclose()
    assert node.event_ids == [None, "r/b:4"]


async def test_what_is_no_event_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LONGEST_BLOCK", 100)
    for content, what in ((b"data: {}\n\n", "not a ConflictEvent"), (b"data: " + b"x" * 101, "does not end")):
        async with MisbehavingNode(streams(content)) as node, client_of(node.url) as client:
            with pytest.raises(ProtocolError, match=what):
                await anext(aiter(client.follow_conflicts()))


async def test_data_on_several_lines_is_one_text() -> None:
    lines = b'data: {\ndata:"event":"gap",\ndata: "region":"r"}\n\n'
    async with MisbehavingNode(streams(lines)) as node, client_of(node.url) as client:
        events = aiter(client.follow_conflicts())
        assert (await anext(events)).event is ConflictEventKind.GAP
        await events.aclose()
