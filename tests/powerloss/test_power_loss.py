"""The power goes at any moment of a region's life: what was acknowledged is there, and nothing is half-done.

A recording of the real store under a real region is cut at every step, and of what was not synced by then any part is
lost. Larger campaigns: `python -m tests.powerloss --seeds 1:50`.
"""

import errno
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from node.store.errors import StorageError
from node.store.kv import Table
from tests.disk.tap import Call, Proceed, tapped
from tests.powerloss.campaign import Report, campaign
from tests.powerloss.judge import judge, open_store
from tests.powerloss.load import SMALL_MAP_BYTES, History, Recorded, run
from tests.powerloss.recording import Made, Platter, Recording, Step, Synced, Wrote
from tests.powerloss.states import State, states

STATES_EACH = 700


def finished(seed: int, batches: int, tries: int, **flags: bool) -> Report:
    *_, report = campaign(seed, batches, tries, **flags)
    return report


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_part_of_what_was_not_synced_is_lost_every_acknowledged_entry_is_there(seed: int) -> None:
    report = finished(seed, batches=50, tries=6)
    assert report.findings == []
    assert report.states >= STATES_EACH
    assert min(report.pending[kind] for kind in ("names", "lengths", "heads", "pages", "nothing")) > 0
    assert len(report.kept) > 30, "stores stand after many different batches"


def test_the_load_uses_every_table_grows_the_map_and_frees_pages(tmp_path: Path) -> None:
    recorded = run(tmp_path, seed=1, batches=100)
    rows = {step.path for step in recorded.steps if isinstance(step, Wrote)}
    assert {path.name for path in rows} == {"LOCK", "data.mdb", "data.mdb.new"}
    assert (recorded.store / "data.mdb").stat().st_size > SMALL_MAP_BYTES
    used = {table for table, there in recorded.history.tables.items() if there}
    assert used >= set(Table) - {
        Table.UNSETTLED,
        Table.ASIDE,
    }  # what is due, and what was damaged: the load leaves none
    offsets = [step.offset for step in recorded.steps if isinstance(step, Wrote) and step.path.name == "data.mdb"]
    assert sum(later < earlier for earlier, later in pairwise(offsets)) > 50


# The campaign can fail


def test_without_metasync_the_last_commit_and_no_earlier_one_can_be_lost() -> None:
    """LMDB then writes the page that makes a commit current and does not wait for it; the next commit's sync does.

    So what can be lost is the last acknowledged commit, whole, with whatever was promised on it; never a part of one,
    never two. (Without a single commit yet, it is the one that says whose store it is.)
    """
    report = finished(1, batches=50, tries=2, metasync=False)
    assert report.lost.keys() == {1}
    assert report.lost[1] > 20
    others = [finding for finding in report.findings if "acknowledged and are lost" not in finding]
    assert all("promise" in finding or "another program's" in finding for finding in others)


