"""Rows, words and answers of the database; other columns are ignored.

Made from the schema by `uv run python -m tests.schema_types.generate`: edit sql/, and run it again.

A type checker knows the words of a status or a type. At run time any text is taken, so that a
client goes on reading when a newer database has a new word.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class AnyWord:
    """At run time any text is taken where a `Literal` lists the known words."""

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.str_schema()


class Record(BaseModel):
    """A row, or an object in a row or an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Row(Record):
    """A row that has versions. A newer state of a row has a higher version."""

    id: UUID
    account_id: UUID
    version: int
    updated_at: AwareDatetime


class AccountEvent(Record):
    """A row of the table `account_events`. WhatsApp's messages about an account, its numbers and
    its templates, as they came. For owners and admins.
    """

    id: UUID
    """Identifies the event."""
    account_id: UUID
    """The account that the event is about."""
    type: str
    """The field of the webhook, such as account_update; errors for errors that belong to no
    message.
    """
    content: JsonValue
    """The event as WhatsApp sent it: the value of the webhook's field."""
    content_md5: str
    """The MD5 of content in hex: the same event is kept once."""
    occurred_at: AwareDatetime | None = None
    """When it happened, by WhatsApp's clock (UTC); null where WhatsApp gives no time."""
    created_at: AwareDatetime
    """When the event was kept (server time, UTC)."""


AccountHealthKind: TypeAlias = Annotated[
    Literal[
        "stopped_number",
        "paused_account",
        "paused_number",
        "failing_sync",
        "refused_signatures",
        "unknown_number",
        "waiting_messages",
        "failed_messages",
    ],
    AnyWord(),
]


class AccountHealth(Row):
    """A row of the table `account_health`. What is wrong with an account at the moment. A row
    exists as long as its trouble; looked for every minute.
    """

    kind: AccountHealthKind
    """stopped_number: WhatsApp lets a number send nothing; paused_account and paused_number: a
    person has paused it; failing_sync: Metakocka; refused_signatures and unknown_number: webhooks
    that were not taken; waiting_messages: to be sent for more than 5 minutes; failed_messages: of
    the last 24 hours.
    """
    subject: str
    """The WhatsApp number: as people write it, and of unknown_number Meta's id; empty where it
    is about none.
    """
    since: AwareDatetime
    """Since when (UTC)."""
    count: int
    """How many: numbers, failed runs, webhooks or messages."""
    meaning: str
    """What has happened, in a sentence, in the account's language."""
    remedy: str
    """What to do, in the account's language."""
    created_at: AwareDatetime
    """When it was found (server time, UTC)."""


AccountMemberRole: TypeAlias = Annotated[Literal["owner", "admin", "agent", "viewer"], AnyWord()]


class AccountMember(Record):
    """A row of the table `account_members`. Who works for an account: owner, admin, agent or
    viewer.
    """

    account_id: UUID
    """The account for which the person works."""
    user_id: UUID
    """The person's login (auth.users)."""
    role: AccountMemberRole
    """owner, admin, agent or viewer. Owners and admins also manage the account; viewers only
    read.
    """
    display_name: str
    """The name that colleagues and customers see."""
    created_at: AwareDatetime
    """When the person was added (server time, UTC)."""


AccountLanguage: TypeAlias = Annotated[Literal["en", "sl"], AnyWord()]


class Account(Record):
    """A row of the table `accounts`. A business that uses Rapport: the tenant. Every other row
    names its account. Owners and admins change name, country, time_zone, language, assigns_in_turn,
    the quiet hours, messages_kept_days and files_kept_days.
    """

    id: UUID
    """Identifies the account; every other row of the business names it as account_id."""
    external_id: str
    """The account's part of older conversation keys; see resolve_conversation."""
    name: str
    """The name of the business, which customers see."""
    country: str | None = None
    """The country of the business by ISO 3166-1, such as SI; null is unknown."""
    time_zone: str
    """The IANA time zone in which the account's days begin and end. If none is given: that of
    its country, or UTC. Due dates, expiring points and notices follow it.
    """
    language: AccountLanguage
    """The language in which the system writes to people: en or sl. If none is given: sl for an
    account in Slovenia, and en for others.
    """
    assigns_in_turn: bool = False
    """Whether a free conversation, when the customer writes, goes to the member at the desk who
    was given one least recently; see stay_at_desk.
    """
    messages_per_minute: int
    """How many messages one user, staff or customer, may write in a minute."""
    messages_per_request: int
    """How many messages one user may write in one request."""
    writes_per_minute: int
    """How many writes one user may make in a minute. A request that writes counts as one, and so
    does each row that it writes.
    """
    rows_per_request: int
    """How many rows one user may write in one request."""
    quiet_from: time | None = None
    """The time of day, in the account's time zone, at which the quiet hours begin. During them
    no reminder and no scheduled message is sent. Null: there are no quiet hours.
    """
    quiet_until: time | None = None
    """The time of day at which the quiet hours end; earlier than quiet_from means on the next
    day.
    """
    paused_at: AwareDatetime | None = None
    """Since when a person has nothing sent for the account (server time, UTC); null while it
    sends. See pause_sending and resume_sending.
    """
    messages_kept_days: int | None = None
    """For how many days messages are kept after they came or were written here, 30 at least.
    Older ones are deleted for good, with their files, except under a legal hold. Null: for ever.
    """
    files_kept_days: int | None = None
    """For how many days the files of messages are kept, 30 at least; the messages stay. Null: as
    long as their messages.
    """
    messages_quota: int
    """How many messages the account may keep. Beyond it users can't write any more; what comes
    by WhatsApp is stored all the same.
    """
    contacts_quota: int
    """How many contacts the account may keep. Beyond it users can't add any; who writes by
    WhatsApp becomes a contact all the same.
    """
    file_bytes_quota: int
    """How many bytes of files the account may keep. Beyond it users can't upload any; files that
    come by WhatsApp are stored all the same.
    """
    created_at: AwareDatetime
    """When the account was made (server time, UTC)."""


ContactIdentityKind: TypeAlias = Annotated[
    Literal["phone", "bsuid", "username", "email", "metakocka"], AnyWord()
]


class ContactIdentity(Record):
    """A row of the table `contact_identities`. The identities by which contacts are recognised.
    Each identity has one owner in an account.
    """

    account_id: UUID
    """The account in which the identity has one owner."""
    contact_id: UUID
    """The contact that owns the identity."""
    kind: ContactIdentityKind
    """phone, bsuid (WhatsApp's user id), username, email or metakocka (the partner's id in the
    ERP).
    """
    value: str
    """The identity as it was written, such as +38640111222."""
    match_key: str
    """The key that all spellings of one identity share."""
    wa_id: str | None = None
    """The exact WhatsApp id of a phone number, to which replies go; null for other kinds, and
    before WhatsApp tells it.
    """
    created_at: AwareDatetime
    """When the identity was claimed (server time, UTC)."""


class ContactMergeMovedCustomerRows(Record):
    """An object in `moved_customer_rows` of `contact_merges`."""

    jobs: tuple[UUID, ...]
    invoices: tuple[UUID, ...]
    loyalty_transactions: tuple[UUID, ...]
    loyalty_lots: dict[str, int]


class ContactMerge(Record):
    """A row of the table `contact_merges`. The journal of merges: who merged which contacts and
    when, both contacts before, the kept one after, and the rows that moved.
    """

    id: UUID
    """Identifies the merge; undo_merge takes it."""
    account_id: UUID
    """The account of both contacts."""
    kept_contact_id: UUID
    """The contact that stayed."""
    dropped_contact_id: UUID
    """The contact that was merged into the kept one."""
    kept_before: JsonValue
    """The kept contact's row before the merge."""
    dropped_before: JsonValue
    """The dropped contact's row before the merge."""
    kept_after: JsonValue
    """The kept contact's row after the merge."""
    moved_identities: tuple[ContactIdentity, ...]
    """The identities that moved to the kept contact, as rows."""
    moved_conversations: tuple[UUID, ...]
    """The ids of the conversations that moved to the kept contact."""
    moved_customer_rows: ContactMergeMovedCustomerRows
    """The rows that moved to the kept contact: jobs, invoices and loyalty_transactions by their
    ids, and loyalty_lots with the points left of each.
    """
    kept_conversations: tuple[UUID, ...]
    """The ids of the conversations that the kept contact had before."""
    settled_suggestions: tuple[UUID, ...]
    """The ids of the suggestions about the two contacts that the merge settled."""
    added_suggestions: tuple[UUID, ...]
    """The ids of the suggestions that the kept contact took over from the dropped one."""
    merged_by: UUID | None = None
    """The user who merged the contacts."""
    merged_at: AwareDatetime
    """When the contacts were merged (server time, UTC)."""
    undone_by: UUID | None = None
    """The user who undid the merge; null while it stands."""
    undone_at: AwareDatetime | None = None
    """When the merge was undone (server time, UTC); null while it stands."""


ContactSuggestionReason: TypeAlias = Annotated[
    Literal[
        "same_sender",
        "number_changed",
        "user_id_changed",
        "same_name",
        "same_phone",
        "same_email",
        "same_row",
        "same_partner",
    ],
    AnyWord(),
]

ContactSuggestionStatus: TypeAlias = Annotated[Literal["open", "merged", "dismissed"], AnyWord()]


class ContactSuggestion(Record):
    """A row of the table `contact_suggestions`. Pairs of contacts that may be one person, with
    the reason; see merge_contacts.
    """

    id: UUID
    """Identifies the suggestion; dismiss_suggestion takes it."""
    account_id: UUID
    """The account of both contacts."""
    contact_id: UUID
    """One of the two contacts: the one with the lesser id."""
    other_contact_id: UUID
    """The other contact."""
    reason: ContactSuggestionReason
    """same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row
    (of an imported file) or same_partner (of the ERP).
    """
    evidence: dict[str, JsonValue] = {}
    """The evidence that both are one person, for the member who decides: phone, email, name …"""
    status: ContactSuggestionStatus
    """open, merged or dismissed."""
    decided_by: UUID | None = None
    """The user who merged or dismissed the pair; null while it is open."""
    decided_at: AwareDatetime | None = None
    """When the pair was merged or dismissed (server time, UTC); null while it is open."""
    created_at: AwareDatetime
    """When the suggestion was made (server time, UTC)."""


