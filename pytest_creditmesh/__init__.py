"""The pytest plugin: ``creditmesh_cluster`` makes clusters of real nodes for a test.

    async def test_a_job_survives_the_loss_of_its_region(creditmesh_cluster):
        async with creditmesh_cluster("us-east", "eu-west") as cluster:
            await cluster.start()
            ...

pytest loads this in every project in which creditmesh is installed, so it imports nothing of creditmesh until a test
asks for the fixture. It is a package of its own for that reason alone. It depends on no plugin for asyncio: what the
fixture gives can be used in any coroutine, also in one that a test runs with ``asyncio.run``.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from creditmesh.testing import LocalCluster

REGIONS = ("us-east", "eu-west", "ap-south")
LAST_LINES = 40
"""Of each node's log that the report of a failed test shows."""

_roots = pytest.StashKey[list[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Settings for a whole project."""
    parser.addini("creditmesh_regions", "regions of a cluster for which a test names none", "args", list(REGIONS))
    parser.addini("creditmesh_settings", "TOML that is added to every cluster's configuration", "string", "")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers", "creditmesh(*regions, settings='', seed=0): what creditmesh_cluster() makes when it is not told."
    )


@pytest.fixture
def creditmesh_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> "Callable[..., LocalCluster]":
    """Makes clusters: ``creditmesh_cluster(*regions, settings="…", seed=…)``, to be used with ``async with``.

    What it is not told it takes from the marker ``creditmesh``, and then from the project's configuration. The
    clusters' files lie in ``tmp_path``; when the test fails, its report shows the end of every node's log.
    """
    from creditmesh.testing import LocalCluster

    marker = request.node.get_closest_marker("creditmesh")
    marked = () if marker is None else marker.args
    told: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
    told.setdefault("settings", request.config.getini("creditmesh_settings"))
    roots = request.node.stash.setdefault(_roots, [])

    def make(*regions: str, **options: Any) -> LocalCluster:
        root = tmp_path / f"cluster-{len(roots) + 1}"
        root.mkdir()
        roots.append(root)
        return LocalCluster(regions or marked or request.config.getini("creditmesh_regions"), root, **told | options)

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the nodes have said, where a test has failed."""
    report = yield
    if report.failed:
        for root in item.stash.get(_roots, []):
            for log in sorted(root.glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()
                report.sections.append((f"{log} (its end)", "\n".join(lines[-LAST_LINES:])))
    return report
