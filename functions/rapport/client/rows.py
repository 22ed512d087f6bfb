"""Rows of the followed tables as a client sees them; other columns are ignored.

Status and type are plain text, so that a client accepts words that a later version adds.
"""

from __future__ import annotations

from datetime import date
from typing import TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue


class Row(BaseModel):
    """The columns of every followed table. A newer state of a row has a higher version."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    account_id: UUID
    version: int
    updated_at: AwareDatetime


class Job(Row):
    """A row of `jobs`: an appointment."""

    customer_id: UUID
    status: str
    service_type: str
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    address: str | None = None
    description: str | None = None
    created_at: AwareDatetime


class Invoice(Row):
    """A row of `invoices`; amounts are in minor units of the currency, such as cents."""

    customer_id: UUID
    status: str
    number: str
    currency: str
    amount_minor: int
    # part of amount_minor
    tax_minor: int
    job_id: UUID | None = None
    description: str | None = None
    issued_on: date | None = None
    # the last day for payment, in the account's time zone
    due_on: date | None = None
    sent_at: AwareDatetime | None = None
    paid_at: AwareDatetime | None = None
    voided_at: AwareDatetime | None = None
    created_at: AwareDatetime


class LoyaltyTransaction(Row):
    """A row of `loyalty_transactions`; redeemed and expired points are negative."""

    customer_id: UUID
    points: int
    type: str
    description: str | None = None
    # the last day on which the points may be redeemed, in the account's time zone
    expires_on: date | None = None
    created_at: AwareDatetime


class Message(Row):
    """A row of `messages`; `seq` counts 1, 2, 3 … in its conversation."""

    conversation_id: UUID
    # None in a group
    customer_id: UUID | None
    seq: int
    sender_type: str
    sender_id: str | None = None
    sender_name: str | None = None
    type: str
    message: str
    content: JsonValue = None
    reply_to: UUID | None = None
    client_ref: str | None = None
    status: str
    booking_id: UUID | None = None
    has_invoice: bool = False
    invoice_data: JsonValue = None
    reactions: JsonValue = None
    # from the phone app's history: it is never unread
    is_history: bool = False
    sent_at: AwareDatetime | None = None
    delivered_at: AwareDatetime | None = None
    read_at: AwareDatetime | None = None
    edited_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    error_code: int | None = None
    error_message: str | None = None
    created_at: AwareDatetime


class Profile(Row):
    """A row of `customers`: the customer's own view of its data."""

    name: str | None
    phone: str | None
    email: str | None
    preferences: dict[str, JsonValue] = {}
    portal_user_id: UUID | None = None
    created_at: AwareDatetime

    @property
    def customer_id(self) -> UUID:
        """The customer's id is the row's own."""
        return self.id


RowT = TypeVar("RowT", bound=Row)
