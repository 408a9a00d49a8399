"""Which rows of keys go, when, and how few of them are looked at a time."""

from collections.abc import Iterable

from ledger.cells import KeyUse
from ledger.ids import TenantId
from node.forgetting import Forgetting
from node.store.kv import MemoryDisk, Overlay, Table
from node.store.rows import encode_value, tenant_key

LIFETIME_MS = 1_000
ACME = TenantId("acme")


def rows_of(keys: Iterable[tuple[str, int]], tenant: str = ACME) -> Overlay:
    """Rows of keys, each used at a time."""
    overlay = Overlay(MemoryDisk())
    for key, at in keys:
        overlay.put(Table.KEYS, tenant_key(tenant, key), encode_value(KeyUse("eu/b1", 1, None, at)))
    return overlay


def left(overlay: Overlay) -> list[str]:
    """The keys that still have rows."""
    return [key.partition(b"\0")[2].decode() for key, _ in overlay.scan(Table.KEYS, b"", None, 1_000)]


def test_a_key_goes_when_the_earliest_operation_to_come_would_not_know_it() -> None:
    overlay = rows_of([("a", 99), ("b", 100), ("c", 101)])
    assert Forgetting(overlay, LIFETIME_MS).look(5_000, lambda _: 1_100) == 2
    assert left(overlay) == ["c"]


def test_each_tenant_has_its_own_operation_to_come() -> None:
    overlay = rows_of([("a", 100)])
    overlay.put(Table.KEYS, tenant_key("umbra", "b"), encode_value(KeyUse("eu/b1", 1, None, 100)))
    asked = []

    def earliest(tenant: TenantId) -> int:
        asked.append(tenant)
        return {"acme": 1_100, "umbra": 1_099}[tenant]

    assert Forgetting(overlay, LIFETIME_MS).look(5_000, earliest) == 1
    assert (left(overlay), asked) == (["b"], ["acme", "umbra"])


def test_as_long_as_nothing_is_promised_nothing_is_forgotten() -> None:
    overlay = rows_of([("a", 0)])
    assert Forgetting(overlay, LIFETIME_MS).look(5_000, lambda _: -1) == 0
    assert left(overlay) == ["a"]


def test_a_few_are_looked_at_a_time_and_all_in_the_end() -> None:
    overlay = rows_of((f"k{number:03}", 10 * (number % 2) * LIFETIME_MS) for number in range(120))
    forgetting = Forgetting(overlay, LIFETIME_MS)
    assert [forgetting.look(now, lambda _: 5 * LIFETIME_MS) for now in range(4)] == [25, 25, 10, 0]
    assert len(left(overlay)) == 60


def test_after_a_pass_it_rests_and_then_begins_again() -> None:
    overlay = rows_of([("a", 100), ("b", 200)])
    forgetting = Forgetting(overlay, LIFETIME_MS)
    earliest = 1_100
    assert [forgetting.look(now, lambda _: earliest) for now in (5_000, 5_001)] == [1, 0]
    earliest = 1_200
    assert [forgetting.look(now, lambda _: earliest) for now in (5_010, 5_011)] == [0, 1]
    assert left(overlay) == []


def test_a_clock_that_is_set_back_does_not_make_the_rest_longer() -> None:
    overlay = rows_of([])
    forgetting = Forgetting(overlay, LIFETIME_MS)
    assert forgetting.look(5_000, lambda _: 1_100) == 0
    overlay.put(Table.KEYS, tenant_key(ACME, "a"), encode_value(KeyUse("eu/b1", 1, None, 100)))
    assert [forgetting.look(now, lambda _: 1_100) for now in (5_001, 4_000)] == [0, 1]
