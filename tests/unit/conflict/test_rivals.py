"""Who stands earlier in canonical order and was not seen: found by bisection, counted whole, named in part."""

import pytest

from conflict.rivals import MAX_RIVALS, RivalIndex
from ledger.ids import ClaimId, Position, TenantId
from ledger.operation import Release
from ledger.posting import Outcome
from replication.clock import VectorClock, hlc_at
from replication.entry import GENESIS, VERSION, Entry
from replication.filed import Filed
from tests.regions import Regions, clash, debit, grant, reserve, revoke


def places(region: str, *hlcs: int, boot: str = "b1", first_seq: int = 1) -> list[Position]:
    return [Position(hlc, region, boot, seq) for seq, hlc in enumerate(hlcs, first_seq)]


def loser(hlc: int, seen: VectorClock) -> Filed:
    entry = Entry(
        VERSION, "us/b1", 1, hlc, seen, TenantId("t"), None, None,
        Release(ClaimId("c")), {}, Outcome.CLOSED, None, None, GENESIS,
    )  # fmt: skip
    return Filed(entry, entry.position, seen, 1)


EU = places("eu", 10, 20, 30, 40)


def test_rivals_are_what_the_clock_does_not_cover_and_what_stands_earlier() -> None:
    assert RivalIndex(EU).of(loser(35, {"eu/b1": 1}), 16) == (EU[1:3], 2)


def test_a_loser_that_had_seen_everything_has_no_rival() -> None:
    assert RivalIndex(EU).of(loser(35, {"eu/b1": 3}), 16) == ([], 0)


def test_what_stands_later_is_no_rival_whether_seen_or_not() -> None:
    assert RivalIndex(EU).of(loser(5, {}), 16) == ([], 0)


def test_a_tie_of_clocks_goes_by_region() -> None:
    assert RivalIndex(places("eu", 35)).of(loser(35, {}), 16) == (places("eu", 35), 1)
    assert RivalIndex(places("zz", 35)).of(loser(35, {}), 16) == ([], 0)


def test_nobody_is_a_rival_of_its_own_log() -> None:
    assert RivalIndex(places("us", 10, 20)).of(loser(35, {}), 16) == ([], 0)


def test_an_earlier_boot_of_the_same_region_is_another_log() -> None:
    earlier = places("us", 10, 20, boot="b0")
    assert RivalIndex(earlier).of(loser(35, {"us/b0": 1}), 16) == (earlier[1:], 1)


def test_the_numbers_of_a_log_have_gaps_where_other_tenants_stand() -> None:
    log = [Position(10, "eu", "b1", 3), Position(20, "eu", "b1", 7), Position(30, "eu", "b1", 9)]
    assert RivalIndex(log).of(loser(35, {"eu/b1": 5}), 16) == (log[1:], 2)
    assert RivalIndex(log).of(loser(35, {"eu/b1": 7}), 16) == (log[2:], 1)


def test_the_first_of_all_logs_are_named_in_canonical_order_and_all_are_counted() -> None:
    ap = places("ap", 15, 25, 28)
    everyone = sorted([*EU, *ap])
    assert RivalIndex(everyone).of(loser(35, {}), 4) == ([EU[0], ap[0], EU[1], ap[1]], 6)
    assert RivalIndex(everyone).of(loser(35, {}), 1) == ([EU[0]], 6)


def test_a_report_names_sixteen_rivals_and_counts_twenty() -> None:
    world = clash([grant("L", 100)], [debit(f"d{n}", 5) for n in range(20)], [reserve("b", 80)])
    report = world.the_report()
    assert MAX_RIVALS == 16
    assert (len(report.rivals), report.rival_count) == (16, 20)
    assert [rival.claim for rival in report.rivals] == [f"d{n}" for n in range(16)]
    assert report.debt == 80


def test_what_the_loser_had_seen_is_no_rival_in_a_report() -> None:
    world = Regions("ap", "eu", "us")
    world.do("ap", grant("L", 100))
    world.do("ap", debit("seen", 10))
    world.meet()
    world.part()
    world.do("ap", debit("from-ap", 50))
    world.do("eu", debit("from-eu", 40))
    world.do("us", reserve("b", 80))
    world.do("eu", debit("later", 1))
    world.meet()
    (report,) = [report for report in world.reports("us") if report.loser.region == "us"]
    assert [rival.claim for rival in report.rivals] == ["from-ap", "from-eu"]
    assert report.rival_count == 2


@pytest.mark.parametrize("checkpointed", [True, False])
def test_compensations_are_nobodys_rivals(checkpointed: bool) -> None:
    world = Regions("ap", "eu", "us")
    world.do("eu", grant("L", 100))
    world.meet()
    world.part("us")
    world.do("ap", reserve("a", 80))
    world.do("eu", reserve("b", 20))
    world.do("eu", debit("c", 80))
    world.exchange(3_000)
    assert len(world.reports("eu")[0].compensations) == 1
    if checkpointed:
        for name in ("ap", "eu"):
            assert len(world.book(name).checkpoint(hlc_at(world.now), 100)) == 4
    world.do("us", reserve("d", 80))
    world.meet()
    report = world.reports("us")[0]
    assert report == world.reports("eu")[0] == world.reports("ap")[0]
    assert [rival.claim for rival in report.rivals] == ["a", "b", "c"]
    assert report.rival_count == 3


def test_the_revocation_is_found_behind_any_number_of_rivals() -> None:
    world = clash([grant("L", 100)], [*(debit(f"d{n}", 1) for n in range(20)), revoke("L")], [reserve("b", 70)])
    report = world.the_report()
    assert report.kind == "revoked"
    assert "revoke" not in [rival.kind for rival in report.rivals]
    assert report.rival_count == 21


def test_rivals_stay_the_same_when_everything_is_checkpointed_and_read_again() -> None:
    world = clash([grant("L", 100)], [debit(f"d{n}", 5) for n in range(20)], [reserve("b", 80)])
    before = world.the_report()
    world.put_right()
    world.exchange(2_000)
    assert world.book("us").is_idle
    world.crash("us")
    world.exchange()
    after = world.the_report()
    assert (after.rivals, after.rival_count) == (before.rivals, before.rival_count)
