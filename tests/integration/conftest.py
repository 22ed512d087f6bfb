"""What integration tests start from.

The tests of a module share a database and the stack on it: before each the rows are put back.
A test that stops parts of its stack, starts them otherwise or changes the schema asks for
`own_database` and `own_start`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.rows import Rows
from tests.stacks import FOLDER, Running, Shared, Start, copy_of

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.prepare import set_doorbell

Share = Callable[[Database], Shared]


@pytest.fixture(scope="module")
def share(session_folder: Path, binaries: Binaries, cluster: Cluster) -> Iterator[Share]:
    """Gives the module's copy of a template, or the shared database that is meant."""
    by_name: dict[str, Shared] = {}
    with ExitStack() as ending:

        def share(template: Database) -> Shared:
            if template.name not in by_name:
                database = ending.enter_context(copy_of(cluster, template))
                running = ending.enter_context(Running(database, session_folder, binaries))
                rows = ending.enter_context(closing(Rows(database)))
                shared = Shared(database, running, rows)
                by_name[template.name] = by_name[database.name] = shared
            return by_name[template.name]

        yield share


@pytest.fixture
def database(share: Share, template: Database) -> Database:
    """A database with the schema and no rows."""
    return share(template).renewed()


@pytest.fixture
def world_database(share: Share, world_template: Database) -> Database:
    """A database with two businesses."""
    return share(world_template).renewed()


@pytest.fixture
def start(request: pytest.FixtureRequest, share: Share, database: Database) -> Start:
    """Starts the named children of a stack on the test's database and returns its settings.

    The names are those in `rapport.local.stack.children`: `start("postgrest", "gateway")`. Those
    that an earlier test has started run already, and others may.
    """
    running = share(database).running
    request.node.stash[FOLDER] = running.folder
    return running.start


@pytest.fixture
def gateway(start: Start) -> Stack:
    """A stack of Postgres, PostgREST and the gateway, with the schema and no rows."""
    return start("postgrest", "gateway")


@pytest.fixture
def stack(start: Start) -> Stack:
    """A whole stack, with the schema and no rows."""
    stack = start("postgrest", "gateway", "functions", "fakes", "net")
    set_doorbell(stack)
    return stack
