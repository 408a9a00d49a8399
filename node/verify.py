"""Is a directory sound? The audit of `node.audit` over a store that no node works in: a backup, or a node's own.

The store is read as at a node's start, and nothing is written into it. One that a node could not start from is refused
with the reason that the node would give.
"""

from pathlib import Path

from node.audit import AuditResult, audit
from node.clock import machine_ms
from node.config import NodeConfig
from node.region import Region
from node.store.directory import DATA_FILE
from node.store.errors import StorageError
from node.store.kv import Overlay
from node.store.lmdb_file import identity
from node.store.lmdb_reader import LmdbReader, unused

_BOOT = "0"
"""Of a boot that writes nothing."""


def verify(config: NodeConfig, directory: Path) -> tuple[AuditResult, str]:
    """What the audit of a region's store in `directory` finds, and the digest of its state. Raises StorageError."""
    if not (directory / DATA_FILE).is_file():
        raise StorageError(f"{directory}: holds no store; name a backup, or the directory of a node that is stopped")
    with unused(directory), LmdbReader(directory, identity(config.cluster, config.region.name)) as disk:
        now = machine_ms()
        region = Region(config.settings, Overlay(disk), _BOOT, now)
        result = AuditResult()
        for _ in audit(region, now, result):
            pass
        return result, region.books.digest()
