"""Who reads what, told by actor; test_matrix holds it for everything and everybody."""

from __future__ import annotations

import psycopg
import pytest

from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY_NUMBER,
    CUSTOMERS,
    STAFF,
    Connection,
    World,
    seed_uuid,
    text_message,
)

COMPOSITE_KEY = f"695a15a5c526dbe7c085ece2_{ALPINE_NUMBER}_38640111222"
TABLES = (
    "accounts",
    "account_members",
    "whatsapp_channels",
    "contacts",
    "contact_identities",
    "customers",
    "conversations",
    "conversation_activity",
    "messages",
)


@pytest.fixture
def talking(world: World) -> World:
    """Each customer, and a person of Alpine's who has no login, has written once."""
    numbers = {"cilka": ALPINE_NUMBER, "carlos": BAY_NUMBER}
    for name, (_, phone) in CUSTOMERS.items():
        world.ingest(
            text_message(f"wamid.{name}", wa_id=phone[1:], phone_number_id=numbers[name], text=name)
        )
    world.ingest(text_message("wamid.nejc", text="nejc"))
    return world


def counts(connection: Connection) -> dict[str, int]:
    """How many rows of each table the actor sees."""
    seen = {}
    for table in TABLES:
        row = connection.execute(f"select count(*) from public.{table}".encode()).fetchone()
        assert row is not None
        seen[table] = row[0]
    return seen


def texts(connection: Connection) -> list[str]:
    return sorted(row[0] for row in connection.execute("select message from public.messages"))


# Staff


@pytest.mark.parametrize(
    "name", [name for name, (account, _) in STAFF.items() if account == ALPINE]
)
def test_staff_read_all_of_their_account_and_nothing_else(talking: World, name: str) -> None:
    with talking.acting_as(name) as connection:
        assert counts(connection) == {
            "accounts": 1,
            "account_members": 4,
            "whatsapp_channels": 1,
            "contacts": 2,
            "contact_identities": 2,
            "customers": 2,
            "conversations": 2,
            "conversation_activity": 2,
            "messages": 2,
        }
        assert texts(connection) == ["cilka", "nejc"]


def test_staff_of_the_other_account_read_theirs(talking: World) -> None:
    with talking.acting_as("ana") as connection:
        assert texts(connection) == ["carlos"]


def test_staff_resolve_older_keys(talking: World) -> None:
    conversation = talking.value(
        "select id from public.conversations where customer_id = %s", [seed_uuid("contact cilka")]
    )
    with talking.acting_as("andrej") as connection:
        for reference in (COMPOSITE_KEY, str(conversation), str(conversation).upper()):
            assert connection.execute(
                "select public.resolve_conversation(%s)", [reference]
            ).fetchone() == (conversation,)


def test_older_key_means_the_open_thread(talking: World) -> None:
    talking.owner.execute("update public.conversations set status = 'closed'")
    talking.ingest(text_message("wamid.again", wa_id="38640111222"))

    with talking.acting_as("andrej") as connection:
        row = connection.execute(
            "select c.status from public.conversations c"
            " where c.id = public.resolve_conversation(%s)",
            [COMPOSITE_KEY],
        ).fetchone()
    assert row == ("open",)


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("695a15a5c526dbe7c085ece2_1003427786179738_1", "PT404"),
        ("00000000-0000-4000-8000-000000000000", "PT404"),
        (f"bay_{BAY_NUMBER}_5511987654321", "PT404"),
        ("695a15a5c526dbe7c085ece2_1003427786179738", "PT422"),
        ("' or true --", "PT422"),
        ("", "PT422"),
        (None, "PT422"),
    ],
)
def test_unresolvable_keys_are_refused_with_a_code(
    talking: World, reference: str | None, code: str
) -> None:
    with pytest.raises(psycopg.Error) as refusal, talking.acting_as("andrej") as connection:
        connection.execute("select public.resolve_conversation(%s)", [reference])
    assert refusal.value.sqlstate == code


# Customers


def test_customer_reads_its_own_side_alone(talking: World) -> None:
    with talking.acting_as("cilka") as connection:
        assert counts(connection) == {
            "accounts": 0,
            "account_members": 0,
            "whatsapp_channels": 0,
            "contacts": 0,
            "contact_identities": 0,
            "customers": 1,
            "conversations": 1,
            "conversation_activity": 1,
            "messages": 1,
        }
        assert texts(connection) == ["cilka"]


def test_customer_sees_no_notes_or_tags(talking: World) -> None:
    with talking.acting_as("cilka") as connection:
        row = connection.execute("select to_jsonb(c) from public.customers c").fetchone()
    assert row is not None
    assert not {"notes", "tags"} & set(row[0])


def test_customer_without_login_loses_sight(talking: World) -> None:
    talking.owner.execute("update public.contacts set portal_user_id = null where name = 'cilka'")
    with talking.acting_as("cilka") as connection:
        assert counts(connection) == dict.fromkeys(TABLES, 0)


# Strangers


def test_stranger_sees_nothing(talking: World) -> None:
    with talking.acting_as("stranger") as connection:
        assert counts(connection) == dict.fromkeys(TABLES, 0)


def test_token_without_subject_sees_nothing(talking: World) -> None:
    with talking.acting("authenticated") as connection:
        assert counts(connection) == dict.fromkeys(TABLES, 0)


# Everybody


@pytest.mark.parametrize(
    "table",
    [
        "private.changes",
        "private.change_log",
        "private.topic_epochs",
        "private.desk_epochs",
        "private.webhook_events",
        "private.message_statuses",
    ],
)
def test_machinery_is_nobodys_to_read(talking: World, table: str) -> None:
    for role, user in (("anon", None), ("authenticated", "olivia"), ("service_role", None)):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            talking.acting(role, user) as connection,
        ):
            connection.execute(f"select from {table}".encode())


def test_rows_of_one_tenant_cannot_name_anothers(talking: World) -> None:
    """The keys refuse it, before any policy is asked."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        talking.owner.execute(
            "insert into public.conversations (account_id, customer_id, channel, thread_key)"
            " values (%s, %s, 'portal', 'x')",
            [ALPINE, seed_uuid("contact carlos")],
        )


def test_message_names_the_number_of_its_conversation(talking: World) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        talking.owner.execute(
            """
            insert into public.messages (
                account_id, conversation_id, customer_id, seq, sender_type, message,
                whatsapp_channel_id, provider_id, status
            )
            select c.account_id, c.id, c.customer_id, 99, 'operator', 'x',
                   (
                       select w.id from public.whatsapp_channels w
                       where w.account_id <> c.account_id
                   ),
                   'wamid.theirs', 'sent'
            from public.conversations c
            limit 1
            """
        )


@pytest.mark.parametrize("table", ["contacts", "customers", "conversations", "messages"])
def test_rows_never_change_their_account(talking: World, table: str) -> None:
    other = talking.value("select id from public.accounts where external_id = 'bay'")
    with pytest.raises(psycopg.errors.CheckViolation, match="stays with its owner"):
        talking.owner.execute(
            f"update public.{table} set account_id = %s where account_id <> %s".encode(),
            [other, other],
        )


def test_conversations_are_read_with_their_messages_in_one_request(talking: World) -> None:
    """PostgREST embeds by foreign key, and refuses where there are two to choose from."""
    assert (
        talking.value(
            "select count(*) from pg_constraint where contype = 'f'"
            " and conrelid = 'public.messages'::regclass"
            " and confrelid = 'public.conversations'::regclass"
        )
        == 1
    )
