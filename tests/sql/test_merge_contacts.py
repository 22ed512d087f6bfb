"""Two contacts that are one person: merged, nothing lost, and taken back."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.world import ALPINE, World, seed_uuid, status, text_message

CILKA = seed_uuid("contact cilka")
CARLOS = seed_uuid("contact carlos")
NINA = seed_uuid("contact nina")
NINA_WA_ID = "38631555666"


def call(world: World, user: str, function: str, *parameters: Any) -> Any:
    """What a public function answers a signed-in person."""
    places = ", ".join(["%s"] * len(parameters))
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.{function}({places})".encode(), parameters
        ).fetchone()
    assert row is not None
    return row[0]


def merge(world: World, keep: uuid.UUID, drop: uuid.UUID, user: str = "andrej") -> uuid.UUID:
    return uuid.UUID(call(world, user, "merge_contacts", keep, drop)["merge_id"])


def undo(world: World, merge_id: uuid.UUID, user: str = "andrej") -> dict[str, Any]:
    answer: dict[str, Any] = call(world, user, "undo_merge", merge_id)
    return answer


def change(world: World, contact: uuid.UUID, field: str, value: Any) -> None:
    """An edit on the contacts page."""
    with world.acting_as("andrej") as connection:
        connection.execute(
            f"update public.contacts_v2 set {field} = %s where id = %s".encode(), (value, contact)
        )


def add_contact(world: World, contact: uuid.UUID, **fields: Any) -> uuid.UUID:
    """A contact of Alpine, known by the phone and the email that it has."""
    columns = {"id": contact, "account_id": ALPINE} | fields
    world.owner.execute(
        f"insert into public.contacts ({', '.join(columns)})"
        f" values ({', '.join(['%s'] * len(columns))})".encode(),
        list(columns.values()),
    )
    for kind in ("phone", "email"):
        if fields.get(kind):
            world.owner.execute(
                "insert into public.contact_identities (account_id, kind, value, contact_id)"
                " values (%s, %s, %s, %s)",
                (ALPINE, kind, fields[kind], contact),
            )
    return contact


@pytest.fixture
def nina(world: World) -> World:
    """Cilka, who enters the portal, and Nina, who may be the same; both have written."""
    add_contact(
        world,
        NINA,
        name="Nina Novak",
        phone="+" + NINA_WA_ID,
        email="nina@novak.example",
        tags=["vip", "silk"],
        notes="Two silk carpets.",
    )
    world.owner.execute(
        "update public.contacts set tags = '{vip,wool}', notes = 'Rings twice.' where id = %s",
        [CILKA],
    )
    world.ingest(
        text_message("wamid.c1", wa_id="38640111222", profile_name="Cilka"),
        text_message("wamid.n1", wa_id=NINA_WA_ID, profile_name="Nina"),
        text_message("wamid.n2", wa_id=NINA_WA_ID, profile_name="Nina"),
    )
    return world


def state(world: World) -> dict[str, list[Any]]:
    """Everything that a merge touches, without the stamps of change."""
    return {
        table: [
            row["row"]
            for row in world.rows(
                f"select to_jsonb(t) - array['version', 'updated_at'] as row"
                f" from public.{table} t order by to_jsonb(t) ->> '{key}'"
            )
        ]
        for table, key in {
            "contacts": "id",
            "contact_identities": "match_key",
            "conversations": "id",
            "conversation_activity": "conversation_id",
            "messages": "id",
            "contact_suggestions": "id",
            "jobs": "id",
            "invoices": "id",
            "loyalty_transactions": "id",
        }.items()
    }


def contact(world: World, contact_id: uuid.UUID) -> dict[str, Any]:
    (row,) = world.rows("select * from public.contacts where id = %s", [contact_id])
    return row


def owners(world: World) -> dict[str, uuid.UUID]:
    """Whose each identity of Alpine is."""
    return {
        row["match_key"]: row["contact_id"]
        for row in world.rows(
            "select match_key, contact_id from public.contact_identities where account_id = %s",
            [ALPINE],
        )
    }


def test_kept_values_win_and_missing_ones_are_taken_over(nina: World) -> None:
    answer = call(nina, "andrej", "merge_contacts", CILKA, NINA)

    kept = contact(nina, CILKA)
    assert kept["name"] == "cilka"
    assert kept["phone"] == "+38640111222"
    assert kept["email"] == "nina@novak.example"
    assert kept["tags"] == ["vip", "wool", "silk"]
    assert kept["notes"] == "Rings twice.\n\nTwo silk carpets."
    assert answer["contact"]["id"] == str(CILKA)
    assert answer["contact"]["email"] == "nina@novak.example"
    assert answer["contact"]["version"] == kept["version"]


def test_profile_name_is_taken_over_with_its_time_and_is_no_staff_name(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=NINA_WA_ID, profile_name="Nina"))
    writer = owners(world)[NINA_WA_ID]
    nameless = add_contact(world, NINA, email="nina@novak.example")
    merge(world, nameless, writer)

    kept = contact(world, nameless)
    assert (kept["name"], kept["profile_name"]) == (None, "Nina")
    assert kept["profile_named_at"] is not None


def test_journal_holds_both_values_of_every_field(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA)

    with nina.acting_as("vera") as connection:
        row = connection.execute(
            "select kept_before, dropped_before, kept_after, merged_by"
            " from public.contact_merges where id = %s",
            [merge_id],
        ).fetchone()
    assert row is not None
    kept_before, dropped_before, kept_after, merged_by = row
    assert (kept_before["email"], dropped_before["email"]) == (None, "nina@novak.example")
    assert (kept_before["phone"], dropped_before["phone"]) == ("+38640111222", "+" + NINA_WA_ID)
    assert dropped_before["notes"] == "Two silk carpets."
    assert kept_after["email"] == "nina@novak.example"
    assert merged_by == seed_uuid("andrej")


def test_threads_move_and_are_never_joined(nina: World) -> None:
    before = nina.rows("select id, customer_id from public.conversations order by id")
    merge(nina, CILKA, NINA)
    after = nina.rows("select id, customer_id from public.conversations order by id")

    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert {row["customer_id"] for row in after} == {CILKA}
    assert nina.value("select count(distinct customer_id) from public.messages") == 1
    assert set(owners(nina).values()) == {CILKA}

    # a message from Nina's number goes on in Nina's thread, with Cilka
    nina.ingest(text_message("wamid.n3", wa_id=NINA_WA_ID, profile_name="Nina"))
    (row,) = nina.rows(
        "select m.customer_id, m.seq, k.thread_key from public.messages m"
        " join public.conversations k on k.id = m.conversation_id where provider_id = 'wamid.n3'"
    )
    assert row == {"customer_id": CILKA, "seq": 3, "thread_key": f"phone:{NINA_WA_ID}"}
    assert contact(nina, NINA)["profile_name"] is None


def test_merged_contact_is_found_where_it_went_however_often(nina: World) -> None:
    last = add_contact(nina, seed_uuid("contact last"), name="Last")
    merge(nina, CILKA, NINA)
    merge(nina, last, CILKA)

    answer = call(
        nina, "andrej", "upsert_contact", ALPINE, f'{{"id": "{NINA}", "notes": "Found."}}'
    )
    assert answer["id"] == str(last)
    with nina.acting_as("andrej") as connection:
        seen = connection.execute(
            "select id from public.contacts_v2 where id = any (%s)", [[NINA, CILKA, last]]
        ).fetchall()
    assert seen == [(last,)]


@pytest.mark.parametrize(
    ("user", "keep", "drop", "code"),
    [
        ("vera", CILKA, NINA, "42501"),
        ("ana", CILKA, NINA, "PT404"),
        ("ana", CARLOS, NINA, "PT404"),
        ("andrej", CILKA, CARLOS, "PT404"),
        ("andrej", CARLOS, CILKA, "PT404"),
        ("andrej", CILKA, seed_uuid("nobody"), "PT404"),
        ("andrej", None, CILKA, "PT404"),
        ("andrej", CILKA, CILKA, "PT422"),
        ("cilka", CILKA, NINA, "PT404"),
        ("stranger", CILKA, NINA, "PT404"),
    ],
)
def test_only_staff_merge_and_only_two_of_their_own(
    nina: World, user: str, keep: uuid.UUID, drop: uuid.UUID, code: str
) -> None:
    before = state(nina)
    with pytest.raises(psycopg.Error) as refusal:
        merge(nina, keep, drop, user)
    assert refusal.value.sqlstate == code
    assert state(nina) == before


def test_nobody_else_reads_or_undoes_a_merge(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA, "olivia")
    after = state(nina)

    for user, code in {"ana": "PT404", "cilka": "PT404", "vera": "42501"}.items():
        with pytest.raises(psycopg.Error) as refusal:
            undo(nina, merge_id, user)
        assert refusal.value.sqlstate == code
    for user in ("ana", "cilka", "stranger"):
        with nina.acting_as(user) as connection:
            assert connection.execute("select from public.contact_merges").fetchall() == []
    assert state(nina) == after
    undo(nina, merge_id, "adam")


def test_journal_is_written_by_merging_alone(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA)
    for statement in (
        "update public.contact_merges set undone_at = now() where id = %s",
        "delete from public.contact_merges where id = %s",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            nina.acting_as("olivia") as connection,
        ):
            connection.execute(statement.encode(), [merge_id])


def test_what_is_merged_or_deleted_is_not_merged_again(nina: World) -> None:
    third = add_contact(nina, seed_uuid("contact third"))
    merge(nina, CILKA, NINA)
    for keep, drop in ((third, NINA), (NINA, third), (CILKA, NINA), (NINA, CILKA)):
        with pytest.raises(psycopg.Error) as refusal:
            merge(nina, keep, drop)
        assert refusal.value.sqlstate == "PT409"
        assert str(CILKA) in str(refusal.value.diag.message_detail)

    with nina.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [third])
    with pytest.raises(psycopg.Error) as refusal:
        merge(nina, CILKA, third)
    assert refusal.value.sqlstate == "PT404"


def test_two_logins_are_not_made_one(nina: World) -> None:
    nina.owner.execute(
        "update public.contacts set portal_user_id = %s where id = %s",
        [seed_uuid("stranger"), NINA],
    )
    before = state(nina)
    with pytest.raises(psycopg.Error) as refusal:
        merge(nina, CILKA, NINA)
    assert refusal.value.sqlstate == "PT409"
    assert "Unlink" in str(refusal.value.diag.message_hint)
    assert state(nina) == before


@pytest.mark.parametrize(
    ("field", "value", "other"),
    [
        ("tags", [f"a{i}" for i in range(60)], [f"b{i}" for i in range(60)]),
        ("notes", "a" * 12000, "b" * 12000),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(
    nina: World, field: str, value: Any, other: Any
) -> None:
    change(nina, CILKA, field, value)
    change(nina, NINA, field, other)
    with pytest.raises(psycopg.Error) as refusal:
        merge(nina, CILKA, NINA)
    assert refusal.value.sqlstate == "PT409"
    assert refusal.value.diag.message_detail == f"field: {field}"


def topics(world: World, user: str) -> list[str]:
    with world.acting_as(user) as connection:
        return [
            row[0]
            for row in connection.execute(
                "select topic from public.my_topics() where kind in ('account', 'customer')"
            ).fetchall()
        ]


def test_login_goes_along_and_loses_its_old_topics(nina: World) -> None:
    (old,) = topics(nina, "cilka")
    nina.forget_events()
    merge_id = merge(nina, NINA, CILKA)

    (new,) = topics(nina, "cilka")
    assert new.startswith(f"customer:{NINA}:")
    told = [event["event"] for event in nina.events() if event["topic"] == old]
    assert told == ["topics.changed"]
    with nina.acting_as("cilka") as connection:
        seen = connection.execute(
            "select (select array_agg(id) from public.customers),"
            " (select count(*) from public.messages)"
        ).fetchone()
        allowed = connection.execute(
            "select private.may_receive(%s), private.may_receive(%s)", (old, new)
        ).fetchone()
    assert seen == ([NINA], 3)
    assert allowed == (False, True)

    nina.forget_events()
    undo(nina, merge_id)
    (back,) = topics(nina, "cilka")
    assert back.startswith(f"customer:{CILKA}:")
    assert back != old
    assert [e["event"] for e in nina.events() if e["topic"] == new] == ["topics.changed"]
    with nina.acting_as("cilka") as connection:
        allowed = connection.execute(
            "select private.may_receive(%s), private.may_receive(%s)", (new, back)
        ).fetchone()
    assert allowed == (False, True)


def test_staff_hear_and_catch_up_on_all_that_a_merge_did(nina: World) -> None:
    cursor = call(nina, "andrej", "changes_since")["cursor"]
    nina.forget_events()
    merge_id = merge(nina, CILKA, NINA)

    heard = [
        (event["event"], event["payload"]["id"])
        for event in nina.events()
        if event["topic"].startswith(f"account:{ALPINE}") and event["event"] != "topics.changed"
    ]
    moved = nina.value(
        "select id from public.conversations where thread_key = %s", [f"phone:{NINA_WA_ID}"]
    )
    messages = [
        str(row["id"])
        for row in nina.rows("select id from public.messages where conversation_id = %s", [moved])
    ]
    expected = [
        ("contacts.deleted", str(NINA)),
        ("customers.deleted", str(NINA)),
        ("contacts.updated", str(CILKA)),
        ("customers.updated", str(CILKA)),
        ("conversations.updated", str(moved)),
        *(("messages.updated", message) for message in messages),
    ]
    assert sorted(heard) == sorted(expected)

    caught_up = call(nina, "andrej", "changes_since", cursor)
    assert not caught_up["resync"]
    # the dropped contact is a tombstone, and the moved rows show their new customer
    last = {(entry["table"], entry["id"]): entry for entry in caught_up["changes"]}
    assert last["contacts", str(NINA)]["operation"] == "DELETE"
    assert last["conversations", str(moved)]["record"]["customer_id"] == str(CILKA)
    assert {last["messages", message]["record"]["customer_id"] for message in messages} == {
        str(CILKA)
    }

    # the customer who is kept hears of the threads that are now hers
    (hers,) = topics(nina, "cilka")
    told = [event["event"] for event in nina.events() if event["topic"] == hers]
    assert "conversations.inserted" in told
    assert told.count("messages.inserted") == len(messages)

    cursor = caught_up["cursor"]
    undo(nina, merge_id)
    back = call(nina, "andrej", "changes_since", cursor)["changes"]
    assert ("contacts", str(NINA), "INSERT") in [
        (e["table"], e["id"], e["operation"]) for e in back
    ]


def test_undoing_at_once_gives_everything_back(nina: World) -> None:
    before = state(nina)
    answer = undo(nina, merge(nina, CILKA, NINA))

    assert state(nina) == before
    assert answer["changed_since"] == answer["not_returned"] == []
    assert (answer["kept"]["id"], answer["restored"]["id"]) == (str(CILKA), str(NINA))
    assert answer["restored"]["email"] == "nina@novak.example"
    assert nina.value("select name from public.customers where id = %s", [NINA]) == "Nina Novak"


def test_merge_is_undone_that_was_made_before_contacts_had_a_column(nina: World) -> None:
    before = state(nina)
    merge_id = merge(nina, CILKA, NINA)
    nina.owner.execute(
        "update public.contact_merges"
        " set dropped_before = dropped_before - array['people', 'addresses', 'gsm'],"
        " kept_before = kept_before - array['people', 'addresses', 'gsm'],"
        " kept_after = kept_after - array['people', 'addresses', 'gsm']"
    )
    undo(nina, merge_id)

    assert state(nina)["contacts"] == before["contacts"]


texts = st.none() | st.sampled_from(["Ana", "ana", "Špela Ž", "x\ny"])
people = st.fixed_dictionaries(
    {
        "name": texts,
        "profile_name": texts,
        "notes": texts,
        "tags": st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True),
        "preferences": st.sampled_from([{}, {"language": "sl"}, {"consent": True}]),
        "username": st.none() | st.sampled_from(["ana.z", "nejc"]),
        "login": st.booleans(),
        "phone": st.booleans(),
        "email": st.booleans(),
        "status": st.sampled_from(["open", "closed"]),
        "threads": st.integers(0, 2),
    }
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=people, second=people)
def test_whatever_was_merged_comes_back_as_it_was(
    world: World, first: dict[str, Any], second: dict[str, Any]
) -> None:
    world.owner.execute("update public.contacts set portal_user_id = null")
    pair: list[uuid.UUID] = []
    for person, login in ((first, "cilka"), (second, "stranger")):
        one = uuid.uuid4()
        number = str(one.int)[:11]
        login_used = person["login"] and not (pair and first["login"])
        add_contact(
            world,
            one,
            name=person["name"],
            profile_name=person["profile_name"],
            profile_named_at="2026-11-20T10:00:00.123456+01" if person["profile_name"] else None,
            notes=person["notes"],
            tags=person["tags"],
            preferences=Jsonb(person["preferences"]),
            username=person["username"],
            status=person["status"],
            phone="+1" + number if person["phone"] else None,
            email=f"{number}@x.example" if person["email"] else None,
            portal_user_id=seed_uuid(login) if login_used else None,
        )
        for thread in range(person["threads"]):
            world.owner.execute(
                "with thread as (insert into public.conversations"
                " (account_id, customer_id, channel, thread_key, status)"
                " values (%s, %s, 'portal', %s, %s) returning *)"
                " insert into public.messages (account_id, conversation_id, customer_id, seq,"
                " sender_type, message, status) select account_id, id, customer_id, 1,"
                " 'client', 'hello', 'sent' from thread",
                (ALPINE, one, f"portal:{one}:{thread}", person["status"]),
            )
        pair.append(one)

    before = state(world)
    merge_id = merge(world, pair[0], pair[1])
    assert state(world) != before
    with world.acting_as("andrej") as connection:
        # the journal is read in another time zone than it was written in
        connection.execute("set local timezone = 'Asia/Tokyo'")
        row = connection.execute("select public.undo_merge(%s)", [merge_id]).fetchone()

    assert state(world) == before
    assert row is not None
    assert row[0]["changed_since"] == row[0]["not_returned"] == []


def test_edits_since_stay_and_are_named(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA)
    change(nina, CILKA, "notes", "Moved to Koper.")
    change(nina, CILKA, "name", "Cilka Novak")
    answer = undo(nina, merge_id)

    assert answer["changed_since"] == [
        {
            "field": "notes",
            "merged": "Rings twice.\n\nTwo silk carpets.",
            "now": "Moved to Koper.",
        }
    ]
    kept, restored = contact(nina, CILKA), contact(nina, NINA)
    # the name was hers before the merge and after it: the edit is nothing to ask about
    assert (kept["name"], kept["notes"]) == ("Cilka Novak", "Moved to Koper.")
    assert (kept["email"], kept["tags"]) == (None, ["vip", "wool"])
    assert (restored["email"], restored["notes"]) == ("nina@novak.example", "Two silk carpets.")
    assert (restored["merged_into"], restored["deleted_at"]) == (None, None)


def test_identity_that_was_given_up_since_comes_back_if_nobody_took_it(nina: World) -> None:
    add_contact(nina, seed_uuid("contact third"))
    merge_id = merge(nina, CILKA, NINA)
    # neither is proved by a message, so that editing the field gives it up
    change(nina, CILKA, "email", "cilka@novak.example")
    assert "nina@novak.example" not in owners(nina)
    undo(nina, merge_id)

    assert owners(nina)["nina@novak.example"] == NINA
    assert owners(nina)["cilka@novak.example"] == CILKA


def test_identity_that_another_has_now_stays_there_and_is_named(nina: World) -> None:
    third = add_contact(nina, seed_uuid("contact third"))
    merge_id = merge(nina, CILKA, NINA)
    change(nina, CILKA, "email", None)
    change(nina, third, "email", "nina@novak.example")
    answer = undo(nina, merge_id)

    assert answer["not_returned"] == [
        {
            "kind": "email",
            "value": "nina@novak.example",
            "reason": "belongs_to_another",
            "contact_id": str(third),
        }
    ]
    assert owners(nina)["nina@novak.example"] == third
    assert owners(nina)[NINA_WA_ID] == NINA


def test_number_that_staff_wrote_down_for_the_kept_one_since_stays_with_it(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA)
    change(nina, CILKA, "phone", "+" + NINA_WA_ID)
    answer = undo(nina, merge_id)

    (named,) = answer["not_returned"]
    assert (named["kind"], named["reason"], named["contact_id"]) == (
        "phone",
        "written_since",
        str(CILKA),
    )
    assert owners(nina)[NINA_WA_ID] == CILKA


def test_conversation_opened_since_stays_and_is_named(nina: World) -> None:
    merge_id = merge(nina, CILKA, NINA)
    thread = nina.value(
        "update public.conversations set status = 'closed' where thread_key = %s returning id",
        [f"phone:{NINA_WA_ID}"],
    )
    nina.ingest(text_message("wamid.n9", wa_id=NINA_WA_ID, profile_name="Nina"))
    opened = nina.value(
        "select conversation_id from public.messages where provider_id = 'wamid.n9'"
    )
    answer = undo(nina, merge_id)

    assert answer["not_returned"] == [
        {
            "kind": "conversation",
            "value": str(opened),
            "reason": "opened_since",
            "contact_id": str(CILKA),
        }
    ]
    threads = {
        row["id"]: row["customer_id"]
        for row in nina.rows("select id, customer_id from public.conversations")
    }
    assert (threads[thread], threads[opened]) == (NINA, CILKA)


def test_login_that_was_unlinked_since_is_not_let_in_again(nina: World) -> None:
    merge_id = merge(nina, NINA, CILKA)
    nina.owner.execute("update public.contacts set portal_user_id = null where id = %s", [NINA])
    answer = undo(nina, merge_id)

    assert [entry["field"] for entry in answer["changed_since"]] == ["portal_user_id"]
    assert [entry["reason"] for entry in answer["not_returned"]] == ["unlinked_since"]
    assert contact(nina, CILKA)["portal_user_id"] is None
    assert topics(nina, "cilka") == []


def claim(world: World, user: str, token: str) -> None:
    call(world, user, "claim_portal_invitation", token)


def logins(world: World) -> dict[Any, Any]:
    return {
        row["id"]: row["portal_user_id"]
        for row in world.rows("select id, portal_user_id from public.customers")
    }


def test_login_that_came_in_by_the_dropped_ones_invitation_goes_back_with_it(nina: World) -> None:
    """Who was invited as Nina must not go on to see what is Cilka's."""
    call(nina, "andrej", "unlink_portal_login", CILKA)
    token = call(nina, "andrej", "invite_to_portal", NINA)["token"]
    merge_id = merge(nina, CILKA, NINA)
    claim(nina, "stranger", token)
    assert logins(nina)[CILKA] == seed_uuid("stranger")
    nina.forget_events()

    answer = undo(nina, merge_id)

    assert (logins(nina)[CILKA], logins(nina)[NINA]) == (None, seed_uuid("stranger"))
    assert answer["restored"]["portal_user_id"] == str(seed_uuid("stranger"))
    assert answer["kept"]["portal_user_id"] is None
    assert answer["not_returned"] == answer["changed_since"] == []
    assert "topics.changed" in {event["event"] for event in nina.events()}


