"""What may be applied now, what must wait, and what is never taken."""

from itertools import permutations

import pytest

import replication.delivery
from ledger.ids import ClaimId
from ledger.operation import Release
from replication.clock import Dot
from replication.delivery import Alarm, AlarmKind, wanted, weight_of
from replication.entry import GENESIS, hash_of, open_sealed, seal
from tests.unit.replication.sites import DRIFT_MS, NOW, PACE, Site, make_entry, make_log

REGIONS = ("ap", "eu", "us")


def kinds(alarms: list[Alarm]) -> list[tuple[AlarmKind, str]]:
    return [(alarm.kind, alarm.subject) for alarm in alarms]


def conversation() -> list[bytes]:
    """Entries of three sites of which each had seen the one before."""
    sites = [Site(region, REGIONS) for region in REGIONS]
    said: list[bytes] = []
    for turn in range(6):
        said.append(sites[turn % 3].accept(NOW + turn))
        for site in sites:
            site.deliver(said)
    return said


class TestOrder:
    def test_entries_in_order_are_applied_at_once(self) -> None:
        site = Site("eu", REGIONS)
        assert site.deliver(make_log("us/b1", 3)) == 3
        assert site.delivery.clock == {"us/b1": 3}

    @pytest.mark.parametrize("order", list(permutations(range(4))))
    def test_entries_of_one_log_are_applied_by_number_however_they_come(self, order: tuple[int, ...]) -> None:
        log = make_log("us/b1", 4)
        site = Site("eu", REGIONS)
        for place in order:
            site.deliver([log[place]])
        assert site.order == [Dot("us/b1", seq) for seq in range(1, 5)]
        assert site.delivery.waiting_count == 0

    @pytest.mark.parametrize("order", list(permutations(range(6)))[::7])
    def test_an_entry_waits_for_what_it_had_seen(self, order: tuple[int, ...]) -> None:
        said = conversation()
        site = Site("eu", REGIONS, boot="b2")
        for place in order:
            site.deliver([said[place]])
        assert len(site.order) == 6
        assert site.delivery.waiting_count == 0
        site.assert_causal()

    def test_all_that_arrives_in_one_page_is_applied_even_if_the_page_is_backwards(self) -> None:
        site = Site("eu", REGIONS, boot="b2")
        assert site.deliver(conversation()[::-1]) == 6

    def test_what_is_known_is_dropped(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 3)
        site.deliver(log)
        delivered = site.delivery.receive([*log, *log], NOW)
        assert (delivered.arrivals, delivered.alarms, delivered.known_count) == ([], [], 6)

    def test_what_waits_already_does_not_wait_twice(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 3)
        site.deliver([log[2]])
        assert site.delivery.receive([log[2]], NOW).known_count == 1
        assert site.delivery.waiting_count == 1

    def test_our_next_entry_says_what_moved_since_our_last(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 2))
        site.accept()
        site.deliver([*make_log("us/b1", 3), *make_log("ap/b1", 1)])
        assert site.delivery.news == {"us/b1": 3, "ap/b1": 1}
        site.accept()
        assert site.delivery.news == {}
        assert site.others[Dot("eu/b1", 1)] == {"us/b1": 2}
        assert site.others[Dot("eu/b1", 2)] == {"us/b1": 3, "ap/b1": 1}

    def test_a_new_boot_begins_with_all_that_the_old_one_had_seen(self) -> None:
        site = Site("eu", REGIONS)
        site.accept()
        site.deliver(make_log("us/b1", 2))
        site.restart("b2")
        assert site.delivery.news == {"eu/b1": 1, "us/b1": 2}
        site.accept()
        assert site.delivery.clock == {"eu/b1": 1, "us/b1": 2, "eu/b2": 1}

    def test_an_own_entry_that_does_not_say_what_it_had_seen_is_a_fault_here(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 2))
        with pytest.raises(AssertionError):
            site.delivery.append(make_entry("eu/b1", 1, seen={"us/b1": 1}), bytes(32))


