"""The console: one page for those who run the cluster. It asks the node what any other client can ask, and no one else.

The page is three files beside this module, served as they are. The policy that goes with them lets a browser run this
script and no other, and talk to this node alone: whatever names the page shows, nothing in them can become a program.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Final

from aiohttp import web
from msgspec import Struct

from node.api.description import Description, Route

PATH: Final = "/console"

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""An upgraded node serves another script: a browser has to ask each time."""


class Part(Struct, frozen=True):
    """A file of the page."""

    path: str
    file: str
    media: str
    summary: str


PARTS: Final = (
    Part(PATH, "console.html", "text/html", "A page for people: the cluster, tenants, conflicts."),
    Part(f"{PATH}/style.css", "style.css", "text/css", "How that page looks."),
    Part(f"{PATH}/script.js", "script.js", "text/javascript", "What that page does."),
)


def routes() -> Iterator[Route]:
    """The page and its parts."""
    for part in PARTS:
        yield _route(part, files("node.api").joinpath("page", part.file).read_bytes())


def _route(part: Part, content: bytes) -> Route:
    headers = {"Content-Type": f"{part.media}; charset=utf-8", **HEADERS}

    async def serve(_: web.BaseRequest, __: tuple[str, ...], ___: str) -> web.Response:
        return web.Response(body=content, headers=headers)

    return Route("GET", part.path, serve, Description(summary=part.summary, media=(part.media,)))
