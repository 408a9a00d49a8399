"""The page says what the code does: every pair happens again, and comes to what stands there."""

import pytest

from tests.pairs.clash import fates
from tests.pairs.page import PAGE, page, row, same_key, section
from tests.pairs.scenes import Kind, Pair

TEXT = PAGE.read_text()
OVERVIEW = [line for line in TEXT.splitlines() if line.startswith(tuple(f"| **{kind}** |" for kind in Kind))]
SECTIONS = [f"### {part.strip()}" for part in TEXT.split("\n## ")[2].split("\n### ")[1:]]


@pytest.mark.parametrize("loser", Kind)
def test_what_becomes_of_it_beside_everything_else_is_what_the_page_says(loser: Kind) -> None:
    found = {rival: fates(Pair(rival, loser)) for rival in Kind}
    assert all(found.values()), "there is something to contend for between any two"
    assert row(loser, found) in OVERVIEW
    assert section(loser, found) in SECTIONS


def test_one_key_in_both_regions_comes_to_what_the_page_says() -> None:
    assert same_key() in TEXT


def test_nothing_else_stands_there() -> None:
    assert page(OVERVIEW, SECTIONS, same_key()) == TEXT
    assert len(OVERVIEW) == len(SECTIONS) == len(Kind)
