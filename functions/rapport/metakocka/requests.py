"""What the endpoints for Metakocka take and answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from rapport.metakocka.progress import Outcome

# as many as a run takes
IDS_LIMIT = 1000

MetakockaId = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,64}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # needed where the user administers several
    accountId: UUID | None = None  # noqa: N815 - as clients write it


class WhichWay(BaseModel):
    """The query of sync-to-metakocka."""

    bulk: bool = False


class OneContact(_Request):
    """A contact to be sent."""

    contactId: UUID  # noqa: N815


class Contacts(_Request):
    """Contacts to be sent."""

    contactIds: Annotated[list[UUID], Field(min_length=1, max_length=IDS_LIMIT)]  # noqa: N815


class OnePartner(_Request):
    """A partner to be read."""

    metakockaId: MetakockaId  # noqa: N815


class Partners(_Request):
    """Partners to be read; without any all of them."""

    metakockaIds: Annotated[  # noqa: N815
        list[MetakockaId] | None, Field(min_length=1, max_length=IDS_LIMIT)
    ] = None


class Unsynced(_Request):
    """A page of partners that are no contact yet: those beyond the id `cursor`."""

    cursor: MetakockaId | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class WhichMappings(_Request):
    """The mapping of one contact, or a page of all."""

    contactId: UUID | None = None  # noqa: N815
    cursor: Annotated[str | None, StringConstraints(min_length=1, max_length=128)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


def one_answer(outcome: Outcome) -> dict[str, JsonValue]:
    """What became of one, as it is told."""
    answer: dict[str, JsonValue] = {"id": outcome.id, "status": outcome.status}
    if outcome.contact_id:
        answer["contactId"] = str(outcome.contact_id)
    if outcome.metakocka_id:
        answer["metakockaId"] = outcome.metakocka_id
    if not outcome.is_good:
        error: dict[str, JsonValue] = {"error": outcome.code, "message": outcome.message}
        answer["error"] = error | ({"field": outcome.field} if outcome.field else {})
    return answer


def bulk_answer(outcomes: list[Outcome]) -> dict[str, JsonValue]:
    """What became of each, and how many went well."""
    succeeded = sum(one.is_good for one in outcomes)
    return {
        "total": len(outcomes),
        "succeeded": succeeded,
        "failed": len(outcomes) - succeeded,
        "results": [one_answer(one) for one in outcomes],
    }
