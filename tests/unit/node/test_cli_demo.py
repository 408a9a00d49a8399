"""When the demo has failed, and how its summary reads."""

import io
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console, RenderableType

from creditmesh import Dot, wire
from creditmesh.history import Ending, Record, Statistics
from node.cli import summary
from node.cli.app import run
from node.cli.demo import failed
from node.cli.drive import Agreement, Conflicts, Doings
from node.cli.performance import Performance
from tests.unit.node.cli_story import OVERSPEND

STATE = wire.ClusterReply(
    cluster="demo",
    replica="us-east/b1",
    clock={"us-east/b1": 1_500},
    digest="ab" * 16,
    unsettled_tenants=0,
    findings=None,
    regions=[],
    frontier=wire.Frontier(hlc=None, held_back_by=None),
    alarms=[],
    region="us-east",
    as_of="t",
    behind={},
)
AUDIT = wire.AuditReply(
    ok=True,
    entries=1_500,
    replicas=[wire.ReplicaAudit(replica="us-east/b1", entries=1_500, ok=True)],
    tenants=1,
    books_equal=True,
    findings=[],
    digest="ab" * 16,
    region="us-east",
    as_of="t",
    behind={},
)
AGREED = Agreement({"us-east": STATE}, {"us-east": AUDIT})


def doings() -> Doings:
    done = Doings(by_region={"us-east": Statistics(jobs=4, started=3, finished=3, dropped=1, refusals=2)})
    for number, ending in enumerate([Ending.ACCEPTED, Ending.ACCEPTED, Ending.REFUSED, Ending.UNKNOWN]):
        accepted = ending is Ending.ACCEPTED
        dot = Dot("us-east/b1", number) if accepted else None
        reason = "" if accepted else "no"
        done.records.append(Record("acme", f"k{number}", "hold", 5, ending, reason, dot, False, 1, 10.0 + number))
    return done


def performance(**changes: object) -> Performance:
    made: dict[str, object] = {
        "doings": doings(),
        "conflicts": Conflicts([OVERSPEND], 3),
        "debts": [],
        "agreed": AGREED,
        "exported": {"us-east": 1_500},
        "wrong": [],
    }
    return Performance(**{**made, **changes})  # type: ignore[arg-type]


def rows(*shown: RenderableType) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(*shown, sep="\n")
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_a_demo_that_shows_a_conflict_and_proves_its_logs_has_not_failed() -> None:
    assert failed(performance()) is None


def test_a_demo_whose_logs_lack_an_operation_has_failed() -> None:
    reason = failed(performance(wrong=["us-east: hold k2 of acme … is missing"]))
    assert reason == "the logs are not what they must be (1 findings): us-east: hold k2 of acme … is missing"


def test_a_demo_without_a_conflict_has_failed() -> None:
    assert "no overspending" in str(failed(performance(conflicts=Conflicts([], 12))))


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("x")
    assert run(["demo", "--data", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_jobs_and_operations_in_figures() -> None:
    shown = rows(*summary.work(doings()))
    assert "us-east 4 3 1 2 0" in shown
    assert "all 4 3 1 2 0" in shown
    assert "hold 2 1 1 11.0 12.0" in shown


def test_conflicts_by_kind() -> None:
    repaid = structs.replace(OVERSPEND, state=wire.ConflictState.REPAID)
    shown = rows(summary.conflicts(Conflicts([OVERSPEND, repaid], 3)))
    assert "overspend 2 960 960 1 compensated, 1 repaid" in shown
    assert "reallocated 3 counted only: nobody owes anything more" in shown


def test_regions_side_by_side() -> None:
    shown = rows(*summary.agreement(AGREED, {"us-east": 1_500}, []))
    assert f"us-east 1,500 {'ab' * 16} intact = canonical 1,500" in shown


def test_what_is_wrong_stands_below_the_regions() -> None:
    assert rows(*summary.agreement(AGREED, {"us-east": 1_500}, ["us-east: a gap"]))[-1] == "us-east: a gap"


def test_debts_by_tenant() -> None:
    owed = wire.TenantDebt(
        tenant="acme", debt=1_234, claims=[wire.ClaimDebt(claim="c", job=None, flags=[], debt=1_234)]
    )
    assert "acme 1,234 1" in rows(summary.debts([owed]))
    assert "Nobody owes anything." in rows(summary.debts([]))
