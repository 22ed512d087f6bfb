"""A customer's portal behind real servers, with somebody who writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.integration.client.portal import Portal, Servers
from tests.stacks import Running
from tests.world import World

from rapport.local.stack.postgres import Database


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)


@pytest.fixture
def portal(running: Running, world: World) -> Portal:
    return Portal(running.start("postgrest", "gateway"), world, Servers(running))


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"
