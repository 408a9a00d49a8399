"""The sockets between regions: one WebSocket to each peer, kept up.

Of two regions the one whose name sorts first dials the other, again and again with growing pauses while it cannot be
reached. What the frames mean is decided in `node.links`.
"""

import asyncio
import random
import time
from contextlib import suppress
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from node.config import RegionConfig
from node.runtime import Node
from replication.codec import MAX_FRAME_BYTES, Fault, FrameError, decode, encode
from replication.gossip import Close, Session

PATH: Final = "/v1/peer"
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_MOST_UNSENT: Final = 64
"""Frames to one peer; what is pushed is bounded by the window."""
_MOST_LINKS: Final = 1024
_PATIENCE_SECONDS: Final = 10.0

log = structlog.get_logger()

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class _Link:
    """A socket and what waits to be sent on it."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.outgoing: asyncio.Queue[bytes | Close] = asyncio.Queue()
        self._room = asyncio.Event()

    async def has_room(self) -> None:
        """Return when little waits to be sent: who does not read what it asked for is not listened to either.

        Raises TimeoutError if that takes too long.
        """
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.outgoing.qsize() > _MOST_UNSENT:
                self._room.clear()
                await self._room.wait()

    async def send_all(self) -> None:
        """Send what is put into ``outgoing``, until told to close."""
        while not isinstance(item := await self.outgoing.get(), Close):
            await self.socket.send_bytes(item)
            self._room.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.socket.close(message=item.text.encode()[:100])


class Peers:
    """Keeps a link to every peer that is not cut."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._links: dict[Session, _Link] = {}
        self._rubbish = 0
        self._dialling: list[asyncio.Task[None]] = []
        self._wake = {peer.name: asyncio.Event() for peer in node.config.peers}
        node.on_outgoing = self._send
        node.on_link_set = self._link_set

    def app(self) -> web.Application:
        """The server that peers dial."""
        app = web.Application()
        app.router.add_get(PATH, self._accept)
        return app

    def start(self) -> None:
        """Begin to dial."""
        for peer in self._node.config.peers:
            if self._node.name < peer.name:
                self._dialling.append(asyncio.create_task(self._dial_for_ever(peer)))

    async def stop(self) -> None:
        """Say goodbye and close every link."""
        for task in self._dialling:
            task.cancel()
        self._node.links.stop(self._node.wall_ms())
        self._send()
        await asyncio.gather(*self._dialling, return_exceptions=True)

    # -- one end and the other --------------------------------------------------------------------------------------

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        if len(self._links) >= _MOST_LINKS:
            return web.Response(status=503, text="too many links; come back later\n")
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES + 1, compress=False, timeout=_CLOSE_SECONDS)
        await socket.prepare(request)
        await self._talk(socket)
        return socket

    async def _dial_for_ever(self, peer: RegionConfig) -> None:
        pause = _FIRST_PAUSE_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
            while True:
                if not self._node.links.peers[peer.name].is_cut:
                    linked_at = time.monotonic()
                    with suppress(aiohttp.ClientError, OSError, TimeoutError):
                        socket = await _dial(http, peer)
                        try:
                            await self._talk(socket)
                        finally:
                            await socket.close()
                    # A link that ends soon again was not wanted at the other end: come back later.
                    if time.monotonic() - linked_at > _LONGEST_PAUSE_SECONDS:
                        pause = _FIRST_PAUSE_SECONDS
                self._wake[peer.name].clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                        await self._wake[peer.name].wait()
                        pause = _FIRST_PAUSE_SECONDS
                pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _talk(self, socket: Socket) -> None:
        """Hold a conversation until the link ends."""
        node = self._node
        session = node.links.open(node.wall_ms())
        link = self._links[session] = _Link(socket)
        sending = asyncio.create_task(link.send_all())
        self._send()
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._receive(session, message.data)
                    await link.has_room()
                elif message.type is aiohttp.WSMsgType.TEXT:
                    self._refuse(session, FrameError(Fault.WRONG_TYPE, "a text message"))
                else:
                    if getattr(message.data, "code", None) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                        self._refuse(session, FrameError(Fault.OVERSIZE, str(message.data)))
                    break
        except TimeoutError:
            log.warning("peer does not read", region=node.name, peer=session.region)
        finally:
            node.links.lost(session)
            del self._links[session]
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._send()

    def _receive(self, session: Session, data: bytes) -> None:
        node = self._node
        try:
            frame = decode(data)
        except FrameError as error:
            self._refuse(session, error)
        else:
            try:
                node.links.receive(session, frame, node.wall_ms())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the end
                node.committer.fail(error)
                return
            node.committer.kick()
            if node.links.rubbish > self._rubbish:
                self._rubbish = node.links.rubbish
                node.metrics.frame_refused("no-entries")
        self._send()

    def _refuse(self, session: Session, error: FrameError) -> None:
        node = self._node
        node.metrics.frame_refused(error.fault)
        log.warning("frame refused", region=node.name, peer=session.region, why=str(error))
        node.links.refuse(session, error, node.wall_ms())
        self._send()

    def _send(self) -> None:
        """Hand over what the sessions want sent."""
        for session, item in self._node.links.take_outgoing():
            link = self._links.get(session)
            if isinstance(item, Close):
                if session.region:
                    log.info(
                        "link closed", region=self._node.name, peer=session.region, why=item.reason, text=item.text
                    )
                self._node.links.lost(session)
            if link is not None:
                link.outgoing.put_nowait(item if isinstance(item, Close) else encode(item))

    def _link_set(self, peer: str) -> None:
        self._wake[peer].set()
        self._send()


async def _dial(http: aiohttp.ClientSession, peer: RegionConfig) -> aiohttp.ClientWebSocketResponse:
    """A link to a peer. Raises TimeoutError also if it takes the connection and then says nothing."""
    async with asyncio.timeout(_CONNECT_SECONDS):
        return await http.ws_connect(f"http://{peer.peer_listen}{PATH}", max_msg_size=MAX_FRAME_BYTES + 1, compress=0)
