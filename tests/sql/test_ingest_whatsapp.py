"""A WhatsApp webhook's outcome: every update once, beside any others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.world import ALPINE, BAY, BAY_NUMBER, CUSTOMERS, World, seed_uuid, status, text_message

CONTENTS = """
    select jsonb_build_object(
        'contacts', (select jsonb_agg(to_jsonb(c) order by c.id) from public.contacts c),
        'identities', (
            select jsonb_agg(to_jsonb(i) order by i.match_key) from public.contact_identities i
        ),
        'conversations', (select jsonb_agg(to_jsonb(c) order by c.id) from public.conversations c),
        'messages', (select jsonb_agg(to_jsonb(m) order by m.id) from public.messages m),
        'changes', (select count(*) from private.changes),
        'broadcasts', (select count(*) from realtime.messages)
    )
"""


def operator_message(world: World, provider_id: str) -> None:
    """A sent message of ours in Cilka's conversation, as sending leaves it."""
    world.owner.execute(
        """
        with numbered as (
            update public.conversation_activity set last_seq = last_seq + 1 returning *
        )
        insert into public.messages (
            account_id, conversation_id, customer_id, seq, sender_type, sender_id, message,
            whatsapp_channel_id, provider_id, status
        )
        select c.account_id, c.id, c.customer_id, n.last_seq, 'operator', 'andrej', 'hello',
               c.whatsapp_channel_id, %s, 'queued'
        from numbered n
        join public.conversations c on c.id = n.conversation_id
        """,
        [provider_id],
    )


def test_text_becomes_contact_conversation_and_message(world: World) -> None:
    answer = world.ingest(text_message("wamid.1", text="Is Tuesday free?"))

    assert answer == {"event_id": 1, "applied": 1, "duplicates": 0, "rejected": []}
    assert world.rows(
        """
        select m.account_id, m.seq, m.sender_type, m.sender_id, m.message, m.status,
               c.channel, c.status as thread, a.last_seq, c.customer_wa_id,
               k.profile_name, k.phone
        from public.messages m
        join public.conversations c on c.id = m.conversation_id
        join public.conversation_activity a on a.conversation_id = c.id
        join public.contacts k on k.id = m.customer_id
        """
    ) == [
        {
            "account_id": ALPINE,
            "seq": 1,
            "sender_type": "client",
            "sender_id": "38640999888",
            "message": "Is Tuesday free?",
            "status": "delivered",
            "channel": "whatsapp",
            "thread": "open",
            "last_seq": 1,
            "customer_wa_id": "38640999888",
            "profile_name": "Nejc",
            "phone": "+38640999888",
        }
    ]


def test_known_number_is_its_contact(world: World) -> None:
    _, phone = CUSTOMERS["cilka"]
    world.ingest(text_message("wamid.1", wa_id=phone.removeprefix("+")))

    assert world.value("select customer_id from public.messages") == seed_uuid("contact cilka")


def test_spellings_of_one_number_are_one_contact(world: World) -> None:
    """Brazil's ninth digit is there or not; the reply goes to the spelling that came."""
    world.ingest(
        text_message("wamid.1", wa_id="551187654321", phone_number_id=BAY_NUMBER),
    )

    assert world.rows("select customer_id, customer_wa_id from public.conversations") == [
        {"customer_id": seed_uuid("contact carlos"), "customer_wa_id": "551187654321"}
    ]


def test_replies_follow_the_latest_spelling(world: World) -> None:
    def send(provider_id: str, wa_id: str, sent_at: str) -> None:
        world.ingest(
            text_message(provider_id, wa_id=wa_id, sent_at=sent_at, phone_number_id=BAY_NUMBER)
        )

    send("wamid.1", "551187654321", "2026-11-21T10:00:00Z")
    send("wamid.3", "5511987654321", "2026-11-21T10:00:02Z")
    # late, and no reason to go back
    send("wamid.2", "551187654321", "2026-11-21T10:00:01Z")

    assert world.rows("select customer_wa_id from public.conversations") == [
        {"customer_wa_id": "5511987654321"}
    ]
    assert world.value("select array_agg(provider_id order by seq) from public.messages") == [
        "wamid.1",
        "wamid.3",
        "wamid.2",
    ]


