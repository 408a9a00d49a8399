"""The routes of reconciliation: what schedulers say of their jobs, what does not add up, and settling it.

None of these writes takes an idempotency key. A snapshot replaces the one before it, so sending it twice changes
nothing; and the key of a finding is its id.
"""

import asyncio
import re
from collections.abc import Iterator
from time import perf_counter
from typing import Final

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import ClaimId, JobId, TenantId
from ledger.refusal import Refusal
from node.api import replies
from node.api.description import Description, Route, told_by
from node.api.facade import Node, NothingDone, Unavailable
from node.api.problems import Refused, invalid, not_ready, refused_by_ledger
from node.api.reads import read_route, said_of_itself
from node.api.requests import (
    JSON,
    MSGPACK,
    Body,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.applying import Gone
from node.finding import Place
from node.reconcile import Reconciliation
from node.snapshots import JobState, ScheduledJob
from replication.clock import encode_token
from replication.entry import hash_of, seal

MAX_UNKNOWN: Final = 100
"""Of the tenants that do not exist, the first so many are named."""

_WRITES: Final = (
    ProblemKind.INVALID_REQUEST,
    ProblemKind.PAYLOAD_TOO_LARGE,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE,
    ProblemKind.NOT_READY,
)
_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode
_place = re.compile(r"^([0-9]{1,19}):([!-~]{1,128})\Z").match


class Reconciling:
    """What compares the books with what schedulers say."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._decode_jobs = Body(wire.JobsRequest).decode
        self._decode_apply = Body(wire.ApplyRequest).decode

    def routes(self) -> Iterator[Route]:
        """All of them."""
        yield read_route(self._node, "/v1/reconciliation", wire.ReconciliationQuery, self.findings)
        jobs = Description(
            summary=told_by(wire.JobsRequest),
            reply=wire.JobsReply,
            media=(JSON, MSGPACK),
            body=wire.JobsRequest,
            takes_clock=True,
            refusals=_WRITES,
        )
        yield Route("PUT", "/v1/jobs", self.put_jobs, jobs)
        apply = Description(
            summary=told_by(wire.ApplyRequest),
            reply=wire.ApplyReply,
            media=(JSON, MSGPACK),
            reply_headers=(wire.CREDIT_CLOCK, wire.CREDIT_ENTRY, wire.IDEMPOTENT_REPLAYED),
            body=wire.ApplyRequest,
            takes_clock=True,
            refusals=(
                *_WRITES,
                ProblemKind.NOT_FOUND,
                ProblemKind.FINDING_GONE,
                ProblemKind.ALREADY_EXISTS,
                ProblemKind.IDEMPOTENCY_MISMATCH,
            ),
        )
        yield Route("POST", "/v1/tenants/{tenant}/reconciliation/apply", self.apply, apply)

    # -- what schedulers say ----------------------------------------------------------------------------------------

    async def put_jobs(self, request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.Response:
        """Take a snapshot."""
        node = self._node
        _refuse_query(query)
        content = await read_body(request, node.config.limits.batch_bytes)
        packed = is_msgpack(request.headers) if content else False
        # Others would wait for it too long, if it were done in the loop.
        snapshot = await asyncio.to_thread(self._snapshot, content, packed, node.now())
        await wait_for_clock(node, request.headers)
        _refuse_if_not_ready(node)
        received = await node.put_jobs(*snapshot)
        if isinstance(received, Refusal):
            raise refused_by_ledger(received)
        reply = wire.JobsReply(
            source=received.source.name,
            at=received.source.at,
            jobs=received.source.jobs,
            taken=received.taken,
            unknown_tenants=list(map(str, received.unknown[:MAX_UNKNOWN])),
            unknown_tenant_count=len(received.unknown),
            region=node.name,
        )
        return _response(reply, wants_msgpack(request.headers, packed), {})

    def _snapshot(self, content: bytes, packed: bool, now: int) -> tuple[str, int, dict[TenantId, list[ScheduledJob]]]:
        asked = self._decode_jobs(content, packed)
        at = now if asked.at is None else asked.at
        return asked.source, at, by_tenant(asked, at, now + self._node.config.limits.max_ahead_ms)

    # -- what does not add up ---------------------------------------------------------------------------------------

    async def findings(self, _: tuple[str, ...], asked: wire.ReconciliationQuery) -> wire.ReconciliationReply:
        """What does not add up, the longest standing first."""
        tenant = None if asked.tenant is None else TenantId(asked.tenant)
        kind = None if asked.kind is None else asked.kind.value
        result = Reconciliation(
            tenant, lambda sighting: kind is None or sighting.kind.value == kind, _after(asked.after), asked.limit
        )
        # Said first: what comes in while it is being looked for may not be in the answer.
        said = said_of_itself(self._node)
        await self._node.reconcile(result)
        page, has_more = result.found[: asked.limit], len(result.found) > asked.limit
        return wire.ReconciliationReply(
            at=result.at,
            counts={kind.value: count for kind, count in result.counts.items()},
            sources=[wire.JobsSource(source=each.name, at=each.at, jobs=each.jobs) for each in result.sources],
            findings=[replies.finding(found) for found in page],
            has_more=has_more,
            next=f"{page[-1].place.since}:{page[-1].place.rests_on}" if has_more else None,
            **said,
        )

    async def apply(self, request: web.BaseRequest, ids: tuple[str, ...], query: str) -> web.Response:
        """Settle a finding."""
        node, headers = self._node, request.headers
        _refuse_query(query)
        content = await read_body(request, node.config.limits.body_bytes)
        started = perf_counter()
        packed = is_msgpack(headers) if content else False
        name = self._decode_apply(content, packed).finding
        await wait_for_clock(node, headers)
        _refuse_if_not_ready(node)
        try:
            answer = await node.apply_finding(TenantId(ids[0]), name)
        except NothingDone:
            raise
        except Unavailable as error:
            # Not "not ready": that would promise that nothing was written.
            raise Refused(ProblemKind.INTERNAL, f"{error}; the finding may have been applied: ask again") from None
        if isinstance(answer, Refusal):
            raise refused_by_ledger(answer)
        if isinstance(answer, Gone):
            detail = f"the finding does not stand in region {node.name}, and was not applied as far as it knows"
            raise Refused(ProblemKind.FINDING_GONE, detail, {"finding": name})
        filed = answer.filed
        entry = filed.entry
        response_headers = {
            wire.CREDIT_ENTRY: f"{entry.replica}:{entry.seq}",
            wire.CREDIT_CLOCK: encode_token({entry.replica: entry.seq}),
        }
        if answer.replayed:
            response_headers[wire.IDEMPOTENT_REPLAYED] = "true"
        else:
            node.metrics.written(perf_counter() - started)
        exported = replies.exported(filed, hash_of(seal(entry)))
        reply = wire.ApplyReply(finding=name, entry=exported, replayed=answer.replayed, region=node.name)
        return _response(reply, wants_msgpack(headers, packed), response_headers)


def by_tenant(asked: wire.JobsRequest, at: int, latest: int) -> dict[TenantId, list[ScheduledJob]]:
    """The jobs of a snapshot of the time `at` (ms), tenant by tenant. Nothing may lie behind `latest`, nor behind `at`.

    Raises `Refused`: for a time that lies in the future of the snapshot, or for a job that stands there twice.
    """
    if at > latest:
        raise invalid("at", f"lies in the future: at most {latest} is taken")
    # Without a time of its own a snapshot is from now on this node's clock, which is not that of its jobs.
    latest = latest if asked.at is None else at
    jobs: dict[TenantId, list[ScheduledJob]] = {}
    seen: dict[tuple[str, str], int] = {}
    for index, job in enumerate(asked.jobs):
        first = seen.setdefault((job.tenant, job.job), index)
        if first != index:
            raise invalid(f"jobs[{index}]", f"is the same job of the same tenant as jobs[{first}]")
        for field, time in (("started_at", job.started_at), ("ended_at", job.ended_at)):
            if time is not None and time > latest:
                raise invalid(f"jobs[{index}].{field}", f"must not lie behind the time of the snapshot, {latest}")
        jobs.setdefault(TenantId(job.tenant), []).append(
            ScheduledJob(
                JobId(job.job),
                JobState(job.state.value),
                job.started_at,
                job.ended_at,
                None if job.reservation is None else ClaimId(job.reservation),
                job.gpu_type,
                job.gpus,
                job.priority,
            )
        )
    return jobs


def _after(token: str | None) -> Place | None:
    if token is None:
        return None
    found = _place(token)
    if found is None:
        raise invalid("after", "is not what a page said under next")
    return Place(int(found[1]), found[2])


def _refuse_query(query: str) -> None:
    if query:
        raise invalid("query", "must be empty: a write takes no parameters")


def _refuse_if_not_ready(node: Node) -> None:
    reasons = node.not_ready()
    if reasons:
        raise not_ready("; ".join(reasons))


def _response(reply: wire.Reply, packed: bool, headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=_msgpack(reply) if packed else _json(reply),
        headers={"Content-Type": MSGPACK if packed else JSON, **headers},
    )
