"""Reads Auth's requests, and writes its answers and refusals over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date
from typing import TypeVar

import psycopg
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from rapport.local.supabase.auth.errors import AuthError, validation_failed

MAX_BODY_BYTES = 1_000_000
VERSION_HEADER = "x-supabase-api-version"
# from this version on the error's code is a word; before, it is the HTTP status
WORD_CODES = date(2024, 1, 1)

log = logging.getLogger(__name__)

Body = TypeVar("Body", bound=BaseModel)


async def read(request: Request, model: type[Body]) -> Body:
    """Reads and checks a JSON body; a missing body counts as an empty object.

    Raises AuthError: 413 above 1 MB, bad_json, or validation_failed with the field's name.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise AuthError(413, "validation_failed", "Request body is larger than 1 MB")
    try:
        return model.model_validate_json(bytes(body) or b"{}")
    except ValidationError as error:
        raise _refused(error) from None


def query(request: Request, model: type[Body]) -> Body:
    """Checks the query's parameters; an empty parameter counts as missing. Raises AuthError."""
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refused(error) from None


def answer(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Sends a model as JSON, without fields that are null."""
    content = model.model_dump_json(exclude_none=True)
    return Response(content, status, headers, media_type="application/json")


def refuse(request: Request, error: AuthError) -> JSONResponse:
    """Sends a refusal in the form of the client's API version."""
    headers = {"x-sb-error-code": error.code}
    if _speaks_word_codes(request):
        headers[VERSION_HEADER] = WORD_CODES.isoformat()
        content: dict[str, object] = {"code": error.code, "message": error.message}
    else:
        content = {"code": error.status, "error_code": error.code, "msg": error.message}
    if error.reasons:
        content["weak_password"] = {"message": error.message, "reasons": error.reasons}
    return JSONResponse(content, error.status, headers)


def _on_auth_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AuthError):
        raise error
    # 501: parts that are not served here, as intended
    if error.status >= 500 and error.status != 501:
        log.error("%s %s: %s", request.method, request.url.path, error.message)
    return refuse(request, error)


def _on_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = "Path not found" if status == 404 else "Method not allowed"
    return refuse(request, AuthError(status, "validation_failed", message))


def _on_data_error(request: Request, _: Exception) -> Response:
    """Answers for text that JSON allows and Postgres does not, such as NUL."""
    return refuse(request, validation_failed("A value can't be stored"))


def _on_database_away(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, type(error).__name__)
    return refuse(request, AuthError(503, "unexpected_failure", "Database is not available"))


EXCEPTION_HANDLERS: dict[type[Exception], ExceptionHandler] = {
    AuthError: _on_auth_error,
    HTTPException: _on_http_exception,
    psycopg.DataError: _on_data_error,
    psycopg.OperationalError: _on_database_away,
    PoolTimeout: _on_database_away,
}


def _speaks_word_codes(request: Request) -> bool:
    try:
        return date.fromisoformat(request.headers.get(VERSION_HEADER, "")) >= WORD_CODES
    except ValueError:
        return False


def _refused(error: ValidationError) -> AuthError:
    # without the input, which may be a password
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return AuthError(400, "bad_json", "Could not parse request body as JSON")
    if first["type"] == "value_error":
        # our own sentences name the field
        return validation_failed(first["msg"].removeprefix("Value error, "))
    field = ".".join(str(part) for part in first["loc"])
    return validation_failed(f"{field}: {first['msg']}" if field else first["msg"])
