"""The promises that both live clients keep, on the ledger of the one in Python."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from rapport.client.catch_up import CatchUp
from rapport.client.contacts import FaceSource
from rapport.client.database import Inbox
from rapport.client.events import Change, Event, Heard
from rapport.client.face_feed import FaceFeed
from rapport.client.faces import ContactV2, contact_v2
from rapport.client.inbox import InboxFilter, InboxSource
from rapport.client.ledger import Ledger
from rapport.client.rows import Invoice, Job, Message
from rapport.client.sources import MessageSource, TableSource
from rapport.client.subscription import Subscription
from rapport.client.timing import Timing
from rapport.client.topics import Scope

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STORIES = sorted(SCENARIOS.glob("[!_]*.json"))
TRANSACTIONS = sorted((SCENARIOS / "transactions").glob("*.json"))
OF_FACES = sorted((SCENARIOS / "faces").glob("*.json"))
OF_THE_INBOX = sorted((SCENARIOS / "inbox").glob("*.json"))
OF_SOURCES = sorted((SCENARIOS / "sources").glob("*.json"))
MODELS: dict[str, type[Any]] = {"jobs": Job, "invoices": Invoice, "messages": Message}
FILLING = json.loads((SCENARIOS / "_rows.json").read_text())

Json = dict[str, Any]
Told = list[tuple[str, int, int | None, int | None]]


class Story:
    """A ledger, and what a scenario does to it."""

    def __init__(self, scenario: Json) -> None:
        self._table = scenario["of"]
        self._marks: dict[str, int] = {}
        self.ledger: Ledger[Any] = (
            Ledger(Job, self._is_ours)
            if self._table == "jobs"
            else Ledger(
                Message,
                self._is_ours,
                lambda row: (row.conversation_id, row.seq),
                is_whole=scenario["is_whole"],
            )
        )

    def take(self, step: Json) -> Heard[Any] | None:
        """Takes a step; what the ledger answers where it tells something."""
        ledger = self.ledger
        match step:
            case {"load": rows}:
                ledger.load([self._full(row) for row in rows])
            case {"reach": [thread, number]}:
                ledger.reach(UUID(int=thread), number)
            case {"mark": name}:
                self._marks[name] = ledger.mark()
            case {"hear": event}:
                heard = self._event(event, is_broadcast=True)
                sure = ledger.is_sure([heard])
                return ledger.hear(heard) if sure else Heard((), in_doubt=True)
            case {"settle": events, "at": mark}:
                return ledger.settle([self._event(event) for event in events], self._marks[mark])
            case {"reread": rows, "at": mark}:
                of = [UUID(int=number) for number in step.get("of", [])]
                return ledger.reread([self._full(row) for row in rows], self._marks[mark], of=of)
            case _:
                pytest.fail(f"There is no such step: {step}")
        return None

    def _full(self, row: Json) -> Json:
        return full(self._table, row)

    def _event(self, event: Json, *, is_broadcast: bool = False) -> Event:
        return Event.model_validate(event_of(self._table, event, is_broadcast=is_broadcast))

    def _is_ours(self, row: Any) -> bool:
        return bool(row.customer_id == UUID(int=1))


def full(table: str, row: Json) -> Json:
    """A row with what a scenario does not name, and ids as uuids."""
    return {
        column: str(UUID(int=value)) if isinstance(value, int) and column.endswith("id") else value
        for column, value in {**FILLING.get(table, {}), **row}.items()
    }


def event_of(table: str, event: Json, *, is_broadcast: bool) -> Json:
    """An event as it comes from the server."""
    row = full(table, event["row"])
    old = full(table, event["old"]) if "old" in event else None
    gone = event["operation"] == "DELETE"
    is_bare = event.get("is_bare", False)
    version = event.get("version", row["version"])
    return {
        "table": table,
        "id": row["id"],
        "version": version if isinstance(version, int) else 1,
        "operation": event["operation"],
        "record": None if gone or is_bare else row,
        "old_record": (row if gone else old) if is_broadcast and not is_bare else None,
    }


def as_told(changes: tuple[Change[Any], ...]) -> Told:
    return [
        (
            change.operation,
            change.id.int,
            change.new.version if change.new else None,
            change.old.version if change.old else None,
        )
        for change in changes
    ]


def in_order(table: str, changes: list[Any]) -> dict[int, list[list[Any]]]:
    """Changes by what they have an order in: a conversation or a row.

    What is gone and what has changed may be told before or after what is new.
    """
    ordered: defaultdict[int, list[list[Any]]] = defaultdict(list)
    for change in changes:
        ordered[change[1] // 100 if table == "messages" else change[1]].append(list(change))
    return {key: sorted(some, key=itemgetter(0)) for key, some in ordered.items()}


def test_there_are_scenarios() -> None:
    assert len(STORIES) >= 25
    assert len(TRANSACTIONS) >= 14
    assert len(OF_THE_INBOX) >= 16


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_promise_is_kept(path: Path) -> None:
    scenario = json.loads(path.read_text())
    story = Story(scenario)
    for step in scenario["steps"]:
        heard = story.take(step)
        if heard is not None:
            answer = in_order(scenario["of"], as_told(heard.changes))
            assert answer == in_order(scenario["of"], step["tell"]), step
            assert heard.in_doubt == step["in_doubt"], step
    shown = sorted([row_id.int, row.version] for row_id, row in story.ledger.rows.items())
    assert shown == scenario["rows"], scenario["promise"]


class _Rows:
    """Stands in for the server: the rows that were there before."""

    def __init__(self, load: Json) -> None:
        self._load = load

    async def pages(self, table: str, *_: object) -> AsyncIterator[list[Json]]:
        yield [full(table, row) for row in self._load.get(table, [])]


@pytest.mark.parametrize("path", TRANSACTIONS, ids=lambda path: path.stem)
async def test_transaction_is_told_whole_or_left_to_the_log(path: Path) -> None:
    scenario = json.loads(path.read_text())  # noqa: ASYNC240 - a small file of ours
    gather = 0.02
    server: Any = _Rows(scenario["load"])
    nobody: Any = None
    catch_up = CatchUp(server, "key", nobody, Timing(gather=gather))
    scope = Scope("customer", UUID(int=1))
    followed: dict[str, Subscription[Any]] = {}
    for table, model in MODELS.items():
        place = (lambda row: (row.conversation_id, row.seq)) if table == "messages" else None
        source: TableSource[Any] = TableSource(table, model, scope, place=place)
        followed[table] = Subscription(catch_up, source, scope)
        await followed[table].load(server)
    asked: list[None] = []
    # the log is not read
    catch_up.request = lambda: asked.append(None)  # type: ignore[method-assign] - not run here
    told: list[tuple[Change[Any], ...]] = []
    catch_up.on_checkpoint(told.append)
    for step in scenario["steps"]:
        told.clear()
        asked.clear()
        if "broadcast" in step:
            part = step["broadcast"]
            payload = event_of(part["table"], part, is_broadcast=True)
            signed = {"transaction": part["transaction"], "count": part["count"]}
            catch_up.hear("any", payload | signed, "customer:1")
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(2 * gather)
        assert len(told) <= 1, "told apart"
        tables = {model: table for table, model in MODELS.items()}
        seen = (
            [
                [tables[type(change.new or change.old)], *each]
                for change, each in zip(told[0], as_told(told[0]), strict=True)
            ]
            if told
            else []
        )
        assert sorted(seen) == sorted(step["tell"]), scenario["promise"]
        assert bool(asked) == step["in_doubt"], scenario["promise"]
        if "unreadable" in step:
            wrong = [table for table, each in followed.items() if each.is_unreadable]
            assert wrong == step["unreadable"]
    for table, rows in scenario["rows"].items():
        shown = sorted([row_id.int, row.version] for row_id, row in followed[table].rows.items())
        assert shown == rows, scenario["promise"]
    await catch_up.close()


@pytest.mark.parametrize("path", OF_FACES, ids=lambda path: path.stem)
def test_promise_of_faces_is_kept(path: Path) -> None:
    scenario = json.loads(path.read_text())
    feed: FaceFeed[ContactV2] = FaceFeed(contact_v2)
    for step in scenario["steps"]:
        told = []
        for table, rows in step.get("load", {}).items():
            feed.load(table, [full(table, row) for row in rows])
        for table, rows in step.get("replace", {}).items():
            told += feed.replace(table, [full(table, row) for row in rows])
        if "hear" in step:
            told += feed.apply(
                *(
                    Event.model_validate(event_of(event["table"], event, is_broadcast=True))
                    for event in step["hear"]
                )
            )
        if "tell" in step:
            changes = tuple(Change(one.operation, one.new, one.old) for one in told)
            assert [list(change) for change in as_told(changes)] == step["tell"], step
    shown = sorted([row_id.int, row.version] for row_id, row in feed.rows.items())
    assert shown == scenario["rows"], scenario["promise"]


class HasRows:
    """A server that has these rows."""

    def __init__(self, rows: Json) -> None:
        self._rows = rows

    async def owners(self) -> list[dict[str, UUID]]:
        return [
            {column: UUID(int=value) for column, value in owner.items()}
            for owner in self._rows["owners"]
        ]

    async def pages(
        self, table: str, equals: Json, key: str = "id", after: object = None
    ) -> AsyncIterator[list[Json]]:
        rows = [full(table, row) for row in self._rows.get(table, [])]
        yield [
            row
            for row in rows
            if all(row.get(column, str(value)) == str(value) for column, value in equals.items())
            and (after is None or row[key] > after)
        ]

    async def rows(self, table: str, ids: list[UUID]) -> list[Json]:
        return [
            row async for page in self.pages(table, {}) for row in page if UUID(row["id"]) in ids
        ]


@pytest.mark.parametrize("path", OF_SOURCES, ids=lambda path: path.stem)
def test_promise_of_what_is_read_is_kept(path: Path) -> None:
    asyncio.run(keep_what_is_read(json.loads(path.read_text())))


async def keep_what_is_read(scenario: Json) -> None:
    customer = scenario.get("customer")
    scope = Scope("customer", UUID(int=customer)) if customer else Scope()
    source: Any = FaceSource(contact_v2) if scenario["of"] == "contacts" else MessageSource(scope)
    for step in scenario["steps"]:
        server = HasRows(step["server"])
        heard = await getattr(source, step["do"])(server)
        told = in_order(scenario["of"], as_told(heard.changes) if heard else [])
        assert told == in_order(scenario["of"], step["tell"]), step
    if "rows" in scenario:
        rows = sorted([row_id.int, row.version] for row_id, row in source.rows.items())
        assert rows == scenario["rows"], scenario["promise"]
    if "shown" in scenario:
        assert [row_id.int for row_id in source.rows] == scenario["shown"], scenario["promise"]


class HasConversations:
    """A server with conversations, which notes what it is asked."""

    def __init__(self) -> None:
        self.has: Json = {}
        self.asked: list[Json] = []

    async def owners(self) -> list[dict[str, UUID]]:
        return [{"account_id": UUID(int=1)}]

    async def latest(self, *_: object) -> list[Json]:
        return [
            {"conversation_id": str(UUID(int=number)), "last_read_seq": seq}
            for number, seq in self.has.get("markers", [])
        ]

    async def call(self, name: str, answer: Any, **given: Any) -> Any:
        if name != "inbox_page":
            return answer.validate_python({"assignees": [], "snoozed": 0, "free": 0, "labels": []})
        ids, before_id = given.get("ids"), given.get("before_id")
        after = UUID(before_id).int if before_id else None
        self.asked.append(
            {"ids": sorted(UUID(one).int for one in ids)}
            if ids
            else {"after": after, "size": given["page_size"]}
        )
        found = self.has["inbox"] + ([] if "is_free" in given else self.has.get("others", []))
        rows = sorted(answer.validate_python([inbox_row(row) for row in found]), key=_in_the_inbox)
        last = before_id and (-datetime.fromisoformat(given["before"]).timestamp(), UUID(before_id))
        return [
            row
            for row in rows
            if (not ids or str(row.id) in ids) and (not last or _in_the_inbox(row) > last)
        ][: given.get("page_size")]


def minute(at: int) -> str:
    return f"2026-11-21T08:{at:02}:00+00:00"


def inbox_row(row: Json) -> Json:
    return full("inbox", {**row, "last_message_at": minute(row["at"])})


def _in_the_inbox(row: Inbox) -> tuple[float, UUID]:
    return -row.last_message_at.timestamp(), row.id


def inbox_filter(given: Json) -> InboxFilter:
    return InboxFilter(
        **{
            name: UUID(int=value) if name.endswith("_id") else value
            for name, value in given.items()
        }
    )


@pytest.mark.parametrize("path", OF_THE_INBOX, ids=lambda path: path.stem)
def test_promise_of_the_inbox_is_kept(path: Path) -> None:
    asyncio.run(keep_the_inbox(json.loads(path.read_text())))


async def keep_the_inbox(scenario: Json) -> None:
    has = HasConversations()
    server: Any = has
    wanted = inbox_filter(scenario.get("filter", {}))
    source = InboxSource(None, wanted, scenario["page_size"], look_pause=0)
    for step in scenario["steps"]:
        has.has, has.asked = step.get("server", has.has), []
        is_heard = "hear" in step
        events = [
            Event.model_validate(event_of(event["table"], event, is_broadcast=is_heard))
            for event in step.get("hear", step.get("settle", []))
        ]
        in_doubt = is_heard and not source.is_sure(events)
        assert in_doubt == step.get("in_doubt", False), step
        match step:
            case {"do": "load"}:
                await source.load(server)
            case {"do": "reread"}:
                await source.reread(server)
            case {"do": "more"}:
                source.wants_more = source.has_more
            case {"do": "filter"}:
                source.renew(inbox_filter(step["filter"]))
            case {"do": "pin"}:
                source.pin(UUID(int=step["id"]))
            case {"hear": _} if not in_doubt:
                source.hear(events)
            case {"settle": _}:
                source.settle(events, source.mark())
        if step.get("do") != "load":
            await source.ask(server)
        assert has.asked == step["asked"], step
        told = sorted([change.operation, change.id.int] for change in source.take())
        assert told == sorted(step["tell"]), step
        assert [row_id.int for row_id in source.rows] == step["shown"], step
        assert source.has_more == step["has_more"], step
        pinned = source.pinned and [source.pinned.id.int, source.pinned.last_message_at.minute]
        assert pinned == step.get("pinned"), step
