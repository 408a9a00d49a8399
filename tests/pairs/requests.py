"""One key in both regions: for the same request, and for another one."""

from collections.abc import Mapping

from ledger.command import Command, DebitUsage, SetPolicy
from ledger.ids import TenantId
from node.region import Accepted
from replication.filed import Filed
from tests.pairs.clash import Fate, fate_of, put_right
from tests.pairs.scenes import EARLIER, LATER, Kind
from tests.regions import (
    HOUR_MS,
    UMBRA,
    Regions,
    capture,
    debit,
    grant,
    heartbeat,
    refund,
    release,
    renew,
    reserve,
    revoke,
    transfer,
    usage,
)
from tests.world import START_MS, TENANT

REQUESTS: Mapping[Kind, Command] = {
    Kind.GRANT: grant("M", 30),
    Kind.HOLD: reserve(None, 10),
    Kind.RENEW: renew("c", 2 * HOUR_MS),
    Kind.CAPTURE: capture("c", 10),
    Kind.RELEASE: release("c"),
    Kind.DEBIT: DebitUsage(10),
    Kind.REFUND: refund("d", 5),
    Kind.REVOKE: revoke("L"),
    Kind.POLICY: SetPolicy(max_held=90),
    Kind.GIVEN: transfer(UMBRA, 10),
    Kind.RECEIVED: transfer(TENANT, 10),
    Kind.HEARTBEAT: heartbeat("train", 2 * HOUR_MS),
    Kind.USAGE: usage("train", 1_500, 1_600, 10),
    Kind.FINAL: usage("train", 1_500, 1_600, 10, final=True),
}
"""What clients ask; the rest is posted by sweepers, under no key."""

OTHER_REQUEST = debit("other", 1)
KEY = "k"


def requests() -> dict[Kind, tuple[Fate, Fate]]:
    """What becomes of the later of two, if they are the same request, and if the earlier is another."""
    return {kind: (_twice(kind, command), _after(kind, command, OTHER_REQUEST)) for kind, command in REQUESTS.items()}


def _twice(kind: Kind, command: Command) -> Fate:
    world, tenant = _world(kind)
    first, loser = _accepted(world, tenant, command, command)
    fate = _fate(world, kind, loser)
    for name in world.names:
        again = world.ask(name, command, KEY, tenant)
        assert isinstance(again, Accepted)
        assert again.replayed
        assert again.filed.entry == first.entry, "who asks again is told of the one that counts"
    return fate


def _after(kind: Kind, command: Command, rival: Command) -> Fate:
    world, tenant = _world(kind)
    _, loser = _accepted(world, tenant, rival, command)
    return _fate(world, kind, loser)


def _world(kind: Kind) -> tuple[Regions, TenantId]:
    """Two regions, and the tenant that asks."""
    world = Regions(EARLIER, LATER)
    for tenant in (TENANT, UMBRA):
        world.do(EARLIER, grant("L", 100, starts=0), tenant=tenant)
    for command in (reserve("c", 60, job="train"), debit("d", 10)):
        world.do(EARLIER, command)
    world.meet()
    world.part()
    world.now = START_MS + 3_500
    return world, UMBRA if kind is Kind.RECEIVED else TENANT


def _accepted(world: Regions, tenant: TenantId, rival: Command, loser: Command) -> tuple[Filed, Filed]:
    first = world.do(EARLIER, rival, KEY, tenant)
    return first, world.do(LATER, loser, KEY, tenant)


def _fate(world: Regions, kind: Kind, loser: Filed) -> Fate:
    put_right(world)
    return fate_of(world, loser, is_receipt=kind is Kind.RECEIVED)
