"""Canonical order: a tenant's entries at their places, folded, with late arrivals let in.

Entries arrive in any order that respects causality; each takes its place in canonical order. A late one undoes the
operations behind its place and leaves them to be folded again: lazily, so that a burst of late entries costs one
replay, and only of what lies behind the earliest of them. Entries that are stable leave at the front; the account then
no longer knows how to undo them, and nothing may arrive before them (`Timeline.begins_after`).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from ledger.account import Account
from ledger.cells import NOTHING, Effect, Past
from ledger.ids import Key, Position
from ledger.operation import Operation
from ledger.rules import Rules


class Placed(Protocol):
    """What a timeline needs to know of an entry."""

    @property
    def position(self) -> Position:
        """Its place in canonical order."""
        ...

    @property
    def operation(self) -> Operation | None:
        """What it does to the account; None for what only stands in the order, such as a compensation."""
        ...

    @property
    def key(self) -> Key | None:
        """The idempotency key under which it was accepted, if any."""
        ...

    @property
    def request(self) -> str | None:
        """The fingerprint of the request behind it, if any."""
        ...


EntryT = TypeVar("EntryT", bound=Placed)

BEGINNING = Position(-1, "", "", 0)
"""Before every entry."""


class Timeline(Generic[EntryT]):
    """The entries of one tenant that are not checkpointed, in canonical order, and the account at their end.

    Relations kept: ``_places`` is sorted and parallel to ``_entries``; ``_effects`` is parallel to the first
    ``len(_effects)`` of them, which are exactly those folded into the account; no place is at or before
    ``begins_after``; effects from ``_unseen`` on may differ from what `take_refolded` last gave out.
    """

    __slots__ = ("_account", "_effects", "_entries", "_places", "_unseen", "begins_after")

    def __init__(self, rules: Rules, past: Past | None = None, begins_after: Position = BEGINNING) -> None:
        self._account = Account(rules, past)
        self._entries: list[EntryT] = []
        self._places: list[Position] = []
        self._effects: list[Effect] = []
        self._unseen = 0
        self.begins_after = begins_after

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def account(self) -> Account:
        """The tenant's state after all known entries."""
        if len(self._effects) < len(self._entries):
            self.fold()
        return self._account

    @property
    def first_place(self) -> Position | None:
        """The place of the first entry that is not checkpointed, if there is one."""
        return self._places[0] if self._places else None

    @property
    def last_place(self) -> Position:
        """The place of the last entry known, checkpointed or not."""
        return self._places[-1] if self._places else self.begins_after

    def append(self, entry: EntryT, effect: Effect) -> None:
        """Let in an entry made here, later than all known ones, whose operation `account` has just applied."""
        assert len(self._effects) == len(self._entries)
        place = entry.position
        assert place > self.last_place, (place, self.last_place)
        if self._unseen == len(self._entries):
            # Its origin records this very effect: there is nothing to look at.
            self._unseen += 1
        self._entries.append(entry)
        self._places.append(place)
        self._effects.append(effect)

    def insert(self, entry: EntryT) -> None:
        """Let in an entry at its place; what lies behind it is folded again when the account is next asked for.

        The place must be after `begins_after` and free (AssertionError).
        """
        place = entry.position
        assert place > self.begins_after, (place, self.begins_after)
        places, effects = self._places, self._effects
        # Most arrivals are the latest: they need no search.
        index = len(places) if not places or place > places[-1] else bisect_right(places, place)
        assert index == 0 or places[index - 1] != place
        while len(effects) > index:
            self._account.undo(effects.pop())
        self._entries.insert(index, entry)
        places.insert(index, place)
        self._unseen = min(self._unseen, index)

    def take_refolded(self) -> Iterator[tuple[EntryT, Effect]]:
        """The entries whose effects may have changed since this was last called, with their effects now."""
        account = self.account
        assert account is self._account
        start, self._unseen = self._unseen, len(self._entries)
        return zip(self._entries[start:], self._effects[start:], strict=True)

    def effects(self) -> Iterator[tuple[EntryT, Effect]]:
        """Every entry with its canonical effect, in canonical order."""
        account = self.account
        assert account is self._account
        return zip(self._entries, self._effects, strict=True)

    def entries_between(self, after: Position, limit: int) -> Sequence[EntryT]:
        """Up to `limit` entries after a place, in canonical order."""
        start = bisect_right(self._places, after)
        return self._entries[start : start + limit]

    def first(self, count: int) -> list[tuple[Position, EntryT, Effect]]:
        """The first `count` entries with their places and effects: what a checkpoint may take next."""
        account = self.account
        assert account is self._account
        return list(zip(self._places[:count], self._entries[:count], self._effects[:count], strict=True))

    def count_until(self, hlc: int) -> int:
        """How many of the entries have a clock reading of at most `hlc`."""
        return bisect_right(self._places, Position(hlc, "~", "~", 2**63))

    def count_through(self, place: Position) -> int:
        """How many of the entries stand at or before `place`."""
        return bisect_right(self._places, place)

    def drop(self, count: int) -> None:
        """Forget the first `count` entries: they are checkpointed, and the past answers for them from now on."""
        if not count:
            return
        account = self.account
        self.begins_after = self._places[count - 1]
        for effect in self._effects[:count]:
            account.forget(effect)
        del self._entries[:count], self._places[:count], self._effects[:count]
        self._unseen = max(0, self._unseen - count)

    def fold(self) -> None:
        """Fold what has been let in and not been folded yet."""
        account, effects = self._account, self._effects
        for index in range(len(effects), len(self._entries)):
            entry = self._entries[index]
            operation = entry.operation
            effects.append(
                NOTHING
                if operation is None
                else account.apply(operation, self._places[index], entry.key, entry.request)
            )
