"""The first import of 50,000 partners, beside the same rows by COPY and one by one."""

from __future__ import annotations

import pytest
from tests.conftest import Start
from tests.integration.conftest import own_database as own_database  # fixtures
from tests.integration.conftest import own_start as own_start

from rapport.local.bench.metakocka import measure

pytestmark = pytest.mark.scale


def test_partners_are_imported_in_a_few_times_what_copy_takes(own_start: Start) -> None:
    measured = measure(own_start("postgrest", "gateway"))
    assert measured.times_copy <= 4, measured
    assert measured.times_one_by_one >= 5, measured
    assert measured.events == 1
    assert measured.second_writes == measured.changed == 500
