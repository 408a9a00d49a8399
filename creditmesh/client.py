"""The client: one typed method for each thing that a node can be asked.

    async with AsyncClient(["http://10.0.0.1:7101", "http://10.0.1.1:7101"]) as client:
        await client.grant("acme", 10_000, expires_at=in_a_month)
        async with client.reservation("acme", 600, lease_ms=60_000) as r:
            await r.capture(480)

The first endpoint is the node of the caller's own region; the others are asked when it does not answer. A write goes
out under one idempotency key however often and wherever it is repeated, and has at most one effect. See
`creditmesh.transport` for what is repeated and `creditmesh.errors` for what is raised.

Amounts are integers of the smallest unit of credit, times integer milliseconds since the epoch.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from creditmesh import wire
from creditmesh.errors import ProtocolError, Unavailable, refusal
from creditmesh.following import Following
from creditmesh.lease import Lease
from creditmesh.transport import Answer, Endpoint, Retry, Sleep, Transport, retry_after_s

R = TypeVar("R", bound=msgspec.Struct)

JSON_BODY: Final = {"Content-Type": "application/json"}
LONGEST_LINE: Final = 16 * 2**20
"""Of an export, in bytes: more than the largest entry."""


class Dot(NamedTuple):
    """The name of a log entry."""

    replica: str
    seq: int


@dataclass(frozen=True, slots=True)
class Accepted(Generic[R]):
    """An acknowledged write: its entry is durable in the region that answered."""

    reply: R
    key: str
    """The idempotency key under which it stands."""
    dot: Dot | None
    """The log entry, where the node names it."""
    replayed: bool
    """Whether the write had been accepted before, and this is its first reply again."""
    clock: str | None
    """Clock token: send it with a read, in any region, to see at least this write."""
    endpoint: str
    attempts: int


class AsyncClient:
    """A connection to a cluster. Use it with ``async with``; it keeps no state outside itself."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        retry: Retry | None = None,
        rng: random.Random | None = None,
        sleep: Sleep = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        new_key: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.sleep = sleep
        self._monotonic = monotonic
        self._new_key = new_key
        self._transport = Transport(
            [endpoints] if isinstance(endpoints, str) else endpoints,
            retry=retry or Retry(),
            rng=rng or random.Random(),
            sleep=sleep,
            monotonic=monotonic,
        )

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    # --- credit in -----------------------------------------------------------------------------------------------

    async def grant(
        self,
        tenant: str,
        amount: int,
        *,
        expires_at: int,
        starts_at: int | None = None,
        priority: int = 0,
        lot: str | None = None,
        weights: Mapping[str, int] | None = None,
        key: str | None = None,
    ) -> Accepted[wire.GrantReply]:
        """Gives credit: a new lot, live from `starts_at` (now) until before `expires_at`.

        To a tenant under escrow: a share for each region, by `weights` (as the cluster is configured, if None).
        """
        body = wire.GrantRequest(
            amount=amount,
            expires_at=expires_at,
            starts_at=starts_at,
            priority=priority,
            lot=lot,
            weights=None if weights is None else dict(weights),
        )
        return await self._write(_of(tenant, "grants"), body, wire.GrantReply, key)

    async def revoke(self, tenant: str, lot: str, *, key: str | None = None) -> Accepted[wire.RevokeReply]:
        """Closes a lot; what remains of it is gone."""
        return await self._write(_of(tenant, "grants", lot, "revoke"), wire.RevokeRequest(), wire.RevokeReply, key)

    async def transfer(
        self,
        tenant: str,
        to: str,
        amount: int,
        *,
        expires_at: int | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> Accepted[wire.TransferReply]:
        """Gives credit to another tenant, who gets a lot that expires with the first that pays, or at `expires_at`.

        Raises:
            InsufficientCredit: more than is available in lots that last as long.
        """
        body = wire.TransferRequest(to=to, amount=amount, expires_at=expires_at, priority=priority)
        return await self._write(_of(tenant, "transfers"), body, wire.TransferReply, key)

    async def lots(self, tenant: str, *, clock: str | None = None) -> wire.LotsReply:
        """All lots of a tenant. `clock`: answer only when caught up to this token, as in all reads below."""
        return await self._read(_of(tenant, "lots"), wire.LotsReply, clock=clock)

    async def balance(self, tenant: str, *, at: int | None = None, clock: str | None = None) -> wire.BalanceReply:
        """What a tenant can spend, holds, has used and owes: now, or `at` a time, by event time."""
        return await self._read(_of(tenant, "balance"), wire.BalanceReply, wire.BalanceQuery(at=at), clock=clock)

    # --- credit over time ------------------------------------------------------------------------------------------

    async def statement(
        self,
        tenant: str,
        *,
        since: int,
        to: int,
        after: str | None = None,
        limit: int = 100,
        clock: str | None = None,
    ) -> wire.StatementReply:
        """A page of what changed a tenant's figures in ``[since, to)``, by event time."""
        query = wire.StatementQuery(since=since, to=to, after=after, limit=limit)
        return await self._read(_of(tenant, "statement"), wire.StatementReply, query, clock=clock)

    async def statement_csv(self, tenant: str, *, since: int, to: int) -> AsyncIterator[bytes]:
        """The same as CSV, whole, piece by piece, from the first endpoint.

        Raises:
            ApiError: the node refused.
            Unavailable: the stream broke off; what was yielded is not all.
        """
        query = wire.StatementQuery(since=since, to=to, format=wire.StatementFormat.CSV)
        async with self._stream(_of(tenant, "statement"), query) as content:
            async for piece in content.iter_any():
                yield piece

    async def expiring(self, tenant: str, *, since: int, to: int, clock: str | None = None) -> wire.ExpiringReply:
        """The lots that have something left and expire in ``[since, to)``."""
        query = wire.ExpiringQuery(since=since, to=to)
        return await self._read(_of(tenant, "expiring"), wire.ExpiringReply, query, clock=clock)

    async def forecast(
        self, tenant: str, *, window_ms: int = 3_600_000, clock: str | None = None
    ) -> wire.ForecastReply:
        """When a tenant's credit runs out, if it goes on being used as in the last `window_ms`."""
        query = wire.ForecastQuery(window_ms=window_ms)
        return await self._read(_of(tenant, "forecast"), wire.ForecastReply, query, clock=clock)

    # --- the tenant's rules --------------------------------------------------------------------------------------

    async def set_policy(
        self,
        tenant: str,
        *,
        on_overspend: wire.OnOverspend = wire.OnOverspend.DEBT,
        admission: wire.Admission = wire.Admission.OPTIMISTIC,
        max_held: int | None = None,
        debt_limit: int | None = None,
        key: str | None = None,
    ) -> Accepted[wire.PolicyReply]:
        """Sets the tenant's rules, all of them: what is left out has its default."""
        body = wire.PolicyRequest(
            on_overspend=on_overspend, admission=admission, max_held=max_held, debt_limit=debt_limit
        )
        return await self._write(_of(tenant, "policy"), body, wire.PolicyReply, key, method="PUT")

    async def policy(self, tenant: str, *, clock: str | None = None) -> wire.PolicyView:
        """The tenant's rules, and how they came to be."""
        return await self._read(_of(tenant, "policy"), wire.PolicyView, clock=clock)

    # --- reservations --------------------------------------------------------------------------------------------

    def reservation(
        self, tenant: str, amount: int | wire.Estimate, *, lease_ms: int, job: str | None = None, key: str | None = None
    ) -> Lease:
        """A reservation for an ``async with`` block: renewed in the background, released at its end."""
        return Lease(self, tenant, amount, lease_ms=lease_ms, job=job, key=key, monotonic=self._monotonic)

    async def reserve(
        self,
        tenant: str,
        amount: int | wire.Estimate,
        *,
        lease_ms: int,
        reservation: str | None = None,
        job: str | None = None,
        wait_ms: int = 0,
        key: str | None = None,
    ) -> Accepted[wire.ReservationReply]:
        """Sets credit aside for `lease_ms`: an amount, or what the rate card makes of an estimate.

        Of a tenant under escrow it waits up to `wait_ms` for credit to be moved here from other regions.

        Raises:
            InsufficientCredit: more than is available.
        """
        body = wire.ReserveRequest(
            **_asked(amount), lease_ms=lease_ms, reservation=reservation, job=job, wait_ms=wait_ms
        )
        return await self._write(_of(tenant, "reservations"), body, wire.ReservationReply, key)

    async def renew(
        self, tenant: str, reservation: str, *, lease_ms: int, key: str | None = None
    ) -> Accepted[wire.ReservationReply]:
        """Extends the lease to `lease_ms` from now; it never gets shorter.

        Raises:
            ReservationEnded: it holds nothing any more.
        """
        path = _of(tenant, "reservations", reservation, "renew")
        return await self._write(path, wire.RenewRequest(lease_ms=lease_ms), wire.ReservationReply, key)

    async def capture(
        self,
        tenant: str,
        reservation: str,
        amount: int = 0,
        *,
        at: int | None = None,
        final: bool = False,
        key: str | None = None,
    ) -> Accepted[wire.ReservationReply]:
        """Records usage; beyond what is held it is an overrun. `final` releases the rest (an amount of 0 only then)."""
        path = _of(tenant, "reservations", reservation, "capture")
        body = wire.CaptureRequest(amount=amount, at=at, final=final)
        return await self._write(path, body, wire.ReservationReply, key)

    async def release(
        self, tenant: str, reservation: str, *, key: str | None = None
    ) -> Accepted[wire.ReservationReply]:
        """Gives back what is still held.

        Raises:
            ReservationEnded: it holds nothing any more.
        """
        path = _of(tenant, "reservations", reservation, "release")
        return await self._write(path, wire.ReleaseRequest(), wire.ReservationReply, key)

    async def get_reservation(self, tenant: str, reservation: str, *, clock: str | None = None) -> wire.ReservationView:
        """One reservation."""
        return await self._read(_of(tenant, "reservations", reservation), wire.ReservationView, clock=clock)

    async def reservations(
        self,
        tenant: str,
        *,
        state: wire.ReservationState | None = None,
        after: str | None = None,
        limit: int = 100,
        clock: str | None = None,
    ) -> wire.ReservationsReply:
        """A page of a tenant's reservations."""
        query = wire.ReservationsQuery(state=state, after=after, limit=limit)
        return await self._read(_of(tenant, "reservations"), wire.ReservationsReply, query, clock=clock)

    async def quote(self, tenant: str, amount: int | wire.Estimate, *, clock: str | None = None) -> wire.QuoteReply:
        """What a reservation would cost and what would be left; holds nothing."""
        headers = {} if clock is None else {wire.CREDIT_CLOCK: clock}
        return await self._send(_of(tenant, "quotes"), wire.QuoteRequest(**_asked(amount)), wire.QuoteReply, headers)

    # --- many at once --------------------------------------------------------------------------------------------

    async def report(self, events: Sequence[wire.UsageEvent | Mapping[str, Any]]) -> wire.UsageEventsReply:
        """Tells what jobs did: up to 10,000 events, each accepted or refused by itself (see the results).

        CloudEvents are told as mappings. Safe to repeat, in any region: an event counts once, by its id.
        """
        return await self._send("/v1/usage-events", list(events), wire.UsageEventsReply)

    async def batch(self, operations: Sequence[wire.BatchOperation | Mapping[str, Any]]) -> wire.BatchReply:
        """Up to 10,000 operations of any tenants, each with its own key and its own result; atomic for none.

        Safe to repeat, in any region: every operation has its own key.
        """
        return await self._send("/v1/batch", {"operations": list(operations)}, wire.BatchReply)

    # --- usage without a reservation, and credit back ------------------------------------------------------------

    async def debit(
        self,
        tenant: str,
        amount: int,
        *,
        at: int | None = None,
        debit: str | None = None,
        on_shortage: wire.OnShortage = wire.OnShortage.REFUSE,
        key: str | None = None,
    ) -> Accepted[wire.DebitReply]:
        """Records usage that nothing was reserved for.

        Raises:
            InsufficientCredit: more than is available, and `on_shortage` is ``refuse``.
        """
        body = wire.DebitRequest(amount=amount, at=at, debit=debit, on_shortage=on_shortage)
        return await self._write(_of(tenant, "debits"), body, wire.DebitReply, key)

    async def refund(
        self, tenant: str, claim: str, amount: int, *, at: int | None = None, key: str | None = None
    ) -> Accepted[wire.RefundReply]:
        """Gives back part of what a reservation or debit used, to the lots that paid for it."""
        body = wire.RefundRequest(claim=claim, amount=amount, at=at)
        return await self._write(_of(tenant, "refunds"), body, wire.RefundReply, key)

    # --- the audit trail, conflicts, debts -----------------------------------------------------------------------

    async def entries(self, tenant: str, *, after: str | None = None, limit: int = 100) -> wire.EntriesReply:
        """A page of a tenant's log entries, oldest first."""
        query = wire.EntriesQuery(after=after, limit=limit)
        return await self._read(_of(tenant, "entries"), wire.EntriesReply, query)

    async def conflicts(
        self,
        *,
        tenant: str | None = None,
        kind: wire.ConflictKind | None = None,
        state: wire.ConflictState | None = None,
        region: str | None = None,
        since: int | None = None,
        acknowledged: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> wire.ConflictsReply:
        """A page of conflict reports; `region` is the loser's, `since` the least time at which that was accepted."""
        query = wire.ConflictsQuery(
            tenant=tenant,
            kind=kind,
            state=state,
            region=region,
            since=since,
            acknowledged=acknowledged,
            after=after,
            limit=limit,
        )
        return await self._read("/v1/conflicts", wire.ConflictsReply, query)

    async def conflict(self, conflict: str) -> wire.ConflictReply:
        """One conflict report."""
        return await self._read(_conflict(conflict), wire.ConflictReply)

    async def acknowledge(
        self, conflict: str, *, by: str, note: str | None = None, key: str | None = None
    ) -> Accepted[wire.AcknowledgeReply]:
        """Says that somebody has seen to a conflict; every region shows it. Moves no credit."""
        body = wire.AcknowledgeRequest(by=by, note=note)
        return await self._write(_conflict(conflict, "ack"), body, wire.AcknowledgeReply, key)

    async def debts(self) -> wire.DebtsReply:
        """Who owes what."""
        return await self._read("/v1/debts", wire.DebtsReply)

    # --- one node: always the first endpoint, never another in its place -------------------------------------------

    async def put_jobs(
        self, source: str, jobs: Sequence[wire.ScheduledJob], *, at: int | None = None
    ) -> wire.JobsReply:
        """Tells the first endpoint what the scheduler `source` knows of its jobs at `at` (now), all of them.

        That replaces what the source said before. It is not replicated: tell the node of the scheduler's own region.
        """
        body = msgspec.json.encode(wire.JobsRequest(source=source, jobs=list(jobs), at=at))
        answer = await self._transport.call("PUT", "/v1/jobs", body=body, headers=JSON_BODY, only=self._first)
        return _decode(answer.body, wire.JobsReply)

    async def reconciliation(
        self,
        *,
        tenant: str | None = None,
        kind: wire.FindingKind | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> wire.ReconciliationReply:
        """A page of what does not add up, as the first endpoint sees it, the longest standing first."""
        query = wire.ReconciliationQuery(tenant=tenant, kind=kind, after=after, limit=limit)
        return await self._read("/v1/reconciliation", wire.ReconciliationReply, query, only=self._first)

    async def apply_finding(self, tenant: str, finding: str) -> wire.ApplyReply:
        """Has the first endpoint post the operation of a finding, once. The finding's id is the idempotency key.

        Raises:
            FindingGone: it does not stand there, and was not applied.
        """
        path = _of(tenant, "reconciliation", "apply")
        body = msgspec.json.encode(wire.ApplyRequest(finding=finding))
        answer = await self._transport.call("POST", path, body=body, headers=JSON_BODY, only=self._first)
        return _decode(answer.body, wire.ApplyReply)

    async def cluster(self, *, digest: bool = False) -> wire.ClusterReply:
        """Regions, links, clocks, frontier and alarms, as the first endpoint sees them."""
        return await self._read("/v1/cluster", wire.ClusterReply, wire.ClusterQuery(digest=digest), only=self._first)

    async def audit(self) -> wire.AuditReply:
        """Has the first endpoint check its hash chains and its books."""
        return await self._read("/v1/audit", wire.AuditReply, only=self._first, takes_long=True)

    async def health(self) -> wire.HealthReply:
        """Whether the first endpoint's process answers."""
        return await self._read("/healthz", wire.HealthReply, only=self._first)

    async def ready(self) -> wire.ReadyReply:
        """Whether the first endpoint takes writes, and if not, why. Asks once.

        Raises:
            Unavailable: no answer at all.
        """
        try:
            async with self._transport.session.get(
                self._first.url("/readyz", {}), timeout=self._transport.attempt_timeout
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(1, f"{self._first.address}: {error}", maybe_accepted=False) from error
        return _decode(body, wire.ReadyReply)

    async def set_link(self, peer: str, state: wire.LinkState) -> wire.LinkReply:
        """Cuts or opens the link of the first endpoint to a peer region (both ways), as a partition would."""
        body = msgspec.json.encode(wire.LinkRequest(peer=peer, state=state))
        answer = await self._transport.call("POST", "/v1/chaos/links", body=body, headers=JSON_BODY, only=self._first)
        return _decode(answer.body, wire.LinkReply)

    async def set_clock(self, *, offset_ms: int = 0, frozen: bool = False) -> wire.ClockReply:
        """Sets the first endpoint's clock ahead of its machine's (or behind), or stops it; without arguments: right."""
        body = msgspec.json.encode(wire.ClockRequest(offset_ms=offset_ms, frozen=frozen))
        answer = await self._transport.call("PUT", "/v1/chaos/clock", body=body, headers=JSON_BODY, only=self._first)
        return _decode(answer.body, wire.ClockReply)

    def follow_conflicts(
        self,
        *,
        tenant: str | None = None,
        kind: wire.ConflictKind | None = None,
        state: wire.ConflictState | None = None,
        region: str | None = None,
        since: int | None = None,
        acknowledged: bool | None = None,
        after: str | None = None,
    ) -> Following[wire.ConflictEvent]:
        """Each conflict that appears or changes, as the first endpoint tells it: ``async for`` over it.

        Begins behind the event `after`, or now. A stream that breaks off is taken up again behind its last event.

        Raises:
            ApiError: the node refused.
            Unavailable: no answer within the attempts allowed; iterating again goes on where it was.
        """
        query = wire.ConflictStreamQuery(
            tenant=tenant, kind=kind, state=state, region=region, since=since, acknowledged=acknowledged
        )
        silence_s = 2 * wire.HEARTBEAT_S + self._transport.retry.attempt_timeout_s

        def opened(last_id: str | None) -> AbstractAsyncContextManager[aiohttp.StreamReader]:
            headers = {} if last_id is None else {wire.LAST_EVENT_ID: last_id}
            return self._stream("/v1/conflicts/stream", query, headers, silence_s)

        return Following(
            opened,
            lambda content: _decode(content, wire.ConflictEvent),
            after=after,
            attempts=self._transport.retry.attempts,
            pause=lambda failures: self._transport.pause(self._first, failures),
        )

    async def export(self, *, after: str | None = None) -> AsyncIterator[wire.ExportedEntry]:
        """All entries that the first endpoint has beyond the clock token `after`, causes before consequences.

        Raises:
            ApiError: the node refused.
            Unavailable: the stream broke off; what was yielded is good.
        """
        async with self._stream("/v1/entries", wire.ExportQuery(after=after)) as content:
            async for line in _lines(content):
                yield _decode(line, wire.ExportedEntry)

    # --- how a request is made -----------------------------------------------------------------------------------

    @property
    def _first(self) -> Endpoint:
        return self._transport.endpoints[0]

    async def _write(
        self, path: str, body: wire.Request, reply: type[R], key: str | None, method: str = "POST"
    ) -> Accepted[R]:
        key = key or self._new_key()
        headers = {**JSON_BODY, wire.IDEMPOTENCY_KEY: key}
        answer = await self._transport.call(method, path, body=msgspec.json.encode(body), headers=headers)
        return Accepted(
            reply=_decode(answer.body, reply),
            key=key,
            dot=_dot(answer),
            replayed=answer.headers.get(wire.IDEMPOTENT_REPLAYED) == "true",
            clock=answer.headers.get(wire.CREDIT_CLOCK),
            endpoint=answer.endpoint,
            attempts=answer.attempts,
        )

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        query: wire.Request,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The first endpoint's reply, to be read as it comes; it may pause for `silence_s` (as for any answer)."""
        within_s = self._transport.retry.attempt_timeout_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=within_s, sock_read=silence_s or within_s)
        url = self._first.url(path, _query(query))
        try:
            async with self._transport.session.get(url, headers=headers, timeout=timeout) as response:
                if response.status >= 400:
                    self._first.not_before = self._monotonic() + retry_after_s(response.headers.get("Retry-After"))
                    raise refusal(response.status, await response.read(), maybe_accepted=False)
                yield response.content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(1, f"{self._first.address}: {error}", maybe_accepted=False) from error

    async def _read(
        self,
        path: str,
        reply: type[R],
        query: wire.Request | None = None,
        *,
        clock: str | None = None,
        only: Endpoint | None = None,
        takes_long: bool = False,
    ) -> R:
        headers = {} if clock is None else {wire.CREDIT_CLOCK: clock}
        answer = await self._transport.call(
            "GET", path, headers=headers, query=_query(query), only=only, takes_long=takes_long
        )
        return _decode(answer.body, reply)

    async def _send(self, path: str, body: Any, reply: type[R], headers: Mapping[str, str] | None = None) -> R:
        """What has no key of its own: it changes nothing, or each part of it has a key."""
        answer = await self._transport.call(
            "POST", path, body=msgspec.json.encode(body), headers={**JSON_BODY, **(headers or {})}, takes_long=True
        )
        return _decode(answer.body, reply)


def _asked(amount: int | wire.Estimate) -> dict[str, Any]:
    return {"amount": amount} if isinstance(amount, int) else {"estimate": amount}


def _of(tenant: str, *rest: str) -> str:
    return "/v1/tenants/" + "/".join(quote(part, safe="") for part in (tenant, *rest))


def _conflict(conflict: str, *rest: str) -> str:
    return "/v1/conflicts/" + "/".join(quote(part, safe="") for part in (conflict, *rest))


def _query(request: wire.Request | None) -> Mapping[str, str]:
    fields: dict[str, Any] = {} if request is None else msgspec.to_builtins(request)
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in fields.items()
        if value is not None
    }


def _dot(answer: Answer) -> Dot | None:
    replica, _, seq = answer.headers.get(wire.CREDIT_ENTRY, "").rpartition(":")
    return Dot(replica, int(seq)) if replica and seq.isdecimal() else None


def _decode(body: bytes, reply: type[R]) -> R:
    try:
        return msgspec.json.decode(body, type=reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a {reply.__name__}: {error}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > LONGEST_LINE:
            raise ProtocolError("a line of the export does not end")
    if rest:
        raise ProtocolError("the export ends in the middle of a line")
