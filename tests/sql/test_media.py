"""The file of a message: noted with it, fetched apart from it, seen by the users who see it."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.mime_types import CASES
from tests.world import ALPINE, ALPINE_NUMBER, BAY_NUMBER, World, text_message

DIGEST = hashlib.sha256(b"photo").digest()
DIGEST_BASE64 = base64.b64encode(DIGEST).decode()


def backend(world: World, call: str, *parameters: Any) -> Any:
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{call}".encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def now(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


def photo(provider_id: str, wa_id: str = "38640111222", **changes: Any) -> dict[str, Any]:
    """A photo of Cilka's, as the webhook function hands it over."""
    file = {
        "id": f"{len(provider_id)}00{provider_id.removeprefix('wamid.')}",
        "mime_type": "image/jpeg",
        "sha256": DIGEST_BASE64,
    }
    given = {
        "type": "image",
        "text": "[image]",
        "sent_at": now(),
        "content": {"type": "image", "image": file},
    }
    return text_message(provider_id, wa_id=wa_id, **(given | changes))


def media(world: World, provider_id: str = "wamid.1") -> dict[str, Any]:
    (row,) = world.rows(
        "select f.*, m.id as message from public.message_media f"
        " join public.messages m on m.id = f.message_id where m.provider_id = %s",
        [provider_id],
    )
    return row


def claim(world: World, worker: str = "w", batch: int = 4) -> list[dict[str, Any]]:
    claimed: list[dict[str, Any]] = backend(world, "claim_media(%s, %s)", worker, batch)
    return claimed


def settle(world: World, media_id: object, outcome: str, worker: str = "w") -> str:
    answer: str = backend(
        world,
        "settle_media(%s::uuid, %s, %s, size => 5, sha256 => %s, error => 'Not now.')",
        media_id,
        worker,
        outcome,
        DIGEST.hex(),
    )
    return answer


def make_due(world: World) -> None:
    world.owner.execute("update private.media_queue set not_before = now(), worker = null")


def conversation_of(world: World, provider_id: str) -> UUID:
    found: UUID = world.value(
        "select conversation_id from public.messages where provider_id = %s", [provider_id]
    )
    return found


# what WhatsApp delivers


def test_a_photo_is_noted_with_its_message_and_queued(world: World) -> None:
    world.ingest(photo("wamid.1"))

    row = media(world)
    assert (row["state"], row["mime_type"], row["sha256"]) == (
        "pending",
        "image/jpeg",
        DIGEST.hex(),
    )
    assert row["object_key"] == f"{ALPINE}/{row['message_id']}/{row['id']}"
    (job,) = claim(world)
    assert job == {
        "media_id": str(row["id"]),
        "account_id": str(ALPINE),
        "conversation_id": str(row["conversation_id"]),
        "message_id": str(row["message_id"]),
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": "7001",
        "mime_type": "image/jpeg",
        "sha256": DIGEST.hex(),
        "object_key": row["object_key"],
    }


@pytest.mark.parametrize("type_", ["image", "video", "audio", "document", "sticker"])
def test_every_type_with_a_file_has_one(world: World, type_: str) -> None:
    content = {"type": type_, type_: {"id": "77", "filename": "plan.pdf"}}
    world.ingest(photo("wamid.1", type=type_, content=content))
    assert (media(world)["file_name"], media(world)["state"]) == ("plan.pdf", "pending")


def test_a_text_has_no_file(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    assert world.rows("select from public.message_media") == []


def test_a_photo_delivered_twice_is_fetched_once(world: World) -> None:
    world.ingest(photo("wamid.1"))
    world.ingest(photo("wamid.1"), body="again")
    assert len(world.rows("select from private.media_queue")) == 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"type": "image"},
        {"type": "image", "image": "photo"},
        {"type": "image", "image": {"id": "../me/accounts"}},
        {"type": "image", "image": {"id": "7?fields=x"}},
        {"type": "image", "image": {"id": ""}},
        {"type": "image", "image": {"id": 7.5, "mime_type": ["x"], "sha256": {"a": 1}}},
    ],
)
def test_a_file_without_a_usable_id_costs_no_message(world: World, content: object) -> None:
    answer = world.ingest(photo("wamid.1", content=content))
    assert (answer["applied"], answer["rejected"]) == (1, [])
    assert (media(world)["state"], media(world)["provider_id"]) == ("failed", None)
    assert claim(world) == []


