"""Every error that Rapport raises on purpose.

RapportError
├ ConfigError
├ RequestError
│ ├ MalformedPayload
│ ├ BadSignature
│ ├ NotSignedIn
│ ├ NotAllowed
│ ├ NotFound
│ ├ MethodNotAllowed
│ ├ NotFetched
│ ├ Gone
│ ├ PayloadTooLarge
│ ├ MalformedTable
│ ├ NotAPhoneNumber
│ ├ TooManyRequests*
│ └ Unprocessable
├ StoreError
│ ├ Conflict
│ ├ LeaseLost
│ ├ SyncBusy*
│ └ StoreUnavailable*
│   ├ StoreBusy*
│   └ StoreClosed*
└ UpstreamError
  ├ UpstreamUnavailable*
  ├ WhatsAppError
  │ ├ WhatsAppRefused
  │ └ WhatsAppUnavailable*
  ├ MetakockaError
  │ ├ MetakockaRefused
  │ ├ MetakockaUnavailable*
  │ ├ MetakockaClosed*
  │ └ MetakockaOutcomeUnknown
  ├ StorageError
  │ └ StorageUnavailable*
  └ QueueUnavailable*

(* retryable: the same call may succeed later)
"""
# The classes are named as in the drawing: `raise NotFound` reads better than `raise NotFoundError`.
# ruff: noqa: N818

from __future__ import annotations

import re
from typing import ClassVar


class RapportError(Exception):
    """Something went wrong in Rapport."""

    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    # the caller gets its message even where the status is 5xx
    is_told: bool = False
    # the code of Postgres or PostgREST, where one of them refused
    sqlstate: str | None = None
    # seconds until another try makes sense, if known
    retry_after: float | None = None

    def __init__(
        self, message: str | None = None, *, field: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message or type(self).__doc__)
        # the wrong field of the request, such as `content.link`, and the remedy
        self.field = field
        self.hint = hint

    @property
    def code(self) -> str:
        """The class's name in snake case, for clients to match."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


def asked_to_wait(error: Exception) -> float:
    """Seconds that the server has asked to wait (Retry-After); 0 if it has asked for nothing."""
    return (error.retry_after or 0) if isinstance(error, RapportError) else 0


class ConfigError(RapportError):
    """A setting is missing or wrong."""

    http_status = 500
    retryable = False


class RequestError(RapportError):
    """The request can't be served."""

    http_status = 400
    retryable = False


class MalformedPayload(RequestError):
    """The body is not what this endpoint takes."""

    http_status = 400
    retryable = False


class BadSignature(RequestError):
    """The signature is missing or wrong."""

    http_status = 401
    retryable = False


class NotSignedIn(RequestError):
    """A user's access token is required, and is missing, wrong or expired."""

    http_status = 401
    retryable = False


class NotAllowed(RequestError):
    """This is not allowed."""

    http_status = 403
    retryable = False


class NotFound(RequestError):
    """There is nothing here."""

    http_status = 404
    retryable = False


class MethodNotAllowed(RequestError):
    """This method is not served here."""

    http_status = 405
    retryable = False


class NotFetched(RequestError):
    """The file could not be fetched from WhatsApp."""

    http_status = 409
    retryable = False


class Gone(RequestError):
    """It is no longer available."""

    http_status = 410
    retryable = False


class PayloadTooLarge(RequestError):
    """The body is too large."""

    http_status = 413
    retryable = False


class MalformedTable(RequestError):
    """The file is not a table of contacts."""

    http_status = 422
    retryable = False


class NotAPhoneNumber(RequestError):
    """This is not a phone number."""

    http_status = 422
    retryable = False
    # what it can be read as, such as `+38640111222 (SI)`, where that is not one number alone
    readings: tuple[str, ...] = ()


class TooManyRequests(RequestError):
    """The user has made more requests than one user may make at a time."""

    http_status = 429
    retryable = True

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        hint: str | None = None,
        retry_after: float = 1,
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        # seconds
        self.retry_after = retry_after


class Unprocessable(RequestError):
    """A field has a value that is not accepted."""

    http_status = 422
    retryable = False


class StoreError(RapportError):
    """The database refused the call."""

    http_status = 500
    retryable = False


class Conflict(StoreError):
    """The stored data contradicts the change."""

    http_status = 409
    retryable = False


class LeaseLost(StoreError):
    """Another worker has taken this work over."""

    http_status = 409
    retryable = False


class SyncBusy(StoreError):
    """Another run of the sync is at work for this account."""

    http_status = 503
    retryable = True
    is_told = True

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message, hint="Try again after that.")
        self.retry_after = retry_after