def test_login_that_came_in_by_the_kept_ones_invitation_stays(nina: World) -> None:
    call(nina, "andrej", "unlink_portal_login", CILKA)
    claim(nina, "stranger", call(nina, "andrej", "invite_to_portal", NINA)["token"])
    call(nina, "andrej", "unlink_portal_login", NINA)
    merge_id = merge(nina, CILKA, NINA)
    claim(nina, "stranger", call(nina, "andrej", "invite_to_portal", CILKA)["token"])

    undo(nina, merge_id)

    assert (logins(nina)[CILKA], logins(nina)[NINA]) == (seed_uuid("stranger"), None)


def test_merges_are_undone_once_and_last_first(nina: World) -> None:
    third = add_contact(nina, seed_uuid("contact third"), tags=["third"])
    before = state(nina)
    first = merge(nina, CILKA, NINA)
    second = merge(nina, CILKA, third)
    further = merge(nina, add_contact(nina, seed_uuid("contact last")), CILKA)
    last_before = contact(nina, seed_uuid("contact last"))

    for merge_id, in_the_way in ((first, further), (second, further)):
        with pytest.raises(psycopg.Error) as refusal:
            undo(nina, merge_id)
        assert refusal.value.sqlstate == "PT409"
        assert refusal.value.diag.message_detail == f"merge: {in_the_way}"
    undo(nina, further)
    with pytest.raises(psycopg.Error) as refusal:
        undo(nina, first)
    assert refusal.value.diag.message_detail == f"merge: {second}"
    undo(nina, second)
    undo(nina, first)

    after = state(nina)
    after["contacts"] = [row for row in after["contacts"] if row["id"] != str(last_before["id"])]
    assert after == before
    with pytest.raises(psycopg.Error) as refusal:
        undo(nina, first)
    assert refusal.value.sqlstate == "PT409"
    merge(nina, CILKA, NINA)


