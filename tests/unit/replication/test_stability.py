"""The frontier moves with the slowest promise that counts, and never back."""

from replication.stability import MAX_PENDING, Frontier

EU, US, AP = "eu/b1", "us/b1", "ap/b1"


def test_nothing_is_stable_before_every_region_has_promised() -> None:
    frontier = Frontier("eu", ["ap", "eu", "us"])
    frontier.heard("us", {}, {"us": 100})
    assert frontier.advance({}, 100) == 0
    assert frontier.holders == ["ap"]


def test_the_frontier_is_the_least_promise() -> None:
    frontier = Frontier("eu", ["ap", "eu", "us"])
    frontier.heard("us", {}, {"us": 100})
    frontier.heard("ap", {}, {"ap": 70})
    assert frontier.advance({}, 90) == 70
    assert frontier.holders == ["ap"]


def test_our_own_promise_counts_too() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {}, {"us": 100})
    assert frontier.advance({}, 30) == 30
    assert frontier.holders == ["eu"]


def test_a_promise_counts_once_we_hold_all_that_it_was_given_with() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {US: 5, AP: 2}, {"us": 100})
    assert frontier.advance({US: 5}, 100) == 0
    assert frontier.advance({US: 5, AP: 2}, 100) == 100


def test_of_several_promises_the_latest_that_is_covered_counts() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    for count in range(1, 6):
        frontier.heard("us", {US: count}, {"us": count * 10})
    assert frontier.advance({US: 3}, 100) == 30


def test_a_node_that_is_always_a_little_behind_still_gets_on() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    for count in range(1, 10 * MAX_PENDING):
        frontier.heard("us", {US: count}, {"us": count})
    assert frontier.advance({US: 8}, 1000) == 8
    assert frontier.advance({US: 10 * MAX_PENDING}, 1000) == 10 * MAX_PENDING - 1


def test_what_a_peer_has_lost_with_its_disk_is_not_waited_for() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {US: 5}, {"us": 100})
    for count in range(1, 2 * MAX_PENDING):
        frontier.heard("us", {US: 4, "us/b2": count}, {"us": 200 + count})
    assert frontier.advance({US: 4, "us/b2": 2}, 1000) == 202


def test_what_a_peer_still_holds_is_waited_for_after_it_has_lost_something() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {US: 3}, {"us": 100})
    frontier.heard("us", {US: 5}, {"us": 110})
    frontier.heard("us", {US: 4, "us/b2": 1}, {"us": 200})
    assert frontier.advance({US: 3}, 1000) == 100
    assert frontier.advance({US: 4}, 1000) == 100
    assert frontier.advance({US: 4, "us/b2": 1}, 1000) == 200


def test_news_that_was_overtaken_is_no_obstacle() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {US: 5}, {"us": 110})
    frontier.heard("us", {US: 4}, {"us": 100})
    assert frontier.advance({US: 4}, 1000) == 100


def test_a_promise_is_passed_on_by_whoever_holds_what_it_needs() -> None:
    frontier = Frontier("eu", ["ap", "eu", "us"])
    frontier.heard("us", {AP: 4, US: 2}, {"us": 100, "ap": 80, "eu": 7})
    assert frontier.advance({AP: 4, US: 2}, 90) == 80
    assert frontier.counted == {"ap": 80, "eu": 90, "us": 100}


def test_what_others_say_of_our_own_promise_does_not_count() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {}, {"us": 100, "eu": 999})
    assert frontier.advance({}, 50) == 50


def test_regions_that_are_not_members_do_not_count() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {}, {"us": 100, "mars": 1})
    assert frontier.advance({}, 200) == 100


def test_the_frontier_never_goes_back() -> None:
    frontier = Frontier("eu", ["eu", "us"])
    frontier.heard("us", {}, {"us": 100})
    assert frontier.advance({}, 100) == 100
    frontier.heard("us", {}, {"us": 60})
    assert frontier.advance({}, 60) == 100
    frontier.set_members(["ap", "eu", "us"])
    assert frontier.advance({}, 200) == 100
    assert frontier.holders == ["ap"]


def test_a_region_that_left_no_longer_holds_the_frontier_back() -> None:
    frontier = Frontier("eu", ["ap", "eu", "us"])
    frontier.heard("us", {}, {"us": 100})
    assert frontier.advance({}, 100) == 0
    frontier.set_members(["eu", "us"])
    assert frontier.advance({}, 100) == 100
