"""The fold against the slow reference, and the laws that every effect keeps."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ledger.account import Account
from ledger.cells import Effect
from ledger.claim import Funding
from ledger.lot import LotState
from ledger.operation import Debit, Grant, Hold, Transfer
from ledger.posting import Outcome, balanced, total
from tests.properties.histories import CLAIMS, RULES, START_MS, Written, apply, books, fold, histories
from tests.reference import fold as reference


def lines(history: list[Written]) -> list[reference.Line]:
    return [
        reference.Line(entry.position, entry.operation, entry.key) for entry in history if entry.operation is not None
    ]


def coins(funding: Funding, debt: int) -> list[str | None]:
    return [*(lot for lot, amount in funding for _ in range(amount)), *([None] * debt)]


@given(histories())
def test_every_effect_is_what_the_reference_says(history: list[Written]) -> None:
    _, effects = fold(history)
    expected = reference.fold(lines(history), RULES.key_lifetime_ms).verdicts
    assert [reference.Verdict(effect.postings, effect.outcome.value) for effect in effects] == expected


@given(histories())
def test_every_account_is_what_the_reference_says(history: list[Written]) -> None:
    account, effects = fold(history)
    serial = reference.fold(lines(history), RULES.key_lifetime_ms)
    expected = {name: balance for name, balance in serial.accounts.items() if balance}
    assert books(account) == expected
    assert total(effect.postings for effect in effects) == expected
    assert account.held == sum(balance for name, balance in expected.items() if name.startswith("held/"))


@given(histories())
def test_every_claim_is_funded_as_the_reference_says(history: list[Written]) -> None:
    account, _ = fold(history)
    serial = reference.fold(lines(history), RULES.key_lifetime_ms)
    assert account.claims.keys() == serial.claims.keys()
    for name, plain in serial.claims.items():
        claim = account.claim(next(known for known in CLAIMS if known == name))
        assert claim is not None
        assert claim.state.value == plain.state
        assert claim.lease_until == plain.lease_until
        assert coins(claim.held, claim.held_debt) == plain.held
        assert coins(claim.used, claim.used_debt) == plain.used
        assert claim.owes_since == plain.debtor_since


@given(histories(), st.integers(START_MS - 20, START_MS + 400))
def test_every_lot_is_as_the_reference_says(history: list[Written], at: int) -> None:
    account, _ = fold(history)
    serial = reference.fold(lines(history), RULES.key_lifetime_ms)
    assert account.lots.keys() == serial.grants.keys()
    for name, lot in account.lots.items():
        assert lot.remaining == serial.remaining(name)
        assert (None if lot.state is LotState.OPEN else lot.state.value) == serial.closed.get(name)
    live = [place.lot for place in account.spending_order if account.lots[place.lot].is_live(at)]
    assert live == serial.live_lots(at)
    assert account.available(at) == serial.available(at)


@given(histories())
def test_the_same_keys_are_used_as_in_the_reference(history: list[Written]) -> None:
    account, _ = fold(history)
    used_at = {key: use.at for key, use in account.keys.items()}
    assert used_at == reference.fold(lines(history), RULES.key_lifetime_ms).keys


@given(histories())
def test_every_job_is_as_the_reference_says(history: list[Written]) -> None:
    account, _ = fold(history)
    serial = reference.fold(lines(history), RULES.key_lifetime_ms)
    assert account.policy == serial.policy
    assert account.jobs.keys() == serial.jobs.keys()
    for name, job in account.jobs.items():
        plain = serial.jobs[name]
        assert job.claim == plain.reserved_by
        assert (job.charged, job.unreserved) == (plain.charged, plain.unreserved)
        assert job.started_at == min(plain.started, default=None)
        assert job.finished_at == max(plain.finished, default=None)
        assert job.seen_at == max(plain.seen, default=None)
        assert job.unheld == next(iter(plain.unheld), None)
        assert job.last == (max(plain.reports)[1] if plain.reports else None)
        milliseconds = {ms for start, end in plain.reported for ms in range(start, end)}
        assert milliseconds == {ms for start, end in job.covered for ms in range(start, end)}
        assert all(first[1] < then[0] for first, then in pairwise(job.covered))


@given(histories())
def test_all_postings_and_all_accounts_sum_to_zero(history: list[Written]) -> None:
    account = Account(RULES)
    for entry in history:
        assert balanced(apply(account, entry).postings)
        assert sum(books(account).values()) == 0


@given(histories())
def test_no_lot_and_no_hold_is_ever_negative(history: list[Written]) -> None:
    account = Account(RULES)
    for entry in history:
        apply(account, entry)
        assert all(lot.remaining >= 0 for lot in account.lots.values())
        assert all(
            min(claim.held_debt, claim.used_debt, *(part for _, part in claim.held + claim.used), 0) >= 0
            for claim in account.claims.values()
        )


@given(histories())
def test_no_funding_names_a_lot_twice_or_for_nothing(history: list[Written]) -> None:
    account, _ = fold(history)
    for claim in account.claims.values():
        for side in (claim.held, claim.used):
            assert len(dict(side)) == len(side)
            assert all(part > 0 for _, part in side)


@given(histories())
def test_debt_never_stands_beside_live_credit_after_an_operation(history: list[Written]) -> None:
    account = Account(RULES)
    for entry in history:
        effect = apply(account, entry)
        if effect.outcome is not Outcome.DUPLICATE:
            region = entry.position.region
            assert not (account.debt(region) and account.live_credit(entry.position.now, region))


@given(histories())
def test_debt_is_exactly_what_claims_lack(history: list[Written]) -> None:
    account, _ = fold(history)
    assert -account.totals["debt"] == sum(claim.debt for claim in account.claims.values())
    assert account.debtors == {
        claim.owes_since: name for name, claim in account.claims.items() if claim.owes_since is not None
    }
    assert all((claim.owes_since is not None) == (claim.debt > 0) for claim in account.claims.values())


@given(histories())
def test_credit_that_a_lot_lost_is_in_claims_or_gone(history: list[Written]) -> None:
    """Per lot: what was given is what remains, what pays for claims, and what was closed away or came back too late."""
    account, _ = fold(history)
    paying: Counter[str] = Counter()
    for claim in account.claims.values():
        for payer, part in claim.held + claim.used:
            paying[payer] += part
    gone = account.totals["expired"] + account.totals["revoked"]
    assert sum(lot.amount - lot.remaining - paying[lot.id] for lot in account.lots.values()) == gone
    for lot in account.lots.values():
        lost = lot.amount - lot.remaining - paying[lot.id]
        assert lost >= 0
        assert lost == 0 or lot.state is not LotState.OPEN


@given(histories())
def test_a_key_a_lot_and_a_claim_have_at_most_one_effect(history: list[Written]) -> None:
    account = Account(RULES)
    effects: list[tuple[Written, Effect]] = [(entry, apply(account, entry)) for entry in history]
    done = [entry for entry, effect in effects if effect.outcome is not Outcome.DUPLICATE]
    # A transfer is known by its name, whatever its key.
    keyed = [entry for entry in done if entry.key is not None and not isinstance(entry.operation, Transfer)]
    for first, then in pairwise(sorted((str(entry.key), entry.position.now) for entry in keyed)):
        assert first[0] != then[0] or then[1] - first[1] >= RULES.key_lifetime_ms
    granted = Counter(entry.operation.lot for entry in done if isinstance(entry.operation, Grant))
    claimed = Counter(entry.operation.claim for entry in done if isinstance(entry.operation, Hold | Debit | Transfer))
    assert max(granted.values(), default=0) <= 1
    assert max(claimed.values(), default=0) <= 1
    assert all(not effect.postings for _, effect in effects if effect.outcome is Outcome.DUPLICATE)


@given(histories())
def test_the_recorded_result_is_the_claim_after_the_operation(history: list[Written]) -> None:
    account = Account(RULES)
    for entry in history:
        effect = apply(account, entry)
        assert entry.operation is not None
        name = account.concerned(entry.operation)
        claim = account.claim(name) if name is not None else None
        if claim is None or effect.outcome is Outcome.DUPLICATE:
            assert effect.result is None
        else:
            assert effect.result == claim.view()
