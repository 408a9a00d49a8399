"""Three nodes over a network that loses, repeats, reorders and cuts: once it is whole again, all hold the same."""

from hypothesis import given
from hypothesis import strategies as st

from replication.codec import Hello, decode
from replication.entry import open_sealed
from tests.unit.replication.sites import PACE, Link, Network, Site

REGIONS = ("ap", "eu", "us")
PAIRS: list[Link] = [("ap", "eu"), ("ap", "us"), ("eu", "us")]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.sampled_from(REGIONS), st.integers(1, 70)),
        st.tuples(st.just("commit"), st.sampled_from(REGIONS), st.just(0)),
        st.tuples(st.sampled_from(["carry", "lose", "repeat", "reorder"]), st.sampled_from(REGIONS), st.integers(0, 1)),
        st.tuples(st.sampled_from(["cut", "connect"]), st.sampled_from(REGIONS), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 2 * PACE.anti_entropy_interval_ms)),
    ),
    max_size=60,
)


def play(network: Network, step: str, region: str, number: int) -> None:
    """One thing happens."""
    peer = [other for other in REGIONS if other != region][number] if number < 2 and region else ""
    link = (region, peer)
    wire = network.wires.get(link)
    match step:
        case "accept":
            for _ in range(number):
                network.sites[region].accept(network.now)
        case "commit":
            network.commit(region)
        case "cut":
            network.cut(*link)
        case "connect":
            network.cut(*link)
            network.connect(*link)
        case "wait":
            network.pass_time(number)
        case "carry" if wire:
            network.carry(link)
        case "lose" if wire and not is_hello(wire[0]):
            wire.popleft()
        case "repeat" if wire and not is_hello(wire[0]):
            wire.append(wire[0])
        case "reorder" if wire and not is_hello(wire[0]):
            wire.rotate(-1)


def is_hello(data: bytes) -> bool:
    """Connections may fail, but they do begin at the beginning."""
    return isinstance(decode(data), Hello)


def heal(network: Network, links: list[Link]) -> None:
    """Whole again over these links, for long enough."""
    for pair in PAIRS:
        network.cut(*pair)
    for pair in links:
        network.connect(*pair)
    for _ in range(8):
        network.settle()
        network.pass_time(PACE.anti_entropy_interval_ms)
    network.settle()


@given(steps, st.sampled_from([PAIRS, PAIRS[:2], PAIRS[1:], PAIRS[::2]]))
def test_a_network_that_is_whole_again_makes_all_nodes_hold_the_same(
    story: list[tuple[str, str, int]], links: list[Link]
) -> None:
    sites = [Site(region, REGIONS) for region in REGIONS]
    network = Network(*sites)
    network.mesh()
    for step, region, number in story:
        play(network, step, region, number)
        check_promises(network)
    heal(network, links)
    check_promises(network)
    everything = {replica: count for site in sites for replica, count in site.delivery.clock.items()}
    for site in sites:
        assert site.delivery.clock == everything
        assert site.durable == everything
        assert site.delivery.waiting_count == 0
        assert site.alarms == []
        site.assert_causal()
    assert not network.closed


def check_promises(network: Network) -> None:
    """What is before a node's frontier is at that node, whoever accepted it."""
    for site in network.sites.values():
        for origin in network.sites.values():
            for dot in origin.order:
                if dot.replica == origin.replica and dot.seq > site.durable.get(dot.replica, 0):
                    sealed = origin.journal.sealed(*dot)
                    assert sealed is not None
                    assert hlc_of(sealed) > site.frontier.reached
                    break


def hlc_of(sealed: bytes) -> int:
    """When the entry was accepted, by its origin's hybrid clock."""
    return open_sealed(sealed)[0].hlc
