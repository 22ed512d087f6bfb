"""A customer edits its own contact: what it writes is shown to staff, and proves nothing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.asking import Refusal, ask, at_once, refusal, start_blocked
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

CILKA = seed_uuid("contact cilka")
CARLOS = seed_uuid("contact carlos")
NEJC_PHONE = "+38640999888"


def edit(world: World, user: str, column: str, value: Any) -> dict[str, Any]:
    """A profile after its only row was written."""
    rows = ask(
        world,
        user,
        f"update public.my_profile set {column} = %s where id is not null returning *",
        value,
    )
    assert len(rows) == 1
    return rows[0]


def contact(world: World, contact_id: UUID) -> dict[str, Any]:
    return world.rows("select * from public.contacts where id = %s", [contact_id])[0]


def identities(world: World, contact_id: UUID) -> set[tuple[str, str]]:
    rows = world.rows(
        "select kind, value from public.contact_identities where contact_id = %s", [contact_id]
    )
    return {(row["kind"], row["value"]) for row in rows}


def suggestions(world: World) -> list[dict[str, Any]]:
    return world.rows(
        "select contact_id, other_contact_id, reason, evidence"
        " from public.contact_suggestions order by reason"
    )


@pytest.fixture
def nejc(world: World) -> UUID:
    """Another contact of Alpine's, known by the number from which it writes."""
    world.ingest(text_message("wamid.nejc"))
    found: UUID = world.value(
        "select contact_id from public.contact_identities where value = %s", [NEJC_PHONE]
    )
    return found


@pytest.fixture
def customer_of_both(world: World) -> World:
    """Cilka is a customer of Bay as well."""
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'Cilka C.', %s)",
        [seed_uuid("contact cilka of bay"), BAY, seed_uuid("cilka")],
    )
    return world


# Customers read


def test_customer_reads_its_own_profile_and_the_name_of_the_business(world: World) -> None:
    rows = ask(world, "cilka", "select * from public.my_profile")

    assert [row | {"updated_at": None} for row in rows] == [
        {
            "id": CILKA,
            "account_id": ALPINE,
            "account_name": "Alpine",
            "account_country": None,
            "account_time_zone": "UTC",
            "name": "cilka",
            "phone": "+38640111222",
            "email": None,
            "preferences": {},
            "updated_at": None,
            "version": 1,
        }
    ]
    assert ask(world, "cilka", "select * from public.accounts") == []


def test_customer_of_two_businesses_has_a_profile_in_each(customer_of_both: World) -> None:
    rows = ask(
        customer_of_both,
        "cilka",
        "select account_name, name from public.my_profile order by account_name",
    )

    assert rows == [
        {"account_name": "Alpine", "name": "cilka"},
        {"account_name": "Bay", "name": "Cilka C."},
    ]


def test_customer_learns_the_name_of_no_other_business(world: World) -> None:
    rows = ask(world, "cilka", "select private.portal_account(%s) as account", BAY)

    assert rows == [{"account": None}]


@pytest.mark.parametrize("user", ["olivia", "andrej", "vera", "ana", "stranger"])
def test_who_is_no_customer_has_no_profile(world: World, user: str) -> None:
    assert ask(world, user, "select * from public.my_profile") == []
    refused = refusal(world, user, "update public.my_profile set name = 'x' where id = %s", CILKA)
    assert refused.code == "PT404"


def test_anonymous_is_refused(world: World) -> None:
    with (
        world.acting("anon") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select from public.my_profile")


# Customers write


def test_what_a_customer_writes_both_sides_see(world: World) -> None:
    rows = ask(
        world,
        "cilka",
        "update public.my_profile set name = ' Cilka Cerar ', phone = '+38641000111',"
        " email = 'cilka@home.example', preferences = %s where id = %s returning *",
        Jsonb({"language": "sl"}),
        CILKA,
    )

    written = {
        "name": "Cilka Cerar",
        "phone": "+38641000111",
        "email": "cilka@home.example",
        "preferences": {"language": "sl"},
    }
    assert [row | written | {"version": 2} for row in rows] == rows
    seen = ask(world, "vera", "select * from public.contacts_v2 where id = %s", CILKA)
    assert [row | written for row in seen] == seen


def test_what_a_customer_writes_is_told_on_both_topics(world: World) -> None:
    world.forget_events()

    edit(world, "cilka", "phone", "+38641000111")

    assert [(event["kind"], event["event"]) for event in world.events()] == [
        ("account", "contacts.updated"),
        ("account", "customers.updated"),
        ("customer", "customers.updated"),
    ]


def test_preferences_are_replaced_as_a_whole(world: World) -> None:
    edit(world, "cilka", "preferences", Jsonb({"language": "sl", "channel": "email"}))

    edit(world, "cilka", "preferences", Jsonb({"language": "en"}))

    assert contact(world, CILKA)["preferences"] == {"language": "en"}


def test_phone_and_email_can_be_taken_back(world: World) -> None:
    edit(world, "cilka", "email", "cilka@home.example")

    edit(world, "cilka", "email", None)
    edit(world, "cilka", "phone", "")

    assert (contact(world, CILKA)["email"], contact(world, CILKA)["phone"]) == (None, None)


def test_writing_what_is_there_changes_nothing(world: World) -> None:
    world.forget_events()

    assert edit(world, "cilka", "phone", "+38640111222")["version"] == 1

    assert world.events() == []
    assert contact(world, CILKA)["version"] == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", None),
        ("name", " \t"),
        ("name", "x" * 201),
        ("phone", "040 111 222"),
        ("email", "nobody"),
        ("email", "x" * 320 + "@home.example"),
        ("preferences", None),
        ("preferences", Jsonb(["language"])),
        ("preferences", Jsonb({"note": "x" * 8192})),
        # Python reads neither, and so nobody could read the page that they are on
        ("preferences", '{"number": 1e5000}'),
        ("preferences", '{"depth": ' + "[" * 2000 + "]" * 2000 + "}"),
        ("id", CARLOS),
        ("account_id", BAY),
        ("account_name", "Mine"),
        ("updated_at", "2020-01-01"),
    ],
)
def test_what_a_customer_may_not_write_is_refused_by_name(
    world: World, column: str, value: Any
) -> None:
    before = contact(world, CILKA)

    refused = refusal(
        world, "cilka", f"update public.my_profile set {column} = %s where id is not null", value
    )

    assert (refused.code, refused.detail) == ("PT422", f"field: {column}")
    assert contact(world, CILKA) == before


