"""What is queued goes out once, in order, and what became of it is known."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

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
from tests.world import BAY_NUMBER, World, status

BSUID = "SI.1349508717"


def test_a_claim_has_all_that_is_needed_to_send(world: World) -> None:
    thread = conversation(world)
    first = post(world, "andrej", thread, "one")
    assert claim(world) == [
        {
            "message_id": first["id"],
            "account_id": first["account_id"],
            "conversation_id": first["conversation_id"],
            "phone_number_id": "1003427786179738",
            "group_id": None,
            "wa_id": "38640111222",
            "user_id": None,
            "type": "text",
            "text": "one",
            "content": None,
            "reply_to": None,
            "reaction_to": None,
        }
    ]


def test_a_reply_and_a_reaction_name_their_message_as_whatsapp_does(world: World) -> None:
    thread = conversation(world)
    (inbound,) = world.rows("select id, provider_id from public.messages")
    post(world, "andrej", thread, reply_to=inbound["id"])
    (reply,) = claim(world)
    assert reply["reply_to"] == inbound["provider_id"]
    begin(world, reply["message_id"])
    accept(world, reply["message_id"], "wamid.reply")

    content = psycopg.types.json.Jsonb({"message_id": str(inbound["id"]), "emoji": "👍"})
    post(world, "andrej", thread, "[reaction]", type="reaction", content=content)
    assert claim(world)[0]["reaction_to"] == inbound["provider_id"]


def test_a_reaction_to_a_message_of_another_conversation_is_refused(world: World) -> None:
    thread = conversation(world)
    conversation(world, "38640333444")
    target = world.value("select id from public.messages where conversation_id <> %s", [thread])
    content = psycopg.types.json.Jsonb({"message_id": str(target), "emoji": "👍"})
    with pytest.raises(psycopg.Error) as refusal:
        post(world, "andrej", thread, "[reaction]", type="reaction", content=content)
    assert refusal.value.sqlstate == "PT422"
    assert claim(world) == []


def test_a_person_without_a_number_is_named_by_user_id(world: World) -> None:
    world.ingest(
        {
            "kind": "message",
            "phone_number_id": BAY_NUMBER,
            "provider_id": "wamid.1",
            "wa_id": None,
            "user_id": BSUID,
            "profile_name": "Nejc",
            "sent_at": ago(minutes=1),
            "type": "text",
            "text": "hello",
            "content": None,
            "reply_to": None,
        }
    )
    post(world, "ana", world.value("select id from public.conversations"))
    (job,) = claim(world)
    assert (job["wa_id"], job["user_id"]) == (None, BSUID)


def test_a_conversations_messages_go_one_after_the_other(world: World) -> None:
    thread = conversation(world)
    for text in ("one", "two", "three"):
        post(world, "andrej", thread, text)
    sent = []
    for n in range(3):
        (job,) = claim(world)
        assert claim(world, "other") == []
        assert begin(world, job["message_id"])
        assert accept(world, job["message_id"], f"wamid.{n}") == "sent"
        sent.append(job["text"])
    assert sent == ["one", "two", "three"]


def test_what_waits_for_its_next_try_holds_back_what_was_written_after_it(world: World) -> None:
    thread = conversation(world)
    first = send_to(world, thread)
    post(world, "andrej", thread, "after it")
    assert refuse(world, first, 131056) == "retry"
    answer = backend(world, "claim_outbound('w')")
    assert answer["claimed"] == []
    # not the time of the one that waits behind it
    assert datetime.fromisoformat(answer["next_at"]) > datetime.now(UTC) + timedelta(seconds=2)


def test_several_workers_share_the_queue_and_none_waits_for_another(world: World) -> None:
    world.owner.execute("update public.whatsapp_channels set messages_per_second = 1000")
    threads = [conversation(world, f"386402000{n:02}") for n in range(20)]
    posted = {post(world, "andrej", thread)["id"] for thread in threads}
    barrier = threading.Barrier(4)

    def work(worker: str) -> list[str]:
        barrier.wait()
        return [job["message_id"] for _ in range(5) for job in claim(world, worker, 3)]

    with ThreadPoolExecutor(4) as pool:
        claimed = [one for some in pool.map(work, "abcd") for one in some]
    claimed += [job["message_id"] for job in claim(world, "e", 100)]
    assert len(claimed) == 20
    assert set(claimed) == posted


def test_a_claim_passes_over_what_another_transaction_holds(world: World) -> None:
    post(world, "andrej", conversation(world))
    with world.connect() as other, other.transaction():
        other.execute("select from private.outbound_queue for update")
        assert claim(world) == []


def test_a_claim_that_nobody_began_is_free_again_when_its_lease_ends(world: World) -> None:
    posted = post(world, "andrej", conversation(world))
    claim(world, "dead")
    assert claim(world, "alive") == []
    end_leases(world)
    assert not begin(world, posted["id"], "dead")
    assert [job["message_id"] for job in claim(world, "alive")] == [posted["id"]]
    assert not begin(world, posted["id"], "dead")
    assert begin(world, posted["id"], "alive")
    assert attempts(world, posted["id"]) == [(None, None)]


def test_a_call_that_nobody_settled_is_unknown_and_is_not_sent_again(world: World) -> None:
    message = send_to(world, conversation(world))
    end_leases(world)
    assert claim(world, "alive") == []
    assert state(world, message)["status"] == "unknown"
    assert attempts(world, message) == [("unknown", None)]
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_begin_asked_again_by_the_same_claim_is_one_attempt(world: World) -> None:
    message = send_to(world, conversation(world))
    assert begin(world, message)
    assert not begin(world, message, "other")
    assert attempts(world, message) == [(None, None)]


def test_an_acceptance_settles_whoever_has_the_lease_by_now(world: World) -> None:
    message = send_to(world, conversation(world))
    end_leases(world)
    claim(world, "alive")
    assert accept(world, message, "wamid.late") == "sent"
    assert attempts(world, message) == [("accepted", "wamid.late")]
    assert state(world, message)["status"] == "sent"


def test_a_late_refusal_changes_nothing(world: World) -> None:
    message = send_to(world, conversation(world))
    end_leases(world)
    claim(world, "alive")
    assert refuse(world, message, 131026) == "settled already"
    assert state(world, message)["status"] == "unknown"


def test_a_status_that_came_first_shows_once_the_id_is_known(world: World) -> None:
    message = send_to(world, conversation(world))
    world.ingest(status("wamid.out", "delivered", ago(seconds=1)))
    accept(world, message, "wamid.out")
    assert state(world, message)["status"] == "delivered"
    assert state(world, message)["delivered_at"] is not None


def test_an_acceptance_told_twice_is_one(world: World) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, 131056)
    make_due(world)
    claim(world)
    begin(world, message)
    assert accept(world, message, "wamid.1") == "sent"
    before = state(world, message)
    assert accept(world, message, "wamid.1") == "sent"
    assert attempts(world, message) == [("refused", None), ("accepted", "wamid.1")]
    assert state(world, message) == before


@pytest.mark.parametrize(
    ("code", "follows", "status_", "stopped"),
    [
        (-1, "retry", "queued", False),
        (2, "retry", "queued", False),
        (130429, "retry", "queued", False),
        (131056, "retry", "queued", False),
        (131026, "fail", "failed", False),
        (131047, "fail", "failed", False),
        (131049, "fail", "failed", False),
        # one that we don't know
        (999999, "fail", "failed", False),
        (-2, "fail", "failed", False),
        (-3, "stop", "queued", True),
        (190, "stop", "queued", True),
        (131042, "stop", "queued", True),
    ],
)
def test_the_code_decides_what_follows(
    world: World, code: int, follows: str, status_: str, stopped: bool
) -> None:
    message = send_to(world, conversation(world))
    assert refuse(world, message, code, details="in words") == follows
    assert state(world, message)["status"] == status_
    assert attempts(world, message) == [("refused", None)]
    if follows == "fail":
        assert state(world, message)["error_code"] == code
        assert state(world, message)["error_message"]
    # of Alpine's number and of no other
    numbers = world.rows(
        "select phone_number_id <> %s as ours, stopped_code, stopped_reason is not null as told"
        " from public.whatsapp_channels where stopped_at is not null",
        [BAY_NUMBER],
    )
    assert numbers == ([{"ours": True, "stopped_code": code, "told": True}] if stopped else [])


def test_what_we_can_not_send_fails_in_our_own_words(world: World) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, -2, details="content.link: must be a link.")
    assert state(world, message)["error_message"] == "content.link: must be a link."


@pytest.mark.parametrize("details", [None, "", "Something new."])
def test_a_code_that_nobody_knows_still_says_something(world: World, details: str | None) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, 999999, details=details)
    shown = state(world, message)["error_message"]
    assert shown == (details or "WhatsApp refused the message with code 999999.")


def test_a_message_at_which_every_worker_dies_fails_and_lets_the_next_one_go(world: World) -> None:
    thread = conversation(world)
    first = post(world, "andrej", thread, "one")["id"]
    post(world, "andrej", thread, "two")
    # each claim takes a place, and nobody waits for the next one here
    world.owner.execute("update public.whatsapp_channels set messages_per_second = 1000")
    for _ in range(8):
        assert [job["text"] for job in claim(world)] == ["one"]
        end_leases(world)
    assert [job["text"] for job in claim(world)] == ["two"]
    assert state(world, first)["status"] == "failed"
    assert state(world, first)["error_message"]
    assert attempts(world, first) == []


def test_nothing_goes_to_somebody_who_was_deleted_meanwhile(world: World) -> None:
    thread = conversation(world, "38640777777")
    posted = post(world, "andrej", thread)["id"]
    claim(world)
    with world.acting_as("andrej") as connection:
        connection.execute(
            "delete from public.contacts_v2 where id ="
            " (select customer_id from public.conversations where id = %s)",
            [thread],
        )
    assert not begin(world, posted)
    assert state(world, posted)["status"] == "failed"
    assert state(world, posted)["error_message"] == (
        "The contact was deleted before the message was sent."
    )
    assert attempts(world, posted) == []


def test_the_pair_rate_backs_off_by_powers_of_four(world: World) -> None:
    message = send_to(world, conversation(world))
    for attempt in (1, 2, 3):
        refuse(world, message, 131056)
        wait = world.value(
            "select extract(epoch from not_before - clock_timestamp()) from private.outbound_queue"
        )
        assert 4**attempt * 0.75 < wait <= 4**attempt * 1.2
        make_due(world)
        claim(world)
        begin(world, message)


def test_whatsapps_own_wait_is_kept_if_it_is_longer(world: World) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, 131056, retry_after=600)
    wait = world.value(
        "select extract(epoch from not_before - clock_timestamp()) from private.outbound_queue"
    )
    assert 590 < wait <= 600


def test_after_the_eighth_try_it_has_failed(world: World) -> None:
    message = send_to(world, conversation(world))
    for _ in range(7):
        assert refuse(world, message, 131000) == "retry"
        make_due(world)
        claim(world)
        begin(world, message)
    assert refuse(world, message, 131000) == "fail"
    assert state(world, message)["error_code"] == 131000
    assert attempts(world, message) == [("refused", None)] * 8


def test_a_number_that_is_too_fast_waits_as_a_whole(world: World) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, 130429, retry_after=60)
    post(world, "andrej", conversation(world, "38640333444"), "another person")
    # another number is not held
    post(world, "ana", conversation(world, "38640333444", number=BAY_NUMBER), "another number")
    assert [job["text"] for job in claim(world)] == ["another number"]


def test_a_stopped_number_sends_again_once_somebody_resumes_it(world: World) -> None:
    message = send_to(world, conversation(world))
    refuse(world, message, 190)
    assert claim(world) == []
    with world.acting_as("andrej") as connection:
        connection.execute("select public.resume_channel(id) from public.whatsapp_channels")
    assert [job["message_id"] for job in claim(world)] == [message]


def test_what_was_claimed_before_the_number_stopped_is_not_sent(world: World) -> None:
    first = post(world, "andrej", conversation(world))["id"]
    second = post(world, "andrej", conversation(world, "38640333444"))["id"]
    assert len(claim(world)) == 2
    begin(world, first)
    refuse(world, first, 190)
    assert not begin(world, second)
    assert state(world, second)["status"] == "queued"
    assert attempts(world, second) == []


def test_free_words_do_not_go_once_the_window_has_closed_meanwhile(world: World) -> None:
    thread = conversation(world)
    posted = post(world, "andrej", thread)
    claim(world)
    world.owner.execute(
        "update public.conversation_activity set last_inbound_at = now() - interval '25 hours'"
    )
    assert not begin(world, posted["id"])
    assert state(world, posted["id"])["status"] == "failed"
    assert state(world, posted["id"])["error_code"] == 131047
    assert attempts(world, posted["id"]) == []


@pytest.mark.parametrize("call", ["'sent'", "null", "'accepted'", "'accepted', ''", "'refused'"])
def test_an_outcome_without_what_belongs_to_it_is_refused(world: World, call: str) -> None:
    message = send_to(world, conversation(world))
    with pytest.raises(psycopg.Error) as refusal:
        backend(world, f"settle_send(%s, 'w', {call})", message)
    assert refusal.value.sqlstate == "PT422"
    assert attempts(world, message) == [(None, None)]


def test_settling_a_message_that_is_gone_is_no_error(world: World) -> None:
    assert lose(world, uuid4()) == "gone"
