"""What a hostile peer could do once, told as stories: it fills what has no bound, and numbers until they do not fit."""

from collections.abc import Iterator

import pytest

from ledger.command import GrantCredit
from ledger.ids import ClaimId, LotId
from ledger.operation import Capture, Content, Debit, Grant, Hold, Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from replication.clock import MAX_SEQ, hlc_at
from replication.codec import Entries, Have, Hello
from replication.entry import GENESIS, VERSION, Entry, hash_of, seal
from tests.fuzz.forger import NOON
from tests.fuzz.siege import HONEST, SHARED, Siege

MOST = 2**53 - 1
PAGE = 100
MOST_LOGS = 150


def log(replica: str, contents: Iterator[Content]) -> list[bytes]:
    """A log of operations on the shared tenant, whose every entry records nothing."""
    sealed: list[bytes] = []
    prev = GENESIS
    for seq, content in enumerate(contents, 1):
        entry = Entry(
            VERSION, replica, seq, hlc_at(NOON) + 1000 + seq, {}, SHARED, None, None,
            content, {}, Outcome.APPLIED, None, None, prev,
        )  # fmt: skip
        sealed.append(seal(entry))
        prev = hash_of(sealed[-1])
    return sealed


@pytest.fixture
def siege() -> Siege:
    siege = Siege()
    for name in HONEST:
        siege.hear(name, Hello("test", "eu", "eu/b1", (1, 1), str(Rules()), {}, hlc_at(NOON)))
    return siege


@pytest.mark.parametrize(
    "contents",
    [
        (Grant(LotId(f"big{number}"), MOST, NOON, NOON + 10**9, 0) for number in range(2_100)),
        (Capture(ClaimId("c"), MOST, NOON, final=False) for _ in range(2_100)),
        (Debit(ClaimId(f"d{number}"), MOST, NOON) for number in range(2_100)),
        (Hold(ClaimId(f"h{number}"), MOST, NOON + 10**8, None) for number in range(2_100)),
    ],
    ids=["grants", "captures", "debits", "holds"],
)
def test_the_largest_amounts_over_and_over_add_up_to_nothing_that_does_not_fit(
    siege: Siege, contents: Iterator[Content]
) -> None:
    entries = log("eu/b1", contents)
    for start in range(0, len(entries), PAGE):
        siege.hear("us", Entries(entries[start : start + PAGE], {}, 0))
    for _ in range(3):
        siege.exchange()
        for name in HONEST:
            # So that everything becomes stable, and is written to the rows.
            siege.hear(name, Have({}, {"eu": hlc_at(siege.now)}, hlc_at(siege.now)))
    siege.check()
    assert siege.honest["ap"].region.clock["eu/b1"] == len(entries)


def test_more_logs_than_a_cluster_can_have_do_not_make_frames_that_nobody_reads(
    siege: Siege, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("codec", "delivery", "gossip"):
        monkeypatch.setattr(f"replication.{module}.MAX_REPLICAS", MOST_LOGS)
    firsts = [log(f"eu/x{number}", iter([Settle()]))[0] for number in range(MOST_LOGS + 100)]
    for start in range(0, len(firsts), PAGE):
        siege.hear("us", Entries(firsts[start : start + PAGE], {}, 0))
    siege.exchange(5)
    siege.check_bounds()
    assert len(siege.honest["us"].region.clock) == MOST_LOGS
    siege.ask("ap", SHARED, GrantCredit(5, NOON + 10**6, lot=LotId("late")))
    siege.exchange(40)
    assert siege.honest["us"].region.clock["ap/h1"] == siege.honest["ap"].region.clock["ap/h1"]


def test_a_peer_that_claims_to_hold_everything_does_not_stop_the_others(siege: Siege) -> None:
    everything = {node.region.replica: MAX_SEQ for node in siege.honest.values()}
    for _ in range(30):
        for name in HONEST:
            siege.hear(name, Have(everything, {region: hlc_at(siege.now) for region in ("ap", "eu", "us")}, 0))
        siege.exchange()
    siege.check()
