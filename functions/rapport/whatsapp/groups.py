"""Groups: their messages, and changes of the groups themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import TypeAdapter

from rapport.store.webhooks import (
    AccountEventItem,
    GroupEventItem,
    GroupMessageItem,
    GroupNews,
    Item,
    Participant,
)
from rapport.whatsapp.parts import NAME_LIMIT, content_of, each_of, skipped, valid_of
from rapport.whatsapp.webhook import Group, GroupParticipant, GroupsValue, WebhookMessage

_PARTICIPANT = TypeAdapter[GroupParticipant](GroupParticipant)
_STATES: dict[str, Literal["active", "suspended", "deleted"]] = {
    "group_create": "active",
    "group_delete": "deleted",
    "group_suspend": "suspended",
    "group_suspend_cleared": "active",
}


def in_group(
    message: WebhookMessage,
    group_id: str,
    number: str,
    words: str,
    *,
    sender: tuple[str | None, str | None] | None,
    name: str | None,
) -> Item:
    """A group's message. `sender` is a participant's number and user id; None is the business."""
    wa_id, user_id = sender or (None, None)
    return GroupMessageItem(
        phone_number_id=number,
        provider_id=message.id,
        group_id=group_id,
        sender_type="client" if sender else "operator",
        sender_id=wa_id or user_id,
        wa_id=wa_id,
        user_id=user_id,
        profile_name=name,
        sent_at=message.timestamp,
        type=message.type,
        text=words,
        content=content_of(message),
        reply_to=message.context.id if message.context else None,
    )


def of_groups(value: GroupsValue, field: str) -> Iterator[Item]:
    """Changes of groups, according to the webhook's `field`."""
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