ContactStatus: TypeAlias = Annotated[Literal["open", "pending", "closed"], AnyWord()]


class Contact(Row):
    """A row of the table `contacts`. A person or company that an account knows. Staff read it;
    customers see public.customers.
    """

    name: str | None = None
    """The name that staff gave; if it is null, clients show profile_name."""
    profile_name: str | None = None
    """The name of the person's WhatsApp profile; null is unknown."""
    profile_named_at: AwareDatetime | None = None
    """When the person sent the message that brought profile_name, by WhatsApp's clock (UTC)."""
    phone: str | None = None
    """The phone number in E.164, such as +38640111222."""
    email: str | None = None
    """One email address."""
    username: str | None = None
    """The person's latest known WhatsApp username, without @."""
    portal_user_id: UUID | None = None
    """The login (auth.users) with which the person enters the portal; null without one."""
    tags: tuple[str, ...] = ()
    """Labels that staff give, at most 100."""
    notes: str | None = None
    """Notes of staff, at most 20,000 characters; customers do not see them."""
    status: ContactStatus
    """open, pending or closed: the contact's own status, shown until it has a conversation.
    contacts_v2 has the status that clients show. The changes of conversations tell when one begins
    or is opened again.
    """
    status_changed_at: AwareDatetime | None = None
    """When staff last changed the status of a conversation of the contact (server time, UTC)."""
    preferences: dict[str, JsonValue] = {}
    """The customer's choices, such as language, channels and consent: an object of at most 8 KB.
    Written through my_profile and contacts_v2.
    """
    marketing_stopped_at: AwareDatetime | None = None
    """Since when the person takes no marketing messages on WhatsApp, by WhatsApp's clock (UTC).
    The person chooses that in WhatsApp, and nobody writes it here. Null: marketing messages may be
    sent.
    """
    marketing_chosen_at: AwareDatetime | None = None
    """When the person last stopped or allowed marketing messages, by WhatsApp's clock (UTC)."""
    gsm: str | None = None
    """The mobile number, as the ERP has it; in E.164 if it could be read as a number, and then
    the contact is known by it.
    """
    fax: str | None = None
    """The fax number, as the ERP has it."""
    business_entity: bool | None = None
    """Whether the contact is a business and not a private person; null is unknown."""
    taxpayer: bool | None = None
    """Whether the contact is liable for VAT; null is unknown."""
    foreign_county: bool | None = None
    """Whether the country is a foreign one (the ERP's spelling); null is unknown."""
    buyer: bool | None = None
    """Whether the contact buys from the account, as the ERP has it; null is unknown."""
    supplier: bool | None = None
    """Whether the contact supplies the account, as the ERP has it; null is unknown."""
    tax_id_number: str | None = None
    """The tax number, with or without the country code."""
    registration_number: str | None = None
    """The number in the register of companies."""
    street: str | None = None
    """Street and house number of the main address."""
    post_number: str | None = None
    """The postal code of the main address."""
    place: str | None = None
    """The town of the main address."""
    province: str | None = None
    """The province of the main address."""
    country: str | None = None
    """The country of the main address, as the ERP writes it."""
    people: tuple[dict[str, JsonValue], ...] = ()
    """Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}."""
    addresses: tuple[dict[str, JsonValue], ...] = ()
    """Further addresses: {mk_id, address_type, street, post_number, city, province, country}."""
    merged_into: UUID | None = None
    """The contact into which this one was merged."""
    deleted_at: AwareDatetime | None = None
    """Since when the contact is deleted (server time, UTC). Its contents are blanked, and lists
    leave it out.
    """
    created_at: AwareDatetime
    """When the contact was made (server time, UTC)."""


LiveChatContactConversationStatus: TypeAlias = Annotated[
    Literal["Open", "Pending", "Closed"], AnyWord()
]

ConversationChannel: TypeAlias = Annotated[Literal["whatsapp", "booking", "portal"], AnyWord()]


class LiveChatContact(Row):
    """A row of the view `contacts_live_chat`. Contacts, as the live chat shows them. Write name,
    phone, email, username, tags and conversation_status. A write that finds no contact is refused
    (404), and so is one with an old version (409).
    """

    conversation_status: LiveChatContactConversationStatus
    """Open, Pending or Closed: the status of the current conversation (latest activity), or the
    contact's own before the first one.
    """
    wa_id: str | None = None
    """The WhatsApp id to which replies in the current conversation go."""
    conversation_id: UUID | None = None
    """The current conversation, which gets a written status; null before the first one."""
    channel: ConversationChannel | None = None
    """The channel of the current conversation: whatsapp, booking or portal."""
    last_message_at: AwareDatetime | None = None
    """When the latest message of the current conversation was sent (UTC)."""
    last_inbound_at: AwareDatetime | None = None
    """When the customer last wrote or called in the current conversation: on WhatsApp by
    WhatsApp's clock (UTC).
    """
    created_at: AwareDatetime
    """When the contact was made (server time, UTC)."""
    name: str | None = None
    """The name that staff gave, or else that of the WhatsApp profile."""
    phone: str | None = None
    """The phone number in E.164, such as +38640111222."""
    email: str | None = None
    """One email address."""
    username: str | None = None
    """The person's latest known WhatsApp username, without @."""
    tags: tuple[str, ...]
    """Labels that staff give, at most 100."""


ContactV2ConversationStatus: TypeAlias = Annotated[Literal["open", "pending", "closed"], AnyWord()]


class ContactV2(Row):
    """A row of the view `contacts_v2`. Contacts, as the contacts page shows them. Write name,
    phone, email, username, tags, notes, preferences and conversation_status. A write that finds no
    contact is refused (404), and so is one with an old version (409).
    """

    conversation_status: ContactV2ConversationStatus
    """open, pending or closed: the status of the current conversation (latest activity), or the
    contact's own before the first one.
    """
    conversation_id: UUID | None = None
    """The current conversation, which gets a written status; null before the first one."""
    created_at: AwareDatetime
    """When the contact was made (server time, UTC)."""
    name: str | None = None
    """The name that staff gave, or else that of the WhatsApp profile."""
    phone: str | None = None
    """The phone number in E.164, such as +38640111222."""
    email: str | None = None
    """One email address."""
    username: str | None = None
    """The person's latest known WhatsApp username, without @."""
    tags: tuple[str, ...]
    """Labels that staff give, at most 100."""
    notes: str | None = None
    """Notes of staff, at most 20,000 characters; customers do not see them."""
    preferences: dict[str, JsonValue]
    """The customer's choices: an object of at most 8 KB."""
    profile_name: str | None = None
    """The name of the person's WhatsApp profile; read-only."""
    marketing_stopped_at: AwareDatetime | None = None
    """Since when the person takes no marketing messages on WhatsApp, by WhatsApp's clock (UTC):
    the person's own choice, read-only.
    """
    portal_user_id: UUID | None = None
    """The login (auth.users) with which the person enters the portal; null without one."""


class ConversationActivity(Record):
    """A row of the table `conversation_activity`. The latest seq and times of each conversation,
    one row for each. Sort the inbox by last_message_at.
    """

    conversation_id: UUID
    """The conversation."""
    account_id: UUID
    """The account of the conversation."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group."""
    last_seq: int
    """The seq of the latest message, 0 before the first. All seqs from 1 to it have existed; the
    first ones may be gone, see accounts.messages_kept_days.
    """
    last_message_at: AwareDatetime
    """When the latest message was sent (messages.sent_at, UTC); before the first message, when
    the conversation was made.
    """
    last_inbound_at: AwareDatetime | None = None
    """When the customer last wrote or called: on WhatsApp by WhatsApp's clock (UTC). It opens
    the 24-hour window.
    """


class ConversationLabel(Row):
    """A row of the table `conversation_labels`. Which conversations have which labels. Written
    by label_conversation and unlabel_conversation.
    """

    conversation_id: UUID
    """The conversation."""
    label_id: UUID
    """The label that it has."""
    created_at: AwareDatetime
    """When it was labelled (server time, UTC)."""


ConversationNoteKind: TypeAlias = Annotated[Literal["note", "event"], AnyWord()]


class ConversationNoteEvent(Record):
    """An object in `event` of `conversation_notes`."""

    event: str
    assignee_id: UUID | None = None
    assignee_name: str | None = None
    former_assignee_id: UUID | None = None
    label_id: UUID | None = None
    label: str | None = None
    snoozed_until: AwareDatetime | None = None
    time: str | None = None


class ConversationNote(Row):
    """A row of the table `conversation_notes`. Notes of staff about a conversation, and its
    events at the desk; no customer reads them. Insert conversation_id, note and mentions; the
    author may change note and mentions, and delete_note deletes.
    """

    conversation_id: UUID
    """The conversation that the note is about."""
    seq: int
    """Counts 1, 2, 3 … in its conversation, apart from the messages."""
    kind: ConversationNoteKind
    """note (a person wrote it) or event (taken, handed over, released, labelled, snoozed)."""
    author_id: UUID | None = None
    """The user who wrote it or did it; null if the system did."""
    author_name: str | None = None
    """The author's name when it was written."""
    note: str
    """The text, 1 to 4,096 characters; an event's is in the account's language. Empty once
    deleted.
    """
    mentions: tuple[UUID, ...] = ()
    """The user ids of the members whom the note mentions, at most 50."""
    event: ConversationNoteEvent | None = None
    """The facts of the event (the assignee, the label, the end of the snooze), for clients that
    write a text of their own; null for a note.
    """
    created_at: AwareDatetime
    """When it was written (server time, UTC)."""
    deleted_at: AwareDatetime | None = None
    """When it was deleted (UTC); its text is gone, its number stays, and nobody reads it any
    more.
    """


ConversationGroupState: TypeAlias = Annotated[Literal["active", "suspended", "deleted"], AnyWord()]


