"""Safeguards of the ledger: of what is accepted, what operations do, what is forgotten and what is reported."""

from typing import Final

from conflict import report
from ledger import admission, refusal
from ledger.account import Account
from node.forgetting import Forgetting
from node.rebuild import Rebuild
from node.region import Region
from replication.delivery import Delivery
from tests.simulation.node import SimulatedNode
from tests.simulation.safeguard import Safeguard, rewritten

LEDGER_MUTATIONS: Final[dict[str, Safeguard]] = {
    "key-for-anything": Safeguard(
        "a key that was used for another request is refused",
        rewritten(Region.submit, "if use.request != request:", "if False:"),
    ),
    "refund-above-usage": Safeguard(
        "no more is refunded than was used",
        rewritten(admission._refund, "if command.amount > claim.used_total:", "if False:"),
    ),
    "ended-and-yet-open": Safeguard(
        "a reservation that has ended is neither renewed nor released",
        rewritten(admission._ended, "if claim.state is ClaimState.OPEN:", "if claim.state:"),
    ),
    "late-and-yet-free": Safeguard(
        "late usage needs credit, too, if its client says so",
        rewritten(
            admission._debit,
            "if command.on_shortage is OnShortage.REFUSE:",
            "if command.on_shortage is OnShortage.REFUSE and at == now:",
        ),
    ),
    "usage-of-tomorrow": Safeguard(
        "nothing has happened in the future",
        rewritten(refusal.event_time, "if at > now + limits.max_ahead_ms:", "if False:"),
    ),
    "usage-of-long-ago": Safeguard(
        "what is too old is closed",
        rewritten(refusal.event_time, "if at < now - limits.max_late_ms:", "if False:"),
    ),
    "grant-that-is-over": Safeguard(
        "credit that has expired already is not granted",
        rewritten(admission._grant, "if command.expires_at <= now:", "if False:"),
    ),
    "half-a-hold": Safeguard(
        "an entry is what was asked for",
        rewritten(admission._reserve, "Hold(claim, amount, now", "Hold(claim, max(1, amount // 2), now"),
    ),
    "endless-lease": Safeguard(
        "a lease has its limit", rewritten(admission._bad_lease, "if lease_ms > limits.max_lease_ms:", "if False:")
    ),
    "held-without-limit": Safeguard(
        "a policy limits what is held",
        rewritten(admission.refused_hold, "if most is not None and", "if most is not None and False and"),
    ),
    "debt-without-limit": Safeguard(
        "a policy limits what is owed",
        rewritten(admission._debit, "if limit is not None and debt > limit:", "if False:"),
    ),
    "void-and-yet-held": Safeguard(
        "a policy makes holds void that are not covered",
        rewritten(Account._hold, "if self.policy.on_overspend is OnOverspend.REVOKE and", "if False and"),
    ),
    "transfer-from-any-lot": Safeguard(
        "a transfer never outlives the lots that pay for it",
        rewritten(Account._transfer, "place.region, transfer.expires_at)", "place.region)"),
    ),
    "charged-twice": Safeguard(
        "a job is charged for the union of what was reported",
        rewritten(
            Account._usage,
            "share(usage.amount, fresh_ms, usage.end - usage.start) if fresh_ms else 0",
            "usage.amount",
        ),
    ),
    "final-and-yet-held": Safeguard(
        "the last report of a job releases what is held for it",
        rewritten(Account._usage, "place, final=usage.final, job=usage.job)", "place, final=False, job=usage.job)"),
    ),
    "key-for-ever": Safeguard(
        "a key is forgotten when its lifetime is over, everywhere at the same place",
        rewritten(Account.remembered, "now - use.at < self._key_lifetime_ms", "True"),
    ),
    "key-row-gone-early": Safeguard(
        "the row of a key stays while an operation may still be folded that remembers it",
        rewritten(Forgetting.look, "- use.at >= self._lifetime_ms:", "- use.at >= 0:"),
    ),
    "key-row-for-ever": Safeguard(
        "the row of a forgotten key is deleted",
        rewritten(Forgetting.look, "- use.at >= self._lifetime_ms:", "- use.at >= 2**62:"),
    ),
    "everybodys-shares": Safeguard(
        "under escrow a region spends its own shares only",
        rewritten(Account._fund, "only = region if self.is_escrowed else None", "only = None"),
    ),
    "everybodys-debts": Safeguard(
        "under escrow a region repays its own debts only",
        rewritten(Account._repay, "self._oldest_debt(only)", "self._oldest_debt(None)"),
    ),
    "nothing-received": Safeguard(
        "a transfer records what was received, too",
        rewritten(Region._stamp, "done[1][1].postings if len(done) > 1 else None", "{} if len(done) > 1 else None"),
    ),
    "fork-of-our-own": Safeguard(
        "an entry of our own log that we did not make is an alarm",
        rewritten(Delivery._take, "elif replica == self.replica:", "elif False:"),
    ),
    "another-history": Safeguard(
        "another entry under a known dot is an alarm",
        rewritten(Delivery._compare, "if first == digest:", "if first:"),
    ),
    "batch-in-pieces": Safeguard(
        "a batch is one commit",
        rewritten(
            SimulatedNode.submit_all,
            "self._submit(tenant, command, key, reply)",
            "self._submit(tenant, command, key, reply) or self._commit()",
        ),
    ),
    "rebuild-that-is-not-begun-again": Safeguard(
        "a rebuild that was cut off is begun again",
        rewritten(Rebuild._clear, "for table", "self._overlay.delete(Table.META, REBUILD)\n    for table"),
    ),
    "report-of-nothing": Safeguard(
        "a report says how much it is about",
        rewritten(report.build_report, "amount=debt or _moved(change),", "amount=0,"),
    ),
}
