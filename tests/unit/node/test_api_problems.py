"""Every refusal is a problem document, whoever refuses and whatever the client speaks."""

import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.command import Command
from ledger.refusal import Reason, Refusal
from node.api.facade import NothingDone, Unavailable
from node.api.problems import TITLES, refused_by_ledger
from tests.unit.node.in_process import HOUR, Browser, InProcessNode, browsing, config, refused

RESERVATIONS = "/v1/tenants/acme/reservations"


def test_every_kind_has_a_title_and_every_reason_of_the_ledger_is_a_kind() -> None:
    assert set(TITLES) == set(ProblemKind)
    for reason in Reason:
        assert refused_by_ledger(Refusal(reason, "no")).kind.value == reason.value


async def test_no_such_path(east: Browser) -> None:
    problem = refused(await east.get("/v2/tenants/acme/balance"), ProblemKind.NOT_FOUND)
    assert problem.region == "us-east"
    assert problem.type == "urn:creditmesh:problem:not-found"


async def test_no_such_method(east: Browser) -> None:
    answer = await east.send("PUT", RESERVATIONS)
    refused(answer, ProblemKind.METHOD_NOT_ALLOWED)
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_an_id_that_is_none(east: Browser) -> None:
    assert refused(await east.get("/v1/tenants/a%20b/balance"), ProblemKind.INVALID_REQUEST).field == "tenant"
    assert refused(await east.get("/v1/conflicts/nonsense"), ProblemKind.INVALID_REQUEST).field == "conflict"


async def test_a_body_that_is_too_large_leaves_nothing_behind(east: Browser) -> None:
    body = {"amount": 1, "expires_at": 2**48 - 1, "lot": 5000 * "x"}
    refused(await east.post("/v1/tenants/acme/grants", body), ProblemKind.PAYLOAD_TOO_LARGE)
    refused(await east.get("/v1/tenants/acme/balance"), ProblemKind.NOT_FOUND)


async def test_a_body_of_another_form(east: Browser) -> None:
    answer = await east.post(RESERVATIONS, b"amount=5", Content_Type="application/x-www-form-urlencoded")
    refused(answer, ProblemKind.UNSUPPORTED_MEDIA_TYPE)


async def test_a_compressed_body_is_not_unpacked(east: Browser) -> None:
    answer = await east.post(RESERVATIONS, b"\x1f\x8b", Content_Encoding="gzip")
    assert refused(answer, ProblemKind.UNSUPPORTED_MEDIA_TYPE).detail.startswith("bodies are taken as they are")


async def test_problems_are_json_also_for_those_who_speak_msgpack(east: Browser) -> None:
    answer = await east.post(RESERVATIONS, b"\xc1", Content_Type="application/msgpack", Accept="application/msgpack")
    assert refused(answer, ProblemKind.INVALID_REQUEST).field == "body"


async def test_a_fault_of_the_node_tells_the_client_nothing_and_the_log_everything(east: Browser) -> None:
    def burst(_: Command) -> None:
        raise RuntimeError("a secret path: /srv/credit")

    await east.granted(100)
    east.node.on_submit = burst
    with capture_logs() as logs:
        answer = await east.post(RESERVATIONS, {"amount": 5, "lease_ms": 1000})
    refused(answer, ProblemKind.INTERNAL)
    assert b"secret" not in answer.body
    assert [(log["event"], log["log_level"], log["path"]) for log in logs] == [
        ("a request failed", "error", RESERVATIONS)
    ]
    assert "exc_info" in logs[0]


async def test_a_write_whose_commit_failed_is_not_called_unaccepted(east: Browser) -> None:
    def fail(_: Command) -> None:
        raise Unavailable("the store has failed: disk is gone")

    east.node.on_submit = fail
    answer = await east.post("/v1/tenants/acme/grants", {"amount": 5, "expires_at": 2**48 - 1})
    problem = refused(answer, ProblemKind.INTERNAL)
    assert problem.detail.startswith("the store has failed: disk is gone; the request may stand")


async def test_a_write_that_came_to_nothing_may_be_asked_again(east: Browser) -> None:
    def fail(_: Command) -> None:
        raise NothingDone("commit 7 of the journal is not what was written")

    east.node.on_submit = fail
    answer = await east.post("/v1/tenants/acme/grants", {"amount": 5, "expires_at": 2**48 - 1})
    assert refused(answer, ProblemKind.NOT_READY).detail == "commit 7 of the journal is not what was written"
    assert answer.headers["Retry-After"] == "1"


