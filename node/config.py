"""The cluster as its operator describes it: ``cluster.toml``, read strictly.

One file for all regions. What it leaves out has the default that the shipped cluster.toml spells out; what it says is
checked to the last key, and a mistake is one line that names the file and the key. Paths are relative to the file.
"""

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from ledger.amount import MAX_TIME_MS
from ledger.ids import REGION_PATTERN
from ledger.pricing import RateCard, Rates
from ledger.refusal import Limits, Terms
from ledger.rules import Rules
from node.settings import RegionSettings
from replication.codec import MAX_FRAME_BYTES, MAX_PAGE_ENTRIES, MAX_REGIONS

DAY_MS: Final = 86_400_000
MIB: Final = 1 << 20

Name = Annotated[str, Meta(pattern=REGION_PATTERN)]
Interval = Annotated[int, Meta(ge=1, le=DAY_MS)]
Count = Annotated[int, Meta(ge=1)]
GpuType = Annotated[str, Meta(min_length=1, max_length=64)]
Rate = Annotated[int, Meta(ge=0, le=10**12)] | Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$")]
"""What is exact: an integer, or a decimal number as text. A TOML float is neither."""


class Moment(int):
    """A time in ms, which the file says as a date, as a time with its offset, or as a number."""


class ConfigError(Exception):
    """The configuration cannot be used: one line with the file, the key, and what is wrong with it."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. A key that it does not know is an error that names the key."""


class ClusterSection(Section, frozen=True, kw_only=True):
    """``[cluster]``: what tells this cluster's nodes and stores from another's."""

    id: Name


class RegionSection(Section, frozen=True, kw_only=True, omit_defaults=True):
    """``[[region]]``: one region's node. Addresses are ``host:port``."""

    name: Name
    listen: str
    peer_listen: str
    data: Annotated[str, Meta(min_length=1)]
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class LimitsSection(Section, frozen=True, kw_only=True):
    """``[limits]``: what a node takes from a client."""

    body_bytes: Annotated[int, Meta(ge=1024, le=64 * MIB)] = MIB
    batch_bytes: Annotated[int, Meta(ge=1024, le=256 * MIB)] = 16 * MIB
    max_lease_ms: Annotated[int, Meta(ge=1, le=31 * DAY_MS)] = 31 * DAY_MS
    max_ahead_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] = 60_000
    max_late_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] = 35 * DAY_MS
    heartbeat_lease_ms: Annotated[int, Meta(ge=1, le=31 * DAY_MS)] = 600_000
    clock_wait_ms: Annotated[int, Meta(ge=0, le=60_000)] = 2_000


class RulesSection(Section, frozen=True, kw_only=True):
    """``[rules]``: what all regions must fold by alike, for as long as the cluster lives."""

    key_lifetime_ms: Annotated[int, Meta(ge=1, le=MAX_TIME_MS)] = 90 * DAY_MS


class RatesSection(Section, frozen=True, kw_only=True, omit_defaults=True):
    """``[[rates]]``: what GPU time costs from a time on."""

    since: Moment | None = None
    gpu_hour: Annotated[dict[GpuType, Rate], Meta(min_length=1)]
    multiplier: dict[GpuType, Rate] = {}


class TimingSection(Section, frozen=True, kw_only=True):
    """``[timing]``: how long things wait."""

    push_delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 3
    anti_entropy_interval_ms: Interval = 1_000
    settle_after_ms: Interval = 1_000
    settle_at_most_ms: Interval = 10_000
    checkpoint_after_ms: Interval = 5_000
    max_clock_drift_ms: Interval = 10_000


