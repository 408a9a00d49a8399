"""Safeguards of a node: of what is due by itself, of bounds, of what it tells and promises."""

from typing import Final

from node.book import LedgerBook
from node.compensating import Compensating
from node.duties import Duties
from node.examine import Examination
from node.links import Links
from node.region import Region
from replication.delivery import Delivery
from replication.gossip import Session
from replication.stability import Frontier
from tests.simulation.safeguard import Safeguard, rewritten

NODE_MUTATIONS: Final[dict[str, Safeguard]] = {
    "earlier-boots-not-swept": Safeguard(
        "what earlier boots left to be swept is found after a start",
        rewritten(Duties.look, "self._scan(now)", "self._scans.clear()"),
    ),
    "reopened-not-watched": Safeguard(
        "a lease whose end came to nothing is looked at again",
        rewritten(Compensating._put_right, "self._watch_reopened(book, now)", "pass"),
    ),
    "expiry-looked-at-once": Safeguard(
        "an expired lot is looked at until that is stable",
        rewritten(
            Duties._look_at_lot,
            "self._schedule.add(max(due_at, now) + self._settle_after_ms, Due.EXPIRY, tenant, name)",
            "pass",
        ),
    ),
    "never-overdue": Safeguard(
        "books that are never quiet are put right all the same",
        rewritten(Compensating.look, "if quiet or overdue:", "if quiet:"),
    ),
    "waiting-bytes-leak": Safeguard(
        "what no longer waits gives its room back",
        rewritten(Delivery._drain, "self._waiting_bytes -= weight_of(entry, sealed)", "pass"),
    ),
    "push-beyond-the-window": Safeguard(
        "a peer is pushed no more than a window beyond what it says that it holds",
        rewritten(Session.fresh, "or last - self.peer_has.get(own, 0) > self._pace.window_entries", ""),
    ),
    "settled-under-one-name": Safeguard(
        "what goes wrong again after it was settled has another name",
        rewritten(
            Examination._is_settled,
            "return account.remembered(key_of(name), self._now) is not None or write_off(name) in self._grants",
            "return False",
        ),
    ),
    "own-entries-not-waited-for": Safeguard(
        "a read or a refusal waits for what this node accepted before",
        rewritten(LedgerBook.append, "self.last_commit = filed.commit", "pass"),
    ),
    "merged-entries-not-waited-for": Safeguard(
        "a read or a refusal waits for what other regions accepted before",
        rewritten(LedgerBook.insert, "self.last_commit = filed.commit", "pass"),
    ),
    "compensate-while-entries-come-back": Safeguard(
        "nothing is compensated while own compensations that were damaged come back",
        rewritten(Region.tick, "if not self.may_have_posted:", "if True:"),
    ),
    "acknowledged-and-forgotten": Safeguard(
        "what somebody has acknowledged is kept although nothing is wrong by now",
        rewritten(LedgerBook._concerned, "(contest.acknowledged or not contest.is_void)", "not contest.is_void"),
    ),
    "promises-wait-for-ever": Safeguard(
        "what a peer has lost with its disk holds no promise back",
        rewritten(Frontier.heard, "while pending and not descends(clock, pending[-1][0]):", "while False:"),
    ),
    "forgotten-while-unsettled": Safeguard(
        "a book that may have to be put right stays in memory",
        rewritten(Region.tick, "but=self.compensating.unsettled", "but=()"),
    ),
    "lag-for-ever": Safeguard(
        "what a peer has is what its latest process says",
        rewritten(Links._make_way, "peer.replica, peer.has = session.peer.replica, {}", "pass"),
    ),
}
