"""A reservation that lives as long as a block of code: renewed in the background, released at its end.

Renewal happens at every third of the lease, so two attempts may fail before it ends. The lease counts as **lost** when
a region says that the reservation has ended, or when a whole lease has gone by without a renewal: the credit may
belong to somebody else by then. Work that goes on is not interrupted; `Lease.lost` and `Lease.until_lost` say it
while the block runs, and leaving the block raises `LeaseLost`. Usage can still be captured: it becomes an overrun.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from creditmesh.errors import CreditmeshError, LeaseLost, NotFound, ReservationEnded, Unavailable
from creditmesh.wire.credit import Estimate, Reservation, ReservationReply, ReservationState

if TYPE_CHECKING:
    from creditmesh.calls import Accepted
    from creditmesh.client import AsyncClient

RENEWALS_PER_LEASE: Final = 3


class Lease:
    """A held reservation; made by `AsyncClient.reservation`, used with ``async with``."""

    def __init__(
        self,
        client: "AsyncClient",
        tenant: str,
        amount: int | Estimate,
        *,
        lease_ms: int,
        job: str | None,
        key: str | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._tenant = tenant
        self._amount = amount
        self._lease_ms = lease_ms
        self._job = job
        self._key = key
        self._monotonic = monotonic
        self._view: Reservation | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._reason = ""

    @property
    def view(self) -> Reservation:
        """The reservation as the last reply showed it."""
        if self._view is None:
            raise RuntimeError("the reservation is made on entering the block")
        return self._view

    @property
    def id(self) -> str:
        """The reservation's id."""
        return self.view.reservation

    @property
    def lost(self) -> bool:
        """Whether the lease ended before the block did."""
        return self._ended.is_set()

    async def until_lost(self) -> str:
        """Waits until the lease is lost, and says why; for work that would rather stop."""
        await self._ended.wait()
        return self._reason

    async def capture(self, amount: int, *, at: int | None = None, final: bool = False) -> "Accepted[ReservationReply]":
        """Records usage; `final` gives back the rest at once."""
        accepted = await self._client.capture(self._tenant, self.id, amount, at=at, final=final)
        if final:
            await self._stop_renewal()
        self._view = accepted.reply
        return accepted

    async def __aenter__(self) -> Self:
        asked_at = self._monotonic()
        accepted = await self._client.reserve(
            self._tenant, self._amount, lease_ms=self._lease_ms, job=self._job, key=self._key
        )
        self._view = accepted.reply
        self._renewal = asyncio.create_task(self._keep(asked_at), name=f"renew {self.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_renewal()
        try:
            await self._give_back()
        except CreditmeshError as release_error:
            if error is None:
                raise
            error.add_note(f"and the reservation was not released: {release_error}")

    async def _stop_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    async def _give_back(self) -> None:
        if self.view.state is ReservationState.OPEN:
            try:
                self._view = (await self._client.release(self._tenant, self.id)).reply
            except ReservationEnded as ended:
                self._lose(str(ended))
        if self.lost:
            raise LeaseLost(self.id, self._reason)

    async def _keep(self, renewed_at: float) -> None:
        lease_s = self._lease_ms / 1000
        while not self.lost:
            await self._client.sleep(lease_s / RENEWALS_PER_LEASE)
            asked_at = self._monotonic()
            try:
                accepted = await self._client.renew(self._tenant, self.id, lease_ms=self._lease_ms)
            except (Unavailable, NotFound) as error:  # a region that was failed over to may not have heard of it yet
                if self._monotonic() - renewed_at >= lease_s:
                    self._lose(str(error))
            except CreditmeshError as error:
                self._lose(str(error))
            else:
                renewed_at = asked_at
                self._view = accepted.reply

    def _lose(self, reason: str) -> None:
        if not self.lost:
            self._reason = reason
            self._ended.set()
