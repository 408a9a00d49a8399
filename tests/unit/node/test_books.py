"""All tenants of a region: who there is, what they owe, whose books are in memory."""

from ledger.command import OnShortage
from ledger.ids import TenantId
from ledger.refusal import Reason, Refusal
from node.region import Accepted
from tests.regions import Regions, capture, debit, grant, reserve
from tests.world import TENANT

OTHER = TenantId("globex")


class TestTenants:
    def test_a_tenant_begins_with_a_grant(self) -> None:
        world = Regions("eu")
        answer = world.ask("eu", reserve("a", 30))
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"tenant": "acme"})
        assert world.region("eu").books.existing(TENANT, world.now) is None
        assert list(world.region("eu").books.tenants()) == []

    def test_all_are_listed_by_name_in_memory_or_not(self) -> None:
        world = Regions("eu", tenants_in_memory=1)
        for name in ("zeta", "alpha", "mid"):
            world.do("eu", grant("L", 1), tenant=TenantId(name))
        world.exchange(2_000)
        world.do("eu", grant("M", 1), tenant=TenantId("beta"))
        world.do("eu", grant("M", 1), tenant=TenantId("mid"))
        assert list(world.region("eu").books.tenants()) == ["alpha", "beta", "mid", "zeta"]

    def test_what_each_owes_is_known_also_after_a_restart(self) -> None:
        world = Regions("eu", tenants_in_memory=1)
        for name, owed in ((TENANT, 7), (OTHER, 9)):
            world.do("eu", grant("L", 1), tenant=name)
            world.do("eu", debit("d", 1 + owed, OnShortage.DEBT), tenant=name)
        assert world.region("eu").books.debts() == {TENANT: 7, OTHER: 9}
        world.exchange(2_000)
        world.crash("eu")
        assert world.region("eu").books.debts() == {TENANT: 7, OTHER: 9}
        world.do("eu", grant("M", 20), tenant=OTHER)
        assert list(world.region("eu").books.debts()) == [TENANT]


class TestMemory:
    def story(self, tenants_in_memory: int) -> Regions:
        """Three tenants in turn, with a conflict each, and rests in which books may be dropped."""
        world = Regions("eu", "us", tenants_in_memory=tenants_in_memory)
        tenants = [TENANT, OTHER, TenantId("initech")]
        for tenant in tenants:
            world.do("eu", grant("L", 100), tenant=tenant)
        world.exchange(2_000)
        world.part()
        for tenant in tenants:
            world.do("eu", reserve("a", 80), tenant=tenant)
            world.do("us", reserve("b", 80), key="b", tenant=tenant)
        world.put_right()
        world.exchange(3_000)
        for tenant in tenants:
            world.do("eu", capture("a", 30, final=True), tenant=tenant)
        world.exchange(3_000)
        return world

    def test_dropping_books_from_memory_changes_nothing(self) -> None:
        small, large = self.story(1), self.story(100)
        for world, count in ((small, 1), (large, 3)):
            assert len(world.region("us").books.in_memory) == count
        assert (
            small.region("us").books.digest() == large.region("us").books.digest() == small.region("eu").books.digest()
        )
        assert small.reports("us") == large.reports("us")
        assert small.region("us").books.debts() == large.region("us").books.debts()
        assert small.region("us").books.debts() == dict.fromkeys((TENANT, OTHER, TenantId("initech")), 10)
        assert small.audit("us").ok
        retry = small.ask("us", reserve("b", 80), key="b", tenant=OTHER)
        assert isinstance(retry, Accepted)
        assert retry.replayed

    def test_the_tenant_touched_last_stays(self) -> None:
        world = self.story(1)
        world.do("us", debit("x", 1, OnShortage.DEBT), tenant=OTHER)
        world.exchange(3_000)
        assert list(world.region("us").books.in_memory) == [OTHER]

    def test_of_many_that_could_be_dropped_it_is_the_one_not_touched_for_longest(self) -> None:
        world = self.story(2)
        region = world.region("us")
        stays, goes = region.books.in_memory
        world.pass_time(1)
        region.books.existing(stays, world.now)
        (read,) = {TENANT, OTHER, TenantId("initech")} - {stays, goes}
        world.pass_time(1)
        region.books.existing(read, world.now)
        world.exchange(1_500)
        assert set(region.books.in_memory) == {stays, read}

    def test_a_tenant_that_may_have_to_be_put_right_is_not_dropped(self) -> None:
        world = Regions("eu", "us", tenants_in_memory=0, settle_after_ms=5_000)
        world.do("eu", grant("L", 100))
        world.exchange(3_000)
        us = world.region("us")
        assert (us.unsettled_count, list(us.books.in_memory), us.books.in_memory[TENANT].is_idle) == (1, [TENANT], True)
        world.exchange(5_000)
        assert (us.unsettled_count, us.books.in_memory) == (0, {})

    def test_a_tenant_that_is_not_put_right_yet_is_not_dropped(self) -> None:
        world = Regions("eu", "us", tenants_in_memory=0, settle_after_ms=10_000)
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.meet()
        world.exchange(3_000)
        assert list(world.region("us").books.in_memory) == [TENANT]