def test_an_endless_name_costs_no_message(world: World) -> None:
    file = {"id": "7", "mime_type": "x" * 5000, "filename": "č" * 5000, "sha256": "no digest"}
    world.ingest(photo("wamid.1", content={"type": "image", "image": file}))
    row = media(world)
    assert (len(row["mime_type"]), len(row["file_name"]), row["sha256"]) == (255, 255, None)


# failure case 16: media gone after one 503


def test_a_file_that_can_not_be_had_now_is_tried_again(world: World) -> None:
    world.ingest(photo("wamid.1"))
    waits = []
    for _ in range(3):
        (job,) = claim(world)
        assert settle(world, job["media_id"], "retry") == "pending"
        assert claim(world) == []
        waits.append(
            world.value(
                "select extract(epoch from not_before - now())::int from private.media_queue"
            )
        )
        make_due(world)
    assert 20 <= waits[0] <= 37
    assert waits[0] < waits[1] < waits[2]
    assert media(world)["state"] == "pending"

    (job,) = claim(world)
    assert settle(world, job["media_id"], "stored") == "stored"
    row = media(world)
    assert (row["state"], row["size"], row["sha256"]) == ("stored", 5, DIGEST.hex())
    assert row["stored_at"] is not None
    assert world.rows("select from private.media_queue") == []


def test_tries_end_when_whatsapp_forgets_the_file(world: World) -> None:
    world.ingest(photo("wamid.1", sent_at=now(days=6, hours=23, minutes=59)))
    (job,) = claim(world)
    settle(world, job["media_id"], "retry")
    world.owner.execute("update private.media_queue set expires_at = now() - interval '1 second'")
    assert claim(world) == []
    assert media(world)["state"] == "pending"

    make_due(world)
    assert claim(world) == []
    row = media(world)
    assert (row["state"], row["error"]) == ("expired", "WhatsApp no longer has this file.")
    assert world.rows("select from private.media_queue") == []


def test_a_message_of_the_far_future_is_not_tried_for_ever(world: World) -> None:
    world.ingest(photo("wamid.1", sent_at="2286-11-20T17:46:39Z"))
    assert world.value("select expires_at <= now() + interval '7 days' from private.media_queue")


def test_a_message_that_came_too_late_has_one_try(world: World) -> None:
    world.ingest(photo("wamid.1", sent_at=now(days=8)))
    (job,) = claim(world)
    assert settle(world, job["media_id"], "failed") == "expired"


def test_a_worker_that_dies_leaves_its_files_to_others(world: World) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world, worker="dead")
    assert claim(world, worker="next") == []
    world.owner.execute("update private.media_queue set not_before = now()")

    assert [again["media_id"] for again in claim(world, worker="next")] == [job["media_id"]]
    assert settle(world, job["media_id"], "failed", worker="dead") == "settled already"
    assert settle(world, job["media_id"], "stored", worker="next") == "stored"


def test_workers_share_the_files_and_none_is_fetched_twice(world: World) -> None:
    world.ingest(*(photo(f"wamid.{n}", wa_id=f"3864011{n:04}") for n in range(40)))

    def work(worker: str) -> list[str]:
        got = []
        while jobs := claim(world, worker=worker, batch=3):
            got += [job["media_id"] for job in jobs]
        return got

    with ThreadPoolExecutor(4) as pool:
        lots = list(pool.map(work, "abcd"))
    assert len([one for lot in lots for one in lot]) == 40
    assert len({one for lot in lots for one in lot}) == 40


def test_settling_and_giving_up_do_not_deadlock(world: World) -> None:
    world.ingest(*(photo(f"wamid.{n}", wa_id=f"3864011{n:04}") for n in range(40)))
    jobs = [job for _ in range(2) for job in claim(world, batch=20)]
    world.owner.execute("update private.media_queue set expires_at = now(), not_before = now()")

    with ThreadPoolExecutor(4) as pool:
        settled = pool.map(lambda job: settle(world, job["media_id"], "failed"), jobs)
        claimed = pool.map(lambda n: claim(world, worker=f"x{n}"), range(20))
        assert set(settled) <= {"expired", "settled already"}
        assert [job for lot in claimed for job in lot] == []
    assert world.value("select count(*) from public.message_media where state = 'expired'") == 40


