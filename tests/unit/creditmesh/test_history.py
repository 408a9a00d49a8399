"""What a client's record says about each request, and about a key that was asked for more than once."""

from functools import partial

from creditmesh import Accepted, CreditmeshError, Dot, InsufficientCredit, Unavailable, wire
from creditmesh.history import Ending, History, Record, Statistics, verdicts
from tests.unit.creditmesh.misbehaving import reservation

ACCEPTED = Accepted(
    reply=reservation(), key="k", dot=Dot("us-east/01b", 7), replayed=True, clock=None, endpoint="", attempts=1
)


def short(*, maybe_accepted: bool) -> InsufficientCredit:
    problem = wire.Problem(type=wire.problem_type(wire.ProblemKind.INSUFFICIENT_CREDIT), title="short", status=402)
    return InsufficientCredit(problem, {}, maybe_accepted=maybe_accepted)


async def answered(answer: Accepted[wire.ReservationReply] | CreditmeshError) -> Accepted[wire.ReservationReply]:
    if isinstance(answer, CreditmeshError):
        raise answer
    return answer


async def recorded(answer: Accepted[wire.ReservationReply] | CreditmeshError) -> Record:
    history = History(at_once=1, now_ms=lambda: 5)
    assert await history.send("hold", "acme", "k", 60, partial(answered, answer)) is answer
    (record,) = history.records
    assert (record.tenant, record.key, record.kind, record.amount, record.asked_ms) == ("acme", "k", "hold", 60, 5)
    return record


async def test_an_accepted_request_is_recorded_with_its_entry() -> None:
    record = await recorded(ACCEPTED)
    assert (record.ending, record.reason, record.dot, record.replayed) == (
        Ending.ACCEPTED,
        "",
        Dot("us-east/01b", 7),
        True,
    )


async def test_a_refusal_is_recorded_with_its_kind() -> None:
    record = await recorded(short(maybe_accepted=False))
    assert (record.ending, record.reason, record.dot) == (Ending.REFUSED, "insufficient-credit", None)


async def test_a_refusal_after_a_lost_answer_leaves_the_request_unknown() -> None:
    assert (await recorded(short(maybe_accepted=True))).ending is Ending.UNKNOWN


async def test_no_answer_is_unknown_unless_nobody_can_have_heard_the_request() -> None:
    assert (await recorded(Unavailable(3, "timeout", maybe_accepted=True))).ending is Ending.UNKNOWN
    assert (await recorded(Unavailable(3, "refused", maybe_accepted=False))).ending is Ending.REFUSED


def record(key: str, ending: Ending, took_ms: float = 1.0) -> Record:
    return Record("acme", key, "hold", 60, ending, "", None, replayed=False, asked_ms=0, took_ms=took_ms)


def test_one_acceptance_decides_and_one_lost_answer_outweighs_refusals() -> None:
    records = [
        record("a", Ending.UNKNOWN),
        record("a", Ending.ACCEPTED),
        record("a", Ending.REFUSED),
        record("b", Ending.REFUSED),
        record("b", Ending.UNKNOWN),
        record("b", Ending.REFUSED),
        record("c", Ending.REFUSED),
    ]
    assert verdicts(records) == {
        ("acme", "a"): Ending.ACCEPTED,
        ("acme", "b"): Ending.UNKNOWN,
        ("acme", "c"): Ending.REFUSED,
    }


def test_statistics_count_by_kind_and_ending_and_leave_unknown_ones_out_of_the_latencies() -> None:
    statistics = Statistics()
    for took_ms in range(1, 101):
        statistics.add(record("a", Ending.ACCEPTED, float(took_ms)))
    statistics.add(record("b", Ending.UNKNOWN, 5000.0))
    assert statistics.requests == {("hold", Ending.ACCEPTED): 100, ("hold", Ending.UNKNOWN): 1}
    assert [statistics.latency_ms("hold", q) for q in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert statistics.latency_ms("renew", 0.5) is None
