"""Serves the stand-ins for WhatsApp, Metakocka and a push service, each on its own port.

One process serves all: another one would take 20 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from rapport.local.fakes.faults import CloseDropped
from rapport.local.fakes.metakocka import app as metakocka_fake
from rapport.local.fakes.push import app as push_fake
from rapport.local.fakes.shelf import Shelf
from rapport.local.fakes.whatsapp import app as whatsapp_fake
from rapport.local.stack.running import STACK_VARIABLE, Stack
from rapport.local.stack.state import stand_ins_folder
from rapport.server.memory import release_memory


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process, since it has several servers."""
        yield


async def serve(*servers: uvicorn.Server) -> None:
    """Serves until it is stopped; all servers stop together."""

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for stopping in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stopping, stop)
    await asyncio.gather(*(server.serve() for server in servers))


def main() -> None:
    """Serves until it is stopped."""
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    servers = [_SERVERS[name](stack) for name in sys.argv[1:]]
    release_memory()
    asyncio.run(serve(*servers))


def _whatsapp(stack: Stack) -> uvicorn.Server:
    application = whatsapp_fake.application(
        stack.webhook_url,
        stack.whatsapp_app_secret,
        stack.whatsapp_token,
        Shelf(stand_ins_folder(stack.folder) / "whatsapp.db"),
    )
    return _server(application, stack.host, stack.whatsapp_port)


def _metakocka(stack: Stack) -> uvicorn.Server:
    application = metakocka_fake.application(
        stack.metakocka_secret_key, Shelf(stand_ins_folder(stack.folder) / "metakocka.db")
    )
    return _server(application, stack.host, stack.metakocka_port)


def _push(stack: Stack) -> uvicorn.Server:
    application = push_fake.application(
        stack.push_url, Shelf(stand_ins_folder(stack.folder) / "push.db")
    )
    return _server(application, stack.host, stack.push_port)


def _server(application: CloseDropped, host: str, port: int) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            application, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5
        )
    )


_SERVERS = {"whatsapp": _whatsapp, "metakocka": _metakocka, "push": _push}


if __name__ == "__main__":
    main()
