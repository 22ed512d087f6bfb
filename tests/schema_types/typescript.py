"""The types of the schema for TypeScript: those of `supabase gen types`, and what it can't know."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from rapport.local.stack.npm import Binaries, node
from rapport.local.stack.postgres import Database
from rapport.local.stack.state import PROJECT
from rapport.local.stack.supabase_cli import typescript
from tests.schema_types.notation import (
    ByKey,
    Field,
    Fields,
    ListOf,
    Name,
    OneOf,
    Shape,
    Word,
    without_null,
)
from tests.schema_types.schema import Column, Relation, Schema
from tests.web.node import install

SCALARS = {
    "text": "string",
    "uuid": "string",
    "date": "string",
    "time": "string",
    "timestamptz": "string",
    "integer": "number",
    "bigint": "number",
    "numeric": "number",
    "boolean": "boolean",
    "json": "Json",
    "null": "null",
}
HEADER = """\
// Made from the schema by `uv run python -m tests.schema_types.generate`: edit sql/, run it again.
// Times are ISO 8601 texts in UTC, days ISO 8601 dates.
"""


class TypeScript:
    """Writes the types of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._types: dict[str, dict[str, object]] = {}
        self._comments: dict[str, str] = {}

    def write(self, database: Database, binaries: Binaries) -> tuple[str, frozenset[str]]:
        """The text of the file, and the columns that may be null, such as `inbox.group_name`."""
        for relation in self._schema.relations:
            kind = "Views" if relation.is_view else "Tables"
            path = f"public.{kind}.{relation.name}"
            self._comment(path, relation.comment)
            for column in relation.columns:
                self._comment(f"{path}.Row.{column.name}", column.comment)
        for function in self._schema.functions:
            path = f"public.Functions.{function.name}"
            self._comment(path, function.comment)
            if function.declared:
                self._types[f"{path}.Returns"] = {
                    "type": self.of(function.declared.shape),
                    "isNull": False,
                }
        for function in self._schema.functions:
            arguments = function.declared.arguments if function.declared else ()
            told = {one.name: one for one in arguments}
            for name in {*told, *function.null_by_default}:
                self._types[f"public.Functions.{function.name}.Args.{name}"] = {
                    "type": self.of(told[name].shape) if name in told else None,
                    "isNull": name in function.null_by_default,
                }
        for relation in self._schema.relations:
            for column in relation.columns:
                self._column(relation, column)
        answer = _rewrite(
            source=typescript(database, binaries, PROJECT),
            types=self._types,
            comments=self._comments,
            header=HEADER,
            footer=self._told(),
        )
        return answer["text"], frozenset(answer["nulls"])

    def _column(self, relation: Relation, column: Column) -> None:
        """The words and the JSON of a column, which may be null where it was without them."""
        kind = "Views" if relation.is_view else "Tables"
        shape, is_null = without_null(column.declared.shape) if column.declared else (None, None)
        words = " | ".join(json.dumps(word) for word in column.words)
        if column.is_array and words:
            words = f"({words})[]"
        type_ = self.of(shape) if shape else words
        if not type_:
            return
        path = f"public.{kind}.{relation.name}"
        # a view may show a column of a row that is not there
        knows_null = column.declared is not None and column.is_declared_here
        self._types[f"{path}.Row.{column.name}"] = {
            "type": type_,
            "isNull": is_null if knows_null else "as before",
        }
        # what is written need not be whole
        if column.type != "jsonb":
            for way in ("Insert", "Update"):
                self._types[f"{path}.{way}.{column.name}"] = {"type": type_, "isNull": "as before"}

    def _comment(self, path: str, comment: str | None) -> None:
        if comment:
            self._comments[path] = comment.replace("*/", "* /")

    def _told(self) -> str:
        """The rows that live clients are told."""
        rows = []
        for name in sorted(self._schema.followed):
            hidden = [one.name for one in self._schema.by_name[name].columns if not one.is_told]
            row = f'Tables<"{name}">'
            if hidden:
                row = f"Omit<{row}, {' | '.join(json.dumps(one) for one in hidden)}>"
            rows.append(f"  {name}: {row}")
        comment = "The rows that broadcasts, `changes_since` and the live client tell, by table."
        return f"/** {comment} */\nexport type Told = {{\n{';'.join(rows)}\n}}\n"

    def of(self, shape: Shape) -> str:
        """A shape in TypeScript."""
        match shape:
            case Name(name) if name in SCALARS:
                return SCALARS[name]
            case Name(name) if "." in name:
                return " | ".join(json.dumps(word) for word in self._schema.column(name).words)
            case Name(name):
                kind = "Views" if self._schema.by_name[name].is_view else "Tables"
                return f'Database["public"]["{kind}"]["{name}"]["Row"]'
            case Word(word):
                return json.dumps(word)
            case ListOf(item):
                return f"({self.of(item)})[]"
            case ByKey(value):
                return f"{{ [key: string]: {self.of(value)} }}"
            case Fields(fields):
                return f"{{ {'; '.join(self._field(field) for field in fields)} }}"
            case OneOf(options):
                return " | ".join(self.of(option) for option in options)

    def _field(self, field: Field) -> str:
        return f"{field.name}{'?' * field.may_be_absent}: {self.of(field.shape)}"


def _rewrite(**given: object) -> dict[str, Any]:
    """Has TypeScript itself write the types into the text: see `rewrite.mjs`."""
    modules = install()
    done = subprocess.run(
        [node(), Path(__file__).with_name("rewrite.mjs"), str(modules / "typescript")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer
