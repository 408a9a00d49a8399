"""A tenant's history at a moment, read at leisure: rows and memory, whatever happens meanwhile."""

from itertools import islice
from unittest.mock import patch

import pytest

from ledger.command import GrantCredit, SetPolicy, TransferCredit
from ledger.event_time import Standing
from ledger.ids import LotId, TenantId
from ledger.operation import OnOverspend
from node.history import History, Overtaken, open_regions
from node.store import kv
from node.store.errors import DamagedEntry
from node.store.kv import MemoryDisk, Table
from node.store.rows import number_key
from replication.clock import hlc_at
from tests.regions import HOUR_MS, Regions, capture, debit, grant, release, reserve, revoke
from tests.world import START_MS, TENANT

FAR_MS = 2**47


def complete(history: History) -> History:
    for _ in history.read():
        pass
    return history


def of(world: Regions, name: str = "eu", tenant: TenantId = TENANT) -> History:
    """A history, read at once."""
    return complete(History(world.book(name, tenant)))


def standing(history: History, at: int) -> Standing:
    fold = history.fold()
    for _ in fold.before(at + 1):
        pass
    return fold.standing(at)


def kinds(history: History) -> list[str]:
    return [type(dated.entry.operation).__name__ for dated in history.order]


def test_what_is_checkpointed_and_what_is_not_make_the_same_history() -> None:
    """Canonical order decides something here: eu and us have spent the same, a hold is void, one request is two."""
    world = Regions("ap", "eu", "us")
    world.do("eu", grant("L", 100))
    world.do("eu", SetPolicy(OnOverspend.REVOKE))
    world.meet()
    world.part()
    world.do("eu", reserve("a", 80))
    world.do("eu", revoke("L"))
    for name, amount in (("b", 80), ("a", 5)):
        world.do("us", reserve(name, amount))
    world.do("us", capture("b", 30))
    world.do("us", release("a"))
    world.set_cut("eu", "us", False)
    world.exchange()
    before = of(world)
    assert len(world.book("eu").recent()) == 6
    assert kinds(before) == ["Grant", "Policy", "Hold", "Revoke", "Hold", "Capture", "Release"]
    until = world.now
    world.put_right()
    world.exchange(2_000)
    for name in world.names:
        assert world.book(name).recent() == []
        history = of(world, name)
        assert [dated[:3] for dated in history.order] == [dated[:3] for dated in before.order]
        for at in range(START_MS, until):
            assert standing(history, at) == standing(before, at)


def test_a_part_is_in_rows_and_a_part_in_memory() -> None:
    world = Regions("eu")
    world.do("eu", grant("L", 100))
    for number in range(6):
        world.do("eu", reserve(f"c{number}", 1))
    world.do("eu", release("c2"))
    whole = of(world)
    world.book("eu").checkpoint(hlc_at(FAR_MS), 3)
    world.book("eu").checkpoint(hlc_at(FAR_MS), 2)
    assert len(world.book("eu").recent()) == 3
    assert list(of(world).order) == list(whole.order)


def test_what_comes_in_after_its_moment_is_not_in_it_wherever_it_belongs() -> None:
    world = Regions("eu", "us")
    world.do("eu", grant("L", 100))
    world.meet()
    world.part()
    world.do("us", debit("late", 10))
    world.do("eu", debit("d", 20))
    history = History(world.book("eu"))
    steps = history.read()
    next(steps)
    world.meet()
    world.put_right()
    world.exchange(2_000)
    assert world.book("eu").recent() == []
    assert sum(1 for _ in steps) == 1
    assert kinds(history) == ["Grant", "Debit"]
    assert standing(history, FAR_MS).used == 20
    assert standing(of(world), FAR_MS).used == 30


def test_rows_are_read_on_while_others_are_written_and_the_book_is_let_go_of() -> None:
    world = Regions("eu", tenants_in_memory=0)
    world.do("eu", grant("L", 100))
    for number in range(5):
        world.do("eu", debit(f"d{number}", 1))
        world.exchange(500)
    history = History(world.book("eu"))
    steps = history.read()
    next(steps)
    for number in range(5, 9):
        world.do("eu", debit(f"d{number}", 1))
        world.exchange(500)
    world.exchange(3_000)
    assert TENANT not in world.region("eu").books.in_memory
    for _ in steps:
        pass
    assert len(kinds(history)) == 6


def test_both_sides_of_a_transfer_have_it() -> None:
    world = Regions("eu")
    umbra = TenantId("umbra")
    world.do("eu", grant("L", 100))
    world.do("eu", GrantCredit(1, START_MS + HOUR_MS, lot=LotId("U")), tenant=umbra)
    world.do("eu", TransferCredit(umbra, 30))
    for _ in range(2):
        assert standing(of(world), world.now) == Standing(70, 0, 0, 0)
        assert standing(of(world, tenant=umbra), world.now) == Standing(31, 0, 0, 0)
        world.exchange(2_000)


def test_an_entry_that_cannot_be_read_is_said_to_be_damaged() -> None:
    world = Regions("eu")
    world.do("eu", grant("L", 100))
    world.do("eu", debit("d", 10))
    world.exchange(2_000)
    world.crash("eu")
    disk = world.members["eu"].disk
    assert isinstance(disk, MemoryDisk)
    disk.damage(Table.LOG, number_key(2), 300)
    with pytest.raises(DamagedEntry):
        of(world)


def test_rows_that_were_written_anew_meanwhile_are_not_taken_for_what_they_were() -> None:
    """ap loses its disk while an entry of it is still on the way, and what stands behind it is checkpointed."""
    world = Regions("ap", "eu", "us")
    world.do("eu", grant("L", 100))
    world.meet()
    world.part("ap")
    lost = world.do("ap", debit("x", 30))
    sealed = world.region("ap").journal.sealed(*lost.dot)
    assert sealed is not None
    world.lose_disk("ap")
    world.meet()
    for name in "abc":
        world.do("eu", reserve(name, 20))
        world.exchange(1_000)
    with patch.object(kv, "ROWS_AT_ONCE", 1):
        begun = [History(world.book("eu")).read() for _ in range(5)]
        for done, steps in enumerate(begun):
            assert len(list(islice(steps, done))) == done
        world.region("eu").receive([sealed], world.now)
        for steps in begun[:4]:
            with pytest.raises(Overtaken):
                list(steps)
        assert list(begun[4]) == [], "all of it was read before"
    assert kinds(of(world)) == ["Grant", "Debit", "Hold", "Hold", "Hold"]


def test_a_period_is_open_to_regions_that_have_not_promised_enough() -> None:
    promises = {"us": hlc_at(500), "ap": hlc_at(500) - 1, "eu": 0, "ca": hlc_at(900)}
    assert open_regions(promises, 500) == {"ap": hlc_at(500) - 1, "eu": 0}
    assert open_regions(promises, 501) == {"ap": hlc_at(500) - 1, "eu": 0, "us": hlc_at(500)}
    assert open_regions({"eu": hlc_at(500)}, 500) == {}