def test_without_sync_anything_can_be_lost_and_the_file_with_it() -> None:
    """In a process of its own: what LMDB makes of a file whose pages are a mixture may be the end of the process."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.powerloss", "--seeds=1:1", "--batches=20", "--tries=3", "--without=sync"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    if ended.returncode > 0:
        assert "acknowledged and are lost" in ended.stdout
        assert "the data file is damaged" in ended.stdout


def test_a_store_that_lacks_half_a_batch_is_found_out(tmp_path: Path) -> None:
    recorded = run(tmp_path / "a", seed=1, batches=10)
    *_, whole = states(recorded.steps, seed=1, tries=1)
    assert judge(whole, recorded, tmp_path / "b").findings == ()
    recorded.history.after[-1] = b"what a batch with one more row would have left"
    (finding,) = judge(whole, recorded, tmp_path / "b").findings
    assert "after none of its" in finding


# Beginnings


def test_a_first_start_that_is_cut_short_anywhere_can_be_made_again(tmp_path: Path) -> None:
    root = made(tmp_path / "recorded")
    recording = Recording()
    with recording.of(root):
        open_store(root / "var" / "us").close()
    recorded = Recorded(root, root / "var" / "us", recording.steps, History())
    seen = list(states(recording.steps, seed=1, tries=200))
    assert len(seen) > 100
    assert any(not state.image for state in seen), "not even the directory"
    for state in seen:
        verdict = judge(state, recorded, tmp_path / "scratch")
        assert verdict.findings == (), state.story


def test_the_power_may_go_again_while_the_store_comes_up(tmp_path: Path) -> None:
    recorded = run(tmp_path / "recorded", seed=4, batches=30)
    again = 0
    for first in list(states(recorded.steps, seed=4, tries=2))[::12]:
        up = made(tmp_path / f"up-{again}")
        first.write(recorded.root, up)
        path = up / recorded.store.relative_to(recorded.root)
        recording = Recording()
        before = settled(first, recorded.root, up)
        recording.steps += before
        with recording.of(up):
            open_store(path).close()
        for second in states(recording.steps, seed=4, tries=6):
            if second.steps > len(before):
                seen = replace(second, said=first.said)
                verdict = judge(seen, Recorded(up, path, recording.steps, recorded.history), tmp_path / "scratch")
                assert verdict.findings == (), (first.story, second.story)
                again += 1
    assert again > 100


def settled(state: State, source: Path, target: Path) -> list[Step]:
    """Steps that make a state certain below `target`, as it is when a machine starts again."""
    steps: list[Step] = []
    for path, contents in sorted(state.image.items()):
        there = target / path.relative_to(source)
        steps += [Made(there, contents is None), Synced(there.parent)]
        if contents is not None:
            steps += [Wrote(there, 0, contents), Synced(there)]
    return steps


def test_what_a_killed_process_wrote_and_nobody_synced_is_not_answered_from(tmp_path: Path) -> None:
    """A commit's last write is refused by the disk, yet stays in the kernel's cache; the process ends, the next one
    reads the commit there and answers from it; then the power goes."""
    root = made(tmp_path / "recorded")
    recording = Recording()
    disk_is = "good"

    def handle(call: Call, proceed: Proceed) -> int:
        nonlocal disk_is
        if disk_is == "good" or (disk_is == "failing" and not call.is_synced):
            return recording.handle(call, proceed)
        if disk_is == "failing":
            recording.add(Wrote(call.path, call.offset, call.data, is_refused=True))
            proceed()
            disk_is = "gone"
        raise OSError(errno.EIO, "the disk is gone")

    path = root / "us"
    with tapped(root, handle):
        with closing(open_store(path)) as disk:
            disk.commit_now([(Table.LOG, b"1", b"acknowledged")])
            disk_is = "failing"
            with pytest.raises(StorageError, match="Input/output error"):
                disk.commit_now([(Table.LOG, b"2", b"refused")])
        disk_is = "good"
        with closing(open_store(path)) as disk:
            shown = len(disk.scan(Table.LOG, b"", None, 99))
    assert shown == 2, "the commit that was refused is there for who looks"
    recording.note("answered")
    at_the_end = [state for state in states(recording.steps, seed=1, tries=10) if state.said]
    assert len(at_the_end) == 2, "the sector that was refused is there, or not"
    for number, state in enumerate(at_the_end):
        after = made(tmp_path / f"after-{number}")
        state.write(root, after)
        with closing(open_store(after / "us")) as disk:
            assert len(disk.scan(Table.LOG, b"", None, 99)) == shown


def made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_replayed_recording_comes_to_the_same_disk(tmp_path: Path) -> None:
    recorded = run(tmp_path, seed=5, batches=50)
    platter = Platter()
    for step in recorded.steps:
        platter.apply(step)
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    seen = platter.files()
    assert seen.keys() == there.keys()
    assert [path.name for path in there if seen[path] != there[path]] in ([], ["lock.mdb"])
