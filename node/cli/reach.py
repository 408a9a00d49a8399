"""How a command finds its node, asks it, and prints what comes back.

`on_node` gives a command the options ``--region``, ``--url``, ``--config`` and ``-o``, and hands it one `Node`.
Without any, the node is that of the first region in ./cluster.toml.
"""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from uuid import uuid4

import msgspec
import typer
from rich.console import RenderableType

from creditmesh import Accepted, AsyncClient, CreditmeshError, Retry
from node.cli.exits import USAGE, Stop, stop_for
from node.cli.output import Format, console, print_json
from node.config import ClusterConfig, RegionConfig, load

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

DEFAULT_CONFIG: Final = Path("cluster.toml")
PATIENCE: Final = Retry(attempts=3, first_pause_s=0.1, longest_pause_s=0.5)

Config = Annotated[Path, typer.Option("--config", "-c", help="The cluster's description.", show_default=True)]
Data = Annotated[Path | None, typer.Option("--data", help="Where regions keep their data, in place of the file's.")]


@dataclass(frozen=True, slots=True)
class Node:
    """The node that a command talks to, and how its reply is printed."""

    url: str
    output: Format

    def ask(self, request: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What the node answers. Raises `Stop` for everything else."""
        try:
            return asyncio.run(self._ask(request))
        except CreditmeshError as error:
            raise stop_for(error) from error

    def write(self, key: str | None, request: Callable[[AsyncClient, str], Awaitable[Accepted[R]]]) -> R:
        """The reply to a write under `key`, or a new one. Raises `Stop` for everything else; it names the key."""
        key = key or str(uuid4())
        try:
            return asyncio.run(self._ask(lambda client: request(client, key))).reply
        except CreditmeshError as error:
            raise stop_for(error, key) from error

    def show(self, reply: msgspec.Struct, *shown: RenderableType) -> None:
        """Prints the reply for programs, or what is shown of it to people."""
        if self.output is Format.JSON:
            print_json(reply)
        else:
            console().print(*shown, sep="\n")

    async def _ask(self, request: Callable[[AsyncClient], Awaitable[T]]) -> T:
        async with AsyncClient(self.url, retry=PATIENCE) as client:
            return await request(client)


def region_of(config: ClusterConfig, name: str | None) -> RegionConfig:
    """The region of that name, or the first. Raises `ConfigError`."""
    return config.regions[0] if name is None else config.node(name).region


def url_of(region: RegionConfig) -> str:
    """Where a region's node answers its clients."""
    return f"http://{region.listen}"


def find(region: str | None, url: str | None, config: Path, output: Format) -> Node:
    """The node that the options name. Raises `Stop` and `ConfigError`."""
    if url is not None:
        if region is not None:
            raise Stop(USAGE, "give --region or --url, not both")
        if not url.startswith(("http://", "https://")):
            raise Stop(USAGE, f"--url {url}: must begin with http:// or https://")
        return Node(url, output)
    return Node(url_of(region_of(load(config), region)), output)


_OPTIONS: Final = (
    inspect.Parameter(
        "region",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None, typer.Option("--region", "-r", help="The region to ask. Default: the first one.")
        ],
    ),
    inspect.Parameter(
        "url",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, typer.Option("--url", help="The node to ask, in place of a region.")],
    ),
    inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_CONFIG, annotation=Config),
    inspect.Parameter(
        "output",
        inspect.Parameter.KEYWORD_ONLY,
        default=Format.TABLE,
        annotation=Annotated[Format, typer.Option("--output", "-o", help="For people, or for programs.")],
    ),
)


def on_node(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a `Node`, as one that has the options to find it instead."""
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def found(*args: Any, region: str | None, url: str | None, config: Path, output: Format, **given: Any) -> None:
        command(find(region, url, config, output), *args, **given)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [*keyword_only, *_OPTIONS]
    found.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    found.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return found
