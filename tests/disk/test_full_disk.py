"""A disk with no room left: a real file system that is tiny, and a limit on how long files may get.

What becomes of a store then is checked by a process that lives with it; what becomes of a node: test_full_node.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

_LIVES_WITH_IT: Final = """
import subprocess, sys
from contextlib import closing
from itertools import count
from pathlib import Path
from node.store.errors import DiskFull
from node.store.kv import Table
from node.store.lmdb_disk import LmdbDisk

def store():
    return LmdbDisk(path, cluster="c1", region="eu-west", map_bytes=1 << 20)

def batch(number):
    return [(table, number.to_bytes(8, "big"), b"v" * 3000) for table in (Table.LOG, Table.KEYS, Table.LOTS)]

def numbers(disk):
    found = {table: [int.from_bytes(key, "big") for key, _ in disk.scan(table, b"", None, 10**6)] for table in Table}
    assert found[Table.LOG] == found[Table.KEYS] == found[Table.LOTS], "a batch is there by half"
    assert found[Table.LOG] == list(range(len(found[Table.LOG]))), "a batch is not there"
    return found[Table.LOG]

path, make_room = Path(sys.argv[1]), sys.argv[2:]
acknowledged = 0
for attempt in range(3):
    try:
        with closing(store()) as disk:
            assert len(numbers(disk)) in (acknowledged, acknowledged + 1), "what was acknowledged is not there"
            for number in count(len(numbers(disk))):
                disk.commit_now(batch(number))
                acknowledged = number + 1
    except DiskFull as error:
        print(acknowledged, error, sep="|")
    else:
        sys.exit("never full")
assert acknowledged > 50
subprocess.run(make_room, check=True)
with closing(store()) as disk:
    before = len(numbers(disk))
    assert before in (acknowledged, acknowledged + 1)
    for number in range(before, 2 * before):
        disk.commit_now(batch(number))
    assert len(numbers(disk)) == 2 * before
print("lived")
"""

_TINY: Final = "mount -t tmpfs -o size=2m none {disk} && exec {command} mount -o remount,size=40m none {disk}"
_LIMITED: Final = "ulimit -S -f 2000; exec {command} prlimit --fsize=unlimited --pid {pid}"


def private_mounts() -> list[str] | None:
    """A command that gives a process file systems of its own, without rights that this process lacks; None: no way."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


def lives_with(shell: list[str], script: str, root: Path) -> list[str]:
    """Run the process above in a shell that makes the disk small; what it said."""
    disk, program = root / "disk", root / "lives_with_it.py"
    disk.mkdir()
    program.write_text(_LIVES_WITH_IT)
    command = f"{sys.executable} {program} {disk / 'store'}"
    ended = subprocess.run(
        [*shell, "sh", "-c", script.format(disk=disk, command=command, pid="$$")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def check_what_it_said(lines: list[str]) -> None:
    """Three times full, three times told, and nothing lost."""
    *full, lived = lines
    assert lived == "lived"
    assert len(full) == 3
    assert all("make room on that disk and restart the node" in line for line in full)


def test_on_a_tiny_file_system_the_store_says_so_keeps_what_it_has_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    shell = private_mounts()
    if shell is None:
        pytest.skip("this machine lets nobody but root mount anything; the limit on files' lengths is tested instead")
    check_what_it_said(lives_with(shell, _TINY, tmp_path))


def test_under_a_limit_on_the_length_of_files_it_does_the_same(tmp_path: Path) -> None:
    check_what_it_said(lives_with([], _LIMITED, tmp_path))
