"""The commands of operators: the cluster, what does not add up, faults on purpose, the audit, the log."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from creditmesh import wire
from tests.unit.node.scripted import CLUSTER, READ, ScriptedNode, ends


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
