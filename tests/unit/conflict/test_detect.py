"""What two regions did without seeing each other, and what it is called when they meet."""

import pytest

from conflict.detect import Canonical, Kind, classify, difference, differs, new_debt
from conflict.report import LotShare, Report
from conflict.rivals import Rivals
from ledger.cells import Effect
from ledger.command import Command, OnShortage, SetPolicy, fingerprint
from ledger.ids import ClaimId, Key, LotId
from ledger.operation import OnOverspend, Policy
from ledger.posting import Outcome
from tests.regions import (
    HOUR_MS,
    UMBRA,
    VOID_IF_SHORT,
    Regions,
    capture,
    clash,
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


def told(report: Report) -> tuple[Kind, str, int, int, tuple[LotShare, ...]]:
    """The part of a report that says what happened: kind, outcome in order, amount, debt, lots."""
    return report.kind, report.canonical_outcome, report.amount, report.debt, report.lots


def postings_of(world: Regions) -> dict[str, int]:
    """What the one compensation posted, once it is there."""
    world.put_right()
    (amends,) = world.the_report().compensations
    return amends.postings


class TestOverspend:
    def test_the_later_of_two_reservations_of_the_same_credit_is_short(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        assert told(world.the_report()) == ("overspend", "applied", 60, 60, (LotShare("L", -80, -20),))
        assert postings_of(world) == {"lot/L": 60, "debt": -60}
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "held/b": 80, "debt": -60}

    def test_the_later_of_two_debits_is_short(self) -> None:
        world = clash([grant("L", 100)], [debit("a", 100)], [debit("b", 30)])
        assert told(world.the_report()) == ("overspend", "applied", 30, 30, (LotShare("L", -30, 0),))
        assert world.posted("us") | postings_of(world) == {"issued": -100, "used": 130, "lot/L": 30, "debt": -30}

    def test_an_overrun_finds_the_credit_spent(self) -> None:
        world = clash([grant("L", 100), reserve("b", 40)], [reserve("a", 60)], [capture("b", 70)])
        assert told(world.the_report()) == ("overspend", "applied", 30, 30, (LotShare("L", -30, 0),))
        assert postings_of(world) == {"lot/L": 30, "debt": -30}

    def test_who_posts_what_it_recorded_has_left_no_new_debt(self) -> None:
        # It may have repaid, with the credit that it took itself when it was accepted, what its own claim lacks now.
        world = Regions("eu")
        world.do("eu", grant("L", 10))
        filed = world.do("eu", debit("d", 10))
        assert new_debt(filed, Canonical(filed.postings, filed.outcome, ClaimId("d"), 4)) == 0
        assert new_debt(filed, Canonical({"lot/L": -6, "debt": -4, "used": 10}, filed.outcome, ClaimId("d"), 4)) == 4

    def test_what_is_owed_for_it_either_way_is_no_new_debt(self) -> None:
        world = clash(
            [
                grant("L", 30, starts=0),
                reserve("a", 10, job="train"),
                debit("b", 20),
                usage("train", 10, 20, 12),
            ],
            [release("a")],
            [usage("train", 20, 30, 5)],
        )
        assert told(world.the_report()) == ("lease", "overrun", 0, 0, ())
        assert world.posted("us") == {"issued": -30, "used": 37, "debt": -7}

    def test_a_lot_revoked_elsewhere_that_would_not_have_paid_is_not_the_cause(self) -> None:
        world = clash(
            [grant("L", 100), grant("M", 100, until=2 * HOUR_MS)],
            [revoke("M"), reserve("a", 80)],
            [reserve("b", 80)],
        )
        assert told(world.the_report()) == ("overspend", "applied", 60, 60, (LotShare("L", -80, -20),))

    def test_who_only_finds_the_debt_gone_that_it_had_repaid_has_overspent_nothing(self) -> None:
        world = clash([grant("K", 1), debit("old", 11, OnShortage.DEBT), grant("L", 100, starts=3_000)], [], [])
        world.part()
        world.now = START_MS + 3_000
        world.do("eu", reserve("a", 40))
        world.do("us", reserve("b", 40))
        world.meet()
        assert told(world.the_report()) == ("reallocated", "applied", 10, 0, (LotShare("L", -50, -40),))
        assert postings_of(world) == {"lot/L": 10, "debt": -10}
        assert world.posted("us") == {"issued": -101, "lot/L": 10, "used": 11, "held/a": 40, "held/b": 40}

    def test_who_falls_short_behind_debt_that_it_had_not_heard_of_has_overspent_that_much(self) -> None:
        world = clash([grant("K", 1), grant("L", 70, starts=3_000)], [], [])
        world.part()
        world.do("eu", debit("a", 51, OnShortage.DEBT))
        world.now = START_MS + 3_000
        world.do("us", reserve("b", 41))
        world.meet()
        settled, held = world.reports("us")
        assert settled.loser.kind == "settle"
        assert told(held) == (
            "overspend", "applied", 21, 21, (LotShare("K", -1, 0), LotShare("L", -40, -70)),
        )  # fmt: skip


class TestDuplicate:
    def test_one_request_accepted_twice_counts_once_and_for_the_earlier(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        first = world.do("eu", reserve(None, 80), key="job")
        second = world.do("us", reserve(None, 80), key="job")
        assert first.entry.content != second.entry.content, "the leases differ"
        world.meet()
        assert told(world.the_report()) == ("duplicate", "duplicate", 80, 0, (LotShare("L", -80, 0),))
        (held,) = world.book("us").account.claims
        assert postings_of(world) == {"lot/L": 80, f"held/{held}": -80}
        assert world.posted("us") == {"issued": -100, "lot/L": 20, f"held/{held}": 80}

    def test_one_reservation_made_under_two_keys_is_the_earlier(self) -> None:
        world = clash([grant("L", 100)], [reserve("job", 10)], [reserve("job", 30)])
        assert told(world.the_report()) == ("duplicate", "duplicate", 30, 0, (LotShare("L", -30, 0),))
        assert postings_of(world) == {"lot/L": 30, "held/job": -30}

    def test_one_lot_granted_twice_is_the_earlier(self) -> None:
        world = clash([grant("L", 100)], [grant("M", 50)], [grant("M", 70)])
        assert told(world.the_report()) == ("duplicate", "duplicate", 70, 0, (LotShare("M", 70, 0),))
        assert postings_of(world) == {"issued": 70, "lot/M": -70}

    def test_a_duplicate_grant_takes_back_the_debt_that_it_had_repaid(self) -> None:
        world = clash(
            [grant("L", 10), debit("a", 70, OnShortage.DEBT)],
            [grant("M", 5)],
            [grant("M", 40)],
        )
        assert told(world.the_report()) == ("duplicate", "duplicate", 40, 40, ())
        assert postings_of(world) == {"issued": 40, "debt": -40}
        assert world.posted("eu") == {"issued": -15, "used": 70, "debt": -55}

    def test_one_key_for_two_requests_is_a_mismatch(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("eu", reserve("a", 80), key="job")
        world.do("us", debit("b", 30), key="job")
        world.meet()
        assert told(world.the_report()) == ("key_mismatch", "duplicate", 30, 0, (LotShare("L", -30, 0),))
        assert postings_of(world) == {"lot/L": 30, "used": -30}


class TestRevoked:
    def test_a_reservation_on_a_lot_that_was_revoked_elsewhere_is_debt(self) -> None:
        world = clash([grant("L", 100)], [revoke("L")], [reserve("b", 80)])
        assert told(world.the_report()) == ("revoked", "applied", 80, 80, (LotShare("L", -80, 0),))
        assert postings_of(world) == {"lot/L": 80, "debt": -80}

    def test_another_lot_steps_in_for_the_one_revoked_and_nobody_owes(self) -> None:
        world = clash([grant("L", 100), grant("M", 100, until=2 * HOUR_MS)], [revoke("L")], [reserve("b", 80)])
        assert told(world.the_report()) == (
            "revoked", "applied", 80, 0, (LotShare("L", -80, 0), LotShare("M", 0, -80)),
        )  # fmt: skip

    @pytest.mark.parametrize("command", [heartbeat("train"), grant("M", 5), VOID_IF_SHORT, release("a")])
    def test_who_only_had_repaid_debt_from_the_lot_has_lost_nothing_to_the_revocation(self, command: Command) -> None:
        world = clash(
            [
                grant("L", 100),
                reserve("a", 10),
                debit("d", 120, OnShortage.DEBT),
                grant("S", 50, starts=3_000),
            ],
            [],
            [],
        )
        world.part()
        world.now = START_MS + 3_000
        world.do("eu", revoke("S"))
        world.do("us", command)
        world.meet()
        report = world.the_report()
        assert (report.kind, report.amount, report.lots) == ("reallocated", 30, (LotShare("S", -30, 0),))

    def test_a_lot_can_be_revoked_once(self) -> None:
        world = clash([grant("L", 100)], [revoke("L")], [revoke("L")])
        assert told(world.the_report()) == ("revoked", "closed", 100, 0, (LotShare("L", -100, 0),))
        assert postings_of(world) == {"lot/L": 100, "revoked": -100}

    def test_a_reservation_that_falls_short_is_void_where_policy_says_so(self) -> None:
        world = clash([grant("L", 100), VOID_IF_SHORT], [reserve("a", 80)], [reserve("b", 80)])
        assert told(world.the_report()) == ("revoked", "revoked", 80, 0, (LotShare("L", -80, 0),))
        assert postings_of(world) == {"lot/L": 80, "held/b": -80}
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}

    def test_usage_captured_on_it_before_anybody_knew_is_an_overrun(self) -> None:
        world = clash([grant("L", 100), VOID_IF_SHORT], [reserve("a", 80)], [reserve("b", 80), capture("b", 30)])
        captured, held = world.reports("us")
        assert told(captured) == ("lease", "overrun", 10, 10, (LotShare("L", 0, -20),))
        assert told(held) == ("revoked", "revoked", 80, 0, (LotShare("L", -80, 0),))
        world.put_right()
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "used": 30, "debt": -10}

    def test_a_policy_that_was_set_elsewhere_counts_from_its_place_on(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80), VOID_IF_SHORT], [reserve("b", 80)])
        assert told(world.the_report()) == ("revoked", "revoked", 80, 0, (LotShare("L", -80, 0),))
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80), VOID_IF_SHORT])
        assert told(world.the_report()) == ("overspend", "applied", 60, 60, (LotShare("L", -80, -20),))

    def test_of_two_policies_the_later_is_the_rule_and_nobody_has_lost(self) -> None:
        world = clash([grant("L", 100)], [VOID_IF_SHORT], [SetPolicy(OnOverspend.DEBT, max_held=5)])
        assert world.reports("us") == world.reports("eu") == []
        assert world.book("eu").account.policy == Policy(max_held=5)


