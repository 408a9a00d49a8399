"""The journal: commits of runs, entries found by their dots with their whole clocks, pages in causal order."""

from contextlib import suppress

import pytest

from ledger.ids import ClaimId, TenantId
from ledger.operation import Release
from ledger.posting import Outcome
from node.store.errors import DamagedStore
from node.store.journal import Journal, Run, filed_of
from node.store.kv import MemoryDisk, Overlay, Table, checked
from node.store.rows import number_key, pack, unpack
from replication.clock import VectorClock
from replication.entry import VERSION, Entry, LogHead, hash_of, seal
from replication.filed import Filed


class Writer:
    """Makes the entries of several logs and journals them, commit by commit."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.overlay = Overlay(self.disk)
        self.journal = Journal(self.overlay)
        self.heads: dict[str, LogHead] = {}
        self.sealed: dict[tuple[str, int], bytes] = {}

    def add(self, replica: str, delta: VectorClock | None = None) -> Filed:
        """The next entry of a log, which had learnt `delta` since the one before."""
        head = self.heads.setdefault(replica, LogHead(replica))
        entry = Entry(
            VERSION, replica, head.seq + 1, 1000 + len(self.sealed), delta or {}, TenantId("t"), None, None,
            Release(ClaimId("c")), {}, Outcome.CLOSED, None, None, head.hash,
        )  # fmt: skip
        sealed = seal(entry)
        others = head.extend(entry, hash_of(sealed))
        filed = Filed(entry, entry.position, others, self.journal.next_commit)
        self.journal.add(filed, sealed)
        self.sealed[replica, entry.seq] = sealed
        return filed

    def commit(self) -> int:
        """Close the commit, and let it land."""
        commit = self.journal.close_commit()
        self.disk.write(self.overlay.seal())
        self.overlay.landed()
        self.journal.durable_commit = commit
        return commit

    def runs(self, commit: int) -> list[tuple[str, int, VectorClock, int]]:
        """The runs of a commit as they are on disk: log, first number, what they had seen, how many entries."""
        value = Overlay(self.disk).get(Table.LOG, number_key(commit))
        assert value is not None
        return [(replica, first, others, len(entries)) for replica, first, others, entries in unpack(value)]

    def put(self, value: bytes) -> None:
        """Write commit 1 anew, with the checksum that belongs to it."""
        self.disk.write([(Table.LOG, number_key(1), checked(Table.LOG, number_key(1), value))])

    def reopened(self) -> Journal:
        """The journal as the next boot finds it."""
        return Journal(Overlay(self.disk))

    def dots(self, page: list[tuple[str, int, bytes]]) -> list[tuple[str, int]]:
        """The dots of a page, whose bytes are checked."""
        assert all(self.sealed[replica, seq] == sealed for replica, seq, sealed in page)
        return [(replica, seq) for replica, seq, _ in page]


class TestCommits:
    def test_an_empty_journal_begins_with_commit_1(self) -> None:
        journal = Writer().journal
        assert (journal.next_commit, journal.durable_commit, journal.open_count) == (1, 0, 0)
        assert (journal.find("eu/b1", 1), journal.sealed("eu/b1", 1), journal.commit_of("eu/b1", 1)) == (None,) * 3
        assert list(journal.replay(0)) == []

    def test_consecutive_entries_that_had_seen_the_same_are_one_run(self) -> None:
        writer = Writer()
        for _ in range(3):
            writer.add("eu/b1")
        assert writer.commit() == 1
        assert writer.runs(1) == [("eu/b1", 1, {}, 3)]

    def test_a_run_breaks_where_something_new_was_learnt(self) -> None:
        writer = Writer()
        writer.add("eu/b1")
        writer.add("eu/b1", {"us/b1": 4})
        writer.add("eu/b1")
        writer.add("eu/b1", {"us/b1": 5, "ap/b1": 1})
        writer.commit()
        assert writer.runs(1) == [
            ("eu/b1", 1, {}, 1),
            ("eu/b1", 2, {"us/b1": 4}, 2),
            ("eu/b1", 4, {"us/b1": 5, "ap/b1": 1}, 1),
        ]

    def test_a_run_breaks_where_another_log_comes_between(self) -> None:
        writer = Writer()
        for replica in ("eu/b1", "eu/b1", "us/b1", "eu/b1"):
            writer.add(replica)
        writer.commit()
        assert writer.runs(1) == [("eu/b1", 1, {}, 2), ("us/b1", 1, {}, 1), ("eu/b1", 3, {}, 1)]
        assert len(writer.disk.scan(Table.DOTS, b"", None, 10)) == 2, "one row for each log is enough to find them"

    def test_a_commit_begins_a_new_run(self) -> None:
        writer = Writer()
        writer.add("eu/b1", {"us/b1": 4})
        writer.commit()
        writer.add("eu/b1")
        assert writer.commit() == 2
        assert writer.runs(2) == [("eu/b1", 2, {"us/b1": 4}, 1)]

    def test_what_is_open_is_counted_until_the_commit_is_closed(self) -> None:
        writer = Writer()
        writer.add("eu/b1")
        writer.add("us/b1")
        assert (writer.journal.open_count, writer.journal.open_replicas()) == (2, ["eu/b1", "us/b1"])
        writer.commit()
        assert (writer.journal.open_count, writer.journal.open_replicas()) == (0, [])

    def test_the_next_boot_goes_on_behind_the_last_commit(self) -> None:
        writer = Writer()
        writer.add("eu/b1")
        writer.commit()
        writer.add("eu/b1")
        writer.commit()
        journal = writer.reopened()
        assert (journal.next_commit, journal.durable_commit) == (3, 2)


class TestFind:
    def writer(self) -> Writer:
        writer = Writer()
        writer.add("us/b1")
        writer.add("eu/b1", {"us/b1": 1})
        writer.add("eu/b1")
        writer.commit()
        writer.add("us/b1")
        writer.add("eu/b1")
        writer.add("us/b1", {"eu/b1": 3})
        writer.add("eu/b1", {"us/b1": 3})
        writer.commit()
        return writer

    @pytest.mark.parametrize(
        ("replica", "seq", "clock", "commit"),
        [
            ("us/b1", 1, {"us/b1": 1}, 1),
            ("eu/b1", 1, {"us/b1": 1, "eu/b1": 1}, 1),
            ("eu/b1", 2, {"us/b1": 1, "eu/b1": 2}, 1),
            ("us/b1", 2, {"us/b1": 2}, 2),
            ("eu/b1", 3, {"us/b1": 1, "eu/b1": 3}, 2),
            ("us/b1", 3, {"us/b1": 3, "eu/b1": 3}, 2),
            ("eu/b1", 4, {"us/b1": 3, "eu/b1": 4}, 2),
        ],
    )
    def test_an_entry_is_found_by_its_dot_with_its_whole_clock(
        self, replica: str, seq: int, clock: VectorClock, commit: int
    ) -> None:
        writer = self.writer()
        for journal in (writer.journal, writer.reopened()):
            filed = journal.find(replica, seq)
            assert filed is not None
            assert (filed.dot, filed.clock, filed.commit) == ((replica, seq), clock, commit)
            assert filed.position == filed.entry.position
            assert journal.sealed(replica, seq) == writer.sealed[replica, seq]
            assert journal.commit_of(replica, seq) == commit

    @pytest.mark.parametrize(("replica", "seq"), [("eu/b1", 5), ("us/b1", 4), ("us/b", 1), ("us/b12", 1), ("ap/b1", 1)])
    def test_what_is_not_there_is_not_found(self, replica: str, seq: int) -> None:
        journal = self.writer().reopened()
        assert journal.find(replica, seq) is None
        assert journal.sealed(replica, seq) is None

    def test_an_entry_of_the_open_commit_is_found_too_but_its_bytes_are_not_given_out(self) -> None:
        writer = self.writer()
        filed = writer.add("eu/b1")
        assert writer.journal.find("eu/b1", 5) is filed
        assert writer.journal.sealed("eu/b1", 5) is None
        writer.commit()
        assert writer.journal.find("eu/b1", 5) == filed
        assert writer.journal.sealed("eu/b1", 5) == writer.sealed["eu/b1", 5]

    def test_an_entry_in_flight_is_found(self) -> None:
        writer = self.writer()
        filed = writer.add("eu/b1")
        writer.journal.close_commit()
        writer.overlay.seal()
        assert writer.journal.find("eu/b1", 5) == filed
        assert writer.reopened().find("eu/b1", 5) is None

    def test_a_journal_reads_more_commits_than_it_remembers(self) -> None:
        writer = Writer()
        for _ in range(600):
            writer.add("eu/b1")
            writer.commit()
        assert len(writer.journal._recent) == 512
        first = writer.journal.find("eu/b1", 1)
        assert first is not None
        assert first.commit == 1


class TestReplay:
    def test_commits_come_in_order_behind_the_one_named(self) -> None:
        writer = Writer()
        for _ in range(150):
            writer.add("eu/b1")
            writer.commit()
        journal = writer.reopened()
        assert [commit for commit, _ in journal.replay(0)] == list(range(1, 151))
        assert [commit for commit, _ in journal.replay(147)] == [148, 149, 150]
        assert list(journal.replay(150)) == []

    def test_a_run_is_filed_entry_by_entry_with_the_hashes(self) -> None:
        writer = Writer()
        filed = [writer.add("eu/b1", {"us/b1": 4}), writer.add("eu/b1")]
        writer.commit()
        ((commit, (run,)),) = writer.reopened().replay(0)
        assert list(filed_of(run, commit)) == [(each, hash_of(writer.sealed[each.dot])) for each in filed]

    def test_it_reads_the_disk_whatever_is_remembered(self) -> None:
        writer = Writer()
        writer.add("eu/b1")
        writer.commit()
        writer.put(pack([]))
        assert list(writer.journal.replay(0)) == [(1, [])]
        assert writer.journal.find("eu/b1", 1) is not None


class TestDamage:
    def writer(self) -> Writer:
        writer = Writer()
        writer.add("eu/b1")
        writer.add("eu/b1")
        writer.commit()
        return writer

    @pytest.mark.parametrize("byte", [0, 5, 20, -1, -40])
    def test_a_flipped_bit_is_never_taken_for_an_entry(self, byte: int) -> None:
        writer = self.writer()
        journal = writer.reopened()
        writer.disk.damage(Table.LOG, number_key(1), 8 * byte + 6)
        found = None
        with suppress(DamagedStore):
            found = journal.find("eu/b1", 2)
        assert found is None

    @pytest.mark.parametrize(
        "value", [b"", b"\xc1", pack(7), pack("no"), pack([["eu/b1", 1, {}]]), pack([[1, 2, 3, 4]])]
    )
    def test_what_is_no_commit_is_damage(self, value: bytes) -> None:
        writer = self.writer()
        writer.put(value)
        with pytest.raises(DamagedStore, match="commit 1 of the journal is not what was written"):
            writer.reopened().runs(1)
        with pytest.raises(DamagedStore, match="commit 1 of the journal"):
            list(writer.reopened().replay(0))

    def test_a_cut_off_entry_is_damage(self) -> None:
        writer = self.writer()
        short = writer.sealed["eu/b1", 2][:-1]
        rows = [["eu/b1", 1, {}, [writer.sealed["eu/b1", 1], short]]]
        writer.put(pack(rows))
        with pytest.raises(DamagedStore, match="the hash does not match"):
            writer.reopened().find("eu/b1", 1)


HELD: VectorClock = {"eu/b1": 4, "us/b1": 3}
EVERYTHING = [("eu/b1", 1), ("eu/b1", 2), ("us/b1", 1), ("eu/b1", 3), ("us/b1", 2), ("us/b1", 3), ("eu/b1", 4)]


class TestPages:
    def writer(self) -> Writer:
        """eu 1-2 · us 1 (seen eu 2), eu 3 (seen us 1) · us 2-3, eu 4."""
        writer = Writer()
        writer.add("eu/b1")
        writer.add("eu/b1")
        writer.commit()
        writer.add("us/b1", {"eu/b1": 2})
        writer.add("eu/b1", {"us/b1": 1})
        writer.commit()
        writer.add("us/b1")
        writer.add("us/b1")
        writer.add("eu/b1")
        writer.commit()
        return writer

    def test_who_has_nothing_gets_everything_in_causal_order(self) -> None:
        writer = self.writer()
        assert writer.dots(writer.reopened().page(HELD, {}, 100, 100_000)) == EVERYTHING

    def test_who_has_everything_gets_nothing(self) -> None:
        assert self.writer().journal.page(HELD, HELD, 100, 100_000) == []

    def test_who_has_some_gets_the_rest(self) -> None:
        writer = self.writer()
        page = writer.journal.page(HELD, {"eu/b1": 3, "us/b1": 1}, 100, 100_000)
        assert writer.dots(page) == [("us/b1", 2), ("us/b1", 3), ("eu/b1", 4)]
        page = writer.journal.page(HELD, {"us/b1": 3}, 100, 100_000)
        assert writer.dots(page) == [("eu/b1", 1), ("eu/b1", 2), ("eu/b1", 3), ("eu/b1", 4)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    def test_pages_of_any_size_add_up_to_everything_once(self, limit: int) -> None:
        writer = self.writer()
        known: VectorClock = {}
        read: list[tuple[str, int]] = []
        while page := writer.journal.page(HELD, known, limit, 100_000):
            assert len(page) <= limit
            read += writer.dots(page)
            known.update({replica: seq for replica, seq, _ in page})
        assert sorted(read) == sorted(EVERYTHING)
        assert len(read) == len(EVERYTHING)

    def test_bytes_are_limited_but_one_entry_always_fits(self) -> None:
        writer = self.writer()
        first, second = (len(writer.sealed["eu/b1", seq]) for seq in (1, 2))
        assert len(writer.journal.page(HELD, {}, 100, 1)) == 1
        assert len(writer.journal.page(HELD, {}, 100, first + second - 1)) == 1
        assert len(writer.journal.page(HELD, {}, 100, first + second)) == 2

    def test_what_is_not_durable_is_not_shown(self) -> None:
        writer = self.writer()
        writer.add("eu/b1")
        writer.journal.close_commit()
        assert writer.journal.page({"eu/b1": 5}, {"eu/b1": 4}, 100, 100_000) == []
        assert writer.journal.page(HELD, {"eu/b1": 4, "us/b1": 3}, 100, 100_000) == []


def test_a_run_knows_its_end_and_its_rest() -> None:
    run = Run("eu/b1", 5, {}, [b"five", b"six", b"seven"])
    assert run.end_seq == 8
    assert run.entries_from(6) == [b"six", b"seven"]
    assert run.entries_from(1) == [b"five", b"six", b"seven"]
    assert run.entries_from(8) == []
