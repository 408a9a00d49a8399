"""What a tenant owes, and where its books differ from canonical order."""

import pytest

from conflict.rivals import Rivals
from ledger.command import (
    Command,
    GrantCredit,
    OnShortage,
    SetPolicy,
)
from ledger.ids import ClaimId
from ledger.operation import Admission, Compensation, Difference
from ledger.pricing import HOUR_MS
from node.book import LedgerBook
from node.examine import MAX_ENTRIES
from node.finding import Finding, FindingKind
from replication.clock import Dot
from tests.regions import Regions, clash, debit, grant, refund, reserve
from tests.unit.node.priced import Priced, findings, kinds, run, settle, the_finding


class TestNegativeBalance:
    def test_a_tenant_that_owes(self, world: Priced) -> None:
        entry = world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        finding = the_finding(world)
        assert (finding.kind, finding.subject) == (FindingKind.NEGATIVE_BALANCE, "acme")
        assert finding.since == entry.position.now
        assert finding.entries == (entry.dot,)
        assert finding.detail == "the tenant owes 50: d"
        remedy = finding.remedy
        assert isinstance(remedy, GrantCredit)
        assert (remedy.amount, remedy.expires_at) == (50, world.now + 24 * HOUR_MS)
        assert remedy.lot is not None
        assert remedy.lot.startswith("write-off-")
        settle(world, finding)
        assert findings(world) == []

    def test_its_name_stays_while_it_owes_more_or_less(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        first = the_finding(world)
        world.do("eu", debit("e", 30, OnShortage.DEBT))
        assert the_finding(world).id == first.id
        assert isinstance(the_finding(world).remedy, GrantCredit)
        world.do("eu", grant("M", 10, until=2 * HOUR_MS))
        assert the_finding(world).id == first.id
        assert the_finding(world).detail == "the tenant owes 70: d, e"

    def test_owing_again_is_another_one(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        first = the_finding(world)
        settle(world, first)
        world.do("eu", debit("e", 30, OnShortage.DEBT))
        assert the_finding(world).id != first.id

    def test_many_debtors_are_counted_and_the_first_are_named(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_000))
        for number in range(MAX_ENTRIES + 3):
            world.do("eu", debit(f"e{number}", 1, OnShortage.DEBT))
        finding = the_finding(world)
        assert len(finding.entries) == MAX_ENTRIES
        assert finding.detail.endswith("e15 and 3 more")

    @pytest.mark.parametrize("paid", [refund("d", 50), grant("M", 50, until=2 * HOUR_MS)], ids=["refunded", "repaid"])
    def test_what_was_paid_or_given_back_is_none(self, world: Priced, paid: Command) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        world.do("eu", paid)
        assert findings(world) == []

    def test_a_tenant_without_credit_that_owes_nothing_is_none(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_000))
        assert findings(world) == []

    def test_under_escrow_each_region_settles_what_its_own_shares_have_to_repay(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.do("eu", SetPolicy(admission=Admission.ESCROW))
        world.meet()
        for name in world.names:
            world.do(name, debit(f"d-{name}", 130, OnShortage.DEBT))
        world.exchange(5_000)
        found = {finding.region: finding for finding in findings(world)}
        assert {name: finding.detail for name, finding in found.items()} == {
            "eu": "the tenant owes 30: d-eu", "us": "the tenant owes 130: d-us",
        }  # fmt: skip
        settle(world, found["eu"], "eu")
        assert [finding.region for finding in findings(world)] == ["us"]
        settle(world, found["us"], "us")
        world.exchange(5_000)
        assert [findings(world, name) for name in world.names] == [[], []]


class TestBooksDiffer:
    def test_a_compensation_that_is_due_is_found_in_every_region(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        found = [
            [each for each in run(world, name).found if each.kind is FindingKind.BOOKS_DIFFER] for name in world.names
        ]
        assert found[0] == found[1]
        (finding,) = found[0]
        loser = world.book("us").account.claims[ClaimId("b")].made
        assert (finding.subject, finding.region, finding.since) == ("b", "us", loser.now)
        assert finding.entries == (Dot("us/b2", 1),)
        rest = {"lot/L": 60, "debt": -60}
        assert finding.remedy == Compensation((Difference("us/b2", 1, rest),))
        assert finding.id == "books_differ.us.b2.1.0"

    def test_when_it_is_posted_it_is_gone(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        for name in world.names:
            assert kinds(world, name) == [FindingKind.NEGATIVE_BALANCE]

    def test_it_is_found_after_a_restart(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.crash("eu")
        assert FindingKind.BOOKS_DIFFER in kinds(world, "eu")

    def test_the_next_difference_of_the_same_entry_is_another_one(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", reserve("x", 10))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        world.meet()
        assert [finding.id for finding in differences(world, "us")] == ["books_differ.us.b3.1.1"]

    def test_a_difference_that_nothing_explains_is_an_alarm_and_has_no_operation(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        monkeypatch.setattr(LedgerBook, "rivals", lambda *_: Rivals((), 0, (), False))
        (finding,) = differences(world, "us")
        assert finding.remedy is None
        assert finding.why_not is not None
        assert "alarm" in finding.why_not


def differences(world: Regions, name: str) -> list[Finding]:
    return [finding for finding in run(world, name).found if finding.kind is FindingKind.BOOKS_DIFFER]
