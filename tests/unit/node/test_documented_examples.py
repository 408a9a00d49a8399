"""The examples of the HTTP page are replies of this version: no field is missing from them, and none was dropped."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import pytest

from creditmesh import wire
from node.api.description import Route
from node.api.server import routes
from tests.unit.node.in_process import InProcessNode, config

PAGE: Final = Path(__file__).parents[3] / "docs" / "operating" / "http-api.md"


def examples() -> Iterator[tuple[str, str]]:
    """Each curl command of the page, with the first line of JSON that follows it."""
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        for shown in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *output = re.split(r"\nEND\n" if "<<'END'" in shown else r"\n(?=\{|HTTP/)", shown, maxsplit=1)
            reply = next((line for line in "".join(output).splitlines() if line.startswith("{")), None)
            if reply is not None:
                yield command, reply


def asked(command: str) -> tuple[str, str]:
    """The method and the path of a curl command."""
    words = shlex.split(command.partition("<<")[0])
    (url,) = [word for word in words if word.startswith("http://")]
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
    return method, urlsplit(url).path


def route_of(method: str, path: str) -> Route:
    """The route that answers."""
    fitting = [
        route
        for route in routes(InProcessNode(config("us-east", ("eu-west",), chaos=True)))
        if route.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
    ]
    return min(fitting, key=lambda route: route.path.count("{"))


@pytest.mark.parametrize(("command", "reply"), list(examples()))
def test_an_example_has_the_fields_of_its_reply(command: str, reply: str) -> None:
    about = route_of(*asked(command)).about
    assert about.reply is not None
    shown = json.loads(reply)
    assert json.loads(msgspec.json.encode(msgspec.json.decode(reply, type=about.reply))) == shown


def test_there_are_many() -> None:
    assert len(list(examples())) > 30


@pytest.mark.parametrize("line", re.findall(r'^\{"type":.*$', PAGE.read_text(), flags=re.M))
def test_a_problem_is_one(line: str) -> None:
    problem = msgspec.json.decode(line, type=wire.Problem)
    assert problem.status == wire.STATUS[wire.ProblemKind(problem.kind)]