class TestOverlap:
    RESERVED = (grant("L", 100, starts=0), reserve("a", 60, job="train"))

    def test_one_interval_reported_in_two_regions_is_charged_once(self) -> None:
        world = clash(self.RESERVED, [usage("train", 10, 20, 30)], [usage("train", 10, 20, 30)])
        assert told(world.the_report()) == ("overlap", "covered", 30, 0, ())
        assert postings_of(world) == {"held/a": 30, "used": -30}
        assert world.posted("eu") == {"issued": -100, "lot/L": 40, "held/a": 30, "used": 30}

    def test_so_is_one_that_costs_nothing(self) -> None:
        world = clash(self.RESERVED, [usage("train", 10, 20, 0)], [usage("train", 10, 20, 0)])
        assert told(world.the_report()) == ("overlap", "covered", 0, 0, ())

    def test_an_interval_that_overlaps_is_charged_for_what_is_new(self) -> None:
        world = clash(self.RESERVED, [usage("train", 10, 20, 30)], [usage("train", 15, 25, 20)])
        assert told(world.the_report()) == ("overlap", "applied", 10, 0, ())
        assert postings_of(world) == {"held/a": 10, "used": -10}

    def test_intervals_that_only_touch_are_no_conflict(self) -> None:
        world = clash(self.RESERVED, [usage("train", 10, 20, 30)], [usage("train", 20, 30, 20)])
        assert world.reports("us") == []

    def test_usage_without_a_reservation_is_charged_once_too(self) -> None:
        world = clash([grant("L", 100, starts=0)], [usage("train", 10, 20, 30)], [usage("train", 10, 20, 30)])
        assert told(world.the_report()) == ("overlap", "covered", 30, 0, (LotShare("L", -30, 0),))
        assert world.posted("us") | postings_of(world) == {"issued": -100, "lot/L": 30, "used": -30}

    def test_a_final_report_of_the_same_time_still_releases_the_rest(self) -> None:
        world = clash(self.RESERVED, [usage("train", 10, 20, 30)], [usage("train", 10, 20, 30, final=True)])
        assert told(world.the_report()) == ("overlap", "applied", 30, 0, ())
        assert postings_of(world) == {"used": -30, "held/a": 30}

    def test_what_was_taken_for_covered_is_charged_when_what_covered_it_was_a_duplicate(self) -> None:
        world = clash(self.RESERVED, [], [])
        world.part()
        world.do("eu", debit("d", 1), key="k")
        world.do("us", usage("train", 10, 20, 30), key="k")
        world.do("us", usage("train", 10, 20, 30))
        world.meet()
        again, first = world.reports("eu")
        assert told(first) == ("key_mismatch", "duplicate", 30, 0, ())
        assert told(again) == ("overlap", "applied", 30, 0, ())

    def test_what_is_covered_either_way_and_only_finds_the_debt_gone_is_none(self) -> None:
        world = clash(
            [
                grant("K", 30, starts=0),
                usage("train", 10, 20, 30),
                debit("old", 10, OnShortage.DEBT),
                grant("L", 100, starts=3_000),
            ],
            [],
            [],
        )
        world.part()
        world.now = START_MS + 3_000
        world.do("eu", heartbeat("other"))
        world.do("us", usage("train", 10, 20, 30))
        world.meet()
        assert told(world.the_report()) == ("reallocated", "covered", 10, 0, (LotShare("L", -10, 0),))

    def test_one_that_is_over_keeps_its_name(self) -> None:
        world = Regions("ap", "eu", "us")
        for command in self.RESERVED:
            world.do("eu", command)
        world.meet()
        world.part()
        world.do("ap", debit("d", 1), key="k")
        world.do("eu", usage("train", 10, 20, 30), key="k")
        world.do("us", usage("train", 10, 20, 30))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        (detected,) = world.reports("us")
        assert (detected.kind, detected.state) == ("overlap", "compensated")
        world.put_right()
        cleared, _ = world.reports("us")
        assert (cleared.id, cleared.kind, cleared.state) == (detected.id, "overlap", "cleared")


