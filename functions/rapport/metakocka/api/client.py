"""The client of Metakocka's API. It repeats only calls that may be repeated.

Source: github.com/metakocka/metakocka_api_base. Reading may be repeated. An update may be repeated
if each of its entries has an mk_id. A call that adds a partner, or an entry of a partner, is made
once. If its answer is lost, `MetakockaOutcomeUnknown` tells the caller to search for the result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import JsonValue

from rapport.connections import http_client
from rapport.errors import (
    ConfigError,
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
    RapportError,
)
from rapport.metakocka.api.bodies import NewPartner, PartnerUpdate, RepeatableUpdate
from rapport.metakocka.api.records import (
    CreatedPartner,
    DocumentPage,
    Fault,
    NotAnAnswer,
    PartnerList,
    PartnerRecord,
    read,
    read_answer,
)
from rapport.parameters import SecretSource
from rapport.retry import Retries, repeated
from rapport.settings import MetakockaSettings
from rapport.store.metakocka_rows import RetryKind, RetrySettings

# bytes: 50,000 partners are some 40 MB
ANSWER_LIMIT = 200 * 1024 * 1024
_WORDS_LIMIT = 300
_LONGEST_WAIT = 3600  # seconds
# the server had an exception: the call may have had an effect
_CRASHED = "1"
# the quota is used up, or the company or the key is not allowed: no other call would succeed
_CLOSED = frozenset({"3", "4", "5"})
_CLOSED_STATUSES = (httpx.codes.UNAUTHORIZED, httpx.codes.PAYMENT_REQUIRED, httpx.codes.FORBIDDEN)

# client errors that do not come from the request; Metakocka does not document 429
_PASSING = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
# no connection was made, so nothing was sent
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True)
class Company:
    """A company at Metakocka, the account that has its key, and the address of its server."""

    account_id: str
    company_id: str
    url: str


def company(
    settings: MetakockaSettings, account_id: str, company_id: str, base_url: str | None = None
) -> Company:
    """The company at the usual server, or at its own server, `base_url`.

    Raises:
        ConfigError: `base_url` is not an HTTPS address on an allowed domain. The key is sent to
            this address, and an account's admin chooses it.
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
    """Calls the API of one company, one call after the other, each call once."""

    def __init__(
        self, company: Company, secrets: SecretSource, transport: httpx.BaseTransport | None
    ) -> None:
        self._company = company
        self._secrets = secrets
        self._http = http_client(transport=transport, headers={"Accept": "application/json"})

    def close(self) -> None:
        self._http.close()

    def call(
        self, operation: str, body: Mapping[str, JsonValue], timeout: float
    ) -> dict[str, JsonValue]:
        """The answer to one request; `timeout` in seconds, for each step and for the answer.

        Raises:
            MetakockaRefused: The call had no effect.
            MetakockaUnavailable: The call had no effect and may be repeated.
            MetakockaClosed: The call had no effect, and no other call has at the moment.
            MetakockaOutcomeUnknown: The call may have had an effect.
            ConfigError: The account has no key.
            UpstreamUnavailable: The key can't be read at the moment.
        """
        secret = self._secret()
        try:
            return self._call(operation, body, timeout, secret)
        except (MetakockaRefused, MetakockaClosed):
            # it had no effect; and the key may have been changed
            if (renewed := self._secret()) == secret:
                raise
        return self._call(operation, body, timeout, renewed)

    def _secret(self) -> str:
        company = self._company
        return self._secrets.secret(company.account_id, company.company_id).get_secret_value()

    def _call(
        self, operation: str, body: Mapping[str, JsonValue], timeout: float, secret: str
    ) -> dict[str, JsonValue]:
        sent = {"secret_key": secret, "company_id": self._company.company_id, **body}
        with _queues.of(self._company):
            result = self._post(operation, sent, timeout)
        if isinstance(result, MetakockaError):
            raise result
        try:
            return read_answer(result)
        except NotAnAnswer:
            error: MetakockaError = MetakockaOutcomeUnknown(
                "The answer is not one of Metakocka's.", operation=operation
            )
        except Fault as fault:
            # Metakocka does not document its answer to a wrong key: read the key again each time
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
        # an answer that comes byte by byte would take longer than the lease of a run
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
    """The seconds of Retry-After; None for a date."""
    value = headers.get("retry-after", "")
    return min(int(value), _LONGEST_WAIT) if value.isascii() and value.isdigit() else None


Operation = Literal["add_partner", "get_partner", "list_partners", "search", "update_partner"]
Key = Literal[
    "partner_id", "partner_name", "partner_tax_number", "partner_email", "partner_phone_number"
]

PAGE_LIMIT = 100  # documents


@dataclass(frozen=True)
class Policy:
    """How many seconds a call waits for its answer, and how often it is tried.

    A call that must not happen twice is tried again only if Metakocka can't have received it.
    """

    timeout: float = 30
    retries: Retries = field(default_factory=Retries)


POLICIES: Mapping[Operation, Policy] = {
    "add_partner": Policy(),
    "get_partner": Policy(),
    # all partners in one answer
    "list_partners": Policy(timeout=70, retries=Retries(attempts=1)),
    "search": Policy(timeout=40),
    "update_partner": Policy(),
}
_KINDS: Mapping[Operation, RetryKind] = {
    "add_partner": "create",
    "get_partner": "read",
    "list_partners": "list",
    "search": "read",
    "update_partner": "write",
}


