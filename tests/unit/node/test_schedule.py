"""When to look at what: in order of time, once for each thing, some at a time."""

from ledger.ids import TenantId
from node.schedule import Due, Schedule

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def test_what_is_due_comes_in_order_of_time_whatever_the_order_of_listing() -> None:
    schedule = Schedule()
    schedule.add(30, Due.LEASE, ACME, "c")
    schedule.add(10, Due.EXPIRY, ACME, "l")
    schedule.add(20, Due.START, GLOBEX, "l")
    assert schedule.take_due(30, 10) == [
        (10, Due.EXPIRY, ACME, "l"),
        (20, Due.START, GLOBEX, "l"),
        (30, Due.LEASE, ACME, "c"),
    ]


def test_nothing_is_due_before_its_time() -> None:
    schedule = Schedule()
    schedule.add(10, Due.LEASE, ACME, "c")
    assert schedule.take_due(9, 10) == []
    assert len(schedule) == 1
    assert schedule.take_due(10, 10) == [(10, Due.LEASE, ACME, "c")]
    assert len(schedule) == 0
    assert schedule.take_due(10, 10) == []


def test_what_is_too_much_for_one_look_waits_for_the_next() -> None:
    schedule = Schedule()
    for number in range(5):
        schedule.add(number, Due.LEASE, ACME, f"c{number}")
    assert [name for *_, name in schedule.take_due(100, 3)] == ["c0", "c1", "c2"]
    assert [name for *_, name in schedule.take_due(100, 3)] == ["c3", "c4"]


def test_a_thing_listed_twice_is_looked_at_once_at_the_earlier_time() -> None:
    schedule = Schedule()
    for at in (20, 10, 10, 30):
        schedule.add(at, Due.LEASE, ACME, "c")
    assert len(schedule) == 1
    assert schedule.take_due(10, 10) == [(10, Due.LEASE, ACME, "c")]
    assert schedule.take_due(100, 10) == []


def test_who_has_looked_can_list_it_again() -> None:
    schedule = Schedule()
    schedule.add(20, Due.LEASE, ACME, "c")
    schedule.add(10, Due.LEASE, ACME, "c")
    assert schedule.take_due(10, 10) == [(10, Due.LEASE, ACME, "c")]
    schedule.add(30, Due.LEASE, ACME, "c")
    assert schedule.take_due(29, 10) == [], "what it was listed for before it was looked at is over"
    assert schedule.take_due(30, 10) == [(30, Due.LEASE, ACME, "c")]


def test_one_name_is_several_things_by_tenant_and_by_what_there_is_to_look_at() -> None:
    schedule = Schedule()
    schedule.add(10, Due.START, ACME, "l")
    schedule.add(10, Due.EXPIRY, ACME, "l")
    schedule.add(10, Due.EXPIRY, GLOBEX, "l")
    assert len(schedule.take_due(10, 10)) == 3
