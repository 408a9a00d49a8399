"""Alarms: what an operator must look at, each said once and counted."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

_MOST: Final = 1000


class AlarmKind(StrEnum):
    """What is wrong."""

    FORK = "fork"
    CLOCK_AHEAD = "clock-ahead"
    RULES_DIFFER = "rules-differ"
    WRONG_CLUSTER = "wrong-cluster"
    MALFORMED = "malformed"
    NO_RIVAL = "difference-without-rival"
    TOO_LONG = "entry-too-long"
    LATE = "entry-before-the-frontier"
    DAMAGED = "damaged-entry"
    REBUILT = "store-rebuilt"


class Alarm(Struct, gc=False):
    """One thing that is wrong, with what it is about; times in ms."""

    kind: AlarmKind
    subject: str
    detail: str
    raised_at: int
    count: int


class Alarms:
    """Alarms by kind and subject; the first occurrence of each is kept, later ones are counted. None is taken back."""

    def __init__(self) -> None:
        self._raised: dict[tuple[AlarmKind, str], Alarm] = {}

    def count(self, kind: AlarmKind) -> int:
        """How many subjects have an alarm of this kind."""
        return sum(known == kind for known, _ in self._raised)

    def all(self) -> list[Alarm]:
        """The alarms, oldest first."""
        return list(self._raised.values())

    def raise_(self, kind: AlarmKind, subject: str, detail: str, now: int) -> bool:
        """Note an alarm; whether it is the first of its kind about its subject."""
        known = self._raised.get((kind, subject))
        if known is not None:
            known.count += 1
            return False
        if len(self._raised) < _MOST:
            self._raised[kind, subject] = Alarm(kind, subject, detail, now, 1)
        return True

    def amend(self, kind: AlarmKind, subject: str, detail: str) -> None:
        """Say what has become of the subject of an alarm."""
        known = self._raised.get((kind, subject))
        if known is not None:
            known.detail = detail
