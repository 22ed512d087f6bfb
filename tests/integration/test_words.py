"""What users of PostgREST are told: words with a field and a remedy, never Postgres' own.

Every table, column and argument that PostgREST's own description names is written with values
that it takes and such that it doesn't.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from tests.sql.actors import about, populate
from tests.stacks import Start
from tests.world import ALPINE, World, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

JSON = dict[str, Any]

# how Postgres speaks of rights, policies and constraints
RAW = re.compile(
    r"violates|permission denied|row-level security|constraint|duplicate key|null value"
    r"|\brelation\b|must be owner|cannot (insert|update|delete)|Failing row|Key \("
)
# a sentence that was built of nothing
EMPTY = re.compile(r"^\W*\s|  |''|\bnull\b(?! takes)|\bNothing is\b|<NULL>")
# what is said of a rule that has no words of its own
WORDLESS = re.compile(r"^This is no value of|^There is nothing that")
# A value that is none of its type is refused while PostgREST's statement reads the body, before
# there is a row: no trigger and no function of ours runs. The text quotes the value.
NOT_OF_ITS_TYPE = {"22P02", "22003", "22007", "22008", "22009", "22023", "22P05"}
# what PostgREST says of a request itself
OF_POSTGREST = re.compile(r"PGRST[12]\d\d")

LONG = "x" * 25_000
VALUES: dict[str, list[object]] = {
    "uuid": [str(seed_uuid("nobody")), str(ALPINE), "x", None],
    "text": ["x", "", LONG, "\t", None, "1; drop table x", 7],
    "boolean": [True, False, None, "x"],
    "integer": [-1, 0, 2**31 - 1, 2**31, None, 1.5, "x"],
    "bigint": [-1, 0, 2**63 - 1, 2**63, None, "x"],
    "timestamp with time zone": [
        "2026-01-01T00:00:00Z",
        "0001-01-01",
        "99999-01-01",
        "infinity",
        None,
        "x",
        7,
    ],
    "date": ["2026-01-01", "99999-01-01", None, "x"],
    "interval": ["00:00:00", "-1 day", "9999 years", None, "x"],
    "jsonb": [{}, [], "x", 7, None, {"a": {"b": LONG}}, [[[[[[]]]]]]],
    "array": [[], ["x"], [None], None, "x", [LONG]],
}


def values_of(described: JSON) -> list[object]:
    """What is tried for a column or an argument, by its format."""
    format_ = described.get("format", "")
    if format_.endswith("[]"):
        return VALUES["array"]
    return VALUES.get(format_, VALUES["text"])


@dataclass(frozen=True)
class Answer:
    """What PostgREST has answered."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.text)


class Walk:
    """One user's requests, and what came of those that were refused.

    There are thousands: the connection is the plainest that there is.
    """

    def __init__(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = headers
        self.wrong: dict[str, str] = {}

    def get(self, path: str) -> Answer:
        return self._request("GET", path)

    def ask(self, method: str, path: str, body: object = None) -> None:
        """Makes a request, and notes what is wrong where it is refused."""
        answer = self._request(method, path, body)
        if not answer.is_success:
            fault = fault_of(answer)
            if fault:
                said = f"{fault}: {method} {path} {repr(body)[:300]}: {answer.text[:300]}"
                # once for many values
                self.wrong.setdefault(f"{method} {path} {answer.text[:300]}", said)

    def _request(self, method: str, path: str, body: object = None) -> Answer:
        sent = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, sent, self._headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.read().decode())


def fault_of(answer: Answer) -> str | None:
    """What is wrong with a refusal, if anything."""
    told = answer.json()
    code, message = told["code"], told["message"]
    if answer.status >= 500 and code != "PT503":
        return "an error of ours"
    if code in NOT_OF_ITS_TYPE or OF_POSTGREST.fullmatch(code):
        return None
    if RAW.search(answer.text):
        return "Postgres' own words"
    if not (code.startswith("PT") or code == "42501"):
        return "a code that is not ours"
    if not message.endswith(".") or EMPTY.search(message):
        return "no sentence"
    if WORDLESS.search(message):
        return "no words of its own"
    if code == "PT422" and not re.search(r"\bfield: [\w.]", told["details"] or ""):
        return "no field"
    if code in {"PT422", "PT409", "42501"} and not told["hint"]:
        return "no remedy"
    return None


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    """Both businesses, with rows in every table."""
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        populate(world)
        yield world


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("postgrest")


@contextmanager
def walking(stack: Stack, name: str) -> Iterator[Walk]:
    """PostgREST as somebody asks it."""
    token = keys.mint_user_token(stack.signing_key, user_id=seed_uuid(name))
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(stack.host, stack.postgrest_port, timeout=30)
    try:
        yield Walk(connection, headers)
    finally:
        connection.close()


