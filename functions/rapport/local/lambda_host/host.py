"""The function host: serves the functions of serverless.yml as API Gateway and Lambda do."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Endpoint
from starlette.types import Receive, Scope, Send

from rapport.errors import ConfigError
from rapport.local.lambda_host.cors import Cors, CorsRules
from rapport.local.lambda_host.event_source import run_source
from rapport.local.lambda_host.events import (
    Event,
    FunctionAnswer,
    InvocationContext,
    http_event,
    schedule_event,
)
from rapport.local.lambda_host.schedules import LEAD, STAGGER, LastRuns, run_every
from rapport.local.lambda_host.serverless import SERVERLESS_FILE, Function, Route, Service
from rapport.local.memory import release_memory
from rapport.local.overload import Bounded
from rapport.local.proxy import forget_proxies
from rapport.local.stack.process import answers
from rapport.local.stack.running import AWS_KEY_ID, AWS_REGION, MEDIA_BUCKET, STACK_VARIABLE, Stack
from rapport.local.stack.state import schedules_file

BODY_LIMIT = 10 * 1024 * 1024  # bytes; API Gateway's limit
# requests of one function at a time; each waits 5 s at most
AT_ONCE = 10
WAITING = 100
# enough for all functions at their limits, and for schedules and queues
THREADS = 100
OTHERS_TIMEOUT = 30  # seconds
BACKLOG = 128
# seconds that one thread may run before it must give way; with the default of 0.005 the server's
# refusals would slow the functions down
SWITCH_INTERVAL = 0.0005

log = logging.getLogger("rapport.local.lambda_host.host")

Handler = Callable[[Event, InvocationContext], object]


@dataclass(frozen=True)
class Deployed:
    """A function with its imported handler."""

    name: str
    function: Function
    handler: Handler

    def invoke(self, event: Event) -> object:
        """Runs the handler in the calling thread."""
        context = InvocationContext(self.name, self.function.memorySize, self.function.timeout)
        return self.handler(event, context)


def deploy(service: Service) -> list[Deployed]:
    """Imports every handler.

    Raises:
        ConfigError: A handler is not where serverless.yml says.
    """
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
        deployed.append(Deployed(name, function, handler))
    return deployed


def application(
    deployed: list[Deployed],
    queue_url: Callable[[str], str] | None = None,
    cors: CorsRules | None = None,
    *,
    runs: LastRuns | None = None,
    until_ready: Callable[[], None] | None = None,
    files_url: str | None = None,
) -> Starlette:
    """The HTTP API, with GET /health; schedules and queues run while it serves.

    `queue_url` returns the URL of a queue by its logical id; without it no queue is polled. `cors`
    names the allowed pages. `runs` has the schedules' last runs; the first new run waits for
    `until_ready`. Addresses below `files_url` in answers get the name that the caller has for this
    machine.
    """
    routes = sorted(
        ((route, one) for one in deployed for route in one.function.routes),
        key=lambda pair: pair[0].rank,
    )

    async def schedules() -> None:
        if until_ready:
            await run_in_threadpool(until_ready)
        last_runs = runs or LastRuns()
        scheduled = [(one, every) for one in deployed for every in one.function.schedules]
        async with asyncio.TaskGroup() as group:
            for place, (function, every) in enumerate(scheduled):
                invoke = partial(_run_scheduled, function)
                lead = LEAD + place * STAGGER
                group.create_task(run_every(every, function.name, invoke, last_runs, lead))

    @asynccontextmanager
    async def triggers(_app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(schedules())]
            tasks += [
                group.create_task(run_source(source, queue_url(source.queue), one.invoke))
                for one in deployed
                for source in one.function.queues
                if queue_url
            ]
            yield
            for task in tasks:
                task.cancel()

    return Starlette(
        routes=[
            Endpoint("/health", _health),
            Endpoint("/{path:path}", _Gateway(routes, files_url)),
        ],
        middleware=[Middleware(Cors, cors)] if cors else [],
        lifespan=triggers,
    )


def _run_scheduled(deployed: Deployed) -> object:
    return deployed.invoke(schedule_event(deployed.name))


class _Gateway:
    """API Gateway's part: finds the function for a request."""

    def __init__(self, routes: list[tuple[Route, Deployed]], files_url: str | None) -> None:
        self._routes = routes
        # each function has its own limits, so that a slow one does not hold up the others
        self._applications = {
            deployed.name: Bounded(
                _Invocation(deployed, files_url),
                at_once=AT_ONCE,
                waiting=WAITING,
                ends_with_client=False,
            )
            for _, deployed in routes
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route, deployed in self._routes:
            parameters = route.match(scope["method"], scope["path"])
            if parameters is not None:
                scope = {**scope, "rapport.route": (route.key, parameters)}
                await self._applications[deployed.name](scope, receive, send)
                return
        await _message(404, "Not Found")(scope, receive, send)


class _Invocation:
    """An ASGI application for one function: checks limits, invokes, answers."""

    def __init__(self, deployed: Deployed, files_url: str | None) -> None:
        self._deployed = deployed
        self._files_url = files_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _message(413, "Request Entity Too Large")
        event = http_event(request, body, *request.scope["rapport.route"])
        try:
            answer = await run_in_threadpool(self._deployed.invoke, event)
            told = FunctionAnswer.model_validate(answer)
            return told.with_url(self._files_url, request.url.hostname).response()
        except Exception:  # as on Lambda, a crash is answered with 500
            log.exception("%s crashed", self._deployed.name)
            return _message(500, "Internal Server Error")


async def _body(request: Request) -> bytes | None:
    """The whole body; None if it is larger than API Gateway allows."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)


def _message(status: int, text: str) -> Response:
    return JSONResponse({"message": text}, status_code=status)


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")


def local_values(stack: Stack) -> dict[str, str]:
    """The values that a deployment keeps in SSM parameters; here from the stack's settings."""
    return {
        "SUPABASE_URL": stack.url,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "WHATSAPP_APP_SECRET": stack.whatsapp_app_secret,
        "WHATSAPP_VERIFY_TOKEN": stack.whatsapp_verify_token,
        "WHATSAPP_GRAPH_URL": stack.graph_url,
        "WHATSAPP_TOKEN": stack.whatsapp_token,
        "METAKOCKA_URL": stack.metakocka_url,
        "METAKOCKA_SECRET_KEY": stack.metakocka_secret_key,
        "METAKOCKA_COMPANIES": "any",
        "WAKE_SECRET": stack.wake_secret,
        "VAPID_PRIVATE_KEY": stack.vapid_private_key,
        "VAPID_CONTACT": "mailto:somebody@rapport.example",
        "PUSH_ALLOWS_LOOPBACK": "true",
        # workers run in the function host
        "WORKER_FUNCTION_PREFIX": "",
        # no alarm listens here
        "METRICS_NAMESPACE": "",
        "MEDIA_BUCKET": MEDIA_BUCKET,
        "WEBHOOK_QUEUE_URL": stack.queue_url("WebhookQueue"),
        # a database that was stopped on this machine is back soon
        "WEBHOOK_RETRY_SECONDS": "1",
    }


def runtime_values(stack: Stack) -> dict[str, str]:
    """The variables that Lambda's runtime sets; here for the AWS stand-in."""
    return {
        "AWS_REGION": AWS_REGION,
        "AWS_DEFAULT_REGION": AWS_REGION,
        "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": stack.aws_secret,
        "AWS_ENDPOINT_URL": stack.aws_url,
        # tells the storage that it is not AWS's own
        "AWS_ENDPOINT_URL_S3": stack.aws_url,
    }


def forget_aws() -> None:
    """Keeps a developer's own profile, keys and endpoints from leading to the real AWS."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def wait_for_others(stack: Stack) -> None:
    """Waits for the servers that functions call, which start at the same time; not for long."""
    others = [
        answers(stack.postgrest_port, "/"),
        *(answers(port) for port in (stack.gateway_port, stack.whatsapp_port)),
        *(answers(port) for port in (stack.metakocka_port, stack.moto_port)),
    ]
    deadline = time.monotonic() + OTHERS_TIMEOUT
    while not all(answer() for answer in others) and time.monotonic() < deadline:
        time.sleep(0.2)


def main() -> None:
    """Serves until it is stopped."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    try:
        service = Service.read(SERVERLESS_FILE)
        forget_aws()
        os.environ.update(runtime_values(stack))
        os.environ.update(service.environment(local_values(stack)))
        forget_proxies()
        app = application(
            deploy(service),
            stack.queue_url,
            service.cors,
            runs=LastRuns(schedules_file(stack.folder)),
            until_ready=partial(wait_for_others, stack),
            files_url=stack.aws_url,
        )
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    sys.setswitchinterval(SWITCH_INTERVAL)
    release_memory()
    uvicorn.run(
        app,
        host=stack.listen,
        port=stack.functions_port,
        log_level="warning",
        timeout_graceful_shutdown=5,
        # connections that wait to be accepted
        backlog=BACKLOG,
    )


if __name__ == "__main__":
    main()
