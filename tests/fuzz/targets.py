"""What is fuzzed: each target takes any bytes, and raises when something happens with them that must not.

A decoder takes what is right, and refuses the rest with the error that it declares: whatever else comes out of it is a
finding. What it takes must come back from its encoder as it was.

    frames    what a peer sends, behind its checksum
    entries   what stands in a log, behind its hash; what is taken must be fit for the audit trail
    rows      what stands in the store's tables: one byte for the table, then the value
    bodies    of requests: one byte for the route and the form, then the body
    many      operations and usage events in one body: one byte for the route and the form, then the body
    snapshots of schedulers: one byte for the form, then the body
    texts     what stands in headers, paths and query strings, a line for each
    config    cluster.toml
    peers     a hostile peer against real regions (see `tests.fuzz.siege`)
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from conflict.report import loser_in
from creditmesh import wire
from creditmesh.wire import MAX_TIME_MS
from ledger.command import Command, fingerprint
from ledger.ids import KEY_PATTERN, Key, Position
from node.api import replies
from node.api.batch import OPERATIONS, Understood, understood
from node.api.problems import Refused, problem_response
from node.api.reconciling import by_tenant
from node.api.requests import (
    Body,
    Query,
    clock_token,
    idempotency_key,
    is_msgpack,
    line_in,
    line_token,
    place_in,
    place_token,
    wants_msgpack,
)
from node.api.router import Router
from node.api.usage_events import EVENTS, BadEvent, Event, event_in
from node.api.writes import WRITES
from node.config import ConfigError, load
from node.snapshots import Snapshots
from node.store import rows
from node.store.errors import DamagedRow
from node.store.journal import checked_runs
from node.store.kv import MemoryDisk, Overlay, Table
from replication.clock import TokenError, decode_token, encode_token
from replication.codec import FrameError, decode, encode, with_checksum
from replication.entry import HASH_BYTES, Malformed, open_sealed, seal
from replication.filed import Filed
from tests.fuzz.siege import besiege

Target = Callable[[bytes], None]

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


def frames(data: bytes) -> None:
    """Refused with `FrameError`, or the frame that these bytes are the one form of."""
    whole = with_checksum(data)
    with suppress(FrameError):
        decode(data)
    with suppress(FrameError):
        frame = decode(whole)
        again = encode(frame)
        # What is optional is checked and let go: the frame is the one without it.
        assert again == whole or decode(again) == frame


def resealed(body: bytes) -> bytes:
    """An entry's bytes under the hash that they have."""
    return body + blake2b(body, digest_size=HASH_BYTES).digest()


def entries(data: bytes) -> None:
    """Refused with `Malformed`, or an entry that can be shown."""
    with suppress(Malformed):
        open_sealed(data)
    with suppress(Malformed):
        sealed = resealed(data)
        entry, digest = open_sealed(sealed)
        assert seal(entry) == sealed
        shown = replies.exported(Filed(entry, entry.position, {}, 1), digest)
        assert msgspec.json.decode(_json(shown), type=wire.ExportedEntry) == msgspec.json.decode(
            _json(msgspec.msgpack.decode(_msgpack(shown))), type=wire.ExportedEntry
        )


ROWS: Final[tuple[tuple[Table, Callable[[bytes], Any]], ...]] = (
    (Table.STATES, rows.decode_state),
    (Table.LOTS, rows.decode_lot),
    (Table.OPEN, rows.decode_claim),
    (Table.KEYS, rows.decode_key_use),
    (Table.HISTORY, rows.decode_history),
    (Table.CONFLICTS, rows.decode_contest),
    (Table.UNSETTLED, rows.decode_place),
    (Table.META, rows.decode_number),
    (Table.META, rows.decode_low),
    (Table.RUNNING, rows.decode_job),
    (Table.POLICIES, rows.decode_policy),
    (Table.META, rows.decode_rules),
    (Table.META, rows.decode_counts),
)


def stored_rows(data: bytes) -> None:
    """Refused as damaged, or a row."""
    if not data:
        return
    number = data[0] % (len(ROWS) + 1)
    if number == len(ROWS):
        with suppress(ValueError, TypeError):
            checked_runs(data[1:])
        return
    with suppress(DamagedRow):
        read_row(number, data[1:])


def read_row(number: int, value: bytes) -> Any:
    """What a row of a kind says."""
    table, decode_row = ROWS[number]
    return rows.read(decode_row, table, b"acme\0", value)


OTHER_BODIES: Final[tuple[type[wire.Request], ...]] = (
    wire.QuoteRequest, wire.AcknowledgeRequest, wire.ApplyRequest, wire.LinkRequest, wire.ClockRequest,
)  # fmt: skip
"""Those of requests that are no operation."""


def bodies(data: bytes) -> None:
    """Refused with a problem that can be told, or a command."""
    if not data:
        return
    number = (data[0] >> 1) % (len(WRITES) + len(OTHER_BODIES))
    write = list(WRITES.values())[number] if number < len(WRITES) else None
    kind = OTHER_BODIES[number - len(WRITES)] if write is None else write.request
    packed, content = bool(data[0] & 1), data[1:]
    try:
        request = Body(kind).decode(content, packed)
    except Refused as refused:
        _told(refused)
    else:
        assert Body(kind).decode(_msgpack(request) if packed else _json(request), packed) == request
        if write is not None:
            fingerprint(write.command(request, ("acme", "l1")))


