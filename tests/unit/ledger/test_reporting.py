"""Which reports of a job are taken, as what, and which the scheduler has to say again, right this time."""

from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from ledger import reporting
from ledger.admission import admit
from ledger.amount import MAX_AMOUNT, MAX_TOTAL
from ledger.command import Command, ReportHeartbeat, ReportUsage
from ledger.ids import ClaimId, JobId, Key, TenantId
from ledger.operation import Heartbeat, Operation, Usage
from ledger.posting import USED
from ledger.pricing import HOUR_MS, RateCard, Rates, Work
from ledger.refusal import Limits, Reason, Refusal, Terms
from tests.unit.ledger.story import Story, debit, grant, heartbeat, hold, lapse, transfer, usage

ACME, KEY, TRAIN = TenantId("acme"), Key("k"), JobId("train")
C, D, NOBODY = ClaimId("c"), ClaimId("d"), ClaimId("nobody")
GIFT = "~" + 24 * "a"
NOW = 1_000
CARD = RateCard([Rates(0, {"a100": Fraction(HOUR_MS)}, {"high": Fraction(2)}), Rates(900, {"a100": Fraction(0)})])
"""An A100 costs 1 a millisecond, and nothing from 900 ms on."""
TERMS = Terms(Limits(max_lease_ms=1_000, max_ahead_ms=50, max_late_ms=600, heartbeat_lease_ms=300), CARD)


@dataclass
class Desk:
    """A tenant, and a node that judges what is reported of it at 1000 ms."""

    story: Story = field(default_factory=Story)

    def ask(self, command: Command) -> Operation | Refusal:
        return admit(self.story.account, ACME, command, KEY, NOW, TERMS)

    def refusal(self, command: Command) -> Refusal:
        answer = self.ask(command)
        assert isinstance(answer, Refusal)
        return answer

    def invalid(self, command: Command) -> tuple[object, object]:
        """The field and the rule."""
        answer = self.refusal(command)
        assert answer.reason is Reason.INVALID_REQUEST
        assert answer.detail == f"{answer.fields['field']} {answer.fields['rule']}"
        return answer.fields["field"], answer.fields["rule"]


@pytest.fixture
def desk() -> Desk:
    """100 credit until 2000 ms, of which 60 are held by c for the job, and 10 used by d."""
    desk = Desk()
    desk.story.do(500, grant("L", 100, starts=450, until=2_000))
    desk.story.do(501, hold("c", 60, lease=800, job="train"))
    desk.story.do(502, debit("d", 10, at=502))
    return desk


class TestHeartbeat:
    def test_it_is_now_and_extends_the_lease_by_what_the_node_gives(self, desk: Desk) -> None:
        assert desk.ask(ReportHeartbeat(TRAIN)) == Heartbeat(TRAIN, C, NOW, NOW + 300, False)

    def test_it_may_say_when_for_which_reservation_for_how_long_and_that_the_job_began(self, desk: Desk) -> None:
        command = ReportHeartbeat(TRAIN, at=900, reservation=C, lease_ms=500, started=True)
        assert desk.ask(command) == Heartbeat(TRAIN, C, 900, 1_400, True)

    def test_the_lease_is_counted_from_when_the_job_was_seen(self, desk: Desk) -> None:
        operation = desk.ask(ReportHeartbeat(TRAIN, at=600, lease_ms=0))
        assert operation == Heartbeat(TRAIN, C, 600, 600, False)

    def test_a_lease_longer_than_the_node_gives_is_refused(self, desk: Desk) -> None:
        assert isinstance(desk.ask(ReportHeartbeat(TRAIN, lease_ms=1_000)), Heartbeat)
        assert desk.invalid(ReportHeartbeat(TRAIN, lease_ms=1_001)) == ("lease_ms", "must be at most 1000")

    def test_the_reservation_is_the_one_made_for_the_job_or_none(self, desk: Desk) -> None:
        stray = JobId("stray")
        assert desk.ask(ReportHeartbeat(stray)) == Heartbeat(stray, None, NOW, NOW + 300, False)

    def test_a_reservation_that_is_not_known_here_may_be_known_elsewhere(self, desk: Desk) -> None:
        assert desk.ask(ReportHeartbeat(TRAIN, reservation=NOBODY)) == Heartbeat(TRAIN, NOBODY, NOW, NOW + 300, False)

    def test_one_that_has_ended_is_no_reason_not_to_hear_of_the_job(self, desk: Desk) -> None:
        desk.story.do(800, lapse("c", at=800))
        assert isinstance(desk.ask(ReportHeartbeat(TRAIN, reservation=C)), Heartbeat)

    def test_it_lies_neither_too_far_ahead_nor_too_far_back(self, desk: Desk) -> None:
        assert isinstance(desk.ask(ReportHeartbeat(TRAIN, at=1_050)), Heartbeat)
        assert desk.invalid(ReportHeartbeat(TRAIN, at=1_051))[0] == "at"
        assert isinstance(desk.ask(ReportHeartbeat(TRAIN, at=450)), Heartbeat)
        assert desk.invalid(ReportHeartbeat(TRAIN, at=399)) == (
            "at", "lies 601 ms in the past; at most 600 are taken",
        )  # fmt: skip

    def test_before_the_tenant_had_anything_nothing_of_it_ran(self, desk: Desk) -> None:
        assert desk.invalid(ReportHeartbeat(TRAIN, at=449))[0] == "at"


