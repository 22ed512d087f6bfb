"""Values that bite: what parsers, databases and people have stumbled over.

Ids of rows stand as `@alpine.contact`, by the names of `tests.sql.actors.about`: they differ from
run to run, and what was found has to be sent again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

NAMES = (
    *("account", "contact", "conversation", "merge", "other", "suggestion", "invitation"),
    *("failed", "photo", "ours", "conflict", "note", "label", "reply", "channel"),
)
IDS = [f"@{account}.{name}" for account in ("bay", "alpine") for name in NAMES]

TEXTS = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "a\udfff\ud800",
    "\ufeff",
    "\u202eevil\u202c",
    "é",
    "💩",
    "Z̸̧̢̛͉a͠l̶g҉o",
    "١٢٣٤٥",
    "+٣٨٦40111222",
    "\u2028\u2029\x85",
    "\r\nx-injected: 1",
    "null",
    "undefined",
    "NaN",
    "-1",
    "0x10",
    "1e5000",
    "9" * 400,
    "x" * 5000,
    "x" * 20_000,
    "../../etc/passwd",
    "..\\..\\windows",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "https://[::1",
    "' or 1=1 --",
    "'; select version(); --",
    '"; drop table x; --',
    "$$ x $$",
    "\\'",
    "%",
    "_",
    "%%%s%n%25",
    "*",
    "(",
    "((((((((",
    "a.*+?(b|c)\\1[",
    "(a+)+$",
    "{}",
    "{1,2}",
    "{{{{",
    "{{contact.name}}{{x}}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "=1+1",
    "@cmd",
    "infinity",
    "-infinity",
    "2026-02-30",
    "4714-11-24T00:00:00 BC",
    "294276-12-31T23:59:59Z",
    "2026-11-21T10:00:00+99:99",
    "00000000-0000-0000-0000-000000000000",
    "not-a-uuid",
    "+38640111222",
    "+1" + "2" * 40,
    "a@b.c",
    "a@" + "b" * 300 + ".si",
    "(1,2)",
    "a,b",
    "a.b",
    "a:b",
    '"a"',
    "&a=b",
    "#",
    "sl-SI-u-co-x",
]
# those that JSON can't carry, or that no parser should follow
RAW_JSON = [
    "",
    "{",
    "null",
    "[]",
    '"x"',
    "\xff",
    "\xef\xbb\xbf{}",
    '{"message": "\\ud800"}',
    '{"message": "\\u0000"}',
    '{"message": NaN}',
    '{"message": Infinity, "limit": -Infinity}',
    '{"a": 1e5000, "limit": 1e5000}',
    '{"limit": 1' + "0" * 5000 + "}",
    '{"limit": -0.0, "upToSeq": 1.5e3}',
    '{"message": "a", "message": "b"}',
    '{"a":' * 3000 + "1" + "}" * 3000,
    "[" * 20_000,
    '{"content":' + "[" * 500 + "]" * 500 + "}",
    "\x00",
    "{}" + " " * 10_000,
    "{'a': 1}",
]
QUERIES = [
    "%00=%00",
    "limit=%FF",
    "&&&",
    "=",
    "limit=1&limit=2",
    "%C3%28=1",
    "conversationId=%00",
    "a=%",
    "a=%zz",
    "a=%u0041",
    "%ED%A0%80=%ED%A0%80",
    "a[]=1&a[b]=2",
    "a;b=c",
    "x=" + "y" * 5000,
]
SEGMENTS = [
    "%00",
    "%FF%FE",
    "%C3%28",
    "%ED%A0%80",
    "a%00b",
    "..%2F..%2Fetc",
    "%2e%2e",
    "null",
    "-1",
    "9" * 400,
    "%25s%25n",
    "'%20or%201=1--",
    "%C3%A9",
    "%F0%9F%92%A9",
    "{id}",
    "%0d%0aa:b",
    "00000000-0000-0000-0000-000000000000",
    "@bay.conversation",
    "@bay.photo",
    "@alpine.conversation",
]
# one of each, by the types of Postgres
TYPED: dict[str, list[Any]] = {
    "uuid": [*IDS, *IDS, "not-a-uuid", "", 7, None, ["@bay.contact"], "{@bay.contact}"],
    "bool": [True, False, None, "maybe", 2, "t"],
    "int": [0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, "1", "x", None, True, [1]],
    "numeric": [0, "NaN", "Infinity", 1e300, 10**400, "1e400000", -0.01, None, "x", []],
    "time": [
        *("infinity", "-infinity", "now", "epoch", "2026-02-30", "x", None, 0, ""),
        *("4714-11-24T00:00:00 BC", "294276-12-31T23:59:59Z", "2026-11-21T10:00:00+99:99"),
        *("2026-11-21T10:00:00Z", "0001-01-01", "2026-12-31T23:59:60Z"),
    ],
}

chosen_texts = st.sampled_from(TEXTS)
texts = st.one_of(chosen_texts, chosen_texts, st.text(max_size=30))
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, -0.0]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, st.sampled_from(IDS))
ids = st.sampled_from(IDS)
raw_json = st.sampled_from(RAW_JSON)


@st.composite
def cursors(draw: st.DrawFn) -> Any:
    """Cursors that nobody has given out: what is in ours, with other values."""
    fields = ("epoch", "scope", "since", "until", "at", "until_at", "xid", "seq", "name", "id")
    value = st.one_of(texts, numbers, ids, st.sampled_from(("1:1:", "9:1:5", *TYPED["time"])))
    content = draw(
        st.one_of(
            st.dictionaries(st.sampled_from(fields), value).map(text_of),
            st.sampled_from(RAW_JSON),
        )
    )
    coded = base64.b64encode(content.encode("latin-1")).decode()
    return draw(st.one_of(st.just(coded), st.just(coded), st.just(coded[:-1]), texts))


def values(fields: Iterable[str]) -> st.SearchStrategy[Any]:
    """JSON of any shape, whose names are these fields now and then."""
    names = st.one_of(st.sampled_from(sorted(fields)), texts)
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
        ),
        max_leaves=8,
    )


def typed(name: str) -> st.SearchStrategy[Any]:
    """Values for a type of Postgres', by its name; good ones among them."""
    if name.endswith("[]"):
        return st.one_of(st.lists(typed(name[:-2]), max_size=3), typed(name[:-2]))
    for kind, words in {
        "uuid": ("uuid",),
        "bool": ("boolean",),
        "int": ("integer", "bigint", "smallint"),
        "numeric": ("numeric", "double"),
        "time": ("time", "date", "interval"),
    }.items():
        if name.startswith(words):
            return st.sampled_from(TYPED[kind])
    if name.startswith("json"):
        return values(("id", "name", "type", "language", "variables", "phone"))
    return scalars


def text_of(value: Any) -> str:
    """JSON as it goes over the wire, one character a byte.

    A lone surrogate is written as the escape that JSON has for it; Python's own NaN and Infinity
    are what careless programs send.
    """
    return json.dumps(value)


def percent(text: str) -> str:
    """A text in an address; a lone surrogate as the bytes that UTF-8 forbids."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="*().,:@")
