"""Who shows that they are there or writing, to whom, and under which name."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import ask
from tests.sql.conftest import ALPINE, BAY, Connection, World, seed_uuid
from tests.sql.portal import CARLOS, make_job
from tests.sql.test_topics import topics

STAFF = ("olivia", "adam", "andrej", "vera")
WRITERS = ("olivia", "adam", "andrej")
EVERYBODY = (*STAFF, "ana", "cilka", "carlos", "stranger")
SIGNS = ("presence_desk", "presence_staff", "presence_customer", "typing_staff", "typing_customer")


@pytest.fixture
def thread(world: World) -> UUID:
    make_job(world)
    found: UUID = world.value("select id from public.conversations")
    return found


class Realtime:
    """Asks the policies as Realtime does: by trying as the user, and undoing it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def may_join(self, user: str, topic: str) -> bool:
        """Whether the user reads a probe on the topic."""
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(
                "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", [topic]
            )
            self._become(user, topic)
            found = self._connection.execute(
                "select from realtime.messages where topic = %s and payload is null", [topic]
            )
            return found.rowcount > 0

    def may_send(self, user: str, topic: str, extension: str, row_topic: str | None = None) -> bool:
        """Whether the user may insert, by default what it is about to send."""
        with self._connection.transaction(force_rollback=True):
            self._become(user, topic)
            try:
                self._connection.execute(
                    "insert into realtime.messages (topic, extension) values (%s, %s)",
                    [row_topic or topic, extension],
                )
            except psycopg.errors.InsufficientPrivilege:
                return False
        return True

    def listeners(self, topic: str) -> set[str]:
        return {user for user in EVERYBODY if self.may_join(user, topic)}

    def senders(self, topic: str, extension: str) -> set[str]:
        return {user for user in EVERYBODY if self.may_send(user, topic, extension)}

    def _become(self, user: str, topic: str) -> None:
        self._connection.execute("set local role authenticated")
        self._connection.execute(
            "select set_config('realtime.topic', %s, true),"
            " set_config('request.jwt.claims', jsonb_build_object('sub', %s::text)::text, true)",
            [topic, str(seed_uuid(user))],
        )


@pytest.fixture
def realtime(world: World) -> Iterator[Realtime]:
    with world.connect("supabase_admin") as connection:
        yield Realtime(connection)


def test_both_sides_are_told_the_same_topics(world: World, thread: UUID) -> None:
    staff, customer = topics(world, "andrej", thread), topics(world, "cilka", thread)

    for kind in SIGNS:
        assert staff[kind] == customer[kind]
    assert staff["presence_desk"] == f"presence:desk:{ALPINE}:0"
    assert staff["typing_customer"].startswith(f"typing:customer:{thread}:")


@pytest.mark.parametrize(
    ("kind", "hear", "show"),
    [
        ("presence_desk", {*STAFF, "cilka"}, set(STAFF)),
        ("presence_staff", {*STAFF, "cilka"}, set(STAFF)),
        ("presence_customer", {*STAFF, "cilka"}, {"cilka"}),
    ],
)
def test_each_side_shows_itself_and_the_other_one_looks(
    world: World, realtime: Realtime, thread: UUID, kind: str, hear: set[str], show: set[str]
) -> None:
    topic = topics(world, "andrej", thread)[kind]

    assert realtime.listeners(topic) == hear
    assert realtime.senders(topic, "presence") == show
    # and nothing but presence
    assert realtime.senders(topic, "broadcast") == set()


@pytest.mark.parametrize(
    ("kind", "write"), [("typing_staff", set(WRITERS)), ("typing_customer", {"cilka"})]
)
def test_who_may_write_shows_that_they_do(
    world: World, realtime: Realtime, thread: UUID, kind: str, write: set[str]
) -> None:
    topic = topics(world, "andrej", thread)[kind]

    assert realtime.listeners(topic) == {*STAFF, "cilka"}
    # viewers write nothing
    assert realtime.senders(topic, "broadcast") == write
    assert realtime.senders(topic, "presence") == set()


def test_nobody_sends_on_a_data_topic(world: World, realtime: Realtime, thread: UUID) -> None:
    data = {
        topics(world, "andrej", thread)["account"],
        topics(world, "andrej", thread)["conversation"],
        topics(world, "cilka", thread)["customer"],
    }
    for topic in data:
        for extension in ("broadcast", "presence", "postgres_changes", ""):
            assert realtime.senders(topic, extension) == set()


