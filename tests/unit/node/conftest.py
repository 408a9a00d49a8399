"""Nodes that the tests of the HTTP interface talk to."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.node.in_process import Browser, InProcessNode, browsing, config


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
