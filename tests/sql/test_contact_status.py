"""A contact shows the status of its current conversation, in each face's own words."""

from __future__ import annotations

import re

from rapport.client.faces import STATUS_WORDS
from tests.sql.faces import CILKA, FACES, ask, both_faces, detail, refusal, shown
from tests.world import World, text_message


@both_faces
def test_status_before_the_first_conversation_is_the_contacts(world: World, view: str) -> None:
    words = STATUS_WORDS[FACES[view]]
    ask(
        world,
        "andrej",
        f"update public.{view} set conversation_status = %s where id = %s",
        words["closed"],
        CILKA,
    )
    assert world.value("select status from public.contacts where id = %s", [CILKA]) == "closed"

    # a conversation is open when it begins, and has a status of its own
    world.ingest(text_message("wamid.1", "38640111222"))
    row = shown(world, view, CILKA)
    assert row["conversation_status"] == words["open"]
    assert row["conversation_id"] == world.value("select id from public.conversations")

    ask(
        world,
        "andrej",
        f"update public.{view} set conversation_status = %s where id = %s",
        words["pending"],
        CILKA,
    )
    assert world.value("select status from public.conversations") == "pending"
    assert world.value("select status from public.contacts where id = %s", [CILKA]) == "closed"

    world.owner.execute("delete from public.conversations")
    assert shown(world, view, CILKA)["conversation_status"] == words["closed"]


@both_faces
def test_status_goes_to_the_conversation_with_the_latest_activity(world: World, view: str) -> None:
    world.ingest(text_message("wamid.1", "38640111222", sent_at="2026-11-21T10:00:00Z"))
    world.owner.execute("update public.conversations set status = 'closed'")
    closed = world.value("select id from public.conversations")
    # a new thread of an older message: the provider's time decides
    world.ingest(text_message("wamid.0", "38640111222", sent_at="2026-11-21T09:00:00Z"))
    row = shown(world, view, CILKA)
    assert row["conversation_id"] == closed
    assert row["conversation_status"] == STATUS_WORDS[FACES[view]]["closed"]

    world.ingest(text_message("wamid.2", "38640111222", sent_at="2026-11-21T11:00:00Z"))
    row = shown(world, view, CILKA)
    assert row["conversation_id"] != closed
    assert row["conversation_status"] == STATUS_WORDS[FACES[view]]["open"]


@both_faces
def test_reopening_beside_an_open_conversation_is_refused_by_name(world: World, view: str) -> None:
    world.ingest(text_message("wamid.1", "38640111222", sent_at="2026-11-21T10:00:00Z"))
    world.owner.execute("update public.conversations set status = 'closed'")
    world.ingest(text_message("wamid.0", "38640111222", sent_at="2026-11-21T09:00:00Z"))
    opened = world.value("select id from public.conversations where status = 'open'")

    error = refusal(
        world,
        "andrej",
        f"update public.{view} set conversation_status = %s where id = %s",
        STATUS_WORDS[FACES[view]]["open"],
        CILKA,
    )

    assert error.sqlstate == "PT409"
    assert detail(error) == f"field: conversation_status; conversation: {opened}"


def test_words_are_total_and_go_both_ways(world: World) -> None:
    def checked(constraint: str) -> set[str]:
        definition = world.value(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [constraint]
        )
        return set(re.findall(r"'(\w+)'", definition))

    statuses = checked("conversations_status_check")
    assert statuses == checked("contacts_status_check") == checked("status_words_status_check")
    rows = world.rows("select face, status, word from public.status_words")
    assert {(row["face"], row["status"]) for row in rows} == {
        (face, status) for face in checked("status_words_face_check") for status in statuses
    }
    assert len({(row["face"], row["word"]) for row in rows}) == len(rows)
    for row in rows:
        assert (
            world.value("select private.status_of_word(%s, %s)", [row["face"], row["word"]])
            == row["status"]
        )


@both_faces
def test_written_status_is_a_change_of_the_contact_for_those_who_follow_contacts(
    world: World, view: str
) -> None:
    world.ingest(text_message("wamid.1", "38640111222"))
    words = STATUS_WORDS[FACES[view]]
    version = shown(world, view, CILKA)["version"]
    world.forget_events()
    write = f"update public.{view} set conversation_status = %s where id = %s"

    ask(world, "andrej", write, words["pending"], CILKA)
    ask(world, "andrej", write, words["pending"], CILKA)

    assert shown(world, view, CILKA)["version"] == version + 1
    assert [
        (event["event"], event["payload"]["version"])
        for event in world.events()
        if event["event"].startswith("contacts.")
    ] == [("contacts.updated", version + 1)]


def test_status_of_a_conversation_is_a_change_of_its_contact(world: World) -> None:
    world.ingest(text_message("wamid.1", "38640111222"))
    conversation = world.value("select id from public.conversations")
    before = world.value("select version from public.contacts where id = %s", [CILKA])

    for _ in range(2):
        ask(world, "andrej", "select public.set_conversation_status(%s, 'closed')", conversation)

    after = world.value("select version from public.contacts where id = %s", [CILKA])
    assert after == before + 1
