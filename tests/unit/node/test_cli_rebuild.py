"""``creditmesh rebuild``: a stopped node's store is marked, and nobody else's."""

from contextlib import closing
from pathlib import Path

import pytest

from node.alarms import AlarmKind
from node.cli.app import run
from node.config import NodeConfig, load
from node.rebuild import opened
from node.store.lmdb_disk import LmdbDisk
from tests.world import START_MS

CONFIG = """
[cluster]
id = "one"
[[region]]
name = "us-east"
listen = "127.0.0.1:7101"
peer_listen = "127.0.0.1:7201"
data = "us-east"
[[region]]
name = "eu-west"
listen = "127.0.0.1:7102"
peer_listen = "127.0.0.1:7202"
data = "eu-west"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cluster of which us-east has been started."""
    config = tmp_path / "cluster.toml"
    config.write_text(CONFIG)
    store(config).close()
    return config


def node(config: Path) -> NodeConfig:
    return load(config).node("us-east")


def store(config: Path) -> LmdbDisk:
    return LmdbDisk(node(config).region.data, cluster="one", region="us-east")


def alarms(config: Path) -> list[tuple[AlarmKind, str]]:
    """What the next start has to say."""
    with closing(store(config)) as disk:
        region = opened(disk, disk.commit_now, node(config).settings, "b1", START_MS)
        return [(alarm.kind, alarm.detail.partition(";")[0]) for alarm in region.alarms.all()]


def test_the_next_start_rebuilds_and_the_one_after_it_does_not(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rebuild", "--region", "us-east", "--config", str(path)]) == 0
    assert capsys.readouterr().out == "us-east: will be rebuilt when its node starts\n"
    assert alarms(path) == [(AlarmKind.REBUILT, "an operator asked for it")]
    assert alarms(path) == []


def test_a_store_at_work_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(store(path)):
        assert run(["rebuild", "--region", "us-east", "--config", str(path)]) == 1
    assert "in use by process" in capsys.readouterr().err
    assert alarms(path) == []


def test_no_store_is_made_where_there_is_none(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rebuild", "--region", "eu-west", "--config", str(path)]) == 1
    assert "holds no store" in capsys.readouterr().err
    assert not (path.parent / "eu-west").exists()