class TestLease:
    def test_usage_of_a_reservation_that_was_released_elsewhere_is_an_overrun(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80)], [release("a")], [capture("a", 50)])
        assert told(world.the_report()) == ("lease", "overrun", 50, 0, (LotShare("L", 0, -50),))
        assert postings_of(world) == {"held/a": 50, "lot/L": -50}

    def test_a_heartbeat_for_a_reservation_that_was_released_elsewhere_comes_to_nothing(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80)], [release("a")], [renew("a", HOUR_MS)])
        assert told(world.the_report()) == ("lease", "closed", 0, 0, ())

    def test_a_reservation_can_be_released_once(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80)], [capture("a", 30, final=True)], [release("a")])
        assert told(world.the_report()) == ("lease", "closed", 80, 0, (LotShare("L", 80, 0),))
        assert postings_of(world) == {"held/a": 80, "lot/L": -80}
        assert world.posted("us") == {"issued": -100, "lot/L": 70, "used": 30}

    def test_a_second_release_brings_back_no_debt_although_the_first_has_cancelled_it(self) -> None:
        world = clash([grant("M", 20)], [reserve("a", 10)], [reserve("b", 20)])
        world.put_right()
        assert world.book("us").account.totals["debt"] == -10
        world.part()
        world.do("eu", release("b"))
        world.do("us", release("b"))
        world.meet()
        newest, _ = world.reports("us")
        assert told(newest) == ("lease", "closed", 20, 0, (LotShare("M", 10, 0),))

    def test_a_sweep_that_had_not_heard_of_the_heartbeat_comes_to_nothing(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80, lease_ms=1_000))
        world.meet()
        world.part()
        world.do("us", renew("a", HOUR_MS))
        world.exchange(1_000)
        assert world.posted("eu") == {"issued": -100, "lot/L": 100}
        world.meet()
        assert told(world.the_report()) == ("lease", "renewed", 80, 0, (LotShare("L", 80, 0),))
        assert postings_of(world) == {"held/a": 80, "lot/L": -80}

    def test_a_sign_of_life_of_a_job_whose_reservation_was_released_elsewhere_comes_to_nothing(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80, job="train")], [release("a")], [heartbeat("train")])
        assert told(world.the_report()) == ("lease", "closed", 0, 0, ())

    def test_a_sign_of_life_saves_a_reservation_that_was_made_elsewhere(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80, job="train", lease_ms=1_000)], [heartbeat("train")])
        assert told(world.the_report()) == ("lease", "applied", 0, 0, ())
        world.exchange(2_000)
        assert world.posted("eu") == {"issued": -100, "lot/L": 20, "held/a": 80}

    def test_usage_of_a_reservation_that_has_ended_elsewhere_is_an_overrun(self) -> None:
        world = clash(
            [grant("L", 100, starts=0), reserve("a", 80, job="train")], [release("a")], [usage("train", 10, 20, 50)]
        )
        assert told(world.the_report()) == ("lease", "overrun", 50, 0, (LotShare("L", 0, -50),))
        assert postings_of(world) == {"held/a": 50, "lot/L": -50}

    def test_usage_that_had_not_heard_of_its_reservation_is_captured_from_it(self) -> None:
        world = clash([grant("L", 100, starts=0)], [reserve("a", 80, job="train")], [usage("train", 10, 20, 50)])
        assert told(world.the_report()) == ("lease", "applied", 50, 0, (LotShare("L", -50, 0),))
        assert postings_of(world) == {"held/a": -50, "lot/L": 50}

    def test_a_final_report_finds_the_reservation_released(self) -> None:
        world = clash(
            [grant("L", 100, starts=0), reserve("a", 80, job="train")],
            [release("a")],
            [usage("train", 10, 20, 50, final=True)],
        )
        assert told(world.the_report()) == ("lease", "overrun", 80, 0, (LotShare("L", 30, -50),))


