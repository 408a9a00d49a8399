"""A conflict to draw: us-east accepted a hold while it was cut off from eu-west and ap-south."""

from creditmesh import wire

T = 1_926_936_000_000  # 2031-01-23 12:00 UTC
EAST, WEST, SOUTH = "us-east/b1", "eu-west/b1", "ap-south/b1"

LOSER = wire.Contender(
    replica=EAST,
    seq=655,
    region="us-east",
    hlc=(T + 7_955, 2),
    clock={EAST: 655, WEST: 790, SOUTH: 400},
    kind="hold",
    key="demo:job-7:hold",
    claim="c7",
    job="train-7",
    amount=600,
    outcome="applied",
)
RIVALS = [
    wire.Contender(
        replica=WEST,
        seq=812,
        region="eu-west",
        hlc=(T + 7_412, 0),
        clock={EAST: 601, WEST: 812, SOUTH: 400},
        kind="hold",
        key="demo:job-5:hold",
        claim="c5",
        job=None,
        amount=480,
        outcome="applied",
    ),
    wire.Contender(
        replica=SOUTH,
        seq=3,
        region="ap-south",
        hlc=(T + 7_600, 1),
        clock={SOUTH: 3},
        kind="release",
        key=None,
        claim="c3",
        job=None,
        amount=None,
        outcome="applied",
    ),
]
OVERSPEND = wire.Conflict(
    id="us-east.b1.655.overspend",
    kind=wire.ConflictKind.OVERSPEND,
    state=wire.ConflictState.COMPENSATED,
    tenant="acme",
    loser=LOSER,
    canonical_outcome="applied",
    rivals=RIVALS[:1],
    rival_count=1,
    lots=[wire.LotDifference(lot="l1", recorded=-600, canonical=-120)],
    amount=480,
    debt=480,
    compensations=[
        wire.CompensatingEntry(replica=EAST, seq=702, hlc=(T + 21_030, 0), postings={"lot/l1": 480, "debt": -480})
    ],
    detected_at=T + 21_030,
    acknowledged=[],
)
