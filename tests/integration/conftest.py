"""What several integration tests start from."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tests.sql.conftest import world_template as world_template  # a fixture

from rapport.local.postgres import Cluster, Database


@pytest.fixture
def world_database(cluster: Cluster, world_template: Database) -> Iterator[Database]:
    """A database with two businesses for one test alone."""
    name = f"desk_{secrets.token_hex(6)}"
    yield cluster.clone_database(world_template, name)
    cluster.drop_database(name)
