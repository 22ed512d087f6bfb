"""A contact's faces, made from its rows exactly as the views in the database make them.

Each change is broadcast once, as a row of `contacts`, `conversations` or `messages`. A client that
shows contacts as the contacts page or the live chat does makes the face here. It needs no second
stream, which could disagree with the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rapport.client.database import Contact, ContactV2, LiveChatContact

__all__ = [
    "STATUS_WORDS",
    "Channel",
    "ContactRow",
    "ContactV2",
    "ConversationActivity",
    "ConversationRow",
    "Face",
    "LiveChatContact",
    "MessageRow",
    "Status",
    "Thread",
    "contact_live_chat",
    "contact_v2",
]

Status = Literal["open", "pending", "closed"]
Channel = Literal["whatsapp", "booking", "portal"]
Face = Literal["contacts_page", "live_chat", "wati", "portal", "erp"]

# the same words as in the table status_words
STATUS_WORDS: Mapping[Face, Mapping[Status, str]] = MappingProxyType(
    {
        "contacts_page": {"open": "open", "pending": "pending", "closed": "closed"},
        "live_chat": {"open": "Open", "pending": "Pending", "closed": "Closed"},
        "wati": {"open": "OPEN", "pending": "PENDING", "closed": "SOLVED"},
        "portal": {"open": "active", "pending": "waiting", "closed": "resolved"},
        "erp": {"open": "O", "pending": "P", "closed": "C"},
    }
)


class _Row(BaseModel):
    """A row with the columns that are used here; other columns are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ContactRow(Contact):
    """A row of `contacts`; its status has to be one that has a word in each face."""

    status: Status


class ConversationRow(_Row):
    """A row of `conversations`."""

    id: UUID
    # None in a group, which belongs to no customer
    customer_id: UUID | None
    channel: Channel
    customer_wa_id: str | None
    status: Status
    created_at: AwareDatetime
    version: int


class MessageRow(_Row):
    """A row of `messages`."""

    id: UUID
    conversation_id: UUID
    sender_type: Literal["client", "operator", "system"]
    sent_at: AwareDatetime | None
    version: int


class ConversationActivity(_Row):
    """A row of `conversation_activity`."""

    conversation_id: UUID
    last_seq: int
    last_message_at: AwareDatetime
    last_inbound_at: AwareDatetime | None


class Thread(BaseModel):
    """A conversation with the times of its last messages."""

    model_config = ConfigDict(frozen=True)

    conversation: ConversationRow
    # WhatsApp's time of the latest message; the conversation's own time before the first
    last_message_at: AwareDatetime
    last_inbound_at: AwareDatetime | None


def contact_v2(contact: ContactRow, thread: Thread | None) -> ContactV2:
    """The row of `contacts_v2` for a contact and its current conversation, if it has one."""
    conversation = thread.conversation if thread else None
    return ContactV2.model_validate(
        {
            **_shared(contact, _SHARED_V2),
            "name": _shown_name(contact),
            "conversation_status": _status_word("contacts_page", contact, conversation),
            "conversation_id": conversation.id if conversation else None,
        }
    )


def contact_live_chat(contact: ContactRow, thread: Thread | None) -> LiveChatContact:
    """The row of `contacts_live_chat` for a contact and its current conversation, if it has one."""
    conversation = thread.conversation if thread else None
    return LiveChatContact.model_validate(
        {
            **_shared(contact, _SHARED_LIVE_CHAT),
            "name": _shown_name(contact),
            "wa_id": conversation.customer_wa_id if conversation else None,
            "conversation_status": _status_word("live_chat", contact, conversation),
            "conversation_id": conversation.id if conversation else None,
            "channel": conversation.channel if conversation else None,
            "last_message_at": thread.last_message_at if thread else None,
            "last_inbound_at": thread.last_inbound_at if thread else None,
        }
    )


# the columns that a face shows as the contact has them
_SHARED_V2 = tuple(name for name in ContactV2.model_fields if name in ContactRow.model_fields)
_SHARED_LIVE_CHAT = tuple(
    name for name in LiveChatContact.model_fields if name in ContactRow.model_fields
)


def _shared(contact: ContactRow, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(contact, name) for name in names}


def _shown_name(contact: ContactRow) -> str | None:
    return contact.name if contact.name is not None else contact.profile_name


def _status_word(face: Face, contact: ContactRow, conversation: ConversationRow | None) -> str:
    return STATUS_WORDS[face][conversation.status if conversation else contact.status]
