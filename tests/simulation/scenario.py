"""The world that a seed draws: how many regions, how large everything is, what clients ask, what goes wrong and when.

Everything is drawn before anything happens, so that a failing world can be made smaller by leaving parts of it out.
Times are in ms, durations of faults in beats: a beat is the anti-entropy interval, which sets the pace of all else.
"""

from enum import StrEnum
from fractions import Fraction
from random import Random
from typing import Final

from msgspec import Struct

from ledger.pricing import RateCard, Rates
from ledger.refusal import Limits, Terms
from ledger.rules import Rules
from node.settings import RegionSettings
from tests.reference.admit import House, Prices

START_MS: Final = 1_800_000_000_000
MOST_REGIONS: Final = 7
DAY_MS: Final = 86_400_000
GPU: Final = "gpu"
PRICES: Final = (
    Prices(0, {GPU: Fraction(60)}, {"high": Fraction(3, 2)}),
    Prices(START_MS + 30_000, {GPU: Fraction(90)}, {"high": Fraction(2)}),
)
"""A credit for a GPU-minute, and soon half as much again."""

RATES: Final = RateCard(Rates(each.since, each.per_gpu_hour, each.multipliers) for each in PRICES)

_SHORT_LIFETIME_BEATS: Final = 20
"""After so long a key is forgotten, in some worlds."""
_AMONG_THE_FIRST: Final = 60

NAMES: Final = ("ap-south", "ca-west", "eu-west", "me-north", "sa-east", "us-east", "us-west")


class Fault(StrEnum):
    """What can go wrong, at a time drawn."""

    CUT = "cut"
    """Two regions lose sight of each other."""
    SPLIT = "split"
    """The regions fall into two groups."""
    LONG_CUT = "long cut"
    """One region is alone for a large part of the run."""
    ONE_WAY = "one-way"
    """Frames of one region no longer reach another, those of the other still come."""
    RING = "ring"
    """Every region sees only its two neighbours."""
    BRIDGE = "bridge"
    """Two groups see each other only through one region."""
    FLAP = "flap"
    """A link goes down and up, again and again."""
    CRASH = "crash"
    """A process is gone, and with it what was not on disk; of a batch on its way, all or nothing is there."""
    PAUSE = "pause"
    """A process stands still and goes on later, as if no time had passed."""
    RESTORED_BACKUP = "restored backup"
    """A region starts again from an old copy of its disk."""
    LOST_DISK = "lost disk"
    """A region starts again from nothing."""
    CRASH_IN_START = "crash in a start"
    """A process is gone, and so is the next one while it starts: in the middle of a rebuild, if there is one to do."""
    STOP = "stop"
    """A process is told to stop: it brings to the disk what it has accepted, and says goodbye."""
    DISK_FULL = "disk full"
    """A commit fails, and nobody knows whether it happened; the node stops until there is room."""
    LOW_DISK = "low disk"
    """Room gets scarce: clients are refused, gossip goes on."""
    CLOCK_STEP = "clock step"
    """A wall clock is set back or forward."""
    CLOCK_FREEZE = "clock freeze"
    """A wall clock stands still."""
    FLIPPED_BIT = "flipped bit"
    """A stored value is no longer what was written."""
    REBOOT = "reboot"
    """A wall clock leaps ahead, soon after the machine goes down; it comes back with the right time and no network."""
    NONSENSE = "nonsense"
    """A peer says what is well-formed, and cannot be."""


_FEWEST_REGIONS: Final = {Fault.RING: 4, Fault.BRIDGE: 3}
"""With fewer a fault would do nothing."""


class Happening(Struct, frozen=True):
    """One fault: when, for how long, and numbers that choose whom it hits."""

    at: int
    fault: Fault
    lasts: int
    one: int
    other: int
    coin: float


class Ask(StrEnum):
    """What a client wants to do."""

    GRANT = "grant"
    HOLD = "hold"
    RENEW = "renew"
    CAPTURE = "capture"
    RELEASE = "release"
    DEBIT = "debit"
    REFUND = "refund"
    REVOKE = "revoke"
    TRANSFER = "transfer"
    POLICY = "policy"
    HEARTBEAT = "heartbeat"
    USAGE = "usage"
    BATCH = "batch"
    """Several of these at once."""
    SNAPSHOT = "snapshot"
    """Nothing: a scheduler says what it knows of its jobs."""
    APPLY = "apply"
    """A finding is to be settled: one that stands, or one that was heard of before."""
    ACKNOWLEDGE = "acknowledge"
    """A conflict is to be acknowledged, perhaps once more."""
    READ = "read"
    AGAIN = "again"
    """An earlier request once more, in whatever region."""
    MISUSE = "misuse"
    """A key that was used for another request."""
    NONSENSE = "nonsense"
    """A request that has to be refused."""


class Intent(Struct, frozen=True):
    """What one client wants to do at a time; the numbers choose what it is about."""

    at: int
    client: int
    ask: Ask
    tenant: int
    amount: int
    choice: int
    other: int


