"""Writes supabase/migrations/ from sql/: one migration for each folder, its files in their order.

    uv run python -m tests.migrations.baseline

The CLI applies each file in one transaction. Statements that lock the platform's tables until its
end stand in a file of their own, so that the locks last for milliseconds: policies, and foreign
keys to auth.users. On a hosted project supautils locks auth.users, auth.sessions,
realtime.messages, storage.objects and some others for each policy, of any table. Meanwhile
nobody signs in.

Until the first release the migrations are this baseline. From the first tag on each change is a
migration of its own, written by hand, and the baseline stays as it was released.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pglast
import psycopg
from pglast import ast
from pglast.enums import ConstrType, ObjectType

from rapport.local.stack.postgres import Database
from rapport.local.stack.state import PROJECT

MIGRATIONS = PROJECT / "supabase" / "migrations"
# schemas whose objects belong to the platform
PLATFORM = frozenset({"auth", "cron", "net", "realtime", "storage", "vault"})
LOCK_TIMEOUT = "5s"
RELEASES = PROJECT / "tests" / "releases"
_MADE = re.compile(r"20261130\d{6}_create_\w+\.sql")
# while this one waits for auth.users, nobody signs in
SHORT_LOCK_TIMEOUT = "2s"


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
    folders = sorted(path for path in (PROJECT / "sql").iterdir() if path.is_dir())
    last = Last()
    for folder in folders:
        number, _, subject = folder.name.partition("_")
        text = "\n\n\n".join(file.read_text().strip("\n") for file in schema_files(folder))
        texts[_name(int(number), subject)] = _migration(
            f"sql/{folder.name}/", LOCK_TIMEOUT, last.taken_from(text)
        )
    for number, (subject, lock_timeout, parts) in enumerate(last.migrations, start=len(folders)):
        texts[_name(number, subject)] = _migration("sql/", lock_timeout, "\n\n\n".join(parts))
    return texts


def written_by_hand() -> list[Path]:
    """The migrations after the baseline, in the order in which they are applied."""
    return [file for file in sorted(MIGRATIONS.glob("*.sql")) if not _MADE.fullmatch(file.name)]


def _name(number: int, subject: str) -> str:
    return f"2026113000{number:02}00_create_{subject}.sql"


def _migration(source: str, lock_timeout: str, body: str) -> str:
    return (
        f"-- Made from {source} by tests/migrations/baseline.py: edit there.\n"
        # who waits for a lock makes everybody wait who comes later
        f"set lock_timeout = '{lock_timeout}';\n\n\n{body}\n"
    )


@dataclass(frozen=True)
class Statement:
    """A statement of a file: the comments above it, its text without the semicolon, its tree."""

    above: str
    text: str
    tree: ast.Node


def statements(text: str) -> Iterator[Statement]:
    """The statements of a file."""
    end = 0
    trees = pglast.parse_sql(text)
    for part, raw in zip(pglast.parser.split(text, only_slices=True), trees, strict=True):
        yield Statement(text[end : part.start], text[part], raw.stmt)
        end = part.stop + 1


class Last:
    """Collects what the last migrations do."""

    def __init__(self) -> None:
        self._policies: list[str] = []
        self._keys: list[str] = []
        self._guards: list[str] = []

    @property
    def migrations(self) -> list[tuple[str, str, list[str]]]:
        """The subject, the lock timeout and the statements of each.

        Policies come before keys, for which their locks suffice. Guards read both from the catalog
        and lock nothing of the platform.
        """
        return [
            ("policies", SHORT_LOCK_TIMEOUT, [*self._policies, *self._keys]),
            ("guards", LOCK_TIMEOUT, self._guards),
        ]

    def taken_from(self, text: str) -> str:
        """A folder's text without the statements that it collects."""
        stays = ""
        for statement in statements(text):
            if _is_about_policy(statement.tree):
                stays += self._collect(statement, self._policies)
            elif statement.text.startswith("select private.guard_table("):
                stays += self._collect(statement, self._guards)
            else:
                kept, keys = _without_foreign_keys(statement)
                stays += f"{statement.above}{kept};"
                self._keys += keys
        return stays.strip("\n")

    @staticmethod
    def _collect(statement: Statement, into: list[str]) -> str:
        # its comment reaches down from the last empty line
        rest, gap, comment = statement.above.rpartition("\n\n")
        into.append(f"{comment if gap else statement.above}{statement.text};".lstrip("\n"))
        return rest.rstrip("\n")


def _is_about_policy(tree: ast.Node) -> bool:
    return isinstance(tree, ast.CreatePolicyStmt) or (
        isinstance(tree, ast.CommentStmt) and tree.objtype == ObjectType.OBJECT_POLICY
    )


def _without_foreign_keys(statement: Statement) -> tuple[str, list[str]]:
    """A statement without foreign keys to the platform's tables, and the statements that add them
    to its table.
    """
    text, moved = statement.text, []
    if not isinstance(statement.tree, ast.CreateStmt):
        return text, moved
    table = statement.tree.relation
    for column in statement.tree.tableElts or ():
        for key in getattr(column, "constraints", None) or ():
            if key.contype == ConstrType.CONSTR_FOREIGN and key.pktable.schemaname in PLATFORM:
                target = f"{key.pktable.schemaname}\\.{key.pktable.relname}"
                found = re.search(
                    rf"\s+constraint {key.conname}\s+(references {target} on delete \w+( null)?)",
                    text,
                )
                if found is None:
                    raise ValueError(f"{key.conname} is not written as the others are")
                text = text[: found.start()] + text[found.end() :]
                moved.append(
                    f"alter table {table.schemaname}.{table.relname}\n"
                    f"    add constraint {key.conname}\n"
                    f"    foreign key ({column.colname}) {found[1]};"
                )
    return text, moved


def is_released() -> bool:
    """Whether there is a release: the baseline is that of the first one."""
    return any(RELEASES.glob("*.json"))


def main() -> None:
    if is_released():
        raise SystemExit("Write a migration: the baseline stays as it was released.")
    for file in MIGRATIONS.glob("*.sql"):
        if _MADE.fullmatch(file.name):
            file.unlink()
    for name, text in baselines().items():
        (MIGRATIONS / name).write_text(text)


if __name__ == "__main__":
    main()
