"""Why something does not show: for each broken link, the one that is named first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.asking import ask, refusal
from tests.sql.inbound import reaction, revoke
from tests.sql.outbound import (
    CILKA,
    accept,
    ago,
    backend,
    begin,
    claim,
    conversation,
    lose,
    make_due,
    post,
    refuse,
    send_to,
)
from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY,
    BAY_NUMBER,
    Item,
    World,
    seed_uuid,
    status,
    text_message,
)

ANSWER = dict[str, Any]
WABA = "102290129340398"
NEW_NUMBER = "1003427786179799"
KEY = f"695a15a5c526dbe7c085ece2_{ALPINE_NUMBER}_"


def why(world: World, reference: object, user: str = "olivia", **more: Any) -> ANSWER:
    """What an owner is answered; every answer is looked at as a whole."""
    named = "".join(f", {name} => %({name})s" for name in more)
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.why_not_shown(%(reference)s{named})".encode(),
            {"reference": str(reference), **more},
        ).fetchone()
    assert row is not None
    answer: ANSWER = row[0]
    check(answer)
    return answer


def check(answer: ANSWER) -> None:
    """Each step has its own sentence, and what is broken a remedy."""
    broken = next((step for step in answer["steps"] if step["ok"] is False), None)
    assert answer["broken"] == (broken and broken["step"])
    if broken:
        assert (answer["words"], answer["remedy"]) == (broken["words"], broken["remedy"])
    for step in answer["steps"]:
        assert step["words"].endswith("."), step
        assert not re.search(r"[{}]|  |: ?\.|\(\)| at \d+ \w+ \d{4} at ", step["words"]), step
        assert step["ok"] is not False or step["remedy"], step
    assert len({step["step"] for step in answer["steps"]} - {"found"}) == len(
        [step for step in answer["steps"] if step["step"] != "found"]
    )


def step(answer: ANSWER, name: str) -> ANSWER:
    (found,) = [one for one in answer["steps"] if one["step"] == name]
    result: ANSWER = found
    return result


def codes(answer: ANSWER) -> list[str]:
    return [one["code"] for one in answer["steps"]]


def code(answer: ANSWER) -> str | None:
    """That of the first broken step."""
    return next((one["code"] for one in answer["steps"] if one["ok"] is False), None)


def webhook(*provider_ids: str, number: str = ALPINE_NUMBER, sender: str = CILKA) -> str:
    """A body as Meta sends it."""
    messages = [{"from": sender, "id": one, "type": "text"} for one in provider_ids]
    value = {"metadata": {"phone_number_id": number}, "messages": messages}
    change = {"field": "messages", "value": value}
    body = json.dumps({"entry": [{"id": WABA, "changes": [change]}]})
    # as some senders write it
    return body.replace("/", "\\/")


def ingest(world: World, *items: Item, **more: str) -> None:
    world.ingest(*items, body=webhook(*(one["provider_id"] for one in items), **more))


def message_id(world: World, provider_id: str) -> UUID:
    found: UUID = world.value(
        "select id from public.messages where provider_id = %s", [provider_id]
    )
    return found


@contextmanager
def changed(world: World, change: str, back: str, *parameters: object) -> Iterator[None]:
    """While something is otherwise."""
    world.owner.execute(change.encode(), parameters)
    yield
    world.owner.execute(back.encode())


@pytest.fixture
def desk(world: World) -> World:
    """Alpine's number has its WhatsApp Business account, and Cilka has written."""
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = %s, display_phone_number = %s"
        " where account_id = %s",
        [WABA, "+386 1 555 01 00", ALPINE],
    )
    ingest(world, text_message("wamid.fine/1==", wa_id=CILKA, sent_at=ago(minutes=1)))
    return world


