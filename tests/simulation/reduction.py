"""Making a failing world smaller: leave out what it does not need in order to fail.

A reduction says what is left of a world; with its seed it names the smaller world, on a command line too.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from msgspec import Struct, structs

from tests.simulation.scenario import Clients, Scenario, Weather

T = TypeVar("T")

Fails = Callable[[Scenario], bool]

CALMS: Final = ("loss", "duplication", "reordering", "garbage", "clients", "skew", "drift")
"""What can be switched off as a whole."""


class Reduction(Struct, frozen=True):
    """What is left of a world; None: all."""

    happenings: tuple[int, ...] | None = None
    intents: tuple[int, ...] | None = None
    calm: tuple[str, ...] = ()
    regions: int | None = None

    def of(self, scenario: Scenario) -> Scenario:
        """The smaller world."""
        return structs.replace(
            scenario,
            happenings=_picked(scenario.happenings, self.happenings),
            intents=_picked(scenario.intents, self.intents),
            regions=scenario.regions[: self.regions],
            weather=self._weather(scenario.weather),
            clients=self._clients(scenario.clients),
            skew_ms=0 if "skew" in self.calm else scenario.skew_ms,
            drift_ppm=0 if "drift" in self.calm else scenario.drift_ppm,
        )

    def _weather(self, weather: Weather) -> Weather:
        return structs.replace(weather, **{name: 0.0 for name in self.calm if name in weather.__struct_fields__})

    def _clients(self, clients: Clients) -> Clients:
        return structs.replace(clients, loss=0.0, elsewhere=0.0) if "clients" in self.calm else clients

    def arguments(self) -> str:
        """The same, as arguments of the command that replays it."""
        parts = []
        if self.happenings is not None:
            parts.append(f"--happenings '{written(self.happenings)}'")
        if self.intents is not None:
            parts.append(f"--intents '{written(self.intents)}'")
        if self.calm:
            parts.append(f"--calm {','.join(self.calm)}")
        if self.regions is not None:
            parts.append(f"--regions {self.regions}")
        return " ".join(parts)


def written(numbers: tuple[int, ...]) -> str:
    """Numbers as text: 3,5-9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read(text: str) -> tuple[int, ...]:
    """The numbers in a text that `written` made."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def shrink(scenario: Scenario, fails: Fails, tell: Callable[[str], None]) -> Reduction:
    """The smallest world found that still fails, leaving out one thing, or half of many things, at a time."""
    found = Reduction()

    def try_(smaller: Reduction) -> bool:
        nonlocal found
        if fails(smaller.of(scenario)):
            found = smaller
            tell(smaller.arguments())
            return True
        return False

    for count in range(2, len(scenario.regions)):
        if try_(structs.replace(found, regions=count)):
            break
    for calm in CALMS:
        try_(structs.replace(found, calm=(*found.calm, calm)))
    everything = Reduction(tuple(range(len(scenario.happenings))), tuple(range(len(scenario.intents))))
    found = structs.replace(found, happenings=everything.happenings, intents=everything.intents)
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for field in ("intents", "happenings"):
            for chunk in _chunks(getattr(found, field)):
                present: tuple[int, ...] = getattr(found, field)
                rest = tuple(number for number in present if number not in chunk)
                if rest != present and try_(structs.replace(found, **{field: rest})):
                    is_smaller = True
    return found


def _chunks(numbers: tuple[int, ...]) -> Iterator[frozenset[int]]:
    """All of the numbers, one half, the other, each quarter, and so on down to each single one."""
    size = len(numbers)
    while size:
        for start in range(0, len(numbers), size):
            yield frozenset(numbers[start : start + size])
        size //= 2


def _picked(things: tuple[T, ...], numbers: tuple[int, ...] | None) -> tuple[T, ...]:
    return things if numbers is None else tuple(things[number] for number in numbers)
