"""The first import of 50,000 partners, beside the same rows by COPY and one by one."""

from __future__ import annotations

import pytest

from rapport.local.bench.metakocka import measure
from rapport.local.stack import Stack

pytestmark = pytest.mark.scale


def test_partners_are_imported_in_a_few_times_what_copy_takes(gateway: Stack) -> None:
    measured = measure(gateway)
    assert measured.times_copy <= 4, measured
    assert measured.times_one_by_one >= 5, measured
    assert measured.events == 1
    assert measured.second_writes == measured.changed == 500
