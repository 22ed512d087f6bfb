"""The news that was told of each row, for any order of hearing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from rapport.client.events import Change, Event, Heard
from rapport.client.ledger import Ledger
from rapport.client.rows import Job, Message

CILKA, OTHER = UUID(int=1), UUID(int=2)
THREADS = (UUID(int=11), UUID(int=12))
NOW = "2026-11-21T08:00:00Z"

Json = dict[str, Any]


def message(thread: int, seq: int, version: int = 1, customer: UUID = CILKA) -> Json:
    return {
        "id": str(UUID(int=1000 * (thread + 1) + seq)),
        "account_id": str(UUID(int=100)),
        "conversation_id": str(THREADS[thread]),
        "customer_id": str(customer),
        "seq": seq,
        "version": version,
        "sender_type": "operator",
        "type": "text",
        "message": f"{thread}.{seq} v{version}",
        "status": "sent",
        "created_at": NOW,
        "updated_at": NOW,
    }


def job(number: int, version: int = 1, customer: UUID = CILKA) -> Json:
    return {
        "id": str(UUID(int=number)),
        "account_id": str(UUID(int=100)),
        "customer_id": str(customer),
        "version": version,
        "status": "scheduled",
        "service_type": "carpet",
        "starts_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }


def event(operation: str, row: Json, old: Json | None = None, *, bare: bool = False) -> Event:
    gone = operation == "DELETE"
    return Event.model_validate(
        {
            "table": "any",
            "id": row["id"],
            "version": row["version"],
            "operation": operation,
            "record": None if gone or bare else row,
            "old_record": None if bare else (row if gone else old),
        }
    )


def messages(*, is_whole: bool = True) -> Ledger[Message]:
    return Ledger(
        Message,
        lambda row: row.customer_id == CILKA,
        lambda row: (row.conversation_id, row.seq),
        is_whole=is_whole,
    )


def jobs() -> Ledger[Job]:
    return Ledger(Job, lambda row: row.customer_id == CILKA)


def texts(heard: Heard[Message]) -> list[tuple[str, str | None]]:
    return [
        (change.operation, change.new.message if change.new else None) for change in heard.changes
    ]


def operations(heard: Heard[Job]) -> list[str]:
    return [change.operation for change in heard.changes]


def test_row_is_told_once_with_what_was_told_before() -> None:
    ledger = jobs()

    [inserted] = ledger.hear(event("INSERT", job(1))).changes
    assert not ledger.hear(event("INSERT", job(1))).changes
    [updated] = ledger.hear(event("UPDATE", job(1, 3), job(1, 2))).changes
    assert not ledger.hear(event("UPDATE", job(1, 2), job(1, 1))).changes
    [deleted] = ledger.hear(event("DELETE", job(1, 3))).changes
    assert not ledger.hear(event("DELETE", job(1, 3))).changes
    assert not ledger.hear(event("UPDATE", job(1, 3), job(1, 2))).changes

    assert (inserted.operation, inserted.old) == ("INSERT", None)
    assert (updated.operation, updated.old) == ("UPDATE", inserted.new)
    assert deleted == Change("DELETE", None, updated.new)


def test_insert_of_a_gap_is_an_insert() -> None:
    ledger = jobs()
    ledger.load([job(1)])

    heard = ledger.hear(event("UPDATE", job(2, 4), job(2, 3)))

    assert operations(heard) == ["INSERT"]


def test_delete_heard_before_the_insert_leaves_nothing() -> None:
    ledger = jobs()

    assert not ledger.hear(event("DELETE", job(1, 2))).changes
    assert not ledger.hear(event("UPDATE", job(1, 2), job(1))).changes
    assert not ledger.hear(event("INSERT", job(1))).changes
    assert operations(ledger.hear(event("INSERT", job(1, 3)))) == ["INSERT"]


def test_row_that_goes_to_another_customer_is_gone() -> None:
    ledger = jobs()
    ledger.load([job(1)])

    assert not ledger.hear(event("INSERT", job(2, customer=OTHER))).changes
    assert operations(ledger.hear(event("UPDATE", job(1, 2, OTHER), job(1)))) == ["DELETE"]
    assert operations(ledger.hear(event("UPDATE", job(1, 3), job(1, 2, OTHER)))) == ["INSERT"]


def test_hint_without_its_row_is_a_doubt() -> None:
    ledger = jobs()
    ledger.load([job(1, 2)])

    assert not ledger.hear(event("UPDATE", job(1, 2), bare=True)).in_doubt
    assert ledger.hear(event("UPDATE", job(1, 3), bare=True)) == Heard((), in_doubt=True)
    assert ledger.hear(event("DELETE", job(1, 3), bare=True)) == Heard((), in_doubt=True)


def test_row_that_can_not_be_read_keeps_no_other_from_being_told() -> None:
    ledger = jobs()

    heard = ledger.settle(
        [event("INSERT", {**job(1), "customer_id": None}), event("INSERT", job(2))], ledger.mark()
    )

    assert operations(heard) == ["INSERT"]


def test_message_waits_for_those_before_it() -> None:
    ledger = messages()
    ledger.load([message(0, 1)])

    assert ledger.hear(event("INSERT", message(0, 4))) == Heard((), in_doubt=True)
    assert texts(ledger.hear(event("INSERT", message(1, 1)))) == [("INSERT", "1.1 v1")]
    assert not ledger.hear(event("INSERT", message(0, 3))).changes
    # what becomes of one that waits is told with it
    assert not ledger.hear(event("UPDATE", message(0, 3, 2), message(0, 3))).changes
    heard = ledger.hear(event("INSERT", message(0, 2)))

    assert texts(heard) == [
        ("INSERT", "0.2 v1"),
        ("INSERT", "0.3 v2"),
        ("INSERT", "0.4 v1"),
    ]
    assert not heard.in_doubt


def test_catch_up_proves_that_there_is_nothing_in_a_gap() -> None:
    ledger = messages()
    ledger.hear(event("INSERT", message(0, 3)))
    mark = ledger.mark()
    # heard after the catch-up was asked for: it may have missed the fourth
    ledger.hear(event("INSERT", message(0, 5)))

    heard = ledger.settle([event("INSERT", message(0, 2))], mark)

    assert texts(heard) == [("INSERT", "0.2 v1"), ("INSERT", "0.3 v1")]
    assert heard.in_doubt
    assert texts(ledger.settle([], ledger.mark())) == [("INSERT", "0.5 v1")]


def test_message_that_is_deleted_while_it_waits_is_never_told() -> None:
    ledger = messages()
    ledger.hear(event("INSERT", message(0, 2)))

    assert not ledger.hear(event("DELETE", message(0, 2))).changes
    assert texts(ledger.settle([event("INSERT", message(0, 1))], ledger.mark())) == [
        ("INSERT", "0.1 v1")
    ]


def test_conversation_that_comes_back_is_told_in_order() -> None:
    ledger = messages()
    ledger.load([message(0, 1), message(0, 2)])
    for seq in (1, 2):
        away = event("UPDATE", message(0, seq, 2, OTHER), message(0, seq))
        assert [change.operation for change in ledger.hear(away).changes] == ["DELETE"]

    assert not ledger.hear(event("INSERT", message(0, 2, 3))).changes
    heard = ledger.hear(event("INSERT", message(0, 1, 3)))

    assert texts(heard) == [("INSERT", "0.1 v3"), ("INSERT", "0.2 v3")]


def test_earlier_message_is_no_news_to_who_follows_from_now_on() -> None:
    ledger = messages(is_whole=False)
    ledger.reach(THREADS[0], 5)

    assert not ledger.hear(event("INSERT", message(0, 5))).changes
    [changed] = ledger.hear(event("UPDATE", message(0, 4, 2), message(0, 4))).changes
    assert (changed.operation, changed.old and changed.old.version) == ("UPDATE", 1)
    assert texts(ledger.hear(event("INSERT", message(0, 6)))) == [("INSERT", "0.6 v1")]


def test_reading_again_tells_what_differs() -> None:
    ledger = jobs()
    ledger.load([job(1), job(2), job(3)])
    mark = ledger.mark()
    ledger.hear(event("INSERT", job(4)))

    heard = ledger.reread([job(1), job(2, 2), job(5)], mark)

    assert sorted(operations(heard)) == ["DELETE", "INSERT", "UPDATE"]
    assert sorted(row.int for row in ledger.rows) == [1, 2, 4, 5]
    # of what was missing nobody knows when it went
    assert ledger.hear(event("UPDATE", job(3, 7), job(3, 6))) == Heard((), in_doubt=True)
    assert not ledger.settle([], ledger.mark()).changes
    assert operations(ledger.settle([event("UPDATE", job(3, 8))], ledger.mark())) == ["INSERT"]


class Told:
    """Checks each change against what was told before."""

    def __init__(self, loaded: list[Json]) -> None:
        self.rows = {UUID(row["id"]): Message.model_validate(row) for row in loaded}
        self.latest = {row_id: row.version for row_id, row in self.rows.items()}
        self.reached: defaultdict[UUID, int] = defaultdict(int)
        self.inserted: set[UUID] = set(self.rows)
        for row in self.rows.values():
            self.reached[row.conversation_id] = max(self.reached[row.conversation_id], row.seq)

    def take(self, heard: Heard[Message]) -> None:
        for change in heard.changes:
            if change.new is None:
                assert change.old is not None
                assert self.rows.pop(change.old.id) == change.old
                continue
            row = change.new
            assert row.version > self.latest.get(row.id, 0)
            self.latest[row.id] = row.version
            assert change.old == self.rows.get(row.id)
            if change.operation == "INSERT":
                assert row.id not in self.inserted
                assert row.seq == self.reached[row.conversation_id] + 1
                self.reached[row.conversation_id] = row.seq
                self.inserted.add(row.id)
            else:
                assert row.id in self.rows
            self.rows[row.id] = row


@given(st.data())
def test_whatever_is_lost_late_or_doubled_each_last_version_is_told_once_and_in_order(
    data: st.DataObject,
) -> None:
    """A server writes and broadcasts; the client hears some of it, and catches up now and then."""
    rows: dict[UUID, Json] = {}
    log: list[Event] = []
    on_the_way: list[Event] = []
    cursor = 0
    reached = [0, 0]

    def change(operation: str, row: Json, old: Json | None = None) -> None:
        row_id = UUID(row["id"])
        is_bare = data.draw(st.booleans(), label="too large")
        told = event(operation, row, old, bare=is_bare)
        on_the_way.extend([told] * data.draw(st.integers(0, 2), label="copies"))
        log.append(event(operation, row))
        if operation == "DELETE":
            del rows[row_id]
        else:
            rows[row_id] = row

    def insert() -> None:
        thread = data.draw(st.integers(0, 1), label="thread")
        reached[thread] += 1
        change("INSERT", message(thread, reached[thread]))

    def update() -> None:
        if rows:
            row = rows[data.draw(st.sampled_from(sorted(rows)), label="row")]
            new = {**row, "version": row["version"] + 1, "message": f"v{row['version'] + 1}"}
            change("UPDATE", new, row)

    def entries(start: int, end: int) -> list[Event]:
        """The log in an order that is not that of commits, with the rows as they stand."""
        order = data.draw(st.permutations(range(start, end)), label="order of the log")
        return [
            log[n].model_copy(update={"record": rows[log[n].id]})
            if log[n].id in rows
            else log[n].model_copy(update={"record": None, "operation": "DELETE"})
            for n in order
        ]

    for _ in range(data.draw(st.integers(0, 3), label="before")):
        insert()
    on_the_way.clear()
    ledger = messages()
    ledger.load(rows.values())
    told = Told(list(rows.values()))
    cursor = len(log)

    for step in data.draw(
        st.lists(st.sampled_from(["insert", "update", "hear", "catch up"]), max_size=40)
    ):
        if step == "insert":
            insert()
        elif step == "update":
            update()
        elif step == "hear" and on_the_way:
            n = data.draw(st.integers(0, len(on_the_way) - 1), label="arrives")
            told.take(ledger.hear(on_the_way.pop(n)))
        elif step == "catch up":
            mark = ledger.mark()
            end = len(log)
            answer = entries(cursor, end)
            # more happens, and is heard, while the answer is on its way
            insert()
            if on_the_way:
                told.take(ledger.hear(on_the_way.pop()))
            told.take(ledger.settle(answer, mark))
            cursor = end

    told.take(ledger.settle(entries(cursor, len(log)), ledger.mark()))
    for late in on_the_way:
        told.take(ledger.hear(late))

    assert {row_id: row.version for row_id, row in told.rows.items()} == {
        row_id: row["version"] for row_id, row in rows.items()
    }
    assert told.rows == dict(ledger.rows)
