"""What is said of a route beside how it is answered: the part of the API's description that stands with the route.

A route without a `Description` cannot be made. All that the code says already is taken from it: what a route is for
from the docstrings, what it takes and replies from the types; only what it may refuse is written down beside it.
"""

import re
from collections.abc import Callable
from inspect import getdoc
from typing import Any, Final, get_type_hints

from msgspec import Struct

from creditmesh import wire
from creditmesh.wire import ProblemKind
from node.api.requests import JSON
from node.api.router import Handler

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
EVENT_STREAM: Final = "text/event-stream"


class Many(Struct, frozen=True):
    """A body that is one of several kinds of thing, or a list of up to `most` of them."""

    kinds: tuple[type[wire.Request], ...]
    most: int


class Description(Struct, frozen=True, kw_only=True):
    """One route: what it is for, what it takes, what it replies, what it refuses."""

    summary: str
    status: int = 200
    reply: type[Struct] | None = None
    """None: text."""
    media: tuple[str, ...] = (JSON,)
    """In which forms the reply comes, and the body is taken."""
    reply_headers: tuple[str, ...] = ()
    query: type[wire.Request] | None = None
    body: type[wire.Request] | Many | None = None
    body_media: tuple[str, ...] | None = None
    """None: those of the reply."""
    takes_key: bool = False
    """Whether it is a write, and so must have an idempotency key."""
    takes_clock: bool = False
    takes_event_id: bool = False
    """Whether it is a stream that can be taken up again."""
    refusals: tuple[ProblemKind, ...] = ()
    """Kinds of problem, beside `ProblemKind.INTERNAL`."""
    unready: type[Struct] | None = None
    """What a 503 says instead of a problem."""


class Route(Struct, frozen=True):
    """A method and a path, who answers, and what there is to know about it."""

    method: str
    path: str
    handler: Handler
    about: Description


_WHERE: Final = re.compile(r"^``[^`]*``: ")


def told_by(described: object) -> str:
    """The docstring of a function or type as a text of its own, without the route that some begin with."""
    text = _WHERE.sub("", getdoc(described) or "")
    assert text, f"{described} says nothing of itself"
    return text[0].upper() + text[1:].replace("``", "`")


def replied_by(answer: Callable[..., Any]) -> type[Struct]:
    """The type that a function is annotated to give."""
    reply: type[Struct] = get_type_hints(answer)["return"]
    return reply
