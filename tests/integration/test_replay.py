"""`rapport replay` over a real stack: what an old parser left is understood as it is today.

And what else people who run a deployment do by hand: redrive, pause, resume, after-restore.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.commands import rapport
from typer.testing import CliRunner

from rapport.commands import app
from rapport.local.proxy import without_proxy
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.settings import StoreSettings
from rapport.store.webhooks import Item, MessageItem, SkippedItem, WebhookStore
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

EVENTS = Path(__file__).parents[1] / "events"
NUMBER = "106540352242922"
NAMES = ["text", "image", "location", "interactive_list", "contacts", "status_read"]

# a database as the schema's owner sees it
EVERYTHING = """
    select jsonb_build_object(
        'contacts', (select jsonb_agg(to_jsonb(c) order by c.id) from public.contacts c),
        'conversations', (select jsonb_agg(to_jsonb(c) order by c.id) from public.conversations c),
        'messages', (select jsonb_agg(to_jsonb(m) order by m.id) from public.messages m),
        'statuses', (select jsonb_agg(to_jsonb(s) order by s) from private.message_statuses s),
        'events', (select jsonb_agg(to_jsonb(e) order by e.id) from private.webhook_events e),
        'changes', (select count(*) from private.changes)
    ) as everything
"""
MESSAGES = "select provider_id, type, message, content from public.messages order by provider_id"

Start = Callable[..., Stack]


class Inbox:
    """A stack whose webhooks were stored with an older parser than today's."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.stack = stack
        self.connection = psycopg.connect(database.url(), autocommit=True, row_factory=dict_row)
        self.store = WebhookStore(
            StoreSettings.model_validate(
                {
                    "supabase_url": stack.url,
                    "supabase_secret_key": stack.secret_key,
                }
            )
        )

    def close(self) -> None:
        self.store.close()
        self.connection.close()

    def everything(self) -> object:
        return self.connection.execute(EVERYTHING).fetchall()

    def messages(self) -> list[dict[str, object]]:
        return self.connection.execute(MESSAGES).fetchall()

    def replay(
        self, *options: str, environment: Mapping[str, str] | None = None
    ) -> CompletedProcess[str]:
        """Replays on this stack, as an operator of a hosted project would."""
        return self.run("replay", "--since", "2026-01-01", *options, environment=environment)

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> CompletedProcess[str]:
        """Runs a command on this stack."""
        given = {
            "SUPABASE_URL": self.stack.url,
            "SUPABASE_SECRET_KEY": self.stack.secret_key,
        }
        return rapport(
            arguments,
            {
                **os.environ,
                **without_proxy(self.stack.host),
                **(given if environment is None else environment),
            },
        )


def old(items: list[Item]) -> list[Item]:
    """What a parser makes of a webhook that knows texts, and nothing of locations at all."""
    return [_old(item) for item in items]


def _old(item: Item) -> Item:
    if not isinstance(item, MessageItem) or item.type == "text":
        return item
    if item.type == "location":
        return SkippedItem(reason="malformed_message", detail=item.type)
    return item._replace(text="[unsupported message]", type="unsupported")


def counts(output: str) -> dict[str, int]:
    return {
        words: int(count)
        for count, words in re.findall(r"^ +(\d+) ([^\d\n]+)$", output, re.MULTILINE)
    }


@pytest.fixture
def inbox(start: Start, database: Database) -> Iterator[Inbox]:
    inbox = Inbox(start("postgrest", "gateway"), database)
    inbox.connection.execute(
        "with account as (insert into public.accounts (name) values ('Alpine') returning id)"
        " insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name)"
        " select id, %s, '+1 555 078 3881', 'Front desk' from account",
        [NUMBER],
    )
    for name in NAMES:
        body = (EVENTS / f"{name}.json").read_text()
        inbox.store.ingest_whatsapp(body, old(items_of(parse(body))))
    yield inbox
    inbox.close()


def test_what_an_old_parser_left_is_as_if_it_had_come_today(inbox: Inbox) -> None:
    left = [row["message"] for row in inbox.messages()]
    assert left.count("[unsupported message]") == 3
    assert len(left) == 4

    first = inbox.replay()
    assert first.returncode == 0, first.stderr
    assert counts(first.stdout) == {
        "replayed": 6,
        "updates added": 1,
        "messages corrected": 3,
        "updates still not applied": 0,
        "failed": 0,
    }
    expected = [
        (item.provider_id, item.type, item.text, item.content)
        for name in NAMES
        for item in items_of(parse((EVENTS / f"{name}.json").read_text()))
        if isinstance(item, MessageItem)
    ]
    assert [tuple(row.values()) for row in inbox.messages()] == sorted(
        expected, key=lambda message: message[0]
    )

    before = inbox.everything()
    second = inbox.replay()
    assert second.returncode == 0, second.stderr
    assert counts(second.stdout)["updates added"] == 0
    assert counts(second.stdout)["messages corrected"] == 0
    assert inbox.everything() == before