def test_a_message_that_shows_has_every_step_and_a_match(desk: World) -> None:
    answer = why(desk, "wamid.fine/1==")
    assert codes(answer) == [
        "found.message",
        "signature.good",
        "stored.kept",
        "read.applied",
        "number.registered",
        "contact.known",
        "message.kept",
        "conversation.found",
        "list.shown",
        "access.people",
        "log.entry",
        "topics.named",
        "broadcast.sent",
        "heard.nobody",
    ]
    assert (answer["broken"], answer["match"], answer["kind"]) == (None, True, "message")
    assert answer["id"] == str(message_id(desk, "wamid.fine/1=="))
    # the traffic of others can't be counted
    assert "event_id" not in step(answer, "stored")["facts"]
    assert [one["name"] for one in step(answer, "access")["facts"]["people"]] == [
        *("adam", "andrej", "olivia", "vera"),
        "cilka",
    ]
    thread = step(answer, "conversation")["facts"]
    assert thread["key"] == KEY + CILKA
    assert step(answer, "broadcast")["facts"]["topics"] == sorted(
        f"{kind}:{id_}:0"
        for kind, id_ in (
            ("account", ALPINE),
            ("conversation", thread["conversation_id"]),
            ("customer", seed_uuid("contact cilka")),
        )
    )

    # read by somebody; looked at; in Slovene; of the whole deployment
    for reader in ("andrej", "cilka"):
        ask(desk, reader, "select public.stay_at_conversation(%s)", thread["conversation_id"])
    assert step(why(desk, "wamid.fine/1=="), "heard")["code"] == "heard.looking"
    ask(desk, "andrej", "select public.mark_read(%s, 1)", thread["conversation_id"])
    heard = step(why(desk, answer["id"]), "heard")
    assert (heard["ok"], heard["words"]) == (True, "Read it: andrej.")
    slovene = why(desk, answer["id"], language="sl")
    assert codes(slovene) == codes(why(desk, answer["id"]))
    assert slovene["words"].startswith("Nič ni narobe")
    told = backend(desk, "why_not_shown(%s)", answer["id"])
    assert step(told, "stored")["facts"]["event_id"] == 1

    # the same by every name
    for name in (thread["conversation_id"], thread["key"], seed_uuid("contact cilka"), CILKA):
        assert why(desk, name)["broken"] is None, name
        assert why(desk, name)["match"] is True, name
    assert "never by the key" in step(why(desk, thread["key"]), "found")["words"]


def test_one_login_is_asked_about(desk: World) -> None:
    for login, reached, match in (
        ("andrej@rapport.example", "access.staff", True),
        ("Cilka@rapport.example", "access.customer", True),
        (str(seed_uuid("vera")), "access.staff", True),
        ("ana@rapport.example", "access.refused", False),
        ("nobody@rapport.example", "access.refused", False),
        (str(seed_uuid("stranger")), "access.refused", False),
    ):
        answer = why(desk, "wamid.fine/1==", login=login)
        assert (step(answer, "access")["code"], answer["match"]) == (reached, match), login
    # the people who run the deployment hear that there is no such login
    with pytest.raises(psycopg.Error, match="There is no login nobody@"):
        backend(desk, "why_not_shown(%s, login => %s)", "wamid.fine/1==", "nobody@rapport.example")
    # customers are told on their own topics
    answer = why(desk, "wamid.fine/1==", login="cilka@rapport.example")
    assert all("account:" not in topic for topic in step(answer, "topics")["facts"]["topics"])
    contact = why(desk, seed_uuid("contact cilka"), login="cilka@rapport.example")
    assert (step(contact, "log")["ok"], contact["broken"]) == (True, None)