def test_what_is_kept_of_a_deleted_contact_goes_with_it(nina: World) -> None:
    """Also of those that were merged into it before."""
    last = add_contact(nina, seed_uuid("contact last"), name="Last")
    first = merge(nina, CILKA, NINA)
    merge(nina, last, CILKA)
    other = merge(nina, *(add_contact(nina, seed_uuid(f"contact {i}")) for i in range(2)))
    with nina.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [last])

    assert nina.rows("select id from public.contact_merges") == [{"id": other}]
    with pytest.raises(psycopg.Error) as refusal:
        undo(nina, first)
    assert refusal.value.sqlstate == "PT404"
    with pytest.raises(psycopg.Error) as refusal:
        call(nina, "andrej", "upsert_contact", ALPINE, f'{{"id": "{NINA}", "name": "Back"}}')
    assert refusal.value.sqlstate == "PT404"


def outcomes(world: World, *calls: tuple[Any, ...]) -> list[str]:
    """How calls at the same time end: "done" or the code of the refusal."""

    def attempt(function: str, *parameters: Any) -> str:
        try:
            call(world, "andrej", function, *parameters)
        except psycopg.Error as refusal:
            return str(refusal.sqlstate)
        return "done"

    with ThreadPoolExecutor(len(calls)) as pool:
        return sorted(pool.map(lambda given: attempt(*given), calls))


