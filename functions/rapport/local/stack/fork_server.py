"""Starts our own children of a stack as copies of one process that has imported what they need.

Four processes with the same libraries would each take half a second of a processor to import them,
and memory of their own. A copy takes milliseconds, and shares the memory that it does not change. A
warm start took 6.9 s of a processor and 391 MB without copies, and 4 s and 310 MB with them. One
process for all parts would take less, and they would end together.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rapport.local.errors import StackError
from rapport.local.stack.guard import end_with_parent
from rapport.local.stack.guarded import guarded
from rapport.server.memory import release_memory

# a copy of a process is safe there: on macOS, libraries of the system may not survive it
IS_SERVED = sys.platform == "linux"
# What several children need. The functions import their own modules, which set up the log of the
# whole process.
PRELOADED = (
    # what libraries import when they are first used
    "anyio._backends._asyncio",
    "httpcore",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "rapport.local.supabase.gateway",
    "rapport.local.supabase.net",
    "rapport.local.fakes.serve",
)
# glibc gives each thread memory of its own, and keeps more of what was freed the more a process has
# used: 20 MB of a stack. It reads this when a process starts.
LITTLE_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
# seconds until it has ended
PATIENCE = 5.0
_PR_SET_NAME = 15  # linux/prctl.h


class Part(NamedTuple):
    """What a copy runs: the function `main` of a module, with arguments as of a command line."""

    name: str
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: str
    # the text that the log has is kept
    append: bool
    death_signal: int


class Forked:
    """A copy that was started; it has the methods of `subprocess.Popen` that we use."""

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.started = threading.Event()
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            # it may have ended without a word of it yet
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def end(self, status: int) -> None:
        """Notes that it has ended; a negative status is the number of a signal."""
        self.returncode = status
        self.started.set()
        self._ended.set()


class ForkServer:
    """The process that is copied, as its parent sees it. It ends with its parent, and its copies
    with it.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                guarded((sys.executable, "-m", __name__, str(theirs.fileno()))),
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **LITTLE_MEMORY},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = ours
        self.has_ended = False
        self._lock = threading.Lock()
        # copies that were asked for, in order; and those that run
        self._asked: deque[Forked] = deque()
        self._running: dict[int, Forked] = {}
        self._reader = threading.Thread(target=self._read, name="fork server", daemon=True)
        self._reader.start()

    def start(self, part: Part) -> Forked:
        """Starts a copy. The first one waits until the imports are done.

        Raises:
            StackError: The process has ended.
        """
        forked = Forked()
        with self._lock:
            self._asked.append(forked)
            try:
                self._connection.sendall(json.dumps(part).encode() + b"\n")
            except OSError:
                forked.end(-signal.SIGKILL)
        forked.started.wait()
        if not forked.pid:
            raise StackError(f"{part.name} can't be started: its fork server has ended.")
        return forked

    def close(self) -> None:
        """Ends the process, and the copies that still run."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        # it may be reset where the process was killed
        with suppress(ConnectionError), self._connection.makefile("rb") as lines:
            for line in lines:
                pid, status = json.loads(line)
                if status is None:
                    forked = self._asked.popleft()
                    forked.pid = pid
                    self._running[pid] = forked
                    forked.started.set()
                else:
                    self._running.pop(pid).end(status)
        self.has_ended = True
        # the kernel ends its copies
        for forked in (*self._running.values(), *self._asked):
            forked.end(-signal.SIGKILL)


@cache
def _servers() -> list[ForkServer]:
    """The one of this process, once it is needed."""
    servers: list[ForkServer] = []

    def close() -> None:
        for server in servers:
            server.close()

    atexit.register(close)
    return servers


def server() -> ForkServer:
    """The fork server of this process, which is started where none runs. Call it on the main
    thread, with which it ends.
    """
    servers = _servers()
    if servers and servers[0].has_ended:
        servers.pop().close()
    if not servers:
        servers.append(ForkServer())
    return servers[0]


def prepare() -> None:
    """Lets the fork server begin its imports, where children will be copies."""
    if IS_SERVED:
        server()


def _serve(connection: socket.socket) -> Callable[[], None]:
    """Makes copies, without end; in each copy it returns what that one has to run."""

    def reap(_number: int, _frame: object) -> None:
        for pid in tuple(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                _tell(connection, pid, os.waitstatus_to_exitcode(status))

    running: set[int] = set()
    parent = os.getpid()
    signal.signal(signal.SIGCHLD, reap)
    with connection.makefile("rb") as lines:
        for line in lines:
            part = Part(*json.loads(line))
            # the end of a copy is told after its beginning
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            pid = os.fork()
            if not pid:
                break
            running.add(pid)
            _tell(connection, pid, None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        else:
            # the parent has ended
            return lambda: None
    connection.close()
    return _become(part, parent)


def _tell(connection: socket.socket, pid: int, status: int | None) -> None:
    connection.sendall(json.dumps((pid, status)).encode() + b"\n")


def _become(part: Part, parent: int) -> Callable[[], None]:
    """Makes this copy a process of its own, as one that was started by a command is."""
    os.setsid()
    end_with_parent(parent, part.death_signal)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, part.name.encode())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    log = Path(part.log)
    mode = os.O_APPEND if part.append else os.O_TRUNC
    output = os.open(log, os.O_WRONLY | os.O_CREAT | mode, 0o666)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(log.parent)
    os.environ.clear()
    os.environ.update(part.environment)
    sys.argv[1:] = part.arguments
    gc.enable()
    main: Callable[[], None] = importlib.import_module(part.module).main
    return main


def _preload() -> None:
    # httpx imports its command line where rich is installed, as on a developer's machine: 4 MB.
    # None is Python's way of saying that a module can't be imported, for which httpx is prepared.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows modules alone
    # nothing of what is imported is garbage, and a look at it would change its memory in each copy
    gc.disable()
    for module in PRELOADED:
        importlib.import_module(module)
    # the certificates are 5 MB
    importlib.import_module("rapport.connections").trusted()
    release_memory()
    gc.freeze()


def main() -> None:
    """Imports, and makes copies until the parent ends; each copy runs its own part."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _preload()
        run = _serve(connection)
    run()


if __name__ == "__main__":
    main()
