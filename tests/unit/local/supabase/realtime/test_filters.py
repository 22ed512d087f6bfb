from __future__ import annotations

import pytest

from rapport.local.supabase.realtime.filters import Condition, FilterError, parse


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("id=eq.1", Condition("id", "eq", False, "1")),
        ("id=not.eq.1", Condition("id", "eq", True, "1")),
        ("body=eq.", Condition("body", "eq", False, "")),
        ("body=eq.a.b=c", Condition("body", "eq", False, "a.b=c")),
        ('body=eq."a,b"', Condition("body", "eq", False, "a,b")),
        (r'body=eq."say \"so\""', Condition("body", "eq", False, 'say "so"')),
        ("body=like.%x%", Condition("body", "like", False, "%x%")),
        ("body=is.NULL", Condition("body", "is.null", False, "")),
        ("body=not.is.null", Condition("body", "is.null", True, "")),
        ("id=in.(1,2)", Condition("id", "in", False, '["1","2"]')),
        ('body=in.("a,b","c)",d)', Condition("body", "in", False, '["a,b","c)","d"]')),
    ],
)
def test_a_condition_is_read(text: str, condition: Condition) -> None:
    assert parse(text) == (condition,)


def test_conditions_are_joined_by_commas() -> None:
    assert parse("id=in.(1,2),body=neq.x") == (
        Condition("id", "in", False, '["1","2"]'),
        Condition("body", "neq", False, "x"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id",
        "id=1",
        "=eq.1",
        "id=between.1",
        "id=is.1",
        "id=in.1,2",
        "id=in.()",
        "id=in.(1,,2)",
        "id=eq.1,",
        ",id=eq.1",
        f"id=in.({','.join(map(str, range(101)))})",
        "id=eq." + "x" * 20_000,
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterError):
        parse(text)
