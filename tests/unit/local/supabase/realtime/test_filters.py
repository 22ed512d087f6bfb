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
        ("body=is.NULL", Condition("body", "is.NULL", False, "")),
        ('body=eq.5" pipe', Condition("body", "eq", False, '5" pipe')),
        (' body=eq."a"b ', Condition("body", "eq", False, '"a"b')),
        ("body=not.is.null", Condition("body", "is.null", True, "")),
        ("id=in.(1,2)", Condition("id", "in", False, "{1,2}")),
        ("id=in.()", Condition("id", "in", False, "{}")),
        ('body=in.("a,b","c)",d)', Condition("body", "in", False, '{"a,b","c)",d}')),
    ],
)
def test_a_condition_is_read(text: str, condition: Condition) -> None:
    assert parse(text) == (condition,)


def test_conditions_are_joined_by_commas() -> None:
    assert parse("id=in.(1,2),body=neq.x") == (
        Condition("id", "in", False, "{1,2}"),
        Condition("body", "neq", False, "x"),
    )
    assert parse('name=eq.5" pipe,id=eq.1') == (
        Condition("name", "eq", False, '5" pipe'),
        Condition("id", "eq", False, "1"),
    )
    assert parse("  ") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id", '["id"]'),
        ("=eq.1", '["=eq.1"]'),
        ("id=1", '["1"]'),
        ("id=not.1", '["1"]'),
        ("id=between.1", '["between", "1"]'),
        ("id=in.1,2", "`in` filter value must be wrapped by parentheses"),
        ("id=eq.1,", "filter must not contain empty segments (check for extra commas)"),
        (",id=eq.1", "filter must not contain empty segments (check for extra commas)"),
        ("id=eq." + "x" * 20_000, "a filter has at most 16384 characters"),
    ],
)
def test_what_is_no_filter_is_refused_in_the_words_of_realtime(text: str, told: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert str(refused.value) == told
