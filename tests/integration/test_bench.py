"""Benchmarks on a small scale: all that is sent is heard; what it takes is not judged here."""

from __future__ import annotations

from dataclasses import astuple

from tests.stacks import Start

from rapport.commands.bench import (
    away,
    batch,
    browser,
    change_cost,
    growth,
    ingest,
    metakocka,
    portal,
    soak,
    stream,
    subscribers,
)


def test_every_change_is_heard_by_its_customer(start: Start) -> None:
    load = portal.PortalLoad(alone=5, customers=3, changes=12, per_second=20)

    figures = portal.measure(start("postgrest", "gateway"), load)

    assert (figures.alone.count, figures.together.count) == (5, 12)
    assert 0 < figures.together.p50 <= figures.together.p95 <= figures.together.longest


def test_every_subscriber_hears_of_every_change(start: Start) -> None:
    figures = subscribers.measure(start("postgrest", "gateway"), subscribers=6, changes=3)

    assert figures.subscribers == 6
    assert figures.with_one.writing > 0
    assert figures.with_many.all > figures.with_many.writing


def test_who_was_away_is_told_everything(start: Start) -> None:
    figures = away.measure(start("postgrest", "gateway"), changes=50, rounds=2)

    assert figures.changes == 50
    assert len(figures.seconds) == 2


def test_every_update_of_a_large_webhook_is_applied(start: Start) -> None:
    figures = batch.measure(start(), updates=12, conversations=4, calls=2)

    assert (len(figures.messages), len(figures.statuses)) == (2, 2)


def test_every_message_of_a_steady_stream_is_heard(start: Start) -> None:
    stack = start("postgrest", "gateway", "functions")

    figures = stream.measure(stack, messages=10, per_second=20)

    assert figures.count == 10


def test_a_soak_looks_at_all_parts_while_clients_come_and_go(start: Start) -> None:
    stack = start("postgrest", "gateway", "functions")
    load = soak.SoakLoad(
        seconds=4, per_second=5, clients=2, stay_s=1, read_every_s=0.5, look_every_s=0.5
    )

    figures = soak.measure(stack, load)

    assert (figures.sent, figures.heard.count) == (20, 20)
    assert figures.reconnects >= 2
    seen = figures.looks[-1]
    assert {"postgres", "postgrest", "gateway"} <= set(seen.memory)
    assert min(seen.memory.values()) > 0
    assert figures.grown_most()[0] in seen.memory
    assert seen.connections > 0
    assert seen.size > 0


def test_every_change_is_heard_in_a_page(start: Start) -> None:
    stack = start("postgrest", "gateway")

    figures = browser.measure(stack, changes=3, missed=20, rounds=2)

    assert (figures.live.count, figures.official.count) == (3, 3)
    assert (figures.missed, len(figures.seconds)) == (20, 2)


def test_a_change_is_made_with_its_triggers_and_without(start: Start) -> None:
    costs = change_cost.measure(start("postgrest", "gateway"), changes=5)

    assert (costs.change.count, costs.bare.count) == (5, 5)
    assert costs.bare.p50 > 0


def test_what_leaves_a_stack_of_no_other_use(own_start: Start) -> None:
    stack = own_start("postgrest", "gateway")

    figures = ingest.measure(stack, (1, 2), rounds=1, seconds=0.2)

    assert [one.connections for one in figures] == [1, 2]
    assert all(min(astuple(rates)) > 0 for one in figures for rates in one.rounds)

    measured = metakocka.measure(stack, partners=200)

    assert (measured.partners, measured.changed) == (200, 2)
    assert measured.events == 1
    assert measured.second_writes == measured.changed

    sizes = growth.measure(stack, sizes=(1_000, 2_000), accounts=5)

    assert [size.messages for size in sizes] == [1_000, 2_000]
    for size in sizes:
        assert set(size.times) == set(size.pages) == set(growth.TITLES)
        assert all(pages > 0 for pages in size.pages.values())
