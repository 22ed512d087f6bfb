"""The functions' log: one JSON line for each event, with the request's correlation id.

Lines hold ids, counts, codes and durations. They never hold bodies, tokens, names or phone numbers,
not even in errors.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Protocol, TypeVar

from aws_lambda_powertools import Logger

from rapport.errors import Conflict, MetakockaError, RapportError, RequestError

logger = Logger(service="rapport", utc=True)


def log_crash(error: BaseException, **ids: object) -> None:
    """Logs an exception's class and where it was raised.

    Its message is left out, since it may quote secret or personal data.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
    logger.error("crashed", extra={"error": type(error).__name__, "at": at, **ids})


class Crash(Exception):  # noqa: N818 - as Lambda's log has it
    """A function failed. Its log says where, without the exception's own words."""


# These errors' messages may quote a user, a customer or Metakocka.
_OTHERS_WORDS = (RequestError, Conflict, MetakockaError)


def described(error: RapportError) -> dict[str, object]:
    """The fields of an error that may be logged: code, status, and the message if it is ours."""
    told: dict[str, object] = {"code": error.code, "status": error.http_status}
    if error.sqlstate is not None:
        told["sqlstate"] = error.sqlstate
    # a sentence that the database wrote for the caller may quote what the caller sent
    is_quoted = error.sqlstate is not None and error.is_told
    if not isinstance(error, _OTHERS_WORDS) and not is_quoted:
        told["reason"] = str(error)
    if error.field:
        told["field"] = error.field
    if isinstance(error, MetakockaError):
        told["operation"] = error.operation
        # Metakocka's code, if it looks like a code
        if re.fullmatch(r"[0-9A-Za-z_-]{1,8}", error.opr_code or ""):
            told["opr_code"] = error.opr_code
    return told


class WorkerContext(Protocol):
    """The part of Lambda's context that workers use."""

    @property
    def aws_request_id(self) -> str: ...

    def get_remaining_time_in_millis(self) -> int: ...


ContextT = TypeVar("ContextT", bound=WorkerContext, contravariant=True)
AnswerT = TypeVar("AnswerT")
EventT = TypeVar("EventT")


def worker(
    handle: Callable[[EventT, ContextT], AnswerT],
) -> Callable[[EventT, ContextT], AnswerT]:
    """Makes `handle` a function for which nobody waits; each run has a correlation id.

    Raises:
        Crash: It failed. Lambda would log the message of any other exception.
    """

    @wraps(handle)
    def function(event: EventT, context: ContextT) -> AnswerT:
        with correlated(context.aws_request_id):
            return guarded(lambda: handle(event, context))

    return function


def guarded(run: Callable[[], AnswerT]) -> AnswerT:
    """Calls `run` and returns its result.

    Raises:
        Crash: It raised an exception. That is logged without words that are not ours.
    """
    try:
        return run()
    except RapportError as error:
        # without the traceback, which would show foreign words
        logger.error("failed", extra=described(error))  # noqa: TRY400 - a trace would quote
        raise Crash(type(error).__name__) from None
    except Exception as error:  # noqa: BLE001 - its words stay here
        log_crash(error)
        raise Crash(type(error).__name__) from None


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Adds the request's id to every line that this thread logs, until the end."""
    before = logger.thread_safe_get_current_keys().get("correlation_id")
    logger.thread_safe_append_keys(correlation_id=correlation_id)
    try:
        yield
    finally:
        if before is None:
            logger.thread_safe_remove_keys(["correlation_id"])
        else:
            logger.thread_safe_append_keys(correlation_id=before)
