"""WhatsApp's Cloud API: what is sent, and what is known of a call afterwards.

Source: developers.facebook.com, WhatsApp Cloud API, "Messages", "Error codes", "Mark messages
as read", "Typing indicators".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Annotated, TypeVar

import httpx
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    HttpUrl,
    JsonValue,
    ValidationError,
)

from rapport.errors import (
    ConfigError,
    RapportError,
    UpstreamUnavailable,
    WhatsAppError,
    WhatsAppRefused,
    WhatsAppUnavailable,
)
from rapport.parameters import TokenSource, token_source
from rapport.settings import GraphSettings

M = TypeVar("M", bound=BaseModel)

_FILE_TIMEOUT = httpx.Timeout(10, connect=5)
_UPLOAD_TIMEOUT = httpx.Timeout(30, connect=5)  # it answers when it has looked at the file
# where the token may be sent, beside the API's own host
_FILE_HOSTS = re.compile(r"([a-z0-9-]+\.)*(fbsbx\.com|facebook\.com|fbcdn\.net|whatsapp\.net)")
# throttled, or out of order for the moment
_TRANSIENT = {1, 2, 4, 17, 80007, 130429, 131000, 131016, 131057}
_PAGE = 100
_PAGES = 100
_FIELDS = "name,language,category,status,components"


class FileAddress(BaseModel):
    """Where a file can be had for 5 minutes, and what WhatsApp knows of it."""

    url: HttpUrl
    mime_type: str | None = None
    sha256: str | None = None
    # in bytes; some versions write it as text
    file_size: int | None = None


class _Uploaded(BaseModel):
    id: Annotated[str, Field(min_length=1, max_length=512)]


class _Cursors(BaseModel):
    after: str | None = None


class _Paging(BaseModel):
    cursors: _Cursors | None = None
    next: str | None = None


class _TemplatePage(BaseModel):
    data: list[JsonValue]
    paging: _Paging | None = None


class _Problem(BaseModel):
    class Error(BaseModel):
        code: Annotated[int | None, BeforeValidator(_int_or_none)] = None

    error: Error


class GraphMedia:
    """Asks the Graph API with each number's own token; safe to share between threads.

    Every call raises:
        WhatsAppUnavailable: It can't be reached, is too busy, or broke off.
        WhatsAppRefused: It refused; `graph_code` says why.
        WhatsAppError: It answered what we don't understand.
        ConfigError: There is no token for the number.
        UpstreamUnavailable: The token can't be read at the moment.
    """

    def __init__(
        self,
        settings: GraphSettings,
        transport: httpx.BaseTransport | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        self._root = str(settings.whatsapp_graph_url).rstrip("/")
        self._origin = (settings.whatsapp_graph_url.scheme, settings.whatsapp_graph_url.host)
        self._tokens = tokens or token_source(settings)
        self._http = httpx.Client(timeout=_FILE_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def find(self, phone_number_id: str, media_id: str) -> FileAddress:
        """Where the file is that was sent to a number."""
        with self._authorized(phone_number_id) as headers, _transport_errors():
            response = self._http.get(f"{self._root}/{media_id}", headers=headers)
            return _read(FileAddress, response)

    @contextmanager
    def download(self, phone_number_id: str, address: FileAddress) -> Iterator[Iterator[bytes]]:
        """The file's bytes, as they come."""
        host = address.url.host or ""
        is_ours = (address.url.scheme, host) == self._origin
        if not is_ours and not (address.url.scheme == "https" and _FILE_HOSTS.fullmatch(host)):
            raise WhatsAppError("WhatsApp named an address that is not its own.")
        with (
            self._authorized(phone_number_id) as headers,
            _transport_errors(),
            self._http.stream("GET", str(address.url), headers=headers) as response,
        ):
            if response.status_code == httpx.codes.UNAUTHORIZED:
                self._tokens.forget(phone_number_id)
            if response.status_code != 200:
                # an address that has run out is asked for anew at the next try
                raise WhatsAppUnavailable(
                    f"The file could not be had (status {response.status_code})."
                )
            yield response.iter_bytes()

    def upload(
        self, phone_number_id: str, file: IO[bytes], *, mime_type: str, file_name: str
    ) -> str:
        """Gives WhatsApp a file to be sent from a number; answers its id, good for 30 days."""
        with self._authorized(phone_number_id) as headers, _transport_errors():
            response = self._http.post(
                f"{self._root}/{phone_number_id}/media",
                data={"messaging_product": "whatsapp", "type": mime_type},
                files={"file": (file_name, file, mime_type)},
                headers=headers,
                timeout=_UPLOAD_TIMEOUT,
            )
            return _read(_Uploaded, response).id

    def templates(self, waba_id: str, phone_number_ids: Sequence[str]) -> list[JsonValue]:
        """All templates of a WhatsApp Business account, as they come.

        The token of any of its numbers will do: of several the first that is there and accepted.
        """
        refusal: RapportError = ConfigError("The account has no number.")
        for phone_number_id in phone_number_ids:
            try:
                return self._templates(waba_id, phone_number_id)
            except (ConfigError, UpstreamUnavailable, WhatsAppRefused) as error:
                refusal = error
        raise refusal

    def _templates(self, waba_id: str, phone_number_id: str) -> list[JsonValue]:
        found: list[JsonValue] = []
        after: str | None = None
        for _ in range(_PAGES):
            query = {"limit": str(_PAGE), "fields": _FIELDS} | ({"after": after} if after else {})
            with self._authorized(phone_number_id) as headers, _transport_errors():
                # by the cursor: the address of the next page has the token in it
                response = self._http.get(
                    f"{self._root}/{waba_id}/message_templates", params=query, headers=headers
                )
                page = _read(_TemplatePage, response)
            found += page.data
            after = page.paging.cursors.after if page.paging and page.paging.cursors else None
            if not (page.paging and page.paging.next and after):
                return found
        raise WhatsAppError(f"WhatsApp lists templates on more than {_PAGES} pages.")

    @contextmanager
    def _authorized(self, phone_number_id: str) -> Iterator[dict[str, str]]:
        """The number's token as a header; one that is not accepted is read anew the next time."""
        token = self._tokens.token(phone_number_id).get_secret_value()
        try:
            yield {"Authorization": f"Bearer {token}"}
        except WhatsAppError as error:
            if error.graph_code in _TOKEN_CODES:
                self._tokens.forget(phone_number_id)
            raise


@contextmanager
def _transport_errors() -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        raise WhatsAppUnavailable(f"WhatsApp can't be reached ({type(error).__name__}).") from None


def _read(model: type[M], response: httpx.Response) -> M:
    if response.status_code != 200:
        raise _refusal(response)
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        # the error's text would quote the answer
        raise WhatsAppError("WhatsApp's answer is not what was asked for.") from None


def _refusal(response: httpx.Response) -> WhatsAppError:
    """By the code alone; WhatsApp's words may name people."""
    try:
        code = _Problem.model_validate_json(response.content).error.code
    except ValidationError:
        code = None
    kind = (
        WhatsAppUnavailable
        if code in _TRANSIENT or response.status_code >= 500 or response.status_code == 429
        else WhatsAppRefused
    )
    return kind(f"{kind.__doc__} (status {response.status_code}, code {code})", code)


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


class _GraphError(BaseModel):
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
            fault = _GraphError.model_validate_json(response.content).error
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