def test_the_command_why_says_what_an_old_parser_left(inbox: Inbox) -> None:
    [location] = items_of(parse((EVENTS / "location.json").read_text()))
    assert isinstance(location, MessageItem)
    told = inbox.run("why", location.provider_id)
    assert (told.returncode, told.stderr) == (1, "")
    first, remedy = told.stdout.strip().splitlines()[:2]
    assert first.startswith("✗ The webhook was kept, but this part of it was not applied")
    assert "rapport replay" in remedy
    assert re.search(
        r"^  ✓ signature +The signature of the webhook was good\.$", told.stdout, re.MULTILINE
    )

    # a number as a spreadsheet has written it, of the account's country
    inbox.connection.execute("update public.accounts set country = 'HR'")
    account = str(inbox.connection.execute("select id from public.accounts").fetchall()[0]["id"])
    told = inbox.run("why", "3,85911234567E+11", "--account", account, "--json")
    answer = json.loads(told.stdout)
    assert (answer["kind"], answer["broken"]) == ("number", "access")
    assert answer["words"].startswith("Nobody works for the account")


def test_a_dry_run_says_so_and_changes_nothing(inbox: Inbox) -> None:
    before = inbox.everything()
    result = inbox.replay("--dry-run")
    assert result.returncode == 0, result.stderr
    assert counts(result.stdout) == {
        "replayed": 6,
        "updates would be added": 1,
        "messages would be corrected": 3,
        "updates still not applied": 0,
        "failed": 0,
    }
    assert "Nothing was changed." in result.stdout
    assert inbox.everything() == before


def test_what_came_before_or_after_the_span_is_left_alone(inbox: Inbox) -> None:
    inbox.connection.execute(
        "update private.webhook_events"
        " set received_at = '2026-11-01+00'::timestamptz + id * interval '1 day'"
    )
    result = inbox.replay("--since", "2026-11-03", "--until", "2026-11-04T00:00")
    assert counts(result.stdout)["replayed"] == 1
    corrected = [row["type"] for row in inbox.messages() if row["type"] != "unsupported"]
    assert sorted(map(str, corrected)) == ["image", "text"]


def test_an_event_that_can_not_be_parsed_is_named_and_keeps_no_other(inbox: Inbox) -> None:
    inbox.connection.execute("update private.webhook_events set body = '{' where id = 1")
    result = inbox.replay()
    assert result.returncode == 1
    assert counts(result.stdout)["messages corrected"] == 3
    assert "1: The body is not JSON." in result.stdout


def test_a_database_that_is_away_is_said_in_a_sentence(inbox: Inbox) -> None:
    result = inbox.replay(
        environment={"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": "k"}
    )
    assert result.returncode == 1
    assert "can't be reached" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_stack_or_a_project_the_command_says_what_to_do(
    inbox: Inbox, tmp_path: Path
) -> None:
    result = inbox.replay(environment={"RAPPORT_HOME": str(tmp_path)})
    assert result.returncode == 1
    assert "rapport up" in result.stderr
    assert "SUPABASE_URL" in result.stderr


def test_nothing_of_a_customer_s_is_printed(inbox: Inbox) -> None:
    result = inbox.replay()
    printed = result.stdout + result.stderr
    names = json.loads((EVENTS / "text.json").read_text())["entry"][0]["changes"][0]["value"]
    assert names["contacts"][0]["profile"]["name"] not in printed
    assert "wamid" not in printed


def test_an_operator_redrives_pauses_and_looks_after_a_restore(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands themselves, in this process."""
    monkeypatch.setenv("SUPABASE_URL", inbox.stack.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", inbox.stack.secret_key)
    monkeypatch.setenv("NO_PROXY", inbox.stack.host)

    def run(*words: str, answer: str | None = None) -> str:
        done = CliRunner().invoke(app, words, input=answer)
        assert done.exit_code == (1 if answer == "n\n" else 0), (done.output, done.exception)
        return done.output

    lone = {"updates of these that can be applied now": 1, "messages that failed": 0}
    # the place that the old parser did not know
    looked = run("redrive", "--all", "--dry-run")
    assert lone.items() <= counts(looked).items()
    assert "no queue is named" in looked
    assert "Put all of it back?" in run("redrive", "--all", answer="n\n")
    assert len(inbox.messages()) == 4
    assert "Put back:" in run("redrive", "--since", "2026-01-01", "--yes")
    assert len(inbox.messages()) == 5
    assert "Nothing was changed." in run("redrive", "--all", "--yes")
    assert CliRunner().invoke(app, ["redrive"]).exit_code == 2
    [event] = inbox.connection.execute("select min(id) as id from private.webhook_events")
    assert "Nothing was changed." in run("redrive", "--id", str(event["id"]))

    assert "The number is paused. Messages that wait: 0." in run("pause", NUMBER)
    [paused] = inbox.connection.execute("select paused_at from public.whatsapp_channels")
    assert paused["paused_at"] is not None
    assert "The number sends again. Withdrawn: 0." in run("resume", NUMBER, "--withdraw")
    [resumed] = inbox.connection.execute("select paused_at from public.whatsapp_channels")
    assert resumed["paused_at"] is None

    assert "Nothing was changed." in run("after-restore", "--dry-run")
    told = run("after-restore", "--yes")
    assert "0 messages are unknown now." in told
    assert "There was no doorbell." in told
