"""The sync for requests: a few contacts or partners at once, more of them in a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal, NotRequired, get_args
from uuid import UUID

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from rapport.api_json import ApiRequest, Id, camel_field
from rapport.errors import (
    Conflict,
    MetakockaClosed,
    MetakockaError,
    MetakockaUnavailable,
    NotFound,
    RapportError,
    SyncBusy,
    Unprocessable,
)
from rapport.log import about
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.client import Operation, Policy
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.sync.find_contact import ref_of
from rapport.metakocka.sync.progress import Outcome, Status
from rapport.retry import Retries
from rapport.store.metakocka_requests import Authorized, MetakockaUser
from rapport.store.metakocka_rows import AtWork, Direction, SyncRequest

if TYPE_CHECKING:
    from rapport.metakocka.sync.run import Report, Sync

# as many as a run takes
IDS_LIMIT = 1000

MetakockaId = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,64}$")]


class _Request(ApiRequest):
    # needed if the user administers several accounts
    account_id: UUID | None = None


class WhichWay(ApiRequest):
    """The query of sync-to-metakocka."""

    bulk: bool = False


class OneContact(_Request):
    """A contact to send."""

    contact_id: UUID


class Contacts(_Request):
    """Contacts to send."""

    contact_ids: Annotated[list[UUID], Field(min_length=1, max_length=IDS_LIMIT)]


class OnePartner(_Request):
    """A partner to read."""

    metakocka_id: MetakockaId


class Partners(_Request):
    """Partners to read; all partners without ids."""

    metakocka_ids: Annotated[
        list[MetakockaId] | None, Field(min_length=1, max_length=IDS_LIMIT)
    ] = None


class Unsynced(_Request):
    """A page of the partners without a contact, after the id `cursor`."""

    cursor: MetakockaId | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class WhichMappings(_Request):
    """The mapping of one contact, or a page of all."""

    contact_id: UUID | None = None
    cursor: Annotated[str | None, StringConstraints(min_length=1, max_length=128)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class OutcomeError(TypedDict):
    """Why nothing was done."""

    code: str | None
    message: str | None
    field: NotRequired[str]


class SyncOutcome(TypedDict):
    """The outcome for one contact or partner; `id` is the one that the request named."""

    id: str
    status: Status
    contact_id: NotRequired[Id]
    metakocka_id: NotRequired[str]
    error: NotRequired[OutcomeError]


class SyncOutcomes(TypedDict):
    """The outcomes for several contacts or partners."""

    total: int
    succeeded: int
    failed: int
    results: list[SyncOutcome]


class SyncQueued(TypedDict):
    """A run does it: its row of `sync_runs` tells how far it is."""

    run_id: Id


class SyncBegun(SyncOutcomes):
    """A run does the rest: its row of `sync_runs` tells how far it is."""

    run_id: Id


class UnsyncedPartner(TypedDict):
    """A partner at Metakocka that no contact has."""

    metakocka_id: str
    name: NotRequired[str]
    email: NotRequired[str]
    phone: NotRequired[str]
    gsm: NotRequired[str]
    tax_id_number: NotRequired[str]
    street: NotRequired[str]
    post_number: NotRequired[str]
    place: NotRequired[str]


class UnsyncedPartners(TypedDict):
    """A page of partners; the last one has no cursor."""

    partners: list[UnsyncedPartner]
    cursor: str | None


def one_answer(outcome: Outcome) -> SyncOutcome:
    """The answer for one outcome."""
    answer: SyncOutcome = {"id": outcome.id, "status": outcome.status}
    if outcome.contact_id:
        answer["contact_id"] = str(outcome.contact_id)
    if outcome.metakocka_id:
        answer["metakocka_id"] = outcome.metakocka_id
    if not outcome.is_good:
        error: OutcomeError = {"code": outcome.code, "message": outcome.message}
        if outcome.field:
            error["field"] = camel_field(outcome.field)
        answer["error"] = error
    return answer


def bulk_answer(outcomes: list[Outcome]) -> SyncOutcomes:
    """The answer for several outcomes, with the number of good ones."""
    succeeded = sum(one.is_good for one in outcomes)
    return {
        "total": len(outcomes),
        "succeeded": succeeded,
        "failed": len(outcomes) - succeeded,
        "results": [one_answer(one) for one in outcomes],
    }


# a request for more ids becomes a run
AT_ONCE = 50
# seconds: an HTTP API waits 30
TIME = 25.0
RESERVE = 10.0
# seconds between two looks at another run, until it has ended
_LOOK = 0.2
_ONCE = Retries(attempts=1)
POLICIES: Mapping[Operation, Policy] = {
    "add_partner": Policy(timeout=8, retries=_ONCE),
    "get_partner": Policy(timeout=8, retries=_ONCE),
    "list_partners": Policy(timeout=20, retries=_ONCE),
    "search": Policy(timeout=8, retries=_ONCE),
    "update_partner": Policy(timeout=8, retries=_ONCE),
}
_Shown = Literal["name", "email", "phone", "gsm", "tax_id_number", "street", "post_number", "place"]
_SHOWN: tuple[_Shown, ...] = get_args(_Shown)


@dataclass(frozen=True)
class Answer:
    """The outcomes at the time of the answer; `run_id` is the run that does the rest."""

    outcomes: list[Outcome]
    run_id: UUID | None = None


def send(
    sync: Sync, user: MetakockaUser, account_id: UUID | None, contact_ids: Sequence[UUID]
) -> Answer:
    """Sends contacts to Metakocka.

    Raises:
        SyncBusy: Another run is at work, longer than the connection's `request_wait`.
        MetakockaClosed: Metakocka takes no calls of the account's company at the moment.
        RapportError: The user is not allowed, the account is not clear, or it is not connected.
    """
    wanted = list(dict.fromkeys(contact_ids))
    allowed = user.authorize(account_id, wanted)
    about(account_id=allowed.account_id)
    known = set(allowed.contact_ids)
    missing = [
        Outcome(str(one), "not_found", code="not_found", message="There is no such contact.")
        for one in wanted
        if one not in known
    ]
    if not known:
        return Answer(missing)
    if len(known) > AT_ONCE:
        run_id = user.request_sync(
            allowed.account_id, "to_metakocka", contact_ids=allowed.contact_ids
        )
        return Answer(missing, run_id)
    request = SyncRequest(contact_ids=allowed.contact_ids)
    answer = _run(sync, allowed, "to_metakocka", request)
    return Answer([*answer.outcomes, *missing], answer.run_id)


def receive(
    sync: Sync,
    user: MetakockaUser,
    account_id: UUID | None,
    metakocka_ids: Sequence[str] | None,
) -> Answer:
    """Reads partners from Metakocka, all partners without ids; raises as `send`."""
    allowed = user.authorize(account_id)
    about(account_id=allowed.account_id)
    if metakocka_ids is None or len(set(metakocka_ids)) > AT_ONCE:
        run_id = user.request_sync(
            allowed.account_id, "from_metakocka", metakocka_ids=metakocka_ids or ()
        )
        return Answer([], run_id)
    request = SyncRequest(metakocka_ids=list(dict.fromkeys(metakocka_ids)))
    return _run(sync, allowed, "from_metakocka", request)


def unsynced(
    sync: Sync, user: MetakockaUser, account_id: UUID | None, after: str | None, limit: int
) -> UnsyncedPartners:
    """A page of the partners without a contact, by id; raises as `send`, and MetakockaError."""
    allowed = user.authorize(account_id)
    about(account_id=allowed.account_id)
    connection = sync.store.connection(str(allowed.account_id))
    terms = sync.terms(connection)
    found: list[UnsyncedPartner] = []
    last: str | None = None
    with sync.client(allowed.account_id, connection) as client:
        records = client.list_partners().in_order(after)
        while batch := list(islice(records, 200)):
            partners = [from_record(record, region=terms.region) for record in batch]
            refs = [ref_of(partner, known_hash=False) for partner in partners]
            known = sync.store.read_partners(allowed.account_id, refs)
            for partner, one in zip(partners, known, strict=True):
                if one.contact_id is None:
                    if len(found) == limit:
                        return {"partners": found, "cursor": last}
                    found.append(_shown(partner.mk_id, partner.party))
                last = partner.mk_id
    return {"partners": found, "cursor": None}


def require_good(outcome: Outcome) -> None:
    """Checks that an outcome is good, or will still come.

    Raises:
        RapportError: The error that an endpoint answers.
    """
    if outcome.is_good or outcome.status == "waiting":
        return
    words = outcome.message
    error: RapportError = MetakockaError(words)
    if outcome.status == "not_found":
        error = NotFound(words)
    elif outcome.status == "blocked":
        error = Unprocessable(words, field=outcome.field, hint="Fill in or correct the field.")
    elif outcome.status == "conflict":
        error = Conflict(words, hint="Decide it in sync_conflicts.")
    elif outcome.code == MetakockaUnavailable().code:
        error = MetakockaUnavailable(words)
    elif outcome.code == MetakockaClosed().code:
        error = MetakockaClosed(words)
    raise error


def _run(sync: Sync, allowed: Authorized, direction: Direction, request: SyncRequest) -> Answer:
    report = _report(sync, allowed, direction, request)
    by_id = {one.id: one for one in report.outcomes}
    wanted = [str(one) for one in request.contact_ids or request.metakocka_ids or ()]
    outcomes = [by_id.get(one) or _untouched(one, report.error) for one in wanted]
    is_open = report.state in ("stopped", "taken over")
    return Answer(outcomes, report.run_id if is_open else None)


def _report(sync: Sync, allowed: Authorized, direction: Direction, request: SyncRequest) -> Report:
    """The request's own run, once no other run is at work for the account."""
    waits_until: float | None = None
    while True:
        report = sync.run(allowed.account_id, direction, "user", allowed.user_id, request)
        if report is not None:
            return report
        at_work = sync.store.sync_at_work(allowed.account_id)
        if at_work is None:
            raise NotFound("This account has no active connection to Metakocka any more.")
        if waits_until is None:
            # the rest of the time must be enough for the run itself
            spare = sync.remaining() - sync.reserve - _LOOK
            waits_until = time.monotonic() + min(at_work.request_wait, spare)
        if at_work.paused_until is not None or time.monotonic() >= waits_until:
            raise busy(at_work)
        time.sleep(_LOOK)