def test_an_outcome_that_is_none_is_refused(world: World) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world)
    with pytest.raises(psycopg.Error) as refused:
        settle(world, job["media_id"], "lost")
    assert refused.value.sqlstate == "PT422"


# deleted for everybody


def deletion(parent: str) -> dict[str, Any]:
    return {
        "kind": "effect",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": f"{parent}.deleted",
        "type": "revoke",
        "reply_to": parent,
        "sender_type": "client",
        "sender_id": None,
        "sent_at": now(),
        "text": None,
        "content": None,
    }


@pytest.mark.parametrize("parts", [(0, 1), (1, 0)])
def test_a_deleted_photo_is_not_fetched_in_any_order(world: World, parts: tuple[int, ...]) -> None:
    items = (photo("wamid.1"), deletion("wamid.1"))
    for part in parts:
        world.ingest(items[part])

    row = media(world)
    assert (row["state"], row["error"]) == ("expired", "The sender deleted this file.")
    assert (row["provider_id"], row["sha256"], row["mime_type"]) == (None, None, None)
    assert claim(world) == []
    before = media(world)
    world.ingest(*items)
    assert media(world) == before


def test_a_photo_that_is_here_is_not_handed_out_once_it_is_deleted(world: World) -> None:
    world.ingest(photo("wamid.1"), photo("wamid.2"))
    for job in claim(world):
        assert settle(world, job["media_id"], "stored") == "stored"
    world.ingest(deletion("wamid.1"))

    assert (media(world)["state"], media(world)["size"]) == ("expired", None)
    assert media(world, "wamid.2")["state"] == "stored"


def test_a_photo_that_is_deleted_while_it_is_fetched_stays_deleted(world: World) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world)
    world.ingest(deletion("wamid.1"))

    assert settle(world, job["media_id"], "stored") == "settled already"
    assert media(world)["state"] == "expired"


# who sees it, and who may have it fetched again


@pytest.mark.parametrize(
    ("actor", "sees"),
    [
        ("olivia", True),
        ("vera", True),
        ("cilka", True),
        ("ana", False),
        ("carlos", False),
        ("stranger", False),
    ],
)
def test_whoever_sees_the_message_sees_its_file(world: World, actor: str, sees: bool) -> None:
    world.ingest(photo("wamid.1"))
    with world.acting_as(actor) as connection:
        rows = connection.execute("select id from public.message_media").fetchall()
    assert len(rows) == sees


def test_a_file_follows_its_conversation_to_another_contact(world: World) -> None:
    world.ingest(photo("wamid.1"), photo("wamid.2", wa_id="38640999888"))
    other = media(world, "wamid.2")["customer_id"]
    world.owner.execute(
        "update public.conversations set customer_id = %s where id = %s",
        [other, conversation_of(world, "wamid.1")],
    )
    assert media(world, "wamid.1")["customer_id"] == other
    with world.acting_as("cilka") as connection:
        assert connection.execute("select from public.message_media").fetchall() == []


def refetch(world: World, actor: str, message: object) -> str | None:
    """The code with which an actor is refused; None where it is done."""
    try:
        with world.acting_as(actor) as connection:
            connection.execute("select public.refetch_media(%s)", [message])
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_an_agent_has_a_failed_file_fetched_again(world: World) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world)
    settle(world, job["media_id"], "failed")
    assert (media(world)["state"], media(world)["error"]) == ("failed", "Not now.")
    assert claim(world) == []

    assert refetch(world, "andrej", media(world)["message"]) is None
    assert (media(world)["state"], media(world)["error"]) == ("pending", None)
    assert [again["media_id"] for again in claim(world)] == [job["media_id"]]


def test_a_file_that_waits_is_fetched_now_and_one_under_way_is_left_alone(world: World) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world)
    assert refetch(world, "andrej", media(world)["message"]) is None
    assert claim(world) == []
    settle(world, job["media_id"], "retry")
    assert claim(world) == []
    assert refetch(world, "andrej", media(world)["message"]) is None
    assert len(claim(world)) == 1


