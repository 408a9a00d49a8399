"""Whose directory it is: what a store takes for its own, and that it leaves alone what is not."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from node.store.errors import DamagedStore, DirectoryInUse, DirectoryUnreadable, ForeignDirectory
from node.store.kv import Table
from node.store.lmdb_disk import LmdbDisk


def store(path: Path, cluster: str = "c1", region: str = "eu-west") -> LmdbDisk:
    return LmdbDisk(path, cluster=cluster, region=region)


def everything_in(path: Path) -> dict[str, tuple[bytes, int]]:
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.iterdir()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_missing_directory_is_made_with_its_parents_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "creditmesh" / "eu-west"
    store(path).close()
    assert (path / "data.mdb").exists()
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_an_empty_directory_is_taken(path: Path) -> None:
    path.mkdir()
    store(path).close()


HOLDS_A_STORE = """
import sys
from pathlib import Path
from node.store.lmdb_disk import LmdbDisk
disk = LmdbDisk(Path(sys.argv[1]), cluster="c1", region="eu-west")
print("open", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_work_in_one_directory(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_STORE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DirectoryInUse, match=rf"in use by process {process.pid};"):
            store(path)
        process.kill()
    store(path).close()  # the right to the directory ended with the process, its lock file notwithstanding


def test_two_stores_of_one_process_cannot_work_in_one_directory(path: Path) -> None:
    with closing(store(path)), pytest.raises(DirectoryInUse, match=rf"in use by process {os.getpid()};"):
        store(path)
    store(path).close()


def test_a_directory_with_other_files_is_left_as_it_is(path: Path) -> None:
    path.mkdir()
    (path / "CURRENT").write_text("MANIFEST-000001\n")
    (path / "LOCK").write_text("")  # as other stores have it
    before = everything_in(path)
    with pytest.raises(ForeignDirectory, match=r"holds 'CURRENT' and no store; name an empty or a new directory"):
        store(path)
    assert everything_in(path) == before


@pytest.mark.parametrize("table", [b"their table", Table.META.encode()])
def test_the_lmdb_file_of_another_program_is_left_as_it_is(path: Path, table: bytes) -> None:
    with lmdb.open(str(path), max_dbs=1) as env, env.begin(write=True) as txn:
        txn.put(b"k", b"v", db=env.open_db(table, txn=txn))
    before = everything_in(path)
    with pytest.raises(ForeignDirectory, match="another program's LMDB file"):
        store(path)
    assert everything_in(path) == before


def test_an_lmdb_file_whose_keys_only_look_like_our_tables_is_left_as_it_is(path: Path) -> None:
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        txn.put(Table.META.encode(), b"v")
    before = everything_in(path)
    with pytest.raises(ForeignDirectory, match="another program's LMDB file"):
        store(path)
    assert everything_in(path) == before


def test_the_store_of_another_cluster_or_region_is_refused_with_both_names(path: Path) -> None:
    store(path).close()
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(ForeignDirectory, match=r"store of cluster 'c1', not of 'c2'"):
        store(path, cluster="c2")
    with pytest.raises(ForeignDirectory, match=r"store of region 'eu-west', not of 'us-east'"):
        store(path, region="us-east")
    assert (path / "data.mdb").read_bytes() == before
    store(path).close()


def test_a_store_in_another_format_is_refused_with_both_formats(path: Path) -> None:
    with closing(store(path)) as disk:
        disk.commit_now([(Table.META, b"store/format", b"1")])
    with pytest.raises(
        ForeignDirectory, match=r"store of format '1', this program has format '2'; start with an empty"
    ):
        store(path)


@pytest.mark.parametrize("what", ["cluster", "region"])
def test_a_store_that_no_longer_says_whose_it_is_is_damaged_and_not_somebody_elses(path: Path, what: str) -> None:
    with closing(store(path)) as disk:
        key = f"store/{what}".encode()
        name = disk.get(Table.META, key)
        assert name is not None
        disk.commit_now([(Table.META, key, bytes([name[0] ^ 1]) + name[1:])])
    with pytest.raises(DamagedStore, match=f"does not say which {what} it is of.*restore a backup"):
        store(path)


def test_a_copied_data_file_is_enough(path: Path, tmp_path: Path) -> None:
    with closing(store(path)) as disk:
        disk.commit_now([(Table.LOG, b"k", b"v")])
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "data.mdb").write_bytes((path / "data.mdb").read_bytes())
    with closing(store(copy)) as disk:
        assert disk.get(Table.LOG, b"k") == b"v"


@pytest.mark.parametrize("unfinished", [b"", b"\0" * 5000, b"half a page"])
def test_what_a_first_start_leaves_that_was_cut_short_is_taken(path: Path, unfinished: bytes) -> None:
    path.mkdir()
    (path / "LOCK").write_text("1234\n")
    (path / "data.mdb.new").write_bytes(unfinished)
    store(path).close()
    assert {each.name for each in path.iterdir()} == {"LOCK", "lock.mdb", "data.mdb"}


def test_an_empty_data_file_is_no_new_store_for_it_once_was_whole(path: Path) -> None:
    store(path).close()
    (path / "data.mdb").write_bytes(b"")
    with pytest.raises(DamagedStore, match=r"it is empty.*restore a backup"):
        store(path)
    assert (path / "data.mdb").read_bytes() == b""


def test_an_lmdb_file_without_tables_is_left_as_it_is(path: Path) -> None:
    lmdb.open(str(path)).close()
    before = everything_in(path)
    with pytest.raises(ForeignDirectory, match="another program's LMDB file"):
        store(path)
    assert everything_in(path) == before


def test_a_path_that_is_no_directory_is_told(path: Path) -> None:
    path.write_text("")
    with pytest.raises(DirectoryUnreadable, match="Not a directory; give this user"):
        store(path)
    with pytest.raises(DirectoryUnreadable, match="Not a directory; give this user"):
        store(path / "below")


OPENS_AS_NOBODY = """
import os, sys
from pathlib import Path
from node.store.errors import DirectoryUnreadable
from node.store.lmdb_disk import LmdbDisk
if os.geteuid() == 0:
    os.setuid(65534)
try:
    LmdbDisk(Path(sys.argv[1]), cluster="c1", region="eu-west")
except DirectoryUnreadable as error:
    print(error)
"""


def test_a_directory_without_permission_is_told(path: Path) -> None:
    path.mkdir()
    path.chmod(0)
    output = subprocess.run(
        [sys.executable, "-c", OPENS_AS_NOBODY, str(path)], capture_output=True, text=True, check=True
    ).stdout
    path.chmod(0o700)
    assert "Permission denied; give this user read and write permission" in output


def test_a_data_file_without_permission_is_told(path: Path) -> None:
    store(path).close()
    path.parent.chmod(0o755)
    path.chmod(0o755)
    (path / "data.mdb").chmod(0)
    (path / "LOCK").chmod(0o666)
    output = subprocess.run(
        [sys.executable, "-c", OPENS_AS_NOBODY, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert "Permission denied; give this user read and write permission" in output