class TestTransfers:
    """A transfer can lose in the giver's account, in the receiver's, or in both."""

    def rich(self) -> Regions:
        """Two tenants with 100 each, and regions that do not see each other."""
        world = Regions("eu", "us")
        for tenant in (TENANT, UMBRA):
            world.do("eu", grant("L", 100), tenant=tenant)
        world.meet()
        world.part()
        return world

    def test_what_was_spent_elsewhere_is_owed_by_the_giver_and_the_receiver_keeps_the_gift(self) -> None:
        world = self.rich()
        world.do("eu", reserve("a", 80))
        world.do("us", transfer(UMBRA, 50))
        world.meet()
        assert told(world.the_report()) == ("overspend", "applied", 30, 30, (LotShare("L", -50, -20),))
        assert postings_of(world) == {"lot/L": 30, "debt": -30}
        assert world.book("eu", UMBRA).account.available(world.now) == 150

    def test_one_transfer_accepted_twice_is_a_duplicate_in_both_accounts(self) -> None:
        world = self.rich()
        first = world.do("eu", transfer(UMBRA, 50), key="gift").entry
        world.do("us", transfer(UMBRA, 50), key="gift")
        world.meet()
        for tenant, share in ((TENANT, LotShare("L", -50, 0)), (UMBRA, LotShare(first.content.name, 50, 0))):  # type: ignore[union-attr]
            (report,) = world.reports("us", tenant)
            assert told(report) == ("duplicate", "duplicate", 50, 0, (share,))

    def test_two_transfers_under_one_key_are_told_in_both_accounts_for_what_they_are(self) -> None:
        world = self.rich()
        world.do("eu", transfer(UMBRA, 50), key="gift")
        world.do("us", transfer(UMBRA, 60), key="gift")
        world.meet()
        assert [report.kind for report in world.reports("us")] == ["key_mismatch", "key_mismatch"]

    def test_a_transfer_whose_key_was_used_for_something_else_stands(self) -> None:
        world = self.rich()
        world.do("eu", reserve("a", 10), key="k")
        world.do("us", transfer(UMBRA, 50), key="k")
        world.meet()
        assert world.reports("us") == []
        assert world.book("eu").account.key_use(Key("k")).request == fingerprint(reserve("a", 10))  # type: ignore[union-attr]

    def test_the_gift_revoked_elsewhere_leaves_the_receivers_spending_owed(self) -> None:
        world = self.rich()
        world.meet()
        gift = world.do("eu", transfer(UMBRA, 50)).entry.content.name  # type: ignore[union-attr]
        world.meet()
        world.part()
        world.do("eu", revoke(gift), tenant=UMBRA)
        world.do("us", debit("d", 150), tenant=UMBRA)
        world.meet()
        report = world.the_report()
        assert (report.kind, report.tenant, report.debt) == ("revoked", UMBRA, 50)


