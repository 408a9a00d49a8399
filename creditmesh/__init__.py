"""What other programs import to use a creditmesh cluster: the client, its errors, and the wire schema."""

from creditmesh import wire
from creditmesh.client import Accepted, AsyncClient, Dot
from creditmesh.errors import (
    ApiError,
    CreditmeshError,
    FindingGone,
    IdempotencyMismatch,
    IdInUse,
    InsufficientCredit,
    Invalid,
    LeaseLost,
    LotClosed,
    NotFound,
    ProtocolError,
    ReservationEnded,
    StartUnknown,
    Unavailable,
)
from creditmesh.lease import Lease
from creditmesh.transport import Retry

__all__ = [
    "Accepted",
    "ApiError",
    "AsyncClient",
    "CreditmeshError",
    "Dot",
    "FindingGone",
    "IdInUse",
    "IdempotencyMismatch",
    "InsufficientCredit",
    "Invalid",
    "Lease",
    "LeaseLost",
    "LotClosed",
    "NotFound",
    "ProtocolError",
    "ReservationEnded",
    "Retry",
    "StartUnknown",
    "Unavailable",
    "wire",
]
