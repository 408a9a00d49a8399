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
from ledger.job import Job
from ledger.lot import Lot
from ledger.operation import (
    Acknowledge,
    Admission,
    Capture,
    Compensation,
    Content,
    Difference,
    Grant,
    Heartbeat,
    Hold,
    Move,
    OnOverspend,
    Policy,
    Renew,
    Settle,
    Transfer,
    Usage,
)
from ledger.posting import Outcome
from ledger.rules import Rules
from replication.clock import encode_token, hlc_at
from replication.codec import CHECKSUM_BYTES, Ask, Bye, Entries, Frame, Have, Hello, Want, encode
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
    return [*right(target), *(path.read_bytes() for path in found)]


def right(target: str) -> list[bytes]:
    """What is right."""
    return list(_SEEDS[target]())


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
        Ask("acme", 60),
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
        Grant(LotId("l1"), 100, NOON, NOON + 1000, 0, (("eu-west", 40), ("us-east", 60))),
        Move(LotId("l1@us-east"), "eu-west", 10),
        Policy(OnOverspend.REVOKE, Admission.OPTIMISTIC, 1000, 0),
        Policy(admission=Admission.ESCROW),
        Heartbeat(JobId("job"), ClaimId("c1"), NOON, NOON + 1000, started=True),
        Usage(JobId("job"), None, NOON - 1000, NOON, 60, final=True),
        Compensation((Difference("us-east/b1", 4, {"lot/l1": 5, "debt": -5}), Difference("us-east/b0", 1, {}))),
    )
    yield from (seal(an_entry(content))[:-HASH_BYTES] for content in contents)
    transfer = Transfer("~" + "0a" * 12, TenantId("umbra"), 60, NOON, NOON + 1000, 0)
    received = {"issued": -60, f"lot/{transfer.name}": 60}
    given = msgspec.structs.replace(an_entry(transfer), received=received)
    said = Acknowledge("us-east/b1", 4, "overspend", "ann", "seen, and paid", again=False)
    acknowledged = msgspec.structs.replace(an_entry(said), postings={}, outcome=Outcome.POSTED)
    yield from (seal(entry)[:-HASH_BYTES] for entry in (given, acknowledged))


def _rows() -> Iterator[bytes]:
    postings = {"lot/l1": -40, "held/c1": 40}
    rows: tuple[object, ...] = (
        [tuple(_PLACE), ["-100", "10", "-20", "0", "0", "0"], 7],
        Lot(LotId("l1"), 100, 40, NOON, NOON + 1, 0, _PLACE),
        _CLAIM,
        KeyUse("us/b1", 4, "0123456789abcdef", NOON),
        [[*_PLACE, 1], [*_PLACE, 2]],
        [postings, "applied", "c1", 20, [[tuple(_PLACE), postings]], [tuple(_PLACE)], 1, ["l1"], False,
         [[tuple(_PLACE), "overspend", "ann", "seen", "k-1"]]],
        tuple(_PLACE),
        hlc_at(NOON),
        [7, [["us/b1", 4, GENESIS, hlc_at(NOON), {"eu/b2": 7}]]],
        Job(JobId("job"), ClaimId("c1"), NOON, NOON + 5, None, ((NOON, NOON + 2), (NOON + 3, NOON + 5)), 7, 3),
        Policy(OnOverspend.REVOKE, max_held=100),
        str(Rules()),
        {"us/b1": 4},
        [["us/b1", 4, {"eu/b2": 7}, [seal(an_entry())]]],
    )  # fmt: skip
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
        wire.TransferRequest(to="umbra", amount=5, expires_at=NOON),
        wire.PolicyRequest(on_overspend=wire.OnOverspend.REVOKE, max_held=100, debt_limit=0),
        wire.QuoteRequest(estimate=wire.Estimate(gpu_type="A100", gpus=8, seconds=3600, priority="spot")),
        wire.AcknowledgeRequest(by="ann", note="seen, and paid"),
        wire.ApplyRequest(finding="running_unreserved.01176dcfd904d6ac4933d769"),
        wire.LinkRequest(peer="eu-west", state=wire.LinkState.CUT),
        wire.ClockRequest(offset_ms=-5, frozen=True),
    )
    split = wire.GrantRequest(amount=100, expires_at=NOON, weights={"us-east": 2, "eu-west": 1})
    for number, request in (*enumerate(requests), (6, split)):
        yield bytes([number << 1]) + msgspec.json.encode(request)
        yield bytes([number << 1 | 1]) + msgspec.msgpack.encode(request)


def _many() -> Iterator[bytes]:
    """Events, operations, and the data of a CloudEvent whose attributes are elsewhere."""
    own = [
        wire.JobStarted(id="e-1", tenant="acme", job="train", at=NOON, lease_ms=1000),
        wire.Heartbeat(id="e-2", tenant="acme", job="train", reservation="r"),
        wire.Interval(id="e-3", tenant="acme", job="train", start=5, end=9, amount=60),
        wire.JobFinished(id="\u00e4 \0", tenant="acme", job="train", end=9, gpu_type="A100", gpus=8, priority="spot"),
    ]
    told = wire.CloudEvent(
        specversion="1.0", id="e-5", source="/slurm", kind="org.usage", subject="acme", time="2027-01-15T08:00:00Z",
        data={"job": "train", "start": 5, "amount": 60},
    )  # fmt: skip
    kinds = wire.BatchKind
    operations = [
        wire.BatchOperation(tenant="acme", key="k-1", operation=kinds.RESERVE, body={"amount": 60, "lease_ms": 1000}),
        wire.BatchOperation(tenant="acme", key="k-2", operation=kinds.RENEW, id="c1", body={"lease_ms": 5}),
        wire.BatchOperation(tenant="acme", key="k-3", operation=kinds.POLICY),
    ]
    for mode, body in ((0, own), (0, own[0]), (0, [told]), (2, {"operations": operations}), (4, {"job": "train"})):
        yield bytes([mode]) + msgspec.json.encode(body)
        yield bytes([mode | 1]) + msgspec.msgpack.encode(body)


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
        b"5:1:117964800000000000:us-east/b1:4\nus-east/b1:7\nfrom=0&to=5&format=csv\nat=5\nwindow_ms=1000",
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
    "many": _many,
    "snapshots": _snapshots,
    "texts": _texts,
    "config": _config,
    "peers": _peers,
}