class TestUsage:
    def test_a_report_says_when_the_job_ran_and_what_that_costs(self, desk: Desk) -> None:
        command = ReportUsage(TRAIN, end=900, start=600, cost=25, reservation=C, final=True)
        assert desk.ask(command) == Usage(TRAIN, C, 600, 900, 25, True)
        assert desk.ask(ReportUsage(TRAIN, 900, 600, 25)) == Usage(TRAIN, C, 600, 900, 25, False)

    def test_work_is_priced_where_it_is_accepted(self, desk: Desk) -> None:
        assert desk.ask(ReportUsage(TRAIN, 900, 600, Work("a100", 2))) == Usage(TRAIN, C, 600, 900, 600, False)
        assert desk.ask(ReportUsage(TRAIN, 950, 600, Work("a100", 1, "low"))) == Refusal(
            Reason.INVALID_REQUEST,
            "priority must be one that has a multiplier: high",
            {"field": "priority", "rule": "must be one that has a multiplier: high"},
        )
        assert desk.invalid(ReportUsage(TRAIN, 900, 600, Work("abacus", 1)))[0] == "gpu_type"
        assert desk.invalid(ReportUsage(TRAIN, 900, 600, Work("a100", MAX_AMOUNT)))[0] == "gpus"

    def test_a_change_of_rates_in_the_middle_counts_from_its_time_on(self, desk: Desk) -> None:
        assert desk.ask(ReportUsage(TRAIN, 1_000, 850, Work("a100", 1))) == Usage(TRAIN, C, 850, 1_000, 50, False)

    def test_work_without_a_start_is_charged_from_when_the_job_was_said_to_have_started(self, desk: Desk) -> None:
        desk.story.do(600, heartbeat("train", 550, started=True))
        assert desk.ask(ReportUsage(TRAIN, 900, cost=25)) == Usage(TRAIN, C, 550, 900, 25, False)

    def test_with_no_start_known_it_can_be_asked_again_when_there_is_one(self, desk: Desk) -> None:
        desk.story.do(600, heartbeat("train", 550))
        answer = desk.refusal(ReportUsage(TRAIN, 900, cost=25))
        assert (answer.reason, answer.fields) == (Reason.START_UNKNOWN, {"job": "train"})
        desk.story.do(601, heartbeat("train", 560, started=True))
        assert desk.ask(ReportUsage(TRAIN, 900, cost=25)) == Usage(TRAIN, C, 560, 900, 25, False)

    def test_in_however_small_pieces_it_costs_together_what_the_whole_does(self, desk: Desk) -> None:
        work, whole = Work("a100", 1), []
        for start in range(600, 700):
            used = desk.ask(ReportUsage(TRAIN, start + 1, start, work))
            assert isinstance(used, Usage)
            desk.story.do(700, used)
            whole.append(used.amount)
        alone = desk.ask(ReportUsage(JobId("alone"), 700, 600, work))
        assert isinstance(alone, Usage)
        assert sum(whole) == alone.amount

    def test_a_final_report_may_charge_nothing_more(self, desk: Desk) -> None:
        desk.story.do(600, heartbeat("train", 550, started=True))
        assert desk.ask(ReportUsage(TRAIN, 900, final=True)) == Usage(TRAIN, C, 900, 900, 0, True)

    def test_one_that_charges_nothing_leaves_the_time_open_for_reports_that_are_late(self, desk: Desk) -> None:
        final = desk.ask(ReportUsage(TRAIN, 900, 600, final=True))
        assert final == Usage(TRAIN, C, 900, 900, 0, True)
        desk.story.do(1_000, final)
        late = desk.ask(ReportUsage(TRAIN, 700, 600, 25))
        assert isinstance(late, Usage)
        assert desk.story.do(1_001, late).postings == {"lot/L": -25, "used": 25}

    def test_any_other_has_to_say_what_it_costs_and_to_cover_some_time(self, desk: Desk) -> None:
        assert desk.invalid(ReportUsage(TRAIN, 900, 600)) == ("cost", "is required of a report that is not final")
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, 0)), Usage)
        assert desk.invalid(ReportUsage(TRAIN, 900, 900, 25)) == ("end", "must be after start")
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 899, 25)), Usage)

    def test_its_end_is_not_before_its_start(self, desk: Desk) -> None:
        for final in (True, False):
            assert desk.invalid(ReportUsage(TRAIN, 900, 901, 25, final=final)) == ("end", "must be after start")
        assert desk.invalid(ReportUsage(TRAIN, 900, 901, final=True)) == ("end", "must be after start")

    def test_a_start_too_far_ahead_is_told_by_how_much(self, desk: Desk) -> None:
        assert desk.invalid(ReportUsage(TRAIN, 900, 1_051, 25)) == (
            "start", "lies 51 ms in the future; at most 50 are taken",
        )  # fmt: skip

    def test_nor_is_an_end_before_the_start_that_was_reported(self, desk: Desk) -> None:
        desk.story.do(600, heartbeat("train", 550, started=True))
        assert desk.invalid(ReportUsage(TRAIN, 500, cost=25)) == ("end", "must be after start")

    def test_it_ends_neither_too_far_ahead_nor_too_far_back(self, desk: Desk) -> None:
        assert isinstance(desk.ask(ReportUsage(TRAIN, 1_050, 900, 25)), Usage)
        assert desk.invalid(ReportUsage(TRAIN, 1_051, 900, 25)) == (
            "end", "lies 51 ms in the future; at most 50 are taken",
        )  # fmt: skip
        assert desk.invalid(ReportUsage(TRAIN, 399, 398, 25))[0] == "end"

    def test_what_is_too_late_to_report_is_closed_from_its_start_on(self, desk: Desk) -> None:
        desk.story.do(503, grant("old", 1, starts=0, until=2_000))
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 400, 25)), Usage)
        assert desk.invalid(ReportUsage(TRAIN, 900, 399, 25)) == (
            "start", "lies 601 ms in the past; at most 600 are taken",
        )  # fmt: skip

    def test_before_the_tenant_had_anything_nothing_of_it_ran(self, desk: Desk) -> None:
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 450, 25)), Usage), "the lot starts before it was granted"
        field, rule = desk.invalid(ReportUsage(TRAIN, 900, 449, 25))
        assert field == "start"
        assert str(rule).startswith("lies before the tenant had anything")

    def test_a_tenant_has_something_from_its_first_grant_on_also_when_nothing_of_it_has_started(self) -> None:
        desk = Desk()
        desk.story.do(600, grant("later", 100, starts=1_500, until=2_000))
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, 25)), Usage)
        assert desk.invalid(ReportUsage(TRAIN, 900, 599, 25))[0] == "start"

    def test_a_lot_that_is_over_is_something_that_it_had(self, desk: Desk) -> None:
        desk.story.do(503, grant("old", 1, starts=400, until=420))
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 400, 25)), Usage)

    def test_it_is_never_refused_for_lack_of_credit_or_of_a_reservation(self, desk: Desk) -> None:
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, MAX_AMOUNT // 2)), Usage)
        assert isinstance(desk.ask(ReportUsage(JobId("unheard-of"), 900, 600, 25)), Usage)
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, 25, reservation=NOBODY)), Usage)
        desk.story.do(800, lapse("c", at=800))
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, 25, reservation=C)), Usage)

    def test_what_a_tenant_used_stays_within_the_largest_total(self, desk: Desk) -> None:
        desk.story.account.totals[USED] = MAX_TOTAL - 50
        assert isinstance(desk.ask(ReportUsage(TRAIN, 900, 600, 50)), Usage)
        assert desk.invalid(ReportUsage(TRAIN, 900, 600, 51))[0] == "amount"


