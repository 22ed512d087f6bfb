"""Messages that are sent later: once, at their time, and in the name of their author."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.sql.asking import Refusal, Row, ask, refusal, start_blocked
from tests.sql.outbound import ago, backend, conversation
from tests.sql.portal import CILKA, add_contact, change, insert
from tests.world import ALPINE, ALPINE_NUMBER, World, seed_uuid

TEMPLATE = '{"name": "hello", "language": "en"}'
INSERT = (
    "insert into public.scheduled_messages (conversation_id, message, send_at, template)"
    " values (%s, %s, %s, %s) returning *"
)


def soon(**span: float) -> datetime:
    """A time from now on, in whole seconds."""
    return (datetime.now(UTC) + timedelta(**span)).replace(microsecond=0)


def write(
    world: World, thread: UUID, send_at: datetime, user: str = "andrej", **columns: Any
) -> Row:
    given = {"message": "hi"} | columns
    return insert(
        world, user, "scheduled_messages", conversation_id=thread, send_at=send_at, **given
    )


def send(world: World, at: datetime, batch: int = 100) -> dict[str, Any]:
    answer: dict[str, Any] = backend(world, "send_scheduled(%s, %s)", batch, at)
    return answer


def posted(world: World, thread: UUID) -> list[dict[str, Any]]:
    return world.rows(
        "select id, type, message, content, sender_id, sender_name, status"
        " from public.messages where conversation_id = %s and sender_type = 'operator'"
        " order by seq",
        [thread],
    )


def state(world: World, row: Row) -> tuple[str, str | None]:
    [found] = world.rows(
        "select status, error_message from public.scheduled_messages where id = %s", [row["id"]]
    )
    return found["status"], found["error_message"]


def test_message_is_sent_once_at_its_time_by_its_author(world: World) -> None:
    thread = conversation(world)
    later, first = soon(hours=2), soon(hours=1)
    second_row = write(world, thread, later, message="second")
    first_row = write(world, thread, first, message="first")
    last_seq = "select last_seq from public.conversation_activity where conversation_id = %s"
    numbers = world.value(last_seq, [thread])

    early = send(world, first - timedelta(seconds=1))
    assert (early["sent"], early["is_done"], posted(world, thread)) == (0, True, [])
    assert datetime.fromisoformat(early["next_at"]) == first
    assert world.value(last_seq, [thread]) == numbers

    assert send(world, first)["sent"] == 1
    assert state(world, second_row) == ("waiting", None)
    # after an hour in which no worker ran, and then again
    assert send(world, later)["sent"] == 1
    assert send(world, later) == {
        "sent": 0,
        "failed": 0,
        "moved": 0,
        "is_done": True,
        "next_at": None,
    }
    assert [(row["id"], row["message"], row["status"]) for row in posted(world, thread)] == [
        (first_row["id"], "first", "queued"),
        (second_row["id"], "second", "queued"),
    ]
    assert posted(world, thread)[0]["sender_id"] == str(seed_uuid("andrej"))
    assert posted(world, thread)[0]["sender_name"] == "andrej"
    assert state(world, first_row) == ("sent", None)
    assert world.value("select count(*) from private.outbound_queue") == 2


def test_it_can_be_changed_and_cancelled_until_then(world: World) -> None:
    thread = conversation(world)
    row = write(world, thread, soon(hours=1))

    changed = change(
        world, "olivia", "scheduled_messages", row["id"], message="new", send_at=soon(hours=3)
    )
    # nobody's words are sent in another's name
    assert (changed["message"], changed["author_name"]) == ("new", "olivia")
    assert changed["author_id"] == seed_uuid("olivia")
    changed = change(world, "adam", "scheduled_messages", row["id"], send_at=soon(hours=4))
    assert (changed["author_name"], changed["author_id"]) == ("olivia", seed_uuid("olivia"))
    assert send(world, soon(hours=2))["sent"] == 0
    change(world, "olivia", "scheduled_messages", row["id"], status="cancelled")
    assert send(world, soon(hours=5))["sent"] == 0
    refused = refusal(
        world,
        "andrej",
        "update public.scheduled_messages set message = 'x' where id = %s",
        row["id"],
    )
    assert (refused.code, refused.message) == (
        "PT409",
        "This message is cancelled and can't be changed.",
    )
    for status in ("sent", "failed"):
        other = write(world, thread, soon(hours=1))
        assert (
            refusal(
                world,
                "andrej",
                "update public.scheduled_messages set status = %s where id = %s",
                status,
                other["id"],
            ).code
            == "PT422"
        )


def test_who_cancels_while_it_is_sent_hears_that_it_is_sent(world: World) -> None:
    thread = conversation(world)
    row = write(world, thread, soon(hours=1))
    with world.acting("service_role") as worker:
        worker.execute("select backend.send_scheduled(10, %s)", [soon(hours=2)])
        cancelling = start_blocked(
            world,
            "andrej",
            "update public.scheduled_messages set status = 'cancelled' where id = %s",
            row["id"],
        )
        # another worker neither waits nor sends it again
        assert send(world, soon(hours=2))["sent"] == 0
    answer = cancelling.result()

    assert getattr(answer, "code", None) == "PT409"
    assert len(posted(world, thread)) == 1


def test_a_crash_leaves_it_waiting(world: World) -> None:
    thread = conversation(world)
    row = write(world, thread, soon(hours=1))
    with world.connect() as worker:
        worker.execute("begin")
        worker.execute("select backend.send_scheduled(10, %s)", [soon(hours=2)])
        worker.execute("rollback")

    assert (state(world, row), posted(world, thread)) == (("waiting", None), [])
    assert send(world, soon(hours=2))["sent"] == 1


def test_closed_window_is_told_on_writing_unless_a_template_is_named(world: World) -> None:
    open_until = soon(hours=2)
    thread = conversation(world, written=(open_until - timedelta(hours=24)).isoformat())
    other = conversation(world, wa_id="38640999111", written=ago(hours=30))

    within = write(world, thread, open_until - timedelta(seconds=1))
    refused = refusal(world, "andrej", INSERT, thread, "hi", open_until, None)
    never = refusal(world, "andrej", INSERT, other, "hi", soon(hours=1), None)
    wrong = refusal(world, "andrej", INSERT, thread, "hi", open_until, '{"name": "UPPER"}')
    assert (refused.code, refused.detail) == ("PT422", "field: template")
    until = f"{open_until:%A}, {open_until.day} {open_until:%B %Y at %H:%M}"
    assert refused.message is not None
    assert refused.message.startswith(f"WhatsApp takes free text until {until} only")
    assert never.message is not None
    assert "more than 24 hours have passed" in never.message
    assert wrong.detail == "field: template.name"

    write(world, other, soon(hours=1), template=TEMPLATE)
    write(world, thread, soon(hours=1), template=TEMPLATE, message="still open")
    assert send(world, soon(hours=1, minutes=1))["sent"] == 2
    assert [(row["type"], row["content"]) for row in posted(world, other)] == [
        ("template", {"name": "hello", "language": "en"})
    ]
    assert [(row["type"], row["message"]) for row in posted(world, thread)] == [
        ("text", "still open")
    ]
    # a worker that comes too late says so
    world.owner.execute(
        "update public.conversation_activity set last_inbound_at = now() - interval '25 hours'"
    )
    assert send(world, soon(hours=3))["failed"] == 1
    status, why = state(world, within)
    assert status == "failed"
    assert why == "More than 24 hours have passed since the person last wrote."


def test_time_in_the_quiet_hours_becomes_their_end(world: World) -> None:
    thread = insert(world, "andrej", "messages", customer_id=CILKA, message="hi")["conversation_id"]
    zone = ZoneInfo("Europe/Ljubljana")
    world.owner.execute(
        "update public.accounts set time_zone = %s, quiet_from = '21:00', quiet_until = '08:30'"
        " where id = %s",
        [zone.key, ALPINE],
    )
    tomorrow = (datetime.now(zone) + timedelta(days=2)).date()
    night = datetime.combine(tomorrow, time(23, 15), zone)
    morning = datetime.combine(tomorrow + timedelta(days=1), time(8, 30), zone)

    row = write(world, thread, night)
    assert (row["wanted_at"], row["send_at"]) == (night, morning)
    noon = datetime.combine(tomorrow, time(12), zone)
    row = change(world, "andrej", "scheduled_messages", row["id"], send_at=noon)
    assert (row["wanted_at"], row["send_at"]) == (noon, noon)
    # nobody looked before the quiet hours began
    assert send(world, night) == {
        "sent": 0,
        "failed": 0,
        "moved": 1,
        "is_done": True,
        "next_at": morning.astimezone(UTC).isoformat(),
    }
    assert send(world, morning)["sent"] == 1


@pytest.mark.parametrize(
    ("at", "moved_to"),
    [
        # spring: 2:00 becomes 3:00, so the quiet hours end at 3:30 on these clocks
        ("2027-03-28T00:59+00:00", "2027-03-28T01:30+00:00"),
        ("2027-03-28T01:15+00:00", "2027-03-28T01:15+00:00"),
        # autumn: the clocks show 2:30 twice; the second time counts
        ("2027-10-31T00:29+00:00", "2027-10-31T01:30+00:00"),
        ("2027-10-31T01:29+00:00", "2027-10-31T01:30+00:00"),
        ("2027-10-31T01:30+00:00", "2027-10-31T01:30+00:00"),
        ("2027-06-01T12:00+00:00", "2027-06-01T12:00+00:00"),
    ],
)
def test_quiet_hours_follow_the_clocks(world: World, at: str, moved_to: str) -> None:
    moved = world.value(
        "select private.after_quiet_hours('22:00'::time, '02:30'::time, 'Europe/Ljubljana', %s)",
        [datetime.fromisoformat(at)],
    )
    assert moved == datetime.fromisoformat(moved_to)


def test_what_can_not_be_sent_is_refused_or_says_why(world: World) -> None:
    thread = conversation(world)
    portal = insert(world, "andrej", "messages", customer_id=CILKA, message="x")["conversation_id"]
    for user, where, when, message, code in (
        ("ana", thread, soon(hours=1), "hi", "PT404"),
        ("cilka", portal, soon(hours=1), "hi", "PT404"),
        ("vera", thread, soon(hours=1), "hi", "42501"),
        ("andrej", thread, soon(hours=-1), "hi", "PT422"),
        ("andrej", thread, soon(days=400), "hi", "PT422"),
        ("andrej", thread, None, "hi", "PT422"),
        ("andrej", thread, soon(hours=1), " ", "PT422"),
        ("andrej", thread, soon(hours=1), None, "PT422"),
    ):
        assert refusal(world, user, INSERT, where, message, when, None).code == code, user
    assert refusal(world, "andrej", INSERT, portal, "hi", soon(hours=1), TEMPLATE).detail == (
        "field: template"
    )

    # another message has taken its id meanwhile
    row = write(world, thread, soon(hours=1))
    insert(world, "andrej", "messages", id=row["id"], conversation_id=thread, message="x")
    assert send(world, soon(hours=2))["failed"] == 1
    assert state(world, row) == ("failed", "Another message has the id of this one.")

    # the author works here no longer, and has the login of the customer
    row = write(world, portal, soon(hours=1))
    world.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("andrej")]
    )
    world.owner.execute(
        "update public.contacts set portal_user_id = %s where id = %s",
        [seed_uuid("andrej"), CILKA],
    )
    assert send(world, soon(hours=2))["failed"] == 1
    assert state(world, row) == ("failed", "andrej may not write for this account any more.")
    assert ask(world, "cilka", "select * from public.scheduled_messages") == []


def test_deleted_contact_leaves_no_text_to_be_sent(world: World) -> None:
    thread = conversation(world)
    row = write(world, thread, soon(hours=1), message="private", template=TEMPLATE)
    customer = world.value("select customer_id from public.conversations where id = %s", [thread])
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s returning id", customer)

    assert state(world, row) == ("cancelled", None)
    assert world.rows("select message, content, template from public.scheduled_messages") == [
        {"message": "", "content": None, "template": None}
    ]
    assert send(world, soon(hours=2))["sent"] == 0


def test_contact_that_was_deleted_gets_nothing_later(world: World) -> None:
    thread = conversation(world)
    customer = world.value("select customer_id from public.conversations where id = %s", [thread])
    with world.acting_as("andrej") as deleting:
        deleting.execute("delete from public.contacts_v2 where id = %s", [customer])
        written = start_blocked(world, "andrej", INSERT, thread, "hi", soon(hours=1), None)
    for refused in (
        written.result(),
        refusal(world, "andrej", INSERT, thread, "hi", soon(hours=1), TEMPLATE),
    ):
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.message, refused.detail) == (
            "PT422",
            "The contact of this conversation was deleted.",
            "field: conversation_id",
        )


def test_merge_moves_what_waits(world: World) -> None:
    thread = conversation(world)
    dropped = world.value("select customer_id from public.conversations where id = %s", [thread])
    row = write(world, thread, soon(hours=1))
    kept = add_contact(world, "kept")
    [merge] = ask(world, "andrej", "select public.merge_contacts(%s, %s) as id", kept, dropped)
    owner = "select customer_id from public.scheduled_messages"
    assert world.value(owner) == kept
    # the conversation goes on, as that of the kept contact
    change(world, "andrej", "scheduled_messages", row["id"], message="still")
    assert send(world, soon(hours=2))["sent"] == 1
    write(world, thread, soon(hours=3))
    ask(world, "andrej", "select public.undo_merge(%s)", merge["id"]["merge_id"])
    assert {row["customer_id"] for row in world.rows(owner)} == {dropped}


def test_template_opens_the_conversation_of_who_has_never_written(world: World) -> None:
    customer = insert(
        world, "andrej", "contacts_v2", name="Nina", phone="+38640999000", account_id=ALPINE
    )["id"]
    second = world.value(
        "insert into public.whatsapp_channels (account_id, phone_number_id, display_phone_number,"
        " name, waba_id) values (%s, '2', 'any', 'any', '2') returning id",
        [ALPINE],
    )
    first = world.value(
        "select id from public.whatsapp_channels where phone_number_id = %s", [ALPINE_NUMBER]
    )
    later = {"send_at": soon(hours=1), "customer_id": customer}

    refused = refusal(world, "andrej", BY_CUSTOMER, customer, "hi", soon(hours=1), None)
    assert (refused.code, refused.detail) == ("PT422", "field: template")
    # the number that was used last
    conversation(world)
    row = insert(world, "andrej", "scheduled_messages", message="hi", template=TEMPLATE, **later)
    opened = "select * from public.conversations where id = %s"
    [thread] = world.rows(opened, [row["conversation_id"]])
    assert (thread["customer_id"], thread["whatsapp_channel_id"]) == (customer, first)
    assert (thread["thread_key"], thread["customer_wa_id"]) == ("phone:38640999000", "38640999000")
    # no second one is opened, and who answers finds it
    row = insert(world, "andrej", "scheduled_messages", message="and", template=TEMPLATE, **later)
    assert row["conversation_id"] == thread["id"]
    assert conversation(world, "38640999000") == thread["id"]
    assert send(world, soon(hours=2))["sent"] == 2
    assert {one["type"] for one in posted(world, thread["id"])} == {"text"}
    assert send(world, soon(hours=2))["sent"] == 0

    # a number that is stopped opens none; one whose templates have it comes first
    world.owner.execute(
        "update public.whatsapp_channels set stopped_at = now() where id = %s", [first]
    )
    other = insert(world, "andrej", "contacts_v2", phone="+38640999001", account_id=ALPINE)["id"]
    later = {"send_at": soon(hours=1), "customer_id": other, "type": "template"}
    row = insert(world, "andrej", "scheduled_messages", content=TEMPLATE, **later)
    [thread] = world.rows(opened, [row["conversation_id"]])
    assert thread["whatsapp_channel_id"] == second
    assert send(world, soon(hours=2))["sent"] == 1
    assert [one["type"] for one in posted(world, thread["id"])] == ["template"]


BY_CUSTOMER = INSERT.replace("conversation_id", "customer_id")


def test_no_conversation_is_opened_without_proof(world: World) -> None:
    unproved = insert(world, "andrej", "contacts_v2", name="Nina", account_id=ALPINE)["id"]
    world.owner.execute("update public.contacts set phone = null where id = %s", [CILKA])
    world.owner.execute("delete from public.contact_identities where contact_id = %s", [CILKA])
    # what a customer writes proves nothing
    ask(world, "cilka", "update public.my_profile set phone = '+38640555666' returning 1")
    gone = insert(world, "andrej", "contacts_v2", phone="+38640999002", account_id=ALPINE)["id"]
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s returning id", gone)
    own = insert(world, "andrej", "contacts_v2", phone="+38640999003", account_id=ALPINE)["id"]
    for user, customer, code, field in (
        ("andrej", unproved, "PT422", "field: customer_id"),
        ("andrej", CILKA, "PT422", "field: customer_id"),
        ("andrej", gone, "PT404", f"contact: {gone}"),
        ("andrej", None, "PT422", "field: conversation_id"),
        ("ana", own, "PT404", "field: customer_id"),
        ("cilka", own, "PT404", "field: customer_id"),
        ("vera", own, "42501", None),
    ):
        refused = refusal(world, user, BY_CUSTOMER, customer, "hi", soon(hours=1), TEMPLATE)
        assert (refused.code, refused.detail) == (code, field), refused
    world.owner.execute("update public.whatsapp_channels set stopped_at = now()")
    refused = refusal(world, "andrej", BY_CUSTOMER, own, "hi", soon(hours=1), TEMPLATE)
    assert (refused.code, refused.detail) == ("PT409", "field: customer_id")
    assert world.rows("select from public.conversations where channel = 'whatsapp'") == []


def test_a_conversation_of_another_customer_is_refused(world: World) -> None:
    thread = conversation(world)
    other = add_contact(world, "other")
    both = INSERT.replace("(conversation_id", "(customer_id, conversation_id").replace(
        "(%s", "(%s, %s"
    )
    for customer in (other, UUID(int=1)):
        refused = refusal(world, "andrej", both, customer, thread, "hi", soon(hours=1), None)
        assert (refused.code, refused.detail) == ("PT422", "field: customer_id")
    [row] = ask(world, "andrej", both, CILKA, thread, "hi", soon(hours=1), None)
    assert row["customer_id"] == CILKA


def test_a_file_that_was_not_announced_is_refused_at_once(world: World) -> None:
    thread = conversation(world)
    begin = "select public.begin_upload(%s, 'image', 'image/png', 9) ->> 'upload_id' as id"
    [own] = ask(world, "andrej", begin, thread)
    insert_file = INSERT.replace("(conversation_id, message", "(conversation_id, type, content")
    insert_file = insert_file.replace("(%s, ", "(%s, %s, ")
    for type_, upload in (("image", str(UUID(int=1))), ("image", "x"), ("document", own["id"])):
        content = json.dumps({"upload_id": upload})
        refused = refusal(
            world, "andrej", insert_file, thread, type_, content, soon(hours=1), TEMPLATE
        )
        assert (refused.code, refused.detail) == ("PT422", "field: content.upload_id")
    content = json.dumps({"upload_id": own["id"]})
    ask(world, "andrej", insert_file, thread, "image", content, soon(hours=1), None)
    assert send(world, soon(hours=1, minutes=1))["sent"] == 1


def test_inbox_counts_what_waits(world: World) -> None:
    thread = conversation(world)
    count = "select send_later_count from public.inbox where id = %s"
    page = "select send_later_count from public.inbox_page(%s)"
    assert ask(world, "vera", count, thread) == [{"send_later_count": 0}]
    rows = [write(world, thread, soon(hours=n)) for n in (1, 2, 3)]
    change(world, "andrej", "scheduled_messages", rows[2]["id"], status="cancelled")
    assert ask(world, "vera", count, thread) == [{"send_later_count": 2}]
    assert ask(world, "vera", page, ALPINE) == [{"send_later_count": 2}]
    assert send(world, soon(hours=1, minutes=1))["sent"] == 1
    assert ask(world, "vera", count, thread) == [{"send_later_count": 1}]


def test_it_is_written_while_contacts_are_merged(world: World) -> None:
    thread = insert(world, "andrej", "messages", customer_id=CILKA, message="x")["conversation_id"]
    kept = add_contact(world, "kept")
    with world.acting_as("olivia") as merging:
        merging.execute("select public.merge_contacts(%s, %s)", [kept, CILKA])
        written = start_blocked(world, "andrej", INSERT, thread, "hi", soon(hours=1), None)
    [row] = written.result()
    assert row["conversation_id"] == thread
    assert world.value("select customer_id from public.scheduled_messages") == kept


def test_quiet_hours_are_two_times_of_day_or_none(world: World) -> None:
    for quiet_from, quiet_until in (("21:00", None), ("08:00", "08:00")):
        refused = refusal(
            world,
            "olivia",
            "update public.accounts set quiet_from = %s, quiet_until = %s where id = %s",
            quiet_from,
            quiet_until,
            ALPINE,
        )
        assert (refused.code, refused.message) == (
            "PT422",
            "Quiet hours need two different times of day, or none.",
        )
