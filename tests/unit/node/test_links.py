"""Links to peers: one each, none where it is cut, and what they add up to: what peers have, and the frontier."""

import pytest

from ledger.ids import Key
from ledger.refusal import Limits, Terms
from node.alarms import AlarmKind
from node.links import Links
from node.region import Region
from node.settings import RegionSettings
from node.store.kv import MemoryDisk, Overlay
from replication.clock import hlc_at, lacking_count, ms_of
from replication.codec import Bye, Entries, Fault, Frame, FrameError, Have, Hello
from replication.gossip import Close, Session
from tests.regions import Regions, debit, grant, reserve
from tests.world import START_MS, TENANT

NOW = START_MS
NAMES = ("ap", "eu", "us")


class Host:
    """One region and its links, with whatever they want sent."""

    def __init__(self, name: str, cluster: str = "test") -> None:
        settings = RegionSettings(cluster=cluster, region=name, regions=NAMES, terms=Terms(Limits(10**9, 60_000)))
        self.region = Region(settings, Overlay(MemoryDisk()), "b1", NOW)
        self.links = Links(self.region)

    def sent(self, session: Session) -> list[Frame | Close]:
        """What this session wants sent, or closed; what others want is dropped."""
        return [item for owner, item in self.links.take_outgoing() if owner is session]

    @property
    def linked(self) -> list[str]:
        """The peers with a link."""
        return [name for name, peer in self.links.peers.items() if peer.session is not None]


def hello(name: str, cluster: str = "test") -> Hello:
    """What a host of that region says first."""
    host = Host(name, cluster)
    session = host.links.open(NOW)
    (greeting,) = host.sent(session)
    assert isinstance(greeting, Hello)
    return greeting


def linked(host: Host, name: str) -> Session:
    """A session of `host` over which `name` has said hello."""
    session = host.links.open(NOW)
    host.links.receive(session, hello(name), NOW)
    return session


