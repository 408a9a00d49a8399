"""A bit flips in a real store's file: nothing wrong is answered, whatever bit it is.

Larger campaigns: `python -m tests.disk --seeds 1:5 --each 100`.
"""

from collections import Counter
from pathlib import Path

import pytest

from node.store.directory import DATA_FILE
from tests.disk.anatomy import anatomy
from tests.disk.flips import Report, campaign
from tests.disk.interrogation import DIED, ENTRY_WAITS, REBUILT, REFUSED, UNAFFECTED
from tests.powerloss.load import run


def finished(seed: int, each: int, way: str, without: str = "", places: str = "") -> Report:
    *_, report = campaign(seed, each, (way,), without, places)
    return report


def test_a_bit_that_flipped_while_the_node_was_down_is_named_or_does_not_matter() -> None:
    report = finished(seed=1, each=8, way="at_rest")
    assert report.wrong == []
    outcomes = report.of("at_rest")
    assert outcomes[REFUSED] > 100
    assert outcomes[REBUILT] > 5
    assert outcomes[ENTRY_WAITS] > 3
    assert outcomes[DIED] == 0, "pages that make no sense are found before LMDB follows them"
    assert (
        report.results["at_rest", "unused space"] == report.results["at_rest", "free page"] == Counter({UNAFFECTED: 8})
    )


def test_a_bit_that_flips_under_a_running_node_misleads_it_only_where_a_page_says_how_many_rows_it_has() -> None:
    """Pages are looked at when the store is opened; a count that shrinks later hides rows until the next start."""
    report = finished(seed=2, each=3, way="alive")
    assert all(": page header, " in wrong for wrong in report.wrong), report.wrong
    assert len(report.wrong) <= 2
    assert report.of("alive")[UNAFFECTED] < sum(report.of("alive").values()) * 0.8


@pytest.mark.parametrize(
    ("without", "way", "places"),
    [
        ("pages", "at_rest", "derived: page header"),
        ("neighbours", "at_rest", "derived: keys"),
        ("neighbours", "alive", "branch: keys"),
        ("checksums", "at_rest", "derived: values"),
    ],
)
def test_each_safeguard_is_needed(without: str, way: str, places: str) -> None:
    assert any(report.wrong for report in campaign(2, 200, (way,), without, places))


def test_the_anatomy_knows_every_byte_of_the_file_and_every_byte_once(tmp_path: Path) -> None:
    data = run(tmp_path, seed=1, batches=60).store / DATA_FILE
    spans = sorted(span for spans in anatomy(data).values() for span in spans)
    end = 0
    for start, length in spans:
        assert start == end
        end += length
    assert end == data.stat().st_size
