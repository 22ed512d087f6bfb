"""Rows that the live client tells: those of the database, as a user may see them."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from rapport.client.database import Customer, Invoice, Job, LoyaltyTransaction, Message, Row

__all__ = ["Invoice", "Job", "LoyaltyTransaction", "Message", "Profile", "Row", "RowT"]


class Profile(Customer):
    """A row of `customers`: the customer's own view of its data."""

    @property
    def customer_id(self) -> UUID:
        """The customer's id is the row's own."""
        return self.id


RowT = TypeVar("RowT", bound=Row)
