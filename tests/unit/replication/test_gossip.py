"""Two nodes and a link, or three and a cut: who says what, and what arrives."""

import msgspec
import pytest

from replication.clock import Dot, hlc_at, lacking_count
from replication.codec import Bye, Entries, Fault, Frame, FrameError, Have, Hello, Want
from replication.delivery import Alarm, AlarmKind
from replication.gossip import Close, Deliver, Effect, Heard, InFlight, Reason, Send, Session
from tests.unit.replication.sites import DRIFT_MS, NOW, PACE, Network, Site, make_log

REGIONS = ("ap", "eu", "us")


def pair() -> tuple[Network, Site, Site]:
    """Two sites, linked, greeted, with nothing to say."""
    eu, us = Site("eu", REGIONS), Site("us", REGIONS)
    network = Network(eu, us)
    network.connect("eu", "us")
    network.settle()
    network.frames.clear()
    return network, eu, us


def hello(site: Site, **changes: object) -> Hello:
    """What the site says first."""
    (effect,) = site.session().opened(NOW)
    assert isinstance(effect, Send)
    assert isinstance(effect.frame, Hello)
    return msgspec.structs.replace(effect.frame, **changes)


def greeted(site: Site, peer: Site) -> Session:
    """A session of the site that has heard the peer's hello."""
    session = site.session()
    session.opened(NOW)
    session.receive(hello(peer), NOW)
    return session


def closing(effects: list[Effect]) -> Reason:
    """The reason given to the peer and to the host."""
    bye, close = effects[-2:]
    assert isinstance(bye, Send)
    assert isinstance(bye.frame, Bye)
    assert isinstance(close, Close)
    assert bye.frame.reason == close.reason
    return close.reason


def sent(effects: list[Effect]) -> list[Frame]:
    return [effect.frame for effect in effects if isinstance(effect, Send)]


