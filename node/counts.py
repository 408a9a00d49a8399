"""What has happened in a region since its node began, counted for metrics."""

from msgspec import Struct


class Counts(Struct):
    """Counts of this boot; they begin at nothing with every start."""

    conflicts: dict[str, int]
    """By kind: operations of this region that lost."""
    lapsed: int = 0
    """Reservations of this region whose lease ended."""
    moved: int = 0
    """Parts of lots that were moved to the shares of other regions."""
    forgotten: int = 0
    """Idempotency keys whose lifetime was over."""
