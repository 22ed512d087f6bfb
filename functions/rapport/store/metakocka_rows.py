"""The rows that the sync with Metakocka and the database pass to each other."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Direction = Literal["to_metakocka", "from_metakocka", "both"]
Trigger = Literal["schedule", "wake", "user", "cli"]
Rule = Literal["crm", "metakocka", "newest", "ask"]
Reason = Literal["run", "contacts", "schedule"]
RetryKind = Literal["read", "list", "write", "create", "contact", "pause"]
MappingState = Literal["synced", "waiting", "conflict", "blocked", "unknown", "unlinked"]
IntentState = Literal["intended", "sent", "unknown", "settled", "abandoned"]
# the fields that contacts share with partners, by their columns' names
Fields = dict[str, JsonValue]


class _Row(BaseModel):
    # errors are logged, and rows hold customers' data
    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )


class _Given(BaseModel):
    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )


class Due(_Row):
    """An account that has something to do and no worker."""

    account_id: UUID
    # run: a run waits or was left; contacts: some are to be sent; schedule: it is time
    reasons: list[Reason]


class Counts(_Row):
    """How far a run has come in all; `total` is None while it is unknown."""

    total: int | None = None
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    unchanged: int = 0
    # for a person, or until the next try
    waiting: int = 0
    # by kind
    errors: dict[str, int] = Field(default_factory=dict)


class SyncRequest(_Row):
    """A user's request to a run; everything if both are None."""

    contact_ids: list[UUID] | None = None
    metakocka_ids: list[str] | None = None


class RetrySettings(_Row):
    """An account's patience with one kind of operation; waits in seconds."""

    # None: it is tried without end, later each time
    attempts: int | None = None
    first_wait: float
    longest_wait: float
    # the part of a wait that is random, 0 to 1
    jitter: float


class Run(Counts):
    """A run that is leased to this worker, and its account's connection."""

    run_id: UUID
    direction: Direction
    trigger: Trigger
    request: SyncRequest
    # where the last worker was
    cursor: JsonValue = None
    user_id: UUID | None
    company_id: str
    base_url: str | None
    conflict_rule: Rule
    listing: Literal["all", "documents"]
    documents_seen_until: datetime | None
    retries: dict[RetryKind, RetrySettings]
    # by the database's clock
    now: datetime
    # in seconds
    lease: float


class AtWork(_Row):
    """Why the next run of an account waits; times by the database's clock."""

    run_id: UUID | None
    # unless the worker extends it, which it may do until `ends_by`
    lease_until: datetime | None
    ends_by: datetime | None
    paused_until: datetime | None
    pause_reason: str | None
    now: datetime
    # seconds
    request_wait: float


class Connection(_Row):
    """How an account is connected to its company."""

    account_id: UUID
    company_id: str
    base_url: str | None
    conflict_rule: Rule
    listing: Literal["all", "documents"]
    documents_seen_until: datetime | None
    retries: dict[RetryKind, RetrySettings]


class PartnerRef(_Given):
    """A partner, and the values that it may be known by."""

    metakocka_id: str
    partner_hash: str | None = None
    tax_id_number: str | None = None
    emails: list[str] = Field(default_factory=list)
    # in E.164: other spellings match no contact
    phones: list[str] = Field(default_factory=list)


class Candidate(_Row):
    """A contact that a new partner may be."""

    contact_id: UUID
    version: int
    updated_at: datetime
    # metakocka, tax, email, phone; gsm where the number may be the same
    matched_by: list[str]
    # a person has to say which partner it is
    needs_person: bool = False
    party: Fields


class KnownPartner(_Row):
    """The known facts about a partner.

    An `unchanged` partner has the hash of the request, and only its id is given. Otherwise
    `contact_id` is its contact, with the contact's state; where that is None, `candidates` are the
    contacts that it may be.
    """

    metakocka_id: str
    unchanged: bool
    # of an unchanged partner: its contact is to be sent
    is_edited: bool = False
    contact_id: UUID | None = None
    version: int | None = None
    updated_at: datetime | None = None
    # the contact was deleted, and must not come back by itself
    is_deleted: bool = False
    # the contact was erased, and must not come back by itself; nothing else is told
    is_forgotten: bool = False
    party: Fields | None = None
    # None where nothing was agreed yet
    base: Fields | None = None
    base_version: int | None = None
    state: MappingState | None = None
    # when it was last seen with the agreed values, and the contact's edits since, by field
    seen_at: datetime | None = None
    edits: dict[str, datetime] = Field(default_factory=dict)
    # values by field that were sent, and may have arrived
    sent: dict[str, list[JsonValue]] = Field(default_factory=dict)
    # a person has to say whether a contact is this partner
    needs_person: bool = False
    candidates: list[Candidate] = Field(default_factory=list)