class ReplicationSection(Section, frozen=True, kw_only=True):
    """``[replication]``: how much travels at once."""

    page_entries: Annotated[int, Meta(ge=1, le=MAX_PAGE_ENTRIES)] = 1_000
    page_bytes: Annotated[int, Meta(ge=1024, le=MAX_FRAME_BYTES // 2)] = 256 * 1024
    window_entries: Count = 4_096


class StoreSection(Section, frozen=True, kw_only=True):
    """``[store]``: the file on disk."""

    map_bytes: Annotated[int, Meta(ge=MIB)] = 1 << 30
    max_map_bytes: Annotated[int, Meta(ge=MIB)] = 1 << 40
    min_free_bytes: Annotated[int, Meta(ge=0)] = 256 * MIB


class MemorySection(Section, frozen=True, kw_only=True):
    """``[memory]``: what stays at hand."""

    tenants_in_memory: Count = 100_000


class ReconciliationSection(Section, frozen=True, kw_only=True):
    """``[reconciliation]``: how often it is looked for what does not add up, and from when on that is a finding."""

    interval_ms: Annotated[int, Meta(ge=0, le=DAY_MS)] = 60_000
    grace_ms: Annotated[int, Meta(ge=0, le=31 * DAY_MS)] = 900_000


class ChaosSection(Section, frozen=True, kw_only=True):
    """``[chaos]``: faults on purpose."""

    enabled: bool = False


class _File(Section, frozen=True, kw_only=True):
    cluster: ClusterSection
    region: Annotated[list[RegionSection], Meta(min_length=1, max_length=MAX_REGIONS)]
    limits: LimitsSection = LimitsSection()
    rules: RulesSection = RulesSection()
    rates: list[RatesSection] = []
    timing: TimingSection = TimingSection()
    replication: ReplicationSection = ReplicationSection()
    store: StoreSection = StoreSection()
    memory: MemorySection = MemorySection()
    reconciliation: ReconciliationSection = ReconciliationSection()
    chaos: ChaosSection = ChaosSection()


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RegionConfig(Struct, frozen=True, kw_only=True):
    """One region's place: its name, its two addresses, its directory."""

    name: str
    listen: Address
    peer_listen: Address
    data: Path
    weight: int = 1


class NodeConfig(Struct, frozen=True, kw_only=True):
    """All that one region's node is told."""

    cluster: str
    region: RegionConfig
    peers: tuple[RegionConfig, ...]
    limits: LimitsSection
    rules: RulesSection
    rates: RateCard
    timing: TimingSection
    replication: ReplicationSection
    store: StoreSection
    memory: MemorySection
    reconciliation: ReconciliationSection
    chaos: ChaosSection

    @property
    def settings(self) -> RegionSettings:
        """What of it the pure region reads."""
        return RegionSettings(
            cluster=self.cluster,
            region=self.region.name,
            regions=tuple(sorted((self.region.name, *(peer.name for peer in self.peers)))),
            terms=Terms(
                Limits(
                    max_lease_ms=self.limits.max_lease_ms,
                    max_ahead_ms=self.limits.max_ahead_ms,
                    max_late_ms=self.limits.max_late_ms,
                    heartbeat_lease_ms=self.limits.heartbeat_lease_ms,
                ),
                self.rates,
            ),
            weights=tuple(sorted((region.name, region.weight) for region in (self.region, *self.peers))),
            rules=Rules(key_lifetime_ms=self.rules.key_lifetime_ms),
            settle_after_ms=self.timing.settle_after_ms,
            settle_at_most_ms=self.timing.settle_at_most_ms,
            checkpoint_after_ms=self.timing.checkpoint_after_ms,
            max_clock_drift_ms=self.timing.max_clock_drift_ms,
            anti_entropy_interval_ms=self.timing.anti_entropy_interval_ms,
            page_entries=self.replication.page_entries,
            page_bytes=self.replication.page_bytes,
            window_entries=self.replication.window_entries,
            tenants_in_memory=self.memory.tenants_in_memory,
            grace_ms=self.reconciliation.grace_ms,
        )


class ClusterConfig(Struct, frozen=True, kw_only=True):
    """The whole file, checked: a node's part of it is `node`."""

    path: Path
    regions: tuple[RegionConfig, ...]
    rates: RateCard
    file: _File

    def node(self, region: str) -> NodeConfig:
        """What the node of `region` is told. Raises `ConfigError` for a region that the file does not name."""
        own = next((known for known in self.regions if known.name == region), None)
        if own is None:
            names = ", ".join(known.name for known in self.regions)
            raise ConfigError(f"{self.path}: no region {region!r}; there are: {names}")
        file = self.file
        return NodeConfig(
            cluster=file.cluster.id,
            region=own,
            peers=tuple(known for known in self.regions if known is not own),
            limits=file.limits,
            rules=file.rules,
            rates=self.rates,
            timing=file.timing,
            replication=file.replication,
            store=file.store,
            memory=file.memory,
            reconciliation=file.reconciliation,
            chaos=file.chaos,
        )


def load(path: Path, data: Path | None = None) -> ClusterConfig:
    """Read the file at `path`. With `data`, each region's directory is ``data/<region>``, whatever the file says.

    Raises `ConfigError`.
    """
    file = _read(path)
    regions = tuple(_region(path, index, section, data) for index, section in enumerate(file.region))
    for first, again, what in _clashes(regions):
        raise ConfigError(f"{path}: {again}: {what} is taken by {first} already")
    if file.timing.settle_at_most_ms < file.timing.settle_after_ms:
        raise ConfigError(f"{path}: timing.settle_at_most_ms: must be at least timing.settle_after_ms")
    if file.store.max_map_bytes < file.store.map_bytes:
        raise ConfigError(f"{path}: store.max_map_bytes: must be at least store.map_bytes")
    if file.limits.batch_bytes < file.limits.body_bytes:
        raise ConfigError(f"{path}: limits.batch_bytes: must be at least limits.body_bytes")
    if file.rules.key_lifetime_ms < file.limits.max_late_ms:
        # Usage that is sent again must not be taken a second time because its key is forgotten already.
        raise ConfigError(f"{path}: rules.key_lifetime_ms: must be at least limits.max_late_ms")
    return ClusterConfig(path=path, regions=regions, rates=_rate_card(path, file.rates), file=file)


def _read(path: Path) -> _File:
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File, dec_hook=_moment)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_fault(str(error))}") from None


