"""Copies of a store: whole, somebody's, never over anything that is there."""

import errno
import json
from pathlib import Path

import lmdb
import pytest

from ledger.command import Command
from ledger.ids import Key
from node.cli.app import run
from node.config import NodeConfig, load
from node.region import Accepted, Region
from node.store.backup import back_up, restore
from node.store.directory import DATA_FILE
from node.store.errors import (
    DamagedStore,
    DirectoryInUse,
    DirectoryUnreadable,
    DiskFull,
    ForeignDirectory,
    StorageError,
)
from node.store.kv import Overlay
from node.store.lmdb_disk import LmdbDisk
from node.store.lmdb_file import identity
from node.verify import verify
from tests.regions import debit, grant
from tests.world import START_MS, TENANT

OURS = identity("one", "us-east")

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
def config(tmp_path: Path) -> NodeConfig:
    """A region that has accepted three operations and is stopped."""
    (tmp_path / "cluster.toml").write_text(CONFIG)
    config = load(tmp_path / "cluster.toml").node("us-east")
    accept(config, "b1", grant("L", 100), debit("c", 30), debit("d", 20))
    return config


def accept(config: NodeConfig, boot: str, *commands: Command) -> None:
    """One boot that accepts these, each in a commit of its own."""
    disk = LmdbDisk(config.region.data, cluster=config.cluster, region=config.region.name)
    region = Region(config.settings, Overlay(disk), boot, START_MS)
    for number, command in enumerate(commands):
        assert isinstance(region.submit(TENANT, command, Key(f"{boot}-{number}"), START_MS), Accepted)
        disk.commit_now(region.seal())
        region.landed()
    disk.close()


def entries_in(config: NodeConfig, directory: Path) -> int:
    found, _ = verify(config, directory)
    assert found.ok, found.findings
    return found.entries


def test_a_backup_is_one_file_that_holds_everything(config: NodeConfig, tmp_path: Path) -> None:
    target = tmp_path / "backups" / "monday"
    size = back_up(config.region.data, target, OURS)
    assert [each.name for each in target.iterdir()] == [DATA_FILE]
    assert (target / DATA_FILE).stat().st_size == size > 0
    assert (target / DATA_FILE).stat().st_mode & 0o777 == 0o600
    assert verify(config, target) == verify(config, config.region.data)
    assert entries_in(config, target) == 3


def test_a_restored_store_is_what_was_backed_up_and_goes_on(config: NodeConfig, tmp_path: Path) -> None:
    store = config.region.data
    back_up(store, tmp_path / "backup", OURS)
    accept(config, "b2", debit("e", 10))
    store.rename(tmp_path / "moved away")
    restore(tmp_path / "backup", store, OURS)
    assert entries_in(config, store) == 3
    accept(config, "b3", debit("e", 10))
    assert entries_in(config, store) == 4


def test_a_backup_that_is_cut_short_leaves_nothing_that_looks_like_a_store(
    config: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        error = lmdb.DiskError("No space left on device")
        vars(error)["code"] = errno.ENOSPC
        raise error

    monkeypatch.setattr("node.store.backup._copy_snapshot", fails)
    with pytest.raises(DiskFull, match="backup: No space left on device; make room on that disk"):
        back_up(config.region.data, tmp_path / "backup", OURS)
    assert list((tmp_path / "backup").iterdir()) == []


def test_a_backup_goes_into_no_directory_that_holds_anything(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    with pytest.raises(StorageError, match="is not empty, it holds 'letter'"):
        back_up(config.region.data, tmp_path / "full", OURS)
    with pytest.raises(StorageError, match="is not empty"):
        back_up(config.region.data, config.region.data, OURS)
    with pytest.raises(StorageError, match="is a file"):
        back_up(config.region.data, tmp_path / "full" / "letter", OURS)
    assert (tmp_path / "full" / "letter").read_text() == "dear"


def test_a_directory_that_cannot_be_made_is_named(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnreadable, match="file/backup: "):
        back_up(config.region.data, tmp_path / "file" / "backup", OURS)


def test_only_a_store_of_this_region_is_backed_up_or_restored(config: NodeConfig, tmp_path: Path) -> None:
    store, theirs = config.region.data, identity("one", "eu-west")
    with pytest.raises(ForeignDirectory, match="of region 'us-east', not of 'eu-west'"):
        back_up(store, tmp_path / "backup", theirs)
    assert not (tmp_path / "backup").exists()
    back_up(store, tmp_path / "backup", OURS)
    with pytest.raises(ForeignDirectory, match="of region 'us-east', not of 'eu-west'"):
        restore(tmp_path / "backup", tmp_path / "eu-west", theirs)
    assert not (tmp_path / "eu-west").exists()


@pytest.mark.parametrize("work", [back_up, restore])
def test_where_there_is_no_store_there_is_nothing_to_copy(tmp_path: Path, work: object) -> None:
    assert callable(work)
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StorageError, match=r"holds no (store|backup); name "):
            work(place, tmp_path / "target", OURS)
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "target").exists()


