"""Serves the functions, their schedules and their workers as one process, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from rapport.connections import trusted
from rapport.errors import ConfigError, RapportError
from rapport.log import described, log_crash, logger
from rapport.server.calls import Calls
from rapport.server.connections import HttpConnection
from rapport.server.environment import REMEDY, has_work, require_settings, tell_missing, wake_secret
from rapport.server.event_source import run_source
from rapport.server.events import schedule_event
from rapport.server.host import Background, application, deploy
from rapport.server.logs import as_json
from rapport.server.memory import release_memory
from rapport.server.readiness import Readiness
from rapport.server.scheduler import Schedule, Scheduler
from rapport.server.serverless import SERVERLESS_FILE, Service
from rapport.settings import ServeSettings, StoreSettings, UserStoreSettings
from rapport.starter import ThreadStarter, start_here
from rapport.store.postgrest import UserStore, UserStores
from rapport.store.server import ServerStore

# connections that wait to be accepted
BACKLOG = 128
# seconds that one thread may run before it must give way; with the default of 0.005 the server's
# refusals would slow the functions down
SWITCH_INTERVAL = 0.0005
# seconds: for servers that start at the same time, and between two looks at them
OTHERS_TIMEOUT = 30.0
PAUSE = 0.2
# of the database, until it has been told the address
DOORBELL_PAUSE = 5.0

WAKE_PATH = "/internal/wake"


class Host:
    """One process beside a project, with what it needs of the environment.

    Raises:
        ConfigError: A variable is missing or wrong; the message names it.
        UpstreamUnavailable: A parameter can't be read at the moment.
    """

    def __init__(self) -> None:
        service = Service.read(SERVERLESS_FILE)
        for variable, value in service.defaults().items():
            os.environ.setdefault(variable, value)
        require_settings()
        self.settings = ServeSettings.load(REMEDY)
        self._wake_secret = wake_secret(self.settings)
        tell_missing(service)
        self._store = ServerStore(StoreSettings.load(REMEDY))
        users = UserStores(UserStoreSettings.load(REMEDY), UserStore)
        self._readiness = Readiness(
            {
                "The functions' own calls (SUPABASE_SECRET_KEY)": self._store.require_schema,
                "Users' calls (SUPABASE_PUBLISHABLE_KEY)": users.require_key,
            }
        )
        self.calls = Calls()
        # what a bug does to schedules or queues
        self.has_failed = False
        self.on_failure: Callable[[], None] = lambda: None
        self._functions = {one.name: one for one in deploy(service, self.calls)}
        start_here(ThreadStarter(self._run_worker))
        self.scheduler = Scheduler(
            [
                Schedule(
                    one.name,
                    every // timedelta(seconds=1),
                    partial(one.invoke, schedule_event(one.name)),
                )
                for one in self._functions.values()
                if has_work(one.name)
                for every in one.function.schedules
            ],
            self._store,
        )
        self._cors = service.cors

    def application(self) -> Starlette:
        """The HTTP API; schedules and queues run while it serves."""
        return application(
            self._functions.values(),
            self._cors,
            problems=self._readiness.problems,
            background=map(self._watched, (self._schedules, self._set_doorbell, *self._queues())),
            files_url=self.settings.serve_files_url,
        )

    def _run_worker(self, name: str) -> object:
        if name == "schedules":
            self.scheduler.look()
            return None
        return self._functions[name].invoke({"worker": name})

    async def _schedules(self) -> None:
        await _answering(self.settings.serve_waits_for)
        running = asyncio.create_task(self.scheduler.run())
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            # what runs ends in order
            self.scheduler.stop()
            await running
            raise

    def _watched(self, background: Background) -> Background:
        """Ends the process where a bug ends what has to run on."""

        async def run() -> None:
            try:
                await background()
            except Exception as error:  # noqa: BLE001 - any bug ends the process
                log_crash(error)
                self.has_failed = True
                self.on_failure()

        return run

    async def _set_doorbell(self) -> None:
        """Tells the database where to ring, as often as it takes."""
        url, secret = self.settings.serve_url, self._wake_secret
        if url is None or secret is None:
            return
        ring = f"{str(url).rstrip('/')}{WAKE_PATH}"
        is_told = False
        while True:
            try:
                await run_in_threadpool(self._store.set_doorbell, ring, secret.get_secret_value())
            except RapportError as error:
                if not is_told:
                    logger.warning("doorbell not set", extra=described(error))
                    is_told = True
                if not error.retryable:
                    return
                await asyncio.sleep(DOORBELL_PAUSE)
            else:
                return

    def _queues(self) -> Iterator[Background]:
        for one in self._functions.values():
            for source in one.function.queues:
                variable = one.function.url_variable(source.queue)
                if variable and (url := os.environ.get(variable)):
                    yield partial(run_source, source, url, one.invoke)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `serve`: the library would end the process by the signal."""
        yield


def _listen(settings: ServeSettings) -> socket.socket:
    """The socket for requests. Raises ConfigError."""
    host, port = settings.serve_host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"It can't listen at {host}, port {port}: {error.strerror}. Set SERVE_HOST and PORT, or"
            " end the other program."
        ) from None


async def serve(host: Host, listening: socket.socket) -> list[str]:
    """Serves until SIGTERM or SIGINT; returns the functions whose calls were still running when
    their time to end was over.
    """
    limit = host.settings.serve_drain_seconds
    app = host.application()
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, round(limit)),
            backlog=BACKLOG,
            http=HttpConnection,
        )
    )
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            # asked twice
            os._exit(1)
        host.calls.end_by(time.monotonic() + limit)
        host.scheduler.stop()
        app.state.end_reading()
        server.should_exit = True
        stopped.set()

    def fail() -> None:
        if not stopped.is_set():
            stop()

    for stopping in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stopping, stop)
    host.on_failure = fail
    logger.info("serving", host=host.settings.serve_host, port=host.settings.port)
    serving = asyncio.create_task(server.serve([listening]))
    asked = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        # it has not begun
        serving.result()
    logger.info("stopping", running=host.calls.functions, seconds=limit)
    ends_at = host.calls.ends_at
    await asyncio.wait({serving}, timeout=limit)
    # workers that were woken, which no request waits for
    while host.calls.functions and time.monotonic() < ends_at:  # noqa: ASYNC110 - threads end
        await asyncio.sleep(PAUSE)
    return host.calls.functions


def run() -> int:
    """Serves until it is stopped; returns the exit status, which is not 0 where calls were cut off
    or a bug has ended it.

    Raises:
        ConfigError: A variable is missing or wrong; the message names it.
        UpstreamUnavailable: A parameter can't be read at the moment.
    """
    as_json()
    host = Host()
    sys.setswitchinterval(SWITCH_INTERVAL)
    release_memory()
    with _listen(host.settings) as listening, asyncio.Runner() as runner:
        cut = runner.run(serve(host, listening))
        logger.info("stopped", cut=cut)
        logging.shutdown()
        sys.stdout.flush()
        if cut:
            # threads can't be ended, and the runner would wait for them
            os._exit(1)
    return 1 if host.has_failed else 0


def main() -> None:
    """Serves until it is stopped."""
    try:
        status = run()
    except RapportError as error:
        raise SystemExit(f"rapport: {error}") from None
    raise SystemExit(status)


async def _answering(urls: tuple[str, ...]) -> None:
    """Waits until these answer, but not for long."""
    deadline = time.monotonic() + OTHERS_TIMEOUT
    async with httpx.AsyncClient(timeout=2, verify=trusted()) as http:
        for url in filter(None, urls):
            while time.monotonic() < deadline:
                try:
                    if (await http.get(url)).is_success:
                        break
                except httpx.RequestError:
                    pass
                await asyncio.sleep(PAUSE)