ATTRIBUTES: Final = {"specversion": "1.0", "id": "e-1", "source": "s", "type": "a.heartbeat", "subject": "acme"}
"""Of a CloudEvent whose body is its data."""


def many(data: bytes) -> None:
    """Refused as a whole with a problem that can be told, or each by itself: so, or a command under a key."""
    if not data:
        return
    packed, in_batch, content = bool(data[0] & 1), bool(data[0] & 2), data[1:]
    try:
        items, _ = (OPERATIONS if in_batch else EVENTS).decode(content, packed=packed)
    except Refused as refused:
        _told(refused)
        return
    attributes = ATTRIBUTES if data[0] & 4 else {}
    for item in items[:100]:
        match understood(item, packed) if in_batch else event_in(item, attributes, packed):
            case Refused() as wrong:
                _told(wrong)
            case BadEvent(_, wrong):
                _told(wrong)
            case Understood() as operation:
                _asked(operation.command, operation.key)
            case Event() as event:
                _asked(event.command, event.key)


def _asked(command: Command, key: Key) -> None:
    fingerprint(command)
    assert re.match(KEY_PATTERN, key)


def snapshots(data: bytes) -> None:
    """Refused with a problem that can be told, or kept, and after a restart there as it was sent."""
    if not data:
        return
    packed, content = bool(data[0] & 1), data[1:]
    try:
        asked = Body(wire.JobsRequest).decode(content, packed)
        jobs = by_tenant(asked, asked.at or 0, MAX_TIME_MS)
    except Refused as refused:
        _told(refused)
        return
    disk = MemoryDisk()
    overlay = Overlay(disk)
    Snapshots(overlay).replace(asked.source, asked.at or 0, jobs)
    disk.write(overlay.seal())
    kept = Snapshots(Overlay(disk))
    assert list(kept.tenants()) == sorted(jobs)
    for tenant, told in jobs.items():
        assert [each.job for each in kept.of(tenant).values()] == sorted(told, key=attrgetter("job"))


QUERIES: Final[tuple[type[wire.Request], ...]] = (
    wire.ConflictsQuery, wire.ReservationsQuery, wire.EntriesQuery, wire.ExportQuery, wire.ClusterQuery,
    wire.ReconciliationQuery, wire.ConflictStreamQuery, wire.BalanceQuery, wire.StatementQuery, wire.ExpiringQuery,
    wire.ForecastQuery,
)  # fmt: skip


def texts(data: bytes) -> None:
    """Every line is refused with a problem that can be told, wherever it stands in a request, or taken."""
    for line in data.split(b"\n")[:20]:
        # As aiohttp hands it on.
        text = line.decode("utf-8", "surrogateescape")
        for read in (_key, _media, _clock, _place, _line, _token, _path, *(Query(kind).decode for kind in QUERIES)):
            try:
                read(text)
            except Refused as refused:
                _told(refused)


def _key(text: str) -> None:
    key = idempotency_key(_headers(**{wire.IDEMPOTENCY_KEY: text}))
    assert 1 <= len(key) <= 255
    assert key.isascii()


def _media(text: str) -> None:
    wants_msgpack(_headers(Accept=text))
    is_msgpack(_headers(**{"Content-Type": text}))


def _clock(text: str) -> None:
    assert encode_token(clock_token(text, "after")) == text


def _place(text: str) -> None:
    place = place_in(text, Position(0, "", "", 0))
    assert place_in(place_token(place), Position(0, "", "", 0)) == place


def _line(text: str) -> None:
    line = line_in(text)
    assert line_in(line_token(line)) == line


def _token(text: str) -> None:
    with suppress(TokenError):
        assert encode_token(decode_token(text)) == text


def _path(text: str) -> None:
    found = loser_in(text)
    assert found is None or found[0].seq < 10**16
    _router().find("GET", text)
    _router().find("GET", f"/v1/conflicts/{text}")


@cache
def _router() -> Router:
    async def answer(*_: object) -> web.StreamResponse:
        raise AssertionError

    router = Router()
    for path in ("/v1/conflicts/{conflict}", "/v1/tenants/{tenant}/lots/{lot}", "/v1/conflicts", "/healthz"):
        router.add("GET", path, answer)
    return router


def _headers(**named: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(named))


def _told(refused: Refused) -> None:
    body = problem_response(refused, "us-east").body
    assert isinstance(body, bytes)
    problem = msgspec.json.decode(body, type=wire.Problem)
    assert problem.status in (400, 404, 415)
    assert problem.detail


def config(data: bytes) -> None:
    """Refused in one line, or a configuration for each of its regions."""
    path = _scratch() / "cluster.toml"
    path.write_bytes(data)
    with suppress(ConfigError):
        found = load(path)
        for region in found.regions:
            assert found.node(region.name).settings.region == region.name


@cache
def _scratch() -> Path:
    place = TemporaryDirectory(prefix="creditmesh-fuzz-")
    _kept.append(place)
    return Path(place.name)


_kept: Final[list[TemporaryDirectory[str]]] = []
"""Directories that are there until the process ends."""

TARGETS: Final[dict[str, Target]] = {
    "frames": frames,
    "entries": entries,
    "rows": stored_rows,
    "bodies": bodies,
    "many": many,
    "snapshots": snapshots,
    "texts": texts,
    "config": config,
    "peers": besiege,
}