def test_who_may_write_on_one_topic_writes_no_row_of_another(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    mine = topics(world, "cilka", thread)
    for other in ("customer", "conversation", "typing_staff", "presence_staff"):
        for own, extension in (("typing_customer", "broadcast"), ("presence_customer", "presence")):
            assert not realtime.may_send("cilka", mine[own], extension, row_topic=mine[other])


@pytest.mark.parametrize(
    "topic",
    [
        "presence",
        "presence:desk",
        "presence:desk:x:0",
        "presence::{thread}:0",
        "presence:system:{thread}:0",
        "presence:desk:{thread}:0",
        "presence:staff:{account}:0",
        "typing:desk:{account}:0",
        "typing:staff:{thread}:1",
        "typing:staff:{thread}",
        "customer:staff:{thread}:0",
    ],
)
def test_topics_that_are_none_are_nobodys(realtime: Realtime, thread: UUID, topic: str) -> None:
    named = topic.format(thread=thread, account=ALPINE)
    assert realtime.listeners(named) == set()
    for extension in ("broadcast", "presence"):
        assert realtime.senders(named, extension) == set()


def test_customers_of_one_business_never_meet(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    """Another customer of the same account sees the desk, and nothing of Cilka's."""
    world.owner.execute("update public.contacts set portal_user_id = null where id = %s", [CARLOS])
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'carlos', %s)",
        [seed_uuid("carlos of alpine"), ALPINE, seed_uuid("carlos")],
    )
    cilka, carlos = topics(world, "cilka", thread), topics(world, "carlos", thread)

    assert set(carlos) == {"customer", "presence_desk"}
    assert carlos["presence_desk"] == cilka["presence_desk"]
    assert not realtime.may_send("carlos", carlos["presence_desk"], "presence")
    for kind, topic in cilka.items():
        assert realtime.may_join("carlos", topic) == (kind == "presence_desk")


def test_who_leaves_hears_and_shows_nothing_any_more(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    before = topics(world, "vera", thread)
    world.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
    )
    after = topics(world, "andrej", thread)

    assert not set(before.values()) & set(after.values())
    for topic in (*before.values(), *after.values()):
        assert not realtime.may_join("vera", topic)
        assert not realtime.may_send("vera", topic, "presence")


def test_customer_who_loses_the_login_leaves_the_conversation(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    before = topics(world, "cilka", thread)
    world.owner.execute("update public.contacts set portal_user_id = null where name = 'cilka'")
    after = topics(world, "andrej", thread)

    for kind, topic in before.items():
        assert not realtime.may_join("cilka", topic)
        assert not realtime.may_send("cilka", topic, "presence")
        # the desk's name is the account's, whose other customers go on looking at it
        assert (topic == after.get(kind)) == (kind == "presence_desk")


def test_staff_who_are_customers_elsewhere_are_each_in_its_place(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    """Ana works for Bay, and is a customer of Alpine's."""
    world.owner.execute(
        "update public.contacts set portal_user_id = %s where name = 'cilka'", [seed_uuid("ana")]
    )
    mine = topics(world, "ana", thread)

    assert realtime.may_send("ana", mine["presence_customer"], "presence")
    assert not realtime.may_send("ana", mine["presence_staff"], "presence")
    assert not realtime.may_send("ana", f"presence:desk:{ALPINE}:0", "presence")
    assert realtime.may_send("ana", f"presence:desk:{BAY}:0", "presence")


# Names


def people(world: World, user: str, thread: UUID) -> set[tuple[str, str]]:
    query = "select * from public.conversation_people(%s)"
    return {(row["side"], row["display_name"]) for row in ask(world, user, query, thread)}


@pytest.mark.parametrize("user", ["andrej", "vera", "cilka"])
def test_names_are_those_of_the_people_who_are_there(world: World, thread: UUID, user: str) -> None:
    assert people(world, user, thread) == {
        *(("staff", name) for name in STAFF),
        ("customer", "cilka"),
    }
    rows = ask(world, user, "select user_id from public.conversation_people(%s)", thread)
    assert {row["user_id"] for row in rows} == {seed_uuid(name) for name in (*STAFF, "cilka")}


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_learn_no_names(world: World, thread: UUID, user: str) -> None:
    assert people(world, user, thread) == set()
