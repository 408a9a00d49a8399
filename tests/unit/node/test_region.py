"""One region as its clients and its clock see it: keys, what a crash leaves, promises."""

import pytest

from ledger.command import DebitUsage, RefundUsage
from ledger.ids import ClaimId, JobId, Key, TenantId, usage_name
from ledger.refusal import Reason, Refusal
from ledger.rules import Rules
from node.alarms import AlarmKind
from node.region import Accepted
from node.store.errors import ForeignDirectory
from node.store.kv import Overlay, Table, Write, checked
from node.store.rows import CEILING, LOW, RULES_KEY, number_key, pack, unpack
from replication.clock import hlc_at, ms_of
from replication.entry import MAX_SEALED_BYTES
from tests.regions import Regions, capture, grant, reserve, usage
from tests.world import START_MS, TENANT

OTHER = TenantId("globex")


def low_of(world: Regions, name: str) -> int:
    """The commit up to which a start reads rows instead of the journal."""
    stored = Overlay(world.members[name].disk).get(Table.META, LOW)
    return 0 if stored is None else int(unpack(stored)[0])


class TestKeys:
    def test_a_retry_gets_the_original_entry_and_makes_none(self) -> None:
        world = Regions("eu")
        first = world.do("eu", grant("L", 100), key="k")
        again = world.ask("eu", grant("L", 100), key="k")
        assert again == Accepted(first, replayed=True)
        assert world.region("eu").seal() == []

    def test_a_retry_before_the_first_try_is_durable_gets_the_same_entry(self) -> None:
        world = Regions("eu")
        first = world.ask("eu", grant("L", 100), key="k")
        again = world.ask("eu", grant("L", 100), key="k")
        assert isinstance(first, Accepted)
        assert again == Accepted(first.filed, replayed=True)
        world.land("eu")
        assert world.region("eu").durable == {"eu/b1": 1}

    def test_a_retry_in_another_region_gets_the_entry_of_the_first(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        first = world.do("eu", reserve(None, 30), key="job")
        world.meet()
        again = world.ask("us", reserve(None, 30), key="job")
        assert isinstance(again, Accepted)
        assert again.replayed
        assert again.filed.entry == first.entry

    def test_a_retry_after_checkpoint_and_restart_gets_the_original_entry(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        first = world.do("eu", reserve("a", 30), key="job")
        world.do("eu", capture("a", 30, final=True))
        world.exchange(2_000)
        assert world.book("eu").is_idle
        world.crash("eu")
        again = world.ask("eu", reserve("a", 30), key="job")
        assert isinstance(again, Accepted)
        assert again.filed.entry == first.entry
        assert again.filed.clock == first.clock == {"eu/b1": 2}

    def test_one_key_for_two_requests_is_refused(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100), key="k")
        answer = world.ask("eu", grant("L", 101), key="k")
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields) == (Reason.IDEMPOTENCY_MISMATCH, {"key": "k"})

    def test_a_refusal_leaves_the_key_free(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        refused = world.ask("eu", reserve("a", 30), key="k")
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.INSUFFICIENT_CREDIT
        world.do("eu", grant("M", 20))
        world.do("eu", reserve("a", 30), key="k")

    def test_keys_of_one_tenant_are_nothing_to_another(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 10), key="k")
        world.do("eu", grant("M", 20), key="k", tenant=OTHER)
        assert world.posted("eu", OTHER) == {"issued": -20, "lot/M": 20}


class TestRefunds:
    """Their time does not lie before that of the usage, where that is known."""

    LATE = START_MS - 500

    @pytest.fixture
    def world(self) -> Regions:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100, starts=-1_000))
        world.do("eu", DebitUsage(10, self.LATE, ClaimId("d")))
        world.do("eu", reserve("c", 10))
        world.do("eu", capture("c", 10))
        world.do("eu", usage("train", -490, -480, 10))
        world.do("eu", usage("train", -500, -495, 10))
        return world

    def outcome(self, world: Regions, claim: str, at: int | None) -> object:
        answer = world.ask("eu", RefundUsage(ClaimId(claim), 1, at))
        return answer.fields["field"] if isinstance(answer, Refusal) else None

    @pytest.mark.parametrize("claim", ["d", usage_name(JobId("train"))])
    def test_of_a_debit_or_usage_without_a_reservation_it_is_when_that_began(self, world: Regions, claim: str) -> None:
        assert self.outcome(world, claim, self.LATE) is None
        assert self.outcome(world, claim, self.LATE - 1) == "at"

    def test_of_a_reservation_it_is_when_that_was_made(self, world: Regions) -> None:
        made = world.book("eu").account.claims[ClaimId("c")].made.now
        assert self.outcome(world, "c", made) is None
        assert self.outcome(world, "c", made - 1) == "at"

    def test_it_is_known_of_what_is_checkpointed_and_in_other_regions_too(self, world: Regions) -> None:
        world.exchange(2_000)
        assert world.book("us").is_idle
        answer = world.ask("us", RefundUsage(ClaimId("d"), 1, self.LATE - 1))
        assert isinstance(answer, Refusal)
        assert answer.detail == f"at lies 1 ms before what it refunds: the claim used nothing before {self.LATE}"

    def test_one_that_says_no_time_stands_though_the_usage_lies_ahead_of_this_clock(self, world: Regions) -> None:
        world.do("eu", DebitUsage(10, world.now + 5_000, ClaimId("ahead")))
        assert self.outcome(world, "ahead", None) is None