class Weather(Struct, frozen=True):
    """How the network behaves all the time; rates are per frame."""

    fastest_ms: int
    slowest_ms: int
    loss: float
    duplication: float
    stray_ms: int
    """How much later a frame may come that is held up, overtaken by others."""
    reordering: float
    garbage: float
    """How often a frame arrives with bytes changed."""


class Clients(Struct, frozen=True):
    """How clients behave; rates are per request or reply."""

    per_region: int
    timeout_ms: int
    attempts: int
    elsewhere: float
    """How often a retry goes to another region."""
    loss: float


class Scenario(Struct, frozen=True):
    """A world."""

    seed: int
    regions: tuple[str, ...]
    tenants: int
    beat: int
    tick: int
    duration: int
    settings: dict[str, int]
    limits: Limits
    key_lifetime_ms: int
    escrow: bool
    """Whether tenants may be put under escrow."""
    lease_ms: int
    lot_ms: int
    largest_amount: int
    opening: int
    """What each tenant is given in the beginning."""
    weather: Weather
    clients: Clients
    disk_ms: int
    skew_ms: int
    drift_ppm: int
    happenings: tuple[Happening, ...]
    intents: tuple[Intent, ...]

    def settings_of(self, region: str) -> RegionSettings:
        """What the node of a region is configured with."""
        return RegionSettings(
            cluster="simulated",
            region=region,
            regions=self.regions,
            terms=Terms(
                self.limits, RateCard([Rates(each.since, each.per_gpu_hour, each.multipliers) for each in PRICES])
            ),
            rules=Rules(self.key_lifetime_ms),
            **self.settings,  # type: ignore[arg-type]
        )

    def house_of(self, region: str) -> House:
        """The same as the reference has it."""
        return House(region, self.regions, self.limits, PRICES)


