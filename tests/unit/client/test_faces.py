"""One face kept live, for any order of its events."""

from __future__ import annotations

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from rapport.client.events import Event
from rapport.client.face_feed import FaceChange, FaceFeed
from rapport.client.faces import ContactV2, LiveChatContact, contact_live_chat, contact_v2

Json = dict[str, Any]

NIKA, OTO = UUID(int=1), UUID(int=2)
THREAD, LATER_THREAD = UUID(int=11), UUID(int=12)


def contact(contact_id: UUID = NIKA, version: int = 1, **changes: Any) -> Json:
    return {
        "id": str(contact_id),
        "account_id": str(UUID(int=100)),
        "name": None,
        "profile_name": "Nika on WhatsApp",
        "phone": "+38631222333",
        "username": None,
        "email": None,
        "tags": ["regular"],
        "notes": "Prefers mornings.",
        "preferences": {"language": "sl"},
        "status": "pending",
        "portal_user_id": None,
        "created_at": "2026-11-21T08:00:00+00:00",
        "updated_at": "2026-11-21T08:00:00+00:00",
        "version": version,
    } | changes


def conversation(
    conversation_id: UUID = THREAD, customer: UUID = NIKA, version: int = 1, **changes: Any
) -> Json:
    return {
        "id": str(conversation_id),
        "customer_id": str(customer),
        "channel": "whatsapp",
        "customer_wa_id": "38631222333",
        "status": "open",
        "created_at": "2026-11-21T09:00:00+00:00",
        "version": version,
        # a column of later times
        "topic": "carpets",
    } | changes


def message(
    number: int, sent_at: str | None, conversation_id: UUID = THREAD, **changes: Any
) -> Json:
    return {
        "id": str(UUID(int=1000 + number)),
        "conversation_id": str(conversation_id),
        "sender_type": "client",
        "sent_at": sent_at,
        "version": 1,
    } | changes


def event(table: str, record: Json, operation: str = "INSERT") -> Event:
    return Event.model_validate(
        {
            "table": table,
            "id": record["id"],
            "version": record["version"],
            "operation": operation,
            "record": record,
            "old_record": None,
        }
    )


def hint(table: str, row_id: UUID, version: int, operation: str = "UPDATE") -> Event:
    return Event.model_validate(
        {"table": table, "id": row_id, "version": version, "operation": operation}
    )


def outline(changes: list[FaceChange[LiveChatContact]]) -> list[tuple[str, str | None]]:
    """What happened, and the status shown afterwards."""
    return [(c.operation, c.new.conversation_status if c.new else None) for c in changes]


@pytest.fixture
def feed() -> FaceFeed[LiveChatContact]:
    return FaceFeed(contact_live_chat)


def test_contact_without_a_conversation_shows_its_own_status() -> None:
    feed = FaceFeed(contact_v2)

    [change] = feed.load("contacts", [contact()])

    assert change.operation == "INSERT"
    assert change.new == ContactV2.model_validate(
        {
            "id": NIKA,
            "account_id": UUID(int=100),
            "name": "Nika on WhatsApp",
            "profile_name": "Nika on WhatsApp",
            "phone": "+38631222333",
            "username": None,
            "email": None,
            "tags": ("regular",),
            "notes": "Prefers mornings.",
            "preferences": {"language": "sl"},
            "conversation_status": "pending",
            "conversation_id": None,
            "marketing_stopped_at": None,
            "portal_user_id": None,
            "created_at": "2026-11-21T08:00:00Z",
            "updated_at": "2026-11-21T08:00:00Z",
            "version": 1,
        }
    )


