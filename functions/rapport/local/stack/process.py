"""One child process of a stack: starts it, watches it, stops it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from rapport.local.proxy import without_proxies

GUARD = Path(__file__).with_name("guard.py")
TAIL_LINES = 15
TAIL_BYTES = 16_384


class ChildUser(NamedTuple):
    """The user of a child, by numeric ids."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Child:
    """A command, and how to know that it is ready."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool]
    # added to the supervisor's environment without proxies, since children talk only to this
    # machine
    environment: Mapping[str, str] = field(default_factory=dict)
    # what variables begin with that it does not get from there
    forgets: tuple[str, ...] = ()
    user: ChildUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # sent by the kernel when the supervisor itself is killed
    death_signal: signal.Signals = signal.SIGKILL
    # seconds between the stop signal and SIGKILL
    grace: float = 5
    # its death ends the stack; another child is started again
    is_vital: bool = False


class Process:
    """A started child; its output goes to `log`, with `append` after the present text."""

    def __init__(
        self,
        child: Child,
        log: Path,
        on_exit: Callable[[Process], None],
        *,
        append: bool = False,
    ) -> None:
        self.child = child
        self.log = log
        with log.open("ab" if append else "wb") as output:
            self._popen = subprocess.Popen(
                guarded(child.command, child.user, child.death_signal),
                cwd=log.parent,
                env=_environment_of(child),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach only the supervisor, which stops the children in order
                start_new_session=True,
            )
        self.created = _created(self._popen.pid)
        self._watcher = threading.Thread(
            target=self._watch, args=(on_exit,), name=f"watch {child.name}", daemon=True
        )
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; the negative number of a signal if one ended it."""
        return self._popen.poll()

    @property
    def end(self) -> str:
        """How it ended, in words."""
        status = self.exit_status
        if status is not None and status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"

    def kill(self) -> None:
        """Ends it at once."""
        self._popen.kill()

    def _watch(self, on_exit: Callable[[Process], None]) -> None:
        self._popen.wait()
        on_exit(self)

    def ask_to_stop(self) -> None:
        """Sends the signal on which the child ends in order."""
        self._popen.send_signal(self.child.stop_signal)

    def wait(self) -> None:
        """Waits for the requested end; after the grace it kills the whole group."""
        try:
            self._popen.wait(self.child.grace)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
        self._watcher.join()

    def log_tail(self) -> str:
        """The last lines of its output."""
        return log_tail(self.log)


def guarded(
    command: Sequence[str | Path],
    user: ChildUser | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """A command that runs as the user and that the kernel ends with this process.

    Call it on the main thread: on Linux the child ends with the thread that started it.
    """
    user = user or ChildUser(os.getuid(), os.getgid())
    supervision = (os.getpid(), death_signal.value, user.uid, user.gid)
    return [
        *(sys.executable, "-I", "-S", str(GUARD)),
        *map(str, supervision),
        *map(str, command),
    ]


def log_tail(log: Path) -> str:
    """The last lines of a log; empty where there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def answers(port: int, path: str = "/health") -> Callable[[], bool]:
    """A check that a server on loopback answers a GET of the path with 200."""

    def check() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def _environment_of(child: Child) -> dict[str, str]:
    kept = without_proxies(os.environ)
    if child.forgets:
        kept = {name: value for name, value in kept.items() if not name.startswith(child.forgets)}
    return {**kept, **child.environment}


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0
