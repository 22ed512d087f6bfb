"""A Postgres cluster of our own: created, started, repaired after a crash, cloned."""

from __future__ import annotations

import contextlib
import locale
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from rapport.local.errors import StackError
from rapport.local.stack.files import write_whole
from rapport.local.stack.guarded import ChildUser, guarded
from rapport.local.stack.ports import HOST
from rapport.local.stack.process import Child

SUPERUSER = "supabase_admin"
UNPRIVILEGED_USER = "nobody"
# the line of postmaster.pid that holds the state (utils/pidfile.h)
STATUS_LINE = 7

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # without the details of errors, which quote whole rows
    "log_error_verbosity": "terse",
    # as on a hosted project: Realtime streams the write-ahead log
    "wal_level": "logical",
    "max_connections": "60",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "1GB",
}
# glibc would keep what one large query has used: 7 MB after PostgREST has read the schema. Smaller
# limits would ask the system for memory in the middle of ordinary queries.
LITTLE_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1048576", "MALLOC_MMAP_THRESHOLD_": "1048576"}
# synchronous_commit stays on, since Realtime gets only what was flushed
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Database:
    """One database of a running cluster."""

    cluster: Cluster
    name: str

    def url(self, role: str = "postgres") -> str:
        """A libpq URL for one of the login roles."""
        return self.cluster.url(role, self.name)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A data folder and its server.

    `programs` is the folder of Postgres' own binaries. The superuser is `supabase_admin`.
    Connections use TCP on loopback and a password. Without `durable` writes are faster and a crash
    loses data: for tests.
    """

    programs: Path
    data: Path
    port: int
    password: str = field(repr=False)
    durable: bool = True

    def url(self, role: str, database: str = "postgres") -> str:
        """A libpq URL; all login roles share one password."""
        return f"postgresql://{role}:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def is_created(self) -> bool:
        return _created(self.data).exists()

    def create(self) -> None:
        """Creates the data folder; an earlier attempt that was cut short is replaced.

        Raises StackError when initdb fails, or when root has no user to run Postgres as. Call it on
        the main thread, with which initdb ends.
        """
        user = run_as()
        remove(self.data)
        self.data.mkdir(mode=0o700)
        # by a pipe, since a file would remain after a kill
        password, pipe = os.pipe()
        with os.fdopen(pipe, "w") as writer:
            writer.write(self.password)
        if user:
            os.chown(self.data, *user)
            os.fchown(password, *user)
        command = [
            self.programs / "initdb",
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            "--pwfile=/dev/stdin",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            f"--locale={_utf8_locale()}",
            # our passwords are random: iterations only make each connection slower, and Postgres'
            # own number of them is the least that some clients take (Bun's)
            *(() if self.durable else ("--no-sync", "--set=scram_iterations=1")),
        ]
        try:
            result = subprocess.run(
                guarded(command, user),
                cwd="/",
                stdin=password,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            os.close(password)
        if result.returncode != 0:
            raise StackError(f"initdb could not create {self.data}:\n{result.stderr.strip()}")
        write_whole(_created(self.data), b"")

    def child(self) -> Child:
        """The child for a supervisor; it shuts down fast, also when the supervisor is killed."""
        self._remove_stale_lock()
        settings = SETTINGS if self.durable else SETTINGS | NOT_DURABLE
        options = [f"--{name}={value}" for name, value in settings.items()]
        return Child(
            name="postgres",
            command=(
                str(self.programs / "postgres"),
                "-D",
                str(self.data),
                "-p",
                str(self.port),
                *options,
            ),
            is_ready=self._is_ready,
            environment=LITTLE_MEMORY,
            user=run_as(),
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            grace=20,
            is_vital=True,
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Opens an autocommit connection as the superuser."""
        return psycopg.connect(self.url(SUPERUSER, database), autocommit=True)

    def create_database(self, name: str) -> Database:
        """Creates an empty database."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        with self.connect() as connection:
            connection.execute(statement)
        return Database(self, name)

    def clone_database(self, template: Database, name: str) -> Database:
        """Copies a prepared database that has no connections."""
        # copies files with the catalog's caches: twice as fast as copying through the log
        statement = sql.SQL(
            "create database {} template {} owner postgres strategy file_copy"
        ).format(sql.Identifier(name), sql.Identifier(template.name))
        with self.connect() as connection:
            connection.execute(statement)
        return Database(self, name)

    def drop_database(self, name: str) -> None:
        """Drops a database and closes its connections."""
        statement = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        with self.connect() as connection:
            # `force` can't close a replication connection, which may just be ending
            connection.execute(
                "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
                " where database = %s and active",
                [name],
            )
            connection.execute(statement)

    def _is_ready(self) -> bool:
        lines = _pidfile(self.data)
        return len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"

    def _remove_stale_lock(self) -> None:
        """Removes a lock whose process id now belongs to another program; Postgres would respect
        it.
        """
        lines = _pidfile(self.data)
        if lines and not _is_postgres(int(lines[0]), self.data):
            (self.data / "postmaster.pid").unlink()


def orphans(data: Path) -> list[psutil.Process]:
    """The processes on a data folder whose server is gone.

    A backend that was busy when the server was killed goes on. Until it ends, Postgres starts no
    other server on its shared memory.
    """
    lines = _pidfile(data)
    if lines and _is_postgres(int(lines[0]), data):
        return []
    return [process for process in psutil.process_iter() if _works_in(process, data)]


def end_orphans(data: Path, patience: float = 5) -> None:
    """Ends them as Postgres would; after some seconds by force.

    No commit is lost: the next server recovers every acknowledged commit from the log.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = orphans(data)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(left, timeout=patience)


def remove(data: Path) -> None:
    """Deletes a cluster that has no running server."""
    end_orphans(data)
    _created(data).unlink(missing_ok=True)
    if data.exists():
        shutil.rmtree(data)


def run_as() -> ChildUser | None:
    """The user for Postgres: nobody when we are root, which Postgres refuses; else ourselves
    (None).

    Raises StackError where root has no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise StackError(
            f"Postgres refuses to run as root, and there is no user {UNPRIVILEGED_USER!r} "
            "to run it as. Create one, or start Rapport as an ordinary user."
        ) from None
    return ChildUser(entry.pw_uid, entry.pw_gid)


def _created(data: Path) -> Path:
    # beside the data folder, since Postgres owns what is inside
    return data.with_suffix(".created")


def _pidfile(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _is_postgres(pid: int, data: Path) -> bool:
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False


def _works_in(process: psutil.Process, data: Path) -> bool:
    """Whether it is a process of Postgres; those work in their data folder."""
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _utf8_locale() -> str:
    """The C locale with Unicode character classes; macOS calls it en_US.UTF-8."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "en_US.UTF-8"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"
