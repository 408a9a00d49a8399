"""Group commit: one batch after the other is made durable, and who waits for one is told.

One asyncio loop decides, one thread writes. While a batch is being made durable the next one fills, so batches grow
with load and an idle node answers after one flush.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from node.api.facade import Unavailable
from node.metrics import Metrics
from node.region import Region
from node.store.errors import StorageError
from node.store.kv import Write

log = structlog.get_logger()


class Storage(Protocol):
    """What the loop needs of a disk (`node.store.lmdb_disk`)."""

    def commit(self, batch: Sequence[Write], done: Callable[[StorageError | None], None], /) -> None:
        """Make a batch durable, whole or not at all; then call `done`, from whatever thread."""
        ...

    def free_bytes(self) -> int:
        """How much room there is."""
        ...


class Committer:
    """Group commit: seals the region's open batch whenever the disk is free, and tells who waits.

    Relations kept: at most one batch is at the disk; ``_waiting`` is in the order in which requests came, so that one
    that waits for an older commit than those before it may wait a commit longer. ``_writing`` wait for the batch that
    is open, ``_landing`` for the one at the disk.
    """

    def __init__(self, region: Region, disk: Storage, metrics: Metrics) -> None:
        self._region = region
        self._disk = disk
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._kicked = False
        self._is_held = False
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._writing: list[asyncio.Future[None]] = []
        self._landing: list[asyncio.Future[None]] = []
        self._begun_at = 0.0
        self.failure: asyncio.Future[Exception] = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_durable: Callable[[list[bytes]], None] = lambda _: None

    @property
    def queue_depth(self) -> int:
        """How many requests wait for a commit."""
        return len(self._waiting)

    async def durable(self, commit: int) -> None:
        """Return when the commit is on disk. Raises `Unavailable` if that will not happen."""
        if commit <= self._region.journal.durable_commit:
            return
        if self.failure.done():
            raise Unavailable(str(self.failure.result()))
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((commit, future))
        self.kick()
        await future

    async def written(self) -> None:
        """Return when all rows that have been written by now are on disk. Raises `Unavailable` if that will not be."""
        if self.failure.done():
            raise Unavailable(str(self.failure.result()))
        future: asyncio.Future[None] = self._loop.create_future()
        self._writing.append(future)
        self.kick()
        await future

    async def idle(self) -> None:
        """Return when nothing is at the disk."""
        await self._idle.wait()

    def kick(self) -> None:
        """Commit what there is, after whatever else is ready to run has joined the batch."""
        if not self._kicked and not self._busy and not self._is_held:
            self._kicked = True
            self._loop.call_soon(self._commit)

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Let nothing go to the disk meanwhile, so that all that joins the open batch lands in one commit."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self.kick()

    def fail(self, error: Exception) -> None:
        """Stop for good: nobody is told anything but why."""
        if self.failure.done():
            return
        if not isinstance(error, StorageError):
            log.critical("broken", region=self._region.settings.region, exc_info=error)
        self.failure.set_result(error)
        for future in [*self._writing, *self._landing, *(future for _, future in self._waiting)]:
            if not future.done():
                future.set_exception(Unavailable(str(error)))
        self._waiting.clear()

    def _commit(self) -> None:
        self._kicked = False
        if self._busy or self._is_held or self.failure.done():
            return
        count = self._region.journal.open_count
        try:
            batch = self._region.seal()
            self._landing, self._writing = self._writing, []
            if not batch:
                _wake(self._landing)
                return
            self._busy = True
            self._idle.clear()
            self._begun_at = time.perf_counter()
            self._disk.commit(batch, self._done)
            if count:
                self._metrics.batch_sealed(count)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the end
            self.fail(error)

    def _done(self, error: StorageError | None) -> None:
        """Called in the writer thread."""
        self._loop.call_soon_threadsafe(self._landed, error)

    def _landed(self, error: StorageError | None) -> None:
        self._busy = False
        self._idle.set()
        if error is not None:
            self.fail(error)
            return
        self._metrics.commit_landed(time.perf_counter() - self._begun_at)
        fresh = self._region.landed()
        durable = self._region.journal.durable_commit
        _wake(self._landing)
        waiting = self._waiting
        while waiting and waiting[0][0] <= durable:
            _, future = waiting.popleft()
            if not future.done():
                future.set_result(None)
        self.on_durable(fresh)
        self.kick()


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
