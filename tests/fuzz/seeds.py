"""What is right, for each target: where its fuzzing begins. What was found on the way lies in ``corpus/``."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgpack
import msgspec

from creditmesh import wire
from ledger.cells import KeyUse
from ledger.claim import Claim, ClaimState, ClaimView
from ledger.ids import ClaimId, JobId, Key, LotId, Position, TenantId
from ledger.lot import Lot
from ledger.operation import Capture, Compensation, Content, Difference, Grant, Hold, Renew, Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from replication.clock import encode_token, hlc_at
from replication.codec import CHECKSUM_BYTES, Bye, Entries, Frame, Have, Hello, Want, encode
from replication.entry import GENESIS, HASH_BYTES, VERSION, Entry, seal

CORPUS: Final = Path(__file__).parent / "corpus"
NOON: Final = 1_800_000_000_000

_CLOCK: Final = {"us-east/b1": 7, "eu-west/b2": 2**40}
_PLACE: Final = Position(hlc_at(NOON), "us", "b1", 4)
_HOLD: Final = Hold(ClaimId("c1"), 60, NOON + 1000, JobId("job"))
_VIEW: Final = ClaimView(ClaimState.OPEN, 60, 50, 10, NOON, ((LotId("l1"), 40), (LotId("l2"), 10)), 10)
_CLAIM: Final = Claim(
    ClaimId("c1"),
    ClaimState.OPEN,
    60,
    _PLACE,
    NOON,
    ((LotId("l1"), 40),),
    10,
    ((LotId("l1"), 10),),
    0,
    _PLACE,
    JobId("job"),
)


def seeds_of(target: str) -> list[bytes]:
    """What is right, and what was found before."""
    found = sorted((CORPUS / target).glob("*")) if (CORPUS / target).exists() else []
    return [*_SEEDS[target](), *(path.read_bytes() for path in found)]


def an_entry(content: Content = _HOLD, seq: int = 1) -> Entry:
    """An entry with something in every field."""
    return Entry(
        VERSION, "us-east/b1", seq, hlc_at(NOON), {"eu-west/b2": 7}, TenantId("acme"), Key("k-1"), "0123456789abcdef",
        content, {"lot/l1": -40, "debt": -20, "held/c1": 60}, Outcome.APPLIED, _VIEW, None, GENESIS,
    )  # fmt: skip


def _frames() -> Iterator[bytes]:
    frames: tuple[Frame, ...] = (
        Hello("c", "us-east", "us-east/b1", (1, 1), str(Rules()), _CLOCK, hlc_at(NOON)),
        Have(_CLOCK, {"us-east": hlc_at(NOON), "eu-west": 1}, hlc_at(NOON)),
        Want(3, {"us-east/b1": (0, 7), "eu-west/b2": (4, 5)}),
        Entries([seal(an_entry()), seal(an_entry(seq=2))], _CLOCK, 3),
        Bye("stopping", "for a while"),
    )
    yield from (encode(frame)[:-CHECKSUM_BYTES] for frame in frames)
    yield msgpack.packb([1, "bye", "stopping", "", {"later": 1, "more": b"x", "none": None, "yes": True}])


def _entries() -> Iterator[bytes]:
    contents: tuple[Content, ...] = (
        _HOLD,
        Grant(LotId("l1"), 100, NOON, NOON + 1000, -1),
        Renew(ClaimId("c1"), NOON),
        Capture(ClaimId("c1"), 5, NOON, final=True),
        Settle(),
        Compensation((Difference("us-east/b1", 4, {"lot/l1": 5, "debt": -5}), Difference("us-east/b0", 1, {}))),
    )
    yield from (seal(an_entry(content))[:-HASH_BYTES] for content in contents)


def _rows() -> Iterator[bytes]:
    postings = {"lot/l1": -40, "held/c1": 40}
    rows: tuple[object, ...] = (
        [tuple(_PLACE), ["-100", "10", "-20", "0", "0", "0"], 7],
        Lot(LotId("l1"), 100, 40, NOON, NOON + 1, 0, _PLACE),
        _CLAIM,
        KeyUse("us/b1", 4, "0123456789abcdef", NOON),
        [[*_PLACE, 1], [*_PLACE, 2]],
        [postings, "applied", [[tuple(_PLACE), postings]], [tuple(_PLACE)], 1, ["l1"], False],
        tuple(_PLACE),
        hlc_at(NOON),
        [7, [["us/b1", 4, GENESIS, hlc_at(NOON), {"eu/b2": 7}]]],
    )
    yield from (bytes([number]) + msgspec.msgpack.encode(row) for number, row in enumerate(rows))


def _bodies() -> Iterator[bytes]:
    requests: tuple[wire.Request, ...] = (
        wire.ReserveRequest(amount=60, lease_ms=1000, reservation="job:42", job="train"),
        wire.RenewRequest(lease_ms=5),
        wire.CaptureRequest(amount=5, at=NOON, final=True),
        wire.ReleaseRequest(),
        wire.DebitRequest(amount=5, at=NOON, debit="d", on_shortage=wire.OnShortage.DEBT),
        wire.RefundRequest(claim="d", amount=1, at=NOON),
        wire.GrantRequest(amount=100, expires_at=NOON + 1000, starts_at=NOON, priority=-3, lot="l1"),
        wire.RevokeRequest(),
    )
    for number, request in enumerate(requests):
        yield bytes([number << 1]) + msgspec.json.encode(request)
        yield bytes([number << 1 | 1]) + msgspec.msgpack.encode(request)


def _snapshots() -> Iterator[bytes]:
    running, finished = wire.JobState.RUNNING, wire.JobState.FINISHED
    jobs = [
        wire.ScheduledJob(tenant="acme", job="train", state=running, started_at=5, gpu_type="h100", gpus=8),
        wire.ScheduledJob(tenant="b:1", job="\u00e4 \0", state=finished, started_at=5, ended_at=9, reservation="r"),
    ]
    for request in (wire.JobsRequest(source="slurm", jobs=jobs, at=NOON), wire.JobsRequest(source="s", jobs=[])):
        yield b"\0" + msgspec.json.encode(request)
        yield b"\1" + msgspec.msgpack.encode(request)


def _texts() -> Iterator[bytes]:
    yield from (
        b'key-1\n"quoted \\" key"',
        b"application/json; charset=utf-8\napplication/msgpack;q=0.5, */*;q=0.1",
        encode_token(_CLOCK).encode(),
        b"117964800000000000:us-east/b1:4\nus-east.b1.4.overspend",
        b"/v1/tenants/a%3Ab/lots/l1\n/v1/conflicts/us-east.b1.4.lease\n//",
        b"tenant=acme&kind=overspend&state=repaid&region=eu&from=5&limit=10&after=x\ndigest=true",
    )


def _config() -> Iterator[bytes]:
    yield (Path(__file__).parents[2] / "cluster.toml").read_bytes()
    yield b'[cluster]\nid="c"\n[[region]]\nname="a"\nlisten="[::1]:1"\npeer_listen="localhost:2"\ndata="/x"\n'


def _peers() -> Iterator[bytes]:
    yield from (Random(number).randbytes(200) for number in range(8))


_SEEDS: Final = {
    "frames": _frames,
    "entries": _entries,
    "rows": _rows,
    "bodies": _bodies,
    "snapshots": _snapshots,
    "texts": _texts,
    "config": _config,
    "peers": _peers,
}