def test_the_way_in_names_its_first_broken_link(desk: World) -> None:
    assert code(why(desk, "wamid.never")) == "stored.none"
    backend(desk, "note_refused_signatures(3)")
    answer = why(desk, "wamid.never")
    assert (answer["broken"], step(answer, "signature")["facts"]["count"]) == ("signature", 3)
    assert code(why(desk, "+386 40 777 000")) == "signature.refused"
    ingest(desk, text_message("wamid.new", wa_id=CILKA, sent_at=ago(seconds=-1)))
    answer = why(desk, "wamid.never")
    assert (answer["broken"], step(answer, "signature")["ok"]) == ("stored", None)
    desk.owner.execute("delete from private.refused_signatures")

    ingest(
        desk,
        text_message("wamid.lost", "38640777000", phone_number_id=NEW_NUMBER, waba_id=WABA),
        number=NEW_NUMBER,
        sender="38640777000",
    )
    for name in ("wamid.lost", "040 777 000", "+38640777000", NEW_NUMBER):
        expected = "stored.no_number" if name == "040 777 000" else "read.unknown_phone_number_id"
        assert code(why(desk, name)) == expected, name
    ingest(desk, text_message("wamid.bad", sent_at="soon"), text_message("wamid.good"))
    assert code(why(desk, "wamid.bad")) == "read.refused"
    assert code(why(desk, "wamid.good")) is None
    # the number is registered, so its owner sees what was refused
    rejected = "select reason from public.rejected_webhooks where phone_number_id = %s"
    assert ask(desk, "olivia", rejected, ALPINE_NUMBER) == [{"reason": "refused"}]
    assert code(why(desk, "+386 1 555 01 00")) == "rejected.some"
    assert code(why(desk, ALPINE_NUMBER, kind="number")) == "rejected.some"
    skipped = {"kind": "skipped", "reason": "unhandled_field", "detail": "flows", "waba_id": WABA}
    desk.ingest(skipped, body=webhook("wamid.odd"))
    assert code(why(desk, "wamid.odd")) == "read.unhandled"
    desk.ingest(body=webhook("wamid.left"))
    assert code(why(desk, "wamid.left")) == "read.nothing"

    desk.ingest(reaction("wamid.heart", "wamid.far", 5, "❤"))
    answer = why(desk, "wamid.heart")
    assert (code(answer), answer["kind"]) == ("read.no_parent", "message")
    desk.ingest(reaction("wamid.thumb", "wamid.new", 6, "👍"))
    assert codes(why(desk, "wamid.thumb"))[0] == "found.effect"
    desk.ingest(status("wamid.elsewhere", "sent", "2026-11-21T10:00:00Z"))
    assert code(why(desk, "wamid.elsewhere")) == "read.only_status"
    desk.ingest(revoke("wamid.gone", "wamid.new", 7))
    assert code(why(desk, "wamid.new")) == "message.deleted"

    assert code(why(desk, f"other_{ALPINE_NUMBER}_{CILKA}")) == "found.key_account"
    assert code(why(desk, KEY.replace(ALPINE_NUMBER, BAY_NUMBER) + CILKA)) == "found.key_number"
    assert code(why(desk, f"{KEY}38640000000")) == "found.key_customer"
    for nothing in (str(uuid4()), "hello", "160000"):
        answer = why(desk, nothing)
        assert (answer["broken"], answer["match"], answer["id"]) == (
            "stored" if nothing == "160000" else "found",
            False,
            None,
        )


def test_a_number_is_read_as_people_write_it(desk: World) -> None:
    for written in (
        "+38640111222",
        "00386 40 111 222",
        "38640111222",
        "040 111 222",
        "040/111-222",
        "(040) 111·222",
        "+386 (0)40 111 222",
        "tel:+386-40-111-222",
        "https://wa.me/38640111222",
        "38640111222@s.whatsapp.net",
        "\u200e+386 40 111 222\u200e",
        # full-width digits, as keyboards of East Asia write them
        "".join(chr(ord(one) + 0xFEE0) for one in "+38640111222"),
    ):
        answer = why(desk, written)
        assert (answer["kind"], answer["id"]) == ("number", str(seed_uuid("contact cilka"))), (
            written
        )
        assert why(desk, written, kind="number")["id"] == answer["id"]
    desk.ingest(text_message("wamid.hr", "38540111222"))
    assert code(why(desk, "040 111 222")) == "found.several"
    assert code(why(desk, "+386 40 111 222")) is None
    # what a customer has written of itself proves nothing
    desk.owner.execute(
        "update public.contacts set phone = '+38631999000' where id = %s",
        [seed_uuid("contact cilka")],
    )
    assert code(why(desk, "+386 31 999 000")) == "known.unproved"


