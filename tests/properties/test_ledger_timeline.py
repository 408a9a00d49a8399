"""Live is replay: whatever the order of arrival, and whatever has been checkpointed meanwhile."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ledger.account import Account
from ledger.cells import NOTHING, Effect
from ledger.ids import Position
from ledger.operation import Transfer
from ledger.posting import Outcome
from ledger.timeline import Timeline
from tests.properties.histories import RULES, Checkpoint, Written, answers, apply, cells, deliveries, fold, histories


def write(timeline: Timeline[Written], entry: Written) -> Effect:
    """Do what an origin does: apply the operation to the tip, then let the entry in with the effect that it had."""
    account = timeline.account
    effect = NOTHING if entry.operation is None else apply(account, entry)
    timeline.append(entry, effect)
    return effect


def receive(timeline: Timeline[Written], entry: Written) -> Effect | None:
    """Let in an entry; its effect, if it was applied at once."""
    if entry.position > timeline.last_place:
        return write(timeline, entry)
    timeline.insert(entry)
    return None


@given(deliveries(), st.data())
def test_live_is_replay_in_every_order_of_arrival(
    delivery: tuple[list[Written], list[Written]], data: st.DataObject
) -> None:
    history, arrival = delivery
    timeline: Timeline[Written] = Timeline(RULES)
    for entry in arrival:
        receive(timeline, entry)
        if data.draw(st.booleans()):
            _ = timeline.account
    account, effects = fold(history)
    assert cells(timeline.account) == cells(account)
    assert [effect for entry, effect in timeline.effects() if entry.operation is not None] == effects
    assert [entry for entry, _ in timeline.effects()] == history
    assert all(effect is NOTHING for entry, effect in timeline.effects() if entry.operation is None)


@given(deliveries(), st.data())
def test_what_was_refolded_is_all_that_can_have_changed(
    delivery: tuple[list[Written], list[Written]], data: st.DataObject
) -> None:
    """A reader that keeps the effects it wrote, and takes the refolded ones, always knows all of them."""
    timeline: Timeline[Written] = Timeline(RULES)
    known: dict[Position, Effect] = {}
    for entry in delivery[1]:
        effect = receive(timeline, entry)
        if effect is not None:
            known[entry.position] = effect
        if data.draw(st.booleans()):
            known.update((refolded.position, effect) for refolded, effect in timeline.take_refolded())
            assert known == {place: effect for place, _, effect in timeline.first(len(timeline))}
    known.update((refolded.position, effect) for refolded, effect in timeline.take_refolded())
    assert known == {place: effect for place, _, effect in timeline.first(len(timeline))}
    assert list(timeline.take_refolded()) == []


@given(deliveries(), st.data())
def test_a_burst_of_late_entries_replays_once_and_only_what_lies_behind_the_first_of_them(
    delivery: tuple[list[Written], list[Written]], data: st.DataObject
) -> None:
    history, arrival = delivery
    early = data.draw(st.integers(0, len(arrival)))
    timeline: Timeline[Written] = Timeline(RULES)
    for entry in sorted(arrival[:early], key=lambda entry: entry.position):
        write(timeline, entry)
    with patch.object(Account, "apply", autospec=True, side_effect=Account.apply) as applied:
        for entry in arrival[early:]:
            timeline.insert(entry)
        _ = timeline.account
        _ = timeline.account
    first = min((history.index(entry) for entry in arrival[early:]), default=len(history))
    assert applied.call_count == sum(entry.operation is not None for entry in history[first:])


@given(histories(), st.integers(0, 30))
def test_undo_restores_exactly_what_was_there_before(history: list[Written], checkpointed: int) -> None:
    past = Checkpoint()
    account = Account(RULES, past)
    stable = [apply(account, entry) for entry in history[:checkpointed]]
    past.take(stable)
    for effect in stable:
        account.forget(effect)
    for entry in history[checkpointed:]:
        before = cells(account)
        effect = apply(account, entry)
        account.undo(effect)
        assert cells(account) == before
        assert apply(account, entry) == effect


@given(histories())
def test_undoing_everything_leaves_an_empty_account(history: list[Written]) -> None:
    account, effects = fold(history)
    for effect in reversed(effects):
        account.undo(effect)
    assert cells(account) == cells(Account(RULES))


@given(deliveries(), st.data())
def test_checkpointing_a_stable_prefix_changes_nothing_later(
    delivery: tuple[list[Written], list[Written]], data: st.DataObject
) -> None:
    """Some entries arrive, the first of them become stable and are dropped; so it goes on, in waves."""
    history, arrival = delivery
    past = Checkpoint()
    dropping: Timeline[Written] = Timeline(RULES, past)
    keeping: Timeline[Written] = Timeline(RULES)
    waiting = list(arrival)
    while waiting:
        wave = data.draw(st.integers(1, len(waiting)))
        for entry in waiting[:wave]:
            receive(dropping, entry)
            receive(keeping, entry)
        waiting = waiting[wave:]
        # Stable is what no entry still to come can precede.
        frontier = min((entry.position for entry in waiting), default=None)
        stable = sum(frontier is None or entry.position < frontier for entry, _ in dropping.effects())
        count = data.draw(st.integers(0, stable))
        past.take(effect for _, _, effect in dropping.first(count))
        dropping.drop(count)
        assert answers(dropping.account) == answers(keeping.account)
        shown = [(entry, effect.postings, effect.outcome, effect.result) for entry, effect in dropping.effects()]
        kept = [(entry, effect.postings, effect.outcome, effect.result) for entry, effect in keeping.effects()]
        assert shown == kept[len(kept) - len(shown) :]
    assert answers(keeping.account) == answers(fold(history)[0])


@given(histories())
def test_once_all_is_checkpointed_memory_holds_only_what_is_open_or_owed(history: list[Written]) -> None:
    past = Checkpoint()
    timeline: Timeline[Written] = Timeline(RULES, past)
    for entry in history:
        write(timeline, entry)
    past.take(effect for _, effect in timeline.effects())
    timeline.drop(len(history))
    assert len(timeline) == 0
    assert timeline.begins_after == timeline.last_place == history[-1].position
    assert not timeline.account.keys
    assert not any(claim.is_ended for claim in timeline.account.claims.values())


@given(histories(), st.integers(0, 30))
def test_an_account_loaded_from_a_checkpoint_goes_on_as_if_it_had_never_stopped(
    history: list[Written], stopped: int
) -> None:
    whole, effects = fold(history)
    before, stable = fold(history[:stopped])
    past = Checkpoint()
    past.take(stable)
    loaded = Account(RULES, past)
    loaded.load(
        before.totals,
        before.policy,
        before.lots.values(),
        [claim for claim in before.claims.values() if not claim.is_ended],
    )
    later = [apply(loaded, entry) for entry in history[stopped:]]
    assert answers(loaded) == answers(whole)
    assert [(effect.postings, effect.outcome, effect.result) for effect in later] == [
        (effect.postings, effect.outcome, effect.result) for effect in effects[stopped:]
    ]


@given(deliveries())
def test_an_entry_delivered_early_never_lets_a_duplicate_keep_its_effect(
    delivery: tuple[list[Written], list[Written]],
) -> None:
    """Of all entries under one key, only the canonically first can have done anything, whichever arrived first."""
    timeline: Timeline[Written] = Timeline(RULES)
    for entry in delivery[1]:
        receive(timeline, entry)
        used_at: dict[str, int] = {}
        for known, effect in timeline.effects():
            if known.key is None:
                continue
            now = known.position.now
            if now - used_at.get(known.key, -RULES.key_lifetime_ms) >= RULES.key_lifetime_ms:
                used_at[known.key] = now
            elif not isinstance(known.operation, Transfer):
                assert effect.outcome is Outcome.DUPLICATE
