"""API Gateway's CORS, from serverless.yml's `httpApi.cors`.

Source: docs.aws.amazon.com, "Configure CORS for HTTP APIs in Amazon API Gateway".
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CorsRules(BaseModel):
    """Which pages may call, and how; `*` allows all. The age is in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origins: tuple[str, ...] = Field((), alias="allowedOrigins")
    headers: tuple[str, ...] = Field((), alias="allowedHeaders")
    methods: tuple[str, ...] = Field((), alias="allowedMethods")
    exposed: tuple[str, ...] = Field((), alias="exposedResponseHeaders")
    credentials: bool = Field(False, alias="allowCredentials")
    max_age: int | None = Field(None, alias="maxAge")


class Cors:
    """An ASGI application that answers preflight requests and adds CORS headers to another one's
    answers.

    The other application's own CORS headers are removed, as API Gateway does.
    """

    def __init__(self, app: ASGIApp, rules: CorsRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        allowed = self._allowed(headers.get("origin"))
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = MutableHeaders(raw=[])
            answer.update(allowed | (self._preflight() if allowed else {}))
            await send({"type": "http.response.start", "status": 204, "headers": answer.raw})
            await send({"type": "http.response.body"})
            return

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    (name, value)
                    for name, value in message["headers"]
                    if not name.lower().startswith(b"access-control-")
                ]
                answer = MutableHeaders(raw=kept)
                answer.update(allowed)
                if allowed and self._rules.exposed:
                    answer["access-control-expose-headers"] = _list(self._rules.exposed)
                message = {**message, "headers": answer.raw}
            await send(message)

        await self._app(scope, receive, forward)

    def _allowed(self, origin: str | None) -> dict[str, str]:
        rules = self._rules
        if origin is None or not {"*", origin} & set(rules.origins):
            return {}
        every = "*" in rules.origins and not rules.credentials
        allowed = {"access-control-allow-origin": "*" if every else origin}
        if not every:
            allowed["vary"] = "Origin"
        if rules.credentials:
            allowed["access-control-allow-credentials"] = "true"
        return allowed

    def _preflight(self) -> dict[str, str]:
        rules = self._rules
        said = {
            "access-control-allow-headers": _list(rules.headers),
            "access-control-allow-methods": _list(rules.methods),
        }
        if rules.max_age is not None:
            said["access-control-max-age"] = str(rules.max_age)
        return said


def _list(values: Iterable[str]) -> str:
    return ",".join(values)