def busy(at_work: AtWork) -> SyncBusy | MetakockaClosed:
    """Why a run can't begin, and in how many seconds to try again."""
    if at_work.paused_until is not None:
        left = (at_work.paused_until - at_work.now).total_seconds()
        return MetakockaClosed(
            "Metakocka takes no calls of this company at the moment: the sync goes on at"
            f" {_clock(at_work.paused_until)}. {at_work.pause_reason or ''}".strip(),
            retry_after=left,
        )
    until = at_work.lease_until or at_work.now
    left = (until - at_work.now).total_seconds()
    if at_work.ends_by is None:
        words = f"its lease ends at {_clock(until)}, and the run extends it while it is at work"
    else:
        words = f"it ends by {_clock(at_work.ends_by)} at the latest"
    return SyncBusy(
        f"Another run of the sync is at work for this account: {words}.", retry_after=max(left, 1)
    )


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _untouched(id_: str, error: RapportError | None) -> Outcome:
    if error is None:
        return Outcome(id_, "waiting", code="waiting", message="It waits for its turn in the run.")
    return Outcome(id_, "failed", code=error.code, message=str(error))


def _shown(metakocka_id: str, party: Party) -> UnsyncedPartner:
    shown: UnsyncedPartner = {"metakocka_id": metakocka_id}
    for name in _SHOWN:
        if (value := getattr(party, name)) is not None:
            shown[name] = value
    return shown