@pytest.mark.parametrize("name", ["d", GIFT])
def test_what_a_report_names_must_not_be_something_else_than_a_reservation(desk: Desk, name: str) -> None:
    desk.story.do(503, transfer(GIFT, 5, until=2_000))
    named = ClaimId(name)
    for command in (ReportHeartbeat(TRAIN, reservation=named), ReportUsage(TRAIN, 900, 600, 25, reservation=named)):
        answer = desk.refusal(command)
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"reservation": name})


class TestPieces:
    """Each report rewrites all pieces of the time that a job was charged for, so there is an end to them."""

    @pytest.fixture
    def pieces(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
        monkeypatch.setattr(reporting, "MAX_PIECES", 3)
        for start in (600, 620, 640):
            desk.story.do(900, usage("train", start, start + 10, 1))
        return desk

    def test_one_piece_too_many_is_refused(self, pieces: Desk) -> None:
        field, rule = pieces.invalid(ReportUsage(TRAIN, 700, 690, 1))
        assert field == "start"
        assert rule == "would leave the time of the job in more than 3 pieces; fill the gaps first"

    def test_what_grows_a_piece_or_fills_a_gap_is_taken(self, pieces: Desk) -> None:
        assert isinstance(pieces.ask(ReportUsage(TRAIN, 660, 650, 1)), Usage)
        assert isinstance(pieces.ask(ReportUsage(TRAIN, 620, 610, 1)), Usage)
        assert isinstance(pieces.ask(ReportUsage(TRAIN, 900, final=True)), Usage)

    def test_a_job_with_more_by_what_other_regions_took_can_still_grow_and_fill(self, pieces: Desk) -> None:
        for start in (660, 680):
            pieces.story.do(901, usage("train", start, start + 10, 1))
        assert isinstance(pieces.ask(ReportUsage(TRAIN, 700, 690, 1)), Usage)
        assert pieces.invalid(ReportUsage(TRAIN, 720, 710, 1))[0] == "start"

    def test_other_jobs_have_pieces_of_their_own(self, pieces: Desk) -> None:
        assert isinstance(pieces.ask(ReportUsage(JobId("other"), 700, 690, 1)), Usage)