@pytest.mark.parametrize(
    ("actor", "code"),
    [("vera", "42501"), ("cilka", "42501"), ("ana", "PT404"), ("carlos", "PT404")],
)
def test_others_have_nothing_fetched(world: World, actor: str, code: str) -> None:
    world.ingest(photo("wamid.1"))
    (job,) = claim(world)
    settle(world, job["media_id"], "failed")
    assert refetch(world, actor, media(world)["message"]) == code
    assert media(world)["state"] == "failed"


def test_what_is_here_or_gone_is_not_fetched(world: World) -> None:
    world.ingest(photo("wamid.1"), photo("wamid.2", sent_at=now(days=8)))
    world.ingest(photo("wamid.3", content=None))
    for job in claim(world):
        settle(world, job["media_id"], "stored" if job["provider_id"] == "7001" else "failed")
    for number in (1, 2, 3):
        assert refetch(world, "andrej", media(world, f"wamid.{number}")["message"]) == "PT409"


# what agents send


def announce(world: World, actor: str, conversation: object, **changes: Any) -> dict[str, Any]:
    given = {"type": "image", "mime_type": "image/png", "size": 1000, "name": "a.png"} | changes
    with world.acting_as(actor) as connection:
        row = connection.execute(
            "select public.begin_upload(%s, %s, %s, %s, %s)",
            [conversation, given["type"], given["mime_type"], given["size"], given["name"]],
        ).fetchone()
    assert row is not None
    upload: dict[str, Any] = row[0]
    return upload


def post(world: World, actor: str, conversation: object, type_: str, content: str) -> Any:
    with world.acting_as(actor) as connection:
        row = connection.execute(
            "select public.post_message(%s, '', type => %s, content => %s) ->> 'id'",
            [conversation, type_, content],
        ).fetchone()
    assert row is not None
    return row[0]


def test_a_message_that_names_an_upload_has_its_file(world: World) -> None:
    world.ingest(photo("wamid.1"))
    conversation = conversation_of(world, "wamid.1")
    upload = announce(world, "andrej", conversation)
    assert upload["object_key"] == f"{ALPINE}/uploads/{upload['upload_id']}"

    message = post(
        world, "andrej", conversation, "image", f'{{"upload_id": "{upload["upload_id"]}"}}'
    )
    assert backend(world, "media_to_send(%s::uuid)", message) == {
        "object_key": upload["object_key"],
        "mime_type": "image/png",
        "file_name": "a.png",
        "size": 1000,
    }
    with world.acting_as("cilka") as connection:
        seen = connection.execute(
            "select state from public.message_media where message_id = %s", [message]
        ).fetchall()
    assert seen == [("stored",)]


def test_a_file_of_whatsapps_or_at_a_link_is_none_of_ours(world: World) -> None:
    world.ingest(photo("wamid.1"))
    conversation = conversation_of(world, "wamid.1")
    message = post(world, "andrej", conversation, "image", '{"id": "123"}')
    assert backend(world, "media_to_send(%s::uuid)", message) is None


def test_an_upload_of_another_account_or_type_is_not_sent(world: World) -> None:
    world.ingest(photo("wamid.1"))
    world.ingest(photo("wamid.2", wa_id="5511987654321", phone_number_id=BAY_NUMBER))
    ours = conversation_of(world, "wamid.1")
    theirs = announce(world, "ana", conversation_of(world, "wamid.2"))["upload_id"]
    document = announce(world, "andrej", ours, type="document", mime_type="application/pdf")[
        "upload_id"
    ]
    for given in (f'"{theirs}"', f'"{document}"', '"x"', "null", "7"):
        with pytest.raises(psycopg.Error) as refused:
            post(world, "andrej", ours, "image", f'{{"upload_id": {given}}}')
        assert refused.value.sqlstate == "PT422", given
        field = "content" if given == "null" else "content.upload_id"
        assert refused.value.diag.message_detail == f"field: {field}"
    assert world.rows("select from private.outbound_queue") == []


