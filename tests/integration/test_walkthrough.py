"""The walkthrough is true: its commands print what it shows, but for what is another in every run."""

from pathlib import Path

import pytest

from tests.walkthrough.page import commands, essence
from tests.walkthrough.session import PAGE, session


@pytest.mark.timeout(300)
def test_every_command_prints_what_the_page_shows(tmp_path: Path) -> None:
    shown = list(commands(PAGE.read_text()))
    assert len(shown) > 20
    with session(tmp_path) as running:
        for each in shown:
            assert essence(running.run(each.command)) == essence(each.output), each.command
