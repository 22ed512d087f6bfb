"""The error tree, and how PostgREST's codes map onto it."""

from __future__ import annotations

import re

import pytest

from rapport import errors
from rapport.errors import RapportError, from_postgrest


def tree(error: type[RapportError]) -> list[type[RapportError]]:
    return [error, *(found for child in error.__subclasses__() for found in tree(child))]


def drawn() -> list[str]:
    assert errors.__doc__
    return [
        line.strip("│├└ *")
        for line in errors.__doc__.splitlines()
        if re.match(r"[│├└ ]*[A-Z]\w+\*?$", line)
    ]


def drawn_as_retryable() -> set[str]:
    assert errors.__doc__
    return set(re.findall(r"(\w+)\*$", errors.__doc__, re.MULTILINE))


def test_the_drawing_shows_every_class_in_the_order_of_the_tree() -> None:
    assert drawn() == [error.__name__ for error in tree(RapportError)]


@pytest.mark.parametrize("error", tree(RapportError))
def test_every_class_says_what_it_means(error: type[RapportError]) -> None:
    assert {"http_status", "retryable"} <= vars(error).keys()
    assert str(error()) == error.__doc__
    assert error.retryable == (error.__name__ in drawn_as_retryable())


def test_a_code_is_the_name_in_snake_case() -> None:
    assert errors.StoreUnavailable().code == "store_unavailable"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("PT400", errors.MalformedPayload),
        ("PT403", errors.NotAllowed),
        ("PT404", errors.NotFound),
        ("PT405", errors.MethodNotAllowed),
        ("PT409", errors.Conflict),
        ("PT410", errors.Gone),
        ("PT503", errors.StoreUnavailable),
        ("23505", errors.Conflict),
        ("42501", errors.NotAllowed),
        ("40001", errors.StoreUnavailable),
        ("40P01", errors.StoreUnavailable),
        ("53300", errors.StoreUnavailable),
        ("57014", errors.StoreUnavailable),
        ("08006", errors.StoreUnavailable),
        ("PGRST003", errors.StoreUnavailable),
        ("PGRST301", errors.ConfigError),
        ("503", errors.StoreUnavailable),
        ("22P02", errors.StoreError),
        ("", errors.StoreError),
        (None, errors.StoreError),
    ],
)
def test_a_code_of_postgrest_has_its_error(code: str | None, error: type[RapportError]) -> None:
    assert type(from_postgrest(code)) is error
