"""WhatsApp's Cloud API: sends messages, moves files, lists templates.

`GraphClient` sends. Its calls return an outcome, since a message must not be sent twice: the
caller has to know whether WhatsApp took it. `GraphMedia` reads and uploads files, and lists
templates. Its calls raise, since they may be repeated.

Source: developers.facebook.com, WhatsApp Cloud API, "Messages", "Error codes", "Mark messages
as read", "Typing indicators", "Media", "Templates".
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

from rapport.connections import http_client
from rapport.deferred import Deferred
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

# Our own codes beside WhatsApp's, see private.send_errors.
NOT_REACHED = -1
NOT_SENDABLE = -2
NO_TOKEN = -3
NO_FILE = -4

# seconds; a message waits in the database, so an unreachable server is noticed soon
_SEND_TIMEOUT = httpx.Timeout(10, connect=2)
# seconds; for reading files and templates
_READ_TIMEOUT = httpx.Timeout(10, connect=5)
# seconds; WhatsApp answers an upload only after it has checked the file
_UPLOAD_TIMEOUT = httpx.Timeout(30, connect=5)

_TOO_MANY_CALLS = 4
# the token is not accepted
_TOKEN_CODES = frozenset({0, 190})
# too many calls, or out of order for the moment
_TRANSIENT_CODES = frozenset({1, 2, 4, 17, 80007, 130429, 131000, 131016, 131057})
# The number does not exist for this token: the token is wrong, not the message.
_SUBCODES = {(100, 33): 200}
_DETAILS_LIMIT = 500
_LONGEST_WAIT = 24 * 3600  # seconds

# hosts that may get the token, beside the API's own
_FILE_HOSTS = re.compile(r"([a-z0-9-]+\.)*(fbsbx\.com|facebook\.com|fbcdn\.net|whatsapp\.net)")
# of templates
_PAGE = 100
_PAGES = 100
_FIELDS = "name,language,category,status,components"


@dataclass(frozen=True)
class Accepted:
    """WhatsApp took the message; `provider_id` is its id there."""

    provider_id: str


@dataclass(frozen=True)
class Refused:
    """The message was not sent; `retry_after` is in seconds."""

    code: int
    details: str
    retry_after: int | None = None


@dataclass(frozen=True)
class Unknown:
    """The message may have been sent or not."""

    reason: str


Outcome = Accepted | Refused | Unknown


class FileAddress(Deferred):
    """The address of a file, good for 5 minutes, with the file's properties."""

    url: HttpUrl
    mime_type: str | None = None
    sha256: str | None = None
    # in bytes; some versions write it as text
    file_size: int | None = None


class _Id(Deferred):
    id: str


class _Sent(Deferred):
    messages: list[_Id]


class _Uploaded(Deferred):
    id: Annotated[str, Field(min_length=1, max_length=512)]


class _Cursors(Deferred):
    after: str | None = None


class _Paging(Deferred):
    cursors: _Cursors | None = None
    next: str | None = None


class _TemplatePage(Deferred):
    data: list[JsonValue]
    paging: _Paging | None = None


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict) else None


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None


_Words = Annotated[str | None, BeforeValidator(_text_or_none)]


class _ErrorData(Deferred):
    details: _Words = None


class _GraphFault(Deferred):
    """An error of the API. Only its code is required; other fields of a wrong type are dropped."""

    code: int
    error_subcode: Annotated[int | None, BeforeValidator(_int_or_none)] = None
    message: _Words = None
    error_data: Annotated[_ErrorData | None, BeforeValidator(_object_or_none)] = None


class _GraphError(Deferred):
    error: _GraphFault


