"""Runs the official Supabase CLI on our database: migrations, seed, advisors and types."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from pydantic import BaseModel

from rapport.local.errors import StackError
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database

Level = Literal["info", "warn", "error"]
# its comment holds the digest of the files that the CLI has applied; the CLI creates it
_RECORDS = "supabase_migrations"


class Lint(BaseModel):
    """One finding of the database advisors."""

    name: str
    level: Literal["INFO", "WARN", "ERROR"]
    detail: str


class _Advice(BaseModel):
    results: list[Lint]


class _CliMessage(BaseModel):
    message: str


class _CliError(BaseModel):
    error: _CliMessage


def migrate(database: Database, binaries: Binaries, project: Path) -> None:
    """Applies the project's pending migrations as `postgres`, and its seed if none was loaded.

    `project` contains the folder `supabase`. The CLI records in schema supabase_migrations what it
    has applied, and does not load a changed seed again. Raises StackError with the CLI's message.
    """
    _run(database, binaries, project, "db", "push", "--include-seed", "--yes")
    comment = sql.SQL("comment on schema {} is {}").format(
        sql.Identifier(_RECORDS), sql.Literal(_digest(project))
    )
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute(comment)


def is_migrated(database: Database, project: Path) -> bool:
    """Whether `migrate` has done all for these very files; to ask the CLI takes half a second."""
    with psycopg.connect(database.url(), autocommit=True) as connection:
        found = connection.execute(
            "select obj_description(to_regnamespace(%s), 'pg_namespace')", [_RECORDS]
        ).fetchone()
    return found == (_digest(project),)


def _digest(project: Path) -> str:
    folder = project / "supabase"
    files = sorted((*folder.glob("*.toml"), *folder.glob("*.sql"), *folder.glob("*/*.sql")))
    told = hashlib.sha256()
    for file in files:
        told.update(f"{file.relative_to(folder)}\0".encode())
        told.update(hashlib.sha256(file.read_bytes()).digest())
    return told.hexdigest()


def advisors(
    database: Database, binaries: Binaries, project: Path, level: Level = "warn"
) -> list[Lint]:
    """The findings of the security and performance advisors, from the given level up.

    Raises StackError with the CLI's message.
    """
    output = _run(database, binaries, project, "db", "advisors", "--level", level)
    return _Advice.model_validate_json(output).results


def typescript(database: Database, binaries: Binaries, project: Path) -> str:
    """The types of the schema `public` for TypeScript, unformatted.

    Raises StackError with the CLI's message.
    """
    return _run(database, binaries, project, "gen", "types", "--schema", "public").decode()


def _run(database: Database, binaries: Binaries, project: Path, *arguments: str) -> bytes:
    if not (project / "supabase" / "config.toml").exists():
        raise StackError(
            f"{project} has no supabase/config.toml. Run Rapport from a checkout of its repository."
        )
    # the password goes into the environment, since everyone can read arguments
    url = urlsplit(database.url("postgres"))
    target = f"postgresql://postgres@{url.hostname}:{url.port}{url.path}"
    result = subprocess.run(
        [
            binaries.supabase,
            *arguments,
            f"--workdir={project}",
            f"--remote={target}",
            "--output-format=json",
        ],
        env=_environment(database),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise StackError(
            f"supabase {' '.join(arguments[:2])} failed. {_message(result)}\n"
            "If you don't need the data, `rapport up --fresh` deletes it and starts again."
        )
    return result.stdout


def _environment(database: Database) -> dict[str, str]:
    # the developer's own project and token must not be used
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPABASE_")}
    return kept | {
        "PGPASSWORD": database.cluster.password,
        "PGSSLMODE": "disable",
        "SUPABASE_HOME": str(database.cluster.data.with_name("supabase-cli")),
        "SUPABASE_NO_UPDATE_NOTIFIER": "1",
        "SUPABASE_TELEMETRY_DISABLED": "1",
    }


def _message(result: subprocess.CompletedProcess[bytes]) -> str:
    try:
        return _CliError.model_validate_json(result.stdout).error.message
    except ValueError:
        return result.stderr.decode(errors="replace").strip()