class TestHello:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"cluster": "another"}, Reason.WRONG_CLUSTER),
            ({"region": "mars", "replica": "mars/b1"}, Reason.NOT_A_PEER),
            ({"region": "eu", "replica": "eu/b7"}, Reason.NOT_A_PEER),
            ({"replica": "ap/b1"}, Reason.NOT_A_PEER),
            ({"versions": (2, 9)}, Reason.VERSIONS_DIFFER),
            ({"rules": "2"}, Reason.RULES_DIFFER),
        ],
    )
    def test_who_does_not_belong_is_told_so_and_left(self, changes: dict[str, object], reason: Reason) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = eu.session()
        session.opened(NOW)
        assert closing(session.receive(hello(us, **changes), NOW)) is reason
        assert session.peer is None
        assert session.receive(Have({}, {}, 0), NOW) == []

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [({"cluster": "another"}, AlarmKind.WRONG_CLUSTER), ({"rules": "2"}, AlarmKind.RULES_DIFFER)],
    )
    def test_what_an_operator_must_look_at_is_an_alarm(self, changes: dict[str, object], kind: AlarmKind) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = eu.session()
        session.opened(NOW)
        (alarm, *_) = session.receive(hello(us, **changes), NOW)
        assert isinstance(alarm, Alarm)
        assert (alarm.kind, alarm.subject) == (kind, "us")

    def test_a_peer_that_speaks_newer_versions_too_is_welcome(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = eu.session()
        session.opened(NOW)
        session.receive(hello(us, versions=(1, 9)), NOW)
        assert session.region == "us"

    @pytest.mark.parametrize("frame", [Have({}, {}, 0), Want(1, {}), Entries([], {}, 0)])
    def test_nothing_is_said_before_hello(self, frame: Frame) -> None:
        session = Site("eu", REGIONS).session()
        session.opened(NOW)
        assert closing(session.receive(frame, NOW)) is Reason.UNEXPECTED_FRAME

    def test_hello_is_said_once(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        assert closing(greeted(eu, us).receive(hello(us), NOW)) is Reason.UNEXPECTED_FRAME

    def test_the_answer_to_hello_is_what_we_hold_and_a_question(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.accept()
        us.commit()
        session = eu.session()
        session.opened(NOW)
        have, want = sent(session.receive(hello(us), NOW))
        assert isinstance(have, Have)
        assert want == Want(1, {"us/b1": (0, 1)})

    def test_the_clock_in_hello_is_taken_note_of_unless_it_is_too_far_ahead(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.hlc.observe(hlc_at(NOW + DRIFT_MS))
        greeted(eu, us)
        assert eu.hlc.latest == hlc_at(NOW + DRIFT_MS)
        us.hlc.observe(hlc_at(NOW + DRIFT_MS + 1))
        session = eu.session()
        session.opened(NOW)
        effects = session.receive(hello(us), NOW)
        assert eu.hlc.latest == hlc_at(NOW + DRIFT_MS)
        assert AlarmKind.CLOCK_AHEAD in [effect.kind for effect in effects if isinstance(effect, Alarm)]
        assert session.peer_hlc == us.hlc.latest


class TestPushing:
    def test_a_fresh_entry_arrives_without_a_question(self) -> None:
        network, eu, us = pair()
        eu.accept()
        network.commit("eu")
        network.settle()
        assert us.order == [Dot("eu/b1", 1)]
        assert not any(isinstance(frame, Want) for _, frame in network.frames)

    def test_the_sender_hears_when_it_is_durable_there(self) -> None:
        network, eu, _ = pair()
        eu.accept()
        network.commit("eu")
        network.heard.clear()
        network.settle()
        assert Heard("us", {"eu/b1": 1}) in network.heard
        assert network.sessions["eu", "us"].peer_has == {"eu/b1": 1}

    def test_nothing_is_pushed_before_it_is_durable(self) -> None:
        network, eu, us = pair()
        eu.accept()
        network.pass_time(PACE.anti_entropy_interval_ms)
        while any(network.wires.values()):
            for link, wire in network.wires.items():
                if wire:
                    network.carry(link)
        assert us.order == []

    def test_many_entries_are_pushed_in_pages(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        eu.pace = us.pace = msgspec.structs.replace(PACE, page_entries=4, window_entries=10)
        session = greeted(eu, us)
        for _ in range(10):
            eu.accept()
        pages = sent(session.fresh(eu.commit()))
        assert [len(page.page) for page in pages if isinstance(page, Entries)] == [4, 4, 2]
        assert [page.reaches for page in pages if isinstance(page, Entries)] == [{"eu/b1": n} for n in (4, 8, 10)]

    def test_a_page_of_pushed_entries_keeps_to_its_bytes(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        entry = eu.accept()
        eu.pace = msgspec.structs.replace(PACE, page_bytes=2 * len(entry))
        session = greeted(eu, us)
        eu.accept()
        eu.accept()
        assert [len(page.page) for page in sent(session.fresh(eu.commit())) if isinstance(page, Entries)] == [2, 1]

    def test_beyond_the_window_the_peer_is_told_once_and_asks(self) -> None:
        network, eu, us = pair()
        session = network.sessions["eu", "us"]
        for _ in range(PACE.window_entries + 1):
            eu.accept()
        (frame,) = sent(session.fresh(eu.commit()))
        assert frame == Have({"eu/b1": PACE.window_entries + 1}, {}, eu.hlc.latest)
        eu.accept()
        assert session.fresh(eu.commit()) == []
        network.arrive(("eu", "us"), frame)
        network.settle()
        assert us.delivery.clock == {"eu/b1": PACE.window_entries + 2}

    def test_who_falls_behind_again_is_told_again(self) -> None:
        network, eu, us = pair()
        for _ in range(2):
            network.frames.clear()
            for _ in range(PACE.window_entries + 1):
                eu.accept()
            network.commit("eu")
            network.settle()
            assert us.delivery.clock == eu.delivery.clock
            assert any(isinstance(frame, Want) for _, frame in network.frames)

    def test_pushing_goes_on_where_the_answer_to_a_question_ended(self) -> None:
        network, eu, us = pair()
        for _ in range(3 * PACE.window_entries):
            eu.accept()
        network.commit("eu")
        network.settle()
        network.frames.clear()
        eu.accept()
        network.commit("eu")
        network.settle()
        assert us.delivery.clock == eu.delivery.clock
        assert not any(isinstance(frame, Want) for _, frame in network.frames)

    def test_a_peer_that_lacks_earlier_entries_is_not_pushed_later_ones(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        eu.accept()
        eu.commit()
        session = greeted(eu, us)
        eu.accept()
        assert [type(frame) for frame in sent(session.fresh(eu.commit()))] == [Have]

    def test_what_an_answer_has_already_sent_is_not_pushed_again(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = greeted(eu, us)
        eu.accept()
        fresh = eu.commit()
        session.receive(Want(1, {"eu/b1": (0, 1)}), NOW)
        assert session.fresh(fresh) == []

    def test_before_hello_nothing_is_pushed(self) -> None:
        eu = Site("eu", REGIONS)
        session = eu.session()
        session.opened(NOW)
        eu.accept()
        assert session.fresh(eu.commit()) == []
        assert session.acknowledge() == []


class TestAsking:
    def test_a_new_node_gets_everything_page_by_page(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        for _ in range(3):
            eu.accept()
        eu.deliver(make_log("ap/b1", 250))
        eu.commit()
        network = Network(eu, us)
        network.connect("eu", "us")
        network.settle()
        assert us.delivery.clock == {"eu/b1": 3, "ap/b1": 250}
        answers = [frame for _, frame in network.frames if isinstance(frame, Entries)]
        assert [len(answer.page) for answer in answers] == [100, 100, 53]
        assert us.order == eu.order

    def test_the_next_page_is_asked_for_before_the_last_is_applied(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 150))
        us.commit()
        session = greeted(eu, us)
        page = make_log("ap/b1", 100)
        effects = session.receive(Entries(page, {"ap/b1": 100}, 1), NOW)
        assert effects == [Send(Want(2, {"ap/b1": (100, 150)})), Deliver(page)]

    def test_one_question_at_a_time(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = greeted(eu, us)
        effects = session.receive(Have({"ap/b1": 9}, {}, 0), NOW)
        assert sent(effects) == []

    def test_a_question_without_an_answer_is_asked_again_when_others_could_have_been_asked(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = greeted(eu, us)
        given_up = NOW + PACE.answer_timeout_ms
        for early in (given_up - 1, given_up, given_up + PACE.anti_entropy_interval_ms - 1):
            assert not any(isinstance(frame, Want) for frame in sent(session.tick(early)))
        later = sent(session.tick(given_up + 2 * PACE.anti_entropy_interval_ms))
        assert Want(2, {"ap/b1": (0, 5)}) in later

    @pytest.mark.parametrize("says", ["nothing", "that it has nothing"])
    def test_a_peer_that_offers_and_never_gives_does_not_keep_others_from_being_asked(self, says: str) -> None:
        eu, us, ap = (Site(region, REGIONS) for region in ("eu", "us", "ap"))
        us.deliver(make_log("us/b0", 5))
        us.commit()
        liar, honest = eu.session(), eu.session()
        asked: list[Want] = []
        liar.opened(NOW)
        liar.receive(msgspec.structs.replace(hello(ap), clock={"us/b0": 5}), NOW)
        honest.opened(NOW)
        honest.receive(hello(us), NOW)
        for now in range(NOW + 100, NOW + 3 * PACE.answer_timeout_ms, 100):
            effects = [*liar.receive(Have({"us/b0": 5, "us/b1": 7}, {}, 0), now), *liar.tick(now)]
            if says != "nothing":
                for question in [frame for frame in sent(effects) if isinstance(frame, Want)]:
                    liar.receive(Entries([], {}, question.number), now)
            effects = [*honest.receive(Have({"us/b0": 5}, {}, 0), now), *honest.tick(now)]
            asked += [frame for frame in sent(effects) if isinstance(frame, Want)]
        assert asked

    def test_a_peer_that_names_more_logs_than_there_can_be_is_left(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = greeted(eu, us)
        assert session.receive(Have({f"us/x{number}": 1 for number in range(4096)}, {}, 0), NOW)[-1:] != []
        effects = session.receive(Have({"us/y": 1}, {}, 0), NOW)
        assert [effect.reason for effect in effects if isinstance(effect, Close)] == [Reason.BAD_FRAME]
        assert len(session.peer_has) == 4096

    def test_a_late_answer_to_an_earlier_question_is_taken_but_asks_nothing(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = greeted(eu, us)
        session.tick(NOW + PACE.answer_timeout_ms)
        page = make_log("ap/b1", 2)
        late = Entries(page, {"ap/b1": 2}, 1)
        assert session.receive(late, NOW + PACE.answer_timeout_ms) == [Deliver(page)]

    def test_an_empty_answer_ends_the_questions_until_the_next_interval(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = greeted(eu, us)
        assert session.receive(Entries([], {}, 1), NOW) == []
        assert Want(2, {"ap/b1": (0, 5)}) in sent(session.tick(NOW + PACE.anti_entropy_interval_ms))

    def test_two_peers_are_not_asked_for_the_same(self) -> None:
        eu, us, ap = (Site(region, REGIONS) for region in ("eu", "us", "ap"))
        for site in (us, ap):
            site.deliver(make_log("us/b0", 5))
            site.commit()
        ap.deliver(make_log("us/b0", 7))
        ap.commit()
        first, second = eu.session(), eu.session()
        for session in (first, second):
            session.opened(NOW)
        assert Want(1, {"us/b0": (0, 5)}) in sent(first.receive(hello(us), NOW))
        assert Want(1, {"us/b0": (5, 7)}) in sent(second.receive(hello(ap), NOW))

    def test_when_a_link_fails_its_questions_go_to_the_others(self) -> None:
        eu, us, ap = (Site(region, REGIONS) for region in ("eu", "us", "ap"))
        for site in (us, ap):
            site.deliver(make_log("us/b0", 5))
            site.commit()
        first, second = eu.session(), eu.session()
        for session, peer in ((first, us), (second, ap)):
            session.opened(NOW)
            session.receive(hello(peer), NOW)
        first.closed()
        interval = NOW + PACE.anti_entropy_interval_ms
        assert Want(1, {"us/b0": (0, 5)}) in sent(second.tick(interval))

    def test_entries_that_must_wait_neither_keep_the_others_back_nor_come_over_and_over(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        later = NOW + DRIFT_MS + 60_000
        us.deliver(make_log("ap/b1", 1000, ms=later), later)
        us.deliver(make_log("ap/b2", 150))
        us.commit()
        us.hlc.latest = 0
        network = Network(eu, us)
        network.connect("eu", "us")
        network.settle()
        assert eu.delivery.clock == {"ap/b2": 150}
        asked = [frame for _, frame in network.frames if isinstance(frame, Want)]
        assert ["ap/b1" in want.ranges for want in asked] == [True, True, False, False]

    def test_entries_that_had_to_wait_are_asked_for_when_they_can_be_applied(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        later = NOW + DRIFT_MS + 5_000
        us.deliver(make_log("ap/b1", 300, ms=later), later)
        us.commit()
        network = Network(eu, us)
        network.connect("eu", "us")
        network.settle()
        for _ in range(7):
            network.pass_time(PACE.anti_entropy_interval_ms)
            network.settle()
        assert eu.delivery.clock == {"ap/b1": 300}

    def test_nothing_of_a_refused_log_is_asked_for(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        eu.deliver([*make_log("ap/b1", 1), *make_log("ap/b1", 1, claim="other")])
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = eu.session()
        session.opened(NOW)
        assert not any(isinstance(frame, Want) for frame in sent(session.receive(hello(us), NOW)))

    def test_only_what_is_durable_is_sent_and_told(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        eu.accept()
        eu.commit()
        eu.accept()
        session = greeted(eu, us)
        assert hello(eu).clock == {"eu/b1": 1}
        (answer,) = sent(session.receive(Want(4, {"eu/b1": (0, 9), "ap/b1": (3, 4)}), NOW))
        assert isinstance(answer, Entries)
        assert (len(answer.page), answer.reaches, answer.answers) == (1, {"eu/b1": 1}, 4)

    def test_a_question_about_nothing_that_we_hold_has_an_empty_answer(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = greeted(eu, us)
        assert sent(session.receive(Want(4, {"ap/b1": (3, 4)}), NOW)) == [Entries([], {}, 4)]

    def test_of_our_own_log_the_answer_goes_beyond_what_was_asked(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = greeted(eu, us)
        for _ in range(4):
            eu.accept()
        eu.deliver(make_log("ap/b1", 4))
        eu.commit()
        news, answer = sent(session.receive(Want(1, {"eu/b1": (0, 2), "ap/b1": (0, 2)}), NOW))
        assert news == Have({"eu/b1": 4, "ap/b1": 4}, {}, eu.hlc.latest)
        assert isinstance(answer, Entries)
        assert answer.reaches == {"eu/b1": 4, "ap/b1": 2}


class TestWhatWasLost:
    def held(self) -> tuple[Network, Site, Site]:
        """us holds five entries of eu and five of its own, eu too."""
        network, eu, us = pair()
        for site in (eu, us):
            for _ in range(5):
                site.accept()
            network.commit(site.region)
        network.settle()
        assert eu.durable == us.durable == {"eu/b1": 5, "us/b1": 5}
        network.frames.clear()
        return network, eu, us

    def test_it_is_asked_for_although_it_is_counted_and_before_anything_new(self) -> None:
        network, eu, us = self.held()
        eu.lacking = {"eu/b1": (1, 3)}
        us.accept()
        us.commit()
        network.pass_time(PACE.anti_entropy_interval_ms)
        network.settle()
        wants = [frame.ranges for link, frame in network.frames if isinstance(frame, Want) and link == ("eu", "us")]
        assert wants == [{"eu/b1": (1, 3)}, {"us/b1": (5, 6)}]
        assert eu.durable == {"eu/b1": 5, "us/b1": 6}

    @pytest.mark.parametrize("replica", ["eu/b1", "us/b1"])
    def test_the_answer_holds_nothing_beyond_it(self, replica: str) -> None:
        network, eu, us = self.held()
        eu.lacking = {replica: (1, 3)}
        network.pass_time(PACE.anti_entropy_interval_ms)
        network.settle()
        (answer,) = (frame for _, frame in network.frames if isinstance(frame, Entries))
        assert answer.page == [us.journal.sealed(replica, 2), us.journal.sealed(replica, 3)]
        assert answer.reaches == {replica: 3}

    def test_a_peer_that_has_it_no_more_is_asked_on_for_what_is_new(self) -> None:
        network, eu, us = self.held()
        eu.lacking = {"ap/b1": (0, 1)}
        us.accept()
        us.commit()
        network.pass_time(PACE.anti_entropy_interval_ms)
        network.settle()
        assert eu.durable == {"eu/b1": 5, "us/b1": 6}
        assert eu.lacking == {"ap/b1": (0, 1)}, "nobody offers it, so nobody was asked"


class TestTime:
    def test_every_interval_all_that_is_held_is_told_with_promises(self) -> None:
        network, eu, us = pair()
        eu.accept(NOW)
        network.commit("eu")
        network.settle()
        network.pass_time(PACE.anti_entropy_interval_ms)
        network.settle()
        network.pass_time(PACE.anti_entropy_interval_ms)
        network.settle()
        assert network.sessions["us", "eu"].peer_promise >= hlc_at(NOW + PACE.anti_entropy_interval_ms)
        assert us.frontier.counted["eu"] >= hlc_at(NOW + PACE.anti_entropy_interval_ms)
        assert us.frontier.counted["ap"] == 0

    def test_between_intervals_nothing_is_said(self) -> None:
        network, _, _ = pair()
        network.pass_time(PACE.anti_entropy_interval_ms - 1)
        assert not any(network.wires.values())

    def test_a_link_on_which_nothing_is_heard_is_closed(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        for session in (greeted(eu, us), eu.session()):
            if session.peer is None:
                session.opened(NOW)
            assert session.tick(NOW + PACE.silence_ms - 1) is not None
            assert closing(session.tick(NOW + PACE.silence_ms)) is Reason.SILENT
            assert session.tick(NOW + PACE.silence_ms) == []

    def test_a_clock_that_is_set_back_keeps_nobody_waiting_until_it_is_there_again(self) -> None:
        session = greeted(Site("eu", REGIONS), Site("us", REGIONS))
        earlier = NOW - 100 * PACE.silence_ms
        assert session.tick(earlier) == []
        have, *_ = sent(session.tick(earlier + PACE.anti_entropy_interval_ms))
        assert isinstance(have, Have)
        assert closing(session.tick(earlier + PACE.silence_ms)) is Reason.SILENT

    def test_lag_is_what_the_peer_has_and_we_lack(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        us.deliver(make_log("ap/b1", 5))
        us.commit()
        session = greeted(eu, us)
        assert lacking_count(eu.delivery.clock, session.peer_has) == 5


class TestTheEnd:
    def test_what_is_not_a_frame_closes_the_link(self) -> None:
        session = greeted(Site("eu", REGIONS), Site("us", REGIONS))
        assert closing(session.refuse(FrameError(Fault.OVERSIZE, "x"))) is Reason.BAD_FRAME

    def test_a_peer_that_says_goodbye_is_gone(self) -> None:
        session = greeted(Site("eu", REGIONS), Site("us", REGIONS))
        assert session.receive(Bye("stopping", "upgrade"), NOW) == [Close(Reason.PEER_LEFT, "stopping: upgrade")]
        assert session.receive(Have({}, {}, 0), NOW) == []

    def test_a_closed_session_says_nothing(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        session = greeted(eu, us)
        session.closed()
        eu.accept()
        assert session.fresh(eu.commit()) == []
        assert session.acknowledge() == []
        assert session.stop(Reason.STOPPING, "") == []
        assert session.tick(NOW + 10**6) == []


class TestThreeNodes:
    def test_entries_travel_around_a_cut_link(self) -> None:
        sites = [Site(region, REGIONS) for region in REGIONS]
        network = Network(*sites)
        network.connect("ap", "eu")
        network.connect("eu", "us")
        network.settle()
        for site in sites:
            site.accept()
            network.commit(site.region)
        network.settle()
        for _ in range(2):
            network.pass_time(PACE.anti_entropy_interval_ms)
            network.settle()
        assert [site.delivery.clock for site in sites] == [dict.fromkeys(("ap/b1", "eu/b1", "us/b1"), 1)] * 3

    def test_promises_travel_around_a_cut_link(self) -> None:
        sites = [Site(region, REGIONS) for region in REGIONS]
        network = Network(*sites)
        network.connect("ap", "eu")
        network.connect("eu", "us")
        for _ in range(6):
            network.pass_time(PACE.anti_entropy_interval_ms)
            network.settle()
        for site in sites:
            assert site.frontier.reached > hlc_at(NOW)

    def test_a_region_that_is_away_holds_the_frontier_back(self) -> None:
        sites = [Site(region, REGIONS) for region in REGIONS]
        network = Network(*sites)
        network.mesh()
        for _ in range(4):
            network.pass_time(PACE.anti_entropy_interval_ms)
            network.settle()
        network.cut("ap", "eu")
        network.cut("ap", "us")
        before = sites[1].frontier.reached
        for _ in range(4):
            network.pass_time(PACE.anti_entropy_interval_ms)
            network.settle()
        assert sites[1].frontier.reached - before <= hlc_at(PACE.anti_entropy_interval_ms)
        assert sites[1].frontier.holders == ["ap"]

    def test_a_log_that_only_a_peer_still_holds_comes_back_to_its_region(self) -> None:
        eu, us = Site("eu", REGIONS), Site("us", REGIONS)
        network = Network(eu, us)
        network.connect("eu", "us")
        eu.accept()
        network.commit("eu")
        network.settle()
        reborn = Site("eu", REGIONS, boot="b2")
        network = Network(reborn, us)
        network.connect("eu", "us")
        network.settle()
        reborn.accept()
        network.commit("eu")
        network.settle()
        assert us.delivery.clock == reborn.delivery.clock == {"eu/b1": 1, "eu/b2": 1}


class TestInFlight:
    def test_what_another_asked_for_is_expected_until_its_time_is_up(self) -> None:
        in_flight = InFlight()
        in_flight.claim("us", {"a/1": (2, 5)}, NOW + 10)
        assert in_flight.expected("ap", {"a/1": 2}, NOW) == {"a/1": 5}
        assert in_flight.expected("ap", {"a/1": 2}, NOW + 10) == {"a/1": 2}
        assert in_flight.expected("us", {"a/1": 2}, NOW) == {"a/1": 2}

    def test_what_does_not_join_on_to_what_we_have_is_not_counted_on(self) -> None:
        in_flight = InFlight()
        in_flight.claim("us", {"a/1": (4, 5)}, NOW + 10)
        assert in_flight.expected("ap", {"a/1": 2}, NOW) == {"a/1": 2}
