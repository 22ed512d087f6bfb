"""Why something does not show, as the database answers it."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from rapport.store.postgrest import Store, understood


class Step(BaseModel):
    """A step of the way on which something comes to be shown."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    step: str
    # None where it can't be known
    ok: bool | None
    # for programs: <step>.<what was found>, with ids, figures and times (UTC)
    code: str
    facts: dict[str, JsonValue]
    words: str
    remedy: str | None


class Diagnosis(BaseModel):
    """The steps in their order; `words` and `remedy` are those of the first broken one."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    reference: str
    # message, conversation, contact, number or partner; None where the reference stands for nothing
    kind: str | None
    id: UUID | None
    account_id: UUID | None
    # of the times in words and remedies
    time_zone: str
    # whether it was told to somebody who may see it; None where it can't be known
    match: bool | None
    broken: str | None
    words: str
    remedy: str | None
    steps: list[Step]


class DiagnosisStore(Store):
    """The call may be repeated, and raises as `Store` says."""

    def why_not_shown(
        self,
        reference: str,
        *,
        account: str | None = None,
        kind: str | None = None,
        login: str | None = None,
    ) -> Diagnosis:
        """Why what an id or a number stands for does not show, in English.

        Without an account, named by its external id or id, all accounts are asked about. `login`
        is an email or a user id.

        Raises:
            NotFound: There is no such account.
            RequestError: An argument is wrong, or several accounts have something with this id.
        """
        answer = self._call(
            "why_not_shown",
            {"reference": reference, "account": account, "kind": kind, "login": login},
        )
        return understood(Diagnosis, answer)
