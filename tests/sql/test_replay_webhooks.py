"""Stored webhooks are understood anew: what is missing comes, what is there is corrected, once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.world import ALPINE, ALPINE_NUMBER, BAY, BAY_NUMBER, Item, World, status, text_message

EVERYTHING = """
    select jsonb_build_object(
        'contacts', (select jsonb_agg(to_jsonb(c) order by c.id) from public.contacts c),
        'identities', (
            select jsonb_agg(to_jsonb(i) order by i.match_key) from public.contact_identities i
        ),
        'conversations', (select jsonb_agg(to_jsonb(c) order by c.id) from public.conversations c),
        'messages', (select jsonb_agg(to_jsonb(m) order by m.id) from public.messages m),
        'statuses', (select jsonb_agg(to_jsonb(s) order by s) from private.message_statuses s),
        'events', (select jsonb_agg(to_jsonb(e) order by e.id) from private.webhook_events e),
        'changes', (select count(*) from private.changes),
        'broadcasts', (select count(*) from realtime.messages)
    )
"""
PHOTO = {"id": "wamid.1", "type": "image", "image": {"id": "7", "caption": "In the hall"}}
UNSUPPORTED = text_message(
    "wamid.1", type="image", text="[unsupported message]", content={"type": "image"}
)
UNDERSTOOD = text_message("wamid.1", type="image", text="[image] In the hall", content=PHOTO)
SKIPPED = {"kind": "skipped", "reason": "unhandled_field", "detail": "messages"}


def backend(world: World, call: str, *parameters: object) -> Any:
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{call}".encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def replay(world: World, event_id: int, *items: Item, dry_run: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = backend(
        world, "replay_webhook(%s, %s, %s)", event_id, json.dumps(items), dry_run
    )
    return result


def shown(world: World) -> list[dict[str, Any]]:
    return world.rows(
        "select type, message, content, version, seq from public.messages order by seq"
    )


def test_a_message_that_was_not_understood_is_corrected_once(world: World) -> None:
    world.ingest(UNSUPPORTED, body="photo")

    assert replay(world, 1, UNDERSTOOD) == {
        "event_id": 1,
        "applied": 0,
        "duplicates": 1,
        "corrected": 1,
        "rejected": [],
    }
    assert shown(world) == [
        {
            "type": "image",
            "message": "[image] In the hall",
            "content": PHOTO,
            "version": 2,
            "seq": 1,
        }
    ]
    before = world.value(EVERYTHING)
    assert replay(world, 1, UNDERSTOOD)["corrected"] == 0
    assert world.value(EVERYTHING) == before


def test_a_correction_is_told_to_the_account_s_staff(world: World) -> None:
    world.ingest(UNSUPPORTED)
    world.forget_events()
    replay(world, 1, UNDERSTOOD)
    told = {(event["kind"], event["event"]) for event in world.events()}
    assert ("account", "messages.updated") in told
    assert world.value("select bool_and(account_id = %s) from private.changes", [ALPINE])


def test_what_was_left_out_is_added_once_and_its_reason_goes(world: World) -> None:
    world.ingest(SKIPPED, body="left out")
    assert world.value("select rejected <> '[]' from private.webhook_events")
    items = (text_message("wamid.1"), status("wamid.out", "sent", "2026-11-21T10:00:00Z"))

    assert replay(world, 1, *items)["applied"] == 2
    before = world.value(EVERYTHING)
    assert replay(world, 1, *items)["duplicates"] == 2

    assert world.value(EVERYTHING) == before
    assert world.rows("select rejected, deliveries from private.webhook_events") == [
        {"rejected": [], "deliveries": 1}
    ]


def test_what_still_can_not_be_applied_is_recorded_with_its_reason(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    answer = replay(
        world, 1, text_message("wamid.1", phone_number_id="999"), text_message("w", sent_at="no")
    )
    assert answer["rejected"] == [
        {"index": 0, "reason": "unknown_phone_number_id", "phone_number_id": "999"},
        {"index": 1, "reason": "refused", "phone_number_id": ALPINE_NUMBER},
    ]
    assert world.value("select jsonb_array_length(rejected) from private.webhook_events") == 2


def test_an_update_that_can_not_be_read_keeps_no_other_from_being_corrected(world: World) -> None:
    world.ingest(UNSUPPORTED)
    answer = replay(world, 1, text_message("w", sent_at="no"), UNDERSTOOD)
    assert (answer["corrected"], len(answer["rejected"])) == (1, 1)


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    world.ingest(UNSUPPORTED, SKIPPED)
    items = (UNDERSTOOD, text_message("wamid.2"))
    before = world.value(EVERYTHING)
    told = replay(world, 1, *items, dry_run=True)
    assert world.value(EVERYTHING) == before
    assert (told["applied"], told["corrected"]) == (1, 1)
    assert replay(world, 1, *items) == told


def test_a_webhook_that_came_later_does_not_rewrite_the_message(world: World) -> None:
    world.ingest(text_message("wamid.1", text="first"), body="first")
    world.ingest(text_message("wamid.1", text="second"), body="second")
    before = world.value(EVERYTHING)
    assert replay(world, 1, text_message("wamid.1", text="first"))["corrected"] == 0
    assert replay(world, 2, text_message("wamid.1", text="second"))["corrected"] == 0
    assert world.value(EVERYTHING) == before


def test_what_a_replay_has_added_a_later_one_can_correct(world: World) -> None:
    world.ingest(SKIPPED)
    replay(world, 1, UNSUPPORTED)
    assert replay(world, 1, UNDERSTOOD)["corrected"] == 1


@pytest.mark.parametrize("kind", ["echo", "system"])
def test_what_the_phone_app_and_whatsapp_said_is_corrected_as_well(world: World, kind: str) -> None:
    unknown = {"kind": kind, "text": "[unsupported message]", "content": {"a": 1}}
    world.ingest(text_message("wamid.1", **unknown))
    understood = text_message("wamid.1", **(unknown | {"text": "understood"}))

    assert replay(world, 1, understood)["corrected"] == 1
    assert shown(world)[0]["message"] == "understood"
    assert replay(world, 1, understood)["corrected"] == 0


def test_a_file_that_was_not_seen_to_be_one_is_fetched(world: World) -> None:
    world.ingest(text_message("wamid.1", type="unsupported", text="[unsupported message]"))
    assert world.rows("select from public.message_media") == []

    for _ in range(2):
        replay(world, 1, UNDERSTOOD)
        assert world.rows(
            "select f.provider_id, f.state, q.attempts from public.message_media f"
            " join private.media_queue q on q.media_id = f.id"
        ) == [{"provider_id": "7", "state": "pending", "attempts": 0}]


def test_an_operator_s_message_is_never_rewritten(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.owner.execute(
        "update public.messages set sender_type = 'operator', status = 'sent' where seq = 1"
    )
    assert replay(world, 1, text_message("wamid.1", text="changed"))["corrected"] == 0
    assert shown(world)[0]["message"] == "text of wamid.1"


def test_the_same_id_at_another_business_s_number_is_another_message(world: World) -> None:
    world.ingest(text_message("wamid.1", phone_number_id=BAY_NUMBER), body="bay's")
    world.ingest(UNSUPPORTED, body="alpine's")
    replay(world, 2, UNDERSTOOD)
    assert (
        world.rows(
            "select message from public.messages where account_id = %s and version > 1", [BAY]
        )
        == []
    )
    with world.acting_as("ana") as connection:
        rows = connection.execute("select message from public.messages").fetchall()
    assert rows == [("text of wamid.1",)]


def test_copies_of_a_replay_at_the_same_moment_add_once(world: World) -> None:
    world.ingest(SKIPPED)
    items = [text_message(f"wamid.{n}", wa_id=f"3864099900{n % 3}") for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: replay(world, 1, *items), range(4)))
    assert sum(answer["applied"] for answer in answers) == 12
    assert len(shown(world)) == 12


def test_events_are_read_by_pages_and_span(world: World) -> None:
    for n in range(5):
        world.ingest(body=f"event {n}")
    world.owner.execute(
        "update private.webhook_events set received_at = '2026-11-01+00'::timestamptz"
        " + id * interval '1 day'"
    )
    span = ("2026-11-03+00", "2026-11-06+00")
    assert backend(world, "span_of_webhook_events(%s, %s)", *span) == {
        "events": 3,
        "first_id": 2,
        "last_id": 4,
    }
    read = "read_webhook_events(%s, %s, %s, 2)"
    assert backend(world, read, 0, *span) == [
        {"id": 2, "body": "event 1"},
        {"id": 3, "body": "event 2"},
    ]
    assert backend(world, read, 3, *span) == [{"id": 4, "body": "event 3"}]
    assert backend(world, read, 4, *span) == []
    assert [event["id"] for event in backend(world, read, 3, span[0], None)] == [4, 5]


def test_a_page_of_large_events_is_shorter_and_never_empty(world: World) -> None:
    for letter, size in [("a", 5_000_000), ("b", 3_000_000), ("c", 3_000_000)]:
        world.ingest(body=letter * size)
    pages = []
    after = 0
    while page := backend(world, "read_webhook_events(%s, '2026-01-01', null, 100)", after):
        pages.append([event["id"] for event in page])
        after = page[-1]["id"]
    assert pages == [[1], [2], [3]]


def test_an_event_that_is_gone_is_said_to_be(world: World) -> None:
    with pytest.raises(psycopg.Error) as caught:
        replay(world, 7)
    assert caught.value.sqlstate == "PT404"


@pytest.mark.parametrize(
    "call",
    [
        "span_of_webhook_events('2026-01-01', null)",
        "read_webhook_events(0, '2026-01-01', null, 10)",
        "replay_webhook(1, '[]')",
    ],
)
@pytest.mark.parametrize("user", ["olivia", "vera", "ana", "cilka"])
def test_no_person_may_read_or_replay_raw_events(world: World, user: str, call: str) -> None:
    world.ingest(text_message("wamid.1"))
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        world.acting_as(user) as connection,
    ):
        connection.execute(f"select backend.{call}".encode())


def test_a_field_that_was_not_known_is_kept_whole_and_understood_later(world: World) -> None:
    skipped = {"kind": "skipped", "reason": "unhandled_field", "detail": "calls"}
    answer = world.ingest(skipped, body="a call")
    assert (answer["applied"], answer["rejected"]) == (
        0,
        [{"index": 0, "reason": "unhandled_field"}],
    )
    assert world.value("select body from private.webhook_events") == "a call"

    news = {"event": "terminate", "started_at": None, "ended_at": None, "duration_s": None}
    call = text_message("wacid.1", kind="call", sender_type="client", sender_id="38640999888")
    call |= {"content": news | {"has_failed": False}}
    for applied in (1, 0):
        assert replay(world, answer["event_id"], call)["applied"] == applied
    (row,) = shown(world)
    assert (row["type"], row["message"]) == ("call", "[missed call]")
    assert world.value("select rejected from private.webhook_events") == []
