"""A hosted project's database, built from Supabase's own scripts on the embedded Postgres.

Four folders are named by the environment:

    HOSTED_POSTGRES   a checkout of supabase/postgres: init scripts, migrations, supautils.conf
    HOSTED_AUTH       a checkout of supabase/auth: its migrations
    HOSTED_REALTIME   a checkout of supabase/realtime, of 17 July 2026 or later: its tenant schema
    HOSTED_LIBRARIES  supautils.so and safeupdate.so, compiled for Postgres 17
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from rapport.local.stack.npm import Binaries
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import SUPERUSER, Cluster, Database
from rapport.local.stack.supervisor import Supervisor

VARIABLES = ("HOSTED_POSTGRES", "HOSTED_AUTH", "HOSTED_REALTIME", "HOSTED_LIBRARIES")
LIBRARIES = ("supautils.so", "safeupdate.so")
# where supabase/postgres has had it, the newest first
SUPAUTILS_CONF = ("conf.d/supautils.conf", "supautils.conf.j2")
TENANT_SCHEMA = "priv/repo/tenant_db_dump_17.sql"
# Hosted images have them, the embedded Postgres does not. Empty ones do: no rule depends on them.
EMPTY_EXTENSIONS = ("pgjwt", "pg_net")


@dataclass(frozen=True)
class Sources:
    """The four folders."""

    postgres: Path
    auth: Path
    realtime: Path
    libraries: Path

    @classmethod
    def from_environment(cls) -> Sources | str:
        """The folders, or the sentence that says which is missing."""
        missing = [name for name in VARIABLES if not os.environ.get(name)]
        if missing:
            return f"{', '.join(missing)} not set: see tests/hosted/project.py"
        sources = cls(*(Path(os.environ[name]) for name in VARIABLES))
        needed = [
            sources.postgres / "migrations" / "db" / "init-scripts",
            sources.auth / "migrations",
            sources.realtime / TENANT_SCHEMA,
            *(sources.libraries / name for name in LIBRARIES),
        ]
        absent = [str(path) for path in needed if not path.exists()]
        return f"there is no {', no '.join(absent)}" if absent else sources

    @property
    def supautils_conf(self) -> str:
        """The settings of supautils, with what loads it."""
        folder = self.postgres / "ansible" / "files" / "postgresql_config"
        file = next(folder / name for name in SUPAUTILS_CONF if (folder / name).exists())
        lines = re.findall(r"^supautils\..*$", file.read_text(), flags=re.MULTILINE)
        return "\n".join(["session_preload_libraries = 'supautils'", *lines, ""])


@contextmanager
def cluster_of(sources: Sources, binaries: Binaries, folder: Path) -> Iterator[Cluster]:
    """A running cluster with both libraries, before the first script."""
    native = folder / "native"
    # a Postgres finds its libraries beside its own program
    shutil.copytree(binaries.postgres.parent, native, symlinks=True)
    for name in LIBRARIES:
        shutil.copy(sources.libraries / name, native / "lib" / "postgresql")
    extensions = native / "share" / "postgresql" / "extension"
    for name in EMPTY_EXTENSIONS:
        (extensions / f"{name}.control").write_text("default_version = '1.0'\n")
        (extensions / f"{name}--1.0.sql").write_text("")
    cluster = Cluster(
        programs=native / "bin",
        data=folder / "postgres",
        port=choose_any("postgres")["postgres"],
        password=secrets.token_urlsafe(16),
        durable=False,
    )
    cluster.create()
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write(sources.supautils_conf)
    with Supervisor(folder) as supervisor:
        supervisor.start(cluster.child())
        yield cluster


def build(cluster: Cluster, sources: Sources) -> Database:
    """Runs all scripts in the order of a new project's first start."""
    database = Database(cluster, "postgres")
    with _session(database, SUPERUSER) as admin:
        admin.execute("create role postgres superuser login")
        # by other scripts of the platform: pgsodium's extension, and Realtime's first start
        admin.execute("create role pgsodium_keyholder")
        admin.execute("create role supabase_realtime_admin noinherit")
        admin.execute(sql.SQL("alter role postgres password {}").format(cluster.password))
        # which makes it the owner of schema public
        admin.execute("alter database postgres owner to postgres")
    scripts = sources.postgres / "migrations" / "db"
    for folder, role in (("init-scripts", "postgres"), ("migrations", SUPERUSER)):
        for file in sorted((scripts / folder).glob("*.sql")):
            _run(database, role, file, file.read_text().partition("-- migrate:down")[0])
    for file in sorted((sources.auth / "migrations").glob("*.up.sql")):
        text = re.sub(r"\{\{ ?index \.Options \"Namespace\" ?\}\}", "auth", file.read_text())
        _run(database, SUPERUSER, file, f"set role supabase_auth_admin; {text}")
    file = sources.realtime / TENANT_SCHEMA
    _run(database, SUPERUSER, file, file.read_text())
    with _session(database, SUPERUSER) as admin:
        # the defaults of new projects since 2026-05-30, which the platform sets, not a script
        admin.execute(
            """
            alter default privileges for role postgres in schema public
                revoke select, insert, update, delete on tables
                from anon, authenticated, service_role;
            alter default privileges for role postgres in schema public
                revoke usage, select on sequences from anon, authenticated, service_role;
            alter default privileges for role postgres in schema public
                revoke execute on functions from anon, authenticated, service_role
            """
        )
        for role in ("authenticator", "supabase_auth_admin"):
            admin.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(cluster.password)
                )
            )
    return database


def _session(database: Database, role: str) -> psycopg.Connection:
    """A connection without supautils: a new supautils refuses a part of the oldest scripts, which
    ran long before it.
    """
    return psycopg.connect(
        database.url(role), autocommit=True, options="-c session_preload_libraries="
    )


def _run(database: Database, role: str, file: Path, text: str) -> None:
    # each on a connection of its own, as psql runs them
    with _session(database, role) as connection:
        try:
            connection.execute(text.encode())
        except psycopg.Error as error:
            error.add_note(f"in {file}")
            raise
