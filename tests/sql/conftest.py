"""What tests of the SQL start from: two businesses, and nothing beside Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rapport.local.stack.postgres import Cluster, Database
from tests.world import World, Worlds


@pytest.fixture(scope="session")
def worlds(cluster: Cluster, world_template: Database) -> Iterator[Worlds]:
    worlds = Worlds(cluster, world_template)
    yield worlds
    worlds.close()


@pytest.fixture
def world(worlds: Worlds) -> Iterator[World]:
    """Two businesses, as no other test has touched them."""
    database = worlds.renewed()
    with worlds.owner(database) as owner:
        yield World(database, owner, worlds.sessions)
