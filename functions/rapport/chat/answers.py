"""Answers of the chat's endpoints; messages themselves are answered as rows."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class ReadAnswer(TypedDict):
    """How far the user has read, and whether WhatsApp shows it to the customer."""

    last_read_seq: int
    shown: bool


class TypingAnswer(TypedDict):
    """Whether WhatsApp shows the customer that somebody is typing."""

    shown: bool


class ResendAnswer(TypedDict):
    """The message is queued again."""

    status: Literal["queued"]


class DropAnswer(TypedDict):
    """The message is withdrawn."""

    status: Literal["failed"]


class PhoneAnswer(TypedDict):
    """The phone number in E.164, such as +38640111222."""

    phone: str