def test_of_two_opposite_merges_at_once_one_wins(nina: World) -> None:
    # without identities it is the contacts' locks that decide
    pairs = [(CILKA, NINA)] + [
        (
            add_contact(nina, seed_uuid(f"left {i}"), name="left"),
            add_contact(nina, seed_uuid(f"right {i}"), name="right"),
        )
        for i in range(10)
    ]
    for one, other in pairs:
        assert outcomes(nina, ("merge_contacts", one, other), ("merge_contacts", other, one)) == [
            "PT409",
            "done",
        ]
    assert nina.value("select count(*) from public.contact_merges") == len(pairs)
    assert nina.value("select count(*) from public.contacts where merged_into is not null") == len(
        pairs
    )


def test_a_ring_of_merges_at_once_leaves_one_way_out(nina: World) -> None:
    for attempt in range(6):
        ring = [add_contact(nina, seed_uuid(f"ring {attempt} {i}"), name="x") for i in range(3)]
        ended = outcomes(
            nina,
            *(("merge_contacts", ring[i], ring[(i + 1) % 3]) for i in range(3)),
        )
        assert set(ended) <= {"done", "PT409"}
        assert "done" in ended
        left = nina.value(
            "select count(*) from public.contacts where id = any (%s) and deleted_at is null",
            [ring],
        )
        assert left == 3 - ended.count("done") >= 1


