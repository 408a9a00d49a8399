"""One number for canonical state: it depends on what the state is, and on nothing else."""

from ledger.account import Account
from ledger.ids import TenantId
from ledger.rules import Rules
from node.digest import shown, tenant_digest
from tests.regions import Regions, capture, debit, grant, reserve
from tests.unit.ledger.story import VOID, Story
from tests.unit.ledger.story import grant as granting
from tests.unit.ledger.story import hold as holding
from tests.unit.ledger.story import release as releasing
from tests.world import TENANT

OTHER = TenantId("globex")


def account(*, lot: str = "L", amount: int = 100, held: int = 10, lease: int = 500) -> Account:
    story = Story()
    story.do(10, granting(lot, amount))
    story.do(20, holding("c", held, lease))
    return story.account


def test_it_is_shown_as_32_hex_digits() -> None:
    assert shown(0) == "0" * 32
    assert shown(2**128 - 1) == "f" * 32


def test_the_same_state_has_the_same_digest() -> None:
    assert tenant_digest(TENANT, account()) == tenant_digest(TENANT, account())


def ruled() -> Account:
    story = Story()
    story.account = account()
    story.do(30, VOID)
    return story.account


def test_anything_in_it_changes_the_digest() -> None:
    digests = {
        tenant_digest(TENANT, account()),
        tenant_digest(OTHER, account()),
        tenant_digest(TENANT, account(lot="M")),
        tenant_digest(TENANT, account(amount=101)),
        tenant_digest(TENANT, account(held=11)),
        tenant_digest(TENANT, account(lease=501)),
        tenant_digest(TENANT, Account(Rules())),
        tenant_digest(TENANT, ruled()),
    }
    assert len(digests) == 8


def test_the_order_in_which_lots_and_claims_came_into_memory_does_not_matter() -> None:
    first = Story()
    first.do(10, granting("L", 100))
    first.do(20, granting("M", 100))
    first.do(30, holding("c", 10))
    first.do(40, holding("d", 20))
    second = Account(Rules())
    second.load(
        dict(first.account.totals),
        first.account.policy,
        reversed(first.account.lots.values()),
        reversed(first.account.claims.values()),
    )
    assert list(second.lots) != list(first.account.lots)
    assert tenant_digest(TENANT, first.account) == tenant_digest(TENANT, second)


def test_a_claim_that_has_ended_counts_the_same_in_memory_and_in_the_rows() -> None:
    story = Story()
    story.do(10, granting("L", 100))
    story.do(20, holding("c", 10))
    story.do(30, releasing("c"))
    before = tenant_digest(TENANT, story.account)
    del story.account.claims[story.claim("c").id]
    assert tenant_digest(TENANT, story.account) == before


def busy(world: Regions, name: str) -> None:
    for tenant in (TENANT, OTHER):
        world.do(name, grant(f"L-{name}", 100), tenant=tenant)
        world.do(name, reserve(f"c-{name}", 70), tenant=tenant)
        world.do(name, capture(f"c-{name}", 20, final=True), tenant=tenant)


def test_equal_entries_mean_equal_digests_whatever_the_order_of_arrival() -> None:
    world = Regions("ap", "eu", "us")
    world.part()
    for name in world.names:
        busy(world, name)
    assert len({world.region(name).books.digest() for name in world.names}) == 3
    world.meet()
    assert len({world.region(name).books.digest() for name in world.names}) == 1


def test_it_is_kept_up_to_date_entry_by_entry() -> None:
    asked, unasked = Regions("eu"), Regions("eu")
    seen = set()
    for world in (asked, unasked):
        busy(world, "eu")
        if world is asked:
            seen.add(world.region("eu").books.digest())
        world.do("eu", debit("d", 1))
        if world is asked:
            seen.add(world.region("eu").books.digest())
        world.do("eu", grant("N", 1), tenant=TenantId("new"))
    assert asked.region("eu").books.digest() == unasked.region("eu").books.digest()
    assert len({*seen, asked.region("eu").books.digest()}) == 3


def test_neither_checkpoints_nor_eviction_nor_restarts_change_it() -> None:
    world = Regions("eu", tenants_in_memory=0)
    busy(world, "eu")
    digest = world.region("eu").books.digest()
    world.exchange(2_000)
    assert world.region("eu").books.in_memory == {}
    assert world.region("eu").books.digest() == digest
    world.ask("eu", reserve("x", 10_000))
    assert world.region("eu").books.digest() == digest
    world.crash("eu")
    assert world.region("eu").books.digest() == digest
    world.do("eu", debit("d", 1))
    world.exchange(5_000)
    assert world.region("eu").books.in_memory == {}
    changed = world.region("eu").books.digest()
    assert changed != digest
    world.exchange(2_000)
    assert world.region("eu").books.digest() == changed
    world.crash("eu")
    assert world.region("eu").books.digest() == changed
