"""Writes supabase/migrations/ from sql/: one migration for each folder, its files in their order.

    uv run python -m tests.migrations.baseline

Until the first release the migrations are this baseline. From the first tag on each change is a
migration of its own, written by hand, and the baseline stays as it was released.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from rapport.local.stack.postgres import Database
from rapport.local.stack.state import PROJECT

MIGRATIONS = PROJECT / "supabase" / "migrations"


def schema_files(folder: Path = PROJECT / "sql") -> list[Path]:
    """The files of the schema in the order in which they are loaded: that of their paths."""
    return sorted(folder.rglob("*.sql"), key=Path.as_posix)


def load_schema(database: Database, folder: Path) -> None:
    """Makes the schema of a folder such as sql/."""
    with psycopg.connect(database.url("postgres"), autocommit=True) as connection:
        for file in schema_files(folder):
            try:
                connection.execute(file.read_bytes())
            except psycopg.Error as error:
                error.add_note(f"in {file.relative_to(folder.parent)}")
                raise


def baselines() -> dict[str, str]:
    """The text of each migration, by the name of its file."""
    texts = {}
    for folder in sorted(path for path in (PROJECT / "sql").iterdir() if path.is_dir()):
        number, _, subject = folder.name.partition("_")
        header = (
            f"-- Made from sql/{folder.name}/ by tests/migrations/baseline.py: edit there.\n"
            # who waits for a lock makes everybody wait who comes later
            "set lock_timeout = '5s';"
        )
        texts[f"2026113000{int(number):02}00_create_{subject}.sql"] = (
            "\n\n\n".join(
                [header, *(file.read_text().strip("\n") for file in schema_files(folder))]
            ).removesuffix("\n")
            + "\n"
        )
    return texts


def main() -> None:
    for file in MIGRATIONS.glob("*.sql"):
        file.unlink()
    for name, text in baselines().items():
        (MIGRATIONS / name).write_text(text)


if __name__ == "__main__":
    main()
