"""The commands against a node that answers as it is told: what is asked, what is printed, how it ends."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from creditmesh import wire
from node.cli.app import run
from tests.unit.creditmesh.misbehaving import reservation
from tests.unit.node.cli_story import OVERSPEND

ONE_REGION = """
[cluster]
id = "one"
[[region]]
name = "us-east"
listen = "127.0.0.1:{port}"
peer_listen = "127.0.0.1:{peer_port}"
data = "us-east"
"""


class ScriptedNode:
    """Answers every request with the reply that stands for its path, with query or without; keeps what was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, Any]] = []
        self._turns: dict[str, list[bytes | None]] = {}
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                node.asked.append((self.path, json.loads(content) if content else None))
                status, body = node.reply_to(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815 - as http.server calls them

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def says(self, path: str, reply: Any, status: int = 200) -> None:
        """Sets the reply for a path."""
        self.replies[path] = (status, msgspec.json.encode(reply))

    def streams(self, path: str, *turns: bytes | None) -> None:
        """Sets the bodies for a path, one for each time that it is asked for; None, and afterwards: not ready."""
        self._turns[path] = list(turns)

    def reply_to(self, path: str) -> tuple[int, bytes]:
        """The status and body that stand for a path now."""
        bare = path.partition("?")[0]
        if bare in self._turns:
            body = self._turns[bare].pop(0) if self._turns[bare] else None
            if body is not None:
                return 200, body
            self.refuses(bare, wire.ProblemKind.NOT_READY)
        return self.replies.get(path) or self.replies[bare]

    def refuses(self, path: str, kind: wire.ProblemKind, **fields: Any) -> None:
        """Sets a refusal for a path."""
        status = wire.STATUS[kind]
        self.says(path, {"type": wire.problem_type(kind), "title": "No", "status": status, **fields}, status)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedNode]:
    """A node that is the only region of the ./cluster.toml of the working directory."""
    scripted = ScriptedNode()
    (tmp_path / "cluster.toml").write_text(ONE_REGION.format(port=scripted.port, peer_port=scripted.port + 1))
    monkeypatch.chdir(tmp_path)
    yield scripted
    scripted.close()


