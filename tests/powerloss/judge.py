"""Is a store that comes up after a power loss worth what it said before?

It opens; it holds exactly what it held after one of its batches, so nothing is half-done; that batch is not before the
last one that was acknowledged; the region starts from it, above whatever it had promised; its audit finds nothing; it
takes the next write; and the pages of the file, free ones included, hang together.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import cast

from lmdb.verify import VerifyError
from lmdb.verify import verify as _verify

from ledger.command import GrantCredit
from ledger.ids import Key
from ledger.refusal import Limits, Terms
from node.audit import AuditResult, audit
from node.region import Accepted, Region
from node.settings import RegionSettings
from node.store.directory import DATA_FILE
from node.store.errors import StorageError
from node.store.kv import Overlay, Table
from node.store.lmdb_disk import LmdbDisk
from tests.powerloss.load import (
    CLUSTER,
    HERE,
    HOUR_MS,
    PEER,
    SMALL_MAP_BYTES,
    TENANTS,
    Acknowledged,
    History,
    Issued,
    Promised,
    Recorded,
    fingerprint,
)
from tests.powerloss.states import State
from tests.world import START_MS

verify = cast(Callable[[Path], list[str]], _verify)  # untyped in py-lmdb
_LATER_MS = START_MS + HOUR_MS
_EVERYTHING = 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one state: what is wrong with it, and how many acknowledged batches are not there."""

    findings: tuple[str, ...]
    lost: int = 0
    kept: int = 0
    """The batch after which the store stands."""


def judge(state: State, recorded: Recorded, scratch: Path) -> Verdict:
    """Bring a store up from a state, in the directory `scratch`, which is made and removed."""
    rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    state.write(recorded.root, scratch)
    path = scratch / recorded.store.relative_to(recorded.root)
    try:
        verdict = _judge(path, state, recorded.history)
    except (StorageError, VerifyError, AssertionError) as error:
        return Verdict((f"{type(error).__name__}: {error}",))
    rmtree(scratch)
    return verdict


def _judge(path: Path, state: State, history: History) -> Verdict:
    acknowledged = _last(state, Acknowledged, "batch")
    with closing(open_store(path)) as disk:
        found = fingerprint({table: disk.scan(table, b"", None, _EVERYTHING) for table in Table})
        issued = _last(state, Issued, "batch")
        kept = next((n for n in range(issued, -1, -1) if history.after[n] == found), None)
        if kept is None:
            return Verdict((f"the store holds what it held after none of its {issued} batches",))
        findings = [*_wrong_with_region(disk, _last(state, Promised, "hlc"))]
    findings += verify(path / DATA_FILE)
    if kept < acknowledged:
        findings.append(f"batches {kept + 1} to {acknowledged} were acknowledged and are lost")
    return Verdict(tuple(findings), max(0, acknowledged - kept), kept)


def open_store(path: Path) -> LmdbDisk:
    """The store as its node opens it."""
    return LmdbDisk(path, cluster=CLUSTER, region=HERE, map_bytes=SMALL_MAP_BYTES)


def _last(state: State, kind: type, field: str) -> int:
    return max((getattr(said, field) for said in state.said if isinstance(said, kind)), default=0)


def _wrong_with_region(disk: LmdbDisk, promised: int) -> list[str]:
    settings = RegionSettings(
        cluster=CLUSTER, region=HERE, regions=(HERE, PEER), terms=Terms(Limits(10**9, 60_000)), checkpoint_after_ms=0
    )
    region = Region(settings, Overlay(disk), "after", START_MS)
    result = AuditResult()
    for _ in audit(region, START_MS, result):
        pass
    findings = list(result.findings)
    accepted = region.submit(TENANTS[0], GrantCredit(1, _LATER_MS), Key("after"), START_MS)
    if not isinstance(accepted, Accepted):
        return [*findings, f"the next write is refused: {accepted}"]
    if accepted.filed.position.hlc <= promised:
        findings.append("an entry is stamped at or before a promise")
    disk.commit_now(region.seal())
    region.landed()
    if region.journal.sealed(region.replica, 1) is None:
        findings.append("the next write is not there")
    return findings
