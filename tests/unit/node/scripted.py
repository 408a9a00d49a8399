"""A node that answers commands as it is told, and what a command printed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from creditmesh import wire
from node.cli.app import run

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
