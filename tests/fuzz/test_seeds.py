"""Where fuzzing begins is right, and has something of everything: what breaks it is then near to what is taken."""

from typing import get_args

from ledger.operation import Acknowledge, Compensation, Grant, Operation
from node.api.batch import OPERATIONS, Understood, understood
from node.api.requests import Body
from node.api.usage_events import EVENTS, Event, event_in
from node.api.writes import WRITES
from node.store.journal import checked_runs
from replication.codec import Frame, decode, with_checksum
from replication.entry import open_sealed
from tests.fuzz.seeds import right
from tests.fuzz.targets import ATTRIBUTES, OTHER_BODIES, ROWS, read_row, resealed

ALIKE = {"Release", "Lapse", "Debit", "Refund", "Revoke", "Expire"}
"""Operations that have the same kinds of field as others."""


def test_there_is_a_frame_of_every_kind() -> None:
    assert {type(decode(with_checksum(seed))) for seed in right("frames")} == set(get_args(Frame))


def test_there_is_an_entry_of_every_kind() -> None:
    contents = [open_sealed(resealed(seed))[0].content for seed in right("entries")]
    kinds = {type(content).__name__ for content in contents}
    assert kinds | ALIKE == {kind.__name__ for kind in (*get_args(Operation), Compensation, Acknowledge)}
    assert any(isinstance(content, Grant) and content.shares for content in contents)


def test_there_is_a_row_of_every_kind() -> None:
    *rows, commit = right("rows")
    assert [row[0] for row in rows] == list(range(len(ROWS)))
    for row in rows:
        read_row(row[0], row[1:])
    assert checked_runs(commit[1:])


def test_there_is_a_body_of_every_kind_in_both_forms() -> None:
    kinds = [*(write.request for write in WRITES.values()), *OTHER_BODIES]
    seeds = right("bodies")
    for seed in seeds:
        Body(kinds[seed[0] >> 1]).decode(seed[1:], packed=bool(seed[0] & 1))
    assert {seed[0] for seed in seeds} == set(range(2 * len(kinds)))


def test_there_are_events_and_operations_that_make_sense() -> None:
    for seed in right("many"):
        mode, content = seed[0], seed[1:]
        packed = bool(mode & 1)
        if mode & 2:
            items, _ = OPERATIONS.decode(content, packed=packed)
            assert all(isinstance(understood(item, packed), Understood) for item in items)
        else:
            items, _ = EVENTS.decode(content, packed=packed)
            attributes = ATTRIBUTES if mode & 4 else {}
            assert all(isinstance(event_in(item, attributes, packed), Event) for item in items)
