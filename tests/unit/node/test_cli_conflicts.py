"""The commands of conflicts and debts: what is asked, what is printed, how it ends."""

import msgspec
import pytest
import typer

from creditmesh import wire
from tests.unit.node.cli_story import OVERSPEND
from tests.unit.node.scripted import CLUSTER, READ, ScriptedNode, T, ends, flat


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
    claims = [
        wire.ClaimDebt(claim="~3c67", job="train", flags=[wire.EventFlag.UNRESERVED], debt=1_000),
        wire.ClaimDebt(claim="c2", job=None, flags=[], debt=234),
    ]
    node.says("/v1/debts", wire.DebtsReply(debts=[wire.TenantDebt(tenant="acme", debt=1_234, claims=claims)], **READ))
    _, out, _ = ends(capsys, "debts")
    assert [row.split() for row in out.splitlines()][3:5] == [
        ["acme", "1,234", "~3c67", "train", "(unreserved)", "1,000"], ["c2", "234"],
    ]  # fmt: skip
