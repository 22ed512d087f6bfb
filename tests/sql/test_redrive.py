"""What failed is put back by choice, once, and nothing that may have arrived without asking."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from tests.sql.asking import ask
from tests.sql.outbound import (
    accept,
    ago,
    attempts,
    backend,
    begin,
    claim,
    conversation,
    end_leases,
    lose,
    make_due,
    post,
    refuse,
    send_to,
    state,
)
from tests.world import ALPINE, BAY_NUMBER, World, text_message

DEAD = 131026


def redrive(world: World, **given: Any) -> dict[str, Any]:
    named = ", ".join(f"{name} => %s" for name in given)
    told: dict[str, Any] = backend(world, f"redrive_messages({named})", *given.values())
    return told


def failed(world: World, thread: UUID, code: int = DEAD, message: str = "hi") -> str:
    message_id = send_to(world, thread, message)
    refuse(world, message_id, code)
    make_due(world)
    return message_id


def test_failed_messages_are_counted_and_then_sent_once(world: World) -> None:
    thread = conversation(world)
    ids = {failed(world, thread), failed(world, thread, 100)}

    assert redrive(world) == {"redriven": 2, "left_out": {}, "after": None}
    # a dry run has changed nothing
    assert {state(world, one)["status"] for one in ids} == {"failed"}
    assert redrive(world, dry_run=False)["redriven"] == 2
    assert redrive(world, dry_run=False) == {"redriven": 0, "left_out": {}, "after": None}

    sent = []
    for place in range(2):
        make_due(world)
        [job] = claim(world, f"w{place}")
        assert begin(world, job["message_id"], f"w{place}")
        accept(world, job["message_id"], f"wamid.{place}", f"w{place}")
        sent.append(job["message_id"])
    # in the order of the conversation, each once
    assert set(sent) == ids
    assert claim(world) == []
    assert redrive(world, dry_run=False)["redriven"] == 0


def test_only_what_is_chosen_is_put_back(world: World) -> None:
    alpine = failed(world, conversation(world))
    bay_thread = conversation(world, "5511987654321", number=BAY_NUMBER)
    bay = post(world, "ana", bay_thread)["id"]
    claim(world)
    begin(world, bay)
    refuse(world, bay, DEAD)

    assert redrive(world, account="bay")["redriven"] == 1
    assert redrive(world, account=str(ALPINE))["redriven"] == 1
    assert redrive(world, message_id=UUID(alpine))["redriven"] == 1
    assert redrive(world, message_id=uuid4())["redriven"] == 0
    assert redrive(world, since=ago(minutes=-1))["redriven"] == 0
    assert redrive(world, since=ago(minutes=1))["redriven"] == 2
    # page by page
    first = redrive(world, batch=1, dry_run=False)
    assert (first["redriven"], first["after"] is not None) == (1, True)
    assert redrive(world, batch=1, dry_run=False, after=UUID(first["after"]))["redriven"] == 1


def test_what_may_have_arrived_is_put_back_on_request_only(world: World) -> None:
    thread = conversation(world)
    lost = send_to(world, thread, "lost")
    lose(world, lost)
    # the first attempt may have arrived, the second one was refused
    twice = send_to(world, thread, "twice")
    lose(world, twice)
    world.owner.execute(
        "update private.outbound_attempts set ended_at = now() - interval '3 minutes'"
    )
    ask(world, "andrej", "select public.resend_message(%s)", twice)
    make_due(world)
    claim(world, "again")
    begin(world, twice, "again")
    refuse(world, twice, DEAD, "again")
    assert attempts(world, twice) == [("unknown", None), ("refused", None)]

    assert redrive(world, dry_run=False) == {
        "redriven": 0,
        "left_out": {"uncertain": 2},
        "after": None,
    }
    assert redrive(world, uncertain=True, dry_run=False)["redriven"] == 2
    # one whose outcome may still come by itself waits even then
    make_due(world)
    [job] = claim(world, "third")
    begin(world, job["message_id"], "third")
    end_leases(world)
    claim(world, "fourth")
    left_out = redrive(world, uncertain=True, dry_run=False)["left_out"]
    assert left_out == {"too_early": 1}


def test_what_can_not_be_sent_is_left_out_with_its_reason(world: World) -> None:
    thread = conversation(world)
    dropped = post(world, "andrej", thread, "dropped")["id"]
    ask(world, "andrej", "select public.drop_message(%s)", dropped)
    failed(world, thread, 131049)
    deleted = conversation(world, "38640111333")
    failed(world, deleted)
    closed = conversation(world, "38640111444")
    failed(world, closed)
    world.owner.execute(
        "update public.conversation_activity set last_inbound_at = now() - interval '25 hours'"
        " where conversation_id = %s",
        [closed],
    )
    [contact] = world.rows("select customer_id from public.conversations where id = %s", [deleted])
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", contact["customer_id"])

    assert redrive(world, dry_run=False) == {
        "redriven": 0,
        "left_out": {"dropped": 1, "rests": 1, "contact_deleted": 1, "window_closed": 1},
        "after": None,
    }


def test_notifications_and_files_that_wait_go_now(world: World) -> None:
    backend(world, "set_push_key(%s)", "B" + "A" * 86)
    subscribe = "select public.save_push_subscription('https://push.example/1', %s, %s)"
    ask(world, "andrej", subscribe, "B" + "A" * 86, "A" * 22)
    conversation(world)
    world.owner.execute("update private.notifications set due_at = now() - interval '1 hour'")
    [job] = backend(world, "claim_pushes('w')")["claimed"]
    # a worker has it: it is being sent
    assert backend(world, "redrive_notifications()") == 0
    backend(world, "settle_push(%s, 'w', 'retry', 3600)", job["push_id"])
    assert backend(world, "claim_pushes('w')")["claimed"] == []

    assert backend(world, "redrive_notifications('bay', false)") == 0
    assert backend(world, "redrive_notifications(null, false)") == 1
    assert backend(world, "redrive_notifications(null, false)") == 0
    assert len(backend(world, "claim_pushes('w')")["claimed"]) == 1

    world.ingest(
        text_message(
            "wamid.photo", type="image", text="[image]", sent_at=ago(minutes=1),
            content={"type": "image", "image": {"id": "5", "mime_type": "image/png"}},
        )
    )  # fmt: skip
    [file] = backend(world, "claim_media('w')")
    backend(world, "settle_media(%s, 'w', 'failed', error => 'x')", file["media_id"])
    assert backend(world, "redrive_files(account => 'bay', dry_run => false)") == 0
    assert backend(world, "redrive_files()") == 1
    assert backend(world, "redrive_files(dry_run => false)") == 1
    assert backend(world, "redrive_files(dry_run => false)") == 0
    assert [one["media_id"] for one in backend(world, "claim_media('x')")] == [file["media_id"]]


def test_rejected_webhooks_are_found_by_account_id_and_time(world: World) -> None:
    known = world.ingest(text_message("wamid.1"))["event_id"]
    nobodys = world.ingest(text_message("wamid.2", phone_number_id="999"))["event_id"]
    alpines = world.ingest(text_message("wamid.3", phone_number_id="998", waba_id="61"))["event_id"]
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '61' where account_id = %s", [ALPINE]
    )

    def found(**given: Any) -> list[int]:
        named = "".join(f", {name} => %s" for name in given)
        page = backend(world, f"rejected_webhooks(0, 10{named})", *given.values())
        assert all("text of" in event["body"] for event in page)
        return [event["id"] for event in page]

    assert found() == [nobodys, alpines]
    assert found(account=str(ALPINE)) == [alpines]
    assert found(account="bay") == []
    assert found(event_id=nobodys) == [nobodys]
    assert found(event_id=known) == []
    assert found(since=ago(minutes=-1)) == []
    assert backend(world, "rejected_webhooks(%s, 10)", nobodys)[0]["id"] == alpines
    assert backend(world, "numbers_of(%s)", str(ALPINE)) == {
        "phone_number_ids": ["1003427786179738"],
        "waba_ids": ["61"],
    }
