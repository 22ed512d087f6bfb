"""Changes that wait to be told, also to a slow reader."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.client.events import Change
from rapport.client.pending_changes import PendingChanges, merged

FEW = 2
ROWS = 4


@dataclass(frozen=True)
class Row:
    """A version of a row."""

    id: UUID
    version: int


def row(number: int, version: int = 1) -> Row:
    return Row(UUID(int=number), version)


def inserted(new: Row) -> Change[Row]:
    return Change("INSERT", new, None)


def updated(old: Row | None, new: Row) -> Change[Row]:
    return Change("UPDATE", new, old)


def deleted(old: Row) -> Change[Row]:
    return Change("DELETE", None, old)


async def taken(pending: PendingChanges[Row]) -> list[Change[Row]]:
    return [change for _ in range(len(pending)) if (change := await pending.next())]


async def test_every_change_is_told_while_little_waits() -> None:
    pending = PendingChanges[Row](few=3)
    changes = [inserted(row(1)), updated(row(1), row(1, 2)), deleted(row(1, 2))]
    for change in changes:
        pending.put(change)

    assert await taken(pending) == changes


async def test_rows_that_change_again_are_told_once_where_much_waits() -> None:
    pending = PendingChanges[Row](few=FEW)
    for number in (1, 2, 3):
        pending.put(inserted(row(number)))
    for version in (2, 3):
        pending.put(updated(row(2, version - 1), row(2, version)))
    pending.put(updated(row(9, 4), row(9, 5)))
    pending.put(updated(row(9, 5), row(9, 6)))

    assert await taken(pending) == [
        inserted(row(1)),
        # a new message is told as new and in its place, even if it was changed since
        inserted(row(2, 3)),
        inserted(row(3)),
        updated(row(9, 4), row(9, 6)),
    ]


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (inserted(row(1)), updated(row(1), row(1, 2)), inserted(row(1, 2))),
        (inserted(row(1)), deleted(row(1)), None),
        (updated(row(1), row(1, 2)), deleted(row(1, 2)), deleted(row(1))),
        (deleted(row(1)), inserted(row(1, 3)), updated(row(1), row(1, 3))),
        (deleted(row(1)), inserted(row(1)), None),
        # one that was not loaded
        (updated(None, row(1, 2)), updated(row(1, 2), row(1, 3)), updated(None, row(1, 3))),
        (updated(None, row(1, 2)), deleted(row(1, 2)), deleted(row(1, 2))),
    ],
)
def test_two_changes_are_one_by_what_was_told_before(
    first: Change[Row], second: Change[Row], both: Change[Row] | None
) -> None:
    assert merged(first, second) == both


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("change"), st.integers(0, ROWS - 1)),
            st.tuples(st.just("delete"), st.integers(0, ROWS - 1)),
            st.tuples(st.just("take"), st.just(0)),
        ),
        max_size=80,
    )
)
def test_what_is_told_leads_from_row_to_row_and_ends_with_the_last(
    steps: list[tuple[str, int]],
) -> None:
    pending = PendingChanges[Row](few=FEW)
    rows: dict[int, Row] = {}
    told: dict[UUID, Row] = {}
    versions = iter(range(1, 1_000))

    def tell(change: Change[Row]) -> None:
        before = told.get(change.id)
        assert change.old == before
        assert change.operation == (
            "DELETE" if change.new is None else "UPDATE" if before else "INSERT"
        )
        if change.new is None:
            del told[change.id]
        else:
            assert before is None or before.version < change.new.version
            told[change.id] = change.new

    async def play() -> None:
        for step, number in steps:
            before = rows.get(number)
            if step == "take":
                if len(pending) and (change := await pending.next()):
                    tell(change)
            elif step == "change":
                rows[number] = row(number, next(versions))
                pending.put(updated(before, rows[number]) if before else inserted(rows[number]))
            elif before:
                del rows[number]
                pending.put(deleted(before))
            assert len(pending) <= FEW + ROWS
        for change in await taken(pending):
            tell(change)

    asyncio.run(play())

    assert told == {changed.id: changed for changed in rows.values()}


async def test_whoever_waits_is_let_go_at_the_end() -> None:
    pending = PendingChanges[Row]()
    waiting = asyncio.create_task(pending.next())
    await asyncio.sleep(0)
    pending.put(inserted(row(1)))
    assert await waiting == inserted(row(1))

    waiting = asyncio.create_task(pending.next())
    await asyncio.sleep(0)
    pending.close()
    pending.put(inserted(row(2)))

    assert await waiting is None
    assert len(pending) == 0
