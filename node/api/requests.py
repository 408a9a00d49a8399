"""What a request says: its key, its body, its query, its clock token, and the form in which it wants the reply.

Whatever is wrong is refused with the field, header or parameter and the rule that it breaks.
"""

import json
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from msgspec import inspect
from multidict import CIMultiDictProxy

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import KEY_PATTERN, Key, Position
from ledger.statement import LineOrder
from ledger.timeline import BEGINNING
from node.api.facade import Node
from node.api.problems import Refused, invalid, not_ready
from replication.clock import MAX_HLC, MAX_SEQ, REPLICA_PATTERN, TokenError, VectorClock, decode_token

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_MSGPACK_NAMES: Final = frozenset({MSGPACK, "application/x-msgpack", "application/vnd.msgpack"})
_MAX_PARAMETERS: Final = 32

Headers = CIMultiDictProxy[str]
RequestT = TypeVar("RequestT", bound=wire.Request)
ItemT = TypeVar("ItemT")


# -- idempotency key ---------------------------------------------------------------------------------------------

_is_key = re.compile(KEY_PATTERN).match
_quoted = re.compile(r'^"(?P<text>(?:[ !#-\[\]-~]|\\["\\])*)"\Z').match
_escaped = re.compile(r"\\(.)")
_KEY_RULE: Final = "must be 1 to 255 characters of printable ASCII without space, bare or quoted"


def idempotency_key(headers: Headers) -> Key:
    """The key of a write: a structured-field string (RFC 9651, 3.3.3), or the bare characters."""
    given = headers.getall(wire.IDEMPOTENCY_KEY, ())
    if len(given) != 1:
        raise invalid(wire.IDEMPOTENCY_KEY, "is sent more than once" if given else "is required on every write")
    key = given[0]
    if key.startswith('"'):
        quoted = _quoted(key)
        if quoted is None:
            raise invalid(wire.IDEMPOTENCY_KEY, _KEY_RULE)
        key = _escaped.sub(r"\1", quoted["text"])
    if not _is_key(key):
        raise invalid(wire.IDEMPOTENCY_KEY, _KEY_RULE)
    return Key(key)


# -- media types -------------------------------------------------------------------------------------------------


def is_msgpack(headers: Headers, also_json: Collection[str] = ()) -> bool:
    """Whether the body is msgpack, and not JSON or, under another name, `also_json`.

    Raises `Refused` (415) for anything else.
    """
    if "Content-Encoding" in headers:
        raise _unsupported("Content-Encoding", "bodies are taken as they are, not compressed")
    given = headers.get("Content-Type", JSON)
    if given == JSON:
        return False
    media_type = given.partition(";")[0].strip().lower()
    if media_type == JSON or media_type in also_json:
        return False
    if media_type in _MSGPACK_NAMES:
        return True
    names = " or ".join((JSON, *also_json, MSGPACK))
    raise _unsupported("Content-Type", f"a body is {names}, not {media_type}")


def _unsupported(field: str, detail: str) -> Refused:
    return Refused(ProblemKind.UNSUPPORTED_MEDIA_TYPE, detail, {"field": field})


def wants_msgpack(headers: Headers, body_is_msgpack: bool = False) -> bool:
    """Whether the reply is to be msgpack: as ``Accept`` prefers; like the request's body if it leaves that open."""
    accept = headers.get("Accept")
    if accept is None or accept == "*/*":
        return body_is_msgpack
    weights = dict(_weights(accept))
    anything = weights.get("application/*", weights.get("*/*", 0.0))
    packed = max([weights[name] for name in _MSGPACK_NAMES if name in weights], default=anything)
    plain = weights.get(JSON, anything)
    if packed == plain:
        return body_is_msgpack
    return packed > plain


