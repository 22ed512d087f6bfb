"""How long an account keeps messages and files, and what is never deleted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.sql.asking import ask, refusal
from tests.sql.outbound import ago, backend, conversation, post
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

PHOTO: dict[str, Any] = {
    "type": "image",
    "text": "[image]",
    "content": {"type": "image", "image": {"id": "5", "mime_type": "image/png"}},
}
KEEP = "update public.accounts set messages_kept_days = %s, files_kept_days = %s where id = %s"


def thread_of(world: World, wa_id: str, *provider_ids: str, **changes: Any) -> UUID:
    for provider_id in provider_ids:
        world.ingest(text_message(provider_id, wa_id=wa_id, sent_at=ago(minutes=1), **changes))
    found: UUID = world.value(
        "select conversation_id from public.messages where provider_id = %s", [provider_ids[-1]]
    )
    return found


def age(world: World, days: int, thread: UUID | None = None) -> None:
    """So long ago the messages came, and their files were stored."""
    with world.connect() as owner:
        # the stamp of a change is the trigger's
        owner.execute("set session_replication_role = replica")
        where = "where conversation_id = %(thread)s or %(thread)s::uuid is null"
        for change in (
            "update public.messages set created_at = created_at - %(by)s",
            "update public.message_media set stored_at = stored_at - %(by)s",
        ):
            owner.execute(
                f"{change} {where}".replace("%(by)s", f"interval '{days} days'").encode(),
                {"thread": thread},
            )


def store(world: World) -> list[str]:
    """Files that are due are fetched; their keys."""
    jobs = backend(world, "claim_media('w')")
    for job in jobs:
        backend(world, "settle_media(%s, 'w', 'stored', 9, %s)", job["media_id"], "0" * 64)
    return [job["object_key"] for job in jobs]


def prune(world: World, batch: int = 100) -> dict[str, int]:
    """As daily does it; a day later than the last time."""
    world.owner.execute(
        "update private.retention_passes set ended_at = ended_at - interval '1 day'"
    )
    total = {"messages": 0, "files": 0}
    for _ in range(30):
        told = backend(world, "prune_kept(%s)", batch)
        total = {name: total[name] + told[name] for name in total}
        if told["is_done"]:
            return total
    raise AssertionError(total)


def to_delete(world: World) -> list[str]:
    """The keys that daily is told, ten minutes later."""
    world.owner.execute("update private.file_deletions set not_before = now()")
    keys: list[str] = backend(world, "files_to_delete()")
    return keys


def left(world: World) -> list[str]:
    return [
        row["provider_id"]
        for row in world.rows(
            "select provider_id from public.messages where provider_id is not null"
            " order by provider_id"
        )
    ]


def test_without_a_setting_everything_stays(world: World) -> None:
    thread_of(world, "38640999888", "wamid.1")
    age(world, 10_000)
    assert prune(world) == {"messages": 0, "files": 0}
    assert left(world) == ["wamid.1"]


def test_old_messages_go_with_their_files_and_clients_are_told(world: World) -> None:
    old = thread_of(world, "38640999888", "wamid.1", "wamid.2")
    thread_of(world, "38640999888", "wamid.3", **PHOTO)
    thread_of(world, "5511987654321", "wamid.bay", phone_number_id="1003427786179739")
    [key] = store(world)
    age(world, 40)
    thread_of(world, "38640999888", "wamid.4")
    world.ingest(
        {
            "kind": "status", "phone_number_id": "1003427786179738", "provider_id": "wamid.2",
            "status": "read", "at": ago(seconds=1), "error_code": None, "error_message": None,
        }
    )  # fmt: skip
    with world.acting_as("andrej") as connection:
        answer = connection.execute("select public.changes_since()").fetchone()
    assert answer is not None
    cursor = answer[0]["cursor"]
    gone = {
        str(row["id"])
        for row in world.rows(
            "select id from public.messages where conversation_id = %s and seq < 4", [old]
        )
    }
    world.owner.execute(KEEP, [30, None, ALPINE])

    # in small steps
    assert prune(world, batch=2) == {"messages": 3, "files": 0}

    assert left(world) == ["wamid.4", "wamid.bay"]
    assert world.value("select count(*) from private.message_statuses") == 0
    # the numbers go on from where they were
    assert world.value("select seq from public.messages where provider_id = 'wamid.4'") == 4
    with world.acting_as("andrej") as connection:
        page = connection.execute("select public.changes_since(%s)", [cursor]).fetchone()
    assert page is not None
    told = {
        change["id"]: change["operation"]
        for change in page[0]["changes"]
        if change["table"] == "messages"
    }
    assert told == dict.fromkeys(gone, "DELETE")
    assert not page[0]["resync"]
    # the file after the message, and later than a worker may be writing it
    assert backend(world, "files_to_delete()") == []
    assert to_delete(world) == [key]
    backend(world, "settle_file_deletions(%s)", [key])
    assert to_delete(world) == []
    # once a day
    assert backend(world, "prune_kept()") == {"messages": 0, "files": 0, "is_done": True}


def test_files_go_and_their_messages_stay(world: World) -> None:
    thread_of(world, "38640999888", "wamid.1", **PHOTO)
    [key] = store(world)
    age(world, 40)
    world.owner.execute(KEEP, [None, 30, ALPINE])

    assert prune(world) == {"messages": 0, "files": 1}

    assert left(world) == ["wamid.1"]
    [file] = world.rows("select state, error, stored_at from public.message_media")
    assert (file["state"], file["stored_at"]) == ("expired", None)
    assert "the account keeps files for a time only" in file["error"]
    assert to_delete(world) == [key]


def test_a_file_that_another_message_shows_stays(world: World) -> None:
    thread = conversation(world)
    [begun] = ask(
        world, "andrej", "select public.begin_upload(%s, 'image', 'image/png', 9) as u", thread
    )
    upload = begun["u"]["upload_id"]
    for _ in range(2):
        post(world, "andrej", thread, None, type="image", content=f'{{"upload_id": "{upload}"}}')
    world.owner.execute("delete from private.outbound_queue")
    world.owner.execute(KEEP, [None, 30, ALPINE])
    with world.connect() as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("update private.media_uploads set created_at = now() - interval '40 days'")
        owner.execute(
            "update public.message_media set stored_at = now() - interval '40 days' where id ="
            " (select id from public.message_media order by id limit 1)"
        )

    assert prune(world) == {"messages": 0, "files": 1}
    assert to_delete(world) == []

    age(world, 40)
    # with the second message's file goes the upload, which no message has any more
    assert prune(world)["files"] == 1
    assert world.value("select count(*) from private.media_uploads") == 0
    assert to_delete(world) == [begun["u"]["object_key"]]


def test_nothing_goes_under_a_legal_hold_nor_while_it_waits(world: World) -> None:
    held = thread_of(world, "38640111222", "wamid.held")
    contact = world.value("select customer_id from public.conversations where id = %s", [held])
    merged = world.value(
        "insert into public.contacts (account_id, merged_into, deleted_at)"
        " values (%s, %s, now()) returning id",
        [ALPINE, contact],
    )
    other = thread_of(world, "38640999888", "wamid.other")
    waiting = post(world, "andrej", other, "waits")["id"]
    world.owner.execute(KEEP, [30, 30, ALPINE])
    world.owner.execute(
        "insert into private.legal_holds (account_id, contact_id, reason) values (%s, %s, 'x')",
        [ALPINE, merged],
    )
    age(world, 40)

    assert prune(world) == {"messages": 1, "files": 0}

    assert left(world) == ["wamid.held"]
    assert world.value("select count(*) from public.messages where id = %s", [waiting]) == 1
    world.owner.execute("update private.legal_holds set ended_at = now()")
    assert prune(world) == {"messages": 1, "files": 0}
    assert left(world) == []


def test_admins_say_how_long_and_not_too_short(world: World) -> None:
    change = "update public.accounts set messages_kept_days = %s where id = %s returning id"
    assert ask(world, "adam", change, 365, ALPINE)
    assert refusal(world, "andrej", change, 365, ALPINE).code == "42501"
    assert refusal(world, "olivia", change, 365, BAY).code == "PT404"
    told = refusal(world, "olivia", change, 29, ALPINE)
    assert (told.code, told.detail) == ("PT422", "field: messages_kept_days")


ADDS = {
    "messages_quota": "insert into public.messages (customer_id, message) values (%s, 'x')",
    "contacts_quota": "insert into public.contacts_v2 (id, name) values (%s, 'x')",
    "file_bytes_quota": "select public.begin_upload(id, 'image', 'image/png', 9)"
    " from public.conversations where customer_id <> %s and channel = 'whatsapp'",
}


def test_a_quota_refuses_what_users_add_and_nothing_that_comes(world: World) -> None:
    thread_of(world, "38640999888", "wamid.1", **PHOTO)
    store(world)
    for counted in (2, 0):
        assert backend(world, "count_usage()") == counted
    [usage] = world.rows(
        "select messages, contacts, file_bytes from private.account_usage where account_id = %s",
        [ALPINE],
    )
    assert usage == {"messages": 1, "contacts": 2, "file_bytes": 9}
    for quota, call in ADDS.items():
        given = seed_uuid("contact cilka") if quota == "messages_quota" else seed_uuid(quota)
        world.owner.execute(f"update public.accounts set {quota} = 1".encode())

        told = refusal(world, "andrej", call, given)

        assert (told.code, told.detail) == ("PT403", f"field: account_id; quota: {quota}")
        assert told.message is not None
        assert "quota is 1." in told.message
        assert world.ingest(text_message(f"wamid.{quota}", wa_id="38640555444"))["applied"] == 1
        world.owner.execute(f"update public.accounts set {quota} = default".encode())
        assert ask(world, "andrej", call + " returning 1" * (call[0] == "i"), given)
