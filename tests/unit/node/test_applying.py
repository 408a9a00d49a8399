"""A finding is settled once: asked again, in another region, by two at once, or after it has gone."""

import pytest

from conflict.detect import Kind
from ledger.command import OnShortage, ReleaseHold, ReportHeartbeat, Reserve
from ledger.ids import ClaimId, JobId, TenantId
from ledger.operation import Compensation, Grant, Release
from ledger.refusal import Reason, Refusal
from ledger.rules import Rules
from node.applying import Applied, Gone, apply
from node.finding import Finding, FindingKind, key_of
from node.reconcile import Reconciliation, reconcile
from node.region import Accepted
from node.snapshots import JobState, ScheduledJob
from tests.regions import HOUR_MS, Regions, clash, debit, grant, release, reserve
from tests.world import START_MS, TENANT

GRACE = 60_000


def look(
    world: Regions, name: str, wanted: str | FindingKind | None = None, tenant: TenantId = TENANT
) -> Finding | None:
    """The first finding of a tenant, or the one of that id or kind."""
    result = Reconciliation(tenant, lambda seen: wanted in (None, seen.kind) or seen.is_called(str(wanted)))
    for _ in reconcile(world.region(name), world.now, result):
        pass
    return next(iter(result.found), None)


def ask(world: Regions, name: str, finding: str, tenant: TenantId = TENANT) -> Applied:
    """Somebody asks a region to settle a finding."""
    world.pass_time(1)
    answer = apply(world.region(name), tenant, finding, look(world, name, finding, tenant), world.now)
    world.land(name)
    return answer


def applied(world: Regions, name: str, finding: str) -> Accepted:
    answer = ask(world, name, finding)
    assert isinstance(answer, Accepted), answer
    return answer


@pytest.fixture
def world() -> Regions:
    """Two regions, and a reservation of us of which nobody has heard anything."""
    world = Regions("eu", "us", grace_ms=GRACE)
    world.do("eu", grant("L", 100, until=24 * HOUR_MS))
    world.meet()
    world.do("us", Reserve(60, 10 * HOUR_MS, ClaimId("c"), JobId("j")))
    world.pass_time(GRACE)
    world.meet()
    return world


@pytest.fixture
def finding(world: Regions) -> str:
    found = look(world, "eu")
    assert found is not None
    assert found.kind is FindingKind.NEVER_STARTED
    return found.id


def entries(world: Regions, name: str) -> int:
    return world.book(name).entry_count


def test_its_operation_is_posted_under_its_name(world: Regions, finding: str) -> None:
    answer = applied(world, "eu", finding)
    assert not answer.replayed
    assert answer.filed.entry.content == Release(ClaimId("c"))
    assert answer.filed.key == f"reconciliation:{finding}"
    assert look(world, "eu") is None
    assert world.book("eu").account.held == 0


def test_asked_again_it_gives_the_first_entry_again(world: Regions, finding: str) -> None:
    first = applied(world, "eu", finding)
    count = entries(world, "eu")
    again = applied(world, "eu", finding)
    assert (again.replayed, again.filed.dot) == (True, first.filed.dot)
    assert entries(world, "eu") == count


def test_asked_again_in_another_region_that_has_the_entry_it_gives_the_same(world: Regions, finding: str) -> None:
    first = applied(world, "eu", finding)
    world.meet()
    again = applied(world, "us", finding)
    assert (again.replayed, again.filed.dot) == (True, first.filed.dot)


def test_asked_in_two_regions_that_do_not_hear_of_each_other_it_has_one_effect(world: Regions, finding: str) -> None:
    world.part()
    answers = [applied(world, name, finding) for name in world.names]
    assert not any(answer.replayed for answer in answers)
    world.put_right()
    for name in world.names:
        assert world.posted(name) == {"issued": -100, "lot/L": 100}
        assert look(world, name) is None
        again = applied(world, name, finding)
        assert (again.replayed, again.filed.dot) == (True, answers[0].filed.dot)


def test_asked_again_after_a_restart_and_long_after_it_gives_the_same(world: Regions, finding: str) -> None:
    first = applied(world, "eu", finding)
    world.exchange(3_000)
    world.crash("eu")
    world.exchange(3_000)
    assert applied(world, "eu", finding).filed.dot == first.filed.dot


def test_one_that_has_gone_and_was_never_applied_is_gone(world: Regions, finding: str) -> None:
    world.do("us", ReportHeartbeat(JobId("j")))
    world.meet()
    count = entries(world, "eu")
    assert ask(world, "eu", finding) == Gone(finding)
    assert entries(world, "eu") == count


def test_one_that_goes_while_it_is_looked_for_is_gone(world: Regions, finding: str) -> None:
    found = look(world, "eu", finding)
    world.do("eu", release("c"))
    assert apply(world.region("eu"), TENANT, finding, found, world.now) == Gone(finding)