async def test_writes_are_refused_while_the_node_is_not_ready_and_reads_are_not(east: Browser) -> None:
    await east.granted(100)
    east.node.unready = ["disk is nearly full", "no clock"]
    answer = await east.post(RESERVATIONS, {"amount": 5, "lease_ms": 1000})
    assert refused(answer, ProblemKind.NOT_READY).detail == "disk is nearly full; no clock"
    assert answer.headers["Retry-After"] == "1"
    assert (await east.get("/v1/tenants/acme/balance")).json["held"] == 0


async def test_a_read_that_the_store_cannot_serve_may_be_asked_again(
    east: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise Unavailable("the store has failed")

    monkeypatch.setattr(east.node, "read", fail)
    answer = await east.get("/v1/tenants/acme/balance")
    refused(answer, ProblemKind.NOT_READY)
    assert "Retry-After" in answer.headers


async def test_fields_without_a_value_are_left_out(east: Browser) -> None:
    await east.granted(100)
    answer = await east.post(RESERVATIONS, {"amount": 101, "lease_ms": 1000})
    assert set(answer.json) == {
        "type", "title", "status", "detail", "region", "requested", "available", "debt", "held",
    }  # fmt: skip


async def test_there_are_no_faults_on_purpose_unless_the_node_was_told_so(east: Browser) -> None:
    refused(await east.post("/v1/chaos/links", {"peer": "eu-west", "state": "cut"}), ProblemKind.NOT_FOUND)
    refused(await east.send("PUT", "/v1/chaos/clock", b"{}"), ProblemKind.NOT_FOUND)
    assert east.node.clock.offset_ms == 0


async def test_a_clock_is_set_wrong_frozen_and_set_right() -> None:
    async with browsing(InProcessNode(config("us-east", chaos=True))) as east:

        async def told(body: bytes) -> wire.ClockReply:
            return (await east.send("PUT", "/v1/chaos/clock", body)).read(wire.ClockReply)

        before_ms = east.node.clock.now_ms()
        ahead = await told(b'{"offset_ms": 3600000}')
        assert (ahead.offset_ms, ahead.frozen, ahead.region) == (HOUR, False, "us-east")
        assert ahead.now >= before_ms + HOUR
        frozen = await told(b'{"offset_ms": -3600000, "frozen": true}')
        assert frozen.now == east.node.clock.now_ms() < before_ms
        assert (await told(b"{}")).now >= before_ms
        for body in (b'{"offset_ms": 316224000001}', b'{"offset_ms": 1.5}', b'{"frozen": 1}', b'{"skew": 1}'):
            refused(await east.send("PUT", "/v1/chaos/clock", body), ProblemKind.INVALID_REQUEST)
        assert east.node.clock.offset_ms == 0


async def test_a_link_is_cut_and_opened() -> None:
    async with browsing(InProcessNode(config("us-east", ("eu-west",), chaos=True))) as east:
        answer = await east.send("POST", "/v1/chaos/links", b'{"peer": "eu-west", "state": "cut"}')
        assert answer.read(wire.LinkReply) == wire.LinkReply(peer="eu-west", state=wire.LinkState.CUT, region="us-east")
        assert east.node.cuts == {"eu-west": True}
        await east.send("POST", "/v1/chaos/links", b'{"peer": "eu-west", "state": "open"}')
        assert east.node.cuts == {"eu-west": False}
        unknown = await east.send("POST", "/v1/chaos/links", b'{"peer": "mars", "state": "cut"}')
        refused(unknown, ProblemKind.NOT_FOUND)
        malformed = await east.send("POST", "/v1/chaos/links", b'{"peer": "eu-west"}')
        assert refused(malformed, ProblemKind.INVALID_REQUEST).field == "state"
        assert east.node.cuts == {"eu-west": False}


async def test_a_get_is_not_refused_for_a_whole_url_in_its_request_line(east: Browser) -> None:
    host, port = east.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET http://proxy.example/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["status"] == "ok"


async def test_a_header_that_is_no_text_is_quoted_as_far_as_it_can_be(east: Browser) -> None:
    host, port = east.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/tenants/acme/grants HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nConnection: close\r\n"
        b"Content-Type: text/\xff\r\nContent-Length: 1\r\n\r\nx"
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 415 " in head.splitlines()[0]
    assert msgspec.json.decode(body, type=wire.Problem).detail.endswith(r"not text/\udcff")
