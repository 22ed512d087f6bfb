"""What integration tests start from.

The tests of this folder share a database and the stack on it: before each the rows are put back.
A test that stops parts of its stack, starts them otherwise or changes the schema asks for
`own_database` and `own_start`; a module of such tests overrides `share` by `share_of_module`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from tests.stacks import FOLDER, Common, Open, Running, Shared, Sharing, Start, copy_of

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.prepare import set_doorbell

HERE = Path(__file__).parent


COMMON = pytest.StashKey[Common]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Ends the stack of all after the last test of this folder."""
    yield
    common = item.config.stash.get(COMMON, None)
    if common and not (nextitem and nextitem.path.is_relative_to(HERE)):
        common.close()


@pytest.fixture(scope="session")
def open_shared(session_folder: Path, binaries: Binaries, cluster: Cluster) -> Open:
    @contextmanager
    def open_shared(template: Database) -> Iterator[Shared]:
        with (
            copy_of(cluster, template) as database,
            Running(database, session_folder, binaries) as running,
            closing(Shared(database, running)) as shared,
        ):
            shared.remember(template.name)
            yield shared

    return open_shared


@pytest.fixture(scope="session")
def common(request: pytest.FixtureRequest, cluster: Cluster, open_shared: Open) -> Iterator[Common]:
    common = Common(cluster, open_shared)
    request.config.stash[COMMON] = common
    yield common
    common.close()


@pytest.fixture(scope="module")
def share_of_module(open_shared: Open) -> Iterator[Sharing]:
    """Databases and stacks that end with the module."""
    with ExitStack() as ending:
        yield Sharing(open_shared, ending)


@pytest.fixture(scope="module")
def share(open_shared: Open, common: Common) -> Iterator[Sharing]:
    """The database and the stack of all, and those of the module's own templates."""

    def opened(template: Database) -> AbstractContextManager[Shared]:
        return common.given() if common.has(template) else open_shared(template)

    with ExitStack() as ending:
        yield Sharing(opened, ending)


@pytest.fixture
def database(share: Sharing, template: Database) -> Database:
    """A database with the schema and no rows."""
    return share.renewed(template)


@pytest.fixture
def world_database(share: Sharing, world_template: Database) -> Database:
    """A database with two businesses."""
    return share.renewed(world_template)


@pytest.fixture
def running(request: pytest.FixtureRequest, share: Sharing, database: Database) -> Running:
    """The stack on the test's database; some of its parts may run already."""
    running = share.running(database)
    request.node.stash[FOLDER] = running.folder
    return running


@pytest.fixture
def start(running: Running) -> Start:
    """Starts the named children of a stack on the test's database and returns its settings.

    The names are those in `rapport.local.stack.children`: `start("postgrest", "gateway")`. Those
    that an earlier test has started run already, and others may.
    """
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
