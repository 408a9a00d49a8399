"""Where valid requests are led, so that most of them do something: to tenants that `seed` has given credit, to what is
open there, with amounts that fit and times near now.

One request in eight is left as it was drawn.
"""

import time
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec import Struct

from creditmesh import wire
from creditmesh.testing import LocalCluster
from node.api.writes import WRITES
from tests.fuzz.http_many import BATCH, EVENTS

REGION: Final = "us-east"
OTHER_REGION: Final = "eu-west"
RATES: Final = "[[rates]]\ngpu_hour = { A100 = 1_100 }\nmultiplier = { spot = 2 }\n"

KNOWN: Final = "known.json"
"""The file, in the working directory, that says what `seed` has made."""

_TENANT: Final = "acme"
_RULED: Final = "ruled"
"""Whose policy is set again and again."""
_ESCROWED: Final = "escrowed"
_OVERSPENT: Final = "overspent"
"""Who has conflicts."""

_CREDIT: Final = 10_000_000
_LOTS: Final = 100
_RESERVATIONS: Final = 2_000
_JOBS: Final = 200
_CONFLICTS: Final = 10
_USED: Final = "work"
_FAR_FUTURE_MS: Final = 4_000_000_000_000
_MOST: Final = 20
"""Of many things in one request, so many are led."""


class Known(Struct):
    """What there is to be asked about, by id."""

    conflicts: list[str]
    findings: list[str]


