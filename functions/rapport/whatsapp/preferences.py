"""Preferences: whether a person accepts marketing messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from rapport.store.webhooks import Item, MarketingChoiceItem
from rapport.whatsapp.parts import contacts_of, each_of, skipped
from rapport.whatsapp.webhook import (
    Id,
    Listed,
    Metadata,
    Model,
    OptionalUserId,
    OptionalWaId,
    SenderProfile,
    Timestamp,
)


class PreferencesValue(Model):
    """A change of the field `user_preferences`."""

    metadata: Metadata
    contacts: Listed = Field(default_factory=list)
    user_preferences: Listed = Field(default_factory=list)


class Preference(Model):
    """A person's choice of messages."""

    wa_id: OptionalWaId = None
    user_id: OptionalUserId = None
    category: Id
    value: Id
    timestamp: Timestamp


# signing up by a link is a way to ask for them
_CHOICES: dict[str, Literal["stop", "resume"]] = {
    "stop": "stop",
    "resume": "resume",
    "signup": "resume",
}


def of_preferences(value: object) -> Iterator[Item]:
    """Every choice about marketing messages."""
    return each_of(PreferencesValue, [value], "malformed_change", _of_value)


def _of_value(value: PreferencesValue) -> Iterator[Item]:
    contacts = contacts_of(value.contacts)
    return each_of(
        Preference,
        value.user_preferences,
        "malformed_preference",
        lambda one: _of_preference(one, value.metadata.phone_number_id, contacts),
    )


def _of_preference(
    preference: Preference, number: str, contacts: Mapping[str | None, SenderProfile]
) -> Iterator[Item]:
    choice = _CHOICES.get(preference.value.lower())
    contact = contacts.get(preference.user_id) or contacts.get(preference.wa_id) or SenderProfile()
    wa_id = preference.wa_id or contact.wa_id
    user_id = preference.user_id or contact.user_id
    if preference.category != "marketing_messages" or choice is None:
        yield skipped("unknown_preference", f"{preference.category}: {preference.value}")
    elif wa_id is None and user_id is None:
        yield skipped("preference_of_nobody", preference.value)
    else:
        yield MarketingChoiceItem(
            phone_number_id=number,
            wa_id=wa_id,
            user_id=user_id,
            type=choice,
            sent_at=preference.timestamp,
        )
