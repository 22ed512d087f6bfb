"""Translates between Lambda's HTTP API payload (version 2.0) and our handlers: bodies, answers,
errors.

Source: docs.aws.amazon.com, "Create AWS Lambda proxy integrations for HTTP APIs".
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, NamedTuple, NotRequired, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from rapport.api_json import camel, camel_field
from rapport.errors import (
    MalformedPayload,
    NotAPhoneNumber,
    NotSignedIn,
    PayloadTooLarge,
    RapportError,
    Unprocessable,
)
from rapport.log import correlated, described, guarded, logger

M = TypeVar("M", bound=BaseModel)

_BEARER = re.compile(r"Bearer ([\w.~+/=-]{1,8192})", re.IGNORECASE | re.ASCII)


class HttpRequest(NamedTuple):
    """A request as API Gateway gives it; headers are in lower case, and absent parts are empty."""

    id: str
    method: str
    route_key: str
    headers: dict[str, str]
    query: dict[str, str]
    path_parameters: dict[str, str]
    body: str
    is_base64_encoded: bool

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """Reads a function's event."""
        context = event["requestContext"]
        return cls(
            id=context["requestId"],
            method=context["http"]["method"],
            route_key=event.get("routeKey", ""),
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            query=event.get("queryStringParameters") or {},
            path_parameters=event.get("pathParameters") or {},
            body=event.get("body") or "",
            is_base64_encoded=event.get("isBase64Encoded", False),
        )


class Response(TypedDict):
    """A response in the form that API Gateway expects."""

    statusCode: int
    headers: dict[str, str]
    body: str


class Problem(TypedDict):
    """Why a request was refused, or failed."""

    code: NotRequired[
        Annotated[
            str,
            Field(description="For programs. Missing where the host refused, before the function."),
        ]
    ]
    message: Annotated[str, Field(description="A sentence for people.")]
    field: NotRequired[
        Annotated[str, Field(description="The wrong field, such as `content.link`.")]
    ]
    hint: NotRequired[Annotated[str, Field(description="What to do.")]]
    readings: NotRequired[
        Annotated[
            list[str],
            Field(description="What a phone number can be read as, where that is not one number."),
        ]
    ]


def text(status: int, body: str) -> Response:
    """A plain text; the headers keep browsers from guessing another type."""
    return _response(status, "text/plain; charset=utf-8", body)


def json_(status: int, value: Mapping[str, object]) -> Response:
    """A JSON object, whose names become the API's: camelCase."""
    return _response(status, "application/json", json.dumps(camel(value)))


def _response(status: int, content_type: str, body: str) -> Response:
    return {
        "statusCode": status,
        "headers": {"content-type": content_type, "x-content-type-options": "nosniff"},
        "body": body,
    }


def body_of(event: HttpRequest, limit: int) -> bytes:
    """The request's body as it was sent.

    Raises:
        PayloadTooLarge: It has more than `limit` bytes.
        MalformedPayload: It is marked as base64 and is not.
    """
    body = event.body
    if event.is_base64_encoded:
        try:
            raw = base64.b64decode(body, validate=True)
        # characters outside base64, or a wrong number of them
        except ValueError:
            raise MalformedPayload("The body is not base64.") from None
    else:
        raw = body.encode("utf-8", "surrogatepass")
    if len(raw) > limit:
        raise PayloadTooLarge(f"The body has more than {limit} bytes.")
    return raw


def bearer(event: HttpRequest) -> str:
    """The token of the Authorization header.

    Raises:
        NotSignedIn: There is none.
    """
    found = _BEARER.fullmatch(event.headers.get("authorization", "").strip())
    if not found:
        raise NotSignedIn
    return found[1]


