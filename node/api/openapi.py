"""The description of the HTTP interface as a program reads it: ``/openapi.json``, an OpenAPI 3.1 document.

It is made from the routes themselves (`node.api.description`) and from the types of the wire, when somebody first asks
for it, and kept. What a route does not say of itself is nowhere.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import PROBLEM_JSON, STATUS, ProblemKind
from node.api.description import CSV, EVENT_STREAM, NDJSON, Description, Many, Route
from node.api.problems import RETRY_AFTER_S, TITLES
from node.api.requests import JSON
from node.api.router import RULES
from node.api.schema import Schema, components, ecma, pattern, problem_name, reference

PATH: Final = "/openapi.json"

KEY_PATTERN: Final = r'^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$'

_SUMMARY: Final = "This document."
_PATH_NAMES: Final = {
    "tenant": "Whose credit.",
    "lot": "A lot of the tenant.",
    "reservation": "A reservation of the tenant.",
    "conflict": "The id of a conflict.",
}
_HEADERS: Final[dict[str, tuple[str, Schema]]] = {
    wire.CREDIT_CLOCK: (
        "The token to send so as to see at least this reply.",
        msgspec.json.schema(wire.ClockToken),
    ),
    wire.CREDIT_ENTRY: (
        "The entry that the write made, `<replica>:<number>`.",
        {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]*/[0-9a-z]+:[1-9][0-9]*$"},
    ),
    wire.IDEMPOTENT_REPLAYED: (
        "There when the key was used before, and this is its first reply again.",
        {"type": "string", "const": "true"},
    ),
}
_ALWAYS: Final = frozenset({wire.CREDIT_CLOCK, wire.CREDIT_ENTRY})


def with_document(routes: Iterable[Route]) -> list[Route]:
    """The routes, and one that serves their description."""
    described = list(routes)

    @cache
    def content() -> bytes:
        return msgspec.json.encode(document(described))

    async def serve(_: web.BaseRequest, __: tuple[str, ...], ___: str) -> web.Response:
        return web.Response(body=content(), headers={"Content-Type": JSON})

    described.append(Route("GET", PATH, serve, Description(summary=_SUMMARY)))
    return described


def document(routes: Iterable[Route]) -> Schema:
    """The OpenAPI document of these routes."""
    routes = sorted(routes, key=attrgetter("path"))
    types = [
        kind
        for route in routes
        for kind in (*_bodies(route.about), route.about.reply, route.about.unready)
        if kind is not None
    ]
    queries = {query.__name__: query for route in routes if (query := route.about.query) and query.__struct_fields__}
    # Their fields are told as parameters; what those are made of is referred to, as in bodies.
    of_queries = {name: told for name, told in components(queries.values(), ()).items() if name not in queries}
    paths = {path: dict(_operations(list(found), routes)) for path, found in groupby(routes, key=attrgetter("path"))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "creditmesh",
            "version": version("creditmesh"),
            "description": "A multi-region, active-active store for prepaid GPU credit. Every region serves the same."
            " Whatever is refused is a problem document, also what is no operation of this document: 400 for what is"
            " no HTTP, 404 for a path that is none, 405 for a method that a path does not take. In JSON an integer has"
            " no fraction or exponent, and no object has a field twice.",
        },
        "paths": paths,
        "components": {"schemas": of_queries | components(types, _kinds(routes))},
    }


def _kinds(routes: Iterable[Route]) -> list[ProblemKind]:
    refused = {kind for route in routes for kind in route.about.refusals}
    return [kind for kind in ProblemKind if kind in refused or kind is ProblemKind.INTERNAL]


def _operations(of_path: list[Route], routes: list[Route]) -> Iterator[tuple[str, Schema]]:
    for route in of_path:
        operation = _operation(route, routes)
        yield route.method.lower(), operation
        if route.method == "GET":
            head = {**operation, "operationId": operation_id("HEAD", route.path), "responses": {}}
            for status, response in operation["responses"].items():
                head["responses"][status] = {name: part for name, part in response.items() if name != "content"}
            yield "head", head


def operation_id(method: str, path: str) -> str:
    """The name of an operation: its method and the fixed parts of its path, ``postTenantReservationsRenew``."""
    parts = path.removeprefix("/v1").replace("/tenants/{tenant}", "/tenant").split("/")
    fixed = [part.partition(".")[0].capitalize() for part in parts if not part.startswith("{")]
    return method.lower() + "".join(fixed) + ("One" if path.endswith("}") else "")


def _operation(route: Route, routes: list[Route]) -> Schema:
    about = route.about
    summary, _, rest = about.summary.partition("\n")
    operation: Schema = {
        "operationId": operation_id(route.method, route.path),
        "summary": summary,
        "parameters": [*_path_parameters(route.path), *_header_parameters(about), *_query_parameters(about)],
        "responses": _responses(route, routes),
    }
    if rest.strip():
        operation["description"] = rest.strip()
    if about.body is not None:
        schemas = msgspec.json.schema_components(_bodies(about))[1]
        operation["requestBody"] = {
            "required": all(_must_say_something(kind, schemas[kind.__name__]) for kind in _bodies(about)),
            "content": {media: {"schema": _body_schema(about.body)} for media in about.body_media or about.media},
        }
    return operation


def _must_say_something(kind: type[wire.Request], schema: Schema) -> bool:
    """Whether no body of this type is empty."""
    forms = kind.together.get("anyOf", ())
    return bool(schema["required"]) or (bool(forms) and all(form["required"] for form in forms))


def _bodies(about: Description) -> tuple[type[wire.Request], ...]:
    """The types that a body may have."""
    match about.body:
        case None:
            return ()
        case Many(kinds):
            return kinds
        case kind:
            return (kind,)


def _body_schema(body: type[wire.Request] | Many) -> Schema:
    if not isinstance(body, Many):
        return reference(body.__name__)
    one = [reference(kind.__name__) for kind in body.kinds]
    return {"oneOf": [*one, {"type": "array", "items": {"oneOf": one}, "minItems": 1, "maxItems": body.most}]}


# -- parameters --------------------------------------------------------------------------------------------------


def _path_parameters(path: str) -> Iterator[Schema]:
    for segment in path.split("/"):
        if segment.startswith("{"):
            name = segment[1:-1]
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": _PATH_NAMES[name],
                "schema": {"type": "string", "pattern": pattern(RULES[name].pattern)},
            }


def _header_parameters(about: Description) -> Iterator[Schema]:
    if about.takes_key:
        yield {
            "name": wire.IDEMPOTENCY_KEY,
            "in": "header",
            "required": True,
            "description": "Names the write: however often and wherever it is sent, it has at most one effect."
            " Printable ASCII without space, bare or quoted.",
            "schema": {"type": "string", "pattern": KEY_PATTERN},
        }
    if about.takes_clock:
        yield {
            "name": wire.CREDIT_CLOCK,
            "in": "header",
            "description": "From an earlier reply of any region: answer only when caught up with it.",
            "schema": msgspec.json.schema(wire.ClockToken),
        }
    if about.takes_event_id:
        yield {
            "name": wire.LAST_EVENT_ID,
            "in": "header",
            "description": "The id of the last event that was read: begin behind it.",
            "schema": ecma(msgspec.json.schema(wire.EventToken)),
        }


def _query_parameters(about: Description) -> Iterator[Schema]:
    if about.query is None or not about.query.__struct_fields__:
        return
    schema = components([about.query], ())[about.query.__name__]
    for name, of_name in schema["properties"].items():
        described = {part: value for part, value in of_name.items() if part not in ("anyOf", "default")}
        # A parameter that is left out is what null is in a body.
        kinds = [kind for kind in of_name.get("anyOf", ()) if kind != {"type": "null"}]
        parameter: Schema = {"name": name, "in": "query", "required": name in schema["required"]}
        text = described.pop("description", None) or next((kind.pop("description", None) for kind in kinds), None)
        if text is not None:
            parameter["description"] = text
        default = {"default": of_name["default"]} if of_name.get("default") is not None else {}
        yield {**parameter, "schema": {**described, **(kinds[0] if kinds else {}), **default}}


# -- replies -----------------------------------------------------------------------------------------------------


def _responses(route: Route, routes: list[Route]) -> Schema:
    about = route.about
    reply: Schema = {
        "description": about.reply.__name__ if about.reply is not None else about.summary,
        "headers": {name: _header(name) for name in about.reply_headers},
        "content": {media: {"schema": _reply_schema(about, media)} for media in about.media},
    }
    links = dict(_links(route, routes))
    if links:
        reply["links"] = links
    responses = {str(about.status): reply, **_problems(about.refusals)}
    if about.unready is not None:
        responses["503"] = {
            "description": TITLES[ProblemKind.NOT_READY],
            "content": {JSON: {"schema": reference(about.unready.__name__)}},
        }
    return responses


def _reply_schema(about: Description, media: str) -> Schema:
    if about.reply is None:
        return {} if media == JSON else {"type": "string"}
    if media == CSV:
        return {"type": "string", "description": "A header, the opening figures, the lines, the closing figures."}
    if media in (NDJSON, EVENT_STREAM):
        lines = {"contentMediaType": media, "contentSchema": reference(about.reply.__name__)}
        each = "one to a line" if media == NDJSON else "each the data of an event"
        return {"type": "string", "description": f"{about.reply.__name__}, {each}", **lines}
    return reference(about.reply.__name__)


def _header(name: str) -> Schema:
    text, schema = _HEADERS[name]
    return {"description": text, "required": name in _ALWAYS, "schema": schema}


def _problems(refusals: Iterable[ProblemKind]) -> dict[str, Any]:
    by_status = sorted({*refusals, ProblemKind.INTERNAL}, key=lambda kind: (STATUS[kind], kind))
    responses = {}
    for status, found in groupby(by_status, key=STATUS.__getitem__):
        kinds = list(found)
        schemas = [reference(problem_name(kind)) for kind in kinds]
        response: Schema = {
            "description": "; ".join(TITLES[kind] for kind in kinds),
            "content": {PROBLEM_JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}},
        }
        if ProblemKind.NOT_READY in kinds:
            response["headers"] = {
                "Retry-After": {
                    "description": "Seconds.", "required": True, "schema": {"const": str(RETRY_AFTER_S)},
                }
            }  # fmt: skip
        responses[str(status)] = response
    return responses


def _links(route: Route, routes: list[Route]) -> Iterator[tuple[str, Schema]]:
    """What can be done next with what the reply names: the operations on ``{lot}`` below where lots are made."""
    for other in routes:
        below = other.path.removeprefix(route.path + "/")
        name = below.partition("}")[0].removeprefix("{")
        reply = route.about.reply
        if below == other.path or reply is None or name not in reply.__struct_fields__:
            continue
        yield (
            operation_id(other.method, other.path),
            {
                "operationId": operation_id(other.method, other.path),
                "parameters": {"tenant": "$request.path.tenant", name: f"$response.body#/{name}"},
            },
        )
