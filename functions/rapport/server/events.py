"""Lambda's input to functions: events of HTTP APIs, schedules and queues, and the context.

Sources: docs.aws.amazon.com, "Create AWS Lambda proxy integrations for HTTP APIs" (payload version
2.0), "Using AWS Lambda with EventBridge Scheduler", "Using Lambda with Amazon SQS", "AWS Lambda
context object".
"""

from __future__ import annotations

import base64
import math
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

Event = dict[str, object]

_ACCOUNT = "000000000000"
_REGION = "local"
_TEXT_TYPES = ("application/json", "application/javascript", "application/xml")


def _never() -> float:
    return math.inf


@dataclass(frozen=True)
class InvocationContext:
    """A function's information about its own invocation."""

    function_name: str
    memory_limit_in_mb: int
    timeout: float
    # when the process ends, by the monotonic clock
    ends_at: Callable[[], float] = _never
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    _began: float = field(default_factory=time.monotonic)

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:{self.function_name}"

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    @property
    def log_stream_name(self) -> str:
        return self.function_version

    def get_remaining_time_in_millis(self) -> int:
        """The time until Lambda would stop the function, or until the process ends; nothing else
        stops it here.
        """
        ends_at = min(self._began + self.timeout, self.ends_at())
        return max(0, int((ends_at - time.monotonic()) * 1000))


def http_event(
    request: Request,
    body: bytes,
    route_key: str,
    path_parameters: dict[str, str],
    request_id: str,
) -> Event:
    """The payload, version 2.0, of a request with this body."""
    now = datetime.now(UTC)
    headers = _joined(request.headers.items())
    cookies = [part.strip() for part in headers.pop("cookie", "").split(";") if part.strip()]
    query = request.url.query
    parameters = _joined(parse_qsl(query, keep_blank_values=True))
    text = _text(body, headers.get("content-type", ""))
    event: Event = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": request.url.path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": "local",
            "domainName": headers.get("host", ""),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.url.path,
                "protocol": f"HTTP/{request.scope['http_version']}",
                "sourceIp": request.client.host if request.client else "",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": route_key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": bool(body) and text is None,
    }
    # empty fields are left out
    if cookies:
        event["cookies"] = cookies
    if parameters:
        event["queryStringParameters"] = parameters
    if path_parameters:
        event["pathParameters"] = path_parameters
    if body:
        event["body"] = base64.b64encode(body).decode() if text is None else text
    return event


def schedule_event(function: str) -> Event:
    """EventBridge's event for a due schedule."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": _ACCOUNT,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": _REGION,
        "resources": [f"arn:aws:events:{_REGION}:{_ACCOUNT}:rule/{function}"],
        "detail": {},
    }


class MessageAttribute(BaseModel):
    """An attribute that the sender of a message has given it."""

    data_type: str = Field(alias="DataType")
    string_value: str | None = Field(None, alias="StringValue")


class QueueMessage(BaseModel):
    """A message as SQS gives it."""

    message_id: str = Field(alias="MessageId")
    receipt_handle: str = Field(alias="ReceiptHandle")
    body: str = Field(alias="Body")
    digest: str = Field(alias="MD5OfBody")
    attributes: dict[str, str] = Field({}, alias="Attributes")
    message_attributes: dict[str, MessageAttribute] = Field({}, alias="MessageAttributes")


def queue_event(queue: str, messages: Iterable[QueueMessage]) -> Event:
    """The event for a batch of messages from SQS."""
    return {
        "Records": [
            {
                "messageId": message.message_id,
                "receiptHandle": message.receipt_handle,
                "body": message.body,
                "attributes": message.attributes,
                "messageAttributes": {
                    name: {
                        "stringValue": attribute.string_value,
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": attribute.data_type,
                    }
                    for name, attribute in message.message_attributes.items()
                },
                "md5OfBody": message.digest,
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{queue}",
                "awsRegion": _REGION,
            }
            for message in messages
        ]
    }


class FunctionAnswer(BaseModel):
    """A function's answer to API Gateway, payload version 2.0."""

    statusCode: int  # noqa: N815 - API Gateway's word
    headers: dict[str, str | int | bool] = {}
    cookies: list[str] = []
    body: str = ""
    isBase64Encoded: bool = False  # noqa: N815 - Lambda's

    def with_url(self, url: str | None, host: str | None) -> FunctionAnswer:
        """The answer with another host in the addresses below a URL of this machine."""
        if not url or not host or url not in self.body:
            return self
        port = url.rpartition(":")[2]
        named = f"[{host}]" if ":" in host else host
        return self.model_copy(update={"body": self.body.replace(url, f"http://{named}:{port}")})

    def response(self) -> Response:
        """The answer as an HTTP response.

        Raises:
            binascii.Error: The body is marked as base64 and is not.
        """
        body = base64.b64decode(self.body) if self.isBase64Encoded else self.body.encode()
        response = Response(body, status_code=self.statusCode)
        for name, value in self.headers.items():
            response.headers[name] = str(value)
        for cookie in self.cookies:
            response.headers.append("set-cookie", cookie)
        return response


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of one name, joined by commas as API Gateway does."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text; None where API Gateway would pass it on as base64."""
    media_type = content_type.partition(";")[0].strip().lower()
    if not (media_type.startswith("text/") or media_type in _TEXT_TYPES):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
