"""Many seeds: run them, sum up what happened, and say how to get back to each that failed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter, process_time
from typing import Final

from msgspec import Struct, field

from tests.simulation.cluster import Result, simulate
from tests.simulation.rare import EXPECTED
from tests.simulation.scenario import draw

FEWEST_FOR_ALL: Final = 200
"""From so many seeds on, everything that is expected must have happened."""


class Speed(Struct):
    """How fast worlds go by on one core."""

    seeds: int = 0
    entries: int = 0
    simulated_ms: int = 0
    cpu_seconds: float = 0.0

    def add(self, result: Result, cpu_seconds: float) -> None:
        """One more seed."""
        self.seeds += 1
        self.entries += result.entries
        self.simulated_ms += result.simulated_ms
        self.cpu_seconds += cpu_seconds

    @property
    def times_real_time(self) -> float:
        """Simulated seconds by CPU seconds."""
        return self.simulated_ms / 1000 / self.cpu_seconds if self.cpu_seconds else 0.0

    @property
    def entries_per_second(self) -> float:
        """Entries by CPU seconds, all nodes and all checks included."""
        return self.entries / self.cpu_seconds if self.cpu_seconds else 0.0


class Summary(Struct):
    """What came of a campaign."""

    speed: Speed = field(default_factory=Speed)
    speed_by_beat: dict[int, Speed] = field(default_factory=dict)
    """By the beat (ms) of the worlds: the slower they are, the less happens in a second of theirs."""
    slowest_to_settle: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result, cpu_seconds: float) -> None:
        """One more seed."""
        self.speed.add(result, cpu_seconds)
        self.speed_by_beat.setdefault(result.beat_ms, Speed()).add(result, cpu_seconds)
        self.slowest_to_settle = max(self.slowest_to_settle, result.settled_share)
        self.counts.update(result.counts)
        if result.failure is not None:
            self.failures.append(result)

    @property
    def never_happened(self) -> list[str]:
        """What should have happened, and did not."""
        return sorted(EXPECTED - self.counts.keys())

    @property
    def is_well(self) -> bool:
        """Whether nothing failed, and, of a campaign long enough, everything happened."""
        return not self.failures and (self.speed.seeds < FEWEST_FOR_ALL or not self.never_happened)


def run_seed(seed: int) -> tuple[Result, float]:
    """One seed, and the CPU time that it took."""
    began = process_time()
    return simulate(draw(seed)), process_time() - began


def run_seeds(seeds: Iterable[int], workers: int) -> Iterator[tuple[Result, float]]:
    """Every seed's result, in their order."""
    if workers == 1:
        yield from map(run_seed, seeds)
    else:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(run_seed, seeds, chunksize=1)


class Stopwatch:
    """How long something has taken, in seconds of wall time: shown to people, never asserted."""

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return perf_counter() - self._began
