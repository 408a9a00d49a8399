"""The export: everything, in causal order, and to be taken up again where it ended."""

from creditmesh.testing import LocalCluster

FAR_FUTURE_MS = 4_000_000_000_000


async def test_an_export_goes_on_behind_the_token_of_an_earlier_reply_without_repeating_itself(
    cluster: LocalCluster,
) -> None:
    us, eu, _ = (cluster.client(region) for region in cluster.regions)
    await us.grant("acme", amount=1000, expires_at=FAR_FUTURE_MS)
    await cluster.converged()
    await eu.debit("acme", amount=1)
    await cluster.converged()
    token = (await us.debit("acme", amount=1)).clock
    assert token is not None
    before = [entry async for entry in us.export()]
    await cluster.converged()
    later = await eu.debit("acme", amount=1)
    await cluster.converged()
    after = [entry async for entry in us.export(after=token)]
    assert len(before) == 3
    assert [(entry.replica, entry.seq) for entry in after] == [later.dot]
