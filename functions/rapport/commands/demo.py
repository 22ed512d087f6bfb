"""The command `rapport demo`: one message through a running stack, observed by real clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console

from rapport.commands.observer import Observer, Row, TopicRefusedError, insert_of
from rapport.commands.up import TerminalProgress, interrupt_on_signals
from rapport.local.errors import StackError
from rapport.local.fakes.whatsapp.courier import Meta
from rapport.local.fakes.whatsapp.payloads import message_id
from rapport.local.proxy import forget_proxies
from rapport.local.stack import launch, state
from rapport.local.stack.logins import LOGINS
from rapport.local.stack.running import Stack

RECORDED_TEXT = state.PROJECT / "tests" / "events" / "text.json"
ALPINE_NUMBER, BAY_NUMBER = "1003427786179738", "1003427786179739"


class DemoError(StackError):
    """A step of the demo was not observed."""


class Timeline:
    """Prints each step when it was observed, with the time since the demo's event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.perf_counter()

    def restart(self) -> float:
        """Starts the time again from now, and returns it."""
        self._start = time.perf_counter()
        return self._start

    def show(self, step: str, at: float | None = None) -> None:
        """Prints a step that was observed at the given instant, or now."""
        elapsed = ((at or time.perf_counter()) - self._start) * 1000
        self._console.print(f"  {elapsed:8.1f} ms  ✓ {step}", highlight=False, soft_wrap=True)


def demo() -> None:
    """Runs the demo on the running stack, or on one that is started and stopped for it.

    Raises StackError, or DemoError for the first step that was not observed.
    """
    console = Console()
    interrupt_on_signals()
    with _stack(Console(stderr=True)) as stack:
        console.print(f"\n  One WhatsApp message through {stack.url}\n", highlight=False)
        try:
            asyncio.run(_play(stack, Timeline(console)))
        except TimeoutError:
            raise DemoError("The next step was not observed within 15 s. See the logs.") from None
        console.print("\n  Every step was observed by a real client.\n")


@contextmanager
def _stack(console: Console) -> Iterator[Stack]:
    folder = state.folder()
    if running := state.running_stack(folder):
        forget_proxies()
        yield running
        return
    with launch.running(folder, TerminalProgress(console)) as started:
        yield started.stack


async def _play(stack: Stack, timeline: Timeline) -> None:
    async with _agents(stack) as (andrej, ana):
        timeline.show("two agents of two businesses are signed in")
        await _listen(andrej, ana)
        timeline.show("each hears its own account; the other's topic was refused")

        cursor = (await andrej.call("changes_since"))["cursor"]
        text = _recorded(ALPINE_NUMBER)
        start = timeline.restart()
        answer = await _deliver(stack, text)
        _require(answer["applied"] == 1, f"the webhook's answer was {answer}")
        posted = time.perf_counter()
        heard = [
            await andrej.wait_for(insert_of(_message(text)["id"], by="broadcast")),
            await andrej.wait_for(insert_of(_message(text)["id"], by="postgres_changes")),
        ]
        timeline.show("signed webhook stored: contact, conversation and message", posted)
        timeline.show("the agent's private topic has the message", heard[0].at)
        timeline.show("postgres_changes has the message", heard[1].at)
        _require(all(event.at >= start for event in heard), "an event came before its cause")

        before = await _rows(andrej, text)
        timeline.show("the agent reads all three rows through PostgREST")
        caught_up = await _catch_up(andrej, cursor)
        _require(
            [change["id"] for change in caught_up if change["table"] == "messages"]
            == [before["messages"]["id"]],
            "changes_since did not tell of the message once",
        )
        timeline.show("changes_since tells of it once")

        await _replay(stack, andrej, text)
        _require(await _rows(andrej, text) == before, "the replay changed a row")
        timeline.show("the same webhook again changes nothing")

        await _other_account(stack, ana, text)
        timeline.show("the other account's agent got its own message, and nothing of this one")


