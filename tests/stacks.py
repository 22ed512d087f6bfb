"""Databases of tests, and stacks on them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
from rapport.local.stack.process import Process
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PREFERRED_PORTS, new_stack, settings_file
from rapport.local.stack.supervisor import (
    POLL_INTERVAL,
    START_TIMEOUT,
    ChildDiedError,
    ChildNotReadyError,
)
from rapport.server.serverless import SERVERLESS_FILE, Service
from tests.rows import Rows
from tests.world import add_businesses

Start = Callable[..., Stack]

# the databases to be cloned: the schema alone, and with two businesses
TEMPLATE = "template_schema"
WORLD_TEMPLATE = "template_world"

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


# These answer when they are asked. The others act by themselves, or stand where a test may want to
# stand: they end with the tests that have started them.
ANSWERING = frozenset({"postgrest", "gateway"})


class Running:
    """The children of a stack, started as they are asked for and stopped at the end.

    `parent` is where the stack's folder is made, under the database's name; `settings` are those of
    the stack that differ.
    """

    def __init__(
        self, database: Database, parent: Path, binaries: Binaries, **settings: object
    ) -> None:
        self.folder = parent / database.name
        (self.folder / "logs").mkdir(parents=True)
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
        self._processes: dict[str, Process] = {}
        self._starting: dict[str, Process] = {}
        # those that run though nobody has asked for them yet
        self._left: set[str] = set()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # what asks ends before what it asks
        self.stop(*self.names - ANSWERING - {"functions"})
        self.stop("functions")
        self.stop(*self.names)

    @property
    def settings(self) -> Stack:
        """The stack's settings, of what is started and what isn't."""
        return self._stack

    @property
    def names(self) -> set[str]:
        """The children that were started."""
        return set(self._processes)

    def start(self, *names: str) -> Stack:
        """Starts those of the named children that do not run; returns the stack's settings.

        The names are those in `rapport.local.stack.children`. Call it on the main thread, with
        which the children end.
        """
        for process in self._processes.values():
            if process.exit_status is not None:
                raise ChildDiedError(process)
        self.stop(*self._left - set(names))
        self._left.clear()
        for name in names:
            if name not in self._processes:
                self.begin(name)
        self.wait(*names)
        return self._stack

    def begin(self, name: str) -> None:
        """Starts a child; it is ready later. Call it on the main thread."""
        log = self.folder / "logs" / f"{name}.log"
        process = Process(self._children[name], log, lambda _: None, append=True)
        self._processes[name] = process
        self._starting[name] = process

    def wait(self, *names: str) -> None:
        """Returns when the named children are ready.

        Raises ChildDiedError or ChildNotReadyError.
        """
        deadline = time.monotonic() + START_TIMEOUT
        for name in names:
            process = self._starting.get(name)
            while process and not process.child.is_ready():
                if process.exit_status is not None:
                    raise ChildDiedError(process)
                if time.monotonic() > deadline:
                    raise ChildNotReadyError(process, START_TIMEOUT)
                time.sleep(POLL_INTERVAL)
            self._starting.pop(name, None)

    def stop(self, *names: str) -> None:
        """Stops those of the named children that run, at the same time."""
        stopped = [self._processes.pop(name) for name in names if name in self._processes]
        for name in names:
            self._starting.pop(name, None)
        for process in stopped:
            process.ask_to_stop()
        for process in stopped:
            process.wait()

    @property
    def is_whole(self) -> bool:
        """Whether all that was started runs."""
        return all(process.exit_status is None for process in self._processes.values())

    def hand_over(self) -> None:
        """Others have the stack from now on: what acts by itself goes on if they start it first."""
        self._left = set(self._processes) - ANSWERING


class Shared:
    """A database and its stack, for tests that come one after another."""

    def __init__(self, database: Database, running: Running) -> None:
        self.database = database
        self.running = running
        self._rows: dict[str, Rows] = {}

    def remember(self, name: str) -> None:
        """Gives the present rows a name."""
        self._rows[name] = Rows(self.database)

    def renewed(self, name: str) -> Database:
        """The database with the rows of that name; what its stack remembers is forgotten."""
        stack = self.running.settings
        for child, url in (
            ("fakes", stack.whatsapp_url),
            ("fakes", stack.metakocka_fake_url),
            ("fakes", stack.push_url),
            ("metakocka", stack.metakocka_fake_url),
        ):
            if child in self.running.names:
                httpx.post(f"{url}/_fake/reset", trust_env=False).raise_for_status()
        self._rows[name].put_back()
        return self.database

    @property
    def is_whole(self) -> bool:
        """Whether no test has changed its schema or ended what it had not started."""
        return self.running.is_whole and all(
            rows.have_their_schema() for rows in self._rows.values()
        )

    def close(self) -> None:
        for rows in self._rows.values():
            rows.close()


Open = Callable[[Database], AbstractContextManager[Shared]]


class Sharing:
    """The databases of a module's tests, each a copy of a template that has a stack."""

    def __init__(self, open_: Open, ending: ExitStack) -> None:
        self._open = open_
        self._ending = ending
        self._shared: dict[str, Shared] = {}

    def of(self, template: Database) -> Shared:
        """The copy of a template."""
        if template.name not in self._shared:
            self._shared[template.name] = self._ending.enter_context(self._open(template))
        return self._shared[template.name]

    def renewed(self, template: Database) -> Database:
        """The copy of a template, with its first rows."""
        return self.of(template).renewed(template.name)

    def running(self, database: Database) -> Running:
        """The stack on a database that is shared."""
        [running] = {
            shared.running for shared in self._shared.values() if shared.database == database
        }
        return running


class Common:
    """The database and the stack of all modules, but those with templates of their own.

    They go from the first that asks to the folder's last test: servers that go on would read all
    that later tests write.
    """

    def __init__(self, cluster: Cluster, open_: Open) -> None:
        self._open = open_
        self._template = Database(cluster, TEMPLATE)
        self._world_template = Database(cluster, WORLD_TEMPLATE)
        self._ending = ExitStack()
        self._shared: Shared | None = None

    def has(self, template: Database) -> bool:
        return template in (self._template, self._world_template)

    @contextmanager
    def given(self) -> Iterator[Shared]:
        """The one of all, which the next module has afterwards.

        There is another where the last test of a module has changed its schema.
        """
        if self._shared and not self._shared.is_whole:
            self.close()
        if self._shared is None:
            self._shared = self._ending.enter_context(self._open(self._template))
            add_businesses(self._shared.database)
            self._shared.remember(self._world_template.name)
        yield self._shared
        self._shared.running.hand_over()

    def close(self) -> None:
        self._shared = None
        self._ending.close()