class TestOneLinkForEachPeer:
    def test_whose_a_link_is_its_hello_says(self) -> None:
        eu = Host("eu")
        session = eu.links.open(NOW)
        assert eu.linked == []
        eu.links.receive(session, hello("us"), NOW + 5)
        assert eu.linked == ["us"]
        assert eu.links.peers["us"].session is session
        assert eu.links.peers["us"].heard_at == NOW + 5
        assert eu.links.peers["ap"].heard_at is None

    def test_of_two_links_of_one_region_the_newer_stays(self) -> None:
        eu = Host("eu")
        older = linked(eu, "us")
        eu.links.take_outgoing()
        newer = eu.links.open(NOW)
        eu.links.receive(newer, hello("us"), NOW)
        outgoing = eu.links.take_outgoing()
        assert [type(item) for session, item in outgoing if session is older] == [Bye, Close]
        assert not any(isinstance(item, Close) for session, item in outgoing if session is newer)
        assert eu.links.peers["us"].session is newer

    def test_the_end_of_the_older_link_is_not_the_end_of_the_newer(self) -> None:
        eu = Host("eu")
        older, newer = linked(eu, "us"), linked(eu, "us")
        eu.links.lost(older)
        assert eu.links.peers["us"].session is newer
        eu.links.lost(newer)
        assert eu.linked == []

    def test_a_hello_that_is_refused_does_not_end_the_link_that_there_is(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(eu.links.open(NOW), hello("us", cluster="another"), NOW)
        assert eu.links.peers["us"].session is session
        ((kind, subject),) = [(alarm.kind, alarm.subject) for alarm in eu.region.alarms.all()]
        assert (kind, subject) == (AlarmKind.WRONG_CLUSTER, "us")

    def test_links_to_several_peers_stand_side_by_side(self) -> None:
        eu = Host("eu")
        linked(eu, "us")
        linked(eu, "ap")
        assert eu.linked == ["ap", "us"]

    def test_a_frame_that_was_under_way_when_its_link_was_ended_brings_nothing_back(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.lost(session)
        eu.links.receive(session, Have({}, {}, 0), NOW + 700)
        assert eu.linked == []
        assert eu.links.peers["us"].heard_at == NOW

    def test_a_peer_that_says_goodbye_is_not_linked(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.take_outgoing()
        eu.links.receive(session, Bye("stopping", ""), NOW)
        (close,) = eu.sent(session)
        assert isinstance(close, Close)
        eu.links.lost(session)
        assert eu.linked == []


class TestCuts:
    def test_a_cut_ends_the_link_with_a_word_of_goodbye(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.take_outgoing()
        eu.links.set_cut("us", True, NOW)
        bye, close = eu.sent(session)
        assert bye == Bye("stopping", "")
        assert isinstance(close, Close)
        assert eu.linked == []

    def test_a_peer_that_is_cut_is_refused_when_it_says_hello(self) -> None:
        eu = Host("eu")
        eu.links.set_cut("us", True, NOW)
        session = eu.links.open(NOW)
        eu.links.take_outgoing()
        eu.links.receive(session, hello("us"), NOW)
        bye, close = eu.sent(session)
        assert bye == Bye("stopping", "")
        assert isinstance(close, Close)
        assert eu.linked == []

    def test_nothing_of_a_peer_that_is_cut_is_applied(self) -> None:
        us = Host("us")
        us.region.submit(TENANT, grant("L", 100), Key("k"), NOW)
        us.region.seal()
        page = us.region.landed()
        assert len(page) == 1
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.set_cut("us", True, NOW)
        eu.links.receive(session, Entries(page, {"us/b1": 1}, 0), NOW)
        assert eu.region.clock == {}
        assert eu.linked == []

    def test_other_peers_stay(self) -> None:
        eu = Host("eu")
        linked(eu, "us")
        linked(eu, "ap")
        eu.links.set_cut("us", True, NOW)
        assert eu.linked == ["ap"]

    def test_after_the_cut_a_new_link_is_taken(self) -> None:
        eu = Host("eu")
        eu.links.set_cut("us", True, NOW)
        eu.links.set_cut("us", False, NOW)
        session = linked(eu, "us")
        assert eu.links.peers["us"].session is session

    def test_a_host_that_stops_says_goodbye_to_everyone(self) -> None:
        eu = Host("eu")
        sessions = [linked(eu, "us"), linked(eu, "ap"), eu.links.open(NOW)]
        eu.links.take_outgoing()
        eu.links.stop(NOW)
        outgoing = eu.links.take_outgoing()
        for session in sessions:
            assert [type(item) for owner, item in outgoing if owner is session] == [Bye, Close]
        assert eu.linked == []


class TestRubbish:
    def test_what_is_no_frame_ends_the_link_with_a_reason(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.take_outgoing()
        eu.links.refuse(session, FrameError(Fault.WRONG_SHAPE, "no frame"), NOW)
        bye, close = eu.sent(session)
        assert isinstance(bye, Bye)
        assert bye.reason == "bad-frame"
        assert isinstance(close, Close)

    def test_what_is_no_entry_ends_the_link_and_is_told_with_the_sender(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.take_outgoing()
        eu.links.receive(session, Entries([b"rubbish" * 10], {}, 0), NOW)
        bye, close = eu.sent(session)
        assert isinstance(bye, Bye)
        assert bye.reason == "bad-frame"
        assert isinstance(close, Close)
        assert eu.links.rubbish == 1
        (alarm,) = eu.region.alarms.all()
        assert (alarm.kind, alarm.subject) == (AlarmKind.MALFORMED, "us")


class TestWhatPeersHave:
    def test_it_is_remembered_beyond_the_link(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(session, Have({"us/b1": 7}, {"us": hlc_at(NOW - 5)}, hlc_at(NOW)), NOW)
        eu.links.lost(session)
        peer = eu.links.peers["us"]
        assert (peer.has, peer.promise, peer.hlc) == ({"us/b1": 7}, hlc_at(NOW - 5), hlc_at(NOW))
        again = linked(eu, "us")
        eu.links.receive(again, Have({"us/b1": 6}, {"us": hlc_at(NOW - 9)}, hlc_at(NOW + 1)), NOW)
        assert (peer.has, peer.promise, peer.hlc) == ({"us/b1": 7}, hlc_at(NOW - 5), hlc_at(NOW + 1))

    def test_a_peer_that_has_started_again_has_what_it_says_now(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(session, Have({"us/b1": 7}, {"us": hlc_at(NOW)}, hlc_at(NOW)), NOW)
        eu.links.lost(session)
        greeting = hello("us")
        again = Hello(greeting.cluster, "us", "us/b2", greeting.versions, greeting.rules, {"us/b1": 5}, greeting.hlc)
        session = eu.links.open(NOW)
        eu.links.receive(session, again, NOW)
        assert eu.links.peers["us"].has == {"us/b1": 5}
        eu.links.receive(session, Have({"us/b2": 1}, {}, 0), NOW)
        assert eu.links.peers["us"].has == {"us/b1": 5, "us/b2": 1}

    def test_of_a_hello_that_is_refused_nothing_is_believed(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(session, Have({"us/b1": 7}, {}, 0), NOW)
        greeting = hello("us")
        stranger = Hello("another", "us", "us/b2", greeting.versions, greeting.rules, {}, greeting.hlc)
        eu.links.receive(eu.links.open(NOW), stranger, NOW)
        assert eu.links.peers["us"].has == {"us/b1": 7}

    def test_it_only_grows(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(session, Have({"us/b1": 7}, {"us": 500}, 0), NOW)
        eu.links.receive(session, Have({"us/b1": 3, "ap/b1": 1}, {"us": 400}, 0), NOW)
        peer = eu.links.peers["us"]
        assert (peer.has, peer.promise) == ({"us/b1": 7, "ap/b1": 1}, 500)

    def test_a_clock_that_is_far_ahead_is_an_alarm_and_is_not_followed(self) -> None:
        eu = Host("eu")
        session = linked(eu, "us")
        eu.links.receive(session, Have({}, {}, hlc_at(NOW + 20_000)), NOW)
        (alarm,) = eu.region.alarms.all()
        assert (alarm.kind, alarm.subject) == (AlarmKind.CLOCK_AHEAD, "us")
        assert ms_of(eu.region.hlc.latest) <= NOW

    def test_after_a_lost_disk_nothing_is_missed_that_nobody_has(self) -> None:
        world = Regions("eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("us", reserve("told of", 10))
        us = world.region("us")
        session = world.members["eu"].links.open(world.now)
        world.members["eu"].links.receive(
            session, Hello("test", "us", us.replica, (1, 1), str(us.settings.rules), us.durable, 0), world.now
        )
        world.members["eu"].links.lost(session)
        assert lacking_count(world.region("eu").clock, world.members["eu"].links.peers["us"].has) == 1
        world.lose_disk("us")
        world.meet()
        assert lacking_count(world.region("eu").clock, world.members["eu"].links.peers["us"].has) == 0


class TestTheFrontier:
    def frontier(self, world: Regions, name: str) -> int:
        """How far back the frontier lies, in ms."""
        return world.now - ms_of(world.region(name).frontier)

    def test_it_follows_the_present_while_all_are_linked(self) -> None:
        world = Regions(*NAMES)
        world.do("eu", grant("L", 100))
        world.exchange(1_000)
        for name in NAMES:
            assert self.frontier(world, name) <= 400

    def test_it_goes_around_a_cut_link(self) -> None:
        world = Regions(*NAMES)
        world.do("eu", grant("L", 100))
        world.meet()
        world.set_cut("eu", "us", True)
        world.do("us", reserve("b", 10))
        world.do("eu", reserve("a", 10))
        world.exchange(2_000)
        assert world.region("eu").clock == world.region("us").clock
        for name in NAMES:
            assert self.frontier(world, name) <= 600

    def test_a_region_that_is_away_holds_it_back_until_it_is_there_again(self) -> None:
        world = Regions(*NAMES)
        world.do("eu", grant("L", 100))
        world.meet()
        away_since = world.now
        world.part("ap")
        world.do("eu", debit("d", 10))
        world.exchange(5_000)
        for name in NAMES:
            assert ms_of(world.region(name).frontier) <= away_since
        assert world.members["eu"].links.frontier.holders == ["ap"]
        assert len(world.book("eu").timeline) == 1
        world.meet()
        world.exchange(1_000)
        assert self.frontier(world, "eu") <= 400
        assert len(world.book("eu").timeline) == 0

    def test_it_never_goes_back(self) -> None:
        world = Regions(*NAMES)
        world.do("eu", grant("L", 100))
        world.exchange(1_000)
        reached = world.region("eu").frontier
        world.crash("us")
        world.set_cut("eu", "ap", True)
        world.exchange(100)
        assert world.region("eu").frontier >= reached

    def test_what_is_in_a_promise_has_come_before_it_counts(self) -> None:
        eu = Host("eu")
        for name in ("us", "ap"):
            session = linked(eu, name)
            eu.links.receive(session, Have({"us/b1": 1}, {"us": hlc_at(NOW), "ap": hlc_at(NOW)}, hlc_at(NOW)), NOW)
        eu.region.tick(NOW)
        eu.region.seal()
        eu.region.landed()
        eu.links.tick(NOW)
        assert eu.region.frontier == 0


@pytest.mark.parametrize("name", ["eu", "mars"])
def test_who_is_no_peer_gets_no_link(name: str) -> None:
    eu = Host("eu")
    session = eu.links.open(NOW)
    greeting = hello("us")
    eu.links.receive(
        session, Hello(greeting.cluster, name, f"{name}/b9", greeting.versions, greeting.rules, {}, 0), NOW
    )
    assert eu.linked == []
    assert any(isinstance(item, Close) for item in eu.sent(session))