async def seed(cluster: LocalCluster, root: Path) -> None:
    """Give tenants something to spend, conflicts, and what does not add up; `root` is to say what was made."""
    client = cluster.client(REGION)
    starts_at = time.time_ns() // 1_000_000 - 86_400_000
    for tenant in (_TENANT, _RULED, _OVERSPENT, _ESCROWED, "0"):
        if tenant == _ESCROWED:
            await client.grant(tenant, amount=1, expires_at=_FAR_FUTURE_MS)
            await client.set_policy(tenant, admission=wire.Admission.ESCROW)
        await client.grant(tenant, amount=_CREDIT, expires_at=_FAR_FUTURE_MS, starts_at=starts_at, lot="whole")
        await client.debit(tenant, amount=100_000, debit=_USED)
    await cluster.converged()
    await cluster.cut(REGION)
    for region in cluster.regions:
        for _ in range(_CONFLICTS):
            await cluster.client(region).debit(_OVERSPENT, amount=(_CREDIT - 100_000) // _CONFLICTS)
    await cluster.heal()
    await cluster.converged()
    lots = [_granted(number) for number in range(_LOTS)]
    await client.batch([*lots, *(_held(number) for number in range(_RESERVATIONS))])
    running = wire.JobState.RUNNING
    jobs = [
        wire.ScheduledJob(
            tenant=_TENANT, job=f"lost-{number}", state=running, started_at=starts_at, gpu_type="A100", gpus=1
        )
        for number in range(_JOBS)
    ]
    await client.put_jobs("seed", jobs)
    found = await client.reconciliation(kind=wire.FindingKind.RUNNING_UNRESERVED, limit=wire.MAX_PAGE)
    conflicts = (await client.conflicts()).conflicts
    known = Known([conflict.id for conflict in conflicts], [finding.id for finding in found.findings])
    (root / KNOWN).write_bytes(msgspec.json.encode(known))


def _granted(number: int) -> wire.BatchOperation:
    body = {"amount": 1, "expires_at": _FAR_FUTURE_MS + 1, "lot": f"lot-{number}"}
    return wire.BatchOperation(tenant=_TENANT, key=f"lot-{number}", operation=wire.BatchKind.GRANT, body=body)


def _held(number: int) -> wire.BatchOperation:
    body = {"amount": 100, "lease_ms": wire.MAX_LEASE_MS, "reservation": f"held-{number}"}
    return wire.BatchOperation(tenant=_TENANT, key=f"held-{number}", operation=wire.BatchKind.RESERVE, body=body)


class Steering:
    """Leads requests, each of them elsewhere."""

    def __init__(self) -> None:
        self.numbers = count()
        path = Path(KNOWN)
        self._known = msgspec.json.decode(path.read_bytes(), type=Known) if path.exists() else Known([], [])
        self._now_ms = time.time_ns() // 1_000_000

    def steer(self, path: str, ids: dict[str, Any], query: dict[str, Any], body: Any) -> None:
        """Change a request, part by part, so that it fits."""
        if crc32(repr((ids, query, body)).encode("utf-8", "replace")) % 8 == 0:
            return
        number = next(self.numbers)
        _put(self._existing(number), ids)
        if "tenant" in ids:
            ids["tenant"] = _tenant_for(path, body, number)
        if "from" in query and "to" in query:
            query["from"], query["to"] = 0, self._now_ms
        if query.get("format") == wire.StatementFormat.CSV:
            for name in ("after", "limit"):
                query.pop(name, None)
        match body:
            case {"operations": list(operations)} if path == BATCH:
                for each in operations[:_MOST]:
                    self._fit_operation(each)
            case dict() | list() if path == EVENTS:
                for each in [body] if isinstance(body, dict) else body[:_MOST]:
                    self._fit_event(each)
            case {"jobs": list(jobs)}:
                for each in jobs[:_MOST]:
                    self._fit_event(each)
            case dict():
                _put(self._fields(number), body)

    def _existing(self, number: int) -> dict[str, Any]:
        """What there is to be asked about."""
        known = self._known
        return {
            "tenant": _TENANT,
            "subject": _TENANT,
            "to": _RULED,
            "lot": f"lot-{number % _LOTS}",
            "reservation": f"held-{number % _RESERVATIONS}",
            "claim": _USED,
            "conflict": known.conflicts[number % len(known.conflicts)] if known.conflicts else "none",
            "finding": known.findings[number % len(known.findings)] if known.findings else "none",
        }

    def _fields(self, number: int) -> dict[str, Any]:
        """What fits into the fields of a body."""
        now = self._now_ms
        return {
            **self._existing(number),
            "lot": f"new-{number}",
            "reservation": f"new-{number}",
            "debit": f"new-{number}",
            "job": f"job-{number % 50}",
            "id": f"event-{number}",
            "amount": number % 5 + 1,
            "lease_ms": 60_000 + number % 60_000,
            "wait_ms": number % 20,
            "expires_at": _FAR_FUTURE_MS + number,
            "starts_at": now - number % 1000,
            "at": now - number % 10_000,
            "start": now - 120_000 - number % 60_000,
            "end": now - number % 60_000,
            "started_at": now - 120_000 - number % 60_000,
            "ended_at": now - number % 60_000,
            "gpu_type": "A100",
            "gpus": number % 8 + 1,
            "seconds": number % 3600 + 1,
            "priority": "spot",
            "weights": {REGION: 2, OTHER_REGION: 1},
            "peer": OTHER_REGION,
        }

    def _fit_event(self, event: dict[str, Any]) -> None:
        number = next(self.numbers)
        fields = self._fields(number) | {"reservation": f"held-{number % _RESERVATIONS}"}
        _put(fields, event)
        if "specversion" in event:
            kind = event["type"].rpartition(".")[2]
            wanted = ("job", "start", "end", "amount") if kind == "usage" else ("job",)
            event["data"] = {name: fields[name] for name in wanted}

    def _fit_operation(self, operation: dict[str, Any]) -> None:
        number = next(self.numbers)
        fields = self._fields(number)
        kind = wire.BatchKind(operation["operation"])
        operation |= {"tenant": _RULED if kind is wire.BatchKind.POLICY else _TENANT, "key": f"operation-{number}"}
        if WRITES[kind].ids > 1:
            operation["id"] = self._existing(number)["lot" if kind is wire.BatchKind.REVOKE else "reservation"]
        else:
            operation.pop("id", None)
        # What a request of the kind has to say; a policy may say nothing.
        operation["body"] = {name: fields[name] for name in _required(kind)}


@cache
def _required(kind: wire.BatchKind) -> tuple[str, ...]:
    required = msgspec.structs.fields(WRITES[kind].request)
    names = tuple(field.name for field in required if field.required)
    return (*names, "amount") if kind in (wire.BatchKind.RESERVE, wire.BatchKind.CAPTURE) else names


def _tenant_for(path: str, body: Any, number: int) -> str:
    if path.endswith("/policy"):
        return _RULED
    is_split = isinstance(body, dict) and body.get("weights") is not None
    if is_split or (number % 8 == 0 and path.endswith(("/reservations", "/grants", "/debits"))):
        return _ESCROWED
    return _TENANT


def _put(fitting: dict[str, Any], values: dict[str, Any]) -> None:
    """Put what fits into the place of what is of the same type; null stays null."""
    for name, value in values.items():
        if name in fitting and type(value) is type(fitting[name]):
            values[name] = fitting[name]
        elif isinstance(value, dict):
            _put(fitting, value)