_AT: Final = re.compile(r" - at `\$\.?(?P<at>[^`]*)`$")
_KEYED: Final = re.compile(r"^Object (?P<what>contains unknown field|missing required field) `(?P<key>[^`]*)`")
_KEY_FAULTS: Final = {"contains unknown field": "unknown key", "missing required field": "missing"}


def _fault(message: str) -> str:
    """``key: what is wrong``, from what msgspec says."""
    found = _AT.search(message)
    at = found["at"] if found else ""
    keyed = _KEYED.match(message)
    if keyed is None:
        rule = message if found is None else message[: found.start()]
        return f"{at}: {rule[0].lower()}{rule[1:]}" if at else rule
    key = f"{at}.{keyed['key']}" if at else keyed["key"]
    return f"{key}: {_KEY_FAULTS[keyed['what']]}"


def _region(path: Path, index: int, section: RegionSection, data: Path | None) -> RegionConfig:
    def address(key: str, text: str) -> Address:
        try:
            return parse_address(text)
        except ValueError as error:
            raise ConfigError(f"{path}: region[{index}].{key}: {text!r} {error}") from None

    # Against the file's directory, wherever the process was started; an absolute path stays as it is.
    place = path.parent / section.data if data is None else data / section.name
    return RegionConfig(
        name=section.name,
        listen=address("listen", section.listen),
        peer_listen=address("peer_listen", section.peer_listen),
        data=place.resolve(),
        weight=section.weight,
    )


def _rate_card(path: Path, sections: list[RatesSection]) -> RateCard:
    rates = [Rates(section.since or 0, *_exact(section)) for section in sections]
    begins = [each.since for each in rates]
    for index, since in enumerate(begins):
        if since in begins[:index]:
            raise ConfigError(f"{path}: rates[{index}].since: the same time as rates[{begins.index(since)}].since")
    return RateCard(rates)


def _exact(section: RatesSection) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    per_gpu_hour = {gpu_type: Fraction(rate) for gpu_type, rate in section.gpu_hour.items()}
    return per_gpu_hour, {name: Fraction(rate) for name, rate in section.multiplier.items()}


def _moment(_: type, given: object) -> Moment:
    """What TOML has for a time. Raises ValueError."""
    match given:
        case datetime(tzinfo=None):
            raise ValueError("must say its offset from UTC, such as a Z at its end")
        case datetime():
            return Moment(round(given.timestamp() * 1000))
        case date():
            return Moment(round(datetime(given.year, given.month, given.day, tzinfo=UTC).timestamp() * 1000))
        case int() if 0 <= given <= MAX_TIME_MS and given is not True and given is not False:
            return Moment(given)
        case _:
            raise ValueError("must be a date, a time with its offset from UTC, or milliseconds since the epoch")


def parse_address(text: str) -> Address:
    """``host:port`` on loopback. Raises ValueError that says what it is not."""
    host, separator, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    if not separator or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("is not host:port with a port from 1 to 65535")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("has a host that is neither an IP address nor localhost") from None
    if not ip.is_loopback:
        raise ValueError("is not on loopback: refused for now, it needs TLS and tokens")
    return Address(str(ip), int(port))


def _clashes(regions: tuple[RegionConfig, ...]) -> Iterator[tuple[str, str, str]]:
    """What two keys claim at once: the first key, the second, and the thing."""
    taken: dict[object, str] = {}
    for index, region in enumerate(regions):
        claims: list[tuple[str, object, str]] = [
            ("name", region.name, repr(region.name)),
            ("listen", region.listen, str(region.listen)),
            ("peer_listen", region.peer_listen, str(region.peer_listen)),
            ("data", region.data, str(region.data)),
        ]
        for key, thing, shown in claims:
            at = f"region[{index}].{key}"
            if thing in taken:
                yield taken[thing], at, shown
            taken[thing] = at