class TestBounds:
    def test_no_more_waits_than_the_window_holds(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 80)
        delivered = site.delivery.receive(log[1:], NOW)
        assert site.delivery.waiting_count == PACE.window_entries - 1
        assert delivered.dropped_count == 80 - PACE.window_entries
        assert site.deliver(log[:1]) == PACE.window_entries
        assert site.deliver(log) == 80 - PACE.window_entries

    def test_no_more_waits_than_the_bytes_allow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = make_log("us/b1", 10)
        monkeypatch.setattr(replication.delivery, "MAX_WAITING_BYTES", 3 * weight_of(open_sealed(log[0])[0], log[0]))
        site = Site("eu", REGIONS)
        site.deliver(log[1:])
        assert site.delivery.waiting_count == 3
        site.deliver(log[:1])
        assert site.delivery.waiting_count == 0
        site.deliver(log[5:])
        assert site.delivery.waiting_count == 3

    @pytest.mark.timeout(10)
    def test_forged_entries_that_wait_for_each_other_wait_and_are_not_looked_at_for_ever(self) -> None:
        first = seal(make_entry("us/b1", 1))
        waits_for_ap = seal(make_entry("us/b1", 2, prev=hash_of(first), seen={"ap/b1": 1}))
        waits_for_us = seal(make_entry("ap/b1", 1, seen={"us/b1": 2}))
        site = Site("eu", REGIONS)
        assert site.deliver([waits_for_ap, waits_for_us]) == 0
        assert site.deliver([first]) == 1
        assert site.delivery.waiting_count == 2

    def test_no_more_logs_are_taken_than_a_clock_can_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replication.delivery, "MAX_REPLICAS", 3)
        site = Site("eu", REGIONS)
        logs = [make_log(f"us/b{number}", 2) for number in range(4)]
        for log in logs:
            site.deliver(log)
        assert site.delivery.clock == {"us/b0": 2, "us/b1": 2}, "one is left for our own"
        assert site.delivery.waiting_count == 0
        assert kinds(site.alarms) == [(AlarmKind.MALFORMED, "us")] * 4
        site.accept(NOW)
        assert len(site.delivery.clock) == 3

    def test_no_more_refused_logs_are_remembered_than_there_can_be_logs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replication.delivery, "MAX_REPLICAS", 3)
        site = Site("eu", REGIONS)
        for number in range(5):
            site.deliver([seal(make_entry(f"us/b{number}", 1, prev=b"x" * len(GENESIS)))])
        assert len(site.delivery.refused) == 3
        assert not site.delivery.clock

    def test_a_next_entry_for_which_there_is_no_room_is_taken_when_it_comes_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replication.delivery, "MAX_WAITING_BYTES", 0)
        said = conversation()
        site = Site("eu", REGIONS, boot="b2")
        assert site.deliver(said[::-1]) == 1
        assert site.deliver(said[1:]) == 5


class TestForks:
    def test_a_second_head_is_a_fork_and_the_first_is_kept(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 2))
        site.deliver(make_log("us/b1", 2, claim="other")[1:])
        assert kinds(site.alarms) == [(AlarmKind.FORK, "us/b1")]
        assert site.journal.sealed("us/b1", 2) == make_log("us/b1", 2)[1]

    def test_a_second_entry_further_down_is_a_fork(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 3))
        site.deliver(make_log("us/b1", 1, claim="other"))
        assert kinds(site.alarms) == [(AlarmKind.FORK, "us/b1")]

    def test_an_entry_behind_another_predecessor_is_a_fork(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 2))
        site.deliver(make_log("us/b1", 3, claim="other")[2:])
        assert kinds(site.alarms) == [(AlarmKind.FORK, "us/b1")]

    def test_the_rest_of_a_forked_log_is_refused_and_what_waited_of_it_dropped(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 6)
        site.deliver([log[0], log[3], log[4]])
        site.deliver(make_log("us/b1", 2, claim="other")[1:])
        assert site.delivery.waiting_count == 0
        assert site.deliver(log) == 0
        assert site.delivery.clock == {"us/b1": 1}
        assert "us/b1" in site.delivery.refused

    def test_a_fork_that_comes_to_light_when_its_turn_comes_refuses_the_rest_too(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 4, claim="other")[1:])
        assert site.delivery.waiting_count == 3
        assert site.deliver(make_log("us/b1", 1)) == 1
        assert site.delivery.waiting_count == 0
        assert kinds(site.alarms) == [(AlarmKind.FORK, "us/b1")]

    def test_the_others_go_on_even_if_they_had_seen_more_of_a_forked_log(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 1))
        witness = seal(make_entry("ap/b1", 1, seen={"us/b1": 5}))
        assert site.deliver([witness]) == 0
        assert site.deliver(make_log("us/b1", 2, claim="other")[1:]) == 1
        assert site.order[-1] == Dot("ap/b1", 1)
        later = seal(make_entry("ap/b1", 2, prev=hash_of(witness), seen={"us/b1": 9}))
        assert site.deliver([later]) == 1

    def test_who_waits_for_a_log_goes_on_when_an_old_entry_of_it_turns_out_to_be_forked(self) -> None:
        site = Site("eu", REGIONS)
        site.deliver(make_log("us/b1", 2))
        assert site.deliver([seal(make_entry("ap/b1", 1, seen={"us/b1": 5}))]) == 0
        assert site.deliver(make_log("us/b1", 1, claim="other")) == 1

    def test_nobody_else_can_add_to_our_own_log(self) -> None:
        site = Site("eu", REGIONS)
        own = site.accept()
        site.deliver([own, *make_log("eu/b1", 2)])
        assert kinds(site.alarms) == [(AlarmKind.FORK, "eu/b1")] * 2
        assert site.delivery.clock == {"eu/b1": 1}
        site.accept()
        assert site.delivery.clock == {"eu/b1": 2}

    def test_a_log_whose_clock_runs_backwards_is_refused(self) -> None:
        site = Site("eu", REGIONS)
        first = seal(make_entry("us/b1", 1, ms=NOW))
        second = seal(make_entry("us/b1", 2, ms=NOW - 1, prev=hash_of(first)))
        assert site.deliver([first, second]) == 1
        assert kinds(site.alarms) == [(AlarmKind.MALFORMED, "us/b1")]

    def test_rubbish_is_passed_over(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 2)
        assert site.deliver([log[0], b"rubbish" * 10, log[1]]) == 2
        assert kinds(site.alarms) == [(AlarmKind.MALFORMED, "")]


