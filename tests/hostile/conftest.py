"""One stack with two businesses, which all hostile input goes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from tests.hostile import profiles
from tests.hostile.sending import Victim, plant
from tests.hostile.slow import SlowClients
from tests.stacks import FOLDER, Running, copy_of
from tests.world import World

profiles.register()


@pytest.fixture(scope="module")
def victim(
    session_folder: Path, binaries: Binaries, cluster: Cluster, world_template: Database
) -> Iterator[Victim]:
    with ExitStack() as ending:
        database = ending.enter_context(copy_of(cluster, world_template))
        owner = ending.enter_context(psycopg.connect(database.url(), autocommit=True))
        world = World(database, owner)
        ids = plant(world)
        running = ending.enter_context(Running(database, session_folder, binaries))
        running.start("postgrest", "gateway", "functions", "fakes")
        slow = ending.enter_context(SlowClients(running.start()))
        victim = Victim(running, world, slow, ids)
        ending.callback(victim.close)
        yield victim
        for connection in world.sessions.idle:
            connection.close()


@pytest.fixture(autouse=True)
def _logs(request: pytest.FixtureRequest, victim: Victim) -> None:
    request.node.stash[FOLDER] = victim.running.folder
