"""Serves the functions of serverless.yml over HTTP as API Gateway and Lambda do."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Endpoint
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rapport.errors import ConfigError
from rapport.log import Crash, correlated, log_crash
from rapport.server.access_log import AccessLog, Asked
from rapport.server.bodies import Bodies, BodyFirst
from rapport.server.calls import Calls
from rapport.server.cors import Cors, CorsRules
from rapport.server.events import Event, FunctionAnswer, InvocationContext, http_event
from rapport.server.overload import Bounded
from rapport.server.serverless import Function, Route, Service

BODY_LIMIT = 10 * 1024 * 1024  # bytes; API Gateway's limit
# requests of one function at a time; each waits 5 s at most
AT_ONCE = 10
WAITING = 100
# bytes of one function's requests, those that run among them
BODIES_ROOM = (AT_ONCE + 4) * BODY_LIMIT
# enough for all functions at their limits, and for schedules and queues
THREADS = 100

Handler = Callable[[Event, InvocationContext], object]
# what is wrong, in sentences without secrets; none if all is well
Problems = Callable[[], Awaitable[list[str]]]
# runs beside the requests, until it is cancelled or ends itself
Background = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True)
class Deployed:
    """A function with its imported handler."""

    name: str
    function: Function
    handler: Handler
    calls: Calls = field(default_factory=Calls)

    def invoke(self, event: Event) -> object:
        """Runs the handler in the calling thread."""
        context = InvocationContext(
            self.name,
            self.function.memorySize,
            self.function.timeout,
            ends_at=lambda: self.calls.ends_at,
        )
        with self.calls.running(context.aws_request_id, self.name):
            return self.handler(event, context)


def deploy(service: Service, calls: Calls | None = None) -> list[Deployed]:
    """Imports every handler; `calls` counts their calls.

    Raises:
        ConfigError: A handler is not where serverless.yml says.
    """
    calls = calls or Calls()
    deployed = []
    for name, function in service.functions.items():
        module, _, attribute = function.handler.rpartition(".")
        try:
            handler = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"serverless.yml: the handler {function.handler} of {name} can't be imported:"
                f" {error}"
            ) from error
        deployed.append(Deployed(name, function, handler, calls))
    return deployed


async def _no_problems() -> list[str]:
    return []


def application(
    deployed: Iterable[Deployed],
    cors: CorsRules | None = None,
    *,
    problems: Problems = _no_problems,
    background: Iterable[Background] = (),
    files_url: str | None = None,
) -> Starlette:
    """The HTTP API, with GET /health and GET /ready.

    `cors` names the allowed pages. `background` runs while it serves; what does not end by itself
    is cancelled at the end. Addresses below `files_url` in answers get the name that the caller has
    for this machine.
    """
    routes = sorted(
        ((route, one) for one in deployed for route in one.function.routes),
        key=lambda pair: pair[0].rank,
    )

    @asynccontextmanager
    async def beside(_app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for one in background]
            yield
            for task in tasks:
                task.cancel()

    async def ready(_request: Request) -> Response:
        found = await problems()
        if found:
            return JSONResponse({"ready": False, "problems": found}, status_code=503)
        return JSONResponse({"ready": True})

    gateway = _Gateway(routes, files_url)
    app = Starlette(
        routes=[
            Endpoint("/health", _health),
            Endpoint("/ready", ready),
        ],
        middleware=[Middleware(AccessLog), *([Middleware(Cors, cors)] if cors else [])],
        lifespan=beside,
    )
    # not as a route, which would take no line breaks
    app.router.default = gateway
    app.router.redirect_slashes = False
    app.state.end_reading = gateway.end
    return app


class _Gateway:
    """API Gateway's part: finds the function for a request."""

    def __init__(self, routes: list[tuple[Route, Deployed]], files_url: str | None) -> None:
        self._routes = routes
        # each function has its own limits, so that a slow one does not hold up the others
        self._bodies = {
            deployed.name: Bodies(limit=BODY_LIMIT, room=BODIES_ROOM) for _, deployed in routes
        }
        self._applications = {
            deployed.name: _bounded(_Invocation(deployed, files_url), self._bodies[deployed.name])
            for _, deployed in routes
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        for route, deployed in self._routes:
            parameters = route.match(scope["method"], scope["path"])
            if parameters is not None:
                Asked.of(scope).route = route.key
                scope = {**scope, "rapport.parameters": parameters}
                await self._applications[deployed.name](scope, receive, send)
                return
        await _message(404, "Not Found")(scope, receive, send)

    def end(self) -> None:
        """Waits for no body any longer: the process stops."""
        for bodies in self._bodies.values():
            bodies.end()


def _bounded(invocation: _Invocation, bodies: Bodies) -> BodyFirst:
    bounded = Bounded(invocation, at_once=AT_ONCE, waiting=WAITING, ends_with_client=False)
    return BodyFirst(bounded, bodies, is_full=lambda: bounded.is_full)


class _Invocation:
    """An ASGI application for one function: invokes, answers."""

    def __init__(self, deployed: Deployed, files_url: str | None) -> None:
        self._deployed = deployed
        self._files_url = files_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive), Asked.of(scope))
        await response(scope, receive, send)

    async def _respond(self, request: Request, asked: Asked) -> Response:
        body = await request.body()
        parameters = request.scope["rapport.parameters"]
        event = http_event(request, body, asked.route or "", parameters, asked.id)
        try:
            answer = await run_in_threadpool(self._deployed.invoke, event)
            told = FunctionAnswer.model_validate(answer)
            return told.with_url(self._files_url, request.url.hostname).response()
        except Crash:
            # it is in the log already
            return _message(500, "Internal Server Error")
        except Exception as error:  # noqa: BLE001 - as on Lambda, a crash is answered with 500
            with correlated(asked.id):
                log_crash(error, function=self._deployed.name)
            return _message(500, "Internal Server Error")


def _message(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"message": text}, status_code=status, headers=headers)


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
