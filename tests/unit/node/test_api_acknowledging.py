"""Saying that a conflict was seen to, over HTTP."""

import msgspec

from creditmesh import wire
from creditmesh.wire import ProblemKind
from tests.unit.node.in_process import Browser, refused
from tests.unit.node.test_api_oversight import Overspent, conflicts, overspent

__all__ = ["overspent"]


async def the_id(browser: Browser) -> str:
    (told,) = await conflicts(browser)
    return told.id


async def test_it_is_told_with_the_entry_that_says_so_and_every_region_shows_it(overspent: Overspent) -> None:
    west, name = overspent.west, await the_id(overspent.west)
    answer = await west.post(f"/v1/conflicts/{name}/ack", {"by": "ann", "note": "told the customer"})
    assert answer.status == 201
    reply = answer.read(wire.AcknowledgeReply)
    assert (reply.conflict, reply.tenant, reply.region, reply.again) == (name, "acme", "eu-west", False)
    assert reply.acknowledgement == wire.Acknowledgement(
        by="ann",
        note="told the customer",
        at=reply.acknowledgement.at,
        region="eu-west",
        entry=answer.headers[wire.CREDIT_ENTRY],
    )
    overspent.east.node.hear(west.node)
    for browser in (west, overspent.east):
        (told,) = await conflicts(browser)
        assert told.acknowledged == [reply.acknowledgement]
    clock = {wire.CREDIT_CLOCK.replace("-", "_"): answer.headers[wire.CREDIT_CLOCK]}
    assert (await overspent.east.get(f"/v1/conflicts/{name}", **clock)).status == 200


async def test_a_second_one_is_told_that_there_was_one(overspent: Overspent) -> None:
    name = await the_id(overspent.west)
    for by, again in (("ann", False), ("bob", True)):
        answer = await overspent.west.post(f"/v1/conflicts/{name}/ack", {"by": by})
        assert answer.read(wire.AcknowledgeReply).again is again


async def test_a_retry_gets_the_first_reply_again_in_the_form_that_it_asks_for(overspent: Overspent) -> None:
    name = await the_id(overspent.west)
    path, body = f"/v1/conflicts/{name}/ack", {"by": "ann"}
    first = await overspent.west.post(path, body, Idempotency_Key="k")
    again = await overspent.west.post(path, body, Idempotency_Key="k", Accept="application/msgpack")
    assert wire.IDEMPOTENT_REPLAYED not in first.headers
    assert again.headers[wire.IDEMPOTENT_REPLAYED] == "true"
    assert msgspec.msgpack.decode(again.body, type=wire.AcknowledgeReply) == first.read(wire.AcknowledgeReply)
    refused(await overspent.west.post(path, {"by": "bob"}, Idempotency_Key="k"), ProblemKind.IDEMPOTENCY_MISMATCH)


async def test_what_makes_no_sense_is_refused_by_field(overspent: Overspent) -> None:
    path = f"/v1/conflicts/{await the_id(overspent.west)}/ack"
    for body, field in (
        ({}, "by"),
        ({"by": ""}, "by"),
        ({"by": " ann"}, "by"),
        ({"by": "a\u001b[2J"}, "by"),
        ({"by": "a" * 65}, "by"),
        ({"by": "ann", "note": "two\nlines"}, "note"),
        ({"by": "ann", "note": "x" * 501}, "note"),
        ({"by": "ann", "state": "repaid"}, "state"),
    ):
        assert refused(await overspent.west.post(path, body), ProblemKind.INVALID_REQUEST).field == field
    refused(await overspent.west.send("POST", path, b'{"by":"ann"}'), ProblemKind.INVALID_REQUEST)
    refused(await overspent.west.post(f"{path}?by=ann", {"by": "ann"}), ProblemKind.INVALID_REQUEST)


async def test_what_is_no_conflict_is_not_found_and_a_node_that_takes_no_writes_says_so(overspent: Overspent) -> None:
    missing = await overspent.west.post("/v1/conflicts/us-east.0boot.1.overspend/ack", {"by": "ann"})
    assert refused(missing, ProblemKind.NOT_FOUND).conflict == "us-east.0boot.1.overspend"
    path = f"/v1/conflicts/{await the_id(overspent.west)}/ack"
    overspent.west.node.unready = ["full"]
    refused(await overspent.west.post(path, {"by": "ann"}), ProblemKind.NOT_READY)


async def test_the_list_is_filtered_by_whether_anybody_has(overspent: Overspent) -> None:
    name = await the_id(overspent.west)
    assert await conflicts(overspent.west, "?acknowledged=true") == []
    assert len(await conflicts(overspent.west, "?acknowledged=false")) == 1
    await overspent.west.post(f"/v1/conflicts/{name}/ack", {"by": "ann"})
    assert len(await conflicts(overspent.west, "?acknowledged=true")) == 1
    assert await conflicts(overspent.west, "?acknowledged=false") == []


async def test_it_is_exported_as_what_it_is(overspent: Overspent) -> None:
    name = await the_id(overspent.west)
    await overspent.west.post(f"/v1/conflicts/{name}/ack", {"by": "ann"}, Idempotency_Key="k")
    entries = (await overspent.west.get("/v1/tenants/acme/entries")).read(wire.EntriesReply).entries
    assert (entries[-1].kind, entries[-1].key, entries[-1].postings, entries[-1].outcome) == (
        "acknowledge", "k", {}, "posted",
    )  # fmt: skip
    assert entries[-1].body == {
        "replica": "us-east/0boot", "seq": 2, "report": "overspend", "by": "ann", "note": None, "again": False,
    }  # fmt: skip