class ComparedPartners(_Row):
    """Partners with another hash than the known one, and those with the known one whose contact is
    to be sent; by id.
    """

    different: list[str]
    edited: list[str]


class FieldConflict(_Given):
    """A field that both sides have edited; without a winner it waits for a person."""

    field: str
    base: JsonValue
    crm: JsonValue
    erp: JsonValue
    decided_by: Rule | Literal["person"] | None = None
    winner: Literal["crm", "metakocka"] | None = None


class PartnerItem(_Given):
    """A partner as it was merged, to be written.

    Without `contact_id` a contact is made, or with `candidates` the partner waits for a
    person, who is shown `partner`. `expected_version` is that of the contact as it was read.
    """

    metakocka_id: str
    partner_hash: str | None
    # the values that both sides have now; where they differ, the last common ones
    base: Fields
    contact_id: UUID | None = None
    expected_version: int | None = None
    # the values to write to the contact
    changes: Fields = Field(default_factory=dict)
    conflicts: list[FieldConflict] = Field(default_factory=list)
    candidates: list[UUID] = Field(default_factory=list)
    # the contact has values that the partner lacks: it must be sent
    push: bool = False
    partner: Fields | None = None
    # when the partner was read
    seen_at: datetime | None = None


class PartnerResult(_Row):
    """The outcome of an item. A stale item must be read and merged again."""

    metakocka_id: str | None
    status: Literal["created", "adopted", "updated", "unchanged", "stale", "waiting", "refused"]
    contact_id: UUID | None
    # why it was refused; it begins with the field, if one is the cause
    reason: str | None


class Settled(PartnerResult):
    """The outcome of a sent contact."""

    # it has been edited since it was claimed, and will be claimed again
    changed_meanwhile: bool


class Intent(_Row):
    """A call that must not happen twice."""

    intent_id: UUID
    # it may be deleted, or merged into the contact that is claimed
    contact_id: UUID
    operation: Literal["add_partner", "update_partner"]
    # a digest of the fields to send
    fingerprint: str
    # the fields to send
    sent: Fields
    state: IntentState
    # seconds since the call began
    age: float


class UnsettledIntent(Intent):
    """An open intent of an account; `is_orphaned` where its contact was deleted."""

    is_orphaned: bool


class BegunIntent(Intent):
    """The intent of a contact; an intent that is not new has to be settled first."""

    is_new: bool


class DirtyContact(_Row):
    """A contact to send, with the state on which it and its partner last agreed."""

    contact_id: UUID
    # the number of its last change
    changed_seq: int
    # this one included
    attempts: int
    version: int
    updated_at: datetime
    party: Fields
    metakocka_id: str | None
    base: Fields | None
    base_version: int | None
    state: MappingState | None
    # when the partner was last seen with the agreed values, and edits since, by field
    seen_at: datetime | None
    edits: dict[str, datetime]
    # values by field that were sent, and may have arrived
    sent: dict[str, list[JsonValue]]
    # partners that a person has said it is not
    not_partners: list[str]
    # all that it is known by, also those that its record does not show
    emails: list[str]
    phones: list[str]
    # fields that are no proof of who it is
    unproved: list[str]
    # the partners of its open question: a person has to say whether it is one of them
    offered_partners: list[str]
    # calls of unknown outcome
    intents: list[Intent]


class DirtyClaim(_Row):
    """Contacts leased to one worker, and in how many seconds the next are due, if any."""

    claimed: list[DirtyContact]
    next_in: float | None


class SyncError(_Given):
    """An error as admins read it; `details` never hold a request's body."""

    operation: str
    code: str
    message: str
    user_id: UUID | None = None
    contact_id: UUID | None = None
    # or `batch`
    metakocka_id: str | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)
    attempts: int = 1
