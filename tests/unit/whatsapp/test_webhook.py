"""JSON texts as they come from outside."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.errors import MalformedPayload
from rapport.whatsapp.webhook import parse


@pytest.mark.parametrize(
    "body",
    ["", "{", "{'a': 1}", "NaN", "-Infinity", '{"a": 1} x', '"\x00"', "[" * 100_000, "1" * 5_000],
    ids=["empty", "cut off", "quotes", "nan", "infinity", "tail", "raw nul", "deep", "long number"],
)
def test_what_is_no_json_is_malformed(body: str) -> None:
    with pytest.raises(MalformedPayload):
        parse(body)


def test_a_malformed_body_is_not_quoted() -> None:
    with pytest.raises(MalformedPayload) as caught:
        parse('{"name": "Ana" "phone": 1}')
    assert "Ana" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (r'"\u0000"', "\ufffd"),
        (r'"a\u0000\u0000b"', "a\ufffd\ufffdb"),
        (r'"\\u0000"', r"\u0000"),
        (r'"\\\u0000"', "\\\ufffd"),
        (r'"\ud83e\uddfd"', "🧽"),
        (r'"\uD83E\uDDFD"', "🧽"),
        (r'"\ud83e"', "\ufffd"),
        (r'"\uddfd\ud83e"', "\ufffd\ufffd"),
        (r'"\ud83e\ud83e\uddfd"', "\ufffd🧽"),
        (r'"\ud83e\n"', "\ufffd\n"),
        (r'{"\u0000": "č"}', {"\ufffd": "č"}),
    ],
)
def test_what_postgres_can_not_store_is_replaced(body: str, value: object) -> None:
    assert parse(body) == value


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(min_value=-(10**18), max_value=10**18)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc\\u0d8"), inner),
    ),
    st.booleans(),
)
def test_every_other_value_is_that_of_the_standard_parser(value: object, ascii_: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_)) == value
