"""The servers that the official suites expect on fixed ports of this machine, each from our parts.

The suites bring their own keys. Tokens that they sign are signed anew with the stack's secret on
their way in, so that a suite reaches the same services as a client of `rapport up` does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from rapport.local.stack import children
from rapport.local.stack.npm import Binaries
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PREFERRED_PORTS, new_stack, settings_file
from rapport.local.stack.supervisor import Supervisor
from rapport.local.supabase.auth.service import AuthService
from rapport.local.supabase.auth.settings import AuthSettings
from rapport.local.supabase.gateway import create_app

# the Supabase CLI's port, and the secret of all its local projects
CLI_PORT = 54321
CLI_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"


def stack_on(database: Database, folder: Path, **changes: object) -> Stack:
    """The settings of a stack on a database; with `changes` those that a suite has by heart."""
    ports = choose_any(*PREFERRED_PORTS) | {"db_port": database.cluster.port}
    stack = new_stack(folder, ports).model_copy(
        update={
            "database": database.name,
            "db_password": database.cluster.password,
            **changes,
        }
    )
    stack.save(settings_file(folder))
    return stack


def cli_stack(database: Database, folder: Path) -> Stack:
    """A stack with the port, secret and keys of a project that the Supabase CLI has started."""

    def key(role: str) -> str:
        claims = {"iss": "supabase-demo", "role": role, "exp": 1983812996}
        return jwt.encode(claims, CLI_SECRET, "HS256")

    return stack_on(
        database,
        folder,
        gateway_port=CLI_PORT,
        jwt_secret=CLI_SECRET,
        anon_key=key("anon"),
        service_role_key=key("service_role"),
    )


@contextmanager
def postgrest(stack: Stack, binaries: Binaries, schemas: str | None = None) -> Iterator[None]:
    """PostgREST as `rapport up` starts it, by request with other schemas."""
    child = children.postgrest(stack, binaries)
    if schemas:
        child = replace(child, environment={**child.environment, "PGRST_DB_SCHEMAS": schemas})
    with Supervisor(stack.folder) as supervisor:
        supervisor.start(child)
        yield


@contextmanager
def serving(port: int, app: ASGIApp) -> Iterator[None]:
    """Serves an application as the gateway is served, until the block ends."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), f"nothing could be served on port {port}: is it in use?"
            time.sleep(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join()


def gateway(stack: Stack) -> ASGIApp:
    """All of a project, on one port."""
    return create_app(stack)


def with_key(app: ASGIApp, key: str) -> ASGIApp:
    """The application for clients that bring no key, or one of nobody."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [pair for pair in scope["headers"] if pair[0] != b"apikey"]
            scope = {**scope, "headers": [*kept, (b"apikey", key.encode())]}
        await app(scope, receive, send)

    return keyed


def auth(
    stack: Stack,
    settings: AuthSettings,
    reads: Callable[[str], Mapping[str, object]],
    path: str = "",
) -> ASGIApp:
    """Auth alone, below `path`; `reads` gives the claims of a suite's own token, or raises."""
    service = AuthService(stack, settings)

    async def resigned(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (name, _resigned(value, reads, stack) if name == b"authorization" else value)
            for name, value in scope["headers"]
        ]
        await service.app({**scope, "headers": headers}, receive, send)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    return Starlette(routes=[Mount(path, resigned)], lifespan=lifespan)


def _resigned(header: bytes, reads: Callable[[str], Mapping[str, object]], stack: Stack) -> bytes:
    with contextlib.suppress(jwt.InvalidTokenError):
        claims = reads(header.decode().removeprefix("Bearer "))
        # ours always expire
        claims = {"exp": int(time.time()) + 3_600, **claims}
        return b"Bearer " + jwt.encode(dict(claims), stack.jwt_secret, "HS256").encode()
    return header