def test_write_of_a_version_that_has_passed_is_refused(world: World) -> None:
    edit(world, "cilka", "name", "Cilka Cerar")

    refused = refusal(
        world,
        "cilka",
        "update public.my_profile set version = 1, name = 'Cila' where id is not null",
    )

    assert (refused.code, refused.detail) == ("PT409", "field: version")
    assert contact(world, CILKA)["name"] == "Cilka Cerar"


def test_customer_writes_nobody_elses_profile(world: World) -> None:
    refused = refusal(
        world, "cilka", "update public.my_profile set name = 'x' where id = %s", CARLOS
    )

    assert refused.code == "PT404"
    assert contact(world, CARLOS)["name"] == "carlos"


def test_customer_writes_no_profile_by_another_way(world: World) -> None:
    for statement in (
        "insert into public.my_profile (name) values ('x')",
        "delete from public.my_profile",
        "update public.customers set name = 'x'",
        "update public.contacts set name = 'x'",
        "select private.change_contact(null, null, '{}')",
    ):
        assert refusal(world, "cilka", statement).code == "42501", statement
    assert refusal(world, "cilka", "update public.contacts_v2 set name = 'x'").code == "PT404"


def test_one_profile_is_written_at_a_time(customer_of_both: World) -> None:
    world = customer_of_both

    refused = refusal(
        world, "cilka", "update public.my_profile set name = 'x' where id is not null"
    )
    assert (refused.code, refused.detail) == ("PT422", "field: id")
    ask(world, "cilka", "update public.my_profile set name = 'C' where account_name = 'Bay'")

    assert contact(world, CILKA)["name"] == "cilka"
    assert contact(world, seed_uuid("contact cilka of bay"))["name"] == "C"


# What a customer writes proves nothing


def test_written_number_and_address_are_no_identities(world: World) -> None:
    edit(world, "cilka", "phone", "+38641000111")
    edit(world, "cilka", "email", "cilka@home.example")

    # and the number from which she writes stays hers
    assert identities(world, CILKA) == {("phone", "+38640111222")}
    world.ingest(text_message("wamid.1", wa_id="38640111222"))
    assert world.value("select customer_id from public.messages") == CILKA


def test_customer_who_writes_anothers_number_gets_none_of_its_messages(
    world: World, nejc: UUID
) -> None:
    edit(world, "cilka", "phone", NEJC_PHONE)
    world.ingest(text_message("wamid.secret", text="secret"))

    assert ask(world, "cilka", "select * from public.messages") == []
    assert world.value("select customer_id from public.messages where message = 'secret'") == nejc


def test_customer_who_writes_a_number_first_gets_none_of_its_messages(world: World) -> None:
    edit(world, "cilka", "phone", NEJC_PHONE)
    # staff save the whole form, for the sake of a note
    ask(
        world,
        "andrej",
        "select public.upsert_contact(%s, %s)",
        ALPINE,
        Jsonb({"id": str(CILKA), "name": "Cilka", "phone": NEJC_PHONE, "notes": "Stairs"}),
    )

    world.ingest(text_message("wamid.secret", text="secret"))

    assert ask(world, "cilka", "select * from public.messages") == []
    assert identities(world, CILKA) == {("phone", "+38640111222")}
    assert contact(world, CILKA)["notes"] == "Stairs"


def test_staff_make_a_contact_known_by_a_number_that_they_write(world: World) -> None:
    edit(world, "cilka", "phone", "+38641000111")

    ask(
        world,
        "andrej",
        "update public.contacts_v2 set phone = '+38641000222' where id = %s",
        CILKA,
    )

    assert identities(world, CILKA) == {("phone", "+38641000222")}


