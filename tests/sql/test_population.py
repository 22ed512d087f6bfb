"""The large database of the tests of scale, which rarely run, still fits the schema."""

from __future__ import annotations

from rapport.commands.bench.population import Population, populate
from rapport.local.stack.postgres import Cluster, Database


def test_a_small_one_has_the_rows_that_it_names(cluster: Cluster, database: Database) -> None:
    population = Population(accounts=5, contacts=200, largest=50, messages=2_000)
    with cluster.connect(database.name) as superuser:
        populate(superuser, population)
        counts = superuser.execute(
            "select (select count(*) from public.accounts), (select count(*) from public.contacts),"
            " (select count(*) from public.messages)"
        ).fetchone()
    assert counts == (5, 200, 2_000)