def test_contact_and_conversation_name_their_first_broken_link(desk: World) -> None:
    cilka = seed_uuid("contact cilka")
    thread = UUID(step(why(desk, "wamid.fine/1=="), "conversation")["facts"]["conversation_id"])
    until = "select public.snooze_conversation(%s, now() + interval '1 day')"
    ask(desk, "andrej", until, thread)
    for name in ("wamid.fine/1==", thread, cilka, CILKA):
        assert code(why(desk, name)) == "list.snoozed", name
    ask(desk, "andrej", "select public.snooze_conversation(%s, null)", thread)
    ask(desk, "andrej", "select public.set_conversation_status(%s, 'closed')", thread)
    assert step(why(desk, thread), "list")["code"] == "list.closed"
    ask(desk, "andrej", "select public.set_conversation_status(%s, 'open')", thread)
    ask(desk, "andrej", "select public.take_conversation(%s)", thread)
    assert step(why(desk, thread), "list")["facts"]["assignee"] == "andrej"

    with desk.connect("supabase_admin") as connection:
        connection.execute("delete from realtime.messages")
    answer = why(desk, "wamid.fine/1==")
    assert (code(answer), answer["match"]) == ("broadcast.none", False)
    desk.owner.execute("delete from private.changes")
    assert code(why(desk, "wamid.fine/1==")) == "log.none"

    for name in ("one", "two"):
        desk.owner.execute(
            "insert into public.contacts (id, account_id, name) values (%s, %s, %s)",
            [seed_uuid(name), ALPINE, name],
        )
    answer = why(desk, seed_uuid("one"))
    assert (answer["broken"], step(answer, "known")["ok"]) == (None, None)
    assert step(answer, "conversation")["code"] == "conversation.none"
    ask(desk, "andrej", "select public.merge_contacts(%s, %s)", seed_uuid("one"), seed_uuid("two"))
    answer = why(desk, seed_uuid("two"))
    assert (code(answer), answer["steps"][-1]["facts"]["merged_into"]) == (
        "contact.merged",
        str(seed_uuid("one")),
    )
    desk.ingest(text_message("wamid.away", "38640777001", sent_at=ago(minutes=1)))
    away = desk.value("select customer_id from public.messages where provider_id = 'wamid.away'")
    ask(desk, "andrej", "delete from public.contacts_v2 where id = %s", away)
    assert code(why(desk, "wamid.away")) == code(why(desk, away)) == "contact.deleted"


