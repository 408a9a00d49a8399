"""Laws of clocks: a partial order with a least upper bound; readings that only grow."""

from hypothesis import given
from hypothesis import strategies as st

from replication.clock import (
    Hlc,
    VectorClock,
    concurrent,
    decode_token,
    descends,
    dominates,
    encode_token,
    essential,
    hlc_at,
    merge,
)

REPLICAS = ["ap/b1", "eu/b1", "eu/b2", "us/b1"]
clocks = st.dictionaries(st.sampled_from(REPLICAS), st.integers(1, 4))


@given(clocks, clocks, clocks)
def test_descent_is_a_partial_order(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    assert descends(a, a)
    assert not (descends(a, b) and descends(b, a)) or a == b
    assert not (descends(a, b) and descends(b, c)) or descends(a, c)


@given(clocks, clocks)
def test_exactly_one_relation_holds_between_two_clocks(a: VectorClock, b: VectorClock) -> None:
    assert [a == b, dominates(a, b), dominates(b, a), concurrent(a, b)].count(True) == 1


@given(clocks, clocks, clocks)
def test_a_merge_is_the_least_clock_that_descends_from_both(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    merged = merge(a, b)
    assert descends(merged, a)
    assert descends(merged, b)
    assert not (descends(c, a) and descends(c, b)) or descends(c, merged)


@given(clocks, clocks, clocks)
def test_merging_is_associative_commutative_and_idempotent(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, a) == a


@given(clocks)
def test_a_token_gives_back_its_clock(clock: VectorClock) -> None:
    assert decode_token(encode_token(clock)) == clock


@given(st.lists(clocks, max_size=4))
def test_the_essential_part_of_a_clock_and_what_it_implies_are_the_whole(heads: list[VectorClock]) -> None:
    clock: VectorClock = {"us/b2": 1}
    for head in heads:
        clock = merge(clock, head)
    part = essential(clock, heads)
    for head in heads:
        part = merge(part, head)
    assert part == clock


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("tick"), st.integers(0, 50)),
            st.tuples(st.just("observe"), st.integers(0, hlc_at(50))),
            st.tuples(st.just("promise"), st.integers(0, 50)),
            st.tuples(st.just("crash"), st.just(0)),
        )
    )
)
def test_a_reading_exceeds_all_readings_observations_and_promises_before_it(steps: list[tuple[str, int]]) -> None:
    hlc, least = Hlc(), -1
    for step, value in steps:
        match step:
            case "tick":
                reading = hlc.tick(value)
                assert reading > least
                assert reading >= hlc_at(value)
                least = reading
                hlc.raise_ceiling(reading + 100)
            case "observe":
                hlc.observe(value)
                least = max(least, value)
            case "promise":
                least = max(least, hlc.promise(value))
            case _:
                # What a crash may forget is what nobody was promised; entries that were read come back with the log.
                hlc = Hlc(hlc.ceiling)
                hlc.observe(least)