def test_number_that_staff_wrote_down_is_known_to_be_on_whatsapp(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640111222"))

    assert (
        world.value(
            "select wa_id from public.contact_identities where contact_id = %s",
            [seed_uuid("contact cilka")],
        )
        == "38640111222"
    )


def test_sender_without_number_is_a_contact(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=None, user_id="US.1349"))
    world.ingest(text_message("wamid.2", wa_id=None, user_id="US.1349"))

    assert world.rows("select phone, profile_name from public.contacts where name is null") == [
        {"phone": None, "profile_name": "Nejc"}
    ]
    assert world.value("select array_agg(seq order by seq) from public.messages") == [1, 2]


def test_number_learnt_later_belongs_to_the_known_user(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=None, user_id="US.1349"))
    world.ingest(text_message("wamid.2", wa_id="38640999888", user_id="US.1349"))

    assert world.value("select count(distinct customer_id) from public.messages") == 1


def test_replay_changes_nothing(world: World) -> None:
    items = [
        text_message("wamid.1"),
        text_message("wamid.2", wa_id="38640777666"),
        status("wamid.9", "read", "2026-11-21T10:00:01Z"),
    ]
    world.ingest(*items)
    before = world.value(CONTENTS)

    again = world.ingest(*items)
    in_another_split = world.ingest(items[1], body="another body")

    assert again["applied"] == 0
    assert again["duplicates"] == 3
    assert in_another_split["duplicates"] == 1
    assert world.value(CONTENTS) == before
    assert world.value("select array_agg(deliveries order by id) from private.webhook_events") == [
        2,
        1,
    ]


def test_message_twice_in_a_batch_is_one(world: World) -> None:
    answer = world.ingest(text_message("wamid.1"), text_message("wamid.1"))

    assert (answer["applied"], answer["duplicates"]) == (1, 1)
    assert world.value("select last_seq from public.conversation_activity") == 1


def test_bad_item_blocks_no_other(world: World) -> None:
    answer = world.ingest(
        text_message("wamid.1"),
        text_message("wamid.2", sent_at="yesterday-ish"),
        {"kind": "skipped", "reason": "message_without_sender", "detail": "messages[2]"},
        text_message("wamid.4", phone_number_id="999"),
        text_message("wamid.5"),
        # can be read, and no row can hold it
        status("wamid.6", "melted", "2026-11-21T10:00:01Z"),
    )

    assert answer["applied"] == 2
    assert [(r["index"], r["reason"]) for r in answer["rejected"]] == [
        (1, "refused"),
        (2, "message_without_sender"),
        (3, "unknown_phone_number_id"),
        (5, "refused"),
    ]
    assert world.value("select array_agg(provider_id order by seq) from public.messages") == [
        "wamid.1",
        "wamid.5",
    ]
    # the reason of each stays with the raw event
    assert world.value("select jsonb_array_length(rejected) from private.webhook_events") == 4


def test_unknown_number_is_kept_raw(world: World) -> None:
    world.ingest(text_message("wamid.1", phone_number_id="999"), body='{"whole": "body"}')

    assert world.value("select body from private.webhook_events") == '{"whole": "body"}'
    assert world.value("select count(*) from public.messages") == 0


def test_fields_that_are_found_out_here_are_not_believed(world: World) -> None:
    world.ingest(
        text_message("wamid.1", account_id=str(BAY), contact_id=str(seed_uuid("contact carlos")))
    )

    assert world.value("select account_id from public.messages") == ALPINE
    assert world.value("select customer_id from public.messages") != seed_uuid("contact carlos")


