"""The children of a stack, except Postgres: what each runs, and when it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable

import psycopg

from rapport.local.stack import serving
from rapport.local.stack.fork_server import LITTLE_MEMORY
from rapport.local.stack.npm import Binaries
from rapport.local.stack.process import Child, answers
from rapport.local.stack.running import STACK_VARIABLE, Stack
from rapport.local.stack.state import settings_file
from rapport.local.supabase.signing_key import service_keys


def postgrest(stack: Stack, binaries: Binaries) -> Child:
    """PostgREST with the settings of a hosted project."""
    return Child(
        name="postgrest",
        command=(str(binaries.postgrest),),
        # the root answers once PostgREST has read the schema
        is_ready=answers(stack.postgrest_port, "/"),
        environment={
            "PGRST_DB_URI": stack.db_url("authenticator"),
            "PGRST_DB_SCHEMAS": "public,backend",
            "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
            "PGRST_DB_ANON_ROLE": "anon",
            # more than one user may keep busy, see request_limits.sql
            "PGRST_DB_POOL": "20",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_USE_LEGACY_GUCS": "false",
            # seconds: this PostgREST takes 1.5 ms of a processor to verify a token
            "PGRST_JWT_CACHE_MAX_LIFETIME": "300",
            "PGRST_JWT_SECRET": service_keys(stack.signing_key, stack.jwt_secret),
            "PGRST_SERVER_HOST": stack.host,
            "PGRST_SERVER_PORT": str(stack.postgrest_port),
            "PGRST_LOG_LEVEL": "warn",
        },
    )


def gateway(stack: Stack) -> Child:
    """The gateway at the project's URL: REST, Auth and Realtime."""
    return _module("gateway", "supabase.gateway", stack, answers(stack.gateway_port))


def functions(stack: Stack) -> Child:
    """The functions, their schedules and their workers, as `rapport serve` serves them anywhere."""
    return Child(
        name="functions",
        command=("rapport.server.serve",),
        is_ours=True,
        is_ready=answers(stack.functions_port),
        environment={**serving.environment(stack), **LITTLE_MEMORY},
        forgets=serving.FORGOTTEN,
    )


def fakes(stack: Stack) -> Child:
    """The stand-ins for WhatsApp's Graph API, for Metakocka and for a push service."""
    ready = [answers(port) for port in (stack.whatsapp_port, stack.metakocka_port, stack.push_port)]
    return _module(
        "fakes",
        "fakes.serve",
        stack,
        lambda: all(is_ready() for is_ready in ready),
        arguments=("whatsapp", "metakocka", "push"),
    )


def metakocka(stack: Stack) -> Child:
    """The stand-in for Metakocka alone, beside a WhatsApp stand-in that a test brings."""
    is_ready = answers(stack.metakocka_port)
    return _module("metakocka", "fakes.serve", stack, is_ready, arguments=("metakocka",))


def net(stack: Stack) -> Child:
    """The worker that makes the requests of schema net."""
    return _module("net", "supabase.net", stack, _is_connected(stack))


def moto(stack: Stack) -> Child:
    """The stand-in for AWS. It is no copy: as one it took as much memory, since it has little in
    common with the others, and they waited for its imports.
    """
    return Child(
        name="moto",
        command=(sys.executable, "-m", "rapport.local.fakes.aws"),
        is_ready=answers(stack.moto_port),
        environment=_environment(stack),
    )


def every(stack: Stack, binaries: Binaries) -> tuple[Child, ...]:
    """All children, those that need most time to start first."""
    return (
        moto(stack),
        postgrest(stack, binaries),
        gateway(stack),
        functions(stack),
        fakes(stack),
        net(stack),
    )


def _module(
    name: str,
    # below rapport.local
    module: str,
    stack: Stack,
    is_ready: Callable[[], bool],
    arguments: tuple[str, ...] = (),
) -> Child:
    return Child(
        name=name,
        command=(f"rapport.local.{module}", *arguments),
        is_ours=True,
        is_ready=is_ready,
        environment=_environment(stack),
    )


def _environment(stack: Stack) -> dict[str, str]:
    return {STACK_VARIABLE: str(settings_file(stack.folder)), **LITTLE_MEMORY}


def _is_connected(stack: Stack) -> Callable[[], bool]:
    """A check that the worker of schema net is connected to the stack's database."""

    def check() -> bool:
        try:
            with psycopg.connect(stack.db_url()) as connection:
                connection.execute("select net.check_worker_is_up()")
        except psycopg.Error:
            return False
        return True

    return check
