"""The first import of 50,000 partners, beside the same rows by COPY and one by one."""

from __future__ import annotations

import pytest
from tests.stacks import Start

from rapport.commands.bench.metakocka import measure

pytestmark = pytest.mark.scale


def test_partners_are_imported_in_a_few_times_what_copy_takes(own_start: Start) -> None:
    measured = measure(own_start("postgrest", "gateway"))
    print(  # noqa: T201 - shown with -s, and where it fails
        f"first import {measured.first_s:.1f} s, {measured.per_second:.0f}/s;"
        f" {measured.times_copy:.2f} times COPY;"
        f" {measured.times_one_by_one:.1f} times as fast as one by one;"
        f" second run {measured.second_s:.1f} s"
    )
    assert measured.times_copy <= 4, measured
    assert measured.times_one_by_one >= 5, measured
    assert measured.events == 1
    assert measured.second_writes == measured.changed == 500
