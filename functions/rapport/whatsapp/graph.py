"""WhatsApp's Cloud API: what is sent, and what is known of a call afterwards.

Source: developers.facebook.com, WhatsApp Cloud API, "Messages", "Error codes", "Mark messages
as read", "Typing indicators".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated

import httpx
from pydantic import BaseModel, BeforeValidator, JsonValue, ValidationError

from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.settings import GraphSettings
from rapport.whatsapp.tokens import TokenSource, token_source

# Codes of our own beside WhatsApp's, see private.send_errors.
NOT_REACHED = -1
NOT_SENDABLE = -2
NO_TOKEN = -3
NO_FILE = -4

_TOO_MANY_CALLS = 4
# The number is not there for this token: not this message's fault, but the token's.
_SUBCODES = {(100, 33): 200}
_TOKEN_CODES = frozenset({0, 190})
_DETAILS_LIMIT = 500
_LONGEST_WAIT = 24 * 3600  # seconds

_TIMEOUT = httpx.Timeout(10, connect=2)


@dataclass(frozen=True)
class Accepted:
    """WhatsApp has taken it, and calls it `provider_id`."""

    provider_id: str


@dataclass(frozen=True)
class Refused:
    """It was not sent, and why; `retry_after` in seconds."""

    code: int
    details: str
    retry_after: int | None = None


@dataclass(frozen=True)
class Unknown:
    """It may have been sent or not."""

    reason: str


Outcome = Accepted | Refused | Unknown


class _Id(BaseModel):
    id: str


class _Sent(BaseModel):
    messages: list[_Id]


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict) else None


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None


_Words = Annotated[str | None, BeforeValidator(_text_or_none)]


class _ErrorData(BaseModel):
    details: _Words = None


class _Fault(BaseModel):
    """The code says what it is: what else comes with it may look as it likes."""

    code: int
    error_subcode: Annotated[int | None, BeforeValidator(_int_or_none)] = None
    message: _Words = None
    error_data: Annotated[_ErrorData | None, BeforeValidator(_object_or_none)] = None


class _Failed(BaseModel):
    error: _Fault


class GraphClient:
    """Calls the API with each number's own token; safe to share between threads."""

    def __init__(
        self,
        settings: GraphSettings,
        transport: httpx.BaseTransport | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        self._url = str(settings.whatsapp_graph_url).rstrip("/")
        self._tokens = tokens or token_source(settings)
        self._http = httpx.Client(timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def send(self, phone_number_id: str, body: Mapping[str, JsonValue]) -> Outcome:
        """Sends one message from a number, once; nothing is repeated here."""
        response = self._post(phone_number_id, body)
        if not isinstance(response, httpx.Response):
            return response
        if response.is_success:
            try:
                return Accepted(_Sent.model_validate_json(response.content).messages[0].id)
            except (ValidationError, IndexError):
                return Unknown("the answer names no message")
        return self._failed(phone_number_id, response)

    def mark_read(self, phone_number_id: str, provider_id: str, *, typing: bool) -> Outcome:
        """Shows the customer that a message of theirs, and all before it, was read.

        With `typing` that an answer is being written as well, for 25 seconds at most.
        """
        body: dict[str, JsonValue] = {
            "messaging_product": "whatsapp",
            "status": "read",
            "message_id": provider_id,
        }
        if typing:
            body["typing_indicator"] = {"type": "text"}
        response = self._post(phone_number_id, body)
        if not isinstance(response, httpx.Response):
            return response
        if response.is_success:
            return Accepted(provider_id)
        return self._failed(phone_number_id, response)

    def _post(
        self, phone_number_id: str, body: Mapping[str, JsonValue]
    ) -> httpx.Response | Refused | Unknown:
        try:
            token = self._tokens.token(phone_number_id).get_secret_value()
        except ConfigError as error:
            return Refused(NO_TOKEN, str(error))
        except UpstreamUnavailable as error:
            return Refused(NOT_REACHED, str(error))
        try:
            return self._http.post(
                f"{self._url}/{phone_number_id}/messages",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
            )
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
        ) as error:
            # there was no connection, so nothing went over it
            return Refused(NOT_REACHED, type(error).__name__)
        except httpx.RequestError as error:
            return Unknown(type(error).__name__)

    def _failed(self, phone_number_id: str, response: httpx.Response) -> Refused | Unknown:
        retry_after = _retry_after(response.headers.get("Retry-After"))
        try:
            fault = _Failed.model_validate_json(response.content).error
        except ValidationError:
            if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                return Refused(_TOO_MANY_CALLS, "HTTP status 429", retry_after)
            return Unknown(f"HTTP status {response.status_code}")
        if fault.code in _TOKEN_CODES:
            self._tokens.forget(phone_number_id)
        details = (fault.error_data and fault.error_data.details) or fault.message or ""
        return Refused(
            _SUBCODES.get((fault.code, fault.error_subcode or 0), fault.code),
            details[:_DETAILS_LIMIT],
            retry_after,
        )


def _retry_after(value: str | None) -> int | None:
    """The header's seconds or date as seconds from now."""
    if value is None:
        return None
    try:
        seconds = int(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        seconds = int((at - datetime.now(UTC)).total_seconds())
    return min(max(seconds, 0), _LONGEST_WAIT)