def test_one_that_was_applied_and_has_gone_is_answered_all_the_same(world: Regions, finding: str) -> None:
    first = applied(world, "eu", finding)
    assert look(world, "eu", finding) is None
    assert applied(world, "eu", finding).filed.dot == first.filed.dot


@pytest.mark.parametrize("name", ["nonsense", "never_started.0123456789abcdef01234567", "books_differ.mars.b1.1.0"])
def test_one_that_never_was_is_not_found(world: Regions, name: str) -> None:
    refusal = ask(world, "eu", name)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.fields) == (Reason.NOT_FOUND, {"finding": name})


def test_one_of_another_tenant_is_not_found(world: Regions, finding: str) -> None:
    world.do("eu", grant("L", 100), tenant=TenantId("other"))
    refusal = ask(world, "eu", finding, TenantId("other"))
    assert isinstance(refusal, Refusal)
    assert refusal.fields == {"finding": finding}


def test_one_of_a_tenant_that_does_not_exist_is_not_found(world: Regions, finding: str) -> None:
    refusal = ask(world, "eu", finding, TenantId("nobody"))
    assert isinstance(refusal, Refusal)
    assert refusal.fields == {"tenant": "nobody"}


def test_one_without_an_operation_says_why(world: Regions) -> None:
    said = ScheduledJob(JobId("k"), JobState.RUNNING, world.now - 10)
    world.region("eu").take_snapshot("slurm", world.now, {TENANT: [said]})
    found = look(world, "eu", FindingKind.RUNNING_UNRESERVED)
    assert found is not None
    refusal = ask(world, "eu", found.id)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.fields["field"]) == (Reason.INVALID_REQUEST, "finding")
    assert refusal.detail.endswith("without an operation: no snapshot says gpu_type, gpus")


def test_an_operation_that_is_refused_is_not_posted_and_can_be_asked_for_again(world: Regions) -> None:
    # It ended before the tenant had anything.
    said = ScheduledJob(JobId("j"), JobState.FINISHED, START_MS - 3_000, START_MS - 2_000)
    world.region("eu").take_snapshot("slurm", world.now, {TENANT: [said]})
    found = look(world, "eu", FindingKind.UNFINISHED_USAGE)
    assert found is not None
    count = entries(world, "eu")
    refusal = ask(world, "eu", found.id)
    assert isinstance(refusal, Refusal)
    assert "before the tenant had anything" in refusal.detail
    assert entries(world, "eu") == count
    assert ask(world, "eu", found.id) == refusal, "and nothing stands under its key"


def test_a_key_that_somebody_used_for_something_else_is_no_answer(world: Regions, finding: str) -> None:
    world.do("eu", debit("d", 1), key=key_of(finding))
    refusal = ask(world, "eu", finding)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.IDEMPOTENCY_MISMATCH
    again = look(world, "eu", FindingKind.NEVER_STARTED)
    assert again is not None
    assert again.id != finding, "and the finding has another name, under which it can be settled"
    assert not applied(world, "eu", again.id).replayed


def test_two_regions_that_see_it_differently_have_made_the_same_request(world: Regions) -> None:
    world.do("eu", debit("d", 90, OnShortage.DEBT))
    world.meet()
    world.part()
    world.do("us", debit("e", 5, OnShortage.DEBT))
    found = [look(world, name, FindingKind.NEGATIVE_BALANCE) for name in world.names]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].id == found[1].id
    assert found[0].remedy != found[1].remedy
    for name in world.names:
        applied(world, name, found[0].id)
    world.put_right()
    assert [report.kind for report in world.reports("eu")] == [Kind.DUPLICATE]


def test_a_write_off_repays_what_is_owed(world: Regions) -> None:
    world.do("eu", debit("d", 90, OnShortage.DEBT))
    found = look(world, "eu", FindingKind.NEGATIVE_BALANCE)
    assert found is not None
    answer = applied(world, "eu", found.id)
    assert isinstance(answer.filed.entry.content, Grant)
    assert world.book("eu").account.totals["debt"] == 0
    assert world.book("eu").account.available(world.now) == 0