def ends(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr."""
    code = run(line.split())
    printed = capsys.readouterr()
    return code, printed.out, printed.err.splitlines()


def flat(out: str) -> list[str]:
    """The lines, with one space where there are many."""
    return [" ".join(row.split()) for row in out.splitlines()]


T = 1_926_936_000_000
READ: dict[str, Any] = {"region": "us-east", "as_of": "t", "behind": {}}
BALANCE = wire.BalanceReply(
    tenant="acme",
    available=-20,
    elsewhere=None,
    held=60,
    used=1_234,
    debt=20,
    lots=[wire.LotBalance(lot="l1", owner=None, remaining=5, starts_at=0, expires_at=1_926_936_000_000, priority=0)],
    region="us-east",
    as_of="t",
    behind={
        "eu-west": wire.Behind(entries=7, heard_ms_ago=12),
        "ap-south": wire.Behind(entries=0, heard_ms_ago=None),
    },
)


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
    at=T, kind="hold", entry="us-east/b1:3", claim="c1", lot=None, key="k", outcome="applied", amount=-60,
    available=-20, held=60, used=0, debt=20,
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
        LINE, at=T + 1_000, kind="expiry", entry=None, claim=None, lot="l1", key=None, outcome=None, amount=-5
    )
    late = msgspec.structs.replace(LINE, at=T + 1_500, kind="capture", outcome="overrun", amount=0)
    node.says(f"{path}&limit=1000", STATEMENT)
    last = msgspec.structs.replace(STATEMENT, lines=[expiry, late], has_more=False, next=None)
    node.says(f"{path}&after=5:2:1:eu/b:1&limit=1000", last)
    return msgspec.structs.replace(last, lines=[LINE, expiry, late])


def test_a_statement_for_people(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    a_statement_of_two_pages(node)
    code, out, err = ends(capsys, f"statement acme {PERIOD}")
    rows = flat(out)
    assert (code, err) == (0, [])
    assert rows[3:8] == [
        "2031-01-23 11:59:59.995Z opening 40 0 0 0",
        "2031-01-23 12:00:00Z hold c1 us-east/b1:3 −60 -20 60 0 20",
        "2031-01-23 12:00:01Z expiry l1 −5 -20 60 0 20",
        "2031-01-23 12:00:01.500Z capture (overrun) c1 us-east/b1:3 0 -20 60 0 20",
        "2031-01-23 12:00:02Z closing 0 60 1,234 0",
    ]
    assert rows[-4:-1] == [
        "not final before 2031-01-23 12:00:09Z; may still report:",
        "ap-south, which has promised nothing yet",
        "eu-west, which has promised all up to 2031-01-23 12:00:00Z",
    ]


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


def test_a_conflict_is_drawn(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/cluster", CLUSTER)
    node.says(f"/v1/conflicts/{OVERSPEND.id}", wire.ConflictReply(conflict=OVERSPEND, **READ))
    code, out, _ = ends(capsys, f"conflicts show {OVERSPEND.id}")
    assert code == 0
    assert "rival eu-west:812" in out
    assert out.count("ap-south") == 1


def test_conflicts_are_listed_with_filters(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    page = wire.ConflictsReply(conflicts=[OVERSPEND], has_more=True, next="n1", **READ)
    node.says("/v1/conflicts", page)
    code, out, _ = ends(capsys, "conflicts list --kind overspend --loser us-east --since 2031-01-23T12:00")
    assert code == 0
    assert "there is more: --after n1" in out
    assert {"kind=overspend", "region=us-east", "from=1926936000000"} <= set(
        node.asked[0][0].partition("?")[2].split("&")
    )


def test_conflicts_are_listed_by_whether_somebody_has_seen_to_them(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("/v1/conflicts", wire.ConflictsReply(conflicts=[], has_more=False, next=None, **READ))
    for option, asked in (("--acknowledged", "true"), ("--unacknowledged", "false")):
        assert ends(capsys, f"conflicts list {option}")[0] == 0
        assert f"acknowledged={asked}" in node.asked[-1][0]
    ends(capsys, "conflicts list")
    assert "acknowledged" not in node.asked[-1][0]


SAID = wire.Acknowledgement(by="Ann", note="told\u202e them", at=T, region="us-east", entry="us-east/b1:9")


def test_a_conflict_is_acknowledged(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    reply = wire.AcknowledgeReply(
        region="us-east", conflict=OVERSPEND.id, tenant="acme", acknowledgement=SAID, again=True
    )
    node.says(f"/v1/conflicts/{OVERSPEND.id}/ack", reply, 201)
    code, out, err = ends(capsys, f"conflicts ack {OVERSPEND.id} --by Ann --note told")
    assert (code, err, node.asked[0][1]) == (0, [], {"by": "Ann", "note": "told"})
    assert "acknowledged by Ann at 2031-01-23 12:00:00Z in us-east, not as the first" in flat(out)
    assert "note told· them" in flat(out), "what others wrote moves no cursor"
    assert ends(capsys, f"conflicts ack {OVERSPEND.id}")[0] == 2, "somebody must say it"


def an_event(number: int, event: wire.ConflictEvent) -> bytes:
    return b"data: %b\nid: us-east/b1:%d\n\n" % (msgspec.json.encode(event), number)


def a_watch(node: ScriptedNode, capsys: pytest.CaptureFixture[str], options: str) -> tuple[int, str, list[str]]:
    """What a watch told that breaks off twice and is interrupted when nobody answers any more."""
    seen = msgspec.structs.replace(OVERSPEND, acknowledged=[SAID])
    events = [
        wire.ConflictEvent(event=wire.ConflictEventKind.CONFLICT, region="us-east", conflict=seen),
        wire.ConflictEvent(event=wire.ConflictEventKind.GONE, region="us-east", gone="us-east.b1.7.lease"),
        wire.ConflictEvent(event=wire.ConflictEventKind.GAP, region="us-east"),
    ]
    hello = b"id: us-east/b1:1\n\n"
    first, *rest = (an_event(number, event) for number, event in enumerate(events, 2))
    node.streams("/v1/conflicts/stream", hello + first, None, None, None, hello + b"".join(rest))
    return ends(capsys, f"conflicts watch --tenant acme {options}")


def test_conflicts_are_watched_a_line_for_each_event_over_breaks(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_second_echo(monkeypatch)
    code, out, err = a_watch(node, capsys, "")
    assert code == 0
    assert [row[22:] for row in out.splitlines()] == [
        f"compensated  acme  amount 480  debt 480  {OVERSPEND.id}  acknowledged by Ann",
        "gone         us-east.b1.7.lease: there is no such conflict any more",
        "gap          something was missed: see `creditmesh conflicts list`",
    ]
    assert len(err) == 1
    assert err[0].endswith("going on asking")
    assert node.asked[0][0] == "/v1/conflicts/stream?tenant=acme"


def test_programs_get_the_events_themselves(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_second_echo(monkeypatch)
    _, out, _ = a_watch(node, capsys, "-o json")
    events = [msgspec.json.decode(line, type=wire.ConflictEvent) for line in out.splitlines()]
    assert [event.event for event in events] == ["conflict", "gone", "gap"]


def test_a_watch_of_a_node_that_is_not_there_ends(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.streams("/v1/conflicts/stream")
    code, out, err = ends(capsys, "conflicts watch")
    assert (code, out, len(err)) == (3, "", 1)


def interrupt_at_second_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, when it is said for the second time that nobody answers."""
    echoed: list[str] = []
    echo = typer.echo

    def said(text: str, err: bool = False) -> None:
        if err and echoed:
            raise KeyboardInterrupt
        echo(text, err=err)
        echoed.extend([text] if err else [])

    monkeypatch.setattr(typer, "echo", said)


def test_debts_by_tenant_and_claim(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [wire.ClaimDebt(claim="c1", debt=1_000), wire.ClaimDebt(claim="c2", debt=234)]
    node.says("/v1/debts", wire.DebtsReply(debts=[wire.TenantDebt(tenant="acme", debt=1_234, claims=claims)], **READ))
    _, out, _ = ends(capsys, "debts")
    assert [row.split() for row in out.splitlines()][3:5] == [["acme", "1,234", "c1", "1,000"], ["c2", "234"]]


CLUSTER = wire.ClusterReply(
    cluster="one",
    replica="us-east/b1",
    clock={"us-east/b1": 7},
    digest=None,
    unsettled_tenants=0,
    findings=None,
    regions=[
        wire.RegionLink(
            region=region,
            linked=linked,
            cut=cut,
            heard_ms_ago=heard,
            missing_here=0,
            missing_there=12_345,
            promise=None,
        )
        for region, linked, cut, heard in (("ap-south", False, True, None), ("eu-west", True, False, 1_500))
    ],
    frontier=wire.Frontier(hlc=None, held_back_by="ap-south"),
    alarms=[wire.Alarm(kind="fork", subject="eu-west/b1", detail="two entries 5", raised_at=0, count=3)],
    **READ,
)


def test_status_names_links_frontier_and_alarms(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/cluster", CLUSTER)
    code, out, _ = ends(capsys, "status")
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert code == 0
    assert "stable nothing yet, held back by ap-south" in rows
    assert "ap-south cut on purpose never 0 12,345" in rows
    assert "eu-west up 1.5 s ago 0 12,345" in rows
    assert "alarm: fork (eu-west/b1): two entries 5 (since 1970-01-01 00:00:00Z, 3 times)" in rows


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ({"never_started": 1_200, "books_differ": 0, "negative_balance": 1}, "1,200 never_started; 1 negative_balance"),
        ({"never_started": 0}, "none"),
    ],
)
def test_status_tells_what_does_not_add_up(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], findings: dict[str, int], said: str
) -> None:
    node.says("/v1/cluster", msgspec.structs.replace(CLUSTER, findings=findings))
    _, out, _ = ends(capsys, "status")
    assert f"findings {said}" in [" ".join(row.split()) for row in out.splitlines()]