def test_of_two_undos_at_once_one_wins(nina: World) -> None:
    before = state(nina)
    for _ in range(5):
        merge_id = merge(nina, CILKA, NINA)
        assert outcomes(nina, *[("undo_merge", merge_id)] * 2) == ["PT409", "done"]
        assert state(nina) == before


def until_blocked_or_done(world: World, job: Future[Any]) -> None:
    """Until another session waits for a lock, or has not had to."""
    while not job.done() and not world.value(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    ):
        time.sleep(0.01)


def close_thread_of_nina(world: World) -> None:
    world.owner.execute(
        "update public.conversations set status = 'closed' where thread_key = %s",
        [f"phone:{NINA_WA_ID}"],
    )


@pytest.mark.parametrize("news", [{}, {"profile_name": "Nina N."}, {"user_id": "SI.nina"}])
@pytest.mark.parametrize("thread", ["open", "closed"])
def test_message_that_comes_in_the_middle_of_a_merge_goes_to_the_kept_one(
    nina: World, thread: str, news: dict[str, str]
) -> None:
    if thread == "closed":
        close_thread_of_nina(nina)
    message = text_message("wamid.n9", wa_id=NINA_WA_ID, profile_name="Nina") | news

    with ThreadPoolExecutor(1) as pool:
        with nina.acting_as("andrej") as connection:
            connection.execute("select public.merge_contacts(%s, %s)", (CILKA, NINA))
            webhook = pool.submit(nina.ingest, message)
            until_blocked_or_done(nina, webhook)
        assert webhook.result()["rejected"] == []

    assert nina.value("select customer_id from public.messages where provider_id = 'wamid.n9'") == (
        CILKA
    )
    assert set(owners(nina).values()) == {CILKA}
    assert contact(nina, NINA)["profile_name"] is None