def _weights(accept: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for part in accept.split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        found.append((name, weight))
    return found


# -- body and query ----------------------------------------------------------------------------------------------


class Body(Generic[RequestT]):
    """Reads bodies of one type. An empty body says the same as one without any field; no field stands there twice."""

    __slots__ = ("_json", "_msgpack")

    def __init__(self, request_type: type[RequestT]) -> None:
        self._json = msgspec.json.Decoder(request_type).decode
        self._msgpack = msgspec.msgpack.Decoder(request_type).decode

    def decode(self, content: bytes, packed: bool) -> RequestT:
        """The request in `content`. Raises `Refused`."""
        try:
            if packed:
                request = self._msgpack(content or b"\x80")
                _refuse_twice_packed(content)
            else:
                request = self._json(content or b"{}")
                _refuse_twice(content)
            return request
        except msgspec.ValidationError as error:
            raise fault(error, "body") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _undecodable(error, packed) from None


class Items:
    """Reads bodies of many things, each by itself: one that is wrong spoils none of the others.

    A body is a list, or a single thing, or, with a `name`, an object whose only field has the list.
    """

    __slots__ = ("_most", "_name")

    def __init__(self, most: int, name: str | None = None) -> None:
        self._most = most
        self._name = name

    def decode(self, content: bytes, *, packed: bool) -> tuple[list[msgspec.Raw], bool]:
        """The things, undecoded, and whether it is a single one without a list. Raises `Refused` for anything else."""
        items, fields = (_msgpack_items, _msgpack_fields) if packed else (_json_items, _json_fields)
        try:
            if self._name is None:
                if _is_object(content, packed):
                    return [msgspec.Raw(content)], True
                found = items(content)
            else:
                found = self._named(fields(content), items)
        except msgspec.ValidationError as error:
            raise fault(error, "body") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _undecodable(error, packed) from None
        if not 1 <= len(found) <= self._most:
            raise invalid(self._name or "body", f"must be a list of 1 to {self._most}")
        return found, False

    def _named(
        self, given: dict[str, msgspec.Raw], items: Callable[[bytes | msgspec.Raw], list[msgspec.Raw]]
    ) -> list[msgspec.Raw]:
        assert self._name is not None
        for field in given:
            if field != self._name:
                raise invalid(field[:_MOST_QUOTED], _KEY_RULES["contains unknown"])
        if self._name not in given:
            raise invalid(self._name, _KEY_RULES["missing required"])
        try:
            return items(given[self._name])
        except msgspec.ValidationError as error:
            raise fault(error, self._name) from None


class Item(Generic[ItemT]):
    """Reads one of many."""

    __slots__ = ("_json", "_msgpack", "_what")

    def __init__(self, item_type: type[ItemT], what: str) -> None:
        self._json = msgspec.json.Decoder(item_type).decode
        self._msgpack = msgspec.msgpack.Decoder(item_type).decode
        self._what = what

    def decode(self, item: msgspec.Raw, *, packed: bool) -> ItemT:
        """The thing. Raises `Refused`."""
        content = bytes(item)
        try:
            if packed:
                decoded = self._msgpack(content)
                _refuse_twice_packed(content)
            else:
                decoded = self._json(content)
                _refuse_twice(content)
        except msgspec.ValidationError as error:
            raise fault(error, self._what) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _undecodable(error, packed) from None
        return decoded


def _undecodable(error: Exception, packed: bool) -> Refused:
    return invalid("body", f"is not {'msgpack' if packed else 'JSON'}: {error}")


def _is_object(content: bytes, packed: bool) -> bool:
    if packed:
        return content[:1] in _MSGPACK_MAPS
    return content.lstrip(_JSON_SPACE)[:1] == b"{"


_JSON_SPACE: Final = b" \t\r\n"
_MSGPACK_MAPS: Final = frozenset(bytes([first]) for first in (*range(0x80, 0x90), 0xDE, 0xDF))
_json_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_msgpack_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_json_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_msgpack_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def _refuse_twice(content: bytes) -> None:
    """Refuse a field that stands there twice: decoders take the last one, and whoever checked it took the first.

    `content` has been decoded, so it is JSON. Every field has a colon of its own, so where there are no more colons
    than different fields there is nothing to look for; more of them may stand in texts, and only then it is read again.
    """
    colons = content.count(b":")
    if colons > 1 and colons > len(_json_fields(content)):
        json.loads(content, object_pairs_hook=_once, parse_int=str, parse_float=str)


def _refuse_twice_packed(content: bytes) -> None:
    """As `_refuse_twice`, of a map of msgpack whose first byte tells its size, or that the next ones tell it."""
    if not content:
        return
    first = content[0]
    width = {0xDE: 2, 0xDF: 4}.get(first, 0)
    size = int.from_bytes(content[1 : 1 + width], "big") if width else first & 0x0F
    if size > 1 and size > len(_msgpack_fields(content)):
        raise invalid("body", "has a field twice")


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid(name, "is given more than once")
        seen.add(name)


class Query(Generic[RequestT]):
    """Reads query strings of one type; numbers and truth values are read as such where the type wants them."""

    __slots__ = ("_flags", "_numbers", "_type")

    def __init__(self, request_type: type[RequestT]) -> None:
        self._type = request_type
        struct = inspect.type_info(request_type)
        assert isinstance(struct, inspect.StructType)
        self._numbers = {field.encode_name for field in struct.fields if _takes(field.type, inspect.IntType)}
        self._flags = {field.encode_name for field in struct.fields if _takes(field.type, inspect.BoolType)}

    def decode(self, query: str) -> RequestT:
        """The request in a query string. Raises `Refused`."""
        if not query.isascii():
            raise invalid("query", "must have what is not ASCII percent-encoded")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS) if query else []
        except ValueError:
            raise invalid("query", f"must have at most {_MAX_PARAMETERS} parameters") from None
        given: dict[str, Any] = {}
        for name, text in pairs:
            if name in given:
                raise invalid(name, "is given more than once")
            given[name] = self._value(name, text)
        try:
            return msgspec.convert(given, self._type)
        except msgspec.ValidationError as error:
            raise fault(error, "query") from None

    def _value(self, name: str, text: str) -> str | int | bool:
        if name in self._numbers and re.fullmatch(r"-?[0-9]{1,20}", text):
            return int(text)
        if name in self._flags and text in ("true", "false"):
            return text == "true"
        return text


