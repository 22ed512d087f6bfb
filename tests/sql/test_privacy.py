"""All that is known of one person: it goes, is found nowhere, and nobody else loses anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from rapport.store.webhooks import json_of
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse
from tests.sql.actors import populate
from tests.sql.asking import Refusal, ask, refusal
from tests.sql.metakocka import backend, partner
from tests.sql.portal import CILKA, insert
from tests.world import ALPINE, ALPINE_NUMBER, BAY, BAY_NUMBER, World, seed_uuid

EVENTS = Path(__file__).parents[1] / "events"
NAME = "Cecilija Zupančič"
PHONE = "38640111222"
NEIGHBOUR = "38640999888"
QUOTED = f"{NAME} told me of you"
SECRET = 'My daughter "Ž" is ill, so\nplease come on Friday'
# not in a database of this machine
HOSTED_ALONE = {"auth.audit_log_entries"}
WORDS = (
    NAME,
    PHONE,
    "cecilija@zupancic.example",
    "cilka@rapport.example",
    "daughter",
    "Hello all",
    "Sent from the phone",
    "Do you clean leather?",
    "12345679",
)
TABLES = """
    select n.nspname || '.' || c.relname as name, c.relispartition
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence <> 't'
        and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by 1
"""


@pytest.fixture(scope="module")
def known(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """Both businesses with rows in every table, and of Cilka every kind of row that there is."""
    database = cluster.clone_database(world_template, "privacy")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        populate(world)
        tell_all(world)
        yield world
    cluster.drop_database(database.name)


def deliver(
    world: World,
    event: str,
    number: str = ALPINE_NUMBER,
    person: tuple[str, str] = (PHONE, NAME),
    said: str | None = None,
) -> str:
    """A recorded webhook as if it were about a person, by way of the parser; returns its body."""
    body = (EVENTS / f"{event}.json").read_text()
    body = body.replace("106540352242922", number).replace("385911234567", person[0])
    payload = json.loads(body.replace("Ana Horvat", person[1]))
    if said is not None:
        payload["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"] = said
        payload["entry"][0]["changes"][0]["value"]["messages"][0]["id"] = f"wamid.{said}"
    # as WhatsApp writes it: other letters by their numbers
    body = json.dumps(payload)
    items = items_of(parse(body))
    world.ingest(*(json_of(item) for item in items), body=body)
    return body


def tell_all(world: World) -> None:
    """Every kind of row about Cilka, beside those that both businesses have."""
    owner = world.owner
    ask(
        world,
        "andrej",
        "update public.contacts_v2 set name = %s, email = %s, notes = 'A difficult lady'"
        " where id = %s",
        NAME,
        "cecilija@zupancic.example",
        CILKA,
    )
    owner.execute(
        "update public.contacts set tax_id_number = 'SI12345679', marketing_chosen_at = now()"
        " where id = %s",
        [CILKA],
    )
    # a short way of tests keeps what no webhook is
    owner.execute("delete from private.webhook_events where body not like '{%'")
    # the one event names the account of the recorded webhooks
    owner.execute(
        "update public.whatsapp_channels set waba_id = '102290129340398' where account_id = %s",
        [ALPINE],
    )
    for event in (
        "batch", "image", "echo_text", "call_connect", "call_terminate", "group_create",
        "group_participants_add", "text_in_group", "reaction", "reaction_in_group", "phone_book",
        "preferences_stop", "bsuid_and_phone", "history", "status_sent", "edit", "text_reply",
    ):  # fmt: skip
        deliver(world, event)
    deliver(world, "text", said=SECRET)
    # to a number of Alpine's that nobody has registered: it is tried again later
    deliver(world, "text", "999000999", said="Is my daughter in?")
    # the same person is a customer of the other business
    deliver(world, "text", BAY_NUMBER, (PHONE, "Cecilija Z."), said="Is the boat free?")
    deliver(world, "text", person=(NEIGHBOUR, "Nejc"), said=QUOTED)
    deliver(world, "text_in_group", person=(NEIGHBOUR, "Nejc"), said="Good evening")
    thread = world.value(
        "select id from public.conversations where customer_id = %s and channel = 'whatsapp'"
        " order by created_at limit 1",
        [CILKA],
    )
    message = world.rows("select * from public.messages where message = %s", [SECRET])[0]
    portal = world.value(
        "select id from public.conversations where customer_id = %s and channel = 'portal'",
        [CILKA],
    )
    insert(
        world,
        "andrej",
        "scheduled_messages",
        conversation_id=portal,
        message=f"Dear {NAME}",
        send_at=datetime.now(UTC) + timedelta(days=2),
    )
    at = {
        "account": ALPINE,
        "channel": message["whatsapp_channel_id"],
        "contact": CILKA,
        "message": message["id"],
        "name": NAME,
        "other": seed_uuid("kept of cilka"),
        "phone": PHONE,
        "staff": seed_uuid("andrej"),
        "thread": thread,
        "user": seed_uuid("cilka"),
    }
    for statement in STATEMENTS:
        owner.execute(statement.encode(), at)


# what no short way of the product leaves
STATEMENTS = (
    """
    insert into private.push_queue (
        subscription_id, account_id, kind, conversation_id, subject_id, count, title, body
    )
    select s.id, %(account)s, 'message', %(thread)s, %(thread)s, 1, %(name)s, 'daughter'
    from public.push_subscriptions s where s.user_id = %(staff)s
    """,
    "insert into private.conversation_watchers values (%(staff)s, %(thread)s)",
    """
    insert into private.media_uploads (
        account_id, user_id, type, mime_type, file_name, size, object_key
    )
    select %(account)s, %(staff)s, 'image', 'image/png', %(name)s, 1, f.object_key
    from public.message_media f where f.customer_id = %(contact)s limit 1
    """,
    """
    insert into private.parked_replies values (%(message)s, %(channel)s, 'wamid.unknown')
    on conflict do nothing
    """,
    """
    update public.messages set reactions = jsonb_build_array(jsonb_build_object(
        'sender_id', %(phone)s::text, 'sender_type', 'client', 'emoji', 'x'))
    where message = 'Good evening'
    """,
    """
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (%(message)s, %(channel)s, %(thread)s, 1)
    """,
    """
    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    values (%(message)s, 1, %(channel)s)
    """,
    "insert into private.message_failures values (%(message)s, %(account)s)",
    """
    insert into private.unclosed_conversations (conversation_id, account_id, is_open)
    values (%(thread)s, %(account)s, true)
    on conflict do nothing
    """,
    """
    insert into private.sent_reminders (rule_id, subject_id, occasion, account_id, over_at)
    select u.id, j.id, 'any', u.account_id, now()
    from public.reminder_rules u join public.jobs j using (account_id)
    """,
    """
    insert into private.whatsapp_id_changes
    values (%(account)s, 'phone', %(phone)s, '38640111223', now())
    """,
    """
    insert into private.whatsapp_user_numbers values (%(account)s, 'SI.77', %(phone)s)
    on conflict do nothing
    """,
    "insert into private.send_paces values (%(channel)s, 'phone:' || %(phone)s, now())",
    """
    insert into private.stated_usernames values (%(contact)s, %(account)s, 'cecilija', 'cecilija')
    on conflict do nothing
    """,
    """
    insert into private.customer_words values (%(contact)s, %(account)s, 'name', lower(%(name)s))
    on conflict do nothing
    """,
    """
    insert into public.contact_merges (
        account_id, kept_contact_id, dropped_contact_id, kept_before, dropped_before, kept_after,
        moved_identities, moved_conversations, kept_conversations, settled_suggestions,
        added_suggestions, undone_at
    )
    values (
        %(account)s, %(contact)s, %(other)s, jsonb_build_object('name', %(name)s::text), '{}',
        '{}', '[]', '{}', '{}', '{}', '{}', now()
    )
    """,
    """
    insert into private.partner_intents (account_id, contact_id, operation, fingerprint, sent)
    values (
        %(account)s, %(contact)s, 'add_partner', 'x', jsonb_build_object('name', %(name)s::text)
    )
    """,
    """
    insert into private.metakocka_dirty (contact_id, account_id) values (%(contact)s, %(account)s)
    on conflict do nothing
    """,
    """
    insert into public.sync_errors (account_id, contact_id, operation, code, message)
    values (%(account)s, %(contact)s, 'any', '6', %(name)s)
    """,
    """
    insert into public.sync_runs (account_id, direction, trigger, request)
    values (%(account)s, 'to_metakocka', 'cli',
        jsonb_build_object('contact_ids', array[%(contact)s, %(other)s]::text[]))
    """,
    """
    insert into public.sync_conflicts (account_id, contact_id, partners, candidates)
    values (%(account)s, %(other)s, jsonb_build_array(
        jsonb_build_object('metakocka_id', '1600000001', 'name', %(name)s::text),
        jsonb_build_object('metakocka_id', '1600000002', 'name', 'Nobody')), array[%(contact)s])
    """,
    """
    insert into private.legal_holds (account_id, contact_id, reason, ended_at)
    values (%(account)s, %(contact)s, 'court', now())
    """,
    "select private.suggest_merge(%(account)s, array[%(contact)s, %(other)s], 'same_email', '{}')",
    """
    insert into public.portal_invitations (id, account_id, contact_id, expires_at)
    values (%(message)s, %(account)s, %(contact)s, now() + interval '1 day')
    """,
    "insert into private.portal_invitation_tokens values (%(message)s, sha256('any'))",
    "insert into private.user_writes (user_id, slot, minute, writes) values (%(user)s, 7, 1, 1)",
    "insert into auth.sessions (id, user_id) values (%(user)s, %(user)s)",
    "insert into auth.refresh_tokens (token, user_id, session_id) values ('t', %(user)s, %(user)s)",
    """
    insert into auth.flow_state (id, user_id, provider_type, authentication_method)
    values (%(user)s, %(user)s, 'email', 'otp')
    """,
    """
    insert into auth.mfa_amr_claims values (%(user)s, now(), now(), 'otp', %(user)s)
    """,
    """
    insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
    values (%(user)s, %(user)s, 'recovery_token', 'x', 'cilka@rapport.example')
    """,
    """
    insert into auth.identities (provider_id, user_id, identity_data, provider)
    values ('x', %(user)s, '{"email": "cilka@rapport.example"}', 'email')
    """,
)


def entries(world: World) -> list[dict[str, Any]]:
    return [
        entry
        for entry in world.rows("select * from private.personal_tables order by place")
        if entry["table_name"] not in HOSTED_ALONE
    ]


def count(world: World, entry: dict[str, Any], contact: UUID, *, to_do: bool = False) -> int:
    condition = f"({entry['condition']}) and ({entry['to_do'] or 'true'})"
    found: int = world.value(
        f"select count(*) from {entry['table_name']} r"
        " cross join (select x as self, x.* from private.person_of(%s, %s) x) p"
        f" where {condition if to_do else entry['condition']}".replace("%", "%%").replace(
            "%%s", "%s"
        ),
        [ALPINE, contact],
    )
    return found


def contents(world: World, condition: str = "true") -> dict[str, list[str]]:
    """Every row of the database as text; `condition` is about t."""
    return {
        row["name"]: sorted(
            one["row"]
            for one in world.rows(
                f"select lower(to_jsonb(t)::text) as row from {row['name']} t where {condition}"
            )
        )
        for row in world.rows(TABLES)
        if not row["relispartition"]
    }


def erase(world: World, action: dict[str, Any]) -> dict[str, Any]:
    """What the worker does, with a bucket that forgets at once."""
    while action["state"] == "running":
        if action["files"]:
            backend(
                world,
                "note_erased_files",
                action_id=UUID(action["id"]),
                object_keys=action["files"],
            )
        action = backend(world, "erase_some", action_id=UUID(action["id"]))
    return action


def test_every_table_says_what_it_holds_of_a_person(known: World) -> None:
    """A new table needs a row in private.personal_tables, and here a row about Cilka."""
    tables = {row["name"] for row in known.rows(TABLES) if not row["relispartition"]}
    listed = {entry["table_name"] for entry in entries(known)}
    assert tables - listed == set(), "name these tables in private.personal_tables"
    assert listed - tables == set()

    # what refers to people is not without them
    refers = known.rows(
        """
        select distinct t.table_name
        from private.personal_tables t
        join pg_class c on c.oid = to_regclass(t.table_name)
        join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
        where t.treatment = 'none'
          and a.attname in ('contact_id', 'customer_id', 'conversation_id', 'message_id')
        """
    )
    assert refers == []


def test_a_person_is_erased_and_nobody_else(known: World) -> None:
    world = known
    personal = [entry for entry in entries(world) if entry["condition"] is not None]
    missing = {
        (e["table_name"], e["treatment"], e["why"]) for e in personal if count(world, e, CILKA) == 0
    }
    assert missing == set(), "tell_all leaves no row of Cilka there"

    cursors = {}
    for user in ("andrej", "cilka"):
        with world.acting_as(user) as connection:
            cursors[user] = connection.execute("select public.changes_since()").fetchone()[0][
                "cursor"
            ]
    bay = f"to_jsonb(t) ->> 'account_id' = '{BAY}'"
    of_bay = contents(world, bay)
    neighbour = (
        "select id, message, content, sender_name from public.messages"
        " where sender_id = %s order by id"
    )
    said = world.rows(neighbour, [NEIGHBOUR])
    webhooks = world.value(
        "select array_agg(body order by id) from private.webhook_events where body like %s",
        [f"%{BAY_NUMBER}%"],
    )
    batch = deliver(world, "batch")
    world.owner.execute("analyze")

    # it is cut off after each second step, and its worker dies with what it has done
    action = backend(world, "erase_contact", contact_id=CILKA)
    for _ in range(3):
        with world.acting("service_role") as connection:
            connection.execute("select backend.erase_some(%s)", [action["id"]])
            raise psycopg.Rollback
        action = backend(world, "erase_some", action_id=UUID(action["id"]))
    assert backend(world, "erase_contact", contact_id=CILKA)["id"] == action["id"]
    action = erase(world, action)

    assert action["state"] == "done"
    assert action["finished_at"] is not None
    # told again it is the same: the words to search for are gone
    again = backend(world, "erase_contact", contact_id=CILKA)
    assert {name: again[name] for name in ("id", "state", "counts", "remaining")} == {
        name: action[name] for name in ("id", "state", "counts", "remaining")
    }
    left = {
        entry["table_name"]
        for entry in personal
        if count(world, entry, CILKA, to_do=entry["treatment"] == "change") > 0
    }
    assert left == set()
    # the neighbour has written the name, and staff and Realtime know the message
    assert {(one["table"], *one["kinds"]) for one in action["remaining"]} == {
        ("private.notifications", "name"),
        ("private.webhook_events", "name"),
        ("public.messages", "name"),
    }
    quoted = [one for one in action["remaining"] if one["table"] == "public.messages"]
    assert [one["id"] for one in quoted] == [
        str(row["id"]) for row in said if NAME in row["message"]
    ]
    assert {one["table"] for one in action["elsewhere"]} == {"realtime.messages"}

    # an own search, of all that is not another business's or the neighbour's
    for table, rows in contents(world).items():
        for row in rows:
            text = row
            if table == "private.webhook_events":
                text = json.dumps(json.loads(json.loads(row)["body"]), ensure_ascii=False)
            if not any(others in text for others in (BAY_NUMBER, str(BAY), QUOTED.lower())):
                assert [word for word in WORDS if word.lower() in text] == [], (table, text)
    # nor in the samples that the planner keeps of our tables; the platform renews its own
    samples = """
        select to_jsonb(s)::text as s from pg_stats s where schemaname in ('public', 'private')
    """
    for row in world.rows(samples):
        sampled = row["s"].replace(QUOTED, "")
        assert [word for word in (NAME, "daughter") if word in sampled] == [], sampled

    assert contents(world, bay) == of_bay
    assert world.rows(neighbour, [NEIGHBOUR]) == said
    assert webhooks == world.value(
        "select array_agg(body order by id) from private.webhook_events where body like %s",
        [f"%{BAY_NUMBER}%"],
    )

    # clients that were away learn what is gone, and nothing else
    for user, gone in (("andrej", True), ("cilka", False)):
        with world.acting_as(user) as connection:
            told = connection.execute(
                "select public.changes_since(%s, page_size => 1000)", [cursors[user]]
            ).fetchone()[0]
        assert "daughter" not in json.dumps(told)
        deleted = {c["table"] for c in told.get("changes", []) if c["operation"] == "DELETE"}
        assert ({"contacts", "conversations", "messages", "jobs"} <= deleted) is gone

    # the invoice that was sent stays by law; a draft does not
    assert [
        (row["number"], row["amount_minor"], row["description"])
        for row in world.rows("select * from public.invoices where customer_id = %s", [CILKA])
    ] == [("2026-001", 12050, None)]
    # the webhook comes again and brings nobody back; the person writes again and is somebody new
    assert world.ingest(*map(dict, [{"kind": "skipped"}]), body=batch)["applied"] == 0
    deliver(world, "text", said="Good morning")
    [fresh] = world.rows(
        "select c.id, c.name, c.notes from public.contacts c"
        " join public.conversations k on k.customer_id = c.id"
        " join public.messages m on m.conversation_id = k.id where m.message = 'Good morning'"
    )
    assert fresh["id"] != CILKA
    assert (fresh["name"], fresh["notes"]) == (None, None)
    # the sync leaves the partner alone, until a person asks for it
    refs = [{"metakocka_id": "1600000001", "emails": [], "phones": [f"+{PHONE}"]}]
    [told] = backend(world, "read_partners", account_id=ALPINE, refs=refs)
    assert (told["unchanged"], told["is_forgotten"]) == (True, True)
    hashes = {"1600000001": "another"}
    compared = backend(world, "compare_partners", account_id=ALPINE, hashes=hashes)
    assert compared == {"different": [], "edited": []}
    given = [partner("1600000001")]
    [late] = backend(world, "apply_partners", account_id=ALPINE, run_id=None, items=given)
    assert (late["status"], late["contact_id"]) == ("stale", None)
    world.owner.execute(
        "insert into public.sync_runs (account_id, direction, trigger, request)"
        """ values (%s, 'from_metakocka', 'user', '{"metakocka_ids": ["1600000001"]}')""",
        [ALPINE],
    )
    [told] = backend(world, "read_partners", account_id=ALPINE, refs=refs)
    assert told["unchanged"] is False


def test_what_came_meanwhile_is_nobody_elses_loss(known: World) -> None:
    """Another business takes a login, and the ERP answers late, while the person is erased."""
    world = known
    contact, taken, own, intent = (
        seed_uuid(f"late {one}") for one in ("contact", "taken", "own", "intent")
    )
    for user in (taken, own):
        world.owner.execute(
            "insert into auth.users (id, email) values (%s, %s)", [user, f"{user}@late.example"]
        )
        world.owner.execute("insert into auth.sessions (id, user_id) values (%s, %s)", [user, user])
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'Late Waldo', %s)",
        [contact, ALPINE, own],
    )
    world.owner.execute(
        "insert into public.portal_invitations"
        " (account_id, contact_id, expires_at, claimed_at, claimed_by)"
        " values (%s, %s, now() + interval '1 day', now(), %s)",
        [ALPINE, contact, taken],
    )
    world.owner.execute(
        "insert into private.partner_intents"
        " (id, account_id, contact_id, operation, fingerprint, sent, state, sent_at)"
        """ values (%s, %s, %s, 'add_partner', 'x', '{"name": "Late Waldo"}', 'sent', now())""",
        [intent, ALPINE, contact],
    )
    action = backend(world, "erase_contact", contact_id=contact)
    take = (
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'agent', 'Taken')"
    )
    # nobody takes it while a step is at work, and then it is there, or not
    with world.acting("service_role") as step, world.connect() as other:
        step.execute("select backend.erase_some(%s)", [action["id"]])
        other.execute("set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(take, [BAY, taken])
        raise psycopg.Rollback
    world.owner.execute(take, [BAY, taken])

    while action["step"] == "rows":
        action = backend(world, "erase_some", action_id=UUID(action["id"]))
    for _ in range(2):
        assert (action["state"], action["step"]) == ("running", "partners")
        action = backend(world, "erase_some", action_id=UUID(action["id"]))
    users = "select id from auth.users where id = any (%s)"
    assert [row["id"] for row in world.rows(users, [[taken, own]])] == [taken]
    assert world.value("select count(*) from auth.sessions where user_id = %s", [taken]) == 1
    assert world.value("select role from public.account_members where user_id = %s", [taken])

    # the sync finds the partner, and the erasure makes it one that is left alone
    assert backend(
        world,
        "settle_intent",
        account_id=ALPINE,
        intent_id=intent,
        state="settled",
        metakocka_id="1600000777",
    )
    assert erase(world, action)["state"] == "done"
    assert (
        world.rows("select * from private.partner_intents where contact_id = %s", [contact]) == []
    )
    refs = [{"metakocka_id": "1600000777", "emails": [], "phones": []}]
    [told] = backend(world, "read_partners", account_id=ALPINE, refs=refs)
    assert told["is_forgotten"] is True


def test_an_erased_message_that_comes_again_in_other_bytes_brings_nobody_back(
    known: World,
) -> None:
    world = known
    number, name = "38640777666", "Waldo Again"
    body = json.loads(deliver(world, "text", person=(number, name), said="Is Waldo in?"))
    contact = world.value("select id from public.contacts where profile_name = %s", [name])
    assert erase(world, backend(world, "erase_contact", contact_id=contact))["state"] == "done"

    # beside somebody else's, and the status of what was said
    other = json.loads((EVENTS / "text.json").read_text().replace("385911234567", "38640777555"))
    told = json.loads((EVENTS / "status_sent.json").read_text().replace("385911234567", number))
    value, beside, status = (one["entry"][0]["changes"][0]["value"] for one in (body, other, told))
    beside["messages"][0]["id"] = "wamid.beside"
    status["statuses"][0]["id"] = value["messages"][0]["id"]
    value["contacts"] += beside["contacts"]
    value["messages"] += beside["messages"]
    value["statuses"] = status["statuses"]
    items = [json_of(item) for item in items_of(body)]
    answer = world.ingest(*items, body=json.dumps(body))
    assert (answer["applied"], answer["duplicates"], answer["rejected"]) == (1, 2, [])
    assert world.ingest(*items, body=json.dumps(body))["applied"] == 0

    kept = world.value(
        "select body from private.webhook_events where id = %s", [answer["event_id"]]
    )
    left = json.loads(kept)["entry"][0]["changes"][0]["value"]
    assert [one["id"] for one in left["messages"]] == ["wamid.beside"]
    assert left["statuses"] == []
    found = contents(world, f"to_jsonb(t)::text ~ '{number}|{name}|Is Waldo in'")
    assert [table for table, rows in found.items() if rows] == []


def test_words_that_jsonb_refuses_are_erased_too(known: World) -> None:
    world = known
    number, name = "38640777444", "Odo Odd"
    said = "Is Odo in?\x00\ud800 \\u0000 \U0001f600"
    sent = deliver(world, "text", person=(number, name), said="?")
    payload = json.loads(sent)
    value = payload["entry"][0]["changes"][0]["value"]
    beside = json.loads(json.dumps(value).replace(number, "38640777333").replace(name, "Neva"))
    value["messages"][0] |= {"id": "wamid.odo", "text": {"body": said}}
    beside["messages"][0] |= {"id": "wamid.neva", "text": {"body": said.replace("Odo", "Neva")}}
    value["contacts"] += beside["contacts"]
    value["messages"] += beside["messages"]

    def arrive(body: str) -> dict[str, Any]:
        items = (json_of(item) for item in items_of(parse(body)))
        return world.ingest(*items, body=body)

    def kept(answer: dict[str, Any]) -> str:
        sql = "select body from private.webhook_events where id = %s"
        return str(world.value(sql, [answer["event_id"]]))

    first = arrive(json.dumps(payload))
    assert first["applied"] == 2
    # a number that no database holds: of this webhook nothing can be told apart
    alone = json.loads(sent)
    alone["entry"][0]["changes"][0]["value"]["messages"][0]["id"] = "wamid.odo.alone"
    whole = arrive(json.dumps(alone).replace('"object"', '"odd": 1e200000, "object"'))
    assert whole["applied"] == 1
    contact = world.value("select id from public.contacts where profile_name = %s", [name])
    action = backend(world, "erase_contact", contact_id=contact)
    assert erase(world, action)["state"] == "done"
    again = arrive(json.dumps(payload, indent=1))
    assert (again["applied"], again["duplicates"]) == (0, 2)

    assert kept(whole) == "{}"
    for body in (kept(first), kept(again)):
        left = json.loads(body)["entry"][0]["changes"][0]["value"]
        assert [one["profile"]["name"] for one in left["contacts"]] == ["Neva"]
        texts = [one["text"]["body"] for one in left["messages"]]
        assert texts == ["Is Neva in?\ufffd\ufffd \\u0000 \U0001f600"]
    found = contents(world, f"to_jsonb(t)::text ~ '{number}|{name}|Is Odo in'")
    assert [table for table, rows in found.items() if rows] == []


def test_a_message_of_another_number_with_an_erased_ones_id_stays(known: World) -> None:
    """One webhook about two numbers; the account of one has erased a person."""
    world = known
    number, name = "38640777222", "Twin"
    body = json.loads(deliver(world, "text", person=(number, name), said="Twice"))
    contact = world.value("select id from public.contacts where profile_name = %s", [name])
    assert erase(world, backend(world, "erase_contact", contact_id=contact))["state"] == "done"

    other = json.loads(json.dumps(body).replace(ALPINE_NUMBER, BAY_NUMBER))
    body["entry"] += other["entry"]
    items = [json_of(item) for item in items_of(body)]
    answer = world.ingest(*items, body=json.dumps(body))
    assert (answer["applied"], answer["duplicates"], answer["rejected"]) == (1, 1, [])
    kept = world.value(
        "select body from private.webhook_events where id = %s", [answer["event_id"]]
    )
    values = [entry["changes"][0]["value"] for entry in json.loads(kept)["entry"]]
    assert [len(value["messages"]) for value in values] == [0, 1]


def test_owners_ask_and_nobody_else(known: World) -> None:
    contact = seed_uuid("kept of cilka")
    for user, code in (("andrej", "42501"), ("adam", "42501"), ("otto", "PT404")):
        for call in ("erase_contact(%s)", "export_contact(%s)", "hold_contact(%s, 'x')"):
            assert refusal(known, user, f"select public.{call}", contact).code == code

    ask(known, "olivia", "select public.hold_contact(%s, 'Court file 7')", contact)
    held = refusal(known, "olivia", "select public.erase_contact(%s)", contact)
    assert held == Refusal(
        "PT409",
        "This contact is under a legal hold, and nothing of it may be deleted.",
        f"field: contact_id; contact: {contact}",
        "An owner ends the hold with release_contact.",
    )
    assert (
        refusal(known, "olivia", "delete from public.contacts_v2 where id = %s", contact).code
        == "PT409"
    )
    ask(known, "olivia", "select public.release_contact(%s)", contact)

    [(overview,)] = exported(known, contact)
    tables = {one["table"]: one["rows"] for one in overview["tables"]}
    assert tables["public.contacts"] == 2
    assert "auth.refresh_tokens" not in tables
    [(page,)] = exported(known, contact, "public.contacts")
    assert {row["id"] for row in page["rows"]} == set(overview["contact_ids"])

    # one that was deleted before is erased like any other
    ask(known, "olivia", "delete from public.contacts_v2 where id = %s", contact)
    [(asked,)] = rows_of(ask(known, "olivia", "select public.erase_contact(%s)", contact))
    assert asked["state"] == "running"
    assert refusal(known, "olivia", "select public.hold_contact(%s, 'x')", contact).code == "PT409"
    assert backend(known, "running_erasures") == [asked["id"]]
    erase(known, asked | {"files": []})

    logged = known.rows(
        "select action, user_id, state from public.privacy_actions where contact_id = %s"
        " order by created_at",
        [contact],
    )
    assert [row["action"] for row in logged] == ["hold", "release", "export", "erase"]
    assert {(row["user_id"], row["state"]) for row in logged} == {(seed_uuid("olivia"), "done")}
    for user, seen in (("olivia", True), ("adam", False), ("otto", False)):
        rows = ask(
            known, user, "select * from public.privacy_actions where contact_id = %s", contact
        )
        assert (len(rows) > 0) is seen


def exported(world: World, contact: UUID, table: str | None = None) -> list[tuple[Any, ...]]:
    return rows_of(ask(world, "olivia", "select public.export_contact(%s, %s)", contact, table))


def rows_of(answer: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in answer]
