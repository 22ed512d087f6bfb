"""Databases of tests, and stacks on them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import LiteralString

import httpx
import psycopg
import pytest
import uvicorn

from rapport.local.fakes.faults import CloseDropped
from rapport.local.stack import children
from rapport.local.stack.npm import Binaries
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PREFERRED_PORTS, new_stack, settings_file
from rapport.local.stack.supervisor import ChildDiedError, Supervisor
from rapport.server.serverless import SERVERLESS_FILE, Service
from tests.rows import Rows

Start = Callable[..., Stack]

# seconds until a server in the process answers
PATIENCE_S = 15.0

# where a test's servers write their logs
FOLDER = pytest.StashKey[Path]()


@contextmanager
def copy_of(cluster: Cluster, template: Database) -> Iterator[Database]:
    """A copy of a prepared database, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    yield cluster.clone_database(template, name)
    cluster.drop_database(name)


@contextmanager
def changed_copy_of(
    cluster: Cluster, template: Database, schema: LiteralString
) -> Iterator[Database]:
    """A copy with a schema of a test's own beside the template's."""
    with copy_of(cluster, template) as database:
        with psycopg.connect(database.url("postgres")) as connection:
            connection.execute(schema)
        yield database


@contextmanager
def served(app: CloseDropped) -> Iterator[str]:
    """The URL of a server for an application, in a thread of this process."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)  # type: ignore[arg-type]  # see CloseDropped
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def hold_schedules(database: Database) -> None:
    """Lets another server make the runs of all schedules, for ever: none begins here."""
    schedules = [
        (name, every)
        for name, function in Service.read(SERVERLESS_FILE).functions.items()
        for every in function.schedules
    ]
    with psycopg.connect(database.url(), autocommit=True) as connection:
        # a test of Realtime alone has none of our schema
        if connection.execute("select to_regclass('private.schedule_runs')").fetchone() == (None,):
            return
        connection.cursor().executemany(
            "insert into private.schedule_runs (function, every, began_at, run, run_until)"
            " values (%s, %s, now(), gen_random_uuid(), '2100-01-01')",
            schedules,
        )


class Running:
    """The children of a stack, started as they are asked for and stopped at the end.

    `parent` is where the stack's folder is made, under the database's name; `settings` are those of
    the stack that differ.
    """

    def __init__(
        self, database: Database, parent: Path, binaries: Binaries, **settings: object
    ) -> None:
        self.folder = parent / database.name
        self.folder.mkdir()
        cluster = database.cluster
        ports = choose_any(*PREFERRED_PORTS) | {"db_port": cluster.port}
        self._stack = new_stack(self.folder, ports).model_copy(
            update={"database": database.name, "db_password": cluster.password, **settings}
        )
        self._stack.save(settings_file(self.folder))
        # their runs would come between what tests do
        hold_schedules(database)
        # a test that plays WhatsApp itself takes Metakocka alone
        every = (*children.every(self._stack, binaries), children.metakocka(self._stack))
        self._children = {child.name: child for child in every}
        self._supervisor = Supervisor(self.folder)

    def __enter__(self) -> Running:
        self._supervisor.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._supervisor.__exit__(kind, error, traceback)

    @property
    def names(self) -> set[str]:
        """The children that were started."""
        return {process.child.name for process in self._supervisor.processes}

    def start(self, *names: str) -> Stack:
        """Starts those of the named children that do not run; returns the stack's settings.

        The names are those in `rapport.local.stack.children`.
        """
        for process in self._supervisor.processes:
            if process.exit_status is not None:
                raise ChildDiedError(process)
        missing = [self._children[name] for name in names if name not in self.names]
        if missing:
            self._supervisor.start(*missing)
        return self._stack


class Shared:
    """A database and its stack, for tests that come one after another."""

    def __init__(self, database: Database, running: Running, rows: Rows) -> None:
        self.database = database
        self.running = running
        self._rows = rows
        self._is_used = False

    def renewed(self) -> Database:
        """The database with its first rows; what its stack remembers is forgotten as well."""
        if self._is_used:
            stack = self.running.start()
            for child, url in (
                ("fakes", stack.whatsapp_url),
                ("fakes", stack.metakocka_fake_url),
                ("fakes", stack.push_url),
                ("metakocka", stack.metakocka_fake_url),
            ):
                if child in self.running.names:
                    httpx.post(f"{url}/_fake/reset", trust_env=False).raise_for_status()
            self._rows.put_back()
        self._is_used = True
        return self.database
