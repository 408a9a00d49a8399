"""Writes docs/walkthrough.md anew from a run of its commands."""

import tempfile
from pathlib import Path

from tests.walkthrough.page import written
from tests.walkthrough.session import PAGE, session


def main() -> None:
    """Run it, and write it."""
    with tempfile.TemporaryDirectory() as place, session(Path(place)) as running:
        PAGE.write_text(written(PAGE.read_text(), running.run))


if __name__ == "__main__":
    main()