def rows_that_are_taken() -> dict[str, JSON]:
    """For each table that users write a row that is taken, without keys of its own."""
    contact = str(seed_uuid("contact cilka"))
    return {
        "jobs": {"customer_id": contact, "service_type": "any", "starts_at": "2027-01-01"},
        "invoices": {
            "customer_id": contact,
            "number": "walked",
            "currency": "EUR",
            "amount_minor": 5,
        },
        "loyalty_transactions": {"customer_id": contact, "type": "earned", "points": 1},
        "messages": {"customer_id": contact, "message": "any"},
        "contacts_v2": {"account_id": str(ALPINE), "name": "any"},
        "contacts_live_chat": {"account_id": str(ALPINE), "name": "any"},
        "metakocka_partners": {"account_id": str(ALPINE), "name": "any"},
        "metakocka_connections": {"account_id": str(ALPINE), "company_id": "16"},
    }


def rows_that_are_there(walk: Walk, table: str, key: str) -> str:
    """A request for the rows as they are, without the hundreds that the walk adds to them."""
    answer = walk.get(f"/{table}?select={key}")
    there = {row[key] for row in answer.json()} if answer.is_success else set()
    if not there or None in there:
        return f"/{table}?{key}=not.is.null"
    return f"/{table}?{key}=in.({quote(','.join(sorted(map(str, there))))})"


def written_by_users(world: World) -> set[str]:
    """The tables that have a column which the role of all users may write."""
    return {
        row["relname"]
        for row in world.rows(
            "select relname from pg_class c where relnamespace = 'public'::regnamespace"
            " and relkind in ('r', 'p', 'v')"
            " and has_any_column_privilege('authenticated', c.oid, 'insert, update')"
        )
    }


WALKERS = ["olivia", "andrej", "vera", "cilka", "stranger"]


@pytest.mark.parametrize("name", WALKERS)
def test_whatever_is_written_is_taken_or_refused_in_words(
    stack: Stack, world: World, name: str
) -> None:
    taken = rows_that_are_taken()
    written = written_by_users(world)
    walked = 0
    with walking(stack, name) as walk:
        described = walk.get("/").json()
        rows_there = {
            table: rows_that_are_there(walk, table, next(iter(definition["properties"])))
            for table, definition in described["definitions"].items()
        }
        for path, methods in described["paths"].items():
            table = path.removeprefix("/")
            if path == "/" or table.startswith("rpc/"):
                continue
            properties = described["definitions"][table]["properties"]
            base = taken.get(table, {})
            there = rows_there[table]
            # Rights are those of the role, which all users have: where it has none, one of them
            # is told so of every column. One that only this column makes wrong, and the column
            # alone.
            columns = properties if table in written or name == "olivia" else {}
            for column, described_column in columns.items():
                walked += 1
                # the fault of a value is the same for every writer
                tried = values_of(described_column) if table in taken else ["x"]
                tried = tried if name == "olivia" else tried[:1]
                for value in tried:
                    walk.ask("POST", path, base | {column: value})
                    walk.ask("PATCH", there, {column: value})
                walk.ask("POST", path, {column: None})
            walk.ask("POST", path, {})
            walk.ask("POST", path, [base, base])
            walk.ask("POST", f"{path}?columns=no_such_column", base)
            walk.ask("PATCH", f"{path}?{next(iter(properties))}=is.null", base)
            walk.ask("DELETE", f"{path}?{next(iter(properties))}=is.null")
            walk.ask("PUT", f"{path}?id=eq.{ALPINE}", base | {"id": str(ALPINE)})
            assert "post" not in methods or "patch" in methods
    assert not walk.wrong, "\n".join(walk.wrong.values())
    assert walked > 200


@pytest.mark.parametrize("name", WALKERS)
def test_whatever_is_called_is_done_or_refused_in_words(
    stack: Stack, world: World, name: str
) -> None:
    facts = {key: str(value) for key, value in about(world, ALPINE).items()}
    # arguments by the names of what they are about
    known = {
        "account_id": facts["account"],
        "conversation_id": facts["conversation"],
        "contact_id": facts["contact"],
        "keep": facts["contact"],
        "drop": facts["other"],
        "customer_id": facts["contact"],
        "message_id": facts["ours"],
        "merge_id": facts["merge"],
        "suggestion_id": facts["suggestion"],
        "invitation_id": facts["invitation"],
        "conflict_id": facts["conflict"],
        "channel_id": facts["channel"],
        "message": "any",
        "reference": facts["conversation"],
    }
    walked = 0
    with walking(stack, name) as walk:
        paths = walk.get("/").json()["paths"]
        # the others need the contact
        for path in sorted(paths, key="/rpc/erase_contact".__eq__):
            methods = paths[path]
            if not path.startswith("/rpc/"):
                continue
            [body] = [
                one["schema"] for one in methods["post"]["parameters"] if one.get("name") == "args"
            ]
            arguments = body.get("properties", {})
            base = {key: known[key] for key in arguments if key in known}
            walk.ask("POST", path, {})
            walk.ask("POST", path, dict.fromkeys(arguments))
            for argument, described in arguments.items():
                walked += 1
                tried = values_of(described)
                for value in tried if name == "olivia" else tried[:2]:
                    walk.ask("POST", path, base | {argument: value})
            walk.ask("POST", path, base)
    assert not walk.wrong, "\n".join(walk.wrong.values())
    assert walked > 50