def finding(kind: wire.FindingKind, operation: wire.FindingOperation | None, region: str | None = None) -> wire.Finding:
    return wire.Finding(
        id=f"{kind}.0123456789abcdef01234567",
        kind=kind,
        tenant="acme",
        subject="job-7",
        since=1_926_936_000_000,
        detail="it does not add up",
        entries=["us-east/b1:2"],
        operation=operation,
        why_not=None if operation is not None else "no snapshot says gpus",
        region=region,
    )


def found(*findings: wire.Finding, **fields: Any) -> wire.ReconciliationReply:
    counts = dict.fromkeys(wire.FindingKind, 0) | {"never_started": len(findings)}
    return wire.ReconciliationReply(
        **{
            "at": 1_926_936_000_000,
            "counts": counts,
            "sources": [],
            "findings": list(findings),
            "has_more": False,
            "next": None,
            **fields,
            **READ,
        }
    )


@pytest.mark.parametrize(
    ("told", "settled_by"),
    [
        (wire.FindingOperation(kind="release", body={"reservation": "r1"}), "a release"),
        (wire.FindingOperation(kind="usage", body={"job": "j", "amount": 1_234}), "usage of 1,234"),
        (wire.FindingOperation(kind="usage", body={"job": "j", "final": True}), "final usage"),
        (wire.FindingOperation(kind="grant", body={"amount": 50}), "a grant of 50"),
        (None, "nobody: no snapshot says gpus"),
    ],
)
def test_findings_are_listed_with_what_would_settle_them(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], told: wire.FindingOperation | None, settled_by: str
) -> None:
    listed = finding(wire.FindingKind.NEVER_STARTED, told)
    sources = [wire.JobsSource(source="slurm", at=1_926_936_000_000, jobs=1_000)]
    node.says("/v1/reconciliation", found(listed, sources=sources, has_more=True, next="5:x"))
    code, out, _ = ends(capsys, "reconcile list --tenant acme --kind never_started --limit 1")
    assert code == 0
    assert node.asked[0][0] == "/v1/reconciliation?tenant=acme&kind=never_started&limit=1"
    together = " ".join(out.split())
    # Cells are folded, but for the id.
    assert set(f"{settled_by} job-7: it does not add up".split()) <= set(together.split())
    assert listed.id in together
    assert "found 1 never_started" in together
    assert "slurm, 1,000 jobs at 2031-01-23 12:00:00Z" in together
    assert "there is more: --after 5:x" in together


def test_a_job_whose_name_would_move_the_cursor_is_shown_without_that(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    release = wire.FindingOperation(kind="release", body={"reservation": "r1"})
    listed = finding(wire.FindingKind.NEVER_STARTED, release)
    node.says("/v1/reconciliation", found(msgspec.structs.replace(listed, subject="\x1b[2Jjob\n")))
    _, out, _ = ends(capsys, "reconcile list")
    assert "\x1b" not in out
    assert "·[2Jjob·:" in out


def test_a_compensation_names_where_it_is_owed(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    owed = wire.FindingOperation(kind="compensation", body={"of": []})
    node.says("/v1/reconciliation", found(finding(wire.FindingKind.BOOKS_DIFFER, owed, "eu-west")))
    assert {"compensation", "in", "eu-west"} <= set(ends(capsys, "reconcile list")[1].split())


def test_nothing_that_does_not_add_up_is_said_in_a_line(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says("/v1/reconciliation", found())
    rows = [" ".join(row.split()) for row in ends(capsys, "reconcile list")[1].splitlines()]
    assert rows == [
        "found nothing",
        "by the snapshots of no scheduler",
        "as seen in us-east at 2031-01-23 12:00:00Z",
    ]


RELEASED = wire.ExportedEntry(
    replica="us-east/b1",
    seq=7,
    hlc=(1_926_936_000_000, 0),
    clock={"us-east/b1": 7},
    tenant="acme",
    kind="release",
    key="reconciliation:x",
    request="0" * 16,
    body={"claim": "r1"},
    postings={"held/r1": -60, "lot/l1": 60},
    received=None,
    outcome="applied",
    result=None,
    prev="0" * 64,
    hash="1" * 64,
)


@pytest.mark.parametrize(
    ("replayed", "said"), [(False, "release us-east/b1:7"), (True, "release us-east/b1:7 (before)")]
)
def test_a_finding_is_settled_and_the_entry_named(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], replayed: bool, said: str
) -> None:
    reply = wire.ApplyReply(finding="x", entry=RELEASED, replayed=replayed, region="us-east")
    node.says("/v1/tenants/acme/reconciliation/apply", reply)
    code, out, _ = ends(capsys, "reconcile apply acme x")
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert code == 0
    assert node.asked == [("/v1/tenants/acme/reconciliation/apply", {"finding": "x"})]
    assert f"settled by {said}" in rows
    assert "postings held/r1 −60 lot/l1 +60" in rows


def test_a_finding_that_has_gone_is_one_line(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    path = "/v1/tenants/acme/reconciliation/apply"
    node.refuses(path, wire.ProblemKind.FINDING_GONE, detail="the finding does not stand", finding="x")
    code, _, err = ends(capsys, "reconcile apply acme x")
    assert (code, err) == (1, ["creditmesh: the finding does not stand"])


SNAPSHOT = {"source": "slurm", "at": 5, "jobs": [{"tenant": "acme", "job": "j", "state": "running"}]}


@pytest.mark.parametrize(
    ("taken", "unknown", "count", "said"),
    [
        (True, [], 0, ["taken yes", "unknown tenants none"]),
        (False, ["a", "b"], 2, ["taken no: a later snapshot is there", "unknown tenants a, b"]),
        (True, ["a"], 1_001, ["unknown tenants a and 1,000 more"]),
    ],
)
def test_a_snapshot_is_put_from_a_file(
    node: ScriptedNode,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    taken: bool,
    unknown: list[str],
    count: int,
    said: list[str],
) -> None:
    reply = wire.JobsReply(
        source="slurm", at=5, jobs=1, taken=taken, unknown_tenants=unknown, unknown_tenant_count=count, region="us-east"
    )
    node.says("/v1/jobs", reply)
    (tmp_path / "jobs.json").write_text(json.dumps(SNAPSHOT))
    code, out, _ = ends(capsys, "jobs put jobs.json")
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert code == 0
    ((path, body),) = node.asked
    assert path == "/v1/jobs"
    assert (body["source"], body["at"], body["jobs"][0]["job"]) == ("slurm", 5, "j")
    assert all(line in rows for line in said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        ('{"source"', "truncated"),
        ('{"source": "slurm"}', "missing required field `jobs`"),
        ('{"source": "slurm", "jobs": [{"tenant": "a", "job": "j", "state": "late"}]}', "$.jobs[0].state"),
    ],
)
def test_a_file_that_is_no_snapshot_is_one_line(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "jobs.json").write_text(content)
    code, _, (line,) = ends(capsys, "jobs put jobs.json")
    assert code == 2
    assert line.startswith("creditmesh: jobs.json: ")
    assert said in line
    assert node.asked == []


def test_links_are_cut_to_all_peers_unless_some_are_named(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("/v1/cluster", CLUSTER)
    node.says("/v1/chaos/links", wire.LinkReply(peer="p", state=wire.LinkState.CUT, region="us-east"))
    assert ends(capsys, "chaos cut")[0] == 0
    assert ends(capsys, "chaos heal eu-west")[0] == 0
    assert [body for path, body in node.asked if path == "/v1/chaos/links"] == [
        {"peer": "ap-south", "state": "cut"},
        {"peer": "eu-west", "state": "cut"},
        {"peer": "eu-west", "state": "open"},
    ]


def test_a_node_that_takes_no_cuts_says_how_to_have_one_that_does(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.refuses("/v1/chaos/links", wire.ProblemKind.NOT_FOUND, detail="no such path")
    assert ends(capsys, "chaos cut eu-west")[2] == [
        "creditmesh: this node takes no faults on purpose;"
        " start it with --chaos, or with `enabled = true` under [chaos]"
    ]


@pytest.mark.parametrize(
    ("given", "asked"),
    [("", (0, False)), ("--offset 5s", (5_000, False)), ("--offset=-2h --frozen", (-7_200_000, True))],
)
def test_a_clock_is_set_wrong_and_right_again(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], given: str, asked: tuple[int, bool]
) -> None:
    offset_ms, frozen = asked
    node.says(
        "/v1/chaos/clock", wire.ClockReply(offset_ms=offset_ms, frozen=frozen, now=1_926_936_000_000, region="us-east")
    )
    code, out, _ = ends(capsys, f"chaos clock {given}")
    assert code == 0
    assert node.asked == [("/v1/chaos/clock", {"offset_ms": offset_ms, "frozen": frozen})]
    said = {0: "right", 5_000: "5.0 s ahead", -7_200_000: "2 h behind, stands still"}[offset_ms]
    assert f"clock {said}" in [" ".join(row.split()) for row in out.splitlines()]


@pytest.mark.parametrize("offset", ["soon", "20000d"])
def test_a_clock_that_cannot_be_set_so_is_a_mistake_of_the_command_line(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], offset: str
) -> None:
    assert ends(capsys, f"chaos clock --offset {offset}")[0] == 2
    assert node.asked == []


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_an_audit_that_finds_a_fault_is_exit_code_1(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str], ok: bool, code: int
) -> None:
    audit = wire.AuditReply(
        ok=ok,
        entries=7,
        replicas=[wire.ReplicaAudit(replica="us-east/b1", entries=7, ok=ok)],
        tenants=1,
        books_equal=ok,
        findings=[] if ok else ["log us-east/b1 at 5: the hash differs"],
        digest="ab",
        **READ,
    )
    node.says("/v1/audit", audit)
    ended, out, err = ends(capsys, "audit")
    assert ended == code
    assert ("BROKEN" in out, "the hash differs" in out) == (not ok, not ok)
    assert err == ([] if ok else ["creditmesh: the audit of us-east found 1 faults"])


ENTRY = wire.ExportedEntry(
    replica="us-east/b1",
    seq=3,
    hlc=(5, 0),
    clock={"us-east/b1": 3},
    tenant="acme",
    kind="hold",
    key="k",
    request=None,
    body={"amount": 1},
    postings={"lot/l1": -1, "held/c1": 1},
    outcome="applied",
    result=None,
    received=None,
    prev="00",
    hash="11",
)


def test_an_export_says_how_to_go_on_and_goes_on_in_the_same_file(
    node: ScriptedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    line = msgspec.json.encode(ENTRY) + b"\n"
    node.replies["/v1/entries"] = (200, line)
    code, out, err = ends(capsys, "export")
    assert (code, out.encode()) == (0, line)
    assert err[0].startswith("1 entries; to go on from here: --after ")
    token = err[0].rpartition(" ")[2]
    assert ends(capsys, "export --file log.ndjson")[0] == 0
    assert ends(capsys, f"export --file log.ndjson --after {token}")[0] == 0
    assert Path("log.ndjson").read_bytes() == 2 * line
    assert node.asked[-1][0] == f"/v1/entries?after={token}"


def test_an_export_does_not_overwrite_a_file(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.ndjson").write_text("precious")
    code, _, err = ends(capsys, "export --file log.ndjson")
    assert (code, node.asked, Path("log.ndjson").read_text()) == (2, [], "precious")
    assert "is there already" in err[0]


def test_an_export_that_breaks_off_says_where_to_go_on(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.replies["/v1/entries"] = (200, msgspec.json.encode(ENTRY) + b"\n{")
    code, out, err = ends(capsys, "export")
    assert code == 3
    assert len(out.splitlines()) == 1
    assert err[0].startswith("creditmesh: broke off after 1 entries")
    assert "--after " in err[0]


def test_the_trail_of_a_tenant(node: ScriptedNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.says(
        "/v1/tenants/acme/entries",
        wire.EntriesReply(tenant="acme", entries=[ENTRY], has_more=False, next=None, **READ),
    )
    _, out, _ = ends(capsys, "entries acme --limit 5")
    assert "00:00:00.005 us-east/b1:3 hold applied lot/l1 −1 held/c1 +1" in [
        " ".join(row.split()) for row in out.splitlines()
    ]
    assert node.asked[0][0] == "/v1/tenants/acme/entries?limit=5"
