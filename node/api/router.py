"""Which route answers a path: a tree of path segments, looked up once per request.

aiohttp's own application matches a path against one regular expression per route and wraps each request in a fifth
more work than its bare server (measured: 45 against 37 µs of CPU a request); so the server is used bare, under this.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote

from aiohttp import web
from msgspec import Struct

from creditmesh.wire import ProblemKind
from ledger.ids import ID_PATTERN, TENANT_PATTERN
from node.api.problems import Refused, invalid

Handler = Callable[[web.BaseRequest, tuple[str, ...], str], Awaitable[web.StreamResponse]]
"""Answers a request, given the ids of its path and its query string."""

RULES: Final = {
    "tenant": re.compile(TENANT_PATTERN),
    "lot": re.compile(ID_PATTERN),
    "reservation": re.compile(ID_PATTERN),
    "conflict": re.compile(r"^[a-z0-9][a-z0-9-]{0,31}\.[0-9a-z]{1,32}\.[0-9]{1,16}\.[a-z_]{1,32}(?:\.received)?\Z"),
}
"""What may stand for each ``{name}`` of a path."""


class _Id(Struct, frozen=True):
    name: str
    matches: Callable[[str], object]
    rule: str


class _Branch:
    __slots__ = ("any", "ids", "methods", "named")

    def __init__(self) -> None:
        self.named: dict[str, _Branch] = {}
        self.any: _Branch | None = None
        self.methods: dict[str, Handler] = {}
        self.ids: tuple[_Id, ...] = ()


class Router:
    """Routes by method and path. A route that answers GET answers HEAD."""

    def __init__(self) -> None:
        self._root = _Branch()

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve `path`, in which ``{name}`` stands for one segment that is an id of that kind."""
        branch = self._root
        ids: list[_Id] = []
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                name = segment[1:-1]
                ids.append(_Id(name, RULES[name].match, f"must match {RULES[name].pattern}"))
                if branch.any is None:
                    branch.any = _Branch()
                branch = branch.any
            else:
                branch = branch.named.setdefault(segment, _Branch())
        assert method not in branch.methods, f"two routes for {method} {path}"
        branch.ids = tuple(ids)
        branch.methods[method] = handler
        if method == "GET":
            branch.methods["HEAD"] = handler

    def find(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        """The route and the ids in the path, checked. `path` is as it was sent, percent-encoded, without the query.

        Raises `Refused`: no such path, another method, or an id that is none.
        """
        branch: _Branch | None = self._root
        found: list[str] = []
        segments = path.split("/")
        del segments[0]
        for segment in segments:
            assert branch is not None
            below = branch.named.get(segment)
            if below is None:
                below = branch.any
                found.append(unquote(segment) if "%" in segment else segment)
            branch = below
            if branch is None:
                break
        if branch is None or not branch.methods:
            raise Refused(ProblemKind.NOT_FOUND, "no such path")
        handler = branch.methods.get(method)
        if handler is None:
            allowed = ", ".join(sorted(branch.methods))
            raise Refused(ProblemKind.METHOD_NOT_ALLOWED, f"the path takes {allowed}", headers={"Allow": allowed})
        for expected, value in zip(branch.ids, found, strict=True):
            if not expected.matches(value):
                raise invalid(expected.name, expected.rule)
        return handler, tuple(found)
