"""Reminders: which, when, how, to whom, and that each is sent once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from tests.sql.asking import Row, ask, refusal, start_blocked
from tests.sql.outbound import backend, conversation
from tests.sql.portal import CILKA, add_contact, add_points, change, insert, make_job, send_invoice
from tests.world import ALPINE, BAY, World

NEXT = datetime(2027, 6, 1, 9, tzinfo=UTC)
REMIND = '{"name": "remind", "language": "en", "variables": {"body.1": "{{contact.name}}"}}'


def add_rule(world: World, user: str = "olivia", **columns: Any) -> Row:
    given = {
        "account_id": ALPINE,
        "name": "any",
        "kind": "before_appointment",
        "text": "{{contact.name}}: {{appointment.service}}, {{appointment.time}}",
    } | columns
    if given["kind"] in {"before_appointment", "after_job"}:
        given.setdefault("minutes", 1440)
    return insert(world, user, "reminder_rules", **given)


def add_template(world: World, category: str = "UTILITY") -> None:
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '1' where account_id = %s", [ALPINE]
    )
    components = [{"type": "BODY", "text": "Dear {{1}}"}]
    world.owner.execute(
        "insert into public.whatsapp_templates (account_id, waba_id, name, language, category,"
        " status, components, variables, synced_at) values"
        " (%s, '1', 'remind', 'en', %s, 'APPROVED', %s, '{\"body\": [\"body.1\"]}', now())",
        [ALPINE, category, json.dumps(components)],
    )


def send(world: World, at: datetime, batch: int = 500) -> tuple[int, int]:
    """How many reminders were sent, and how many dropped."""
    answer = backend(world, "send_reminders(%s, %s)", batch, at)
    return answer["sent"], answer["dropped"]


def reminders(world: World) -> list[dict[str, Any]]:
    return world.rows(
        "select type, message, content, status, customer_id, booking_id from public.messages"
        " where sender_type = 'system' and (type = 'template' or content ->> 'event' like"
        " 'reminder.%%') order by created_at, message",
        {},
    )


def texts(world: World) -> list[str]:
    return [row["message"] for row in reminders(world)]


def test_appointment_is_reminded_once_where_it_is_talked_about(world: World) -> None:
    add_rule(world)
    job = make_job(world, starts_at=NEXT)
    make_job(world, starts_at=NEXT + timedelta(days=9), service_type="Later")

    assert send(world, NEXT - timedelta(days=1, seconds=1)) == (0, 0)
    assert send(world, NEXT - timedelta(days=1)) == (1, 0)
    assert send(world, NEXT - timedelta(hours=1)) == (0, 0)
    [sent] = reminders(world)
    assert (sent["message"], sent["booking_id"]) == (
        "cilka: Carpet cleaning, Tuesday, 1 June 2027 at 09:00",
        job["id"],
    )
    assert sent["content"]["event"] == "reminder.before_appointment"


def test_reminder_goes_where_the_job_goes(world: World) -> None:
    add_rule(world)
    job = make_job(world, starts_at=NEXT)
    cancelled = make_job(world, starts_at=NEXT, service_type="Cancelled")
    change(world, "andrej", "jobs", cancelled["id"], status="cancelled")
    change(world, "andrej", "jobs", job["id"], starts_at=NEXT + timedelta(days=2))

    assert send(world, NEXT - timedelta(hours=2)) == (0, 0)
    assert send(world, NEXT + timedelta(days=1)) == (1, 0)
    # another time is another occasion; the former one is not reminded again
    change(world, "andrej", "jobs", job["id"], starts_at=NEXT + timedelta(days=9))
    change(world, "andrej", "jobs", job["id"], starts_at=NEXT + timedelta(days=2))
    assert send(world, NEXT + timedelta(days=1, hours=1)) == (0, 0)
    change(world, "andrej", "jobs", job["id"], starts_at=NEXT + timedelta(days=4))
    assert send(world, NEXT + timedelta(days=3)) == (1, 0)
    # once it has begun there is nothing to remind of
    change(world, "andrej", "jobs", job["id"], starts_at=NEXT + timedelta(days=6))
    assert send(world, NEXT + timedelta(days=6)) == (0, 0)


def test_invoices_points_and_completed_jobs(world: World) -> None:
    add_rule(world, kind="invoice_due_in", days=2, text="{{invoice.number}} {{invoice.due_on}}")
    add_rule(world, kind="invoice_overdue_by", days=1, text="Late: {{invoice.number}}")
    add_rule(world, kind="points_expire_in", days=3, text="{{points.total}} points")
    add_rule(world, kind="after_job", minutes=60, text="How was {{appointment.service}}?")
    open_one = send_invoice(world, number="1", due_on="2027-06-10")
    paid = send_invoice(world, number="2", due_on="2027-06-10")
    add_points(world, 5, expires_on="2027-06-20")
    add_points(world, 7, expires_on="2027-06-20")
    job = make_job(world, starts_at=NEXT, ends_at=NEXT + timedelta(hours=2))
    make_job(world, starts_at=NEXT, service_type="Not completed")
    change(world, "andrej", "jobs", job["id"], status="completed")

    assert send(world, datetime(2027, 6, 1, 11, 59, tzinfo=UTC)) == (0, 0)
    assert send(world, datetime(2027, 6, 1, 12, 0, tzinfo=UTC)) == (1, 0)
    assert send(world, datetime(2027, 6, 8, 8, 59, tzinfo=UTC)) == (0, 0)
    assert send(world, datetime(2027, 6, 8, 9, 0, tzinfo=UTC)) == (2, 0)
    change(world, "andrej", "invoices", paid["id"], status="paid")
    assert send(world, datetime(2027, 6, 11, 9, 0, tzinfo=UTC)) == (1, 0)
    assert send(world, datetime(2027, 6, 17, 9, 0, tzinfo=UTC)) == (1, 0)
    # three days late it is too late
    change(world, "andrej", "invoices", open_one["id"], due_on="2027-07-01")
    assert send(world, datetime(2027, 7, 5, 9, 1, tzinfo=UTC)) == (0, 0)
    assert texts(world) == [
        "How was Carpet cleaning?",
        "1 2027-06-10",
        "2 2027-06-10",
        "Late: 1",
        "12 points",
    ]


def test_template_goes_to_whatsapp_and_the_text_to_whom_it_does_not_reach(world: World) -> None:
    add_template(world)
    rule = add_rule(world, template=REMIND, text="portal")
    assert rule["whatsapp_channel_id"] == world.value(
        "select id from public.whatsapp_channels where account_id = %s", [ALPINE]
    )
    thread = conversation(world)
    nobody = add_contact(world, "nobody")
    make_job(world, starts_at=NEXT)
    make_job(world, starts_at=NEXT, customer=nobody)

    assert send(world, NEXT - timedelta(days=1)) == (1, 1)
    [sent] = reminders(world)
    assert (sent["type"], sent["message"], sent["status"]) == ("template", "Dear cilka", "queued")
    assert sent["content"]["components"] == [
        {"type": "body", "parameters": [{"type": "text", "text": "cilka"}]}
    ]
    assert world.value(
        "select count(*) from private.outbound_queue where conversation_id = %s", [thread]
    )
    numbers = world.rows(
        "select max(m.seq) = a.last_seq and count(*) = a.last_seq as whole"
        " from public.messages m join public.conversation_activity a using (conversation_id)"
        " where conversation_id = %s group by a.last_seq",
        [thread],
    )
    assert numbers == [{"whole": True}]
    assert world.rows("select reason from private.sent_reminders order by reason") == [
        {"reason": "unreachable"},
        {"reason": None},
    ]

    # a template that WhatsApp has stopped
    world.owner.execute("update public.whatsapp_templates set status = 'PAUSED'")
    make_job(world, starts_at=NEXT + timedelta(days=9))
    assert send(world, NEXT + timedelta(days=8)) == (1, 0)
    assert texts(world) == ["Dear cilka", "portal"]
    world.owner.execute("update public.reminder_rules set text = null")
    make_job(world, starts_at=NEXT + timedelta(days=19))
    assert send(world, NEXT + timedelta(days=18)) == (0, 0)
    world.owner.execute("update public.whatsapp_templates set status = 'APPROVED'")
    assert send(world, NEXT + timedelta(days=18, hours=1)) == (1, 0)


def contact(world: World, phone: str | None, name: str = "Nina") -> UUID:
    found: UUID = insert(world, "andrej", "contacts_v2", account_id=ALPINE, name=name, phone=phone)[
        "id"
    ]
    return found


def test_template_opens_the_conversation_of_who_has_never_written(world: World) -> None:
    add_template(world)
    add_rule(world, template=REMIND, text=None)
    nina, other = contact(world, "+38640999000"), contact(world, "+38640999001")
    unproved = contact(world, None)
    gone = contact(world, "+38640999002")
    opted_out = contact(world, "+38640999003")
    # the number's open conversation is still another contact's
    talking = conversation(world, "38640999004")
    world.owner.execute("delete from public.contact_identities where match_key = '38640999004'")
    claimed = contact(world, "+38640999004")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    for customer in (nina, nina, other, unproved, gone, opted_out, claimed):
        make_job(world, customer=customer, starts_at=soon)
    world.owner.execute(
        "update public.contacts set preferences = '{\"wants_reminders\": false}' where id = %s",
        [opted_out],
    )
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s returning id", gone)

    # what is shown and tried is what is sent
    expected = {
        (str(nina), "whatsapp", None),
        (str(other), "whatsapp", None),
        (str(unproved), None, "unreachable"),
        (str(opted_out), None, "opted_out"),
        (str(claimed), None, "unreachable"),
        (str(gone), None, "unreachable"),
    }
    shown = upcoming(world)["reminders"]
    assert {(row["customer_id"], row["way"], row["reason"]) for row in shown} == expected
    assert world.value("select count(*) from public.conversations where channel = 'whatsapp'") == 1
    assert send(world, soon - timedelta(days=1)) == (3, 3)
    threads = world.rows(
        "select k.customer_id, customer_wa_id, thread_key, status, last_seq"
        " from public.conversations k join public.conversation_activity a"
        " on a.conversation_id = k.id where k.channel = 'whatsapp' and k.id <> %s"
        " order by thread_key",
        [talking],
    )
    assert [tuple(thread.values()) for thread in threads] == [
        (nina, "38640999000", "phone:38640999000", "open", 2),
        (other, "38640999001", "phone:38640999001", "open", 1),
    ]
    assert {row["customer_id"] for row in reminders(world)} == {nina, other}
    assert world.value("select count(*) from private.outbound_queue") == 3
    # the customer's answer comes there
    answered = conversation(world, "38640999000")
    assert world.value(
        "select customer_id from public.conversations where id = %s", [answered]
    ) == (nina)
    assert world.value("select count(*) from public.conversations where channel = 'whatsapp'") == 3


def test_rule_waits_while_its_number_is_stopped(world: World) -> None:
    add_template(world)
    add_rule(world, template=REMIND, text=None)
    make_job(world, customer=contact(world, "+38640999000"), starts_at=NEXT)
    stop = "update public.whatsapp_channels set stopped_at = %s where account_id = %s"
    world.owner.execute(stop.encode(), [NEXT, ALPINE])
    assert send(world, NEXT - timedelta(hours=3)) == (0, 0)
    world.owner.execute(stop.encode(), [None, ALPINE])
    assert send(world, NEXT - timedelta(hours=2)) == (1, 0)


def test_number_that_others_hold_is_left_for_later(world: World) -> None:
    add_template(world)
    add_rule(world, template=REMIND, text=None)
    for phone in ("+38640999000", "+38640999001"):
        make_job(world, customer=contact(world, phone), starts_at=NEXT)
    with world.connect() as other, other.transaction():
        other.execute(
            "select from public.contact_identities where match_key = '38640999000' for update"
        )
        assert send(world, NEXT - timedelta(hours=3)) == (1, 0)
    assert send(world, NEXT - timedelta(hours=3)) == (1, 0)


def test_record_of_past_work_is_not_asked_about(world: World) -> None:
    add_rule(world, minutes=30)
    add_rule(world, kind="after_job", minutes=0, text="How was it?")
    world.owner.execute("update public.reminder_rules set active_since = now() - interval '9 days'")
    now = datetime.now(UTC)
    for starts, ends in ((-26, -24), (-2, None), (-1, 1)):
        job = make_job(
            world,
            starts_at=now + timedelta(hours=starts),
            ends_at=now + timedelta(hours=ends) if ends else None,
        )
        assert send(world, now + timedelta(minutes=1)) == (0, 0)
        change(world, "andrej", "jobs", job["id"], status="completed")
    # the last one had not ended when it was written
    assert send(world, now + timedelta(hours=2)) == (1, 0)


def test_nobody_is_reminded_who_opted_out(world: World) -> None:
    add_template(world, category="MARKETING")
    add_rule(world, template=REMIND, text=None)
    conversation(world)
    stop = "update public.contacts set marketing_stopped_at = %s where id = %s"
    prefer = "update public.my_profile set preferences = %s"
    for day, (stopped, wants, expected) in enumerate(
        [
            (None, "{}", (1, 0)),
            (NEXT, "{}", (0, 1)),
            (None, '{"wants_reminders": false}', (0, 1)),
            (None, '{"wants_reminders": "no"}', (0, 1)),
            (None, '{"wants_reminders": true}', (1, 0)),
        ]
    ):
        world.owner.execute(stop.encode(), [stopped, CILKA])
        with world.acting_as("cilka") as connection:
            connection.execute(prefer.encode(), [wants])
        make_job(world, starts_at=NEXT + timedelta(days=day))
        assert send(world, NEXT + timedelta(days=day - 1)) == expected, day
    assert [
        row["reason"]
        for row in world.rows("select reason from private.sent_reminders order by occasion")
    ] == [None, "no_marketing", "opted_out", "opted_out", None]


def test_merge_keeps_that_somebody_opted_out(world: World) -> None:
    other = add_contact(world, "other")
    prefer = "update public.contacts set preferences = %s where id = %s"
    world.owner.execute(prefer, ['{"theme": "dark"}', CILKA])
    world.owner.execute(prefer, ['{"wants_reminders": false}', other])
    [merge] = ask(world, "andrej", "select public.merge_contacts(%s, %s) as id", CILKA, other)
    kept = "select preferences from public.customers where id = %s"

    assert world.value(kept, [CILKA]) == {"theme": "dark", "wants_reminders": False}
    add_rule(world)
    make_job(world, starts_at=NEXT)
    assert send(world, NEXT - timedelta(days=1)) == (0, 1)
    ask(world, "andrej", "select public.undo_merge(%s)", merge["id"]["merge_id"])
    assert world.value(kept, [CILKA]) == {"theme": "dark"}


def test_reminder_with_an_empty_variable_is_dropped(world: World) -> None:
    add_rule(world, text="{{invoice.number}}")
    make_job(world, starts_at=NEXT)

    assert send(world, NEXT - timedelta(days=1)) == (0, 1)
    assert world.value("select reason from private.sent_reminders") == "unfilled"


@pytest.mark.parametrize(
    ("starts", "minutes", "sent_at"),
    [
        # 21:00 until 8:00: after them
        ("2027-06-02T10:00Z", 180, "2027-06-02T08:00Z"),
        # over by then: half an hour before they begin
        ("2027-06-02T07:30Z", 60, "2027-06-01T20:30Z"),
        ("2027-06-01T21:30Z", 15, "2027-06-01T20:30Z"),
        ("2027-06-01T21:00Z", 60, "2027-06-01T20:00Z"),
    ],
)
def test_no_reminder_comes_in_the_quiet_hours(
    world: World, starts: str, minutes: int, sent_at: str
) -> None:
    world.owner.execute(
        "update public.accounts set quiet_from = '21:00', quiet_until = '08:00' where id = %s",
        [ALPINE],
    )
    add_rule(world, minutes=minutes)
    make_job(world, starts_at=starts)
    due = datetime.fromisoformat(sent_at)

    assert send(world, due - timedelta(seconds=1)) == (0, 0)
    night = due.replace(hour=22)
    assert send(world, night) == (0, 0)
    assert send(world, due) == (1, 0)
    assert send(world, due + timedelta(minutes=1)) == (0, 0)


def test_new_or_changed_rule_sends_nothing_that_was_due_before(world: World) -> None:
    hours = timedelta(hours=1)
    soon = datetime.now(UTC) + 5 * hours
    make_job(world, starts_at=soon)
    world.owner.execute("update public.jobs set created_at = now() - interval '9 days'")
    rule = add_rule(world, minutes=600)

    assert send(world, datetime.now(UTC)) == (0, 0)
    change(world, "olivia", "reminder_rules", rule["id"], minutes=240)
    assert send(world, soon - 4 * hours) == (1, 0)
    change(world, "olivia", "reminder_rules", rule["id"], is_active=False)
    make_job(world, starts_at=soon + 24 * hours)
    assert send(world, soon + 20 * hours) == (0, 0)


def test_merged_customer_is_reminded_of_its_points_once(world: World) -> None:
    add_rule(world, kind="points_expire_in", days=1, text="{{points.total}}")
    other = add_contact(world, "other")
    add_points(world, 5, expires_on="2027-06-20")
    add_points(world, 5, expires_on="2027-06-20", customer_id=other)
    assert send(world, datetime(2027, 6, 19, 9, tzinfo=UTC)) == (1, 1)
    with world.acting_as("andrej") as connection:
        connection.execute("select public.merge_contacts(%s, %s)", [other, CILKA])

    assert send(world, datetime(2027, 6, 19, 10, tzinfo=UTC)) == (0, 0)


@pytest.mark.parametrize("is_reminded_before", [True, False])
def test_merges_and_their_undo_repeat_no_reminder(world: World, is_reminded_before: bool) -> None:
    add_rule(world, kind="points_expire_in", days=1, text="{{points.total}}")
    contacts = [CILKA, add_contact(world, "b"), add_contact(world, "c")]
    add_points(world, 5, expires_on="2027-06-20")
    at = datetime(2027, 6, 19, 9, tzinfo=UTC)

    if is_reminded_before:
        assert send(world, at) == (1, 0)
    for dropped, kept in pairwise(contacts):
        ask(world, "andrej", "select public.merge_contacts(%s, %s)", kept, dropped)
    assert send(world, at + timedelta(hours=1)) == (0 if is_reminded_before else 1, 0)
    for merge in world.rows("select id from public.contact_merges order by merged_at desc"):
        ask(world, "andrej", "select public.undo_merge(%s)", merge["id"])
        assert send(world, at + timedelta(hours=2)) == (0, 0)
    assert texts(world) == ["5"]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"kind": "any"}, "kind"),
        ({"minutes": 2}, "minutes"),
        ({"minutes": None}, "minutes"),
        ({"kind": "invoice_due_in", "minutes": 5, "days": 1}, "minutes"),
        ({"kind": "invoice_due_in", "minutes": None}, "days"),
        ({"kind": "invoice_overdue_by", "minutes": None, "days": 0}, "days"),
        ({"text": None}, "template"),
        ({"text": " "}, "text"),
        ({"text": "{{contact.iban}}"}, "text"),
        ({"text": "{{agent.name}}"}, "text"),
        ({"template": "{}"}, "template.name"),
        ({"template": '{"name": "remind", "language": "sl"}'}, "template.language"),
        ({"template": '{"name": "remind", "language": "en"}'}, "template.components"),
        ({"template": REMIND.replace("body.1", "body.2")}, "template.variables.body.2"),
        ({"template": REMIND.replace("contact", "x")}, "template.variables.body.1"),
        ({"template": REMIND, "whatsapp_channel_id": BAY}, "whatsapp_channel_id"),
        ({"is_active": True, "active_since": NEXT}, "active_since"),
    ],
)
def test_rule_that_could_send_nothing_is_refused(
    world: World, columns: dict[str, Any], field: str
) -> None:
    add_template(world)
    given = {
        "account_id": ALPINE,
        "name": "any",
        "kind": "before_appointment",
        "minutes": 60,
        "text": "any",
    } | columns
    names, places = ", ".join(given), ", ".join(["%s"] * len(given))
    refused = refusal(
        world,
        "olivia",
        f"insert into public.reminder_rules ({names}) values ({places})",
        *given.values(),
    )
    assert (refused.code, refused.detail) == ("PT422", f"field: {field}"), refused


def test_what_somebody_holds_is_left_for_later(world: World) -> None:
    add_rule(world)
    job = make_job(world, starts_at=NEXT)
    with world.connect() as other:
        other.execute("begin")
        other.execute("update public.jobs set status = 'cancelled' where id = %s", [job["id"]])
        assert send(world, NEXT - timedelta(hours=3)) == (0, 0)
        other.execute("rollback")
    with world.connect() as worker:
        worker.execute("begin")
        worker.execute("select backend.send_reminders(10, %s)", [NEXT - timedelta(hours=2)])
        worker.execute("rollback")
    assert (texts(world), send(world, NEXT - timedelta(hours=2))) == ([], (1, 0))


def test_two_workers_at_once_send_once_and_count_once(world: World) -> None:
    add_rule(world)
    make_job(world, starts_at=NEXT)
    query = "select backend.send_reminders(10, %s) as counts"
    with world.connect() as worker:
        worker.execute("begin")
        worker.execute(query, [NEXT - timedelta(hours=2)])
        other = start_blocked(world, None, query, NEXT - timedelta(hours=2))
        worker.execute("commit")
    [row] = other.result()
    assert (row["counts"]["sent"], row["counts"]["dropped"]) == (0, 0)
    assert len(texts(world)) == 1


def customers(world: World, count: int) -> list[UUID]:
    return [add_contact(world, f"customer {number}") for number in range(count)]


def test_batches_go_on_until_all_are_sent(world: World) -> None:
    add_rule(world)
    for number, customer in enumerate(customers(world, 5)):
        make_job(world, starts_at=NEXT + timedelta(seconds=number), customer=customer)
    make_job(world, starts_at=NEXT)

    counts = [send(world, NEXT - timedelta(hours=3), batch=2) for _ in range(4)]
    assert [sum(count) for count in counts] == [2, 2, 2, 0]
    assert sum(sent for sent, _ in counts) == 1


# What will be sent, and what would have been sent


def upcoming(world: World, user: str = "vera", **given: Any) -> dict[str, Any]:
    named = "".join(f", {name} => %s" for name in given)
    [row] = ask(
        world,
        user,
        f"select public.upcoming_reminders(%s{named}) as page",
        ALPINE,
        *(json.dumps(one) if isinstance(one, list) else one for one in given.values()),
    )
    page: dict[str, Any] = row["page"]
    return page


def test_page_shows_what_the_worker_will_send(world: World) -> None:
    world.owner.execute(
        "update public.accounts set quiet_from = '21:00', quiet_until = '08:00', language = 'sl'"
        " where id = %s",
        [ALPINE],
    )
    rule = add_rule(world, minutes=60, name="hour before")
    add_rule(world, minutes=120, text="{{invoice.number}}")
    nobody = add_contact(world, "nobody")
    day = (datetime.now(UTC) + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [day + timedelta(hours=hours) for hours in (7, 12, 13, 15)]
    jobs = [make_job(world, starts_at=at) for at in starts[:3]]
    make_job(world, starts_at=starts[3], customer=nobody)
    change(world, "andrej", "jobs", jobs[2]["id"], status="cancelled")

    unreachable = (
        "Stranka nima potrjene številke na WhatsAppu niti prijave v portal, ki bi ju pravilo lahko"
        " uporabilo."
    )
    shown = upcoming(world)
    assert shown["cursor"] is None
    assert [
        (row["job_id"], row["send_at"], row["way"], row["why_not"])
        for row in shown["reminders"]
        if row["rule_id"] == str(rule["id"])
    ] == [
        (str(jobs[0]["id"]), (day - timedelta(hours=3.5)).isoformat(), "portal", None),
        (str(jobs[1]["id"]), (day + timedelta(hours=11)).isoformat(), "portal", None),
        (
            shown["reminders"][-1]["job_id"],
            None,
            None,
            unreachable,
        ),
    ]
    assert "{{invoice.number}} za to stranko nima vrednosti." in {
        row["why_not"] for row in shown["reminders"]
    }
    assert len(shown["reminders"]) == 6

    # page by page it is the same
    pages, cursor = [], None
    while True:
        page = upcoming(world, page_size=2, **({"cursor": cursor} if cursor else {}))
        pages += page["reminders"]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert pages == shown["reminders"]

    # and what is shown is what is sent
    world.owner.execute("delete from public.reminder_rules where id <> %s", [rule["id"]])
    assert [send(world, datetime.fromisoformat(row["send_at"])) for row in pages if row["way"]] == [
        (1, 0),
        (1, 0),
    ]
    assert [row["job_id"] for row in upcoming(world)["reminders"]] == [pages[-1]["job_id"]]
    for account in (ALPINE, None):
        said = refusal(world, "ana", "select public.upcoming_reminders(%s)", account)
        assert (said.code, said.detail) == ("PT404", "field: account_id")


TRY = "select public.try_reminder_rule(%s, {}) as tried"


def try_rule(world: World, **columns: Any) -> dict[str, Any]:
    named = ", ".join(f"{name} => %s" for name in columns)
    [row] = ask(world, "vera", TRY.format(named), ALPINE, *columns.values())
    tried: dict[str, Any] = row["tried"]
    return tried


def test_dry_run_says_what_last_month_would_have_brought(world: World) -> None:
    nobody = add_contact(world, "nobody")
    last_week = datetime.now(UTC) - timedelta(days=7)
    kept, cancelled = (make_job(world, starts_at=last_week) for _ in range(2))
    make_job(world, starts_at=last_week, customer=nobody)
    make_job(world, starts_at=last_week - timedelta(days=60))
    world.owner.execute("update public.jobs set created_at = now() - interval '90 days'")
    change(world, "andrej", "jobs", kept["id"], status="completed")
    change(world, "andrej", "jobs", cancelled["id"], status="cancelled")
    paid = send_invoice(world, number="1", due_on=last_week.date())
    world.owner.execute("update public.invoices set sent_at = now() - interval '60 days'")
    change(world, "andrej", "invoices", paid["id"], status="paid")

    own = TRY.format("kind => 'after_job', minutes => 5, text => 'Thanks'")
    for account in (BAY, None):
        assert refusal(world, "vera", own, account).code == "PT404"
    tried = try_rule(world, kind="before_appointment", minutes=60, text="{{contact.name}}")
    assert (tried["found"], tried["sent"], tried["dropped"]) == (2, 1, {"unreachable": 1})
    assert {row["message"] for row in tried["reminders"]} == {"cilka", None}
    assert try_rule(world, kind="after_job", minutes=60, text="x")["sent"] == 1
    # it has been paid since, and was not then
    tried = try_rule(world, kind="invoice_overdue_by", days=2, text="{{invoice.number}}")
    assert (tried["sent"], tried["reminders"][0]["message"]) == (1, "1")
    assert try_rule(world, kind="points_expire_in", days=2, text="x")["found"] == 0
    assert world.value("select count(*) from private.sent_reminders") == 0

    for wrong, field in (
        ({"kind": "any", "minutes": 1, "text": "x"}, "kind"),
        ({"kind": None, "days": 1, "text": "x"}, "kind"),
        ({"kind": "before_appointment", "minutes": -(2**31), "text": "x"}, "minutes"),
        ({"kind": "before_appointment", "minutes": 4, "text": "x"}, "minutes"),
        ({"kind": "after_job", "minutes": 525_601, "text": "x"}, "minutes"),
        ({"kind": "invoice_overdue_by", "days": 2**31 - 1, "text": "x"}, "days"),
        ({"kind": "invoice_overdue_by", "days": 0, "text": "x"}, "days"),
        ({"kind": "invoice_due_in", "days": -(2**31), "text": "x"}, "days"),
        ({"kind": "points_expire_in", "days": 366, "text": "x"}, "days"),
        ({"kind": "after_job", "minutes": 1}, "template"),
        ({"kind": "after_job", "days": 1, "text": "x"}, "minutes"),
        ({"kind": "after_job", "minutes": 1, "text": "{{x}}"}, "text"),
    ):
        named = ", ".join(f"{name} => %s" for name in wrong)
        refused = refusal(world, "vera", TRY.format(named), ALPINE, *wrong.values())
        assert (refused.code, refused.detail) == ("PT422", f"field: {field}")