class ConversationParticipant(Record):
    """An object in `participants` of `conversations`."""

    wa_id: str | None
    user_id: str | None
    name: str | None
    is_member: bool
    joined_at: AwareDatetime | None
    left_at: AwareDatetime | None


ConversationStatus: TypeAlias = Annotated[Literal["open", "pending", "closed"], AnyWord()]


class Conversation(Row):
    """A row of the table `conversations`. A conversation with one customer, on WhatsApp, about a
    booking or in the portal, or with a group on WhatsApp.
    """

    customer_id: UUID | None = None
    """The contact that takes part; null for a group."""
    channel: ConversationChannel
    """whatsapp, booking or portal."""
    whatsapp_channel_id: UUID | None = None
    """The account's WhatsApp number that carries the conversation; null on other channels."""
    booking_id: UUID | None = None
    """The job that a booking's conversation is about; null on other channels."""
    thread_key: str
    """Who the customer is on this channel. Of the conversations with one key, one is open at a
    time.
    """
    customer_wa_id: str | None = None
    """The exact WhatsApp id to which replies go; null where WhatsApp has not told one."""
    group_id: str | None = None
    """WhatsApp's id of the group; null for a conversation with one customer."""
    group_name: str | None = None
    """The group's subject; null if WhatsApp has not told it."""
    group_state: ConversationGroupState | None = None
    """active, suspended or deleted; messages go to an active group only. Null for a conversation
    with one customer.
    """
    participants: tuple[ConversationParticipant, ...] = ()
    """The present and former members of the group, as far as WhatsApp has told. A message's
    sender_id is one of the two ids.
    """
    status: ConversationStatus
    """open, pending or closed; written by set_conversation_status and through the contact's
    faces.
    """
    created_at: AwareDatetime
    """When the conversation was made (server time, UTC)."""


class Customer(Row):
    """A row of the table `customers`. A contact, as its customer sees it in the portal. The id
    is the contact's.
    """

    portal_user_id: UUID | None = None
    """The login (auth.users) with which the customer enters the portal; null without one."""
    name: str | None = None
    """The name that staff gave, or else that of the WhatsApp profile."""
    phone: str | None = None
    """The phone number in E.164, such as +38640111222."""
    email: str | None = None
    """One email address."""
    preferences: dict[str, JsonValue] = {}
    """The customer's own choices, written through my_profile. {"wants_reminders": false} ends
    reminders.
    """
    created_at: AwareDatetime
    """When the contact was made (server time, UTC)."""


class DeskState(Row):
    """A row of the table `desk_states`. The state of conversations at the desk: who answers, and
    until when one waits. A conversation without a row is free. No customer reads it.
    """

    assignee_id: UUID | None = None
    """The member who answers; null if the conversation is free. Written by take_conversation,
    hand_over_conversation and release_conversation.
    """
    snoozed_until: AwareDatetime | None = None
    """Until when the conversation waits (UTC); null if it does not."""
    created_at: AwareDatetime
    """When the row was made (server time, UTC)."""


MessageSenderType: TypeAlias = Annotated[Literal["client", "operator", "system"], AnyWord()]

MessageStatus: TypeAlias = Annotated[
    Literal["queued", "sent", "delivered", "read", "failed", "unknown"], AnyWord()
]


class Inbox(Record):
    """A row of the view `inbox`. Conversations, with the columns of a list of them. Filter by
    one account_id, or as a customer by one customer_id. Sort by last_message_at (descending) and
    id. inbox_page finds by assignee, label, snooze and name.
    """

    id: UUID
    """The conversation."""
    account_id: UUID
    """The account of the conversation."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group."""
    channel: ConversationChannel
    """whatsapp, booking or portal."""
    whatsapp_channel_id: UUID | None = None
    """The account's WhatsApp number that carries the conversation; null on other channels."""
    customer_wa_id: str | None = None
    """The exact WhatsApp id to which replies go."""
    group_id: str | None = None
    """WhatsApp's id of the group; null for a conversation with one customer."""
    group_name: str | None = None
    """The group's subject; null if WhatsApp has not told it."""
    participants: tuple[ConversationParticipant, ...]
    """The present and former members of the group; see conversations."""
    status: ConversationStatus
    """open, pending or closed; written by set_conversation_status."""
    customer_name: str | None = None
    """The customer's name: the one that staff gave, or else that of the WhatsApp profile. For a
    group, the name of the group.
    """
    last_seq: int
    """The seq of the latest message; 0 before the first."""
    last_message_at: AwareDatetime
    """When the latest message was sent (UTC); before the first message, when the conversation
    was made.
    """
    last_inbound_at: AwareDatetime | None = None
    """When the customer last wrote or called: on WhatsApp by WhatsApp's clock (UTC)."""
    last_message: str | None = None
    """The text of the latest message, or a placeholder such as [image] or [deleted]."""
    last_message_type: str | None = None
    """The type of the latest message: text, image, location …"""
    last_message_content: JsonValue | None = None
    """The content of the latest message where clients have words of their own for it: a notice
    of the system, a call, audio (is it a voice message?). Null for others.
    """
    last_invoice_data: JsonValue | None = None
    """The invoice of a latest message that is a notice about one; else null. See
    messages.invoice_data.
    """
    last_sender_type: MessageSenderType | None = None
    """Who wrote the latest message: client, operator or system."""
    last_sender_name: str | None = None
    """The name of the person who wrote the latest message."""
    last_message_status: MessageStatus | None = None
    """The status of the latest message: queued, sent, delivered, read, failed or unknown."""
    last_read_seq: int
    """The seq up to which the signed-in user has read; mark_read moves it."""
    unread_count: int
    """How many messages of the other side the signed-in user has not read, without deleted ones;
    100 stands for 100 or more.
    """
    assignee_id: UUID | None = None
    """The member who answers; null if the conversation is free. Customers see null."""
    assignee_name: str | None = None
    """The assignee's name. Customers see null."""
    label_ids: tuple[UUID, ...] | None = None
    """The ids of the conversation's labels; see labels. Customers see none."""
    snoozed_until: AwareDatetime | None = None
    """Until when the conversation waits (UTC); null if it does not. Customers see null."""
    send_later_count: int | None = None
    """How many messages of scheduled_messages wait for their time in this conversation; 100
    stands for 100 or more. Customers see null.
    """
    created_at: AwareDatetime
    """When the conversation was made (server time, UTC)."""
    version: int
    """The conversation's version: rises by 1 with each change of it, but not with a message."""


InvoiceStatus: TypeAlias = Annotated[Literal["draft", "sent", "paid", "overdue", "void"], AnyWord()]


class Invoice(Row):
    """A row of the table `invoices`. Bills to customers. An invoice begins as a draft, and its
    status sends it. A sent invoice can't be deleted: make it void.
    """

    customer_id: UUID
    """The customer: a contact's id. A merged contact stands for the one it was merged into."""
    job_id: UUID | None = None
    """The job that it bills, of the same customer; null for none. The job's chat hears of the
    invoice.
    """
    number: str
    """The business' own invoice number, unique in the account; 1 to 64 characters."""
    status: InvoiceStatus
    """draft, sent, paid, overdue or void. The daily schedule makes a sent invoice overdue once
    due_on has passed.
    """
    currency: str
    """The currency as in ISO 4217, such as EUR."""
    amount_minor: int
    """The total with tax, in minor units: 12050 is 120.50 EUR."""
    tax_minor: int
    """The tax within amount_minor, in the same minor units."""
    description: str | None = None
    """What the invoice is for, as the customer reads it; at most 4,000 characters."""
    issued_on: date | None = None
    """The date of the invoice; if not given, the day on which it is sent."""
    due_on: date | None = None
    """The last day to pay it, in the account's time zone. Without it an invoice never becomes
    overdue.
    """
    sent_at: AwareDatetime | None = None
    """When it was sent and became visible to the customer (UTC); null for a draft. The customer
    hears it through postgres_changes as an UPDATE whose old sent_at is null, and as the broadcast
    invoices.inserted.
    """
    paid_at: AwareDatetime | None = None
    """When its status became paid (server time, UTC); null until then."""
    voided_at: AwareDatetime | None = None
    """When its status became void (server time, UTC); null until then."""
    created_at: AwareDatetime
    """When the draft was made (server time, UTC)."""


JobStatus: TypeAlias = Annotated[
    Literal["scheduled", "rescheduled", "in_progress", "completed", "cancelled"], AnyWord()
]


class Job(Row):
    """A row of the table `jobs`. Appointments, which customers book. Insert and update them as
    in any table. A job is cancelled, never deleted.
    """

    customer_id: UUID
    """The customer: a contact's id. A merged contact stands for the one it was merged into."""
    service_type: str
    """The service, in the business' own words; 1 to 200 characters."""
    status: JobStatus
    """scheduled, rescheduled, in_progress, completed or cancelled; it only moves forward.
    Another time makes it rescheduled.
    """
    starts_at: AwareDatetime
    """When it starts (UTC)."""
    ends_at: AwareDatetime | None = None
    """When it ends (UTC); null where that is open."""
    address: str | None = None
    """Where it takes place; at most 500 characters."""
    description: str | None = None
    """What the customer should know; at most 4,000 characters. The customer reads all of a job."""
    created_at: AwareDatetime
    """When the job was made (server time, UTC)."""


class Label(Row):
    """A row of the table `labels`. The labels that an account's team puts on conversations.
    Insert, update and delete them as in any table.
    """

    name: str
    """The text that people read, 1 to 64 characters, unique in the account."""
    colour: str
    """The colour in which it is shown: # and six hexadecimal digits in lower case."""
    created_at: AwareDatetime
    """When the label was made (server time, UTC)."""


class LoyaltyBalance(Record):
    """A row of the table `loyalty_balances`. A customer's balance of points. No row means none."""

    customer_id: UUID
    """The customer: a contact's id."""
    account_id: UUID
    """The customer's account."""
    points: int
    """The sum of the customer's loyalty_transactions. Points past expires_on count until the
    daily schedule writes them off.
    """
    updated_at: AwareDatetime
    """When the balance last changed (server time, UTC)."""


