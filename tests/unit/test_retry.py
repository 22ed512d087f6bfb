"""The waits between tries: doubled up to a bound, random as far as it is set."""

from __future__ import annotations

import pytest

from rapport.errors import MetakockaUnavailable
from rapport.retry import Retries, repeated


def waits(retries: Retries, retry_after: float | None = None) -> list[float]:
    """Those before each further try of a call that always fails."""
    noted: list[float] = []
    tries = repeated(retries, sleep=noted.append)

    def fail() -> None:
        raise MetakockaUnavailable(retry_after=retry_after)

    with pytest.raises(MetakockaUnavailable):
        tries(fail)
    return noted


def test_without_jitter_the_waits_are_as_they_are_set() -> None:
    assert waits(Retries(attempts=5, first_wait=0.5, longest_wait=3, jitter=0)) == [0.5, 1, 2, 3]


@pytest.mark.parametrize("jitter", [0.25, 1])
def test_jitter_is_the_part_of_a_wait_that_is_random(jitter: float) -> None:
    seen = [waits(Retries(attempts=2, first_wait=4, jitter=jitter))[0] for _ in range(200)]
    assert 4 * (1 - jitter) <= min(seen) < max(seen) <= 4
    assert max(seen) - min(seen) > 4 * jitter / 2


def test_a_service_that_says_how_long_to_wait_is_obeyed() -> None:
    assert waits(Retries(attempts=2), retry_after=7) == [7]
    # but not for longer than the caller has
    assert waits(Retries(attempts=3, within=5), retry_after=7) == []