class _GraphApi:
    """The API's address, the tokens of the numbers, and the connections."""

    def __init__(
        self,
        settings: GraphSettings,
        timeout: httpx.Timeout,
        transport: httpx.BaseTransport | None,
        tokens: TokenSource | None,
    ) -> None:
        self._root = str(settings.whatsapp_graph_url).rstrip("/")
        self._tokens = tokens or token_source(settings)
        self._http = http_client(timeout=timeout, transport=transport)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class GraphClient(_GraphApi):
    """Sends messages with each number's own token; safe to share between threads."""

    def __init__(
        self,
        settings: GraphSettings,
        transport: httpx.BaseTransport | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        super().__init__(settings, _SEND_TIMEOUT, transport, tokens)

    def send(self, phone_number_id: str, body: Mapping[str, JsonValue]) -> Outcome:
        """Sends one message from a number. It makes one call and repeats nothing."""
        response = self._post(phone_number_id, body)
        if not isinstance(response, httpx.Response):
            return response
        if response.is_success:
            try:
                return Accepted(_Sent.model_validate_json(response.content).messages[0].id)
            except (ValidationError, IndexError):
                return Unknown("the answer names no message")
        return _failed(response)

    def mark_read(self, phone_number_id: str, provider_id: str, *, typing: bool) -> Outcome:
        """Shows the customer that the business has read this message and all before it.

        With `typing` it also shows, for 25 seconds at most, that the business is writing.
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
        return _failed(response)

    def _post(
        self, phone_number_id: str, body: Mapping[str, JsonValue]
    ) -> httpx.Response | Refused | Unknown:
        """The answer; where the token is not accepted and there is another, that of a second call.

        A call with a token that is not accepted has sent nothing.
        """
        try:
            token = self._tokens.token(phone_number_id).get_secret_value()
            response = self._post_once(phone_number_id, body, token)
            if isinstance(response, httpx.Response) and _is_token_refused(response):
                self._tokens.forget(phone_number_id)
                renewed = self._tokens.token(phone_number_id).get_secret_value()
                if renewed != token:
                    response = self._post_once(phone_number_id, body, renewed)
        except ConfigError as error:
            return Refused(NO_TOKEN, str(error))
        except UpstreamUnavailable as error:
            return Refused(NOT_REACHED, str(error))
        return response

    def _post_once(
        self, phone_number_id: str, body: Mapping[str, JsonValue], token: str
    ) -> httpx.Response | Refused | Unknown:
        try:
            return self._http.post(
                f"{self._root}/{phone_number_id}/messages",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
            )
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
        ) as error:
            # without a connection nothing was sent
            return Refused(NOT_REACHED, type(error).__name__)
        except httpx.RequestError as error:
            return Unknown(type(error).__name__)


def _failed(response: httpx.Response) -> Refused | Unknown:
    retry_after = _retry_after(response.headers.get("Retry-After"))
    fault = _fault(response)
    if fault is None:
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return Refused(_TOO_MANY_CALLS, "HTTP status 429", retry_after)
        return Unknown(f"HTTP status {response.status_code}")
    details = (fault.error_data and fault.error_data.details) or fault.message or ""
    return Refused(
        _SUBCODES.get((fault.code, fault.error_subcode or 0), fault.code),
        details[:_DETAILS_LIMIT],
        retry_after,
    )


def _is_token_refused(response: httpx.Response) -> bool:
    fault = None if response.is_success else _fault(response)
    return fault is not None and fault.code in _TOKEN_CODES


class GraphMedia(_GraphApi):
    """Moves files and lists templates with each number's own token; safe to share between threads.

    Every call raises:
        WhatsAppUnavailable: It can't be reached, is too busy, or broke off.
        WhatsAppRefused: It refused; `graph_code` says why.
        WhatsAppError: Its answer can't be understood.
        ConfigError: There is no token for the number.
        UpstreamUnavailable: The token can't be read at the moment.
    """

    def __init__(
        self,
        settings: GraphSettings,
        transport: httpx.BaseTransport | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        super().__init__(settings, _READ_TIMEOUT, transport, tokens)
        self._origin = (settings.whatsapp_graph_url.scheme, settings.whatsapp_graph_url.host)

    def find(self, phone_number_id: str, media_id: str) -> FileAddress:
        """The address of a file that was sent to a number."""
        with self._authorized(phone_number_id) as headers, _transport_errors():
            response = self._http.get(f"{self._root}/{media_id}", headers=headers)
            return _read(FileAddress, response)

    @contextmanager
    def download(self, phone_number_id: str, address: FileAddress) -> Iterator[Iterator[bytes]]:
        """The file's bytes, as they arrive."""
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
                # the address may have expired: the next try asks for a new one
                raise WhatsAppUnavailable(
                    f"WhatsApp answered the download with status {response.status_code}."
                )
            yield response.iter_bytes()

    def upload(
        self, phone_number_id: str, file: IO[bytes], *, mime_type: str, file_name: str
    ) -> str:
        """Uploads a file that a number will send; returns its id, good for 30 days."""
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
        """All templates of a WhatsApp Business account, in WhatsApp's own form.

        Any of its numbers' tokens opens them; the first that exists and is accepted is used.
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
                # paged by cursor: the address of the next page would contain the token
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
        """The number's token as a header. A token that WhatsApp refuses is read anew next time."""
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
        raise WhatsAppError("WhatsApp's answer does not have the expected form.") from None


def _refusal(response: httpx.Response) -> WhatsAppError:
    """The error for a refused call, by its code alone: WhatsApp's words may name people."""
    fault = _fault(response)
    code = fault.code if fault else None
    kind = (
        WhatsAppUnavailable
        if code in _TRANSIENT_CODES or response.status_code >= 500 or response.status_code == 429
        else WhatsAppRefused
    )
    return kind(f"{kind.__doc__} (status {response.status_code}, code {code})", code)


def _fault(response: httpx.Response) -> _GraphFault | None:
    """The error that an answer names; None where it names none, as a proxy's page."""
    try:
        return _GraphError.model_validate_json(response.content).error
    except ValidationError:
        return None


def _retry_after(value: str | None) -> int | None:
    """The seconds from now that the header names, as a number or as a date."""
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