def read_json(model: type[M], event: HttpRequest, limit: int) -> M:
    """The request's JSON body as a `model`.

    Raises:
        PayloadTooLarge: It has more than `limit` bytes.
        MalformedPayload: It is not JSON.
        Unprocessable: A field is missing or wrong; the error names it.
    """
    try:
        return model.model_validate_json(body_of(event, limit) or b"{}")
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise MalformedPayload("The body is not JSON.") from None
        raise _unprocessable(error) from None


def read_query(model: type[M], event: HttpRequest) -> M:
    """The request's query string as a `model`.

    Raises:
        Unprocessable: A parameter is missing or wrong; the error names it.
    """
    try:
        return model.model_validate(event.query)
    except ValidationError as error:
        raise _unprocessable(error) from None


def read_path(model: type[M], event: HttpRequest) -> M:
    """The parameters of the request's path as a `model`.

    Raises:
        Unprocessable: One is wrong; the error names it.
    """
    try:
        return model.model_validate(event.path_parameters)
    except ValidationError as error:
        raise _unprocessable(error) from None


# pydantic's errors in words of ours: {field} as the API names it, further names from the error
_FAULTS = {
    "missing": "{field} is missing.",
    "extra_forbidden": "There is no field {field} here.",
    "uuid_parsing": "{field} is not a UUID, such as 0b7c6f0e-58a1-4f5e-9d6c-1f2a3b4c5d6e.",
    "uuid_type": "{field} is not a UUID in a text.",
    "string_type": "{field} is not a text.",
    "string_too_long": "{field} has more than {max_length} characters.",
    "string_too_short": "{field} has less than {min_length} characters.",
    "string_pattern_mismatch": "{field} has characters that it may not have.",
    "int_type": "{field} is not a whole number.",
    "int_parsing": "{field} is not a whole number.",
    "int_from_float": "{field} is not a whole number.",
    "less_than_equal": "{field} is greater than {le}.",
    "greater_than_equal": "{field} is less than {ge}.",
    "bool_type": "{field} is neither true nor false.",
    "bool_parsing": "{field} is neither true nor false.",
    "list_type": "{field} is not a list.",
    "dict_type": "{field} is not an object.",
    "too_long": "{field} has more than {max_length} entries.",
    "too_short": "{field} has less than {min_length} entries.",
}


def _unprocessable(error: ValidationError) -> Unprocessable:
    """The first error that pydantic found, without the value."""
    fault = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(map(str, fault["loc"])) or None
    if field and (words := _FAULTS.get(fault["type"])):
        told = words.format(field=camel_field(field), **fault.get("ctx", {}))
    else:
        told = f"{fault['msg'].removeprefix('Value error, ')}."
    return Unprocessable(told, field=field)


def http_function(
    handle: Callable[[HttpRequest], Response],
) -> Callable[[dict[str, object], object], Response]:
    """Makes `handle` a Lambda function that answers errors of Rapport's tree with their status.

    Any other exception is a bug: it is logged, and API Gateway answers 500.
    """

    @wraps(handle)
    def function(event: dict[str, object], _context: object) -> Response:
        request = HttpRequest.of(event)
        with correlated(request.id):
            return guarded(lambda: _answer(handle, request))

    return function


def _answer(handle: Callable[[HttpRequest], Response], request: HttpRequest) -> Response:
    try:
        return handle(request)
    except RapportError as error:
        level = logger.error if error.http_status >= 500 else logger.warning
        level("refused", extra=described(error))
        return _error(error)


def _error(error: RapportError) -> Response:
    # errors on our side are for the log, not for the caller
    is_told = error.http_status < 500 or error.is_told
    message = str(error) if is_told else type(error).__doc__ or ""
    answer: Problem = {"code": error.code, "message": message}
    if is_told and error.field:
        answer["field"] = camel_field(error.field)
    if is_told and error.hint:
        answer["hint"] = error.hint
    if isinstance(error, NotAPhoneNumber) and error.readings:
        answer["readings"] = list(error.readings)
    response = json_(error.http_status, answer)
    if error.retryable and error.retry_after is not None:
        response["headers"]["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return response