LoyaltyTransactionType: TypeAlias = Annotated[
    Literal["earned", "redeemed", "bonus", "expired"], AnyWord()
]


class LoyaltyTransaction(Row):
    """A row of the table `loyalty_transactions`. A customer's points, line by line. Insert a
    line to give points (earned, bonus) or to take them (redeemed). A line never changes, and the
    balance never goes below zero (409).
    """

    customer_id: UUID
    """The customer: a contact's id. A merged contact stands for the one it was merged into."""
    type: LoyaltyTransactionType
    """earned, bonus or redeemed. Only the daily schedule writes expired."""
    points: int
    """The number of points: positive for earned and bonus, negative for redeemed and expired."""
    description: str | None = None
    """The reason, as the customer reads it; at most 500 characters."""
    expires_on: date | None = None
    """The last day on which these points may be redeemed, in the account's time zone; null if
    they never expire.
    """
    created_at: AwareDatetime
    """When the line was written (server time, UTC)."""


MessageMediaState: TypeAlias = Annotated[
    Literal["pending", "stored", "failed", "expired"], AnyWord()
]


class MessageMedia(Row):
    """A row of the table `message_media`. The files of messages, at most one for each message.
    GET /api/messages/{message_id}/media returns the address of the file.
    """

    conversation_id: UUID
    """The conversation."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group."""
    message_id: UUID
    """The message to which the file belongs."""
    provider_id: str | None = None
    """WhatsApp's id of the file. WhatsApp keeps the file for 7 days after the message."""
    mime_type: str | None = None
    """The media type, such as image/jpeg, as the sender says. Check the file before you show it
    by this type.
    """
    file_name: str | None = None
    """The file's name, as the sender says; null where there is none."""
    size: int | None = None
    """The size in bytes; null until the file is stored."""
    sha256: str | None = None
    """The SHA-256 of the file in hex. A stored file has been checked against it."""
    object_key: str
    """The file's key in the bucket, under the account's own prefix. GET
    /api/messages/{message_id}/media gives an address.
    """
    state: MessageMediaState
    """pending: it is being fetched; stored: it can be read; failed: refetch_media tries again;
    expired: WhatsApp no longer has it, the sender deleted it, or the account keeps files for a time
    only.
    """
    error: str | None = None
    """Why it failed or expired, in a sentence; null otherwise."""
    stored_at: AwareDatetime | None = None
    """When the file was stored (server time, UTC); null until then."""
    created_at: AwareDatetime
    """When the message brought the file (server time, UTC)."""


class MessageReaction(Record):
    """An object in `reactions` of `messages`."""

    sender_type: MessageSenderType
    sender_id: str | None
    emoji: str
    at: AwareDatetime


class MessageInvoiceData(Record):
    """An object in `invoice_data` of `messages`."""

    invoice_id: UUID
    number: str
    amount_minor: int
    currency: str
    status: InvoiceStatus
    due_on: date | None


class Message(Row):
    """A row of the table `messages`. The messages of conversations, in both directions, with
    their status.
    """

    conversation_id: UUID
    """The conversation."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group."""
    booking_id: UUID | None = None
    """The job that the conversation is about; null on other channels."""
    seq: int
    """The message's number in its conversation: 1, 2, 3 … without a gap, in the order of
    arrival, in which they are shown; the first ones may have been deleted
    (accounts.messages_kept_days). The time and day to show is sent_at.
    """
    sender_type: MessageSenderType
    """Who wrote: client (the customer), operator (staff) or system."""
    sender_id: str | None = None
    """The writer: a user's id, or the WhatsApp id or user id of a person on WhatsApp; null for
    the system.
    """
    sender_name: str | None = None
    """The writer's name when the message was written."""
    type: str
    """text, image, location … as WhatsApp names it; system for notices."""
    message: str
    """The text; for a type without text a placeholder, such as [image]."""
    content: JsonValue | None = None
    """The provider's object for the type; null for plain text. For a notice: {event, …}."""
    reply_to: UUID | None = None
    """The message that this one answers."""
    client_ref: str | None = None
    """The sender's own id of the message, at most 128 characters, unique for each sender. A
    repeated send stays one message.
    """
    whatsapp_channel_id: UUID | None = None
    """The account's WhatsApp number of the conversation; null on other channels."""
    provider_id: str | None = None
    """WhatsApp's id of the message; null before WhatsApp has accepted it, and on other channels."""
    is_history: bool = False
    """Whether the message comes from the phone app's history, from before the number came here.
    It is never unread and opens no window.
    """
    status: MessageStatus
    """queued, sent, delivered, read, failed or unknown (WhatsApp has not answered)."""
    error_code: int | None = None
    """The error code of a failed message."""
    error_message: str | None = None
    """A sentence that says why the message failed."""
    reactions: tuple[MessageReaction, ...] = ()
    """The latest reaction of each person; sender_id is null outside groups."""
    has_invoice: bool = False
    """Whether the message shows an invoice."""
    invoice_data: MessageInvoiceData | None = None
    """The invoice that the message shows, as it was then. amount_minor is in minor units, such
    as cents.
    """
    sent_at: AwareDatetime | None = None
    """When the message was sent (UTC): by WhatsApp's clock, or when it was written here."""
    delivered_at: AwareDatetime | None = None
    """When the message was delivered (UTC): on WhatsApp by WhatsApp's clock."""
    read_at: AwareDatetime | None = None
    """When the receiver read the message (UTC): on WhatsApp by WhatsApp's clock."""
    failed_at: AwareDatetime | None = None
    """When the message failed (UTC)."""
    edited_at: AwareDatetime | None = None
    """When the sender last edited the message (UTC); message and content are the edited ones."""
    revoked_at: AwareDatetime | None = None
    """When the sender deleted the message for everybody (UTC). message is empty and content
    null; the row and its seq stay.
    """
    created_at: AwareDatetime
    """When the row was inserted (server time, UTC)."""


MetakockaConnectionConflictRule: TypeAlias = Annotated[
    Literal["crm", "metakocka", "newest", "ask"], AnyWord()
]

MetakockaConnectionListing: TypeAlias = Annotated[Literal["all", "documents"], AnyWord()]


class MetakockaConnectionRetriesRead(Record):
    """An object in `read` of MetakockaConnectionRetries."""

    attempts: int
    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetriesList(Record):
    """An object in `list` of MetakockaConnectionRetries."""

    attempts: int
    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetriesWrite(Record):
    """An object in `write` of MetakockaConnectionRetries."""

    attempts: int
    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetriesCreate(Record):
    """An object in `create` of MetakockaConnectionRetries."""

    attempts: int
    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetriesContact(Record):
    """An object in `contact` of MetakockaConnectionRetries."""

    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetriesPause(Record):
    """An object in `pause` of MetakockaConnectionRetries."""

    first_wait: float
    longest_wait: float
    jitter: float


class MetakockaConnectionRetries(Record):
    """An object in `retries` of `metakocka_connections`."""

    read: MetakockaConnectionRetriesRead
    list: MetakockaConnectionRetriesList
    write: MetakockaConnectionRetriesWrite
    create: MetakockaConnectionRetriesCreate
    contact: MetakockaConnectionRetriesContact
    pause: MetakockaConnectionRetriesPause


class MetakockaConnection(Record):
    """A row of the table `metakocka_connections`. An account's connection to its company at
    Metakocka. The secret key is not here. For owners and admins.
    """

    account_id: UUID
    """The connected account; filled in if you write for one account."""
    company_id: str
    """The company's id at Metakocka. It can't change once contacts are partners of this company
    (409), and it can't be a company that another account is connected to (409).
    """
    base_url: str | None = None
    """The address of a company with a server of its own; null for
    https://main.metakocka.si/rest/eshop/v1.
    """
    user_id: UUID | None = None
    """The user who connected the account."""
    active: bool = True
    """Whether the account is synchronized. Known contacts that change while it is false are sent
    once it is true again.
    """
    conflict_rule: MetakockaConnectionConflictRule
    """The side whose value wins where both sides have changed a field: crm, metakocka or newest;
    ask leaves it to a person (sync_conflicts).
    """
    listing: MetakockaConnectionListing
    """How partners are found. all: list and compare every partner; documents: only the partners
    of changed documents.
    """
    sync_interval: str
    """How often partners are read. Contacts that change are sent at once."""
    request_wait: str
    """How long a request waits for a running run of the account to end: 0 to 12 seconds."""
    retries: MetakockaConnectionRetries
    """How often a call is tried, and the waits in between, for each kind of operation. contact
    is for a contact that failed, and pause for an account whose company takes no calls. Waits are
    in seconds and double from try to try. jitter is the random part of a wait, from 0 to 1. A write
    may name only some settings; the others stay as they are.
    """
    pauses: int
    """The number of pauses in a row. Each is longer than the one before."""
    paused_until: AwareDatetime | None = None
    """Until when no calls are made (UTC), because of a quota or a key that Metakocka does not
    accept; null if there is no pause. Set it to null to try at once.
    """
    pause_reason: str | None = None
    """The reason of the pause, in a sentence; null if there is no pause."""
    documents_seen_until: AwareDatetime | None = None
    """Up to when documents have been read for their partners (UTC)."""
    created_at: AwareDatetime
    """When the account was connected (server time, UTC)."""
    updated_at: AwareDatetime
    """When the row last changed (server time, UTC)."""
    version: int
    """Rises by 1 with each change of the row."""


MetakockaContactMappingState: TypeAlias = Annotated[
    Literal["synced", "waiting", "conflict", "blocked", "unknown", "unlinked"], AnyWord()
]


