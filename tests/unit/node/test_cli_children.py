"""Child processes: started together, watched, stopped together. Small programs stand in for the nodes."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.cli import children
from node.cli.children import Children, check_free, command, serve_options
from node.cli.exits import Stop
from node.cli.testbed import write_config
from node.config import load

PATIENT = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); print('here', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); signal.pause()"
DOOMED = "print('last words', flush=True); exit(7)"


class Lines:
    """What the children printed, and a way to wait for it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.changed = asyncio.Event()

    def __call__(self, region: str, line: str) -> None:
        self.said.append((region, line))
        self.changed.set()

    async def until(self, count: int) -> None:
        while len(self.said) < count:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def started(
    place: Path, monkeypatch: pytest.MonkeyPatch, **programs: str
) -> AsyncIterator[tuple[Children, Lines]]:
    def stand_in(region: str, _: object) -> list[str]:
        return [sys.executable, "-c", programs.get(region.replace("-", "_"), PATIENT)]

    monkeypatch.setattr(children, "command", stand_in)
    lines = Lines()
    made = Children(load(write_config(place)), [], lines)
    await made.start()
    try:
        yield made, lines
    finally:
        await made.stop()


def test_the_command_line_of_a_node() -> None:
    options = serve_options(Path("c.toml"), Path("d"), chaos=True)
    assert command("us-east", options)[1:] == (
        ["-m", "node.cli", "serve", "--region", "us-east", "--config", "c.toml", "--data", "d", "--chaos"]
    )


async def test_lines_are_handed_over_with_their_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(tmp_path, monkeypatch) as (_, lines):
        await lines.until(3)
    assert sorted(lines.said) == [("ap-south", "here"), ("eu-west", "here"), ("us-east", "here")]


async def test_the_first_to_die_is_named_with_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(tmp_path, monkeypatch, eu_west=DOOMED) as (made, lines):
        assert await made.until_one_dies() == ("eu-west", 7)
        await lines.until(3)
    assert ("eu-west", "last words") in lines.said


async def test_all_are_stopped_and_who_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STOP_SECONDS", 0.2)
    async with started(tmp_path, monkeypatch, us_east=STUBBORN) as (made, lines):
        await lines.until(3)
        assert await made.stop() == ["us-east"]


async def test_a_node_that_is_never_ready_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "START_SECONDS", 0.1)
    async with started(tmp_path, monkeypatch) as (made, _):
        with pytest.raises(Stop, match="us-east is not ready"):
            await made.until_ready()


def test_a_port_in_use_is_said_once_before_anything_is_started(tmp_path: Path) -> None:
    region = load(write_config(tmp_path)).regions[0]
    with socket.create_server(region.peer_listen), pytest.raises(Stop) as stopped:
        check_free(region)
    assert stopped.value.line == (
        f"region us-east: peer_listen {region.peer_listen}: Address already in use; is the cluster running already?"
    )