@pytest.mark.parametrize(
    ("actor", "code"),
    [("vera", "42501"), ("cilka", "42501"), ("ana", "PT404"), ("stranger", "PT404")],
)
def test_only_those_who_may_write_upload(world: World, actor: str, code: str) -> None:
    world.ingest(photo("wamid.1"))
    with pytest.raises(psycopg.Error) as refused:
        announce(world, actor, conversation_of(world, "wamid.1"))
    assert refused.value.sqlstate == code
    assert world.rows("select from private.media_uploads") == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mime_type": "text/html"}, "mime_type"),
        ({"mime_type": "image/svg+xml"}, "mime_type"),
        ({"type": "document"}, "mime_type"),
        ({"type": "program"}, "mime_type"),
        ({"size": 0}, "size"),
        ({"size": None}, "size"),
        ({"size": 5 * 1024 * 1024 + 1}, "size"),
        ({"name": "x" * 256}, "file_name"),
    ],
)
def test_what_whatsapp_would_not_take_is_not_uploaded(
    world: World, changes: dict[str, Any], field: str
) -> None:
    world.ingest(photo("wamid.1"))
    with pytest.raises(psycopg.Error) as refused:
        announce(world, "andrej", conversation_of(world, "wamid.1"), **changes)
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {field}"
    assert refused.value.diag.message_hint


# media types


@pytest.mark.parametrize(("text", "spelling"), CASES)
def test_a_media_type_has_one_spelling(world: World, text: str, spelling: str | None) -> None:
    assert world.value("select private.mime_type_of(%s)", [text]) == spelling
    if spelling is not None:
        assert world.value("select private.mime_type_of(%s)", [spelling]) == spelling


@pytest.mark.parametrize(
    ("type_", "mime_type", "kept", "put_as"),
    [
        ("audio", "audio/ogg; codecs=opus", "audio/ogg; codecs=opus", "audio/ogg"),
        ("audio", 'Audio/OGG;Codecs="opus"', "audio/ogg; codecs=opus", "audio/ogg"),
        ("audio", "audio/ogg", "audio/ogg", "audio/ogg"),
        ("audio", "audio/opus", "audio/opus", "audio/opus"),
        ("document", "APPLICATION/PDF", "application/pdf", "application/pdf"),
        ("document", "text/plain;charset=UTF-8", "text/plain; charset=UTF-8", "text/plain"),
        ("image", "image/JPEG; name=a", "image/jpeg; name=a", "image/jpeg"),
    ],
)
def test_a_file_is_announced_in_any_spelling_of_its_type(
    world: World, type_: str, mime_type: str, kept: str, put_as: str
) -> None:
    world.ingest(photo("wamid.1"))
    conversation = conversation_of(world, "wamid.1")
    upload = announce(world, "andrej", conversation, type=type_, mime_type=mime_type)
    assert upload["mime_type"] == put_as
    message = post(
        world, "andrej", conversation, type_, f'{{"upload_id": "{upload["upload_id"]}"}}'
    )
    # the codec says that it is a voice
    assert backend(world, "media_to_send(%s::uuid)", message)["mime_type"] == kept


@pytest.mark.parametrize(
    ("type_", "mime_type", "told"),
    [
        ("audio", "audio/ogg; codecs=vorbis", "Opus"),
        ("audio", "audio/ogg, text/html", "media type"),
        ("audio", "", "media type"),
        ("audio", None, "media type"),
        ("document", "text/html; x=pdf", "does not take files of this type"),
    ],
)
def test_a_type_that_is_none_or_not_taken_is_refused_with_a_remedy(
    world: World, type_: str, mime_type: str | None, told: str
) -> None:
    world.ingest(photo("wamid.1"))
    with pytest.raises(psycopg.Error) as refused:
        announce(
            world, "andrej", conversation_of(world, "wamid.1"), type=type_, mime_type=mime_type
        )
    diagnosis = refused.value.diag
    assert (refused.value.sqlstate, diagnosis.message_detail) == ("PT422", "field: mime_type")
    assert told in str(diagnosis.message_primary)
    assert diagnosis.message_hint


def test_a_file_that_came_has_its_type_in_the_same_spelling(world: World) -> None:
    content = {"type": "audio", "audio": {"id": "7001", "mime_type": "Audio/OGG;codecs=opus"}}
    world.ingest(photo("wamid.1", type="audio", content=content))
    assert media(world, "wamid.1")["mime_type"] == "audio/ogg; codecs=opus"
    # and what is none is kept as it came, and trusted nowhere
    content = {"type": "audio", "audio": {"id": "7002", "mime_type": "ogg"}}
    world.ingest(photo("wamid.2", type="audio", content=content))
    assert media(world, "wamid.2")["mime_type"] == "ogg"