class MetakockaContactMapping(Record):
    """A row of the table `metakocka_contact_mappings`. The partner of each contact at Metakocka,
    and the state on which both sides last agreed.
    """

    contact_id: UUID
    """The contact."""
    account_id: UUID
    """The contact's account."""
    metakocka_id: str | None = None
    """The partner's mk_id; null while Metakocka does not have the contact."""
    not_partners: tuple[str, ...] = ()
    """The mk_ids of partners that, as a person has said, are not this contact. The sync never
    takes one of them for it again.
    """
    state: MetakockaContactMappingState
    """synced; waiting: to be sent or checked; conflict: a person must decide (sync_conflicts);
    blocked: it can't be sent because fields are missing or the contact is deleted; unknown: the
    partner may have been made, and the sync is checking; unlinked: a person wants no partner for
    it, and only a request sends it.
    """
    missing: tuple[str, ...] = ()
    """The fields that Metakocka requires and the contact lacks."""
    base: JsonValue | None = None
    """The fields as both sides last agreed on them. A side that differs from them has changed
    since. Null before the first agreement.
    """
    base_version: int | None = None
    """The contact's version at the last agreement."""
    partner_hash: str | None = None
    """A digest of the partner as it was last seen."""
    user_id: UUID | None = None
    """The user who connected the account, or asked for the sync that wrote this row."""
    seen_at: AwareDatetime | None = None
    """When the partner was last seen in its agreed state (UTC): a difference in it now was
    edited later. While nothing waits to be sent, the partner may have been seen later than this.
    """
    last_synced_at: AwareDatetime | None = None
    """When both sides last agreed on something new (UTC)."""
    created_at: AwareDatetime
    """When the mapping was made (server time, UTC)."""
    updated_at: AwareDatetime
    """When the row last changed (server time, UTC)."""
    version: int
    """Rises by 1 with each change of the row."""


MetakockaPartnerConversationStatus: TypeAlias = Annotated[Literal["O", "P", "C"], AnyWord()]


class MetakockaPartner(Row):
    """A row of the view `metakocka_partners`. Contacts as Metakocka has partners, with the state
    of their sync. Write any field of a partner, or conversation_status. A write that hits no row is
    refused (404), and so is one with an old version (409).
    """

    conversation_status: MetakockaPartnerConversationStatus
    """O (open), P (pending) or C (closed): the status of the current conversation, the latest
    active one; before the first conversation the contact's own.
    """
    metakocka_id: str | None = None
    """The partner's mk_id; null while Metakocka does not have the contact."""
    sync_state: MetakockaContactMappingState | None = None
    """The state as in metakocka_contact_mappings; null where the sync has never seen the
    contact.
    """
    missing: tuple[str, ...] | None = None
    """The fields that Metakocka requires and the contact lacks."""
    last_synced_at: AwareDatetime | None = None
    """When both sides last agreed on something new (UTC)."""
    created_at: AwareDatetime
    """When the contact was made (server time, UTC)."""
    name: str | None = None
    """The name that staff gave. The name of a WhatsApp profile is not sent."""
    phone: str | None = None
    """The phone number in E.164, such as +38640111222."""
    email: str | None = None
    """One email address."""
    gsm: str | None = None
    """The mobile number; in E.164 where it could be read as one."""
    fax: str | None = None
    """The fax number."""
    business_entity: bool | None = None
    """Whether the contact is a business and not a private person; null is unknown."""
    taxpayer: bool | None = None
    """Whether the contact is liable for VAT; null is unknown."""
    foreign_county: bool | None = None
    """Whether the contact's country is a foreign one (Metakocka's spelling); null is unknown."""
    buyer: bool | None = None
    """Whether the contact buys from the account; null is unknown."""
    supplier: bool | None = None
    """Whether the contact supplies the account; null is unknown."""
    tax_id_number: str | None = None
    """The tax number, with or without the country code."""
    registration_number: str | None = None
    """The number in the register of companies."""
    street: str | None = None
    """Street and house number of the main address."""
    post_number: str | None = None
    """The postal code of the main address."""
    place: str | None = None
    """The town of the main address."""
    province: str | None = None
    """The province of the main address."""
    country: str | None = None
    """The country of the main address, as Metakocka writes it."""
    people: tuple[dict[str, JsonValue], ...]
    """Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}."""
    addresses: tuple[dict[str, JsonValue], ...]
    """Further addresses: {mk_id, address_type, street, post_number, city, province, country}."""


class MyProfile(Row):
    """A row of the view `my_profile`. Your own contact, with one row for each business whose
    customer you are. Write name, phone, email and preferences, one row at a time. A write that hits
    no row is refused (404), and so is one with an old version (409).
    """

    account_name: str | None = None
    """The name of the business."""
    account_country: str | None = None
    """The country of the business by ISO 3166-1, such as SI, in which phone numbers without a
    country code are read; null is unknown.
    """
    account_time_zone: str | None = None
    """The IANA time zone of the business, in which its appointments, due dates and notices are."""
    name: str | None = None
    """Your name; staff see it and may change it too. At most 200 characters."""
    phone: str | None = None
    """Your phone number in E.164, such as +38640111222. Messages from WhatsApp are still
    recognised by the number that they come from.
    """
    email: str | None = None
    """Your email address."""
    preferences: dict[str, JsonValue]
    """Your own choices, an object of at most 8 KB. A write replaces all of it.
    {"wants_reminders": false} ends reminders.
    """


NotificationChoiceKind: TypeAlias = Annotated[
    Literal["message", "mention", "assigned", "appointment", "invoice", "points"], AnyWord()
]


class NotificationChoice(Record):
    """A row of the table `notification_choices`. Which kinds of notifications the signed-in user
    has chosen or refused, by choose_notifications. A kind without a row is wanted.
    """

    user_id: UUID
    """The user: the signed-in one."""
    kind: NotificationChoiceKind
    """message, mention, assigned, appointment, invoice or points."""
    is_wanted: bool
    """Whether the user wants to be told of this kind."""
    updated_at: AwareDatetime
    """When the user chose (server time, UTC)."""


class OpenSuggestion(Record):
    """A row of the view `open_suggestions`. The suggestions that wait for a decision, with both
    names; suggestions about a deleted contact are left out.
    """

    id: UUID
    """Identifies the suggestion; dismiss_suggestion takes it."""
    account_id: UUID
    """The account of both contacts."""
    contact_id: UUID
    """One of the two contacts: the one with the lesser id."""
    name: str | None = None
    """The name of the first contact."""
    other_contact_id: UUID
    """The other contact."""
    other_name: str | None = None
    """The name of the other contact."""
    reason: ContactSuggestionReason
    """same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row
    (of an imported file) or same_partner (of the ERP).
    """
    evidence: dict[str, JsonValue]
    """The evidence that both are one person, for the member who decides: phone, email, name …"""
    created_at: AwareDatetime
    """When the suggestion was made (server time, UTC)."""


class PortalInvitation(Record):
    """A row of the table `portal_invitations`. Invitations of contacts to the portal. One is
    open until claimed_at, revoked_at or expires_at. invite_to_portal makes them.
    """

    id: UUID
    """Identifies the invitation; revoke_invitation takes it."""
    account_id: UUID
    """The account of the contact."""
    contact_id: UUID
    """The invited contact. If it has been merged since, the kept contact gets the login."""
    created_by: UUID | None = None
    """The member who invited; null once that login is deleted."""
    claimed_by: UUID | None = None
    """The login that claimed it; null until then, and once that login is deleted."""
    created_at: AwareDatetime
    """When it was made (server time, UTC)."""
    expires_at: AwareDatetime
    """Until when it can be claimed (UTC)."""
    claimed_at: AwareDatetime | None = None
    """When it was claimed (UTC); null until then."""
    revoked_at: AwareDatetime | None = None
    """When it was revoked (UTC); null until then. A later invitation of the contact revokes it
    too.
    """


PrivacyActionAction: TypeAlias = Annotated[Literal["export", "erase", "hold", "release"], AnyWord()]

PrivacyActionState: TypeAlias = Annotated[Literal["running", "done"], AnyWord()]


class PrivacyActionRemaining(Record):
    """An object in `remaining` of `privacy_actions`."""

    table: str
    id: str
    kinds: tuple[str, ...]


class PrivacyAction(Record):
    """A row of the table `privacy_actions`. Exports and erasures of people's data, and legal
    holds: who, when, which contact, counts. No words of the people. For owners.
    """

    id: UUID
    """Identifies the action."""
    account_id: UUID
    """The account whose contact it is."""
    contact_id: UUID
    """The contact; of a merged one, the contact into which it was merged."""
    action: PrivacyActionAction
    """export, erase, hold or release."""
    user_id: UUID | None = None
    """The owner who asked (auth.users); null for the people who run the service."""
    state: PrivacyActionState
    """running: an erasure that is not finished; the schedule goes on with it. done otherwise."""
    counts: dict[str, int] = {}
    """Of an erasure: how many rows of each table went or changed, and how many files were
    removed.
    """
    remaining: tuple[PrivacyActionRemaining, ...] = ()
    """Of an erasure: the rows of others in which words of the person were found at its end, at
    most 200, such as a message that quotes the name. They stay, for a person to judge.
    """
    created_at: AwareDatetime
    """When it was asked for (server time, UTC)."""
    finished_at: AwareDatetime | None = None
    """When it was finished (server time, UTC); null while it runs."""


class PushSubscription(Record):
    """A row of the table `push_subscriptions`. The devices on which the signed-in user is told;
    written by save_push_subscription and delete_push_subscription. At most 20 of a user, the
    latest.
    """

    id: UUID
    """Identifies the subscription."""
    user_id: UUID
    """The user who is signed in on the device."""
    endpoint: str
    """The address at the push service, as the browser gave it."""
    p256dh: str
    """The device's public key (P-256), in base64url."""
    auth: str
    """The device's secret for encryption, in base64url."""
    not_before: AwareDatetime
    """Until then nothing is sent to this device, since its push service asked for a pause
    (server time, UTC).
    """
    failures: int
    """How many tries in a row have failed. After 100, which take four days, the subscription is
    forgotten.
    """
    created_at: AwareDatetime
    """When the device was added (server time, UTC)."""


class ReadMarker(Record):
    """A row of the table `read_markers`. How far the signed-in user has read each conversation;
    moved by mark_read.
    """

    conversation_id: UUID
    """The conversation."""
    user_id: UUID
    """The reader: the signed-in user."""
    account_id: UUID
    """The account of the conversation."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group."""
    last_read_seq: int
    """The seq of the latest message that the user has read; 0 for none."""
    read_at: AwareDatetime
    """When the marker last moved (server time, UTC)."""


