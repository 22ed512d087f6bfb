"""A customer's portal behind real servers, with somebody who writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.integration.client.portal import Portal, Servers
from tests.stacks import Start
from tests.world import World

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)


@pytest.fixture
def portal(start: Start, world: World, binaries: Binaries) -> Iterator[Portal]:
    stack = start("postgrest")
    servers = Servers(stack, binaries)
    servers.start_gateway()
    try:
        servers.wait_for_gateway()
        yield Portal(stack, world, servers)
    finally:
        servers.stop_gateway()


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"
