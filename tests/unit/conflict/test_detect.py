"""What two regions did without seeing each other, and what it is called when they meet."""

from conflict.detect import Kind, classify, difference, differs
from conflict.report import LotShare, Report
from conflict.rivals import Rivals
from ledger.cells import Effect
from ledger.command import OnShortage
from ledger.ids import LotId
from ledger.posting import Outcome
from tests.regions import HOUR_MS, Regions, capture, clash, debit, grant, refund, release, renew, reserve, revoke


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

    def test_a_lot_revoked_elsewhere_that_would_not_have_paid_is_not_the_cause(self) -> None:
        world = clash(
            [grant("L", 100), grant("M", 100, until=2 * HOUR_MS)],
            [revoke("M"), reserve("a", 80)],
            [reserve("b", 80)],
        )
        assert told(world.the_report()) == ("overspend", "applied", 60, 60, (LotShare("L", -80, -20),))


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

    def test_a_lot_can_be_revoked_once(self) -> None:
        world = clash([grant("L", 100)], [revoke("L")], [revoke("L")])
        assert told(world.the_report()) == ("revoked", "closed", 100, 0, (LotShare("L", -100, 0),))
        assert postings_of(world) == {"lot/L": 100, "revoked": -100}


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
        assert told(newest) == ("lease", "closed", 10, 0, (LotShare("M", 10, 0),))

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
        assert not differs(filed, Effect(same, Outcome.APPLIED, None, ()))
        assert differs(filed, Effect({"issued": -99, "lot/L": 99}, Outcome.APPLIED, None, ()))
        assert differs(filed, Effect(same, Outcome.DUPLICATE, None, ()))

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
            return classify(filed, filed.entry.postings, Outcome.APPLIED, nobody, compensations)

        assert name({"lot/L": 10, "debt": -10}, {"lot/L": -10, "debt": 10}) is Kind.OVERSPEND
        assert name({"lot/L": 80, "held/a": -80}, {"lot/L": -80, "held/a": 80}) is Kind.DUPLICATE
        assert name({"lot/L": 10, "lot/M": -10}, {"lot/L": -10, "lot/M": 10}) is Kind.REALLOCATED

    def test_a_revoked_lot_is_to_blame_only_if_less_comes_from_it(self) -> None:
        world = Regions("eu")
        world.do("eu", grant("L", 100))
        filed = world.do("eu", reserve("a", 80))
        canonical = {"lot/L": -50, "debt": -30, "held/a": 80}

        def blamed(*lots: str) -> Kind:
            return classify(filed, canonical, Outcome.APPLIED, Rivals((), 1, tuple(map(LotId, lots)), False), ())

        assert blamed("M", "L") is Kind.REVOKED
        assert blamed("M") is Kind.OVERSPEND
