"""Nodes that the tests of the HTTP interface and of the commands talk to."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.pricing import HOUR_MS
from tests.regions import grant
from tests.unit.node.in_process import Browser, InProcessNode, browsing, config
from tests.unit.node.priced import Priced
from tests.unit.node.scripted import ONE_REGION, ScriptedNode


@pytest.fixture
async def east() -> AsyncIterator[Browser]:
    """The node of us-east, with a peer that it has not heard."""
    async with browsing(InProcessNode(config("us-east", ("eu-west",)))) as browser:
        yield browser


@pytest.fixture
async def west() -> AsyncIterator[Browser]:
    """The node of eu-west."""
    async with browsing(InProcessNode(config("eu-west", ("us-east",)))) as browser:
        yield browser


@pytest.fixture
def world() -> Priced:
    """One region, and for an hour by now a tenant with credit."""
    world = Priced("eu")
    world.do("eu", grant("L", 100_000, until=48 * HOUR_MS))
    world.pass_time(HOUR_MS)
    return world


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedNode]:
    """A node that is the only region of the ./cluster.toml of the working directory."""
    scripted = ScriptedNode()
    (tmp_path / "cluster.toml").write_text(ONE_REGION.format(port=scripted.port, peer_port=scripted.port + 1))
    monkeypatch.chdir(tmp_path)
    yield scripted
    scripted.close()