def test_merge_that_comes_in_the_middle_of_a_message_takes_it_along(nina: World) -> None:
    """Also what it has just become known by."""
    close_thread_of_nina(nina)
    message = text_message("wamid.n9", wa_id=NINA_WA_ID, user_id="SI.nina")

    with ThreadPoolExecutor(1) as pool:
        with nina.acting("service_role") as connection:
            items = json.dumps([message])
            connection.execute("select backend.ingest_whatsapp(%s, %s)", (items, items))
            merging = pool.submit(merge, nina, CILKA, NINA)
            until_blocked_or_done(nina, merging)
        merge_id = merging.result()

    assert nina.value("select customer_id from public.messages where provider_id = 'wamid.n9'") == (
        CILKA
    )
    assert owners(nina)["SI.nina"] == CILKA
    undo(nina, merge_id)
    assert owners(nina)["SI.nina"] == NINA


def test_messages_that_come_in_meanwhile_are_all_there(nina: World) -> None:
    """Both write, old threads are closed and new ones opened, while staff merge and undo."""
    rounds = 12

    def write(wa_id: str, name: str) -> None:
        for i in range(rounds):
            answer = nina.ingest(
                text_message(f"wamid.{wa_id}.{i}", wa_id=wa_id, profile_name=f"{name} {i}"),
                # a number that nobody knows yet, so that a contact is made as well
                text_message(f"wamid.new.{wa_id}.{i}", wa_id=f"{wa_id}{i}"),
                # from some moment on the number comes with a user id, and later without
                text_message(
                    f"wamid.id.{wa_id}.{i}",
                    wa_id=wa_id if i % 2 else None,
                    user_id=f"SI.{wa_id}" if i > 3 else f"SI.{wa_id}.{i}",
                ),
            )
            assert answer["rejected"] == []

    def report() -> None:
        for i in range(rounds):
            nina.ingest(
                status("wamid.ours.1", "read", f"2026-11-21T11:00:{i:02}Z"),
                status("wamid.ours.2", "read", f"2026-11-21T11:00:{i:02}Z"),
            )

    def close() -> None:
        with nina.connect() as connection:
            for _ in range(rounds):
                connection.execute(
                    "update public.conversations set status = 'closed' where id ="
                    " (select id from public.conversations where status <> 'closed'"
                    " order by random() limit 1)"
                )

    def join_and_part() -> None:
        for i in range(rounds):
            merge_id = merge(nina, *((CILKA, NINA) if i % 2 else (NINA, CILKA)))
            if i < rounds - 1:
                undo(nina, merge_id)

    for number, provider_id in enumerate(("wamid.ours.1", "wamid.ours.2"), start=1):
        nina.owner.execute(
            "with thread as (select k.id, k.account_id, k.customer_id, k.whatsapp_channel_id"
            "  from public.conversations k where k.thread_key = %s),"
            " counted as (update public.conversation_activity a set last_seq = last_seq + 1"
            "  from thread t where a.conversation_id = t.id returning a.last_seq)"
            " insert into public.messages (account_id, conversation_id, customer_id, seq,"
            "  sender_type, message, status, whatsapp_channel_id, provider_id)"
            " select account_id, id, customer_id, last_seq, 'operator', 'ours', 'sent',"
            "  whatsapp_channel_id, %s from thread, counted",
            ("phone:" + ("38640111222" if number == 1 else NINA_WA_ID), provider_id),
        )
    before = nina.value("select count(*) from public.messages")
    with ThreadPoolExecutor(5) as pool:
        running = [
            pool.submit(write, "38640111222", "Cilka"),
            pool.submit(write, NINA_WA_ID, "Nina"),
            pool.submit(report),
            pool.submit(close),
            pool.submit(join_and_part),
        ]
    for job in running:
        job.result()

    assert nina.value("select count(*) from public.messages") == before + 2 * 3 * rounds
    # nothing hangs on a contact that is gone
    for table, column in {
        "contact_identities": "contact_id",
        "conversations": "customer_id",
        "messages": "customer_id",
    }.items():
        assert (
            nina.rows(
                f"select t.{column} from public.{table} t join public.contacts c"
                f" on c.id = t.{column} where c.deleted_at is not null"
            )
            == []
        )
    # each thread counts from 1 without a gap
    assert (
        nina.rows(
            "select conversation_id from public.messages group by conversation_id"
            " having max(seq) <> count(*) or min(seq) <> 1"
        )
        == []
    )


