"""The JSON Schemas of what goes over the wire, made from the types of `creditmesh.wire`.

msgspec makes the schema of a type; what it does not see is added: the docstrings of fields, which stand below them in
the source, and regular expressions in the dialect of JSON Schema (ECMA 262), which knows no ``\\Z``.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import msgspec
from msgspec import Struct

from creditmesh import wire
from creditmesh.wire import ProblemKind
from node.api.description import told_by
from node.api.problems import FIELDS, TITLES

Schema = dict[str, Any]

TEMPLATE: Final = "#/components/schemas/{name}"


def components(types: Iterable[type[Struct]], kinds: Iterable[ProblemKind]) -> dict[str, Schema]:
    """The schemas by name of `types`, of all that they are made of, and of some kinds of problem."""
    found: dict[str, Schema] = msgspec.json.schema_components([*types, wire.Problem], ref_template=TEMPLATE)[1]
    for name, schema in found.items():
        described = getattr(wire, name)
        schema["description"] = told_by(described)
        if "properties" in schema:
            _describe_fields(described, schema["properties"])
        if issubclass(described, wire.Request):
            schema |= described.together
    schemas: dict[str, Schema] = {name: ecma(schema) for name, schema in found.items()}
    schemas["Problem"] = _any_problem(schemas["Problem"])
    return schemas | {problem_name(kind): _problem(kind) for kind in kinds}


def reference(name: str) -> Schema:
    """A reference to the schema with this name."""
    return {"$ref": TEMPLATE.format(name=name)}


def problem_name(kind: ProblemKind) -> str:
    """What the schema of a kind of problem is called: ``NotFoundProblem``."""
    return "".join(map(str.capitalize, kind.split("-"))) + "Problem"


def pattern(regex: str) -> str:
    """A regular expression of Python's as ECMA 262 has it."""
    return regex.replace(r"\Z", "$")


def _problem(kind: ProblemKind) -> Schema:
    """What stands in every problem, with the values that it has in this kind, and the kind's own fields."""
    own = FIELDS[kind]
    said = _said_of_fields(wire.Problem)
    return {
        "allOf": [reference("Problem")],
        "title": TITLES[kind],
        "type": "object",
        "properties": {
            "type": {"const": wire.problem_type(kind)},
            "status": {"const": wire.STATUS[kind]},
            **{
                name: msgspec.json.schema(field) | ({"description": said[name]} if name in said else {})
                for name, field in (own.always | own.perhaps).items()
            },
        },
        "required": list(own.always),
    }


def _any_problem(schema: Schema) -> Schema:
    """What all kinds have in common; `wire.Problem` also has the fields that only some have."""
    common = ("type", "title", "status", "detail", "region")
    known = schema["properties"] | {name: {"type": "string"} for name in ("detail", "region")}
    return {**schema, "properties": {name: known[name] for name in common}, "required": list(common)}


# -- what msgspec does not see -----------------------------------------------------------------------------------


def _describe_fields(struct: type[Struct], properties: Schema) -> None:
    said = _said_of_fields(struct)
    for field in msgspec.structs.fields(struct):
        if field.name in said:
            properties[field.encode_name]["description"] = said[field.name]


def _said_of_fields(struct: type) -> Mapping[str, str]:
    """The docstrings of a type's fields, its own and those that it has from others."""
    said: dict[str, str] = {}
    for part in reversed(struct.__mro__):
        if part.__module__.startswith(wire.__name__):
            said |= _docstrings(sys.modules[part.__module__]).get(part.__name__, {})
    return said


@cache
def _docstrings(module: ModuleType) -> Mapping[str, Mapping[str, str]]:
    """By class and attribute: the string that follows the attribute's line."""
    classes = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)]
    return {found.name: dict(_pairs(found.body)) for found in classes}


def _pairs(body: list[ast.stmt]) -> Iterable[tuple[str, str]]:
    for attribute, after in pairwise(body):
        match attribute, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text).replace("``", "`")


def ecma(part: Any) -> Any:
    """A schema with its regular expressions put into the other dialect."""
    if isinstance(part, dict):
        return {
            name: pattern(value) if name == "pattern" and isinstance(value, str) else ecma(value)
            for name, value in part.items()
        }
    return [ecma(item) for item in part] if isinstance(part, list) else part
