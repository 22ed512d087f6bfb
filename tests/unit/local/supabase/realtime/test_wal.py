"""The bytes were recorded from Postgres 17.10."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.local.supabase.realtime.wal import (
    Begin,
    MalformedWalError,
    Operation,
    Relation,
    RelationColumn,
    RowChange,
    Unchanged,
    decode,
    relation_oid,
    text_rows,
)

RELATION = (
    b"R\x00\x00RKpublic\x00t\x00d\x00\x02"
    b"\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff"
    b"\x00v\x00\x00\x00\x00\x19\xff\xff\xff\xff"
)
INSERT = b"I\x00\x00RKN\x00\x02t\x00\x00\x00\x011n"
UPDATE_OF_KEY = b"U\x00\x00RKK\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012n"
UPDATE_UNDER_FULL = (
    b"U\x00\x00RKO\x00\x02t\x00\x00\x00\x012nN\x00\x02t\x00\x00\x00\x012t\x00\x00\x00\x02\xc5\xbe"
)
DELETE_UNDER_FULL = b"D\x00\x00RKO\x00\x02t\x00\x00\x00\x012t\x00\x00\x00\x02\xc5\xbe"
TRUNCATE = b"T\x00\x00\x00\x01\x00\x00\x00RK"

KEY = RelationColumn(name="id", type_oid=23, type_modifier=-1, is_key=True)
VALUE = RelationColumn(name="v", type_oid=25, type_modifier=-1, is_key=False)
TABLE = Relation(21067, "public", "t", (KEY, VALUE))


def test_a_transaction_begins_with_its_commit_time() -> None:
    data = b"B\x00\x00\x00\x00\r\xeco\xc8\x00\x03\x03\xbf\xae\xdek0\x00\x00\x9a\xf4"

    assert decode(data) == Begin(datetime(2026, 11, 21, 3, 25, 37, 580848, UTC), 39668)


def test_a_relation_tells_its_columns() -> None:
    assert decode(RELATION) == TABLE


def test_an_insert_has_a_new_row() -> None:
    assert decode(INSERT) == RowChange(
        Operation.INSERT, 21067, new=("1", None), old=None, old_is_key=False
    )


def test_an_update_of_the_key_has_the_old_key() -> None:
    assert decode(UPDATE_OF_KEY) == RowChange(
        Operation.UPDATE, 21067, new=("2", None), old=("1", None), old_is_key=True
    )


def test_an_update_under_full_identity_has_the_old_row() -> None:
    assert decode(UPDATE_UNDER_FULL) == RowChange(
        Operation.UPDATE, 21067, new=("2", "ž"), old=("2", None), old_is_key=False
    )


def test_a_delete_has_an_old_row() -> None:
    assert decode(DELETE_UNDER_FULL) == RowChange(
        Operation.DELETE, 21067, new=None, old=("2", "ž"), old_is_key=False
    )


def test_a_truncate_says_nothing() -> None:
    assert decode(TRUNCATE) is None


def test_the_relation_of_a_change_is_known_without_its_row() -> None:
    assert relation_oid(INSERT) == TABLE.oid
    assert relation_oid(RELATION) is None


def test_the_old_row_of_a_kept_key_is_the_key() -> None:
    change = RowChange(Operation.UPDATE, 21067, new=("1", "b"), old=None, old_is_key=False)

    assert text_rows(TABLE, change) == ({"id": "1", "v": "b"}, {"id": "1"})


def test_a_changed_key_hides_the_columns_that_were_not_logged() -> None:
    change = RowChange(Operation.UPDATE, 21067, new=("2", "b"), old=("1", None), old_is_key=True)

    assert text_rows(TABLE, change) == ({"id": "2", "v": "b"}, {"id": "1"})


def test_a_large_value_left_alone_comes_from_the_old_row() -> None:
    change = RowChange(
        Operation.UPDATE, 21067, new=("1", Unchanged.TOAST), old=("1", "large"), old_is_key=False
    )

    assert text_rows(TABLE, change) == ({"id": "1", "v": "large"}, {"id": "1", "v": "large"})


def test_a_large_value_left_alone_is_missing_without_an_old_row() -> None:
    change = RowChange(
        Operation.UPDATE, 21067, new=("1", Unchanged.TOAST), old=None, old_is_key=False
    )

    assert text_rows(TABLE, change) == ({"id": "1"}, {"id": "1"})


@given(
    message=st.sampled_from([RELATION, INSERT, UPDATE_OF_KEY, UPDATE_UNDER_FULL]),
    share=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_a_message_cut_short_is_an_error_or_a_shorter_change(message: bytes, share: float) -> None:
    cut = message[: int(len(message) * share)]
    try:
        decoded = decode(cut)
    except MalformedWalError:
        return
    assert decoded != decode(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"I\x00\x00RKX\x00\x00",
        b"I\x00\x00RKN\x00\x01b\x00\x00\x00\x00",
        b"R\x00\x00RKpublic",
        b"I\x00\x00RKN\x00\x01t\x00\x00\x00\x01\xff",
    ],
)
def test_bytes_that_are_no_message_are_an_error(data: bytes) -> None:
    with pytest.raises(MalformedWalError):
        decode(data)
