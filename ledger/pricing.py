"""Prices: GPU time × rate × multiplier → credit.

    amount = ceil(gpus × hours × rate[gpu_type] × multiplier[priority])

in exact arithmetic: rates and multipliers are fractions, time is in milliseconds, and only the end is rounded, up. A
rate card has rates from certain times on; work that spans a change pays each part at its own rates. The amount is
worked out where a request is accepted, and stands in the entry: nobody works it out again.

Work that is paid for piece by piece must not cost more for that. So a piece is priced as the next one behind what was
paid for already: ceil(all until now) − ceil(all before), at the rate of the piece. Then pieces of one rate cost
together what the whole does, however small they are, and of no piece is the price off by as much as 1.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Final

from msgspec import Struct

from ledger.amount import MAX_AMOUNT

HOUR_MS: Final = 3_600_000


class Work(Struct, frozen=True, gc=False):
    """What runs: so many GPUs of a type, at the priority of a class of work (None: no multiplier)."""

    gpu_type: str
    gpus: int
    priority: str | None = None


class NoPrice(Struct, frozen=True, gc=False):
    """Why work has no price: the field at fault and the rule that it breaks."""

    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class Rates:
    """What a GPU-hour costs from a time on (ms), by type of GPU, and by what it is multiplied, by class of work."""

    since: int
    per_gpu_hour: Mapping[str, Fraction]
    multipliers: Mapping[str, Fraction] = field(default_factory=dict)


class RateCard:
    """All rates of a cluster, in the order of time."""

    def __init__(self, rates: Iterable[Rates] = ()) -> None:
        self._rates = sorted(rates, key=lambda rates: rates.since)
        self._begins = [rates.since for rates in self._rates]

    def price(self, work: Work, start: int, end: int, paid_ms: int = 0) -> int | NoPrice:
        """What `work` costs in ``[start, end)`` (ms), behind so much time that was paid for; at least 0."""
        if not self._rates:
            return NoPrice("gpu_type", "has no price: cluster.toml has no rates; say an amount instead")
        cost, begins = Fraction(0), start
        index = bisect_right(self._begins, start) - 1
        if index < 0:
            return NoPrice("gpu_type", f"has no price before {self._begins[0]}")
        while start < end:
            until = min(end, self._begins[index + 1]) if index + 1 < len(self._begins) else end
            rate = _rate(self._rates[index], work)
            if isinstance(rate, NoPrice):
                return rate
            cost += rate * (until - start)
            start, index = until, index + 1
        cost *= Fraction(work.gpus, HOUR_MS)
        paid = cost * paid_ms / (end - begins) if end > begins else cost
        amount = ceil(paid + cost) - ceil(paid)
        if amount > MAX_AMOUNT:
            return NoPrice("gpus", f"times the time costs {amount}, more than {MAX_AMOUNT}")
        return amount


def _rate(rates: Rates, work: Work) -> Fraction | NoPrice:
    rate = rates.per_gpu_hour.get(work.gpu_type)
    if rate is None:
        return NoPrice("gpu_type", f"must be one that has a price: {_listed(rates.per_gpu_hour)}")
    if work.priority is None:
        return rate
    multiplier = rates.multipliers.get(work.priority)
    if multiplier is None:
        known = _listed(rates.multipliers) if rates.multipliers else "there are none"
        return NoPrice("priority", f"must be one that has a multiplier: {known}")
    return rate * multiplier


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
