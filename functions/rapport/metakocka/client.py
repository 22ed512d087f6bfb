"""The client of Metakocka's API: what may be repeated is, and what may not is not.

Source: github.com/metakocka/metakocka_api_base. Reading is repeatable, and so is an update
whose every entry carries its mk_id. A new partner, or a new entry of one, is asked for once:
where the answer is lost, `MetakockaOutcomeUnknown` says that it has to be looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Self

import httpx
from pydantic import JsonValue

from rapport.errors import (
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaUnavailable,
    RapportError,
)
from rapport.metakocka.calls import Caller, Company
from rapport.metakocka.payloads import NewPartner, PartnerUpdate, RepeatableUpdate
from rapport.metakocka.secrets import SecretSource
from rapport.metakocka.wire import CreatedPartner, DocumentPage, PartnerList, PartnerRecord, read
from rapport.metakocka_rows import RetryKind, RetrySettings
from rapport.retry import Retries, repeated

Operation = Literal["add_partner", "get_partner", "list_partners", "search", "update_partner"]
Key = Literal[
    "partner_id", "partner_name", "partner_tax_number", "partner_email", "partner_phone_number"
]

PAGE_LIMIT = 100  # documents


@dataclass(frozen=True)
class Policy:
    """How patient a call is: seconds for an answer, and how often it is tried.

    Of a call that must not be repeated only tries that can't have been heard are.
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
    return replace(
        usual,
        attempts=settings.attempts or usual.attempts,
        first_wait=settings.first_wait,
        longest_wait=settings.longest_wait,
        jitter=settings.jitter,
    )


class MetakockaClient:
    """Calls the API for one company; may be shared between threads, whose calls queue up.

    Every call raises MetakockaRefused, MetakockaUnavailable, MetakockaClosed, ConfigError or
    UpstreamUnavailable, with the number of tries in `attempts`. `before` is called before each
    try; what it raises is raised.
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
        """The partner as it is after the update, or None where the answer does not show it.

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
        """The partners that Metakocka finds; a name may be a part of theirs.

        Raises MetakockaError where some of what it found is not readable.
        """
        found = PartnerList(self._repeat("get_partner", {key: value}))
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
        """A page of the documents changed since then (with a time zone), for their partners."""
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
        """A call that is harmless to repeat: a lost answer is asked for again."""
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
        """A call that must not be repeated once it may have been heard."""
        return self._tried(operation, body, policy or self._policies[operation], _was_not_heard)

    def _tried(
        self,
        operation: Operation,
        body: Mapping[str, JsonValue],
        policy: Policy,
        is_retryable: Callable[[BaseException], bool],
    ) -> dict[str, JsonValue]:
        tries = repeated(policy.retries, is_retryable)

        def one_try() -> dict[str, JsonValue]:
            self._before()
            return self._caller.call(operation, body, policy.timeout)

        try:
            return tries(one_try)
        except MetakockaError as error:
            error.attempts = tries.statistics["attempt_number"]
            raise


def _was_not_heard(error: BaseException) -> bool:
    # one that is about every call is no reason for another
    return (
        isinstance(error, RapportError)
        and error.retryable
        and not isinstance(error, MetakockaClosed)
    )


def _is_passing(error: BaseException) -> bool:
    return _was_not_heard(error) or isinstance(error, MetakockaOutcomeUnknown)