class RejectedWebhook(Record):
    """A row of the view `rejected_webhooks`. Webhooks of a WhatsApp Business account that could
    not be applied, by number and reason. For the owners and admins of the account of its number, or
    else of the only account that names it (whatsapp_channels.waba_id). A row disappears when
    rapport replay has applied its webhooks.
    """

    account_id: UUID | None = None
    """The account of the number, or the one that names the WhatsApp Business account."""
    waba_id: str | None = None
    """Meta's id of the WhatsApp Business account that the webhooks are about; null where they
    name none.
    """
    phone_number_id: str | None = None
    """The number, by WhatsApp's id; null where the webhook names none."""
    reason: str | None = None
    """Why they could not be applied: unknown_phone_number_id, unknown_account, unhandled_field
    or another reason.
    """
    remedy: str | None = None
    """The remedy, in a sentence."""
    webhooks: int | None = None
    """The number of webhooks with such updates."""
    updates: int | None = None
    """The number of such updates: messages, statuses and so on."""
    first_received_at: AwareDatetime | None = None
    """When the first of them arrived (UTC)."""
    last_received_at: AwareDatetime | None = None
    """When the last of them arrived, or arrived again (UTC)."""


ReminderRuleKind: TypeAlias = Annotated[
    Literal[
        "before_appointment",
        "after_job",
        "invoice_due_in",
        "invoice_overdue_by",
        "points_expire_in",
    ],
    AnyWord(),
]


class ReminderRule(Row):
    """A row of the table `reminder_rules`. The rules by which customers are reminded of
    appointments, invoices and points. Owners and admins write them; try_reminder_rule says what a
    rule would have sent, upcoming_reminders what will be sent.
    """

    name: str
    """What the rule is called; 1 to 200 characters."""
    kind: ReminderRuleKind
    """before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in."""
    minutes: int | None = None
    """Minutes before a job starts (5 to 525,600), or after a completed job's end (from 0); null
    for the kinds that count days.
    """
    days: int | None = None
    """Days before the last day for payment or of the points, or after it (0, or for
    invoice_overdue_by 1, to 365); null for the kinds that count minutes.
    """
    time_of_day: time
    """At which time of that day the kinds that count days remind, in the account's time zone."""
    template: dict[str, JsonValue] | None = None
    """The template on WhatsApp: {name, language, variables}. The variables' texts may hold
    {{contact.name}}, {{appointment.time}} and the other variables of saved replies.
    """
    whatsapp_channel_id: UUID | None = None
    """The account's WhatsApp number that sends the template; its only number if none is given."""
    text: str | None = None
    """The message in the portal, for customers with a login whom the template does not reach;
    with the same variables.
    """
    is_active: bool = True
    """Whether the rule reminds at present."""
    active_since: AwareDatetime
    """Since when the rule stands as it does (UTC): it sends nothing that was due before."""
    created_at: AwareDatetime
    """When the rule was made (server time, UTC)."""


class SavedReply(Row):
    """A row of the table `saved_replies`. Replies that a team writes often. Insert, update and
    delete them as in any table; fill_saved_reply fills one for a conversation.
    """

    short_code: str
    """The code that people type to find it: 1 to 32 small letters, digits, hyphens and
    underscores, unique in the account.
    """
    title: str | None = None
    """The title that people read in the list; at most 200 characters."""
    text: str
    """The reply, 1 to 4,096 characters, with variables: {{contact.name}}, {{appointment.time}},
    {{appointment.service}}, {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}},
    {{points.total}}, {{agent.name}}, {{account.name}}.
    """
    created_at: AwareDatetime
    """When the reply was made (server time, UTC)."""


ScheduledMessageStatus: TypeAlias = Annotated[
    Literal["waiting", "sent", "cancelled", "failed"], AnyWord()
]


class ScheduledMessage(Row):
    """A row of the table `scheduled_messages`. Messages that are sent later. Insert one with its
    conversation_id and send_at, or with a customer_id and a template, which opens the conversation
    on WhatsApp if there is none; update it, or set its status to cancelled, while it waits.
    Customers see none of it. The message that is sent has the same id.
    """

    conversation_id: UUID
    """The conversation in which it will be sent."""
    customer_id: UUID | None = None
    """The contact of the conversation; null for a group. If given in place of conversation_id,
    it means the customer's conversation on WhatsApp.
    """
    author_id: UUID
    """The member who wrote it or last changed what it says, and in whose name it is sent. Who
    moves it to another time does not become its author.
    """
    author_name: str
    """The author's name when it was written or last changed."""
    type: str
    """As of messages: text, image, template …"""
    message: str
    """The text, as of messages."""
    content: dict[str, JsonValue] | None = None
    """The provider's object for the type; null for plain text."""
    reply_to: UUID | None = None
    """The message that this one answers."""
    template: dict[str, JsonValue] | None = None
    """What is sent instead if WhatsApp's window is closed at that time: {name, language,
    variables}, as the content of a message of type template. Needed unless the window will be open.
    """
    wanted_at: AwareDatetime
    """The send_at that was given (UTC). It differs from send_at if it lies in the account's
    quiet hours.
    """
    send_at: AwareDatetime
    """When it is sent (UTC), within a year. A time in the quiet hours becomes their end."""
    status: ScheduledMessageStatus
    """waiting, sent, cancelled or failed. A user writes cancelled only."""
    error_message: str | None = None
    """A sentence that says why it failed; null otherwise."""
    due_at: AwareDatetime | None = None
    """When the worker looks at it next (UTC)."""
    created_at: AwareDatetime
    """When it was written (server time, UTC)."""


class WhatsappTemplateVariables(Record):
    """An object in `variables` of `whatsapp_templates`."""

    header: tuple[str, ...] | None = None
    body: tuple[str, ...] | None = None
    buttons: tuple[str, ...] | None = None


class SendableTemplate(Record):
    """A row of the view `sendable_templates`. Templates that can be sent now, with the number of
    variables in each part.
    """

    id: UUID
    """Identifies the template in this account."""
    account_id: UUID
    """The account that can send it."""
    waba_id: str
    """Meta's id of the WhatsApp Business account that owns the template."""
    name: str
    """The template's name; a message gives it in content.name."""
    language: str
    """The language code, such as sl or en_US; a message gives it in content.language."""
    category: str
    """WhatsApp's word: MARKETING, UTILITY or AUTHENTICATION."""
    components: JsonValue
    """Header, body, footer and buttons, as WhatsApp describes them."""
    variables: WhatsappTemplateVariables
    """The names of the variables to fill; a message gives them in content.variables."""
    header_variables: int | None = None
    """The number of variables in the header."""
    body_variables: int | None = None
    """The number of variables in the body."""
    button_variables: int | None = None
    """The number of variables in the buttons."""


StatusWordFace: TypeAlias = Annotated[
    Literal["contacts_page", "live_chat", "wati", "portal", "erp"], AnyWord()
]

StatusWordStatus: TypeAlias = Annotated[Literal["open", "pending", "closed"], AnyWord()]


class StatusWord(Record):
    """A row of the table `status_words`. The words of each face for a conversation's status:
    contacts page, live chat, WATI-style clients, portal, ERP.
    """

    face: StatusWordFace
    """contacts_page, live_chat, wati, portal or erp."""
    status: StatusWordStatus
    """The status of a conversation: open, pending or closed."""
    word: str
    """The word of the face for this status, with exact case."""


SyncConflictState: TypeAlias = Annotated[Literal["open", "resolved"], AnyWord()]

SyncConflictDecidedBy: TypeAlias = Annotated[
    Literal["crm", "metakocka", "newest", "person", "both"], AnyWord()
]


class SyncConflict(Record):
    """A row of the table `sync_conflicts`. Fields that both sides have changed, and contacts or
    partners that the sync can't identify. resolve_sync_conflict decides them.
    """

    id: UUID
    """Identifies the conflict; resolve_sync_conflict takes it."""
    account_id: UUID
    """The account of the contacts."""
    contact_id: UUID | None = None
    """The contact; null while the question is which contact the partner is."""
    metakocka_id: str | None = None
    """The partner. Where the question is which partner a contact is: its present partner or the
    one that is gone; null if it has none.
    """
    field: str | None = None
    """The field that both sides have changed; within a list for example
    people.228000046630.email. Null for other questions.
    """
    base: JsonValue | None = None
    """The field's value at the last agreement; null for other questions."""
    crm: JsonValue | None = None
    """The contact's value when the conflict was last seen; null for other questions."""
    metakocka: JsonValue | None = None
    """The partner's value; where the question is which contact the partner is, the partner
    itself.
    """
    partners: JsonValue | None = None
    """The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other
    questions.
    """
    question: str | None = None
    """field: which value wins; contact: which contact the partner is; partner: which partner the
    contact is.
    """
    candidates: tuple[UUID, ...] = ()
    """The ids of the contacts that may be the partner."""
    state: SyncConflictState
    """open or resolved."""
    choice: str | None = None
    """The decision: crm or metakocka; the id of a contact or a partner; new; unlink; or agreed
    where both sides came to the same value. Null while it is open.
    """
    decided_by: SyncConflictDecidedBy | None = None
    """Who decided: a rule of the connection (crm, metakocka, newest), a person, or both sides.
    Null while it is open.
    """
    resolved_by: UUID | None = None
    """The person who decided; null where no person did."""
    resolved_at: AwareDatetime | None = None
    """When it was decided (server time, UTC); null while it is open."""
    created_at: AwareDatetime
    """When the question came up (server time, UTC)."""


class SyncError(Record):
    """A row of the table `sync_errors`. Errors of the sync with their context. For owners and
    admins.
    """

    id: UUID
    """Identifies the error."""
    account_id: UUID
    """The account of the sync."""
    run_id: UUID | None = None
    """The run in which it happened; null outside of runs, and once the run is deleted."""
    contact_id: UUID | None = None
    """The contact that it is about; null where there is none."""
    metakocka_id: str | None = None
    """The partner's mk_id, or batch for an error about several partners."""
    user_id: UUID | None = None
    """The user who asked for the sync, or connected the account; null where none is known."""
    category: str
    """Always SYNC."""
    operation: str
    """The operation, such as syncContactToMetakocka."""
    code: str
    """The kind of error, as the code names it."""
    message: str
    """The error, in a sentence."""
    details: JsonValue
    """More facts about the error. Never a request's body, since that holds the secret key."""
    attempts: int
    """The number of tries."""
    created_at: AwareDatetime
    """When it happened (server time, UTC)."""