def test_the_way_out_names_its_first_broken_link(desk: World) -> None:
    thread = conversation(desk)
    other = conversation(desk, "38640777002")
    first = post(desk, "andrej", thread)["id"]
    assert codes(why(desk, first))[:5] == [
        *("found.message", "written.by", "number.registered", "queued.waiting", "claimed.soon")
    ]
    assert code(why(desk, post(desk, "andrej", thread, "more")["id"])) == "queued.behind"
    stop = "update public.whatsapp_channels set stopped_at = %s, stopped_reason = 'It ended.'"
    go = "update public.whatsapp_channels set stopped_at = null, stopped_reason = null"
    with changed(desk, stop, go, ago(hours=1)):
        for name in (first, thread, ALPINE_NUMBER):
            assert code(why(desk, name)) == "number.stopped", name
        # what came does not need it
        assert code(why(desk, "wamid.fine/1==")) is None
    for table in ("whatsapp_channels", "accounts"):
        pause = f"update public.{table} set paused_at = %s"
        with changed(desk, pause, f"update public.{table} set paused_at = null", ago(hours=1)):
            assert code(why(desk, first)) == "number.paused", table
            assert code(why(desk, "wamid.fine/1==")) is None
    wait = "update private.outbound_queue set not_before = now() - interval '10 minutes'"
    desk.owner.execute(wait.encode())
    desk.owner.execute(
        "update public.messages set created_at = now() - interval '10 minutes' where id = %s",
        [first],
    )
    assert code(why(desk, first)) == "claimed.nobody"
    assert code(why(desk, ALPINE_NUMBER)) == "queue.late"

    assert [job["message_id"] for job in claim(desk)] == [first]
    assert step(why(desk, first), "claimed")["ok"] is True
    begin(desk, first)
    refuse(desk, first, 131000)
    answer = why(desk, first)
    assert (code(answer), step(answer, "queued")["facts"]["error_code"]) == ("queued.again", 131000)
    make_due(desk)
    claim(desk)
    begin(desk, first)
    refuse(desk, first, 131026)
    answer = why(desk, first)
    assert code(answer) == "sent.refused"
    assert "131026: The message can't be delivered" in answer["words"]

    (job,) = claim(desk)
    begin(desk, job["message_id"])
    lose(desk, job["message_id"])
    assert code(why(desk, job["message_id"])) == "sent.unknown"
    assert code(why(desk, thread)) == "sent.unknown"

    sent = send_to(desk, other)
    accept(desk, sent, "wamid.ours")
    answer = why(desk, "wamid.ours")
    assert (answer["id"], step(answer, "receipts")["ok"], answer["broken"]) == (sent, None, None)
    # the time is that of our call, and not of a report that says it otherwise
    taken = step(answer, "sent")["facts"]["at"]
    desk.owner.execute("update public.messages set sent_at = now() - interval '1 day'")
    assert step(why(desk, sent), "sent")["facts"]["at"] == taken
    zone = "update public.accounts set time_zone = %s"
    with changed(desk, zone, zone.replace("%s", "'UTC'"), "Europe/Ljubljana"):
        answer = why(desk, sent)
        assert answer["time_zone"] == "Europe/Ljubljana"
        assert not any("UTC" in one["words"] for one in answer["steps"])
    later = {"phone_number_id": ALPINE_NUMBER}
    desk.ingest(status("wamid.ours", "delivered", ago(seconds=1), **later))
    assert step(why(desk, sent), "receipts")["code"] == "receipts.delivered"
    lost = send_to(desk, other, "again")
    accept(desk, lost, "wamid.lost")
    desk.ingest(status("wamid.lost", "failed", ago(seconds=1), error_code=131049))
    answer = why(desk, lost)
    assert (code(answer), step(answer, "sent")["ok"]) == ("receipts.failed", True)
    assert "try again tomorrow" in answer["words"]

    (row,) = ask(
        desk,
        "andrej",
        "insert into public.scheduled_messages (conversation_id, message, send_at)"
        " values (%s, 'later', now() + interval '1 hour') returning id",
        thread,
    )
    assert code(why(desk, row["id"])) == "later.waiting"