class StoreUnavailable(StoreError):
    """The database can't be reached, or is too busy."""

    http_status = 503
    retryable = True


class StoreBusy(StoreUnavailable):
    """Another writer has this locked at the moment."""

    http_status = 503
    retryable = True


class StoreClosed(StoreUnavailable):
    """The database refuses every call: it is paused, or a key or a setting of ours is wrong."""

    http_status = 503
    # true once a person has removed the cause
    retryable = True


class UpstreamError(RapportError):
    """A service that we rely on refused the call."""

    http_status = 502
    retryable = False


class UpstreamUnavailable(UpstreamError):
    """A service that we rely on can't be reached, or is too busy."""

    http_status = 503
    retryable = True


class WhatsAppError(UpstreamError):
    """The call to WhatsApp failed."""

    http_status = 502
    retryable = False

    def __init__(self, message: str | None = None, graph_code: int | None = None) -> None:
        super().__init__(message)
        # the Graph API's own
        self.graph_code = graph_code


class WhatsAppRefused(WhatsAppError):
    """WhatsApp refused the call."""

    http_status = 502
    retryable = False


class WhatsAppUnavailable(WhatsAppError):
    """WhatsApp can't be reached, or is too busy."""

    http_status = 503
    retryable = True


class MetakockaError(UpstreamError):
    """The call to Metakocka failed."""

    http_status = 502
    retryable = False

    def __init__(
        self,
        message: str | None = None,
        *,
        operation: str | None = None,
        opr_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        # the call's name, such as add_partner, and Metakocka's own code
        self.operation = operation
        self.opr_code = opr_code
        # seconds, where Metakocka says so
        self.retry_after = retry_after
        # how often it was tried
        self.attempts = 1


class MetakockaRefused(MetakockaError):
    """Metakocka refused the call."""

    http_status = 502
    retryable = False


class MetakockaUnavailable(MetakockaError):
    """Metakocka can't be reached, or is too busy."""

    http_status = 503
    retryable = True


class MetakockaClosed(MetakockaError):
    """Metakocka takes no calls of this company at the moment.

    A quota is used up, or the key is not accepted: this concerns every contact and partner.
    """

    http_status = 503
    retryable = True
    is_told = True


class MetakockaOutcomeUnknown(MetakockaError):
    """Metakocka did not answer, and may have done it or not."""

    http_status = 502
    retryable = False


class StorageError(UpstreamError):
    """The file storage refused the call."""

    http_status = 500
    retryable = False


class StorageUnavailable(StorageError):
    """The file storage can't be reached, or is too busy."""

    http_status = 503
    retryable = True


class QueueUnavailable(UpstreamError):
    """The queue can't be reached, or does not take the message."""

    http_status = 503
    retryable = True


# Five characters are Postgres' SQLSTATE. PTxyz is our functions' way to choose an HTTP status.
# PGRSTnnn is PostgREST's own code. Three digits are the HTTP status of an answer without a code.
# Sources: postgresql.org, "PostgreSQL Error Codes"; docs.postgrest.org, "Errors".
_BY_CODE: dict[str, type[RapportError]] = {
    "PT400": MalformedPayload,
    "PT401": NotAllowed,
    "PT403": NotAllowed,
    "PT404": NotFound,
    "PT409": Conflict,
    "PT413": PayloadTooLarge,
    "PT422": Unprocessable,
    "PT429": TooManyRequests,
    "PT503": StoreUnavailable,
    "23505": Conflict,  # unique_violation
    "23P01": Conflict,  # exclusion_violation
    "PT405": MethodNotAllowed,
    "PT410": Gone,
    "RP004": LeaseLost,  # private.require_lease
    "40001": StoreUnavailable,  # serialization_failure
    "40P01": StoreUnavailable,  # deadlock_detected
    "42501": NotAllowed,  # insufficient_privilege
    "42883": StoreClosed,  # undefined_function
    "42P01": StoreClosed,  # undefined_table, where PostgREST before 13 did not look itself
    "55P03": StoreBusy,  # lock_not_available
    "57014": StoreUnavailable,  # query_canceled: the statement time-out
    "57P01": StoreUnavailable,  # admin_shutdown
    "57P02": StoreUnavailable,  # crash_shutdown
    "57P03": StoreUnavailable,  # cannot_connect_now
    "PGRST000": StoreUnavailable,  # could not connect
    "PGRST001": StoreUnavailable,  # connection lost
    "PGRST002": StoreUnavailable,  # no schema cache yet
    "PGRST003": StoreUnavailable,  # no free connection in time
    "PGRST106": StoreClosed,  # the schema is not exposed
    "PGRST202": StoreClosed,  # the function does not exist
    "PGRST205": StoreClosed,  # the table does not exist
    "PGRST300": StoreClosed,  # PostgREST has no secret to verify keys with
    "PGRST301": StoreClosed,  # the key is not a valid token
    "PGRST302": StoreClosed,  # a key is required and missing
    "PGRST303": StoreClosed,  # the key has expired
    "PGRSTX00": StoreUnavailable,  # PostgREST's own connections failed
    # Postgres' process died before it could name an error
    "": StoreUnavailable,
    # HTTP statuses of the gateway in front of PostgREST
    "401": StoreClosed,  # the gateway does not know the key
    "402": StoreClosed,  # the organization's paid usage is exhausted
    "403": StoreClosed,
    "404": StoreClosed,  # no project, or no PostgREST, at this address
    "408": StoreUnavailable,
    "429": StoreUnavailable,
    "540": StoreClosed,  # the project is paused
}
_BY_CLASS: dict[str, type[RapportError]] = {
    "08": StoreUnavailable,  # connection exceptions
    "53": StoreUnavailable,  # insufficient resources
    "58": StoreUnavailable,  # errors of the machine, such as a failing disk
}
_OF_GATEWAY = re.compile(r"5[0-9]{2}")  # the gateway got no usable answer

_WRONG_KEY = (
    "Set the key that the project's API settings show: SUPABASE_SECRET_KEY for the"
    " functions' own calls, SUPABASE_PUBLISHABLE_KEY for users' calls."
)
_MIGRATE = (
    "Apply the migrations (supabase db push); if they are applied, have PostgREST read the"
    " schema again: notify pgrst, 'reload schema'."
)
_REMEDIES = {
    "42883": _MIGRATE,
    "42P01": _MIGRATE,
    "PGRST106": "Expose the schema backend beside public in the project's API settings.",
    "PGRST202": _MIGRATE,
    "PGRST205": _MIGRATE,
    "PGRST300": "Set the JWT secret of PostgREST.",
    "PGRST301": _WRONG_KEY,
    "PGRST302": _WRONG_KEY,
    "PGRST303": _WRONG_KEY,
    "401": _WRONG_KEY,
    "402": "Check the organization's billing in Supabase's dashboard.",
    "403": _WRONG_KEY,
    "404": "Check SUPABASE_URL: it is the project's address, without a path.",
    "540": "Restore the project in Supabase's dashboard.",
}


# PostgREST's codes for a token that is wrong; here the token is the caller's, not ours.
_TOKEN_CODES = frozenset({"PGRST300", "PGRST301", "PGRST302", "PGRST303"})
# Postgres' classes of errors about values: of a wrong type, or against a constraint.
_OF_VALUES = frozenset({"22", "23"})
_FIELD = re.compile(r"\bfield: ([\w.]+)")
_RETRY_AFTER = re.compile(r"\bretry after: (\d{1,5}) s")


def from_postgrest(
    code: str | None,
    message: str | None = None,
    details: str | None = None,
    hint: str | None = None,
) -> RapportError:
    """The error for what PostgREST answers; an unknown code is a plain `StoreError`.

    Where one of our SQL functions refuses, its sentence, field and hint are the error's, and may
    be told to the caller. Where Postgres or PostgREST does, their words stay behind, since they may
    quote a row, and the message says what an operator has to do.
    """
    code = "unknown" if code is None else code
    known = _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or StoreError
    if _OF_GATEWAY.fullmatch(code) and known is StoreError:
        known = StoreUnavailable
    if message and _is_refused_by_us(code, hint):
        field = _FIELD.search(details or "")
        error = known(message, field=field[1] if field else None, hint=hint)
        error.is_told = True
        if isinstance(error, TooManyRequests) and (seconds := _RETRY_AFTER.search(details or "")):
            error.retry_after = int(seconds[1])
    else:
        remedy = f" {_REMEDIES[code]}" if code in _REMEDIES else ""
        error = known(f"{known.__doc__} (code {code or 'empty'}){'.' if remedy else ''}{remedy}")
    error.sqlstate = code
    return error


def from_users_postgrest(
    code: str | None, message: str | None, details: str | None, hint: str | None
) -> RapportError:
    """The error for a call as a user: as `from_postgrest`, but token and values are the user's."""
    if code in _TOKEN_CODES:
        return NotSignedIn()
    error = from_postgrest(code, message, details, hint)
    if type(error) is StoreError and code and code[:2] in _OF_VALUES:
        return Unprocessable("A value of this request is not accepted.")
    return error


def _is_refused_by_us(code: str, hint: str | None) -> bool:
    # Postgres' own refusal of what is not permitted has no hint, ours have one
    return code.startswith(("PT", "RP")) or (code == "42501" and bool(hint))
