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
        ("PT429", errors.TooManyRequests),
        ("PT503", errors.StoreUnavailable),
        ("23505", errors.Conflict),
        ("42501", errors.NotAllowed),
        ("40001", errors.StoreUnavailable),
        ("40P01", errors.StoreUnavailable),
        ("53300", errors.StoreUnavailable),
        ("57014", errors.StoreUnavailable),
        ("08006", errors.StoreUnavailable),
        ("PGRST003", errors.StoreUnavailable),
        ("57P01", errors.StoreUnavailable),
        ("57P02", errors.StoreUnavailable),
        ("57P03", errors.StoreUnavailable),
        ("58030", errors.StoreUnavailable),
        ("55P03", errors.StoreBusy),
        ("PGRST106", errors.StoreClosed),
        ("42883", errors.StoreClosed),
        ("42P01", errors.StoreClosed),
        ("PGRST202", errors.StoreClosed),
        ("PGRST205", errors.StoreClosed),
        ("PGRST301", errors.StoreClosed),
        ("PGRST303", errors.StoreClosed),
        ("401", errors.StoreClosed),
        ("404", errors.StoreClosed),
        ("540", errors.StoreClosed),
        ("503", errors.StoreUnavailable),
        ("500", errors.StoreUnavailable),
        ("521", errors.StoreUnavailable),
        ("22P02", errors.StoreError),
        # a backend that was killed while it answered
        ("", errors.StoreUnavailable),
        (None, errors.StoreError),
    ],
)
def test_a_code_of_postgrest_has_its_error(code: str | None, error: type[RapportError]) -> None:
    assert type(from_postgrest(code)) is error


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("PGRST106", "Expose the schema backend"),
        ("PGRST202", "Apply the migrations"),
        ("PGRST205", "Apply the migrations"),
        ("PGRST301", "SUPABASE_SECRET_KEY"),
        ("401", "SUPABASE_SECRET_KEY"),
        ("404", "SUPABASE_URL"),
        ("540", "Restore the project"),
    ],
)
def test_what_a_person_has_to_mend_says_how(code: str, remedy: str) -> None:
    error = from_postgrest(code)
    assert remedy in str(error)
    assert f"code {code}" in str(error)
    # webhooks wait for it, and nobody is refused for good
    assert isinstance(error, errors.StoreUnavailable)
    assert error.retryable


@pytest.mark.parametrize(("details", "seconds"), [("retry after: 42 s", 42), (None, 1), ("x", 1)])
def test_too_many_requests_says_when_to_come_again(details: str | None, seconds: int) -> None:
    error = errors.from_users_postgrest("PT429", "You have written too much.", details, "Wait.")
    assert isinstance(error, errors.TooManyRequests)
    assert (str(error), error.hint, error.retry_after) == (
        "You have written too much.",
        "Wait.",
        seconds,
    )