class TestClocks:
    def test_an_entry_that_waits_for_ever_does_not_keep_back_the_other_under_its_name(self) -> None:
        true = make_log("us/b1", 2)
        later = seal(make_entry("us/b1", 1, ms=NOW + 10**9))
        lacking = seal(make_entry("us/b1", 1, seen={"zz/b1": 9}))
        for forged in (later, lacking):
            site = Site("eu", REGIONS)
            site.deliver([forged, forged, true[1], true[0]])
            assert site.delivery.clock == {"us/b1": 2}
            assert site.delivery.waiting_count == 0
            site.deliver([forged])
            assert "us/b1" in site.delivery.refused, "two entries under one name"

    def test_an_entry_too_far_ahead_waits_until_our_clock_gets_there(self) -> None:
        site = Site("eu", REGIONS)
        log = make_log("us/b1", 2, ms=NOW + DRIFT_MS + 500)
        assert site.deliver(log) == 0
        assert kinds(site.alarms) == [(AlarmKind.CLOCK_AHEAD, "us/b1")]
        assert site.retry(NOW + 499) == 0
        assert site.retry(NOW + 501) == 2

    def test_an_entry_within_the_drift_is_applied(self) -> None:
        site = Site("eu", REGIONS)
        assert site.deliver(make_log("us/b1", 1, ms=NOW + DRIFT_MS - 1)) == 1

    def test_who_had_seen_such_an_entry_waits_with_it(self) -> None:
        site = Site("eu", REGIONS)
        ahead = make_log("us/b1", 1, ms=NOW + DRIFT_MS + 500)
        witness = make_entry("ap/b1", 1, seen={"us/b1": 1})
        assert site.deliver([*ahead, seal(witness)]) == 0
        assert site.retry(NOW + 501) == 2
        assert site.order == [Dot("us/b1", 1), Dot("ap/b1", 1)]


class TestWanted:
    def test_what_the_peer_has_beyond_us_is_wanted(self) -> None:
        assert wanted({"a/1": 3, "b/1": 5}, {"a/1": 7, "b/1": 5, "c/1": 2}) == {"a/1": (3, 7), "c/1": (0, 2)}

    def test_nothing_is_wanted_of_a_refused_log(self) -> None:
        assert wanted({}, {"a/1": 7, "b/1": 1}, {"a/1"}) == {"b/1": (0, 1)}


def test_the_content_of_an_entry_makes_no_difference() -> None:
    entry = make_entry("us/b1", 1, claim="another")
    assert entry.content == Release(ClaimId("another"))
    assert Site("eu", REGIONS).deliver([seal(entry)]) == 1
