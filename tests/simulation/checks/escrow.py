"""A tenant that has been under escrow from the beginning is not overspent, whatever regions do not see of each other.

Usage that has happened is never refused, so it can leave debt under escrow, too. A revocation takes credit away behind
a region's back, and so does canonical order where two regions accepted one grant; a region that lost its disk does not
know what it has spent; and regions that report usage of one reservation without seeing each other take more of its
region's shares than they have recorded. Where there was none of these, no reservation and no transfer leaves any.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ledger.operation import Admission, Grant, Hold, Policy, Revoke, Transfer
from tests.reference.fold import Verdict
from tests.simulation.checks.serial import serial_ledger
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class NoOverspendUnderEscrow(Check):
    """Whenever the regions agree: what canonical order makes of everything that was accepted."""

    def agreed(self, cluster: "Cluster") -> None:
        for tenant in list(cluster.facts.by_tenant):
            facts = [fact for fact in cluster.held_by_all(tenant) if fact.is_operation]
            if not _is_escrowed_from_the_beginning(facts):
                continue
            verdicts = serial_ledger(facts, cluster.scenario.key_lifetime_ms).verdicts()
            if any(_takes_more(fact, verdict) for fact, (_, verdict) in zip(facts, verdicts, strict=True)):
                continue
            short = [line for line, verdict in verdicts if verdict.postings.get("debt", 0) < 0]
            if any(not isinstance(line.operation, Hold | Transfer) for line in short):
                continue
            if any(isinstance(line.operation, Grant) and verdict.outcome == "duplicate" for line, verdict in verdicts):
                continue
            cluster.trace.count("tenant under escrow without debt")
            if short:
                raise Broken(f"{tenant} is under escrow, and yet {short[0]} was not covered")


def _takes_more(usage: Fact, verdict: Verdict) -> bool:
    """Whether usage takes more credit in canonical order than was recorded."""
    is_usage = not isinstance(usage.operation, Hold | Transfer)
    return is_usage and _taken(verdict.postings) > max(0, _taken(usage.postings))


def _taken(postings: Mapping[str, int]) -> int:
    return -sum(amount for account, amount in postings.items() if account == "debt" or account.startswith("lot/"))


def _is_escrowed_from_the_beginning(facts: list[Fact]) -> bool:
    """Whether every spending knew that the tenant is under escrow, and its own region's, and nothing was revoked."""
    policies = [fact for fact in facts if isinstance(fact.operation, Policy)]
    if not policies or any(isinstance(fact.operation, Revoke) for fact in facts):
        return False
    if any(policy.operation.admission is not Admission.ESCROW for policy in policies):  # type: ignore[union-attr]
        return False
    spending = [fact for fact in facts if isinstance(fact.operation, Hold | Transfer) and not fact.is_receipt]
    return all(fact.knew(policies[0]) and _remembers_its_own(fact, facts) for fact in spending)


def _remembers_its_own(spending: Fact, facts: list[Fact]) -> bool:
    own = (fact for fact in facts if fact.entry.region == spending.entry.region and fact.place < spending.place)
    return all(spending.knew(fact) for fact in own)
