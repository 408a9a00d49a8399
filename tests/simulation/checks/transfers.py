"""Credit that goes from one tenant to another is neither lost nor made on the way, and lasts no longer than before."""

from typing import TYPE_CHECKING

from ledger.ids import ClaimId, LotId, TenantId
from ledger.operation import Transfer
from node.book import LedgerBook
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class BothAccounts(Check):
    """Whenever a node has done what was due: each transfer that it holds stands in both accounts, or in neither."""

    def __init__(self) -> None:
        self._transfers: dict[str, list[Fact]] = {}

    def started(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        held = node.facts.held_by(node.region.clock)
        self._transfers[node.name] = [fact for fact in held if isinstance(fact.entry.content, Transfer)]

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        transfer = fact.entry.content
        assert node.region is not None
        if not isinstance(transfer, Transfer):
            return
        self._transfers[node.name].append(fact)
        if fact.entry.replica == node.region.replica:
            lots = node.region.books.in_memory[fact.entry.tenant].account.lots
            paid = [lots[LotId(name.removeprefix("lot/"))] for name in fact.postings if name.startswith("lot/")]
            if any(lot.expires_at < transfer.expires_at for lot in paid):
                raise Broken(f"{node.name}: {fact.dot} lasts until {transfer.expires_at}, and {paid} pay for it")

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        for fact in self._transfers[node.name]:
            transfer = fact.entry.content
            assert isinstance(transfer, Transfer)
            giver, receiver = (node.region.books.in_memory.get(TenantId(leg.tenant)) for leg in fact.legs)
            if giver is not None and receiver is not None:
                self._compare(node, fact, transfer, giver, receiver)

    def _compare(
        self, node: "SimulatedNode", fact: Fact, transfer: Transfer, giver: LedgerBook, receiver: LedgerBook
    ) -> None:
        claim = giver.account.claim(ClaimId(transfer.name))
        lot = receiver.account.lots.get(LotId(transfer.name))
        if claim is None or lot is None or claim.made != lot.granted:
            raise Broken(f"{node.name}: {fact.dot} is {claim} of {giver.tenant}, and {lot} of {receiver.tenant}")
        if claim.made != fact.place:
            node.count("transfer that was made twice")
        received = sum(each.amount for each in receiver.account.lots.values() if each.grant == transfer.name)
        if claim.amount != received:
            raise Broken(f"{node.name}: {fact.dot} gives {claim.amount}, and {received} are received")
