"""One child process of a stack: starts it, watches it, stops it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rapport.local.proxy import without_proxies
from rapport.local.stack import fork_server
from rapport.local.stack.guarded import ChildUser, guarded

TAIL_LINES = 15
TAIL_BYTES = 16_384


@dataclass(frozen=True, kw_only=True)
class Child:
    """A command, and how to know that it is ready."""

    name: str
    # a program with its arguments; where it is ours, the module whose `main` runs in their place
    command: tuple[str, ...]
    is_ours: bool = False
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
        is_copy = child.is_ours and fork_server.IS_SERVED
        self._popen = (_copied if is_copy else _executed)(child, log, append)
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


def _copied(child: Child, log: Path, append: bool) -> fork_server.Forked:
    module, *arguments = child.command
    return fork_server.server().start(
        fork_server.Part(
            name=child.name,
            module=module,
            arguments=arguments,
            environment=_environment_of(child),
            log=str(log),
            append=append,
            death_signal=child.death_signal.value,
        )
    )


def _executed(child: Child, log: Path, append: bool) -> subprocess.Popen[bytes]:
    command = child.command
    if child.is_ours:
        module, *arguments = command
        command = (sys.executable, "-c", f"from {module} import main; main()", *arguments)
    with log.open("ab" if append else "wb") as output:
        return subprocess.Popen(
            guarded(command, child.user, child.death_signal),
            cwd=log.parent,
            env=_environment_of(child),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C must reach only the supervisor, which stops the children in order
            start_new_session=True,
        )


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
