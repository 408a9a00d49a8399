"""Choices read off a string of bytes, so that whoever makes the bytes decides what happens, and the same bytes again
make the same happen: a guided fuzzer, hypothesis, or a file that one of them left behind.

When the bytes are used up every choice is the first one.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """The choices that are left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to choose by."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte."""
        if self.is_empty:
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` − 1."""
        drawn, span = 0, 1
        while span < limit:
            drawn, span = drawn << 8 | self.byte(), span << 8
        return drawn % limit

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def rarely(self) -> bool:
        """True one time in eight."""
        return self.byte() % 8 == 7

    def bytes(self, most: int) -> bytes:
        """Up to `most` of the bytes that are left."""
        length = self.below(most + 1)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken
