"""The function host on a free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import uvicorn

from rapport.server.events import Event, InvocationContext
from rapport.server.host import Deployed, application
from rapport.server.serverless import Function


def deployed(
    handler: Callable[[Event, InvocationContext], object], *routes: str, name: str = "example"
) -> Deployed:
    function = Function.model_validate(
        {"handler": "tests.handler", "events": [{"httpApi": route} for route in routes]}
    )
    return Deployed(name, function, handler)


@asynccontextmanager
async def serve(
    *functions: Deployed, problems: Sequence[str] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    """The host on a free port, which has these problems, and a client of it."""

    async def found() -> list[str]:
        return list(problems)

    app = application(list(functions), problems=found)
    config = uvicorn.Config(app, port=0, log_level="warning")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    # a request that comes before the server does waits for it
    socket.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        base_url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)
        socket.close()
