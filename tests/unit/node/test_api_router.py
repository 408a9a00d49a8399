"""Which route a path finds, and what is said of a path that finds none."""

from typing import Any

import pytest

from creditmesh.wire import ProblemKind
from node.api.problems import Refused
from node.api.router import Handler, Router


def handler() -> Handler:
    async def answer(*_: Any) -> Any:
        raise AssertionError

    return answer


LIST, ONE, MAKE, RENEW, FIXED = (handler() for _ in range(5))


@pytest.fixture
def router() -> Router:
    router = Router()
    router.add("GET", "/t/{tenant}/reservations", LIST)
    router.add("POST", "/t/{tenant}/reservations", MAKE)
    router.add("GET", "/t/{tenant}/reservations/{reservation}", ONE)
    router.add("POST", "/t/{tenant}/reservations/{reservation}/renew", RENEW)
    router.add("GET", "/healthz", FIXED)
    return router


@pytest.mark.parametrize(
    ("method", "path", "expected", "ids"),
    [
        ("GET", "/healthz", FIXED, ()),
        ("HEAD", "/healthz", FIXED, ()),
        ("GET", "/t/acme/reservations", LIST, ("acme",)),
        ("POST", "/t/acme/reservations", MAKE, ("acme",)),
        ("GET", "/t/acme/reservations/r1", ONE, ("acme", "r1")),
        ("POST", "/t/acme/reservations/r1/renew", RENEW, ("acme", "r1")),
        ("GET", "/t/reservations/reservations/renew", ONE, ("reservations", "renew")),
        ("GET", "/t/a%3Ab%40c/reservations/r%2e1", ONE, ("a:b@c", "r.1")),
    ],
)
def test_a_path_finds_its_route_and_its_ids(
    router: Router, method: str, path: str, expected: Handler, ids: tuple[str, ...]
) -> None:
    assert router.find(method, path) == (expected, ids)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/t", "/t/acme", "/t/acme/", "/t/acme/reservations/r1/renew/x", "/healthz/"],
)
def test_another_path_finds_nothing(router: Router, path: str) -> None:
    with pytest.raises(Refused) as caught:
        router.find("GET", path)
    assert caught.value.kind is ProblemKind.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/t/acme/reservations", "GET, HEAD, POST"),
        ("GET", "/t/acme/reservations/r1/renew", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_ones_there_are(router: Router, method: str, path: str, allowed: str) -> None:
    with pytest.raises(Refused) as caught:
        router.find(method, path)
    assert caught.value.kind is ProblemKind.METHOD_NOT_ALLOWED
    assert caught.value.headers == {"Allow": allowed}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/t/a%20b/reservations", "tenant"),
        ("/t/a%2Fb/reservations", "tenant"),
        ("/t/%FF/reservations", "tenant"),
        ("/t/%00/reservations", "tenant"),
        ("/t//reservations", "tenant"),
        ("/t/acme/reservations/", "reservation"),
        ("/t/" + 65 * "x" + "/reservations", "tenant"),
        ("/t/acme/reservations/.hidden", "reservation"),
        ("/t/acme/reservations/a%0A", "reservation"),
        ("/t/acme/reservations/" + 129 * "x", "reservation"),
    ],
)
def test_an_id_that_is_none_is_refused_by_its_name(router: Router, path: str, field: str) -> None:
    with pytest.raises(Refused) as caught:
        router.find("GET", path)
    assert caught.value.kind is ProblemKind.INVALID_REQUEST
    assert caught.value.fields["field"] == field


def test_two_routes_for_the_same_are_a_mistake(router: Router) -> None:
    with pytest.raises(AssertionError, match="two routes"):
        router.add("GET", "/healthz", FIXED)
