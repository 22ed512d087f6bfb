"""Who is told on a device, of what, how often, and who is not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from tests.sql.asking import ask, refusal
from tests.sql.inbound import edit, revoke
from tests.sql.outbound import backend, conversation, post
from tests.sql.portal import CILKA, add_points, change, insert, make_job, send_invoice
from tests.world import ALPINE, ALPINE_NUMBER, World, seed_uuid, text_message

SAVE = "select public.save_push_subscription(%s, %s, %s) as id"
P256DH, AUTH = "B" + "A" * 86, "A" * 22


@pytest.fixture
def desk(world: World) -> World:
    """Andrej and Cilka each have a device."""
    backend(world, "set_push_key(%s)", P256DH)
    for name in ("andrej", "cilka"):
        subscribe(world, name)
    return world


def subscribe(world: World, name: str, device: str = "phone") -> UUID:
    endpoint = f"https://push.example/{name}/{device}"
    [row] = ask(world, name, SAVE, endpoint, P256DH, AUTH)
    found: UUID = row["id"]
    return found


def claim(world: World, *, is_due: bool = True, worker: str = "w") -> list[dict[str, Any]]:
    """The pushes that a worker is handed, some seconds later."""
    if is_due:
        world.owner.execute("update private.notifications set due_at = now() - interval '1 second'")
    claimed: list[dict[str, Any]] = backend(world, "claim_pushes(%s, 100)", worker)["claimed"]
    return sorted(claimed, key=lambda job: str(job["endpoint"]))


def settle(world: World, job: dict[str, Any], outcome: str, *more: int, worker: str = "w") -> str:
    settled: str = backend(
        world,
        f"settle_push(%s, %s, %s{', %s' * len(more)})",
        job["push_id"],
        worker,
        outcome,
        *more,
    )
    return settled


def told(world: World) -> list[tuple[str, str, str, str]]:
    """Who is told what, once; the devices take it."""
    jobs = claim(world)
    for job in jobs:
        assert settle(world, job, "sent") == "sent"
    return [(job["endpoint"].split("/")[3], job["kind"], job["title"], job["body"]) for job in jobs]


def test_a_burst_is_told_once_and_not_to_its_reader(desk: World) -> None:
    thread = conversation(desk)
    assert claim(desk, is_due=False) == []
    desk.ingest(text_message("wamid.2", wa_id="38640111222", text="Is Tuesday free?"))
    desk.ingest(text_message("wamid.3", wa_id="38640111222", text="Or\n Wednesday?" + "x" * 200))

    [(name, kind, _, body)] = told(desk)
    assert (name, kind) == ("andrej", "message")
    assert body.startswith("New messages: 3. Or Wednesday?xx")
    assert len(body) == 120
    assert told(desk) == []

    # what is read meanwhile is not told, what comes after that is
    desk.ingest(text_message("wamid.4", wa_id="38640111222"))
    ask(desk, "andrej", "select public.mark_read(%s, 3)", thread)
    desk.ingest(text_message("wamid.5", wa_id="38640111222", text="five"))
    ask(desk, "andrej", "select public.mark_read(%s, 4)", thread)
    assert [body for *_, body in told(desk)] == ["New messages: 2. five"]
    desk.ingest(text_message("wamid.6", wa_id="38640111222"))
    ask(desk, "andrej", "select public.mark_read(%s, 6)", thread)
    assert told(desk) == []
    # the customer's own phone tells what is written by WhatsApp, and nobody is told of their own
    post(desk, "andrej", thread, "Yes")
    assert told(desk) == []


def test_who_looks_at_the_conversation_is_told_once_they_have_left(desk: World) -> None:
    thread = conversation(desk)
    ask(desk, "andrej", "select public.stay_at_conversation(%s)", thread)
    assert told(desk) == []
    assert told(desk) == []
    desk.owner.execute(
        "update private.conversation_watchers set seen_at = seen_at - interval '2 minutes'"
    )
    assert [name for name, *_ in told(desk)] == ["andrej"]


def test_the_customer_is_told_in_the_portal(desk: World) -> None:
    # a record of past work is no news
    make_job(desk, starts_at="2026-01-01T09:00:00Z", ends_at="2026-01-01T10:00:00Z")
    assert told(desk) == []
    job = make_job(desk, starts_at="2126-12-01T09:00:00Z")
    assert told(desk) == [
        (
            "cilka",
            "appointment",
            "Alpine",
            "Carpet cleaning is scheduled for Sunday, 1 December 2126 at 09:00.",
        )
    ]
    # two changes of one appointment within seconds are one notification: the latest
    change(desk, "andrej", "jobs", job["id"], starts_at="2126-12-02T09:00:00Z")
    change(desk, "andrej", "jobs", job["id"], status="cancelled")
    assert [body for *_, body in told(desk)] == ["Carpet cleaning is cancelled."]

    send_invoice(desk)
    assert [(kind, body) for _, kind, _, body in told(desk)] == [
        ("invoice", "Invoice 2026-001 has been sent.")
    ]
    add_points(desk, 100)
    add_points(desk, -30)
    assert [(kind, body) for _, kind, _, body in told(desk)] == [
        ("points", "Points redeemed: 30. Total: 70.")
    ]
    [chat] = desk.rows("select id from public.conversations where booking_id = %s", [job["id"]])
    post(desk, "andrej", chat["id"], "See you")
    assert told(desk) == [("cilka", "message", "Alpine", "See you")]
    ask(
        desk,
        "cilka",
        "insert into public.messages (conversation_id, message) values (%s, 'Thanks')",
        chat["id"],
    )
    assert [(name, body) for name, _, _, body in told(desk)] == [("andrej", "Thanks")]


def test_what_is_not_wanted_is_not_told(desk: World) -> None:
    choose = "select public.choose_notifications(%s, %s)"
    ask(desk, "cilka", choose, "points", False)
    add_points(desk, 5)
    assert desk.rows("select from private.notifications") == []
    ask(desk, "cilka", choose, "points", True)
    add_points(desk, 5)
    ask(desk, "cilka", choose, "points", False)
    assert told(desk) == []
    assert refusal(desk, "cilka", choose, "news", True).detail == "field: kind"

    # a member who has left is not told, nor somebody without a device
    conversation(desk)
    desk.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("andrej")]
    )
    assert told(desk) == []


def test_what_names_a_person_goes_before_what_all_are_told(desk: World) -> None:
    thread = conversation(desk)
    desk.owner.execute(
        "select private.notify(%s, %s, 'mention', %s, 'Adam', '@andrej see this')",
        [ALPINE, [seed_uuid("andrej"), seed_uuid("andrej"), seed_uuid("adam")], thread],
    )
    desk.ingest(text_message("wamid.2", wa_id="38640111222"))
    assert told(desk) == [("andrej", "mention", "Adam", "@andrej see this")]


def test_a_conversation_is_its_assignees_and_a_mention_the_mentioned_ones(desk: World) -> None:
    subscribe(desk, "adam")
    thread = conversation(desk)
    assert [name for name, *_ in told(desk)] == ["adam", "andrej"]
    ask(desk, "adam", "select public.hand_over_conversation(%s, %s)", thread, seed_uuid("andrej"))
    assert told(desk) == [("andrej", "assigned", "cilka", "The conversation is yours now.")]
    desk.ingest(text_message("wamid.2", wa_id="38640111222", text="Hello?"))
    assert told(desk) == [("andrej", "message", "cilka", "Hello?")]

    note = insert(
        desk,
        "andrej",
        "conversation_notes",
        conversation_id=thread,
        note="She has a dog.",
        mentions=[seed_uuid("adam"), seed_uuid("andrej")],
    )
    assert told(desk) == [("adam", "mention", "andrej", "She has a dog.")]
    both = [seed_uuid("adam"), seed_uuid("olivia")]
    subscribe(desk, "olivia")
    change(desk, "andrej", "conversation_notes", note["id"], mentions=both)
    assert [name for name, *_ in told(desk)] == ["olivia"]
    # nobody is told of what they did, and a free conversation is everybody's again
    ask(desk, "andrej", "select public.release_conversation(%s)", thread)
    ask(desk, "adam", "select public.take_conversation(%s)", thread)
    ask(desk, "adam", "select public.release_conversation(%s)", thread)
    assert told(desk) == []
    desk.ingest(text_message("wamid.3", wa_id="38640111222"))
    assert [name for name, *_ in told(desk)] == ["adam", "andrej", "olivia"]


def test_a_text_that_its_author_has_taken_back_is_not_told(desk: World) -> None:
    subscribe(desk, "olivia")
    delete = "select public.delete_message(%s)"
    job = make_job(desk)
    told(desk)
    [chat] = desk.rows("select id from public.conversations where booking_id = %s", [job["id"]])
    wrong = post(desk, "andrej", chat["id"], "meant for Carlos")
    ask(desk, "andrej", delete, wrong["id"])
    assert told(desk) == []
    # the rest of a burst is told
    for text in ("one", "two", "three", "meant for Carlos"):
        wrong = post(desk, "andrej", chat["id"], text)
    ask(desk, "andrej", delete, wrong["id"])
    assert [body for *_, body in told(desk)] == ["New messages: 3. three"]
    # one that waits for the device
    wrong = post(desk, "andrej", chat["id"], "meant for Carlos")
    [push] = claim(desk)
    assert settle(desk, push, "retry") == "waits"
    ask(desk, "andrej", delete, wrong["id"])
    try_again(desk)
    assert claim(desk) == []
    assert desk.rows("select from private.push_queue") == []

    def mention(text: str) -> UUID:
        note = insert(
            desk,
            "andrej",
            "conversation_notes",
            conversation_id=chat["id"],
            note=text,
            mentions=[seed_uuid("olivia")],
        )
        found: UUID = note["id"]
        return found

    ask(desk, "andrej", "select public.delete_note(%s)", mention("wrong person"))
    assert told(desk) == []
    change(desk, "andrej", "conversation_notes", mention("wrong person"), mentions=[])
    assert told(desk) == []
    waiting = mention("wrong person")
    [push] = claim(desk)
    assert settle(desk, push, "retry") == "waits"
    change(desk, "andrej", "conversation_notes", waiting, mentions=[])
    try_again(desk)
    assert told(desk) == []
    mention("the right one")
    assert [body for *_, body in told(desk)] == ["the right one"]


def test_a_text_is_told_as_it_is_when_it_is_sent(desk: World) -> None:
    thread = conversation(desk)
    first = f"wamid.in.{ALPINE_NUMBER}.38640111222"
    [push] = claim(desk)
    assert settle(desk, push, "retry") == "waits"
    desk.ingest(edit("wamid.e1", first, 1, "Tuesday, I meant"))
    try_again(desk)
    [push] = claim(desk)
    assert push["body"] == "Tuesday, I meant"
    assert settle(desk, push, "sent") == "sent"

    # of a burst whose latest message is deleted while it waits, the rest is told, as it is now
    for number in range(3):
        desk.ingest(text_message(f"wamid.{number}", wa_id="38640111222", text=f"text {number}"))
    [push] = claim(desk)
    assert push["body"] == "New messages: 3. text 2"
    assert settle(desk, push, "retry") == "waits"
    desk.ingest(revoke("wamid.r", "wamid.2", 1), edit("wamid.e2", "wamid.1", 2, "edited"))
    try_again(desk)
    [push] = claim(desk)
    assert push["body"] == "New messages: 2. edited"
    assert settle(desk, push, "retry") == "waits"
    desk.ingest(revoke("wamid.r0", "wamid.0", 3), revoke("wamid.r1", "wamid.1", 4))
    try_again(desk)
    assert claim(desk) == []

    subscribe(desk, "olivia")
    note = insert(
        desk,
        "andrej",
        "conversation_notes",
        conversation_id=thread,
        note="She has a dog.",
        mentions=[seed_uuid("olivia")],
    )
    change(desk, "andrej", "conversation_notes", note["id"], note="She has a cat.")
    [push] = claim(desk)
    assert push["body"] == "She has a cat."
    assert settle(desk, push, "retry") == "waits"
    change(desk, "andrej", "conversation_notes", note["id"], note="She has two cats.")
    try_again(desk)
    assert [body for *_, body in told(desk)] == ["She has two cats."]


def try_again(world: World) -> None:
    """The pauses of devices and pushes are over."""
    world.owner.execute("update public.push_subscriptions set not_before = now()")
    world.owner.execute("update private.push_queue set not_before = now()")


def test_who_has_left_is_not_told_what_waited(desk: World) -> None:
    conversation(desk)
    add_points(desk, 5)
    assert [settle(desk, push, "retry") for push in claim(desk)] == ["waits", "waits"]
    desk.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("andrej")]
    )
    desk.owner.execute("update public.contacts set portal_user_id = null where id = %s", [CILKA])
    try_again(desk)
    assert claim(desk) == []
    assert desk.rows("select from private.push_queue") == []


def test_a_device_can_be_deleted_while_its_push_is_settled(desk: World) -> None:
    add_points(desk, 5)
    [push] = claim(desk)
    device = "from public.push_subscriptions where endpoint = %s"
    with desk.connect() as owner, ThreadPoolExecutor(1) as pool, owner.transaction():
        owner.execute(f"select {device} for update".encode(), [push["endpoint"]])
        settled = pool.submit(settle, desk, push, "sent")
        waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')"
        while not desk.value(waits):
            assert not settled.done(), settled.result()
        # the push goes with its device: neither waits for the other
        owner.execute(f"delete {device}".encode(), [push["endpoint"]])
    assert settled.result() == "settled already"


def test_each_device_is_told_and_one_that_is_busy_waits_alone(desk: World) -> None:
    subscribe(desk, "andrej", "laptop")
    conversation(desk)
    laptop, phone = claim(desk)
    assert (laptop["endpoint"][-6:], phone["endpoint"][-5:]) == ("laptop", "phone")
    assert {"p256dh": P256DH, "auth": AUTH}.items() <= laptop.items()
    # what is leased is nobody else's, and only its worker settles it
    assert claim(desk, worker="v") == []
    assert settle(desk, phone, "sent", worker="v") == "settled already"

    assert settle(desk, laptop, "retry", 600) == "waits"
    assert settle(desk, phone, "sent") == "sent"
    [pause] = desk.rows(
        "select not_before > now() + interval '9 minutes' as is_kept"
        " from public.push_subscriptions where endpoint like '%%laptop'"
    )
    assert pause == {"is_kept": True}
    # the newer one takes the place of the one that waits
    desk.ingest(text_message("wamid.2", wa_id="38640111222", text="newer"))
    assert [job["endpoint"][-5:] for job in claim(desk)] == ["phone"]
    desk.owner.execute("update public.push_subscriptions set not_before = now()")
    [late] = claim(desk)
    assert (late["endpoint"][-6:], late["body"]) == ("laptop", "newer")
    # a worker that died: the lease ends
    desk.owner.execute("update private.push_queue set not_before = now()")
    again = claim(desk, worker="v")
    assert late["push_id"] in {job["push_id"] for job in again}

    for job in again:
        assert settle(desk, job, "gone", worker="v") == "forgotten"
    assert desk.rows("select from private.push_queue") == []
    assert [
        row["user_id"] for row in desk.rows("select user_id from public.push_subscriptions")
    ] == [seed_uuid("cilka")]


def test_a_device_that_takes_nothing_is_forgotten_and_what_is_old_not_told(desk: World) -> None:
    pause = "select max(not_before) - now() from public.push_subscriptions"
    add_points(desk, 1)
    for failures, more, shortest, longest in (
        (0, (), 9, 11),
        (0, (600,), 599, 601),
        (0, (10**9,), 86399, 86401),
        (1, (1,), 19, 21),
        (98, (), 3599, 3601),
    ):
        desk.owner.execute(
            "update public.push_subscriptions set not_before = now(), failures = %s", [failures]
        )
        desk.owner.execute("update private.push_queue set not_before = now()")
        [job] = claim(desk)
        assert settle(desk, job, "retry", *more) == "waits"
        assert shortest < desk.value(pause).total_seconds() < longest
    desk.owner.execute("update public.push_subscriptions set not_before = now()")
    desk.owner.execute("update private.push_queue set not_before = now()")
    [job] = claim(desk)
    assert settle(desk, job, "retry") == "forgotten"
    subscribe(desk, "cilka")
    add_points(desk, 1)
    [job] = claim(desk)
    settle(desk, job, "retry")
    desk.owner.execute("update private.push_queue set created_at = now() - interval '25 hours'")
    assert claim(desk) == []
    assert desk.rows("select from private.push_queue") == []


@pytest.mark.parametrize(
    ("endpoint", "p256dh", "auth", "field"),
    [
        *(
            (endpoint, P256DH, AUTH, "endpoint")
            for endpoint in (
                "http://push.example/1",
                "https://10.0.0.1/1",
                "https://[::1]/1",
                "https://localhost/1",
                "https://user:word@push.example/1",
                "https://push.example:8443/1",
                "https://push.example/a b",
                "https://push.example/1\n",
                "http://127.0.0.1:80/1",
                "https://push.example/" + "x" * 1000,
                f"https://{'a' * 64}.com/",
                f"https://push.{'a' * 64}/",
                f"https://{'a.' * 126}com/",
                None,
            )
        ),
        ("https://push.example/1", P256DH[1:], AUTH, "p256dh"),
        ("https://push.example/1", P256DH, AUTH + "=", "auth"),
    ],
)
def test_an_address_that_is_no_push_services_is_refused(
    desk: World, endpoint: str | None, p256dh: str, auth: str, field: str
) -> None:
    refused = refusal(desk, "stranger", SAVE, endpoint, p256dh, auth)
    assert (refused.code, refused.detail) == ("PT422", f"field: {field}")


def test_a_device_belongs_to_whoever_signed_in_last(desk: World) -> None:
    endpoint = "https://push.example/andrej/phone"
    mine = "select endpoint from public.push_subscriptions"
    conversation(desk)
    desk.owner.execute("update private.notifications set due_at = now()")
    desk.owner.execute("select private.push_notifications(10)")
    ask(desk, "adam", SAVE, endpoint, P256DH, AUTH)
    assert ask(desk, "andrej", mine) == []
    assert ask(desk, "adam", mine) == [{"endpoint": endpoint}]
    # an address alone takes nobody's device
    others = "B" + "C" * 86, "C" * 22
    for keys in ((others[0], AUTH), (P256DH, others[1]), others):
        refused = refusal(desk, "olivia", SAVE, endpoint, *keys)
        assert (refused.code, refused.detail) == ("PT409", "field: p256dh, auth")
    assert ask(desk, "adam", mine) == [{"endpoint": endpoint}]
    # the user's own browser may have new keys
    ask(desk, "adam", SAVE, endpoint, *others)
    ask(desk, "adam", SAVE, endpoint, P256DH, AUTH)
    # what waited for andrej's device is not shown to adam
    assert claim(desk) == []
    ask(desk, "andrej", "select public.delete_push_subscription(%s)", endpoint)
    assert len(ask(desk, "adam", mine)) == 1
    ask(desk, "adam", "select public.delete_push_subscription(%s)", endpoint)
    assert ask(desk, "adam", mine) == []

    for device in range(22):
        subscribe(desk, "vera", str(device))
    assert len(ask(desk, "vera", mine)) == 20
    assert ask(desk, "vera", "select public.push_key() as key") == [{"key": P256DH}]
    backend(desk, "set_push_key(null)")
    assert refusal(desk, "vera", SAVE, endpoint, P256DH, AUTH).code == "PT409"


def test_without_devices_nothing_is_written(world: World) -> None:
    conversation(world)
    make_job(world, customer=CILKA)
    add_points(world, 3)
    assert world.rows("select from private.notifications") == []
    assert json.loads(json.dumps(backend(world, "claim_pushes('w')"))) == {
        "claimed": [],
        "next_at": None,
    }
