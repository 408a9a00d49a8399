"""Delivery in any order, with repeats, gives the same set, each entry after all that it had seen."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.replication.sites import NOW, Site

REGIONS = ("ap", "eu", "us")

turns = st.lists(
    st.tuples(
        st.sampled_from(REGIONS), st.sampled_from(["accept", "accept", "restart", "meet"]), st.sampled_from(REGIONS)
    ),
    min_size=1,
    max_size=25,
)


def history(steps: list[tuple[str, str, str]]) -> list[bytes]:
    """What is accepted when regions accept, restart and meet as the steps say."""
    sites = {region: Site(region, REGIONS) for region in REGIONS}
    said: list[bytes] = []
    for turn, (region, step, other) in enumerate(steps):
        site = sites[region]
        if step == "accept":
            said.append(site.accept(NOW + turn))
        elif step == "restart":
            site.restart(f"b{turn + 2}")
        else:
            met = sites[other]
            held = met.journal.page(met.delivery.clock, site.delivery.clock, 1000, 10**9)
            site.deliver([sealed for _, _, sealed in held])
    return said


@given(turns, st.data())
def test_every_order_of_arrival_gives_the_same_set_causally(
    steps: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    said = history(steps)
    shuffled = data.draw(st.permutations(said + said[: len(said) // 2]))
    site = Site("eu", REGIONS, boot="reader")
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        site.deliver(shuffled[:size])
        shuffled = shuffled[size:]
    assert len(site.order) == len(said)
    assert site.delivery.waiting_count == 0
    assert site.alarms == []
    site.assert_causal()


@given(turns, st.data())
def test_a_part_of_the_entries_gives_what_is_causally_complete_and_the_rest_comes_later(
    steps: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    said = history(steps)
    part = [sealed for sealed in data.draw(st.permutations(said)) if data.draw(st.booleans())]
    site = Site("eu", REGIONS, boot="reader")
    site.deliver(part)
    site.assert_causal()
    site.deliver(said)
    assert len(site.order) == len(said)
    site.assert_causal()
