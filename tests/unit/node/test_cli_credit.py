"""The commands of a tenant's credit, against a node that answers as it is told, and how any command ends."""

from typing import Any

import msgspec
import pytest

from creditmesh import wire
from node.cli import output
from tests.unit.creditmesh.misbehaving import reservation
from tests.unit.node.scripted import BALANCE, READ, ScriptedNode, T, ends, flat


def test_a_balance_for_people(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/tenants/acme/balance", BALANCE)
    code, out, err = ends(capsys, "balance acme")
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert (code, err) == (0, [])
    assert "available -20" in rows
    assert "used 1,234" in rows
    assert "as seen in us-east (lacks 7 entries of eu-west; has not heard of ap-south yet)" in rows
    assert "l1 5 1970-01-01 00:00:00Z 2031-01-23 12:00:00Z 0" in rows
    assert "\x1b" not in out


def test_a_balance_for_programs_is_the_reply_itself(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/tenants/acme/balance", BALANCE)
    code, out, _ = ends(capsys, "balance acme -o json")
    assert code == 0
    assert msgspec.json.decode(out, type=wire.BalanceReply) == BALANCE


def test_a_balance_at_a_time(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/tenants/acme/balance", msgspec.structs.replace(BALANCE, at=T))
    code, out, _ = ends(capsys, "balance acme --at 2031-01-23T12:00")
    assert (code, node.asked[0][0]) == (0, f"/v1/tenants/acme/balance?at={T}")
    assert "at 2031-01-23 12:00:00Z" in flat(out)


LINE = wire.StatementLine(
    at=T, kind="hold", entry="us-east/b1:3", claim="c1", job="train", lot=None, key="k", outcome="applied",
    flags=[], amount=-60, available=-20, held=60, used=0, debt=20,
)  # fmt: skip
STATEMENT = wire.StatementReply(
    tenant="acme",
    since=T - 5,
    to=T + 2_000,
    final=False,
    final_from=T + 9_000,
    open_regions=[wire.OpenRegion(region="ap-south", promise=None), wire.OpenRegion(region="eu-west", promise=(T, 3))],
    opening=wire.Standing(available=40, held=0, used=0, debt=0),
    lines=[LINE],
    closing=wire.Standing(available=0, held=60, used=1_234, debt=0),
    has_more=True,
    next="5:2:1:eu/b:1",
    **READ,
)
PERIOD = f"--from {T - 5} --to {T + 2_000}"


def a_statement_of_two_pages(node: ScriptedNode) -> wire.StatementReply:
    path = f"/v1/tenants/acme/statement?from={T - 5}&to={T + 2_000}&format=json"
    expiry = msgspec.structs.replace(
        LINE, at=T + 1_000, kind="expiry", entry=None, claim=None, job=None, lot="l1", key=None, outcome=None, amount=-5
    )
    late = msgspec.structs.replace(LINE, at=T + 1_500, kind="capture", outcome="overrun", amount=0)
    unreserved = msgspec.structs.replace(
        late, at=T + 1_600, kind="usage", claim="~3c67", job="stray", flags=[wire.EventFlag.UNRESERVED]
    )
    node.says(f"{path}&limit=1000", STATEMENT)
    last = msgspec.structs.replace(STATEMENT, lines=[expiry, late, unreserved], has_more=False, next=None)
    node.says(f"{path}&after=5:2:1:eu/b:1&limit=1000", last)
    return msgspec.structs.replace(last, lines=[LINE, expiry, late, unreserved])


def test_a_statement_for_people(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    a_statement_of_two_pages(node)
    code, out, err = ends(capsys, f"statement acme {PERIOD}")
    rows = flat(out)
    assert (code, err) == (0, [])
    assert rows[1] == "time (UTC) what about change available held used owed entry"
    assert rows[3:10] == [
        "2031-01-23",
        "11:59:59.995 opening 40 0 0 0",
        "12:00:00.000 hold train −60 -20 60 0 20 us-east/b1:3",
        "12:00:01.000 expiry l1 −5 -20 60 0 20",
        "12:00:01.500 capture (overrun) train 0 -20 60 0 20 us-east/b1:3",
        "12:00:01.600 usage (unreserved) stray 0 -20 60 0 20 us-east/b1:3",
        "12:00:02.000 closing 0 60 1,234 0",
    ]
    assert rows[-4:-1] == [
        "not final before 2031-01-23 12:00:09Z; may still report:",
        "ap-south, which has promised nothing yet",
        "eu-west, which has promised all up to 2031-01-23 12:00:00Z",
    ]


def test_a_statement_on_a_narrow_terminal_has_its_figures_beside_each_other_and_all_words_whole(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PLAIN_WIDTH", 80)
    whole = a_statement_of_two_pages(node)
    figures = {"available": -1_234_567, "held": 345_678, "used": 1_234_567, "debt": 23_456}
    long = msgspec.structs.replace(LINE, entry="us-east/mwxs1ql1azcryy:4", amount=-1_234_567, **figures)
    last = msgspec.structs.replace(whole, lines=[long], has_more=False, next=None)
    path = f"/v1/tenants/acme/statement?from={T - 5}&to={T + 2_000}&format=json"
    node.says(f"{path}&after=5:2:1:eu/b:1&limit=1000", last)
    _, out, _ = ends(capsys, f"statement acme {PERIOD}")
    assert max(map(len, out.splitlines())) <= 80
    assert flat(out)[1:12] == [
        "time (UTC), what change available held used owed",
        flat(out)[2],
        "2031-01-23",
        "11:59:59.995 opening 40 0 0 0",
        "12:00:00.000 hold −60 -20 60 0 20",
        "train",
        "us-east/b1:3",
        "12:00:00.000 hold −1,234,567 -1,234,567 345,678 1,234,567 23,456",
        "train",
        "us-east/mwxs1ql1azcryy:4",
        "12:00:02.000 closing 0 60 1,234 0",
    ]


@pytest.mark.parametrize(
    ("final_from", "said"),
    [
        (T + 9_000, "not final before 2031-01-23 12:00:09Z; may still report:"),
        (5_000, "not final yet; it waits for what these promise up to 1970-01-01 00:00:05Z:"),
    ],
)
def test_a_statement_that_could_be_final_says_which_region_it_waits_for(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], final_from: int, said: str
) -> None:
    waits = msgspec.structs.replace(STATEMENT, final_from=final_from, has_more=False, next=None)
    node.says("/v1/tenants/acme/statement", waits)
    rows = flat(ends(capsys, f"statement acme {PERIOD}")[1])
    assert said in rows
    assert "ap-south, which has promised nothing yet" in rows


def test_a_statement_for_programs_is_all_pages_as_one(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    whole = a_statement_of_two_pages(node)
    _, out, _ = ends(capsys, f"statement acme {PERIOD} -o json")
    assert msgspec.json.decode(out, type=wire.StatementReply) == whole


def test_a_final_statement_says_so(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    final = msgspec.structs.replace(STATEMENT, final=True, open_regions=[], has_more=False, next=None)
    node.says("/v1/tenants/acme/statement", final)
    assert "final: nothing of this period can come in any more" in flat(ends(capsys, f"statement acme {PERIOD}")[1])


def test_a_statement_as_csv_is_passed_on_as_it_comes(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.replies["/v1/tenants/acme/statement"] = (200, b"at,kind\r\n5,opening\r\n")
    code, out, _ = ends(capsys, f"statement acme {PERIOD} --csv")
    assert (code, out) == (0, "at,kind\r\n5,opening\r\n")
    assert "&format=csv" in node.asked[0][0]
    node.refuses("/v1/tenants/acme/statement", wire.ProblemKind.NOT_FOUND, detail="no such tenant")
    assert ends(capsys, f"statement acme {PERIOD} --csv")[0] == 1


@pytest.mark.parametrize(
    "line",
    [
        "statement acme --from 2031-01-02 --to 2031-01-01",
        "statement acme --from 2031-01-01 --to 2031-01-02 --csv -o json",
        "expiring acme --from 2031-01-02 --to 2031-01-02",
        "forecast acme --window 32d",
        "forecast acme --window 0",
    ],
)
def test_what_makes_no_sense_is_not_asked(node: ScriptedNode, capsys: pytest.CaptureFixture[str], line: str) -> None:
    code, _, err = ends(capsys, line)
    assert (code, len(err), node.asked) == (2, 1, [])


def test_what_expires_soon(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/tenants/acme/expiring", wire.ExpiringReply(tenant="acme", total=5, lots=BALANCE.lots, **READ))
    code, out, _ = ends(capsys, f"expiring acme --from {T}")
    assert (code, node.asked[0][0]) == (0, f"/v1/tenants/acme/expiring?from={T}&to={T + 30 * 86_400_000}")
    assert "l1 5 1970-01-01 00:00:00Z 2031-01-23 12:00:00Z 0" in flat(out)
    assert "expiring 5" in flat(out)


@pytest.mark.parametrize(
    ("runs_out_at", "said"),
    [
        (None, "runs out never"),
        (T, "runs out now: nothing is available"),
        (T + 90 * 60_000, "runs out 2031-01-23 13:30:00Z, in 1 h 30 min"),
    ],
)
def test_a_forecast(node: ScriptedNode, capsys: pytest.CaptureFixture[str], runs_out_at: int | None, said: str) -> None:
    forecast = wire.ForecastReply(
        tenant="acme", at=T, window_ms=1_800_000, used=1_000, per_hour=2_000, available=3_000, runs_out_at=runs_out_at,
        **READ,
    )  # fmt: skip
    node.says("/v1/tenants/acme/forecast", forecast)
    code, out, _ = ends(capsys, "forecast acme --window 30m")
    assert (code, node.asked[0][0]) == (0, "/v1/tenants/acme/forecast?window_ms=1800000")
    assert {"used 1,000 in 30 min", "per hour 2,000", said} <= set(flat(out))


def test_a_grant_understands_times(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    grant = wire.GrantReply(lot="l1", amount=5, starts_at=0, expires_at=1, priority=0, shares=None, region="us-east")
    node.says("/v1/tenants/acme/grants", grant)
    code, _, _ = ends(capsys, "grant acme 5 --expires 2031-01-23T12:00 --lot l1")
    assert code == 0
    assert node.asked[0][1]["expires_at"] == 1_926_936_000_000


@pytest.mark.parametrize(("given", "lease_ms"), [("", 600_000), ("--lease 90s", 90_000), ("--lease 1500", 1_500)])
def test_a_reservation_understands_durations(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], given: str, lease_ms: int
) -> None:
    node.says("/v1/tenants/acme/reservations", reservation(debt=20))
    code, out, _ = ends(capsys, f"reserve acme 60 {given}")
    assert code == 0
    assert "nobody yet (debt) 20" in out
    assert node.asked[0][1]["lease_ms"] == lease_ms


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        ("renew acme r1 --lease 2h", "reservations/r1/renew", {"lease_ms": 7_200_000}),
        ("capture acme r1 20 --final", "reservations/r1/capture", {"amount": 20, "at": None, "final": True}),
        ("release acme r1", "reservations/r1/release", {}),
    ],
)
def test_what_is_done_to_a_reservation(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], line: str, path: str, body: dict[str, Any]
) -> None:
    node.says(f"/v1/tenants/acme/{path}", reservation())
    code, out, _ = ends(capsys, line)
    assert (code, node.asked) == (0, [(f"/v1/tenants/acme/{path}", body)])
    assert "nothing is held" in out


def test_a_refusal_is_one_line_and_says_what_there_is(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.refuses(
        "/v1/tenants/acme/reservations",
        wire.ProblemKind.INSUFFICIENT_CREDIT,
        detail="60 asked for",
        available=5,
        held=1_000,
        debt=0,
        next_start=1_926_936_000_000,
    )
    assert ends(capsys, "reserve acme 60") == (
        1,
        "",
        [
            "creditmesh: 60 asked for (available 5, held 1,000, owed 0); the next lot starts 2031-01-23 12:00:00Z; "
            "ask for less, release something, or grant credit"
        ],
    )


def test_nobody_there_is_one_line_and_exit_code_3(capsys: pytest.CaptureFixture[str], node: ScriptedNode) -> None:
    node.close()
    address = f"http://127.0.0.1:{node.port}"
    assert ends(capsys, f"balance acme --url {address}") == (
        3,
        "",
        [f"creditmesh: nobody answers at {address} (asked 3 times); start the cluster with `creditmesh up`"],
    )


def test_a_write_of_which_nobody_knows_the_end_tells_its_key(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.refuses("/v1/tenants/acme/reservations", wire.ProblemKind.INTERNAL, detail="the disk")
    code, _, err = ends(capsys, "reserve acme 60 --key k1")
    assert code == 3
    assert len(err) == 1
    assert "ask again with --key k1" in err[0]


def test_an_answer_of_something_else_is_no_traceback(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/tenants/acme/balance", ["not", "ours"])
    code, _, err = ends(capsys, "balance acme")
    assert code == 3
    assert len(err) == 1
    assert "not one of a creditmesh node" in err[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nope", "No such command 'nope'"),
        ("grant acme", "Missing argument 'amount'"),
        ("grant acme 5", "Missing option '--expires'"),
        ("grant acme 0 --expires 1d", "'amount'"),
        ("grant acme 5 --expires never", "'never' is no time"),
        ("reserve acme 5 --lease soon", "'soon' is no duration"),
        ("balance acme --region nowhere", "no region 'nowhere'; there are: us-east"),
        ("balance acme --url 127.0.0.1:7101", "must begin with http://"),
        ("balance acme --url http://h --region us-east", "not both"),
        ("balance acme --config nowhere.toml", "nowhere.toml: No such file"),
        ("export --after !", "--after: not a clock token"),
        ("replay --trace nowhere.csv", "nowhere.csv"),
    ],
)
def test_usage_is_one_line_and_exit_code_2(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    code, out, err = ends(capsys, line)
    assert (code, out, len(err), node.asked) == (2, "", 1, [])
    assert says in err[0]


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ends(capsys, "")
    assert (code, err) == (2, [])
    assert "Exit codes: 0 done, 1 refused" in out