def draw(seed: int) -> Scenario:
    """The world of a seed."""
    random = Random(f"world {seed}")
    beat = random.choice([100, 300, 1_000, 5_000, 30_000, 300_000])
    duration = beat * random.randint(30, 110)
    regions = tuple(sorted(random.sample(NAMES, random.choice([2, 2, 3, 3, 3, 4, 5, MOST_REGIONS]))))
    drift = random.choice([beat, 3 * beat, 10 * beat])
    largest = random.choice([3, 10, 25])
    clients = Clients(
        per_region=random.randint(1, 3),
        timeout_ms=random.choice([beat // 2, 2 * beat, 10 * beat]),
        attempts=random.randint(1, 4),
        elsewhere=random.choice([0.0, 0.3, 0.9]),
        loss=random.choice([0.0, 0.0, 0.02, 0.2]),
    )
    return Scenario(
        seed=seed,
        regions=regions,
        tenants=random.choice([1, 1, 2, 3, 4]),
        beat=beat,
        tick=max(20, beat // random.choice([2, 4, 8])),
        duration=duration,
        settings=_settings(random, beat, drift),
        limits=Limits(
            max_lease_ms=40 * beat,
            max_ahead_ms=random.choice([0, beat, 10 * beat]),
            max_late_ms=random.choice([30 * beat, DAY_MS, DAY_MS]),
            heartbeat_lease_ms=random.choice([2, 10]) * beat,
        ),
        key_lifetime_ms=random.choice([_SHORT_LIFETIME_BEATS * beat, 90 * DAY_MS, 90 * DAY_MS]),
        escrow=random.random() < 0.4,
        lease_ms=beat * random.choice([3, 12, 40]),
        lot_ms=beat * random.choice([10, 60, 400]),
        largest_amount=largest,
        opening=largest * random.choice([3, 8, 20]),
        weather=_weather(random, beat),
        clients=clients,
        disk_ms=random.choice([0, 1, 5, beat // 2]),
        skew_ms=random.choice([0, drift // 10, drift // 2, drift // 2, 2 * drift]),
        drift_ppm=random.choice([0, 200, 5_000]),
        happenings=_happenings(random, beat, duration, len(regions)),
        intents=(
            *_intents(random, beat, duration, len(regions) * clients.per_region),
            *_reconciling(Random(f"reconciliation {seed}"), duration, len(regions) * clients.per_region),
            *_acknowledging(Random(f"acknowledging {seed}"), duration, len(regions) * clients.per_region),
            *_coming_back(Random(f"coming back {seed}"), beat, duration, len(regions) * clients.per_region),
        ),
    )


def _settings(random: Random, beat: int, drift: int) -> dict[str, int]:
    return {
        "settle_after_ms": beat * random.choice([0, 1, 3]),
        "settle_at_most_ms": beat * random.choice([2, 10]),
        "checkpoint_after_ms": beat * random.choice([0, 2, 20]),
        "max_clock_drift_ms": drift,
        "anti_entropy_interval_ms": beat,
        "page_entries": random.choice([1, 3, 20, 1_000]),
        "page_bytes": random.choice([400, 5_000, 256 * 1024]),
        "window_entries": random.choice([2, 10, 4_096]),
        "tenants_in_memory": random.choice([0, 1, 100]),
        "grace_ms": 10 * beat,
    }


def _weather(random: Random, beat: int) -> Weather:
    fastest = random.choice([0, 1, beat // 20])
    rough = random.random() < 0.6
    return Weather(
        fastest_ms=fastest,
        slowest_ms=fastest + random.choice([1, beat // 10, beat]),
        loss=random.choice([0.0, 0.01, 0.1, 0.3]) if rough else 0.0,
        duplication=random.choice([0.0, 0.02, 0.2]) if rough else 0.0,
        stray_ms=beat * random.choice([1, 5]),
        reordering=random.choice([0.0, 0.05, 0.5]) if rough else 0.0,
        garbage=random.choice([0.0, 0.0, 0.003, 0.03]) if rough else 0.0,
    )


def _happenings(random: Random, beat: int, duration: int, regions: int) -> tuple[Happening, ...]:
    weights = {
        fault: random.choice([0, 0, 1, 1, 4]) if regions >= _FEWEST_REGIONS.get(fault, 2) else 0 for fault in Fault
    }
    if not any(weights.values()):
        weights[Fault.SPLIT] = 1
    drawn = random.choices(list(weights), list(weights.values()), k=random.choice([0, 3, 8, 20]))
    return tuple(
        Happening(
            at=random.randrange(beat, duration),
            fault=fault,
            lasts=duration // 2 if fault is Fault.LONG_CUT else beat * random.choice([1, 4, 15, 40]),
            one=random.randrange(MOST_REGIONS),
            other=random.randrange(MOST_REGIONS),
            coin=random.random(),
        )
        for fault in drawn
    )


def _reconciling(random: Random, duration: int, clients: int) -> tuple[Intent, ...]:
    """What operators and schedulers do beside the clients, in some worlds."""
    return tuple(
        Intent(
            at=random.randrange(duration),
            client=random.randrange(clients),
            ask=random.choice((Ask.SNAPSHOT, Ask.APPLY, Ask.APPLY)),
            tenant=random.randrange(1_000),
            amount=random.randrange(1_000_000),
            choice=random.randrange(1_000_000),
            other=random.randrange(1_000_000),
        )
        for _ in range(random.choice([0, 0, 10, 60]))
    )


def _acknowledging(random: Random, duration: int, clients: int) -> tuple[Intent, ...]:
    """What operators say of conflicts, in some worlds."""
    return tuple(
        Intent(
            at=random.randrange(duration // 3, duration),
            client=random.randrange(clients),
            ask=Ask.ACKNOWLEDGE,
            tenant=random.randrange(1_000),
            amount=random.randrange(1_000_000),
            choice=random.randrange(1_000_000),
            other=random.randrange(1_000_000),
        )
        for _ in range(random.choice([0, 0, 6, 60]))
    )


def _coming_back(random: Random, beat: int, duration: int, clients: int) -> tuple[Intent, ...]:
    """What clients ask once more that they had asked among the first, in some worlds: their keys may be forgotten."""
    return tuple(
        Intent(
            at=random.randrange(min(_SHORT_LIFETIME_BEATS * beat, duration - 1), duration),
            client=random.randrange(clients),
            ask=Ask.AGAIN,
            tenant=random.randrange(1_000),
            amount=random.randrange(1_000_000),
            choice=random.randrange(_AMONG_THE_FIRST),
            other=random.randrange(1_000_000),
        )
        for _ in range(random.choice([0, 0, 20]))
    )


def _intents(random: Random, beat: int, duration: int, clients: int) -> tuple[Intent, ...]:
    weights = {
        Ask.GRANT: 3, Ask.HOLD: 10, Ask.RENEW: 5, Ask.CAPTURE: 6, Ask.RELEASE: 5, Ask.DEBIT: 8, Ask.REFUND: 4,
        Ask.REVOKE: random.choice([0, 0.5, 2]), Ask.TRANSFER: random.choice([0, 2, 5]),
        Ask.POLICY: random.choice([0, 0.5, 2]), Ask.HEARTBEAT: random.choice([0, 3]),
        Ask.USAGE: random.choice([0, 3, 10]), Ask.BATCH: random.choice([0, 1, 3]),
        Ask.READ: 2, Ask.AGAIN: 3, Ask.MISUSE: 0.6, Ask.NONSENSE: 2,
    }  # fmt: skip
    count = random.choice([60, 100, 200])
    bursts = [random.randrange(3 * beat, duration) for _ in range(random.choice([1, 4, 30]))]
    width = max(1, duration // random.choice([3, 20, 200]))
    return tuple(
        Intent(
            at=min(duration - 1, random.choice(bursts) + random.randrange(width)),
            client=random.randrange(clients),
            ask=random.choices(list(weights), list(weights.values()))[0],
            tenant=random.randrange(1_000),
            amount=random.randrange(1_000_000),
            choice=random.randrange(1_000_000),
            other=random.randrange(1_000_000),
        )
        for _ in range(count)
    )
