"""The balance at a time, whatever the order in which operations came to be known, against the slow reference."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.event_time import EventFold, EventOrder, Standing
from ledger.posting import Outcome
from ledger.statement import Line, Statement
from ledger.timeline import BEGINNING, Timeline
from node.history import History
from tests.properties.histories import RULES, START_MS, Written, books, deliveries, histories
from tests.properties.test_region_worlds import NAMES, run, steps
from tests.reference import event_order, fold
from tests.world import START_MS as WORLD_START_MS
from tests.world import TENANT, World

times = st.integers(START_MS - 110, START_MS + 500)


def in_event_order(arrival: list[Written]) -> EventOrder[Written]:
    timeline: Timeline[Written] = Timeline(RULES)
    for entry in arrival:
        timeline.insert(entry)
    order: EventOrder[Written] = EventOrder()
    for entry, effect in timeline.effects():
        if effect.outcome is not Outcome.DUPLICATE:
            order.add(entry, is_void=effect.outcome is Outcome.REVOKED)
    return order


def folded(arrival: list[Written], until: int) -> EventFold[Written]:
    """After all that happened up to a time."""
    fold = EventFold(in_event_order(arrival), RULES)
    for _ in fold.before(until + 1):
        pass
    return fold


def told(history: list[Written], since: int, to: int) -> tuple[Statement[Written], list[Line[Written]]]:
    """A period, and its lines."""
    statement = Statement(EventFold(in_event_order(history), RULES), since, to)
    for _ in statement.begin():
        pass
    return statement, [line for line in statement.lines() if line is not None]


def reference(history: list[Written]) -> list[fold.Line]:
    lines = [fold.Line(entry.position, entry.operation, entry.key) for entry in history if entry.operation is not None]
    return event_order.happened(event_order.with_verdicts(lines, RULES.key_lifetime_ms))


def figures(serial: fold.Ledger, at: int) -> Standing:
    held = sum(balance for name, balance in serial.accounts.items() if name.startswith("held/"))
    return Standing(serial.available(at), held, serial.balance("used"), -serial.balance("debt"))


@given(histories(), times)
def test_the_books_at_a_time_are_what_the_reference_says(history: list[Written], at: int) -> None:
    fold = folded(history, at)
    serial = event_order.ledger_at(reference(history), at, RULES.key_lifetime_ms)
    assert books(fold.account) == {name: balance for name, balance in serial.accounts.items() if balance}
    assert fold.standing(at) == figures(serial, at)
    states = {name: claim.state.value for name, claim in fold.account.claims.items()}
    assert states == {name: claim.state for name, claim in serial.claims.items()}


@given(deliveries(), times)
def test_the_order_of_arrival_makes_no_difference(delivery: tuple[list[Written], list[Written]], at: int) -> None:
    history, arrival = delivery
    assert list(in_event_order(arrival)) == list(in_event_order(history))
    assert folded(arrival, at).standing(at) == folded(history, at).standing(at)


@given(histories(), times)
def test_debt_never_stands_beside_live_credit_at_any_time(history: list[Written], at: int) -> None:
    account = folded(history, at).account
    assert account.is_escrowed or not (account.totals["debt"] and account.live_credit(at))


@given(histories(), st.lists(times, min_size=3, max_size=3, unique=True).map(sorted))
def test_opening_and_lines_add_up_to_closing_and_periods_join(history: list[Written], bounds: list[int]) -> None:
    since, between, to = bounds
    whole, lines = told(history, since, to)
    first, first_lines = told(history, since, between)
    then, then_lines = told(history, between, to)
    assert whole.opening.available + sum(line.amount for line in lines) == whole.closing.available
    assert first.closing == then.opening
    assert (first.opening, then.closing) == (whole.opening, whole.closing)
    assert first_lines + then_lines == lines
    assert [line.order for line in lines] == sorted({line.order for line in lines})


@given(histories(), times, st.integers(1, 150))
def test_the_last_line_up_to_a_time_says_what_the_reference_says(
    history: list[Written], since: int, lasts_ms: int
) -> None:
    statement, lines = told(history, since, since + lasts_ms)
    coming = reference(history)
    serial = event_order.ledger_at(coming, since - 1, RULES.key_lifetime_ms)
    assert statement.opening == figures(serial, since - 1)
    standing = statement.opening
    for at in range(since, since + lasts_ms):
        for line in lines:
            if line.order.at == at:
                assert line.after.available == standing.available + line.amount
                assert line.after != standing
                standing = line.after
        for coming_line in coming:
            if coming_line.place.now == at:
                fold.extend(serial, coming_line)
        assert standing == figures(serial, at)
    assert standing == statement.closing


def standing_at(world: World, name: str, at: int) -> Standing | None:
    """What a region says, which is what the reference makes of all the entries that it holds; None if it has none."""
    book = world.region(name).books.existing(TENANT, world.now)
    if book is None:
        return None
    history = History(book)
    for _ in history.read():
        pass
    here = history.fold()
    for _ in here.before(at + 1):
        pass
    entries = book.entries(BEGINNING, 100_000)
    lines = [fold.Line(each.position, each.operation, each.key) for each in entries if each.operation is not None]
    lifetime = book.rules.key_lifetime_ms
    happened = event_order.happened(event_order.with_verdicts(lines, lifetime))
    serial = event_order.ledger_at(happened, at, lifetime)
    assert here.standing(at) == figures(serial, at)
    return here.standing(at)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=60), st.integers(-100, 10_000))
def test_regions_say_the_same_of_a_time_whatever_came_first_and_whatever_is_checkpointed(
    happenings: list[tuple[Any, ...]], later_ms: int
) -> None:
    world, at = World(NAMES), WORLD_START_MS + later_ms
    run(world, happenings)
    for name in NAMES:
        standing_at(world, name, at)
    world.settle()
    standings = [standing_at(world, name, at) for name in NAMES]
    world.crash("us")
    standings.append(standing_at(world, "us", at))
    assert len(set(map(str, standings))) == 1
