"""The functions' log: one JSON line for each event, with the request's correlation id.

Lines hold ids, counts, codes and durations. They never hold bodies, tokens, names or phone numbers,
not even in errors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from types import MappingProxyType
from typing import IO, Protocol, TypeVar

from rapport.errors import Conflict, MetakockaError, RapportError, RequestError

_SERVICE = "rapport"
# of the request or the message that this thread works on
_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
# what else the request or the message is about, as far as it is known: ids
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default=MappingProxyType({}))
# the fields of a line are kept on its record beneath this name
_FIELDS = "rapport_fields"


class _Formatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": at.isoformat(timespec="milliseconds"),
            "service": _SERVICE,
        }
        if (correlation_id := _correlation_id.get()) is not None:
            line["correlation_id"] = correlation_id
        line |= _ids.get()
        line |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[1] is not None:
            line |= _crash(record.exc_info[1])
        return json.dumps(line, default=str, ensure_ascii=False)


class _Stdout(logging.StreamHandler[IO[str]]):
    """Writes to what is stdout at that time: a test may have replaced it."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


class JsonLog:
    """Writes lines with fields; `extra` has those whose names aren't known before."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(_SERVICE)
        self._logger.setLevel(os.environ.get("LOG_LEVEL", "INFO").upper())
        self.registered_formatter = _Formatter()
        handler = _Stdout()
        handler.setFormatter(self.registered_formatter)
        self._logger.addHandler(handler)
        # Lambda's own handler would write each line once more
        for other in logging.getLogger().handlers:
            other.addFilter(_is_not_ours)

    def info(
        self, message: str, *, extra: Mapping[str, object] | None = None, **fields: object
    ) -> None:
        self._write(logging.INFO, message, extra, fields)

    def warning(
        self, message: str, *, extra: Mapping[str, object] | None = None, **fields: object
    ) -> None:
        self._write(logging.WARNING, message, extra, fields)

    def error(
        self, message: str, *, extra: Mapping[str, object] | None = None, **fields: object
    ) -> None:
        self._write(logging.ERROR, message, extra, fields)

    def setLevel(self, level: int) -> None:  # noqa: N802 - the library's word
        """Writes nothing below a level."""
        self._logger.setLevel(level)

    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802 - the library's word
        """Hands each record to another handler as well."""
        self._logger.addHandler(handler)

    def removeHandler(self, handler: logging.Handler) -> None:  # noqa: N802 - the library's word
        """Undoes `addHandler`."""
        self._logger.removeHandler(handler)

    def _write(
        self,
        level: int,
        message: str,
        extra: Mapping[str, object] | None,
        fields: dict[str, object],
    ) -> None:
        told = {**(extra or {}), **fields}
        # each field on the record, too, for other handlers
        shown = {name: value for name, value in told.items() if name not in _RESERVED}
        self._logger.log(level, message, extra={**shown, _FIELDS: told}, stacklevel=3)


# names that a record has of its own
_RESERVED = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.name != _SERVICE


logger = JsonLog()


def log_crash(error: BaseException, **ids: object) -> None:
    """Logs an exception's class and where it was raised.

    Its message is left out, since it may quote secret or personal data.
    """
    logger.error("crashed", extra={**_crash(error), **ids})


def _crash(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
    return {"error": type(error).__name__, "at": at}


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
    before = _correlation_id.set(correlation_id)
    known = _ids.set({})
    try:
        yield
    finally:
        _ids.reset(known)
        _correlation_id.reset(before)


def about(**ids: object) -> None:
    """Adds ids, such as conversation_id, to the lines that follow until `correlated` ends.

    What is None is not known, and left out.
    """
    _ids.set({**_ids.get(), **{name: str(one) for name, one in ids.items() if one is not None}})