SyncRunDirection: TypeAlias = Annotated[
    Literal["to_metakocka", "from_metakocka", "both"], AnyWord()
]

SyncRunTrigger: TypeAlias = Annotated[Literal["schedule", "wake", "user", "cli"], AnyWord()]


class SyncRunRequest(Record):
    """An object in `request` of `sync_runs`."""

    contact_ids: tuple[UUID, ...] | None = None
    metakocka_ids: tuple[str, ...] | None = None


SyncRunState: TypeAlias = Annotated[
    Literal["queued", "running", "stopped", "done", "failed"], AnyWord()
]


class SyncRun(Row):
    """A row of the table `sync_runs`. Runs of the sync with Metakocka, with their progress."""

    user_id: UUID | None = None
    """The user who asked for it; null for runs of the schedule and of changed contacts."""
    direction: SyncRunDirection
    """to_metakocka, from_metakocka or both."""
    trigger: SyncRunTrigger
    """The cause of the run: the schedule, a changed contact (wake), a user, or the command line."""
    request: SyncRunRequest | None = None
    """The request of the user: some contacts, some partners, or everything if it names neither."""
    state: SyncRunState
    """queued: waits to begin; running; stopped: its time was over, or Metakocka takes no calls
    until resumes_at, and the next run continues it; done; failed.
    """
    total: int | None = None
    """The number of contacts or partners to check; null while it is not known."""
    done: int
    """The number that has been checked: succeeded, failed, unchanged and waiting together."""
    succeeded: int
    """The number that were made or changed on either side."""
    failed: int
    """The number that failed; sync_errors says why."""
    unchanged: int
    """The number without a difference."""
    errors: dict[str, int] = {}
    """The number of errors of each kind."""
    cursor: JsonValue | None = None
    """Where the next run continues; for the sync only."""
    quiet: bool | None = None
    """Whether contacts are written without an event for each. One resync at the end tells
    clients to read again.
    """
    waiting: int | None = None
    """The number that wait: for a person (sync_conflicts), or for another try."""
    started_at: AwareDatetime | None = None
    """When the run first began (server time, UTC); null while it is queued."""
    finished_at: AwareDatetime | None = None
    """When the run ended (server time, UTC); null until then."""
    duration_ms: int | None = None
    """The time from begin to end, in milliseconds; null until it ends."""
    resumes_at: AwareDatetime | None = None
    """When the run continues (UTC), because Metakocka takes no calls before; null otherwise."""
    created_at: AwareDatetime
    """When the run was queued or began (server time, UTC)."""


class WhatsappChannel(Record):
    """A row of the table `whatsapp_channels`. A WhatsApp number of an account, by Meta's
    phone_number_id.
    """

    id: UUID
    """Identifies the number; conversations and messages name it as whatsapp_channel_id."""
    account_id: UUID
    """The account that owns the number."""
    phone_number_id: str
    """Meta's id of the number. It belongs to one account only."""
    waba_id: str | None = None
    """Meta's id of the WhatsApp Business account that owns the number and its templates; null is
    unknown.
    """
    display_phone_number: str
    """The number as people write it."""
    name: str
    """The name of the number, for staff."""
    messages_per_second: int
    """How many messages a second WhatsApp accepts from this number: 80, 1,000 after an upgrade,
    20 if the phone app uses it too.
    """
    stopped_at: AwareDatetime | None = None
    """Since when nothing is sent from this number (server time, UTC); null while it sends.
    resume_channel starts it again.
    """
    stopped_code: int | None = None
    """WhatsApp's error code that stopped the number; null while it sends."""
    stopped_reason: str | None = None
    """A sentence that says why the number is stopped; null while it sends."""
    paused_at: AwareDatetime | None = None
    """Since when a person has nothing sent from this number (server time, UTC); null while it
    sends. See pause_sending and resume_sending.
    """
    created_at: AwareDatetime
    """When the number was added (server time, UTC)."""


class WhatsappTemplate(Record):
    """A row of the table `whatsapp_templates`. The message templates of an account's WhatsApp
    Business accounts, as last read from WhatsApp or reported by its webhooks.
    """

    id: UUID
    """Identifies the template in this account."""
    account_id: UUID
    """The account that can send it."""
    waba_id: str
    """Meta's id of the WhatsApp Business account that owns the template."""
    name: str
    """The template's name at WhatsApp; messages name it in content.name."""
    language: str
    """The language code, such as sl or en_US; messages name it in content.language."""
    category: str
    """WhatsApp's word: MARKETING, UTILITY or AUTHENTICATION."""
    status: str
    """WhatsApp's word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED or another one."""
    components: JsonValue
    """Header, body, footer and buttons, as WhatsApp describes them."""
    variables: WhatsappTemplateVariables
    """The names of the variables to fill. A name is for example body.1, header.image or
    buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them.
    header.image, header.video, header.document and header.location take an object, as in a message
    of that type.
    """
    status_at: AwareDatetime | None = None
    """The time of the known status, by WhatsApp's clock (UTC)."""
    category_at: AwareDatetime | None = None
    """The time of the known category, by WhatsApp's clock (UTC)."""
    gone_at: AwareDatetime | None = None
    """Since when WhatsApp no longer lists it (UTC); null while it does."""
    synced_at: AwareDatetime | None = None
    """When WhatsApp last listed it (UTC); null where only a webhook has reported it, and no
    reading has yet.
    """


class AuthorizeSyncAnswer(Record):
    """What `authorize_sync` answers. Whether you may synchronize these contacts. For owners and
    admins of a connected account. Without account_id the account of the contacts counts, or the
    only one that you administer.
    """

    account_id: UUID
    user_id: UUID
    contact_ids: tuple[UUID, ...]
    not_found: tuple[UUID, ...]


class BeginUploadAnswer(Record):
    """What `begin_upload` answers. Announces a file to send in a conversation. size is in bytes.
    POST /api/media calls it and adds the address for the bytes.
    """

    upload_id: UUID
    object_key: str
    mime_type: str
    size: int


ChangesSinceAnswerChangeOperation: TypeAlias = Annotated[
    Literal["INSERT", "UPDATE", "DELETE"], AnyWord()
]


class ChangesSinceAnswerChange(Record):
    """An object in `changes` of ChangesSinceAnswer."""

    table: str
    id: UUID
    version: int
    operation: ChangesSinceAnswerChangeOperation
    record: JsonValue | None


class ChangesSinceAnswer(Record):
    """What `changes_since` answers. The changes since a cursor. Call it without a cursor first,
    before you read rows: that gives the first cursor. Call it again at once while more is true.
    Where resync is true, read everything again. An entry without a record means that the row is
    gone or that you may no longer see it. Within a page the entries are in the order of writing,
    and messages of a conversation in the order of seq. Between pages compare version and seq.
    """

    cursor: str
    changes: tuple[ChangesSinceAnswerChange, ...]
    more: bool
    resync: bool


class ClaimMemberInvitationAnswer(Record):
    """What `claim_member_invitation` answers. Makes you a member of the account that invited
    your email address. Claiming it again gives the same answer, and if you were a member before,
    your role stays. Refused: an invitation that is unknown or claimed (404), one that has expired
    (410), and one for another address, or for yours before it is confirmed (409).
    """

    account_id: UUID
    role: AccountMemberRole


class ClaimPortalInvitationAnswer(Record):
    """What `claim_portal_invitation` answers. Makes you the customer who was invited. Claiming
    it again gives the same answer. Refused: an invitation that is unknown, revoked or claimed by
    another login (404); one that has expired (410); a customer who has a login, or a caller who is
    another customer of the business (409).
    """

    account_id: UUID
    customer_id: UUID


DeleteMessageAnswer: TypeAlias = Message
"""What `delete_message` answers. Deletes a message of a booking's or the portal's conversation
for both sides: a customer's own, or for staff one of the business. The row stays without contents,
with revoked_at. Returns the row. Not the caller's: 403. On WhatsApp: 422.
"""

EraseContactAnswer: TypeAlias = PrivacyAction
"""What `erase_contact` answers. Erases all that is known of a contact, for its owner: at once
the contact goes, its login is unlinked and nothing more is sent to it; its conversations, files and
the rest follow within the hour, as privacy_actions shows. Invoices that were sent stay, with their
figures alone. It can't be taken back. Under a legal hold: 409.
"""


class ExportContactAnswerTable(Record):
    """An object in `tables` of ExportContactAnswer."""

    table: str
    rows: int | None
    about: str | None


class ExportContactAnswer(Record):
    """What `export_contact` answers. All that is known of a contact, for its owner. Without
    table_name the list of tables, and the export is recorded in privacy_actions; with one of these
    a page of its rows, and with the last page's after the next page, until that is null.
    """

    account_id: UUID | None = None
    account_name: str | None = None
    contact_ids: tuple[UUID, ...] | None = None
    tables: tuple[ExportContactAnswerTable, ...] | None = None
    rows: tuple[JsonValue, ...] | None = None
    after: JsonValue | None | None = None


class InboxCountsAnswerAssignee(Record):
    """An object in `assignees` of InboxCountsAnswer."""

    user_id: UUID
    name: str
    conversations: int


class InboxCountsAnswer(Record):
    """What `inbox_counts` answers. How many conversations each filter finds. Assignees count
    conversations that are not closed, free counts open ones that do not wait; 100 stands for 100 or
    more. Not a member of the account: 404.
    """

    assignees: tuple[InboxCountsAnswerAssignee, ...]
    snoozed: int
    free: int