def test_partners_name_their_first_broken_link(desk: World) -> None:
    cilka = seed_uuid("contact cilka")

    def first(name: object = "1600000001") -> str | None:
        return code(why(desk, name))

    desk.owner.execute(
        "insert into public.metakocka_contact_mappings (account_id, contact_id, metakocka_id,"
        " state, base, last_synced_at) values (%s, %s, '1600000001', 'synced', '{}', now())",
        [ALPINE, cilka],
    )
    assert first() == "connection.none"
    # a contact of an account without the ERP lacks nothing
    assert first(cilka) is None
    desk.owner.execute(
        "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
        [ALPINE],
    )
    assert (first(), first(cilka)) == (None, None)
    # a number of ten digits may be a partner's id
    answer = why(desk, "1600000001")
    assert (answer["kind"], answer["id"]) == ("partner", str(cilka))
    connection = "update public.metakocka_connections set {}"
    mapping = "update public.metakocka_contact_mappings set {}"
    added = f"insert into {{}} (account_id, contact_id, {{}}) values ('{ALPINE}', '{cilka}', {{}})"
    paused = "paused_until = now() + interval '1 hour', pause_reason = 'The quota is used up.'"
    conflicts, calls, errors, marks = (
        *("public.sync_conflicts", "private.partner_intents"),
        *("public.sync_errors", "private.metakocka_dirty"),
    )
    field = added.format(
        conflicts, "metakocka_id, field, crm", "'1600000001', 'place', '\"Kranj\"'"
    )
    offer = added.format(conflicts, "partners", """'[{"metakocka_id": "1600000002"}]'""")
    unknown = added.format(
        calls,
        "operation, fingerprint, state, sent_at",
        "'add_partner', 'x', 'unknown', now()",
    )
    error = added.format(errors, "operation, code, message", "'syncContact', '6', 'Not accepted.'")
    late = added.format(marks, "edited_at", "now() - interval '1 hour'")
    again = " on conflict (contact_id) do update set edited_at = excluded.edited_at"
    missing = "state = 'blocked', missing = '{street,country}'"
    cases = {
        "connection.off": (
            connection.format("active = false"),
            connection.format("active = true"),
        ),
        "connection.paused": (
            connection.format(paused),
            connection.format("paused_until = null, pause_reason = null"),
        ),
        "fields.missing": (
            mapping.format(missing),
            mapping.format("state = 'synced', missing = '{}'"),
        ),
        "question.field": (field, f"delete from {conflicts}"),
        "question.identity": (offer, f"delete from {conflicts}"),
        "call.unknown": (unknown, f"delete from {calls}"),
        "error.latest": (error, f"delete from {errors}"),
        "mark.late": (late + again, f"delete from {marks}"),
        "partner.unlinked": (
            mapping.format("state = 'unlinked'"),
            mapping.format("state = 'synced'"),
        ),
    }
    for expected, (change, back) in cases.items():
        with changed(desk, change, back):
            assert first() == expected
            if expected == "question.identity":
                assert first("1600000002") == expected
            if not expected.startswith("connection"):
                assert first(cilka) == expected
    assert first() is None
    desk.owner.execute(
        "insert into public.sync_errors (account_id, metakocka_id, operation, code, message)"
        " values (%s, '1600000009', 'syncFromMetakocka', '6', 'Not accepted.')",
        [ALPINE],
    )
    assert first("1600000009") == "error.latest"
    assert code(why(desk, "1600000010", kind="partner")) == "partner.unread"


