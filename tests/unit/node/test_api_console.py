"""The console as it is served: whole, and so that nothing that it shows can become a program in it."""

import re

from node.api.console import HEADERS, PARTS, PATH
from tests.unit.node.in_process import Browser

HTML, CSS, JS = (part.path for part in PARTS)


async def content(browser: Browser, path: str) -> str:
    return (await browser.get(path)).body.decode()


async def test_each_part_says_what_it_is_and_what_it_may_do(west: Browser) -> None:
    for part in PARTS:
        answer = await west.get(part.path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{part.media}; charset=utf-8")
        assert answer.body
        assert HEADERS.items() <= answer.headers.items()
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_brings_all_that_it_needs_and_nothing_stands_in_it_that_the_policy_forbids(
    west: Browser,
) -> None:
    page = await content(west, PATH)
    assert set(re.findall(r'(?:href|src)="([^"]+)"', page)) == {"data:,", CSS[1:], JS[1:]}
    assert not re.findall(r"<style|<script(?! src=)|\sstyle=|\son[a-z]+=|https?:", page)
    assert "@import" not in await content(west, CSS)
    assert "url(" not in await content(west, CSS)


async def test_what_others_have_named_is_never_markup(west: Browser) -> None:
    script = await content(west, JS)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|DOMParser|srcdoc", script)


async def test_the_script_and_the_page_speak_of_the_same_elements(west: Browser) -> None:
    page, script = await content(west, PATH), await content(west, JS)
    named = re.findall(r'\bid="([^"]+)"', page)
    labels = set(re.findall(r'aria-labelledby="([^"]+)"', page))
    assert len(named) == len(set(named))
    assert set(named) == set(re.findall(r'\$\("([^"]+)"\)', script)) | labels


async def test_what_it_asks_the_node_is_served(west: Browser) -> None:
    script = await content(west, JS)
    served = (await west.get("/openapi.json")).json["paths"]
    asked = set(re.findall(r'["`](v1/[a-z/]+)', script))
    assert asked == {"v1/cluster", "v1/tenants/", "v1/conflicts", "v1/conflicts/", "v1/conflicts/stream"}
    assert all(any(path.startswith("/" + each) for path in served) for each in asked)