def policies_of(settings: Mapping[RetryKind, RetrySettings]) -> dict[Operation, Policy]:
    """The usual policies with an account's settings."""
    return {
        operation: replace(policy, retries=_retries(policy.retries, settings[_KINDS[operation]]))
        for operation, policy in POLICIES.items()
        if _KINDS[operation] in settings
    }


def _retries(usual: Retries, settings: RetrySettings) -> Retries:
    return usual._replace(
        attempts=settings.attempts or usual.attempts,
        first_wait=settings.first_wait,
        longest_wait=settings.longest_wait,
        jitter=settings.jitter,
    )


class MetakockaClient:
    """Calls the API for one company. Threads may share it; their calls wait for each other.

    Every call raises MetakockaRefused, MetakockaUnavailable, MetakockaClosed, ConfigError or
    UpstreamUnavailable, with the number of tries in `attempts`. `before` is called before each
    try, and its errors are raised.
    """

    def __init__(
        self,
        company: Company,
        secrets: SecretSource,
        policies: Mapping[Operation, Policy] | None = None,
        transport: httpx.BaseTransport | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._caller = Caller(company, secrets, transport)
        self._before = before
        self._policies = {**POLICIES, **(policies or {})}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._caller.close()

    def add_partner(self, partner: NewPartner) -> CreatedPartner:
        """Makes a partner, or raises MetakockaOutcomeUnknown where it may have been made."""
        answer = self._once("add_partner", {"partner": partner.body})
        created = read(CreatedPartner, answer)
        if created is None:
            raise MetakockaOutcomeUnknown("The answer names no partner.", operation="add_partner")
        return created

    def update_partner(self, update: PartnerUpdate) -> PartnerRecord | None:
        """The partner after the update, or None if the answer does not show it.

        Raises MetakockaOutcomeUnknown where new entries may have been added.
        """
        body: dict[str, JsonValue] = {"partner": update.body}
        if isinstance(update, RepeatableUpdate):
            answer = self._repeat("update_partner", body)
        else:
            answer = self._once("update_partner", body, self._policies["add_partner"])
        return next((one for one in PartnerList(answer) if one.mk_id == update.mk_id), None)

    def get_partner(self, mk_id: str) -> PartnerRecord | None:
        """The partner with this id, or None."""
        found = self.find_partners("partner_id", mk_id)
        return next((one for one in found if one.mk_id == mk_id), None)

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]:
        """The partners that Metakocka finds. It also finds partners whose name contains a name.

        Raises MetakockaError if some of these partners are not readable.
        """
        answer = self._repeat("get_partner", {key: value})
        found = PartnerList(answer)
        records = list(found)
        if not found.is_complete:
            raise MetakockaError("Not every partner found is listed.", operation="get_partner")
        return records

    def list_partners(self) -> PartnerList:
        """All partners, by the search for an empty name."""
        return PartnerList(
            self._repeat("get_partner", {"partner_name": ""}, self._policies["list_partners"])
        )

    def search_documents(
        self, doc_type: str, changed_since: datetime, *, limit: int = PAGE_LIMIT, offset: int = 0
    ) -> DocumentPage:
        """A page of the documents that changed since a time (with a time zone)."""
        if changed_since.tzinfo is None or not 1 <= limit <= PAGE_LIMIT:
            raise ValueError("a time zone and a limit from 1 to 100 are needed")
        since = changed_since.replace(microsecond=0).isoformat()
        return DocumentPage(
            self._repeat(
                "search",
                {
                    "doc_type": doc_type,
                    "result_type": "doc",
                    "query_advance": [{"type": "last_change_from", "value": since}],
                    "limit": str(limit),
                    "offset": str(offset),
                },
            )
        )

    def _repeat(
        self, operation: Operation, body: Mapping[str, JsonValue], policy: Policy | None = None
    ) -> dict[str, JsonValue]:
        """A call that may be repeated: after a lost answer it is made again."""
        try:
            return self._tried(operation, body, policy or self._policies[operation], _is_passing)
        except MetakockaOutcomeUnknown as error:
            unavailable = MetakockaUnavailable(
                str(error),
                operation=operation,
                opr_code=error.opr_code,
                retry_after=error.retry_after,
            )
            unavailable.attempts = error.attempts
        raise unavailable

    def _once(
        self, operation: Operation, body: Mapping[str, JsonValue], policy: Policy | None = None
    ) -> dict[str, JsonValue]:
        """A call that must not be repeated once Metakocka may have received it."""
        return self._tried(operation, body, policy or self._policies[operation], _was_not_heard)

    def _tried(
        self,
        operation: Operation,
        body: Mapping[str, JsonValue],
        policy: Policy,
        is_retryable: Callable[[Exception], bool],
    ) -> dict[str, JsonValue]:
        tries = repeated(policy.retries, is_retryable)

        def one_try() -> dict[str, JsonValue]:
            self._before()
            return self._caller.call(operation, body, policy.timeout)

        try:
            return tries(one_try)
        except MetakockaError as error:
            error.attempts = tries.made
            raise


def _was_not_heard(error: Exception) -> bool:
    # no other call would succeed either
    return (
        isinstance(error, RapportError)
        and error.retryable
        and not isinstance(error, MetakockaClosed)
    )


def _is_passing(error: Exception) -> bool:
    return _was_not_heard(error) or isinstance(error, MetakockaOutcomeUnknown)
