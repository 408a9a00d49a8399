"""What a hostile peer says: well-formed frames whose contents the dice draw, entries with right hashes among them."""

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger.claim import ClaimState, ClaimView
from ledger.command import ReleaseHold, fingerprint
from ledger.ids import ClaimId, JobId, Key, LotId, TenantId
from ledger.lot import share_of
from ledger.operation import (
    Acknowledge,
    Admission,
    Capture,
    Compensation,
    Content,
    Debit,
    Difference,
    Expire,
    Grant,
    Heartbeat,
    Hold,
    Lapse,
    Move,
    OnOverspend,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Settle,
    Transfer,
    Usage,
)
from ledger.posting import Outcome
from ledger.rules import Rules
from replication.clock import MAX_HLC, MAX_SEQ, VectorClock, hlc_at
from replication.codec import Ask, Bye, Entries, Frame, Have, Hello, Want
from replication.entry import GENESIS, VERSION, Entry, Malformed, hash_of, open_sealed, seal
from tests.fuzz.dice import Dice

NOON: Final = 1_800_000_000_000
TENANTS: Final = ("acme", "eus", "acme", "zzz")
AMOUNTS: Final = (1, 7, 60, 1000, 2**31, 2**53 - 1)
SUMS: Final = (1, 60, 2**53, 2**60 - 1, 2**60)
NUMBERS: Final = (0, 1, 2, 60, -1, 2**53, 2**60, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
TIMES: Final = (0, 1, NOON - 5, NOON + 200, NOON + 10**7, 2**48 - 1)
SEQS: Final = (1, 2, 3, 40, 5000, 2**53 - 1)
REGIONS: Final = ("eu", "us", "ap", "zz")
SPLITS: Final = ((("us", 1),), (("ap", 2), ("eu", 1), ("us", 3)), (("eu", 5), ("zz", 1)))
"""How a grant is split into shares."""

REPORTS: Final = ("overspend", "duplicate", "revoked", "lease", "overlap", "none_such")
MADE: Final = tuple(f"~{number:024x}" for number in range(3))
JOBS: Final = (JobId("job"), JobId("other"))


class Forger:
    """The logs that eu makes up, and what it has seen of others."""

    def __init__(self, dice: Dice, known: Iterable[str]) -> None:
        self._dice = dice
        self._heads: dict[str, tuple[int, bytes, int]] = {}
        self._logs = ["eu/b1", "eu/b2", "zz/b1", "us/old", "ap/old", *sorted(known)]
        self._made: list[bytes] = []
        self._own_view: list[bytes] = []
        self._number = 0

    def learn(self, frames: Iterable[Frame]) -> None:
        """Note what the honest said: their entries can be sent back, and their logs gone on with."""
        for frame in frames:
            match frame:
                case Want(number, _):
                    self._number = number
                case Entries(page, _, _):
                    for sealed in page:
                        entry, digest = open_sealed(sealed)
                        self._heads[entry.replica] = entry.seq, digest, entry.hlc
                        self._made.append(sealed)

    def hello(self) -> Hello:
        """As eu would say it."""
        return Hello("test", "eu", "eu/b1", (1, 1), str(Rules()), {}, hlc_at(NOON))

    def frame(self, now: int) -> Frame:
        """Anything."""
        dice = self._dice
        match dice.below(13):
            case 0:
                return self._have(now)
            case 1:
                return Want(dice.pick(SEQS), self._ranges())
            case 2 if dice.rarely():
                return Bye("stopping", "x" * dice.below(255))
            case 2 if dice.rarely():
                return msgspec.structs.replace(self.hello(), clock=self._clock(), hlc=self._hlc(now))
            case 2:
                return self.hello()
            case 12 if dice.rarely():
                return self._wrong_hello()
            case 12:
                return Ask(dice.pick((*TENANTS, "spared")), dice.pick(AMOUNTS))
            case _:
                return Entries(self._page(now), self._clock(), dice.pick((0, self._number, self._number, 7)))

    def _wrong_hello(self) -> Hello:
        """One that no node listens to."""
        wrongs: tuple[tuple[str, object], ...] = (
            ("rules", "1"), ("cluster", "other"), ("versions", (2, 9)), ("region", "zz"), ("replica", "us/h1"),
        )  # fmt: skip
        field, value = self._dice.pick(wrongs)
        return msgspec.structs.replace(self.hello(), **{field: value})

    # -- clocks -----------------------------------------------------------------------------------------------------

    def _log(self) -> str:
        if self._dice.rarely():
            self._logs.append(f"{self._dice.pick(('eu', 'us', 'ap'))}/x{len(self._logs)}")
        return self._dice.pick(self._logs)

    def _clock(self) -> VectorClock:
        dice = self._dice
        if dice.rarely():
            return {f"eu/m{dice.below(2**24):x}n{number}": MAX_SEQ for number in range(dice.pick((1, 100, 4096)))}
        clock = {log: seq for log, (seq, _, _) in self._heads.items()}
        for _ in range(dice.below(3)):
            clock[self._log()] = dice.pick(SEQS)
        return clock

    def _hlc(self, now: int) -> int:
        dice = self._dice
        choices = (hlc_at(now), hlc_at(now - 50), hlc_at(now + 9_999), 0, hlc_at(now + 10**6), MAX_HLC, hlc_at(NOON))
        return min(MAX_HLC, dice.pick(choices) + dice.below(200)) if dice.below(2) else hlc_at(now)

    def _have(self, now: int) -> Have:
        dice = self._dice
        promises = {dice.pick(("eu", "us", "ap", "zz")): self._hlc(now) for _ in range(dice.below(4))}
        return Have(self._clock(), promises, self._hlc(now))

    def _ranges(self) -> dict[str, tuple[int, int]]:
        dice = self._dice
        ranges = {}
        for _ in range(1 + dice.below(4)):
            after = dice.pick((0, 1, 3, MAX_SEQ - 1))
            ranges[self._log()] = after, dice.pick((after + 1, MAX_SEQ))
        return ranges

    # -- entries ----------------------------------------------------------------------------------------------------

    def _page(self, now: int) -> list[bytes]:
        dice = self._dice
        page = []
        for _ in range(1 + dice.below(5)):
            if self._made and dice.rarely():
                page.append(dice.pick(self._made))
                continue
            sealed = self._entry(now)
            if sealed is not None:
                page.append(sealed)
                self._made.append(sealed)
        return page

    def _entry(self, now: int) -> bytes | None:
        """The next entry of some log, or one that is not quite that; None where even its form would be wrong."""
        dice = self._dice
        log = self._log() if dice.below(2) else "eu/b1"
        seq, prev, last = self._heads.get(log, (0, GENESIS, 0))
        seq, hlc = seq + 1, max(self._hlc(now), last + 1 if dice.below(8) else 0)
        delta: VectorClock = {}
        if dice.rarely():
            seq = dice.pick((seq + 1, max(1, seq - 1), seq + 30, MAX_SEQ))
        if dice.rarely():
            prev = bytes(31) + bytes([dice.byte()])
        if dice.rarely():
            delta = {log: count for log, count in self._clock().items() if count <= MAX_SEQ}
        content = self._content()
        claim = getattr(content, "claim", None)
        key = None if dice.below(3) == 0 else Key(f"k{dice.below(8)}")
        entry = Entry(
            VERSION, log, seq, min(hlc, MAX_HLC), delta, TenantId(dice.pick(TENANTS)), key,
            self._request() if key is not None or dice.rarely() else None,
            content, self._postings(claim), dice.pick(tuple(Outcome)), self._result(),
            self._postings(None) if isinstance(content, Transfer) else None, prev,
        )  # fmt: skip
        if isinstance(content, Acknowledge):
            entry = msgspec.structs.replace(entry, postings={}, outcome=Outcome.POSTED)
        try:
            sealed = seal(entry)
            open_sealed(sealed)
        except (Malformed, OverflowError):
            return None
        if dice.below(8):
            self._heads[log] = seq, hash_of(sealed), min(hlc, MAX_HLC)
        return sealed

    def _request(self) -> str:
        return fingerprint(ReleaseHold(ClaimId(f"c{self._dice.below(4)}"))) if self._dice.below(2) else "0" * 16

    def _content(self) -> Content:
        dice = self._dice
        claim, lot = ClaimId(f"c{dice.below(4)}"), LotId(dice.pick(("l0", "l1", "l2", "l3", "l-us", "l-ap")))
        amount, at = dice.pick(AMOUNTS), dice.pick(TIMES)
        match dice.below(22):
            case 0 | 1:
                return Grant(lot, amount, dice.pick(TIMES), at, dice.pick((0, 1, -(2**31), 2**31 - 1)))
            case 2 | 3:
                return Hold(claim, amount, at, JobId("job") if dice.rarely() else None)
            case 4:
                return Renew(claim, at)
            case 5:
                return Capture(claim, amount, at, bool(dice.below(2)))
            case 6:
                return Release(claim)
            case 7:
                return Lapse(claim, at)
            case 8:
                return Debit(claim, amount, at)
            case 9:
                return Refund(claim, amount, at)
            case 10:
                return Revoke(lot)
            case 11:
                return Expire(lot)
            case 12:
                return Settle()
            case 13:
                count = 1 + dice.below(3)
                return Compensation(
                    tuple(Difference(self._log(), dice.pick(SEQS), self._postings(claim)) for _ in range(count))
                )
            case 14:
                return Policy(dice.pick(tuple(OnOverspend)), dice.pick(tuple(Admission)), *self._limits())
            case 15:
                shares = tuple((region, part * dice.pick((1, 60))) for region, part in dice.pick(SPLITS))
                return Grant(lot, sum(part for _, part in shares), dice.pick(TIMES), at, 0, shares)
            case 16:
                return Move(self._share(lot), dice.pick(REGIONS), amount)
            case 17:
                name, to = dice.pick(MADE), TenantId(dice.pick(TENANTS))
                return Transfer(name, to, amount, dice.pick(TIMES), at, dice.below(3))
            case 18:
                return Heartbeat(dice.pick(JOBS), self._reservation(claim), at, dice.pick(TIMES), bool(dice.below(2)))
            case 19 | 20:
                start = dice.pick(TIMES)
                return Usage(dice.pick(JOBS), self._reservation(claim), start, at, amount - 1, bool(dice.below(2)))
            case _:
                note = dice.pick((None, "seen"))
                return Acknowledge(
                    self._log(), dice.pick(SEQS), dice.pick(REPORTS), dice.pick(("ann", "bob b")), note, dice.rarely()
                )

    def _limits(self) -> tuple[int | None, int | None]:
        limits = (None, 0, 60, 2**53 - 1)
        return self._dice.pick(limits), self._dice.pick(limits)

    def _share(self, lot: LotId) -> LotId:
        """The lot, or a region's share of it."""
        return share_of(lot, self._dice.pick(REGIONS)) if self._dice.below(4) else lot

    def _reservation(self, claim: ClaimId) -> ClaimId | None:
        return claim if self._dice.below(2) else None

    def _postings(self, claim: ClaimId | None) -> dict[str, int]:
        """Postings that balance, of any size."""
        dice = self._dice
        accounts = ("lot/l1", "debt", "used", "issued", f"held/{claim or 'c1'}", "expired", "lot/", "lot/l-us")
        postings: dict[str, int] = {}
        for _ in range(dice.below(3)):
            source, target, amount = dice.pick(accounts), dice.pick(accounts), dice.pick(SUMS)
            if source not in postings and target not in postings and source != target:
                postings[source], postings[target] = -amount, amount
        return postings

    def _result(self) -> ClaimView | None:
        dice = self._dice
        if dice.below(3) == 0:
            return None
        amount, held, captured, until, debt = (dice.pick(NUMBERS) for _ in range(5))
        funding = tuple((LotId(dice.pick(("l1", "", "é"))), dice.pick(NUMBERS)) for _ in range(dice.below(3)))
        return ClaimView(dice.pick(tuple(ClaimState)), amount, held, captured, until, funding, debt)