def test_staff_are_told_whose_number_and_address_a_customer_wrote(world: World, nejc: UUID) -> None:
    ask(
        world,
        "andrej",
        "update public.contacts_v2 set email = 'nejc@home.example' where id = %s",
        nejc,
    )

    ask(
        world,
        "cilka",
        "update public.my_profile set phone = %s, email = 'Nejc@Home.example' where id is not null",
        NEJC_PHONE,
    )

    pair = dict(zip(("contact_id", "other_contact_id"), sorted([CILKA, nejc]), strict=True))
    assert suggestions(world) == [
        pair
        | {
            "reason": "same_email",
            "evidence": {"email": "Nejc@Home.example", "written_in": "portal"},
        },
        pair | {"reason": "same_phone", "evidence": {"phone": NEJC_PHONE, "written_in": "portal"}},
    ]


def test_what_a_customer_no_longer_writes_is_no_evidence(world: World, nejc: UUID) -> None:
    """Else a slip, or a list of numbers tried out, would wait to be taken for one person."""
    world.owner.execute(
        "update public.contacts set portal_user_id = %s where id = %s",
        [seed_uuid("stranger"), nejc],
    )
    edit(world, "cilka", "phone", NEJC_PHONE)
    edit(world, "cilka", "email", "c@home.example")
    assert [row["reason"] for row in suggestions(world)] == ["same_phone"]

    edit(world, "cilka", "phone", "+38640111222")
    assert suggestions(world) == []

    # what the other has written is not hers to take back
    edit(world, "cilka", "phone", NEJC_PHONE)
    edit(world, "stranger", "phone", "+38640111222")
    edit(world, "cilka", "phone", None)
    assert [row["reason"] for row in suggestions(world)] == ["same_phone"]


def test_suggestion_that_was_decided_stays_so_whatever_the_customer_writes(
    world: World, nejc: UUID
) -> None:
    edit(world, "cilka", "phone", NEJC_PHONE)
    with world.acting_as("andrej") as andrej:
        andrej.execute("select public.dismiss_suggestion(id) from public.open_suggestions")
    edit(world, "cilka", "phone", None)
    edit(world, "cilka", "phone", NEJC_PHONE)

    assert world.value("select status from public.contact_suggestions") == "dismissed"
    assert contact(world, nejc)["deleted_at"] is None


@pytest.mark.usefixtures("nejc")
def test_customer_learns_nothing_of_the_other(world: World) -> None:
    """The answer is that to a number that nobody has, and the suggestion is for staff."""
    free = edit(world, "cilka", "phone", "+38641000111")
    taken = edit(world, "cilka", "phone", NEJC_PHONE)

    varying = {"phone", "version", "updated_at"}
    assert {k: v for k, v in taken.items() if k not in varying} == {
        k: v for k, v in free.items() if k not in varying
    }
    assert ask(world, "cilka", "select * from public.contact_suggestions") == []
    assert len(suggestions(world)) == 1


def test_number_of_another_business_suggests_nothing(world: World) -> None:
    edit(world, "cilka", "phone", "+5511987654321")

    assert suggestions(world) == []


# At the same time


def test_edits_of_different_fields_at_once_both_survive(world: World) -> None:
    with world.acting_as("andrej") as staff:
        staff.execute("update public.contacts_v2 set notes = 'Stairs' where id = %s", [CILKA])
        edited = start_blocked(
            world,
            "cilka",
            "update public.my_profile set phone = '+38641000111' where id is not null",
        )
    assert edited.result(10) == []

    after = contact(world, CILKA)
    assert (after["phone"], after["notes"], after["version"]) == ("+38641000111", "Stairs", 3)


def test_customer_shut_out_while_writing_writes_nothing(world: World) -> None:
    with world.acting_as("andrej") as staff:
        staff.execute("select public.unlink_portal_login(%s)", [CILKA])
        edited = start_blocked(
            world, "cilka", "update public.my_profile set name = 'x' where id is not null"
        )
    refused = edited.result(10)

    assert isinstance(refused, Refusal)
    assert refused.code == "PT404"
    assert contact(world, CILKA)["name"] == "cilka"


def test_customers_who_write_each_others_numbers_at_once_do_not_deadlock(world: World) -> None:
    """Each write locks two contacts, and the two writers' first is not the same."""
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, phone, portal_user_id)"
        " values (%s, %s, 'stranger', '+38640333444', %s)",
        [seed_uuid("contact stranger"), ALPINE, seed_uuid("stranger")],
    )
    world.owner.execute(
        "insert into public.contact_identities (account_id, kind, value, contact_id)"
        " values (%s, 'phone', '+38640333444', %s)",
        [ALPINE, seed_uuid("contact stranger")],
    )
    phones = ["+38640333444", "+38640111222"]

    def write(user: str, first: int) -> int:
        for turn in range(20):
            edit(world, user, "phone", phones[(first + turn) % 2])
        return first

    assert at_once(lambda: write("cilka", 0), lambda: write("stranger", 1)) == [0, 1]
    edit(world, "cilka", "phone", phones[0])
    assert [row["reason"] for row in suggestions(world)] == ["same_phone"]
