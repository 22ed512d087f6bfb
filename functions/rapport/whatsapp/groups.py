"""Changes of groups; their messages are among the others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, WrapValidator, model_validator

from rapport.store.webhooks import (
    AccountEventItem,
    GroupEventItem,
    GroupNews,
    Item,
    Participant,
)
from rapport.whatsapp.parts import NAME_LIMIT, each_of, skipped, valid_of
from rapport.whatsapp.webhook import (
    Id,
    Listed,
    Metadata,
    Model,
    OptionalId,
    OptionalText,
    OptionalUserId,
    OptionalWaId,
    Timestamp,
    or_none,
    with_whole,
)


class GroupsValue(Model):
    """A change of a field about groups."""

    metadata: Metadata
    groups: Listed = Field(default_factory=list)


class GroupParticipant(Model):
    """A participant of a group; `input` is how the business named the person."""

    wa_id: OptionalWaId = None
    user_id: OptionalUserId = None
    input: OptionalUserId = None


class GroupSetting(Model):
    """A setting that the business wanted to change."""

    text: OptionalText = None
    update_successful: bool = True


class Group(Model):
    """The changes of one group."""

    group_id: OptionalId = None
    type: Id
    timestamp: Timestamp
    subject: OptionalText = None
    group_subject: Annotated[GroupSetting | None, WrapValidator(or_none)] = None
    added_participants: Listed = Field(default_factory=list)
    removed_participants: Listed = Field(default_factory=list)
    errors: Listed = Field(default_factory=list)
    # as it came
    whole: dict[str, JsonValue]

    @model_validator(mode="before")
    @classmethod
    def _keep_whole(cls, value: object) -> object:
        return with_whole(value)


_PARTICIPANT = TypeAdapter[GroupParticipant](GroupParticipant)
_STATES: dict[str, Literal["active", "suspended", "deleted"]] = {
    "group_create": "active",
    "group_delete": "deleted",
    "group_suspend": "suspended",
    "group_suspend_cleared": "active",
}


def of_groups(value: object, field: str) -> Iterator[Item]:
    """Changes of groups, according to the webhook's `field`."""
    return each_of(
        GroupsValue, [value], "malformed_change", lambda groups: _of_value(groups, field)
    )


def _of_value(value: GroupsValue, field: str) -> Iterator[Item]:
    number = value.metadata.phone_number_id
    return each_of(
        Group, value.groups, "malformed_group", lambda group: _of_group(group, number, field)
    )


def _of_group(group: Group, number: str, field: str) -> Iterator[Item]:
    if group.errors:
        # a requested change failed: the account's admins are told
        yield AccountEventItem(
            phone_number_id=number,
            type=field,
            at=group.timestamp,
            content=group.whole,
        )
    joined = _participants(group.added_participants)
    departed = _participants(group.removed_participants)
    news = GroupNews(
        name=None if group.errors else _name(group),
        state=None if group.errors else _STATES.get(group.type),
        joined=joined,
        departed=departed,
    )
    if group.group_id is not None and news != GroupNews():
        yield GroupEventItem(
            phone_number_id=number,
            group_id=group.group_id,
            sent_at=group.timestamp,
            content=news,
        )
    elif not group.errors:
        yield skipped("unhandled_group_event", group.type)


def _name(group: Group) -> str | None:
    setting = group.group_subject
    name = (setting.text if setting and setting.update_successful else None) or group.subject
    return name and name[:NAME_LIMIT]


def _participants(parts: Sequence[object]) -> tuple[Participant, ...]:
    return tuple(
        Participant(wa_id=wa_id, user_id=user_id)
        for one in valid_of(_PARTICIPANT, parts)
        for wa_id, user_id in [_ids(one)]
        if wa_id or user_id
    )


def _ids(participant: GroupParticipant) -> tuple[str | None, str | None]:
    if participant.wa_id or participant.user_id or participant.input is None:
        return participant.wa_id, participant.user_id
    # a number as the business wrote it, or a user id
    digits = re.sub(r"[+ ()-]", "", participant.input)
    if re.fullmatch(r"[0-9]{1,32}", digits):
        return digits, None
    return None, participant.input
