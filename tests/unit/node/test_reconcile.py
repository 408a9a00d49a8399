"""What does not add up, and what looks like it and does."""

from ledger.command import OnShortage, ReportUsage
from ledger.ids import TenantId
from ledger.pricing import HOUR_MS
from node.finding import FindingKind
from node.reconcile import Reconciliation, reconcile, standing
from node.snapshots import JobState, Source
from tests.regions import debit, grant, release
from tests.unit.node.priced import GRACE, J, Priced, beat, hold, run, the_finding, told
from tests.world import TENANT


class TestARun:
    def test_tenants_that_are_not_in_memory_are_looked_at_and_not_kept(self) -> None:
        world = Priced("eu", tenants_in_memory=0)
        tenants = [TenantId(f"t{number}") for number in range(5)]
        for tenant in tenants:
            world.do("eu", grant("L", 100, until=24 * HOUR_MS), tenant=tenant)
        for tenant in tenants[1:]:
            world.do("eu", hold(), tenant=tenant)
        world.pass_time(GRACE + 1)
        world.exchange(3_000)
        assert not world.region("eu").books.in_memory
        result = run(world)
        assert sorted(finding.tenant for finding in result.found) == tenants[1:]
        assert not world.region("eu").books.in_memory

    def test_a_tenant_of_which_nothing_is_open_is_not_looked_at(self, world: Priced) -> None:
        world.do("eu", debit("d", 10))
        assert list(world.region("eu").tenants_at_work()) == [TENANT], "its entries are recent"
        world.exchange(3_000)
        assert list(world.region("eu").tenants_at_work()) == []

    def test_a_job_that_is_only_reserved_for_does_not_run(self, world: Priced) -> None:
        world.do("eu", hold())
        world.exchange(3_000)
        assert list(world.book("eu").running_jobs()) == []
        world.do("eu", beat())
        assert [job.id for job in world.book("eu").running_jobs()] == [J]
        world.exchange(3_000)
        assert [job.id for job in world.book("eu").running_jobs()] == [J]
        world.do("eu", ReportUsage(J, world.now, final=True))
        assert list(world.book("eu").running_jobs()) == []
        world.exchange(3_000)
        assert list(world.book("eu").running_jobs()) == []

    def test_it_takes_breaks_in_the_middle_of_a_large_tenant(self, world: Priced) -> None:
        for number in range(250):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        breaks = sum(1 for _ in reconcile(world.region("eu"), world.now, Reconciliation()))
        assert breaks == 2

    def test_it_takes_breaks_between_tenants_that_have_to_be_read(self) -> None:
        world = Priced("eu", tenants_in_memory=0)
        for tenant in [TenantId(f"t{number}") for number in range(10)]:
            for number in range(20):
                world.do("eu", grant(f"L{number}", 10, until=24 * HOUR_MS), tenant=tenant)
            world.do("eu", hold(amount=1), tenant=tenant)
        world.exchange(5_000)
        assert not world.region("eu").books.in_memory
        breaks = sum(1 for _ in reconcile(world.region("eu"), world.now, Reconciliation()))
        assert breaks == 2, "10 tenants of 20 lots and a reservation"

    def test_what_happens_in_a_break_is_taken_into_account(self, world: Priced) -> None:
        for number in range(150):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        world.pass_time(GRACE + 1)
        result = Reconciliation(limit=1_000)
        running = reconcile(world.region("eu"), world.now, result)
        next(running)
        for number in range(150):
            world.do("eu", release(f"c{number}"))
        for _ in running:
            pass
        assert 0 < len(result.found) <= 100

    def test_it_says_when_it_was_and_by_which_snapshots(self, world: Priced) -> None:
        told(world, JobState.PENDING)
        result = run(world)
        assert result.at == world.now
        assert result.sources == [Source("slurm", world.now, 1)]

    def test_pages_follow_each_other_the_longest_standing_first(self, world: Priced) -> None:
        for number in range(5):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        world.do("eu", debit("d", 200_000, OnShortage.DEBT))
        world.pass_time(GRACE + 1)
        everything = run(world).found
        assert [finding.since for finding in everything] == sorted(finding.since for finding in everything)
        after, pages = None, []
        while True:
            result = Reconciliation(TENANT, after=after, limit=2)
            for _ in reconcile(world.region("eu"), world.now, result):
                pass
            assert result.counts[FindingKind.NEVER_STARTED] == 5
            assert result.counts[FindingKind.NEGATIVE_BALANCE] == 1
            pages.append(result.found[:2])
            if len(result.found) <= 2:
                break
            after = pages[-1][-1].place
        assert [len(page) for page in pages] == [2, 2, 2]
        assert [finding for page in pages for finding in page] == everything

    def test_a_finding_that_has_changed_is_found_as_it_is_and_one_that_is_gone_is_not(self, world: Priced) -> None:
        started = world.now
        told(world, JobState.RUNNING, started - 1_000)
        finding = the_finding(world)
        world.pass_time(1_000)
        told(world, JobState.RUNNING, started - 1_000)
        again = standing(world.region("eu"), finding, world.now)
        assert again is not None
        assert again.remedy == ReportUsage(J, world.now, started - 1_000, 4)
        world.do("eu", hold())
        assert standing(world.region("eu"), finding, world.now) is None

    def test_both_regions_find_the_same_under_the_same_names(self) -> None:
        world = Priced("eu", "us")
        world.do("eu", grant("L", 100, until=24 * HOUR_MS))
        world.meet()
        world.do("us", hold())
        world.do("eu", hold("d", "k"))
        world.do("eu", beat(job="k", started=True))
        world.do("eu", debit("e", 1_000, OnShortage.DEBT))
        world.put_right()
        world.pass_time(GRACE + 1)
        found = [run(world, name).found for name in world.names]
        assert found[0] == found[1]
        assert len(found[0]) == 3