class TestTheDisk:
    def test_what_has_not_landed_is_gone_after_a_crash_and_its_key_is_free(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        world.ask("eu", reserve("a", 80), key="k")
        world.region("eu").seal()
        world.crash("eu")
        assert world.posted("eu") == {"issued": -100, "lot/L": 100}
        world.do("eu", reserve("a", 70), key="k")

    def test_nothing_is_shown_to_others_before_it_is_durable(self) -> None:
        world = Regions("eu", "us")
        region = world.region("eu")
        world.ask("eu", grant("L", 100))
        assert (region.clock, region.durable) == ({"eu/b1": 1}, {})
        batch = region.seal()
        assert region.durable == {}
        world.members["eu"].disk.write(batch)
        (sealed,) = region.landed()
        assert region.durable == {"eu/b1": 1}
        assert sealed == region.journal.sealed("eu/b1", 1)

    def test_batches_in_flight_land_one_by_one(self) -> None:
        world = Regions("eu")
        region, disk = world.region("eu"), world.members["eu"].disk
        world.ask("eu", grant("L", 100))
        first = region.seal()
        world.ask("eu", reserve("a", 10))
        world.ask("eu", reserve("b", 10))
        second = region.seal()
        disk.write(first)
        assert len(region.landed()) == 1
        assert (region.durable, region.journal.durable_commit) == ({"eu/b1": 1}, 1)
        disk.write(second)
        assert len(region.landed()) == 2
        assert (region.durable, region.journal.durable_commit) == ({"eu/b1": 3}, 2)

    def test_entries_of_peers_are_not_pushed_on_as_own(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        page = [sealed for _, _, sealed in world.region("eu").journal.page({"eu/b1": 1}, {}, 10, 10_000)]
        region, disk = world.region("us"), world.members["us"].disk
        region.receive(page, world.now)
        disk.write(region.seal())
        assert region.landed() == []
        assert region.durable == {"eu/b1": 1}
        region.receive(page, world.now)
        assert (region.clock, region.seal()) == ({"eu/b1": 1}, [])

    def test_the_low_water_commit_follows_what_is_checkpointed(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(1_000)
        assert low_of(world, "eu") == 2
        world.part()
        world.do("eu", reserve("b", 10))
        world.exchange(2_000)
        assert low_of(world, "eu") == 2, "us has not promised anything since"
        world.meet()
        world.exchange(1_000)
        assert low_of(world, "eu") == 3

    def test_a_commit_is_below_low_water_when_all_its_tenants_are_checkpointed(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.exchange(1_000)
        world.part()
        world.do("eu", grant("L", 100), tenant=OTHER)
        world.do("eu", reserve("a", 10))
        for name in (OTHER, TENANT):
            assert world.book("eu", name).checkpoint(hlc_at(world.now + 1), 1) != []
        assert low_of(world, "eu") == 1

    def test_a_start_reads_only_the_journals_tail(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 10))
        world.exchange(1_000)
        world.part()
        world.do("eu", reserve("b", 10))
        before = world.region("eu").books.digest()
        # The head of the journal is not read: it may as well be rubbish.
        disk = world.members["eu"].disk
        disk.write([(Table.LOG, number_key(commit), b"rubbish") for commit in (1, 2)])
        world.crash("eu")
        region = world.region("eu")
        assert region.clock == {"eu/b1": 3}
        assert len(world.book("eu").timeline) == 1
        assert region.books.digest() == before

    def test_a_new_boot_goes_on_with_a_log_of_its_own(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.crash("eu")
        filed = world.do("eu", reserve("a", 10))
        assert (filed.entry.replica, filed.entry.seq, filed.clock) == ("eu/b3", 1, {"eu/b1": 1, "eu/b3": 1})
        world.meet()
        assert world.region("us").clock == {"eu/b1": 1, "eu/b3": 1}

    def test_a_directory_of_other_rules_is_not_taken(self) -> None:
        world = Regions("eu")
        world.land("eu")
        disk = world.members["eu"].disk
        disk.write([(Table.META, RULES_KEY, checked(Table.META, RULES_KEY, pack(1)))])
        with pytest.raises(
            ForeignDirectory, match=f"written under the rules «1» of the ledger, this node has «{Rules()}»"
        ):
            world.crash("eu")


class TestPromises:
    def test_an_open_batch_holds_the_promise_back(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        promised = region.promise(world.now)
        assert promised == hlc_at(world.now)
        world.ask("eu", grant("L", 100))
        assert region.promise(world.now) == promised
        batch = region.seal()
        assert region.promise(world.now) == promised
        world.members["eu"].disk.write(batch)
        region.landed()
        assert region.promise(world.now) == hlc_at(world.now)

    def test_a_batch_in_flight_holds_it_back_to_what_landed(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        first = world.ask("eu", grant("L", 100))
        batch = region.seal()
        second = world.ask("eu", reserve("a", 10))
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        world.members["eu"].disk.write(batch)
        region.landed()
        assert first.filed.position.hlc <= region.promise(world.now + 500) < second.filed.position.hlc

    def test_slow_commits_that_follow_each_other_without_a_pause_do_not_hold_it_back(self) -> None:
        world = Regions("eu")
        region, disk = world.region("eu"), world.members["eu"].disk
        under_way: list[Write] = []
        promised = []
        for _ in range(10):
            world.pass_time(1_200)
            region.tick(world.now)
            promised.append(world.now - ms_of(region.promise(world.now)))
            if under_way:
                disk.write(under_way)
                region.landed()
            under_way = region.seal()
            assert under_way, "a ceiling is due with every commit"
        assert max(promised[3:]) <= 2 * 1_200

    def test_what_was_asked_for_while_a_batch_was_under_way_is_not_promised(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        world.ask("eu", grant("L", 100))
        batch = region.seal()
        world.pass_time(500)
        sealed_before = region.promise(world.now)
        later = world.ask("eu", reserve("a", 10))
        assert isinstance(later, Accepted)
        world.members["eu"].disk.write(batch)
        region.landed()
        assert sealed_before <= region.promise(world.now + 500) < later.filed.position.hlc

    def test_what_comes_after_a_promise_reads_higher(self) -> None:
        world = Regions("eu")
        promised = world.region("eu").promise(world.now + 300)
        assert promised == hlc_at(world.now + 300)
        assert world.do("eu", grant("L", 100)).position.hlc > promised

    def test_nothing_is_promised_beyond_what_the_ceiling_on_disk_allows(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        stored = Overlay(world.members["eu"].disk).get(Table.META, CEILING)
        assert stored is not None
        ceiling = unpack(stored)
        assert 1_000 <= ms_of(ceiling) - world.now <= 2_000
        assert region.promise(world.now + 60_000) == ceiling

    def test_a_ceiling_that_has_not_landed_does_not_count(self) -> None:
        world = Regions("eu")
        region = world.region("eu")
        before = region.hlc.ceiling
        world.pass_time(5_000)
        region.tick(world.now)
        batch = region.seal()
        assert region.promise(world.now) <= before
        world.members["eu"].disk.write(batch)
        region.landed()
        assert region.promise(world.now) == hlc_at(world.now) > before

    def test_a_promise_outlives_a_crash(self) -> None:
        world = Regions("eu")
        promised = world.region("eu").promise(world.now + 60_000)
        world.crash("eu")
        assert world.do("eu", grant("L", 100)).position.hlc > promised

    def test_a_new_boot_is_at_most_two_seconds_ahead(self) -> None:
        world = Regions("eu")
        world.crash("eu")
        assert world.region("eu").present(world.now) - world.now <= 2_000


class TestEntriesTooLong:
    def test_what_is_spread_over_too_many_lots_is_refused_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A single region would not grant so many; several that do not see each other may.
        monkeypatch.setattr("ledger.admission.MAX_OPEN_LOTS", 10_000)
        world = Regions("eu")
        region = world.region("eu")
        for number in range(2_000):
            region.submit(TENANT, grant(f"{number:0128}", 1), Key(f"g{number}"), world.now)
        world.land("eu")
        digest, clock = region.books.digest(), dict(region.clock)
        answer = world.ask("eu", reserve("a", 2_000), key="k")
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.fields["field"]) == (Reason.INVALID_REQUEST, "amount")
        assert (region.books.digest(), region.clock, region.seal()) == (digest, clock, [])
        assert region.books.digest() == digest
        filed = world.do("eu", reserve("a", 1_000), key="k")
        assert filed.entry.seq == 2_001
        sealed = region.journal.sealed("eu/b1", 2_001)
        assert sealed is not None
        assert MAX_SEALED_BYTES // 2 < len(sealed) < MAX_SEALED_BYTES
        assert world.audit("eu").ok


class TestAlarms:
    def test_an_entry_from_too_far_ahead_waits_for_our_clock_and_is_told_once(self) -> None:
        world = Regions("eu", "us")
        ahead = START_MS + 30_000
        answer = world.region("eu").submit(TENANT, grant("L", 100), Key("k"), ahead)
        assert isinstance(answer, Accepted)
        world.land("eu")
        page = [sealed for _, _, sealed in world.region("eu").journal.page({"eu/b1": 1}, {}, 10, 10_000)]
        us = world.region("us")
        us.receive(page, world.now)
        assert us.clock == {}
        us.tick(world.now)
        (alarm,) = us.alarms.all()
        assert (alarm.kind, alarm.subject, alarm.count) == (AlarmKind.CLOCK_AHEAD, "eu/b1", 1)
        world.now = ahead - 10_000
        us.tick(world.now)
        assert us.clock == {"eu/b1": 1}