def test_every_table_that_refers_to_contacts_is_known_to_merging(world: World) -> None:
    """A new one fails here: say in merge_contacts and undo_merge what becomes of its rows."""
    tables = world.rows(
        "select distinct conrelid::regclass::text as name from pg_constraint"
        " where contype = 'f' and confrelid = 'public.contacts'::regclass order by name"
    )
    assert [row["name"] for row in tables] == [
        # the journal itself, and what it records
        "contact_identities",
        "contact_merges",
        "contact_suggestions",
        # redirects
        "contacts",
        # messages and activity follow by their foreign keys
        "conversations",
        # made anew from contacts
        "customers",
        # move_customer_rows gives them to the kept one, and return_customer_rows back
        "invoices",
        "jobs",
        "loyalty_balances",
        "loyalty_transactions",
        # goes with the identity of the partner
        "metakocka_contact_mappings",
        # claimed for the contact that theirs was merged into
        "portal_invitations",
        # made anew from contacts
        "private.contact_search",
        # stay with their writers, and are looked up for the kept one
        "private.customer_words",
        # stays, and holds the kept one too
        "private.legal_holds",
        # about what is there now; another mark is made by the merge
        "private.metakocka_dirty",
        # what was begun is settled for whom it was begun
        "private.partner_intents",
        # stays with its speaker
        "private.stated_usernames",
        # history
        "sync_conflicts",
        "sync_errors",
    ]
