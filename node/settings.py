"""What a region needs to know to decide anything: its place in the cluster, its limits, its intervals. Times in ms."""

from msgspec import Struct

from ledger.refusal import Terms
from ledger.rules import Rules


class RegionSettings(Struct, frozen=True, kw_only=True):
    """The part of the configuration that the pure region reads; defaults are those of cluster.toml."""

    cluster: str
    region: str
    regions: tuple[str, ...]
    terms: Terms
    rules: Rules = Rules()
    weights: tuple[tuple[str, int], ...] = ()
    """How a grant is split over all regions for a tenant under escrow; evenly if it is not said."""
    settle_after_ms: int = 1_000
    settle_at_most_ms: int = 10_000
    checkpoint_after_ms: int = 5_000
    max_clock_drift_ms: int = 10_000
    anti_entropy_interval_ms: int = 1_000
    page_entries: int = 1_000
    page_bytes: int = 256 * 1024
    window_entries: int = 4_096
    tenants_in_memory: int = 100_000
    grace_ms: int = 900_000
    """How long nothing need be heard of a job, or reserved for it by its reports, before that is a finding."""

    @property
    def peers(self) -> tuple[str, ...]:
        """The other regions of the cluster."""
        return tuple(region for region in self.regions if region != self.region)
