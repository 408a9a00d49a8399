"""The page docs/internals/pairs.md: an overview, all outcomes of each loser, one key in both regions.

What is said about them stands in template.md beside this module.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.pairs.clash import UNCHANGED, Fate
from tests.pairs.requests import requests
from tests.pairs.scenes import REPAYING, SCENES, Kind

TEMPLATE: Final = Path(__file__).with_name("template.md")
PAGE: Final = Path(__file__).parents[2] / "docs" / "internals" / "pairs.md"

LETTERS: Final = {
    "overspend": "O",
    "duplicate": "D",
    "key_mismatch": "K",
    "revoked": "R",
    "lease": "L",
    "overlap": "V",
    "refund": "F",
    "reallocated": "a",
}
"""In the overview; the worst comes first."""

Fates = Mapping[Kind, Mapping[str, Fate]]
"""What becomes of one loser: by rival, by what they contend for."""


def heading() -> str:
    """The first two lines of the overview."""
    kinds = " | ".join(Kind)
    return f"| later ↓ earlier → | {kinds} |\n|---|{'---|' * len(Kind)}"


def row(loser: Kind, fates: Fates) -> str:
    """A loser's line in the overview."""
    cells = " | ".join(_letters(fates[rival]) for rival in Kind)
    return f"| **{loser}** | {cells} |"


def _letters(found: Mapping[str, Fate]) -> str:
    kinds = {fate.kind for what, fate in found.items() if what != REPAYING or fate.kind != "reallocated"}
    return " ".join(letter for kind, letter in LETTERS.items() if kind in kinds) or "·"


def section(loser: Kind, fates: Fates) -> str:
    """All outcomes of a loser, each with the rivals that bring it about."""
    rivals: defaultdict[tuple[str, str], list[Kind]] = defaultdict(list)
    for rival in Kind:
        for what, fate in fates[rival].items():
            rivals[what, str(fate)].append(rival)
    order = [scene.what for scene in SCENES]
    lines = [
        f"| {what} | {outcome} | {_listed(kinds)} |"
        for (what, outcome), kinds in sorted(rivals.items(), key=lambda item: _place(item[0], order))
    ]
    return "\n".join([f"### {loser}", "", "| contended for | what becomes of it | behind |", "|---|---|---|", *lines])


def _place(key: tuple[str, str], order: list[str]) -> tuple[int, bool, str]:
    what, outcome = key
    return order.index(what), outcome == UNCHANGED, outcome


def _listed(kinds: Iterable[Kind]) -> str:
    named = list(kinds)
    missing = [kind for kind in Kind if kind not in named]
    if not missing:
        return "anything"
    if len(missing) <= 3:
        return f"anything but {', '.join(missing)}"
    return ", ".join(named)


def same_key() -> str:
    """The table of requests."""
    lines = [f"| {kind} | {same} | {other} |" for kind, (same, other) in requests().items()]
    return "\n".join(["| | the same request | another request |", "|---|---|---|", *lines])


def page(overview: Iterable[str], sections: Iterable[str], same: str) -> str:
    """The page, whole."""
    text = TEMPLATE.read_text()
    text = text.replace("{overview}", "\n".join([heading(), *overview]))
    text = text.replace("{sections}", "\n\n".join(sections))
    return text.replace("{requests}", same)
