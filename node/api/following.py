"""The stream of conflicts: whoever follows it is told each report that appears or changes, as server-sent events.

What is promised: at least once, and the newest. A reader that comes back and names the last event that it was given is
told every conflict whose report is another than it was then, as it stands now; what it was in between nobody is told.
That holds for as long as this process runs, and for the last so many conflicts that changed (`node.changes`); for
everything else there is an event that says that something was missed, and the list of conflicts.

Readers cost little: a report is read and written down once, whenever somebody first asks for its newest form, and kept
for the others; a reader has nothing of its own but the number of the event that it had last.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from conflict.report import Report
from creditmesh import wire
from creditmesh.wire import HEARTBEAT_S, ConflictEvent, ConflictEventKind, ProblemKind
from node.api import replies
from node.api.description import EVENT_STREAM, Description, Route, told_by
from node.api.facade import Node, NothingDone, RegionView
from node.api.oversight import is_wanted
from node.api.problems import invalid, not_ready
from node.api.requests import Query, wait_for_clock
from node.api.stream import streamed_live
from node.changes import MAX_CHANGES, Contested

PAUSE_S: Final = 0.1
"""After something has landed, so that what comes together is told together."""
MAX_READERS: Final = 100
RETRY_MS: Final = 2_000
"""How long a browser waits before it comes back."""
_AT_ONCE: Final = 50

_event_id = re.compile(r"^([a-z0-9-]+/[0-9a-z]+):([0-9]{1,15})\Z").match
_json = msgspec.json.Encoder().encode


class _Told(Struct, frozen=True):
    """What there is to tell of one conflict.

    ``number`` is the touch after which it was read, ``since`` the one that made it what it is; ``ids`` are all that it
    was ever called. ``gone`` and ``shown`` are the events of the ids that are no more and of the report, without an id.
    """

    number: int
    since: int
    report: Report | None
    gone: bytes
    shown: bytes
    ids: frozenset[str]

    def events(self, asked: wire.ConflictFilter) -> bytes:
        """What a reader is told. What is gone everybody: it may have passed the filters when it was told."""
        return self.gone + self.shown if self.report is not None and is_wanted(self.report, asked) else self.gone


class _Page(Struct, frozen=True):
    """What a reader is told next. ``cursor``: the number of the touch up to which it then knows everything."""

    told: list[_Told]
    cursor: int
    has_gap: bool


class Following:
    """Tells readers what becomes of conflicts.

    Relations kept: ``_told`` has the conflicts read last, the one read longest ago first; contests are up to date with
    all that was durable at commit ``_looked_at``.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._decode = Query(wire.ConflictStreamQuery).decode
        self._told: OrderedDict[Contested, _Told] = OrderedDict()
        self._looked_at = -1
        self._readers = 0

    def routes(self) -> Iterator[Route]:
        """The one."""
        about = Description(
            summary=told_by(self.follow),
            reply=ConflictEvent,
            media=(EVENT_STREAM,),
            query=wire.ConflictStreamQuery,
            takes_clock=True,
            takes_event_id=True,
            refusals=(ProblemKind.INVALID_REQUEST, ProblemKind.NOT_READY),
        )
        yield Route("GET", "/v1/conflicts/stream", self.follow, about)

    async def follow(self, request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.StreamResponse:
        """Each conflict that appears or changes, as it stands then, for as long as one listens.

        At least once, the newest: in between it may have been something else. Without `Last-Event-ID` it begins now.
        """
        asked = self._decode(query)
        after = request.headers.get(wire.LAST_EVENT_ID, asked.after)
        begin = None if after is None else _event_id(after)
        if after is not None and begin is None:
            raise invalid(wire.LAST_EVENT_ID, "is not the id of an event of this stream")
        await wait_for_clock(self._node, request.headers)
        if self._readers >= MAX_READERS:
            raise not_ready(f"{MAX_READERS} readers follow region {self._node.name} already")
        headers = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
        self._readers += 1
        try:
            events = self._events(asked, None if begin is None else (begin[1], int(begin[2])))
            return await streamed_live(self._node, request, headers, events)
        finally:
            self._readers -= 1

    async def _events(self, asked: wire.ConflictFilter, begin: tuple[str, int] | None) -> AsyncGenerator[bytes, None]:
        node, time = self._node, asyncio.get_running_loop().time
        cursor, is_known = await node.read_all(lambda region, _: self._beginning(region, begin))
        yield f"retry: {RETRY_MS}\n".encode() + self._id(cursor)
        if not is_known:
            yield self._gap()
        landed, said_at = -1, time()
        while True:
            page = await self._page(cursor, landed)
            if page.has_gap:
                yield self._gap()
            for told in page.told:
                if told.since > cursor and (events := told.events(asked)):
                    said_at = time()
                    yield events + self._id(told.number)
            cursor = page.cursor
            if time() - said_at >= HEARTBEAT_S:
                said_at = time()
                yield b":\n" + self._id(cursor)
            if len(page.told) == _AT_ONCE:
                continue
            latest = await node.landed(landed, max(0.0, said_at + HEARTBEAT_S - time()))
            if latest is None:
                return
            if latest != landed:
                landed = latest
                await asyncio.sleep(PAUSE_S)

    def _beginning(self, region: RegionView, begin: tuple[str, int] | None) -> tuple[int, bool]:
        """The number of the touch behind which a reader begins, and whether it knows all before that."""
        region.conflicts.look_for_changes()
        last = region.conflicts.changes.last
        if begin is None:
            return last, True
        replica, number = begin
        return (number, True) if replica == self._node.replica and number <= last else (last, False)

    async def _page(self, cursor: int, landed: int) -> _Page:
        """What is to be told behind a cursor; nothing, for now, if it cannot be read before it is mended."""
        try:
            return await self._node.read_all(lambda region, now: self._read(region, now, cursor, landed))
        except NothingDone:
            return _Page([], cursor, has_gap=False)

    def _read(self, region: RegionView, now: int, cursor: int, landed: int) -> _Page:
        if landed != self._looked_at:
            region.conflicts.look_for_changes()
            self._looked_at = landed
        has_gap = cursor < region.conflicts.changes.lost
        cursor = max(cursor, region.conflicts.changes.lost)
        touched = region.conflicts.changes.after(cursor, _AT_ONCE)
        told = [self._told_of(region, now, number, contested) for number, contested in touched]
        return _Page(told, told[-1].number if told else cursor, has_gap)

    def _told_of(self, region: RegionView, now: int, number: int, contested: Contested) -> _Told:
        """What there is to tell of a conflict whose last touch had this number."""
        known = self._told.get(contested)
        if known is not None and known.number == number:
            return known
        report = region.conflicts.report_at(*contested, now)
        ids = known.ids if known is not None else frozenset()
        if report is not None:
            ids |= {report.id}
        gone = b"".join(map(self._gone, sorted(ids - {report.id if report is not None else ""})))
        shown = b"" if report is None else self._shown(report)
        since = known.since if known is not None and (known.gone, known.shown) == (gone, shown) else number
        told = self._told[contested] = _Told(number, since, report, gone, shown, ids)
        self._told.move_to_end(contested)
        if len(self._told) > MAX_CHANGES:
            self._told.popitem(last=False)
        return told

    def _shown(self, report: Report) -> bytes:
        conflict = replies.conflict(report)
        return _event(ConflictEvent(event=ConflictEventKind.CONFLICT, region=self._node.name, conflict=conflict))

    def _gone(self, name: str) -> bytes:
        return _event(ConflictEvent(event=ConflictEventKind.GONE, region=self._node.name, gone=name)) + b"\n"

    def _gap(self) -> bytes:
        return _event(ConflictEvent(event=ConflictEventKind.GAP, region=self._node.name)) + b"\n"

    def _id(self, number: int) -> bytes:
        """What ends an event and names it."""
        return f"id: {self._node.replica}:{number}\n\n".encode()


def _event(told: ConflictEvent) -> bytes:
    """An event, but for its end."""
    return b"event: %b\ndata: %b\n" % (told.event.value.encode(), _json(told))