def test_a_store_that_is_there_is_not_written_over(config: NodeConfig, tmp_path: Path) -> None:
    back_up(config.region.data, tmp_path / "backup", OURS)
    accept(config, "b2", debit("e", 10))
    with pytest.raises(DirectoryInUse, match="holds a store already; move it away first"):
        restore(tmp_path / "backup", config.region.data, OURS)
    assert entries_in(config, config.region.data) == 4


def test_nothing_is_restored_while_a_node_works_in_either_directory(config: NodeConfig, tmp_path: Path) -> None:
    back_up(config.region.data, tmp_path / "backup", OURS)
    disk = LmdbDisk(config.region.data, cluster="one", region="us-east")
    try:
        with pytest.raises(DirectoryInUse, match="in use by process"):
            restore(tmp_path / "backup", config.region.data, OURS)
        with pytest.raises(DirectoryInUse, match="in use by process"):
            restore(config.region.data, tmp_path / "copy", OURS)
        with pytest.raises(DirectoryInUse, match="in use by process"):
            verify(config, config.region.data)
    finally:
        disk.close()


def test_a_backup_that_was_cut_off_is_not_restored(config: NodeConfig, tmp_path: Path) -> None:
    back_up(config.region.data, tmp_path / "backup", OURS)
    with (tmp_path / "backup" / DATA_FILE).open("r+b") as file:
        file.truncate(3 * 4096)
    with pytest.raises(DamagedStore, match="backup: the data file is damaged"):
        restore(tmp_path / "backup", tmp_path / "store", OURS)
    assert not (tmp_path / "store").exists()


def test_verifying_changes_nothing_in_the_store(config: NodeConfig, tmp_path: Path) -> None:
    back_up(config.region.data, tmp_path / "backup", OURS)
    before = (tmp_path / "backup" / DATA_FILE).read_bytes()
    verify(config, tmp_path / "backup")
    assert (tmp_path / "backup" / DATA_FILE).read_bytes() == before


class TestCommands:
    def test_from_backup_to_restore(
        self, config: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run(["backup", "--region", "us-east", "monday"]) == 0
        assert capsys.readouterr().out.endswith(" bytes backed up into monday\n")
        config.region.data.rename(tmp_path / "old")
        assert run(["restore", "--region", "us-east", "monday", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["directory"] == str(config.region.data)
        assert run(["verify", "--region", "us-east"]) == 0
        assert "is sound" in capsys.readouterr().out
        assert run(["verify", "--region", "us-east", "monday", "-o", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["ok"], told["logs"], told["findings"]) == (True, {"us-east/b1": 3}, [])

    def test_what_is_refused_is_one_line(
        self, config: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run(["restore", "--region", "us-east", str(config.region.data)]) == 1
        assert run(["backup", "--region", "eu-west", "tuesday"]) == 1
        assert run(["verify", "--region", "eu-west"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["creditmesh"] * 3
        assert not (tmp_path / "tuesday").exists()

    def test_a_flipped_bit_is_found_and_is_exit_code_1(
        self, config: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        data = config.region.data / DATA_FILE
        content = data.read_bytes()
        assert b"b1-1" in content, "the idempotency key of an entry"
        data.write_bytes(content.replace(b"b1-1", b"b1-0"))
        assert run(["verify", "--region", "us-east"]) == 1
        assert "creditmesh: " in capsys.readouterr().err
