"""Requests of many: which of the items keep to the served document, and so may be refused for their meaning only.

Where the document leaves open what an item has inside (the ``body`` of an operation in a batch, the ``data`` of a
CloudEvent), that is held against the schema of what it stands for.
"""

from typing import Any, Final

import jsonschema_rs

from creditmesh import wire
from node.api.writes import WRITES

BATCH: Final = "/v1/batch"
EVENTS: Final = "/v1/usage-events"

_EVENTS: Final = (wire.JobStarted, wire.Heartbeat, wire.Interval, wire.JobFinished)
_TIMED_BY: Final = {"job_started": "at", "heartbeat": "at", "usage": "end", "job_finished": "end"}
_SAID_BY_ATTRIBUTES: Final = frozenset(("id", "tenant", "type"))


class Judge:
    """Holds items against a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def which_are_right(self, path: str, body: Any) -> list[bool] | None:
        """Of each item of the body of a request of many, whether it is; None if the body is no list of items."""
        items = body.get("operations") if path == BATCH and isinstance(body, dict) else body
        if not isinstance(items, list):
            return None
        return [self.is_right(path, item) for item in items]

    def is_right(self, path: str, item: Any) -> bool:
        """Whether an item keeps to the document, and what is inside of it too."""
        return (self._is_operation if path == BATCH else self._is_event)(_as_json_has_it(item))

    def _is_operation(self, item: Any) -> bool:
        if not self._is(wire.BatchOperation, item):
            return False
        write = WRITES[wire.BatchKind(item["operation"])]
        has_id = item.get("id") is not None
        return has_id == (write.ids > 1) and self._is(write.request, item.get("body", {}))

    def _is_event(self, item: Any) -> bool:
        if isinstance(item, dict) and "specversion" in item:
            if not self._is(wire.CloudEvent, item) or _SAID_BY_ATTRIBUTES & item["data"].keys():
                return False
            item = _inside(item)
        return any(self._is(kind, item) for kind in _EVENTS)

    def _is(self, kind: type[wire.Request], value: Any) -> bool:
        name = kind.__name__
        if name not in self._validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": self._components}
            self._validators[name] = jsonschema_rs.Draft202012Validator(schema)
        return self._validators[name].is_valid(value)


def _inside(event: dict[str, Any]) -> dict[str, Any]:
    """The event that a CloudEvent tells."""
    kind = event["type"].rpartition(".")[2]
    own = {**event["data"], "id": event["id"], "tenant": event["subject"], "type": kind}
    if event.get("time") is not None:
        # What time that is does not matter to its form.
        own.setdefault(_TIMED_BY[kind], 0)
    return own


def _as_json_has_it(value: Any) -> Any:
    """A value in which 60.0 is no integer: to JSON Schema it is one, but no client writes it so."""
    match value:
        case float():
            return value + 0.5
        case dict():
            return {name: _as_json_has_it(part) for name, part in value.items()}
        case list():
            return [_as_json_has_it(part) for part in value]
        case _:
            return value
