"""One call of Metakocka's API: one at a time for each company, and what is known after it.

The secret key travels in the body. No body is logged or kept in an error, and no error is
chained to the HTTP library's, which holds the request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from pydantic import JsonValue

from rapport.errors import (
    ConfigError,
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
)
from rapport.metakocka.secrets import SecretSource
from rapport.metakocka.wire import Fault, NotAnAnswer, read_answer
from rapport.settings import MetakockaSettings

# bytes: 50,000 partners are some 40 MB
ANSWER_LIMIT = 200 * 1024 * 1024
_WORDS_LIMIT = 300
_LONGEST_WAIT = 3600  # seconds
# an exception of the server's, after which nothing is certain
_CRASHED = "1"
# a quota that is used up, or a company or key that may not: about everybody, not about one call
_CLOSED = frozenset({"3", "4", "5"})
_CLOSED_STATUSES = (httpx.codes.UNAUTHORIZED, httpx.codes.PAYMENT_REQUIRED, httpx.codes.FORBIDDEN)

# client errors that say nothing about the request; who answers 429, and when, is not documented
_PASSING = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
# there was no connection, so nothing went over it
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True)
class Company:
    """A company at Metakocka, the account whose key opens it, and where its server is."""

    account_id: str
    company_id: str
    url: str


def company(
    settings: MetakockaSettings, account_id: str, company_id: str, base_url: str | None = None
) -> Company:
    """The company at the usual server, or at its own, `base_url`.

    Raises:
        ConfigError: Its own is not an HTTPS address on one of the allowed domains: the key
            would go to whoever an account's admin names, and so would our requests.
    """
    if base_url is None:
        return Company(account_id, company_id, str(settings.metakocka_url).rstrip("/"))
    try:
        url = urlsplit(base_url)
        host, is_plain = url.hostname or "", url.port in (None, 443)
    except ValueError:
        raise ConfigError("The address of Metakocka's server is not a URL.") from None
    is_allowed = any(
        host == domain or host.endswith(f".{domain}") for domain in settings.metakocka_domains
    )
    if url.scheme != "https" or "@" in url.netloc or not is_plain or not is_allowed:
        raise ConfigError(
            "The address of Metakocka's server must begin with https:// and be on one of"
            f" METAKOCKA_DOMAINS: {', '.join(settings.metakocka_domains)}."
        )
    return Company(account_id, company_id, base_url.rstrip("/"))


@dataclass
class _Queues:
    """A lock for each company, shared by all clients of the process."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _locks: dict[tuple[str, str], threading.Lock] = field(default_factory=dict)

    def of(self, company: Company) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault((company.url, company.company_id), threading.Lock())


_queues = _Queues()


class Caller:
    """Calls the API of one company, a call after the other, each once."""

    def __init__(
        self, company: Company, secrets: SecretSource, transport: httpx.BaseTransport | None
    ) -> None:
        self._company = company
        self._secrets = secrets
        self._http = httpx.Client(transport=transport, headers={"Accept": "application/json"})

    def close(self) -> None:
        self._http.close()

    def call(
        self, operation: str, body: Mapping[str, JsonValue], timeout: float
    ) -> dict[str, JsonValue]:
        """The answer to one request; `timeout` in seconds, for each step and for the answer.

        Raises:
            MetakockaRefused: It was not done.
            MetakockaUnavailable: It was not done and may be asked for again.
            MetakockaClosed: It was not done, and nothing is at the moment.
            MetakockaOutcomeUnknown: It may have been done.
            ConfigError: The account has no key.
            UpstreamUnavailable: The key can't be read at the moment.
        """
        secret = self._secrets.secret(
            self._company.account_id, self._company.company_id
        ).get_secret_value()
        sent = {"secret_key": secret, "company_id": self._company.company_id, **body}
        with _queues.of(self._company):
            result = self._post(operation, sent, timeout)
        if isinstance(result, MetakockaError):
            raise result
        try:
            return read_answer(result)
        except NotAnAnswer:
            error: MetakockaError = MetakockaOutcomeUnknown(
                "What was answered is not Metakocka's.", operation=operation
            )
        except Fault as fault:
            # how a wrong key is answered is not documented: it is read anew in any case
            self._secrets.forget(self._company.account_id)
            words = fault.description.replace(secret, "…")[:_WORDS_LIMIT]
            error = _kind(fault)(
                f"Metakocka: {words} (opr_code {fault.code})",
                operation=operation,
                opr_code=fault.code,
            )
        raise error

    def _post(
        self, operation: str, body: dict[str, JsonValue], timeout: float
    ) -> bytes | MetakockaError:
        url = f"{self._company.url}/{operation}"
        limits = httpx.Timeout(timeout, connect=min(timeout, 5))
        # one that comes byte by byte would outlast the lease of a run
        ends_at = time.monotonic() + timeout
        try:
            with self._http.stream("POST", url, json=body, timeout=limits) as response:
                return self._read(operation, response, ends_at)
        except _NOT_SENT as error:
            return MetakockaUnavailable(
                f"Metakocka can't be reached ({type(error).__name__}).", operation=operation
            )
        except httpx.RequestError as error:
            return MetakockaOutcomeUnknown(
                f"Metakocka did not answer ({type(error).__name__}).", operation=operation
            )

    def _read(
        self, operation: str, response: httpx.Response, ends_at: float
    ) -> bytes | MetakockaError:
        status = response.status_code
        if response.is_success:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > ANSWER_LIMIT:
                    return MetakockaOutcomeUnknown("The answer is too long.", operation=operation)
                if time.monotonic() > ends_at:
                    return MetakockaOutcomeUnknown("The answer is too slow.", operation=operation)
            return bytes(content)
        words = f"Metakocka answered with HTTP status {status}."
        if response.is_client_error and status not in _PASSING:
            self._secrets.forget(self._company.account_id)
            kind = MetakockaClosed if status in _CLOSED_STATUSES else MetakockaRefused
            return kind(words, operation=operation)
        return MetakockaOutcomeUnknown(
            words, operation=operation, retry_after=_seconds(response.headers)
        )


def _kind(fault: Fault) -> type[MetakockaError]:
    if fault.code == _CRASHED:
        return MetakockaOutcomeUnknown
    return MetakockaClosed if fault.code in _CLOSED else MetakockaRefused


def _seconds(headers: httpx.Headers) -> int | None:
    """What Retry-After says in seconds; a date is not waited for."""
    value = headers.get("retry-after", "")
    return min(int(value), _LONGEST_WAIT) if value.isascii() and value.isdigit() else None
