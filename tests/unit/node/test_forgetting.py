"""Forgetting keys: a row goes when its lifetime is over for whatever may still be folded, whatever the clock does."""

from ledger.cells import KeyUse
from ledger.ids import TenantId
from node.forgetting import Forgetting
from node.store.kv import MemoryDisk, Overlay, Table
from node.store.rows import encode_value, tenant_key

LIFETIME_MS = 10_000
ACME = TenantId("acme")


def with_keys(*used_at: int) -> Overlay:
    overlay = Overlay(MemoryDisk())
    for at in used_at:
        put(overlay, at)
    return overlay


def put(overlay: Overlay, at: int) -> None:
    overlay.put(Table.KEYS, tenant_key(ACME) + b"k%d" % at, encode_value(KeyUse("eu/b1", 1, None, at)))


def forgotten(forgetting: Forgetting, now: int, earliest: int) -> int:
    return forgetting.look(now, lambda _: earliest)


def test_a_key_stays_as_long_as_an_operation_may_be_folded_that_remembers_it() -> None:
    overlay = with_keys(5, 6)
    forgetting = Forgetting(overlay, LIFETIME_MS)
    assert forgotten(forgetting, now=50_000, earliest=LIFETIME_MS + 5) == 1
    assert [key for key, _ in overlay.scan(Table.KEYS, b"", None, 10)] == [tenant_key(ACME) + b"k6"]


def test_between_two_passes_it_rests() -> None:
    overlay = with_keys()
    forgetting = Forgetting(overlay, LIFETIME_MS)
    assert forgotten(forgetting, now=50_000, earliest=50_000) == 0
    put(overlay, at=5)
    assert forgotten(forgetting, now=50_099, earliest=50_000) == 0
    assert forgotten(forgetting, now=50_100, earliest=50_000) == 1


def test_a_clock_that_is_set_back_does_not_make_the_rest_longer() -> None:
    overlay = with_keys()
    forgetting = Forgetting(overlay, LIFETIME_MS)
    assert forgotten(forgetting, now=50_000, earliest=20_000) == 0
    put(overlay, at=5)
    assert forgotten(forgetting, now=20_000, earliest=20_000) == 1
