"""One node process: from a configuration to exit code.

Everything that can be refused is refused before anything is changed: the ports are taken first, then the directory.
What goes wrong is one line on standard error.
"""

import asyncio
import gc
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog
import uvloop
from aiohttp import web

from node.api import build_server
from node.clock import WallClock
from node.config import Address, NodeConfig
from node.peers import Peers
from node.rebuild import mark, opened
from node.runtime import Node
from node.store.errors import DamagedRows, StorageError
from node.store.lmdb_disk import LmdbDisk

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
_BACKLOG: Final = 1024
_SHUTDOWN_SECONDS: Final = 5.0
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PROGRESS_SECONDS: Final = 2.0
_SWITCH_SECONDS: Final = 0.0002

log = structlog.get_logger()


class CannotStart(Exception):
    """Why the node does not start: one line."""


def serve(config: NodeConfig) -> int:
    """Run the node of one region until it is told to stop; returns the exit code."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        return uvloop.run(_serve(config))
    except (CannotStart, StorageError) as error:
        sys.stderr.write(f"creditmesh: {config.region.name}: {error}\n")
        return EXIT_FAILED


async def _serve(config: NodeConfig) -> int:
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_listen(config.region.listen))
        listening_peers = stack.enter_context(_listen(config.region.peer_listen))
        disk = LmdbDisk(
            config.region.data,
            cluster=config.cluster,
            region=config.region.name,
            map_bytes=config.store.map_bytes,
            max_map_bytes=config.store.max_map_bytes,
        )
        stack.callback(disk.close)
        clock = WallClock()
        region = opened(
            disk, disk.commit_now, config.settings, new_boot(clock.now_ms()), clock.now_ms(), _told(config.region.name)
        )
        node = Node(config, region, disk, clock)
        peers = Peers(node)
        _tune()
        node.start()
        stack.push_async_callback(_stop, node, disk)
        await _run_site(
            stack, web.AppRunner(peers.app(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS), listening_peers
        )
        await _run_site(stack, web.ServerRunner(build_server(node), shutdown_timeout=_SHUTDOWN_SECONDS), listening)
        stack.callback(node.end_streams)
        peers.start()
        stack.push_async_callback(peers.stop)
        log.info(
            "serving",
            region=node.name,
            replica=node.replica,
            http=str(config.region.listen),
            entries=sum(region.clock.values()),
        )
        return await _until_told_to_stop(node)


async def _stop(node: Node, disk: LmdbDisk) -> None:
    """Stop the node; if damaged rows have stopped it, let its next start rebuild them."""
    await node.stop()
    failure = node.committer.failure
    if failure.done() and isinstance(failure.result(), DamagedRows):
        try:
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                await node.committer.idle()
            mark(disk.commit_now, str(failure.result()))
        except (StorageError, TimeoutError) as error:
            log.error("cannot mark the store for a rebuild", region=node.name, error=str(error))


def _told(region: str) -> Callable[[str], None]:
    """Logs how far a rebuild is, now and then."""
    told_at = 0.0

    def progress(so_far: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _PROGRESS_SECONDS or so_far.startswith("rebu"):
            told_at = time.monotonic()
            log.warning("rebuild", region=region, progress=so_far)

    return progress


async def _until_told_to_stop(node: Node) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    stopping = asyncio.create_task(told.wait())
    failing = asyncio.create_task(node.failed())
    await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if failing.done():
        log.critical("stopped by an error", region=node.name, error=str(failing.result()))
        return EXIT_FAILED
    failing.cancel()
    log.info("stopping", region=node.name)
    return EXIT_OK


async def _run_site(stack: AsyncExitStack, runner: web.BaseRunner, listening: socket.socket) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listening, backlog=_BACKLOG).start()


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotStart(
            f"cannot listen on {address}: {reason}; stop whatever uses the port, or choose another"
        ) from None


def _tune() -> None:
    """What was loaded stays: the collector need not look at it again; and the writer thread gets its turn soon."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 1_000)
    sys.setswitchinterval(_SWITCH_SECONDS)


def new_boot(now: int) -> str:
    """A name for this boot that no other boot has: its time, so that boots sort, and randomness."""
    stamp = ""
    while now:
        now, digit = divmod(now, len(_DIGITS))
        stamp = _DIGITS[digit] + stamp
    return stamp + "".join(secrets.choice(_DIGITS) for _ in range(6))
