"""What becomes of a message whose file is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from rapport.errors import (
    ConfigError,
    NotFound,
    PayloadTooLarge,
    RapportError,
    StorageUnavailable,
    Unprocessable,
    WhatsAppRefused,
    WhatsAppUnavailable,
)
from rapport.store.media import FileToSend
from rapport.store.outbound import OutboundMessage
from rapport.whatsapp import media as attachments
from rapport.whatsapp.graph import NO_TOKEN
from rapport.whatsapp.media import Attachments


def message(content: dict[str, Any] | None) -> OutboundMessage:
    return OutboundMessage(
        message_id=uuid4(),
        account_id=uuid4(),
        conversation_id=uuid4(),
        phone_number_id="1003427786179738",
        wa_id="38640111222",
        user_id=None,
        type="image" if content else "text",
        text="look",
        content=content,
        reply_to=None,
        reaction_to=None,
    )


class Store:
    """Knows the file of every message, or of none."""

    def __init__(self, file: FileToSend | None) -> None:
        self._file = file

    def media_to_send(self, _message_id: object) -> FileToSend | None:
        return self._file


FILE = FileToSend.model_construct(
    object_key="a/b", mime_type="image/png", file_name="hall.png", size=3
)


def attached(
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any] | None,
    upload: Callable[..., str],
    file: FileToSend | None = FILE,
) -> OutboundMessage:
    monkeypatch.setattr(attachments, "upload_to_whatsapp", upload)
    made = Attachments(Store(file), graph=None, storage=None)  # type: ignore[arg-type]  # not asked
    return made.attach(message(content))


def test_message_names_whatsapps_id_instead_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = attached(monkeypatch, {"upload_id": "u", "caption": "The hall"}, lambda *_: "media-1")

    assert sent.content == {"id": "media-1", "caption": "The hall"}


@pytest.mark.parametrize("content", [None, {"link": "https://example.com/x.png"}])
def test_message_without_a_file_of_ours_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, content: dict[str, Any] | None
) -> None:
    def never(*_: object) -> str:
        raise AssertionError("nothing is uploaded")

    assert attached(monkeypatch, content, never).content == content


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        # it will never go
        (NotFound(), Unprocessable),
        (PayloadTooLarge(), Unprocessable),
        # by its code, or another time
        (WhatsAppRefused(None, 190), WhatsAppRefused),
        (StorageUnavailable(), StorageUnavailable),
        (WhatsAppUnavailable(), WhatsAppUnavailable),
    ],
)
def test_what_goes_wrong_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, problem: RapportError, raised: type[RapportError]
) -> None:
    def fail(*_: object) -> str:
        raise problem

    with pytest.raises(raised):
        attached(monkeypatch, {"upload_id": "u"}, fail)


def test_without_a_token_it_is_the_numbers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise ConfigError("There is no parameter.")

    with pytest.raises(WhatsAppRefused) as refusal:
        attached(monkeypatch, {"upload_id": "u"}, fail)
    assert refusal.value.graph_code == NO_TOKEN


def test_file_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unprocessable) as refusal:
        attached(monkeypatch, {"upload_id": "u"}, lambda *_: "never", file=None)
    assert refusal.value.field == "content.upload_id"