def test_four_photos_at_once_are_one_conversation(world: World) -> None:
    start = threading.Barrier(4)

    def send(number: int) -> None:
        start.wait()
        world.ingest(text_message(f"wamid.{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))

    assert world.value("select count(*) from public.conversations") == 1
    assert world.value("select array_agg(seq order by seq) from public.messages") == [1, 2, 3, 4]


def test_batches_over_the_same_people_never_deadlock(world: World) -> None:
    """Each batch names the same ten senders in another order; half of them are new."""
    senders = [f"3864000000{n}" for n in range(10)]
    for n, sender in enumerate(senders[:5]):
        world.ingest(text_message(f"wamid.known.{n}", wa_id=sender))
    start = threading.Barrier(6)

    def send(worker: int) -> int:
        start.wait()
        applied = 0
        for round_number in range(5):
            order = senders[worker:] + senders[:worker]
            applied += world.ingest(
                *(
                    text_message(f"wamid.{worker}.{round_number}.{sender}", wa_id=sender)
                    for sender in (order if round_number % 2 else reversed(order))
                )
            )["applied"]
        return applied

    with ThreadPoolExecutor(6) as pool:
        applied = sum(pool.map(send, range(6)))

    assert applied == 6 * 5 * 10
    assert world.value("select count(*) from public.contacts where name is null") == 10
    assert world.value(
        """
        select bool_and(c.last_seq = n.messages and n.messages = n.highest)
        from public.conversation_activity c
        join (
            select conversation_id, count(*) as messages, max(seq) as highest
            from public.messages
            group by conversation_id
        ) n using (conversation_id)
        """
    )


def test_message_on_a_closed_thread_opens_a_new_one(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.owner.execute("update public.conversations set status = 'closed'")
    world.ingest(text_message("wamid.2"))

    assert world.rows(
        "select c.status, a.last_seq from public.conversations c"
        " join public.conversation_activity a on a.conversation_id = c.id order by c.created_at"
    ) == [
        {"status": "closed", "last_seq": 1},
        {"status": "open", "last_seq": 1},
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_latest_message_names_its_sender_in_any_order(world: World, order: tuple[int, ...]) -> None:
    """The same name at first and at last must not let the one between them win."""
    messages = [
        text_message("wamid.0", profile_name="Nejc", sent_at="2026-11-21T10:00:00Z"),
        text_message("wamid.1", profile_name="Nejko", sent_at="2026-11-21T10:00:01Z"),
        text_message("wamid.2", profile_name="Nejc", sent_at="2026-11-21T10:00:02Z"),
    ]
    for number in order:
        world.ingest(messages[number])

    assert world.value("select profile_name from public.contacts where name is null") == "Nejc"


def test_unchanged_name_does_not_touch_the_contact(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(text_message("wamid.2", sent_at="2026-11-21T11:00:00Z"))

    assert world.value("select version from public.contacts where name is null") == 1


def test_reply_names_the_message_it_answers(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(text_message("wamid.2", reply_to="wamid.1"))

    assert (
        world.value(
            "select p.provider_id from public.messages m"
            " join public.messages p on p.id = m.reply_to"
        )
        == "wamid.1"
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_status_never_goes_back(world: World, order: tuple[int, ...]) -> None:
    world.ingest(text_message("wamid.1"))
    operator_message(world, "wamid.ours")
    statuses = [
        status("wamid.ours", "sent", "2026-11-21T10:00:01Z"),
        status("wamid.ours", "delivered", "2026-11-21T10:00:02Z"),
        status("wamid.ours", "read", "2026-11-21T10:00:03Z"),
    ]
    for number in order:
        world.ingest(statuses[number])

    assert world.rows(
        "select status, to_char(sent_at, 'SS') as sent, to_char(delivered_at, 'SS') as delivered,"
        " to_char(read_at, 'SS') as read from public.messages where provider_id = 'wamid.ours'"
    ) == [{"status": "read", "sent": "01", "delivered": "02", "read": "03"}]


def test_read_implies_delivered(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    operator_message(world, "wamid.ours")
    world.ingest(status("wamid.ours", "read", "2026-11-21T10:00:03Z"))

    assert world.value(
        "select delivered_at = read_at from public.messages where provider_id = 'wamid.ours'"
    )


def test_failure_stays_visible_beside_delivery(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    operator_message(world, "wamid.ours")
    failed = status(
        "wamid.ours",
        "failed",
        "2026-11-21T10:00:02Z",
        error_code=131026,
        error_message="Message undeliverable",
    )
    shown = "select status, error_code from public.messages where provider_id = 'wamid.ours'"

    world.ingest(failed)
    assert world.rows(shown) == [{"status": "failed", "error_code": 131026}]

    world.ingest(status("wamid.ours", "delivered", "2026-11-21T10:00:04Z"))
    assert world.rows(shown) == [{"status": "delivered", "error_code": 131026}]


def test_status_of_an_unknown_message_waits_for_it(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(status("wamid.ours", "delivered", "2026-11-21T10:00:02Z"))
    operator_message(world, "wamid.ours")
    world.ingest(status("wamid.ours", "sent", "2026-11-21T10:00:01Z"))

    assert (
        world.value("select status from public.messages where provider_id = 'wamid.ours'")
        == "delivered"
    )


def test_functions_alone_may_ingest(world: World) -> None:
    for role, user in (("anon", None), ("authenticated", "olivia")):
        with (
            pytest.raises(Exception, match="permission denied for schema backend"),
            world.acting(role, user) as connection,
        ):
            connection.execute("select backend.ingest_whatsapp('{}', '[]')")
