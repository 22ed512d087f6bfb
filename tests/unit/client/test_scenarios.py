"""The promises that both live clients keep, on the ledger of the one in Python."""

from __future__ import annotations

import json
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from rapport.client.events import Change, Event, Heard
from rapport.client.ledger import Ledger
from rapport.client.rows import Job, Message

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STORIES = sorted(SCENARIOS.glob("[!_]*.json"))
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
                return ledger.hear(self._event(event, is_broadcast=True))
            case {"settle": events, "at": mark}:
                return ledger.settle([self._event(event) for event in events], self._marks[mark])
            case {"reread": rows, "at": mark}:
                of = [UUID(int=number) for number in step.get("of", [])]
                return ledger.reread([self._full(row) for row in rows], self._marks[mark], of=of)
            case _:
                pytest.fail(f"There is no such step: {step}")
        return None

    def _full(self, row: Json) -> Json:
        full = {**FILLING[self._table], **row}
        return {
            column: str(UUID(int=value))
            if isinstance(value, int) and column.endswith("id")
            else value
            for column, value in full.items()
        }

    def _event(self, event: Json, *, is_broadcast: bool = False) -> Event:
        row = self._full(event["row"])
        old = self._full(event["old"]) if "old" in event else None
        gone = event["operation"] == "DELETE"
        is_bare = event.get("is_bare", False)
        version = event.get("version", row["version"])
        return Event.model_validate(
            {
                "table": self._table,
                "id": row["id"],
                "version": version if isinstance(version, int) else 1,
                "operation": event["operation"],
                "record": None if gone or is_bare else row,
                "old_record": (row if gone else old) if is_broadcast and not is_bare else None,
            }
        )

    def _is_ours(self, row: Any) -> bool:
        return bool(row.customer_id == UUID(int=1))


def told(changes: tuple[Change[Any], ...]) -> Told:
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


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_promise_is_kept(path: Path) -> None:
    scenario = json.loads(path.read_text())
    story = Story(scenario)
    for step in scenario["steps"]:
        heard = story.take(step)
        if heard is not None:
            answer = in_order(scenario["of"], told(heard.changes))
            assert answer == in_order(scenario["of"], step["tell"]), step
            assert heard.in_doubt == step["in_doubt"], step
    shown = sorted([row_id.int, row.version] for row_id, row in story.ledger.rows.items())
    assert shown == scenario["rows"], scenario["promise"]