class InviteMemberAnswer(Record):
    """What `invite_member` answers. Invites a person, by email address, to work for an account
    as owner, admin, agent or viewer. For its owners. Only this answer holds the token. The person
    who gives it to claim_member_invitation, signed in with that address, becomes a member. An
    earlier invitation of the same address ends. It ends also when the inviting owner is removed or
    is no longer an owner, and by revoke_member_invitation.
    """

    token: str
    expires_at: AwareDatetime


class InviteToPortalAnswer(Record):
    """What `invite_to_portal` answers. Invites a contact to the portal. The invitation is valid
    for 5 minutes to 30 days. Only this answer holds the token. The signed-in user who gives it to
    claim_portal_invitation becomes the contact's login. Earlier invitations of the contact end. A
    contact that has a login is refused (409).
    """

    invitation_id: UUID
    token: str
    expires_at: AwareDatetime


class LabelCountsAnswerLabel(Record):
    """An object in `labels` of LabelCountsAnswer."""

    label_id: UUID
    name: str
    conversations: int


class LabelCountsAnswer(Record):
    """What `label_counts` answers. How many conversations that are not closed have each label of
    an account; 100 stands for 100 or more. Not a member of the account: 404.
    """

    labels: tuple[LabelCountsAnswerLabel, ...]


class LatestInbound(Record):
    """What `latest_inbound` answers. The customer's latest message in a WhatsApp conversation,
    by WhatsApp's ids. Null before the first message, for a group, and while the number or the
    account is paused. For members who may answer.
    """

    phone_number_id: str
    provider_id: str


LatestInboundAnswer: TypeAlias = LatestInbound | None
"""What `latest_inbound` answers. The customer's latest message in a WhatsApp conversation, by
WhatsApp's ids. Null before the first message, for a group, and while the number or the account is
paused. For members who may answer.
"""


class MergeContactsAnswer(Record):
    """What `merge_contacts` answers. Merges the contact drop into the contact keep, whose values
    win. Returns the kept contact. Conversations move, but are not joined. undo_merge takes the
    merge back. If one is already merged, or both have a portal login: 409.
    """

    merge_id: UUID
    contact: ContactV2


class MetakockaMappingsAnswerMapping(Record):
    """An object in `mappings` of MetakockaMappingsAnswer."""

    contact_id: UUID
    account_id: UUID
    metakocka_id: str
    state: MetakockaContactMappingState
    missing: tuple[str, ...]
    user_id: UUID | None
    last_synced_at: AwareDatetime | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class MetakockaMappingsAnswer(Record):
    """What `metakocka_mappings` answers. The partners of contacts, by page: of one contact, or
    of all that you may see. The last page has no cursor.
    """

    mappings: tuple[MetakockaMappingsAnswerMapping, ...]
    cursor: str | None


class PortalInvitationAnswer(Record):
    """What `portal_invitation` answers. What an open invitation is about: the business that
    invites, and the contact's email address, to which a link to sign in can be sent. Nobody has to
    be signed in: the token, which nobody can guess, would show the same once it is claimed. One
    that is unknown, claimed, revoked or expired is refused (404).
    """

    account_name: str
    email: str | None
    expires_at: AwareDatetime


PostMessageAnswer: TypeAlias = Message
"""What `post_message` answers. Writes a message and returns its row; a message with the same
client_ref is written once. The same as an insert into messages. Give the conversation_id, the
booking_id, or the customer_id for the conversation in the portal, which is opened if needed. With
invoice_data {invoice_id} staff show an invoice.
"""


class ReplyWindowAnswer(Record):
    """What `reply_window` answers. Whether free text may be sent now, and until when (UTC). If
    it is not open, send a template. Other channels are always open.
    """

    open: bool
    closes_at: AwareDatetime | None


ResolveSyncConflictAnswer: TypeAlias = MetakockaPartner
"""What `resolve_sync_conflict` answers. Decides a conflict. For a field: crm or metakocka. For a
partner: the id of one of the candidates, or new for a contact of its own. For a contact: the id of
one of the partners, new for another partner, or unlink for none. Returns the row of
metakocka_partners. The sync does the rest at once. A decided conflict is refused (409).
"""


class ResumeSendingAnswer(Record):
    """What `resume_sending` answers. Ends the pause of a number, or without one that of the
    account. What waits is sent, or with withdraw withdrawn: messages become failed, scheduled
    messages that were due cancelled, and reminders that were due are left out. It withdraws 500 at
    a time: call it again while is_paused. waiting: the messages that are sent now; those of numbers
    that are still paused or stopped are not counted. For owners and admins.
    """

    is_paused: bool
    withdrawn: int
    waiting: int


class SearchContactsAnswer(Record):
    """What `search_contacts` answers. Finds contacts by name, username, email, phone and tags,
    without regard to case and accents. Every word of the query must be part of one of them; a word
    of one or two letters must begin a word. A phone number is found in any spelling. Returns them
    in the order of their names, and the cursor of the next page, null at the end. An empty query
    lists all. At most 200 characters and 200 rows. Not a member of the account: 404.
    """

    contacts: tuple[ContactV2, ...]
    cursor: str | None


SendTemplateAnswer: TypeAlias = Message
"""What `send_template` answers. Sends a template on WhatsApp to a customer, and opens the
conversation if the customer has never written; template is {name, language, variables}. Returns the
message; one with the same client_ref is sent once. A customer without a proved number is refused
(422), and so is an account whose numbers are all stopped (409).
"""

TryReminderRuleAnswerReminderWay: TypeAlias = Annotated[Literal["whatsapp", "portal"], AnyWord()]


class TryReminderRuleAnswerReminder(Record):
    """An object in `reminders` of TryReminderRuleAnswer."""

    rule_name: str
    kind: ReminderRuleKind
    customer_id: UUID
    customer_name: str | None
    job_id: UUID | None
    invoice_id: UUID | None
    due_at: AwareDatetime
    send_at: AwareDatetime | None
    way: TryReminderRuleAnswerReminderWay | None
    message: str | None
    reason: str | None
    why_not: str | None


class TryReminderRuleAnswer(Record):
    """What `try_reminder_rule` answers. What a rule with these columns of reminder_rules would
    have sent in the last 30 days, or between since and until, as far as jobs, invoices and points
    still tell. dropped counts by reason. Of more than 1,000 the first 1,000 are counted by reason;
    the first 50 are shown. Nothing is written or sent.
    """

    found: int
    sent: int
    dropped: dict[str, int]
    reminders: tuple[TryReminderRuleAnswerReminder, ...]


class UndoMergeAnswerChangedSince(Record):
    """An object in `changed_since` of UndoMergeAnswer."""

    field: str
    merged: JsonValue | None
    now: JsonValue | None


class UndoMergeAnswerNotReturned(Record):
    """An object in `not_returned` of UndoMergeAnswer."""

    kind: str
    value: str
    reason: str
    contact_id: UUID | None


class UndoMergeAnswer(Record):
    """What `undo_merge` answers. Undoes a merge and returns both contacts. What was changed,
    opened or unlinked since the merge stays with the kept contact, and the answer names it. A login
    that came in by the dropped contact's invitation goes back with that contact. If the merge is
    already undone, or a later one builds on it: 409.
    """

    kept: ContactV2
    restored: ContactV2
    changed_since: tuple[UndoMergeAnswerChangedSince, ...]
    not_returned: tuple[UndoMergeAnswerNotReturned, ...]


UpcomingRemindersAnswerReminderWay: TypeAlias = Annotated[Literal["whatsapp", "portal"], AnyWord()]


class UpcomingRemindersAnswerReminder(Record):
    """An object in `reminders` of UpcomingRemindersAnswer."""

    rule_id: UUID
    rule_name: str
    kind: ReminderRuleKind
    customer_id: UUID
    customer_name: str | None
    job_id: UUID | None
    invoice_id: UUID | None
    due_at: AwareDatetime
    send_at: AwareDatetime | None
    way: UpcomingRemindersAnswerReminderWay | None
    message: str | None
    reason: str | None
    why_not: str | None


class UpcomingRemindersAnswer(Record):
    """What `upcoming_reminders` answers. The reminders that will be sent until a time (UTC; 7
    days if none is given, at most a year), earliest first. way is whatsapp or portal; a reminder
    that will not be sent has null and says why_not in the account's language. Give the cursor back
    for the next page (page_size, at most 200); null is the end. What moves meanwhile moves here
    too.
    """

    reminders: tuple[UpcomingRemindersAnswerReminder, ...]
    cursor: JsonValue | None


UpsertContactAnswer: TypeAlias = ContactV2 | LiveChatContact
"""What `upsert_contact` answers. Writes a contact that is found by its id, phone, email or
username, or inserts it. Given fields are written, others stay. face is contacts_page or live_chat;
the answer is the row, as that face shows it. If the values belong to several contacts: 409.
"""

WhyNotShownAnswerKind: TypeAlias = Annotated[
    Literal["message", "number", "conversation", "contact", "partner"], AnyWord()
]


class WhyNotShownAnswerStep(Record):
    """An object in `steps` of WhyNotShownAnswer."""

    step: str
    ok: bool | None
    code: str
    words: str
    facts: dict[str, JsonValue]
    remedy: str | None


class WhyNotShownAnswer(Record):
    """What `why_not_shown` answers. Why something does not show: the steps from the webhook to
    the people who see it, in their order, and the first broken one in words with its remedy. The
    reference is an id of ours, WhatsApp's id of a message (wamid) or of a number, a telephone
    number as people write it, an email, a username, a partner's id at Metakocka, or the older key
    of a conversation. kind tells apart what several things have; login (an email or a user id) asks
    whether that login may see it. language is en or sl. A step's ok is null where it can't be
    known; code and facts say the same for programs, with ids, figures and times (UTC). The words
    have times by the clocks of time_zone. match: whether it was told to somebody, or to this login,
    under the id for which the reference stands. For owners and admins, about their own accounts.
    """

    reference: str
    kind: WhyNotShownAnswerKind | None
    id: UUID | None
    account_id: UUID | None
    time_zone: str
    match: bool | None
    broken: str | None
    words: str
    remedy: str | None
    steps: tuple[WhyNotShownAnswerStep, ...]