def _takes(kind: inspect.Type, wanted: type[inspect.Type]) -> bool:
    match kind:
        case inspect.UnionType(types=kinds):
            return any(_takes(part, wanted) for part in kinds)
        case inspect.Metadata(type=inner):
            return _takes(inner, wanted)
        case _:
            return isinstance(kind, wanted)


_AT: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<at>[^`]*)`$")
_KEYED: Final = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<key>.*?)`( - at |$)", re.S)
_MOST_QUOTED: Final = 200
"""Characters of a field's name that a refusal says back: a body may be one long name."""
_KEY_RULES: Final = {"contains unknown": "is not known", "missing required": "is required"}


def fault(error: msgspec.ValidationError, whole: str) -> Refused:
    """The field and the rule, from what msgspec says; `whole` names what is at fault when no field is."""
    message = str(error)
    keyed = _KEYED.match(message)
    if keyed is not None:
        return invalid(keyed["key"][:_MOST_QUOTED], _KEY_RULES[keyed["what"]])
    found = _AT.search(message)
    rule = message if found is None else message[: found.start()]
    at = "" if found is None else found["at"]
    if isinstance(error.__cause__, ValueError):
        # Said by the request's type itself, or by that of a part: the first word is the field.
        field, _, rule = rule.partition(" ")
        return invalid(f"{at}.{field}" if at else field, rule)
    return invalid(at or whole, f"is not right: {rule[0].lower()}{rule[1:]}")


# -- clocks and places -------------------------------------------------------------------------------------------


def clock_token(token: str, field: str) -> VectorClock:
    """The clock in a token."""
    try:
        return decode_token(token)
    except TokenError as error:
        raise invalid(field, f"is {error}") from None


async def wait_for_clock(node: Node, headers: Headers) -> None:
    """Return when the node has caught up with the request's ``Credit-Clock``; refuse (503) if it does not in time."""
    token = headers.get(wire.CREDIT_CLOCK)
    if token is None:
        return
    clock = clock_token(token, wire.CREDIT_CLOCK)
    if not await node.caught_up(clock, node.config.limits.clock_wait_ms):
        raise not_ready(f"region {node.name} has not caught up with {wire.CREDIT_CLOCK} yet")


_place = re.compile(r"^([0-9]{1,19}):([^:]*):([0-9]{1,16})\Z").match
_is_replica = re.compile(REPLICA_PATTERN).match


def place_token(place: Position) -> str:
    """A place in canonical order as an opaque word: where the next page starts."""
    return f"{place.hlc}:{place.region}/{place.boot}:{place.seq}"


def place_in(token: str | None, first: Position) -> Position:
    """The place in a page's ``after``; `first` for the first page."""
    if token is None:
        return first
    found = _place(token)
    if found is None or not _is_replica(found[2]) or int(found[1]) > MAX_HLC or int(found[3]) > MAX_SEQ:
        raise _no_place()
    region, _, boot = found[2].partition("/")
    return Position(int(found[1]), region, boot, int(found[3]))


_line = re.compile(r"^([0-9]{1,15}):([0-2]):(.*)\Z").match


def line_token(line: LineOrder) -> str:
    """A line's place in a statement as an opaque word: where the next page starts."""
    return f"{line.at}:{line.rank}:{place_token(line.place)}"


def line_in(token: str | None) -> LineOrder:
    """The line in a page's ``after``; before every line for the first page."""
    if token is None:
        return LineOrder(-1, 0, BEGINNING)
    found = _line(token)
    if found is None:
        raise _no_place()
    return LineOrder(int(found[1]), int(found[2]), place_in(found[3], BEGINNING))


def _no_place() -> Refused:
    return invalid("after", "is not what a page said under next")


async def read_body(request: web.BaseRequest, most: int) -> bytes:
    """All of the body, if it has at most so many bytes. What says its length is refused before it is read."""
    if (request.content_length or 0) > most:
        raise _too_long(most)
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_long(most) from None
    except web.RequestPayloadError:
        raise invalid("body", "ends too early, or is not framed as its headers say") from None
    if len(content) > most:
        raise _too_long(most)
    return content


def _too_long(most: int) -> Refused:
    return Refused(ProblemKind.PAYLOAD_TOO_LARGE, f"a body has at most {most} bytes", {"field": "body"})