class TestRefund:
    def test_two_refunds_of_the_same_usage_give_back_no_more_than_was_used(self) -> None:
        world = clash([grant("L", 100), debit("a", 80)], [refund("a", 50)], [refund("a", 50)])
        assert told(world.the_report()) == ("refund", "applied", 20, 0, (LotShare("L", 50, 30),))
        assert postings_of(world) == {"used": 20, "lot/L": -20}

    def test_usage_refunded_whole_elsewhere_leaves_nothing_to_refund(self) -> None:
        world = clash([grant("L", 100), debit("a", 80)], [refund("a", 80)], [refund("a", 50)])
        assert told(world.the_report()) == ("refund", "closed", 50, 0, (LotShare("L", 50, 0),))
        assert postings_of(world) == {"used": 50, "lot/L": -50}


class TestReallocated:
    def test_another_lot_has_room_for_what_was_spent_twice(self) -> None:
        world = clash(
            [grant("L", 100), grant("M", 100, until=2 * HOUR_MS)],
            [reserve("a", 80)],
            [reserve("b", 80)],
        )
        assert told(world.the_report()) == (
            "reallocated", "applied", 60, 0, (LotShare("L", -80, -20), LotShare("M", 0, -60)),
        )  # fmt: skip
        assert postings_of(world) == {"lot/L": 60, "lot/M": -60}

    def test_a_grant_finds_the_debt_gone_that_it_had_repaid(self) -> None:
        world = clash(
            [grant("L", 10), debit("a", 70, OnShortage.DEBT)],
            [refund("a", 70)],
            [grant("M", 100)],
        )
        assert told(world.the_report()) == ("reallocated", "applied", 60, 0, (LotShare("M", 40, 100),))
        assert postings_of(world) == {"lot/M": 60, "debt": -60}
        assert world.posted("eu") == {"issued": -110, "lot/L": 10, "lot/M": 100}

    def test_a_refund_finds_the_debt_repaid_that_it_had_cancelled(self) -> None:
        world = clash(
            [grant("L", 10), debit("a", 70, OnShortage.DEBT)],
            [grant("M", 100)],
            [refund("a", 70)],
        )
        assert told(world.the_report()) == ("reallocated", "applied", 60, 0, (LotShare("M", 0, 60),))
        assert postings_of(world) == {"lot/M": 60, "debt": -60}

    def test_a_release_finds_the_debt_repaid_that_it_had_cancelled(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        (overspend,) = world.reports("us")
        world.part()
        world.do("eu", grant("M", 100))
        world.do("us", release("b"))
        world.meet()
        newest, known = world.reports("us")
        assert told(newest) == ("reallocated", "applied", 60, 0, (LotShare("M", 0, 60),))
        assert known.id == overspend.id

    def test_what_is_released_onto_a_lot_that_was_revoked_elsewhere_has_expired(self) -> None:
        world = clash([grant("L", 100), reserve("a", 80)], [revoke("L")], [release("a")])
        assert told(world.the_report()) == ("reallocated", "applied", 80, 0, (LotShare("L", 80, 0),))
        assert postings_of(world) == {"lot/L": -80, "expired": 80}

    def test_a_revocation_finds_less_to_revoke(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [revoke("L")])
        assert told(world.the_report()) == ("reallocated", "applied", 80, 0, (LotShare("L", -100, -20),))
        assert postings_of(world) == {"lot/L": 80, "revoked": -80}


class TestWhatIsNoConflict:
    def test_what_two_regions_spend_within_the_credit_there_is(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 40)], [reserve("b", 60)])
        world.put_right()
        assert world.reports("eu") == world.reports("us") == []
        assert world.posted("us") == {"issued": -100, "held/a": 40, "held/b": 60}

    def test_what_one_region_does_after_it_has_heard_of_the_other(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", reserve("a", 80))
        world.meet()
        world.do("us", debit("b", 80, OnShortage.DEBT))
        world.put_right()
        assert world.reports("us") == []
        assert world.posted("eu") == {"issued": -100, "held/a": 80, "used": 80, "debt": -60}


class TestTheDifference:
    def test_an_effect_differs_in_its_postings_or_in_its_outcome(self) -> None:
        filed = Regions("eu").do("eu", grant("L", 100))
        same = {"issued": -100, "lot/L": 100}
        assert not differs(filed, Effect(same, Outcome.APPLIED, None, None, ()))
        assert differs(filed, Effect({"issued": -99, "lot/L": 99}, Outcome.APPLIED, None, None, ()))
        assert differs(filed, Effect(same, Outcome.DUPLICATE, None, None, ()))

    def test_what_was_posted_already_is_not_posted_again(self) -> None:
        canonical = {"lot/L": -20, "debt": -60, "held/b": 80}
        recorded = {"lot/L": -80, "held/b": 80}
        assert difference(canonical, recorded, {}) == {"lot/L": 60, "debt": -60}
        assert difference(canonical, recorded, {"lot/L": 50, "debt": -50}) == {"lot/L": 10, "debt": -10}
        assert difference(recorded, recorded, {"lot/L": 60, "debt": -60}) == {"lot/L": -60, "debt": 60}

    def test_a_conflict_that_is_over_is_named_after_its_first_compensation(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        filed = world.do("eu", reserve("a", 80))
        nobody = Rivals((), 0, (), False)

        def name(*compensations: dict[str, int]) -> Kind:
            return classify(filed, Canonical(filed.postings, Outcome.APPLIED, None, 0), nobody, compensations)

        assert name({"lot/L": 10, "debt": -10}, {"lot/L": -10, "debt": 10}) is Kind.OVERSPEND
        assert name({"lot/L": 80, "held/a": -80}, {"lot/L": -80, "held/a": 80}) is Kind.DUPLICATE
        assert name({"lot/L": 10, "lot/M": -10}, {"lot/L": -10, "lot/M": 10}) is Kind.REALLOCATED

    def test_one_that_only_repaid_less_for_a_while_had_overspent_nothing(self) -> None:
        filed = Regions("eu").do("eu", grant("L", 100))
        canonical = Canonical(filed.postings, Outcome.APPLIED, None, 0)
        nobody = Rivals((), 0, (), False)
        assert classify(filed, canonical, nobody, [{"lot/L": 10, "debt": -10}]) is Kind.REALLOCATED

    def test_a_revoked_lot_is_to_blame_only_if_less_comes_from_it(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        filed = world.do("eu", reserve("a", 80))
        short = Canonical({"lot/L": -50, "debt": -30, "held/a": 80}, Outcome.APPLIED, ClaimId("a"), 30)

        def blamed(*lots: str) -> Kind:
            return classify(filed, short, Rivals((), 1, tuple(map(LotId, lots)), False), ())

        assert blamed("M", "L") is Kind.REVOKED
        assert blamed("M") is Kind.OVERSPEND