def test_conversation_takes_over_the_status(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(event("contacts", contact()))

    changes = feed.apply(event("conversations", conversation(status="closed")))

    assert outline(changes) == [("UPDATE", "Closed")]
    assert changes[0].old is not None
    assert changes[0].old.conversation_status == "Pending"
    shown = feed.rows[NIKA]
    assert (shown.conversation_id, shown.channel, shown.wa_id) == (
        THREAD,
        "whatsapp",
        "38631222333",
    )


def test_any_order_and_repetition_ends_the_same() -> None:
    events = [
        event("contacts", contact()),
        event("contacts", contact(version=2, name="Nika"), "UPDATE"),
        event("conversations", conversation()),
        event("conversations", conversation(version=2, status="closed"), "UPDATE"),
        event("messages", message(1, "2026-11-21T08:30:00Z")),
    ]
    ends = []
    for order in permutations(events):
        feed = FaceFeed(contact_live_chat)
        for told in (*order, order[0]):
            feed.apply(told)
        ends.append(feed.rows)

    assert all(end == ends[0] for end in ends)
    shown = ends[0][NIKA]
    assert (shown.name, shown.version, shown.conversation_status) == ("Nika", 2, "Closed")
    # the first message's time replaces the conversation's own, however old it is
    assert shown.last_message_at is not None
    assert shown.last_message_at.isoformat() == "2026-11-21T08:30:00+00:00"


def test_current_conversation_is_the_latest_active(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(
        event("contacts", contact()),
        event("conversations", conversation(status="closed")),
        event("conversations", conversation(LATER_THREAD, channel="portal")),
    )
    # both began in the same moment
    assert feed.rows[NIKA].conversation_id == LATER_THREAD

    feed.apply(event("messages", message(1, "2026-11-21T10:00:00Z")))
    assert feed.rows[NIKA].conversation_id == THREAD

    feed.apply(event("messages", message(2, "2026-11-21T10:00:01Z", LATER_THREAD)))
    assert feed.rows[NIKA].conversation_id == LATER_THREAD


def test_what_staff_send_is_activity_but_not_inbound(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(
        event("contacts", contact()),
        event("conversations", conversation()),
        event("messages", message(1, "2026-11-21T10:00:00Z", sender_type="operator")),
        event("messages", message(2, None, sender_type="operator")),
    )

    shown = feed.rows[NIKA]
    assert shown.last_message_at is not None
    assert shown.last_inbound_at is None


def test_a_face_that_does_not_change_is_not_told() -> None:
    feed = FaceFeed(contact_v2)
    feed.apply(event("contacts", contact()), event("conversations", conversation()))

    assert feed.apply(event("messages", message(1, "2026-11-21T10:00:00Z"))) == []
    assert feed.apply(event("contacts", contact())) == []
    assert feed.apply(event("jobs", contact(OTO))) == []


def test_events_of_one_call_change_a_face_once(feed: FaceFeed[LiveChatContact]) -> None:
    changes = feed.apply(
        event("contacts", contact()),
        event("conversations", conversation()),
        event("messages", message(1, "2026-11-21T10:00:00Z")),
    )

    assert outline(changes) == [("INSERT", "Open")]


def test_deleted_contact_is_gone_and_stays_so(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(event("contacts", contact()), event("conversations", conversation()))

    assert outline(feed.apply(hint("contacts", NIKA, 3, "DELETE"))) == [("DELETE", None)]
    assert feed.apply(event("contacts", contact(version=2), "UPDATE")) == []
    assert feed.apply(event("conversations", conversation(version=2), "UPDATE")) == []
    assert dict(feed.rows) == {}
    # undeleted: newer than the deletion
    assert outline(feed.apply(event("contacts", contact(version=4)))) == [("INSERT", "Open")]


def test_delete_that_was_overtaken_deletes_nothing(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(event("contacts", contact(version=4)))

    assert feed.apply(hint("contacts", NIKA, 3, "DELETE")) == []
    assert NIKA in feed.rows


def test_conversation_moves_to_another_contact(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(
        event("contacts", contact()),
        event("contacts", contact(OTO)),
        event("conversations", conversation()),
        event("messages", message(1, "2026-11-21T10:00:00Z")),
    )

    changes = feed.apply(event("conversations", conversation(customer=OTO, version=2), "UPDATE"))

    assert outline(changes) == [("UPDATE", "Pending"), ("UPDATE", "Open")]
    assert feed.rows[NIKA].last_message_at is None
    assert feed.rows[OTO].last_message_at is not None


def test_deleted_conversation_gives_the_status_back(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(event("contacts", contact()), event("conversations", conversation()))

    changes = feed.apply(hint("conversations", THREAD, 1, "DELETE"))

    assert outline(changes) == [("UPDATE", "Pending")]
    assert feed.apply(event("conversations", conversation())) == []


def test_hint_names_the_row_to_read_until_it_was(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(event("contacts", contact()))

    assert feed.apply(hint("contacts", NIKA, 3)) == []
    assert feed.to_read == {("contacts", NIKA)}
    feed.load("contacts", [contact(version=2)])
    assert feed.to_read == {("contacts", NIKA)}
    [change] = feed.load("contacts", [contact(version=3, name="Nika")])
    assert change.new is not None
    assert change.new.name == "Nika"
    assert feed.to_read == frozenset()
    # a hint of what is known already
    feed.apply(hint("contacts", NIKA, 3))
    assert feed.to_read == frozenset()


def test_hints_of_messages_and_of_what_is_deleted(feed: FaceFeed[LiveChatContact]) -> None:
    row = message(1, "2026-11-21T10:00:00Z")
    feed.apply(event("contacts", contact()), event("conversations", conversation()))
    feed.apply(hint("messages", UUID(row["id"]), 1, "INSERT"), hint("contacts", OTO, 1))
    assert feed.to_read == {("messages", UUID(row["id"])), ("contacts", OTO)}

    feed.apply(hint("contacts", OTO, 2, "DELETE"))
    feed.load("messages", [row])

    assert feed.to_read == frozenset()
    assert feed.rows[NIKA].last_inbound_at is not None


def test_activity_that_was_read_counts_as_its_messages_do(
    feed: FaceFeed[LiveChatContact],
) -> None:
    activity = {
        "conversation_id": str(THREAD),
        "last_seq": 7,
        "last_message_at": "2026-11-21T10:00:00Z",
        "last_inbound_at": "2026-11-21T09:30:00Z",
    }
    feed.load("conversation_activity", [activity])
    feed.load("conversations", [conversation()])
    feed.load("contacts", [contact()])
    # older than what was read
    assert feed.apply(event("messages", message(1, "2026-11-21T09:10:00Z"))) == []

    shown = feed.rows[NIKA]
    assert shown.last_message_at is not None
    assert shown.last_inbound_at is not None
    assert shown.last_message_at.hour == 10
    assert shown.last_inbound_at.minute == 30


def test_resync_drops_what_is_no_longer_there(feed: FaceFeed[LiveChatContact]) -> None:
    feed.apply(
        event("contacts", contact()),
        event("contacts", contact(OTO)),
        event("conversations", conversation()),
        hint("contacts", UUID(int=3), 1),
    )

    changes = feed.replace("contacts", [contact(OTO, version=2, status="closed")])
    assert outline(changes) == [("DELETE", None), ("UPDATE", "Closed")]
    assert feed.to_read == frozenset()

    # made after the rows were read, and told again by changes_since
    assert outline(feed.apply(event("contacts", contact()))) == [("INSERT", "Open")]
    assert outline(feed.replace("conversations", [])) == [("UPDATE", "Pending")]


def test_a_row_that_can_not_be_read_stays_as_it_was(feed: FaceFeed[LiveChatContact]) -> None:
    feed.load("contacts", [contact()])
    assert feed.apply(event("contacts", contact(status="parked", version=2))) == []
    assert len(feed.unreadable) == len(feed.rows) == 1
    assert outline(feed.apply(event("contacts", contact(version=3, name="C.")))) == [
        ("UPDATE", "Pending")
    ]
    assert not feed.unreadable
    with pytest.raises(ValueError, match="No face is made from customers"):
        feed.load("customers", [{}])
