"""Who shows that they are there or writing, to whom, and under which name."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from rapport.client.presence import person_id
from tests.sql.asking import ask
from tests.sql.live import topics
from tests.sql.portal import CARLOS, CILKA, make_job
from tests.world import ALPINE, BAY, Connection, World, seed_uuid

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

    assert not set(before.values()) & set(after.values())
    for topic in (*before.values(), *after.values()):
        assert not realtime.may_join("cilka", topic)
        assert not realtime.may_send("cilka", topic, "presence")


def desk(world: World, user: str = "andrej") -> str:
    return topics(world, user)["presence_desk"]


def add_customer(world: World, name: str, login: str | None = None) -> UUID:
    """Of Alpine's."""
    contact = seed_uuid(f"contact {name} of alpine")
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, %s, %s)",
        [contact, ALPINE, name, login and seed_uuid(login)],
    )
    return contact


@pytest.mark.parametrize(
    "leave",
    [
        "select public.unlink_portal_login(%s)",
        "delete from public.contacts_v2 where id = %s",
        "delete from public.contacts_live_chat where id = %s",
    ],
)
def test_desk_has_another_name_once_a_customer_has_left_it(
    world: World, realtime: Realtime, leave: str
) -> None:
    before = desk(world, "cilka")
    ask(world, "andrej", leave, CILKA)

    assert desk(world) != before
    for topic in (before, desk(world)):
        assert not realtime.may_join("cilka", topic)
    assert realtime.listeners(desk(world)) == set(STAFF)


@pytest.mark.parametrize(
    ("leave", "who"),
    [
        ("delete from auth.users where id = %s", seed_uuid("cilka")),
        ("delete from public.contacts where id = %s", CILKA),
    ],
)
def test_desk_has_another_name_once_a_customer_is_erased(
    world: World, leave: str, who: UUID
) -> None:
    before = desk(world)
    world.owner.execute(leave.encode(), [who])

    assert desk(world) != before


def test_desk_keeps_its_name_while_its_customers_stay(world: World) -> None:
    before = desk(world)
    nina = add_customer(world, "nina")
    world.owner.execute("update public.contacts set name = 'Cilka' where id = %s", [CILKA])
    world.owner.execute("delete from public.contacts where id = %s", [nina])
    add_customer(world, "maja", "stranger")
    # which gives the login to another contact
    jana = add_customer(world, "jana")
    (merged,) = ask(world, "andrej", "select public.merge_contacts(%s, %s) as m", jana, CILKA)
    assert desk(world) == desk(world, "cilka") == before
    ask(world, "andrej", "select public.undo_merge(%s)", merged["m"]["merge_id"])

    assert desk(world) == desk(world, "cilka") == desk(world, "stranger") == before


def test_many_who_leave_at_once_rename_the_desk_once_and_where_all_hear_it(world: World) -> None:
    """However many customers look at it: one message, with nothing in it."""
    add_customer(world, "maja", "stranger")
    add_customer(world, "nina", "ana")
    account, before = topics(world, "andrej")["account"], desk(world)
    world.forget_events()
    with world.owner.transaction():
        world.owner.execute(
            "update public.contacts set portal_user_id = null where name in ('cilka', 'maja')"
        )
        world.owner.execute("update public.contacts set portal_user_id = null where name = 'nina'")

    told = [(e["topic"], e["payload"]) for e in world.events() if e["event"] == "topics.changed"]
    assert [payload for topic, payload in told if topic == before] == [{}]
    assert {topic for topic, _ in told} == {before, account}
    assert desk(world) == f"presence:desk:{ALPINE}:1"
    assert topics(world, "andrej")["account"] == account


def test_who_leaves_at_the_same_moment_as_another_leaves_a_name_behind(world: World) -> None:
    maja = add_customer(world, "maja", "stranger")
    names: list[str] = [desk(world)]
    with world.connect() as first, world.connect() as second:
        for connection, contact in ((first, CILKA), (second, maja)):
            connection.execute("begin")
            # each holds a contact, and before the end waits for nothing of the other's
            connection.execute(
                "update public.contacts set portal_user_id = null where id = %s", [contact]
            )
        for connection in (second, first):
            connection.execute("commit")
            names.append(desk(world))

    assert len(set(names)) == 3


def test_a_transaction_that_is_undone_renames_nothing(world: World) -> None:
    before = desk(world)
    with world.owner.transaction(force_rollback=True):
        world.owner.execute(
            "update public.contacts set portal_user_id = null where id = %s", [CILKA]
        )
        world.owner.execute("set constraints all immediate")
        assert desk(world) == before

    assert desk(world) == before


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
    rows = ask(world, user, "select * from public.conversation_people(%s)", thread)
    users = {seed_uuid(name) for name in (*STAFF, "cilka")}
    assert {row["person_id"] for row in rows} == {person_id(each) for each in users}
    assert not {value for row in rows for value in row.values()} & users


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_learn_no_names(world: World, thread: UUID, user: str) -> None:
    assert people(world, user, thread) == set()


def test_who_becomes_a_viewer_types_to_nobody_any_more(
    world: World, realtime: Realtime, thread: UUID
) -> None:
    """A channel that was joined stays open, so its topic gets another name."""
    before = topics(world, "andrej", thread)
    world.forget_events()

    world.owner.execute(
        "update public.account_members set role = 'viewer' where user_id = %s",
        [seed_uuid("andrej")],
    )

    after = topics(world, "andrej", thread)
    assert all(after[kind] != before[kind] for kind in SIGNS)
    assert realtime.listeners(before["typing_staff"]) == set()
    assert realtime.listeners(after["typing_staff"]) == {*STAFF, "cilka"}
    assert realtime.senders(after["typing_staff"], "broadcast") == {"olivia", "adam"}
    assert [event["event"] for event in world.events() if event["kind"] == "account"] == [
        "topics.changed"
    ]


@pytest.mark.parametrize("role", ["owner", "agent"])
def test_another_role_that_writes_renames_nothing(world: World, thread: UUID, role: str) -> None:
    before = topics(world, "andrej", thread)

    world.owner.execute(
        "update public.account_members set role = %s where user_id = %s",
        [role, seed_uuid("andrej")],
    )

    assert topics(world, "andrej", thread) == before