@asynccontextmanager
async def _agents(stack: Stack) -> AsyncIterator[tuple[Observer, Observer]]:
    andrej, ana = (login for login in LOGINS if login.role == "agent")
    async with (
        Observer.signed_in(stack, andrej.email, andrej.password) as of_alpine,
        Observer.signed_in(stack, ana.email, ana.password) as of_bay,
    ):
        yield of_alpine, of_bay


async def _listen(andrej: Observer, ana: Observer) -> None:
    for agent in (andrej, ana):
        await agent.follow_topic(await agent.topic("account"))
        await agent.follow_table("messages")
    try:
        await ana.follow_topic(await andrej.topic("account"))
    except TopicRefusedError:
        return
    raise DemoError("An agent could join another account's topic.")


def _recorded(phone_number_id: str) -> dict[str, Any]:
    """A recorded payload as if it were sent now: to this number, with a new id."""
    payload: dict[str, Any] = json.loads(RECORDED_TEXT.read_text())
    value = payload["entry"][0]["changes"][0]["value"]
    value["metadata"]["phone_number_id"] = phone_number_id
    value["messages"][0]["id"] = message_id()
    value["messages"][0]["timestamp"] = str(int(datetime.now(UTC).timestamp()))
    return payload


def _message(payload: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = payload["entry"][0]["changes"][0]["value"]["messages"][0]
    return message


async def _deliver(stack: Stack, payload: dict[str, Any]) -> dict[str, Any]:
    """Posts the webhook as Meta does, and returns the function's answer."""
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        response = await Meta(http, stack.webhook_url, stack.whatsapp_app_secret).post(payload)
    _require(response.status_code == 200, f"the webhook was answered {response.status_code}")
    answer: dict[str, Any] = response.json()
    return answer


async def _rows(agent: Observer, payload: dict[str, Any]) -> dict[str, Row]:
    """The message, its conversation and its contact, read as the agent."""
    message = await _only_row(agent, "messages", provider_id=_message(payload)["id"])
    _require(message["message"] == _message(payload)["text"]["body"], "another text is stored")
    return {
        "messages": message,
        "conversations": await _only_row(agent, "conversations", id=message["conversation_id"]),
        "contacts": await _only_row(agent, "contacts", id=message["customer_id"]),
    }


async def _only_row(agent: Observer, table: str, **equal: str) -> Row:
    rows = await agent.rows(table, **equal)
    _require(len(rows) == 1, f"{table} has {len(rows)} rows of it")
    return rows[0]


async def _catch_up(agent: Observer, cursor: str) -> list[dict[str, Any]]:
    page = await agent.call("changes_since", cursor=cursor)
    _require(not page["resync"] and not page["more"], "catch-up did not end with one page")
    changes: list[dict[str, Any]] = page["changes"]
    return changes


async def _replay(stack: Stack, agent: Observer, text: dict[str, Any]) -> None:
    cursor = (await agent.call("changes_since"))["cursor"]
    answer = await _deliver(stack, text)
    _require(
        (answer["applied"], answer["duplicates"]) == (0, 1), f"the replay's answer was {answer}"
    )
    _require(await _catch_up(agent, cursor) == [], "the replay left entries in the change log")


async def _other_account(stack: Stack, ana: Observer, text: dict[str, Any]) -> None:
    """Sends the other account a message. When that arrived in both ways, earlier events have
    arrived too.
    """
    other = _recorded(BAY_NUMBER)
    await _deliver(stack, other)
    await ana.wait_for(insert_of(_message(other)["id"], by="broadcast"))
    await ana.wait_for(insert_of(_message(other)["id"], by="postgres_changes"))
    own = {account["id"] for account in await ana.rows("accounts")}
    heard_of = {event.record.get("account_id") for event in ana.heard}
    _require(heard_of == own, "an agent heard of another account's rows")
    ids = [event.record.get("provider_id") for event in ana.heard]
    _require(_message(text)["id"] not in ids, "an agent heard another account's message")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoError(f"The demo failed: {otherwise}.")