def test_nothing_is_told_of_another_account(desk: World) -> None:
    ingest(
        desk,
        text_message("wamid.bay", "5511987654321", phone_number_id=BAY_NUMBER),
        text_message("wamid.bad", "5511987654321", phone_number_id=BAY_NUMBER, sent_at="soon"),
        number=BAY_NUMBER,
        sender="5511987654321",
    )
    desk.ingest(
        status("wamid.bays", "sent", "2026-11-21T10:00:00Z", phone_number_id=BAY_NUMBER),
        reaction("wamid.heart", "wamid.far", 5, "❤", phone_number_id=BAY_NUMBER),
    )
    desk.owner.execute(
        "insert into public.metakocka_contact_mappings (account_id, contact_id, metakocka_id,"
        " state, base) values (%s, %s, '1600000777', 'synced', '{}')",
        [BAY, seed_uuid("contact carlos")],
    )
    desk.owner.execute(
        "update public.whatsapp_channels set display_phone_number = '+55 11 4444 5555'"
        " where account_id = %s",
        [BAY],
    )
    theirs = {
        message_id(desk, "wamid.bay"): uuid4(),
        desk.value("select id from public.conversations where account_id = %s", [BAY]): uuid4(),
        seed_uuid("contact carlos"): uuid4(),
        desk.value("select id from public.whatsapp_channels where account_id = %s", [BAY]): uuid4(),
        "wamid.bay": "wamid.xyz",
        "wamid.bad": "wamid.xyz",
        "wamid.bays": "wamid.xyz",
        "wamid.heart": "wamid.xyz",
        "+5511987654321": "+5511987654399",
        "11 98765-4321": "11 98765-4399",
        BAY_NUMBER: "1003427786179700",
        "+55 11 4444 5555": "+55 11 4444 5599",
        "carlos@rapport.example": "nobody@rapport.example",
        "1600000777": "1600000778",
        f"bay_{BAY_NUMBER}_5511987654321": f"xyz_{BAY_NUMBER}_5511987654321",
        f"{KEY.replace(ALPINE_NUMBER, BAY_NUMBER)}1": f"{KEY.replace(ALPINE_NUMBER, '77')}1",
    }

    def blurred(answer: ANSWER, name: object) -> str:
        return json.dumps(answer).replace(str(name), "…")

    for their, nobodys in theirs.items():
        for account in (None, ALPINE):
            told = why(desk, their, account_id=account)
            untold = why(desk, nobodys, account_id=account)
            assert told["broken"] is not None
            assert set(codes(told)) == set(codes(untold)), their
            assert str(BAY) not in json.dumps(told)
            if "_" not in str(their):
                assert blurred(told, their) == blurred(untold, nobodys), their
        # the people who run the deployment do see it
        assert backend(desk, "why_not_shown(%s)", str(their))["steps"]
    call = "select public.why_not_shown('wamid.bay', %s)"
    assert refusal(desk, "olivia", call, BAY).code == "PT404"
    for user in ("andrej", "vera", "cilka", "stranger", "ana"):
        assert refusal(desk, user, "select public.why_not_shown('wamid.bay')").code == "42501"


def test_a_question_that_nobody_can_answer_is_refused(desk: World) -> None:
    for call, field in (
        ("select public.why_not_shown(' ')", "reference"),
        ("select public.why_not_shown(repeat('x', 513))", "reference"),
        ("select public.why_not_shown('x', kind => 'thing')", "kind"),
        ("select public.why_not_shown('x', login => repeat('x', 321))", "login"),
        ("select public.why_not_shown('x', language => 'de')", "language"),
    ):
        refused = refusal(desk, "olivia", call)
        assert (refused.code, refused.detail) == ("PT422", f"field: {field}"), call
    # what two accounts know, one has to be named for
    desk.ingest(text_message("wamid.too", CILKA, phone_number_id=BAY_NUMBER))
    desk.owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'admin', 'Olivia')",
        [BAY, seed_uuid("olivia")],
    )
    refused = refusal(desk, "olivia", "select public.why_not_shown(%s)", CILKA)
    assert (refused.code, refused.detail) == ("PT422", "field: account_id")
    assert refused.hint == "Name one of them: 695a15a5c526dbe7c085ece2, bay."
    assert why(desk, CILKA, account_id=BAY)["account_id"] == str(BAY)


def test_every_step_has_its_sentence(world: World) -> None:
    written = world.rows(
        r"""
        select distinct c.code[1] as code
        from pg_proc p
        cross join regexp_matches(p.prosrc, '''([a-z]+\.[a-z_]+)''', 'g') as c (code)
        where p.pronamespace = 'private'::regnamespace
          and position('as_step(' in p.prosrc) > 0
        """
    )
    sentences = {
        row["key"].removeprefix("why.")
        for row in world.rows("select key from private.sentences where left(key, 4) = 'why.'")
    }
    named = {row["code"] for row in written} | {"access.staff", "access.customer", "summary.fine"}
    assert len(named) > 80
    assert named == {one for one in sentences if not one.endswith(".remedy")}
    assert {one.removesuffix(".remedy") for one in sentences} == named