class TestWhatGoesWrongAgain:
    """Settled while a region could not be heard that had spent something, too, earlier."""

    def owing(self, *unheard: str, **settings: int | Rules) -> Regions:
        """By what eu and us know eu owes 30; each of the others has spent 20."""
        world = Regions(*unheard, "eu", "us", **settings)
        world.do("eu", grant("L", 100, until=24 * HOUR_MS))
        world.meet()
        world.part()
        world.do("us", debit("of-us", 60))
        for name in unheard:
            world.do(name, debit(f"of-{name}", 20))
        world.do("eu", debit("of-eu", 70))
        world.set_cut("eu", "us", False)
        world.exchange(12_000)
        return world

    def found(self, world: Regions, name: str = "eu") -> Finding:
        found = look(world, name, FindingKind.NEGATIVE_BALANCE)
        assert found is not None
        return found

    def test_it_is_another_finding_and_settled_for_itself(self) -> None:
        world = self.owing("ap")
        first = self.found(world)
        assert first.detail.startswith("the tenant owes 30:")
        applied(world, "eu", first.id)
        world.put_right()
        second = self.found(world)
        assert second.detail.startswith("the tenant owes 20:")
        assert second.id != first.id
        assert {self.found(world, name).id for name in world.names} == {second.id}
        assert applied(world, "us", first.id).replayed
        assert not applied(world, "us", second.id).replayed
        world.put_right()
        for name in world.names:
            assert world.book(name).account.totals["debt"] == 0
            assert look(world, name, FindingKind.NEGATIVE_BALANCE) is None

    def test_regions_that_do_not_hear_of_each_other_settle_it_under_one_name_each_time(self) -> None:
        world = self.owing("ap", "at")
        first = self.found(world)
        world.set_cut("eu", "us", True)
        for name, heard in (("eu", "ap"), ("us", "at")):
            assert not applied(world, name, first.id).replayed
            world.set_cut(name, heard, False)
        world.exchange(12_000)
        second = self.found(world)
        assert second.id != first.id
        for name in ("eu", "us"):
            assert not applied(world, name, second.id).replayed
        world.put_right()
        account = world.book("eu").account
        assert account.totals["issued"] == -100 - 30 - 20, "each has one effect"
        third = self.found(world)
        assert third.detail.startswith("the tenant owes 20:")
        assert third.id not in (first.id, second.id)
        applied(world, "us", third.id)
        world.put_right()
        assert look(world, "eu", FindingKind.NEGATIVE_BALANCE) is None

    def test_it_is_another_one_also_when_the_key_of_the_first_is_forgotten(self) -> None:
        world = self.owing("ap", rules=Rules(key_lifetime_ms=1_000))
        first = self.found(world)
        applied(world, "eu", first.id)
        world.pass_time(1_000)
        world.put_right()
        second = self.found(world)
        assert second.id != first.id
        assert not applied(world, "us", second.id).replayed
        world.put_right()
        assert look(world, "eu", FindingKind.NEGATIVE_BALANCE) is None


class TestBooksThatDiffer:
    @pytest.fixture
    def clashed(self) -> Regions:
        """us has lost, and has not put that right yet."""
        return clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])

    NAME = "books_differ.us.b2.1.0"

    def test_the_region_that_owes_it_posts_it_at_once(self, clashed: Regions) -> None:
        answer = applied(clashed, "us", self.NAME)
        assert not answer.replayed
        assert isinstance(answer.filed.entry.content, Compensation)
        assert answer.filed.entry.postings == {"lot/L": 60, "debt": -60}
        assert look(clashed, "us", self.NAME) is None

    def test_nothing_more_is_posted_when_the_time_for_it_comes(self, clashed: Regions) -> None:
        applied(clashed, "us", self.NAME)
        count = entries(clashed, "us")
        clashed.put_right()
        clashed.exchange(3_000)
        assert entries(clashed, "us") == count
        assert clashed.region("us").counts.conflicts == {"overspend": 1}

    def test_another_region_names_the_one_that_owes_it(self, clashed: Regions) -> None:
        count = entries(clashed, "eu")
        refusal = ask(clashed, "eu", self.NAME)
        assert isinstance(refusal, Refusal)
        assert "the region us" in refusal.detail
        assert entries(clashed, "eu") == count

    @pytest.mark.parametrize("stored", [False, True])
    def test_asked_again_every_region_gives_the_compensation(self, clashed: Regions, stored: bool) -> None:
        first = applied(clashed, "us", self.NAME)
        clashed.put_right()
        if stored:
            clashed.exchange(3_000)
            clashed.crash("eu")
            clashed.exchange(3_000)
        for name in clashed.names:
            again = applied(clashed, name, self.NAME)
            assert (again.replayed, again.filed.dot) == (True, first.filed.dot)

    def test_one_that_was_posted_by_itself_is_answered_with_what_was(self, clashed: Regions) -> None:
        clashed.put_right()
        again = applied(clashed, "us", self.NAME)
        assert again.replayed
        assert isinstance(again.filed.entry.content, Compensation)

    def test_an_entry_that_never_differed_is_gone_and_one_that_has_not_differed_as_often_is_none(
        self, clashed: Regions
    ) -> None:
        assert ask(clashed, "us", "books_differ.eu.b1.1.0") == Gone("books_differ.eu.b1.1.0")
        refusal = ask(clashed, "us", "books_differ.us.b2.1.1")
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.NOT_FOUND

    def test_while_earlier_amends_may_come_back_none_are_posted(
        self, clashed: Regions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(clashed.region("us")), "may_have_posted", True)
        count = entries(clashed, "us")
        refusal = ask(clashed, "us", self.NAME)
        assert isinstance(refusal, Refusal)
        assert "may still come back" in refusal.detail
        assert entries(clashed, "us") == count


def test_a_released_reservation_is_not_released_again(world: Regions, finding: str) -> None:
    world.part()
    applied(world, "eu", finding)
    refusal = world.ask("eu", ReleaseHold(ClaimId("c")))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.RESERVATION_ENDED
