"""`rapport serve` as people run it: one process, which the environment tells of its project."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from rapport.local.stack.ports import choose_any
from rapport.local.stack.running import Stack

PATIENCE = 60.0  # seconds; nothing is measured
COMMAND = (sys.executable, "-m", "rapport", "serve")


class Served:
    """A server that has begun to answer."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE
        )

    def lines(self, message: str | None = None) -> list[dict[str, Any]]:
        """What it has logged, or its lines of one kind."""
        # the last one may be half written
        whole = self._log.read_text().splitlines(keepends=True)
        told = [json.loads(line) for line in whole if line.endswith("\n") and line[0] == "{"]
        return [one for one in told if message in (None, one["message"])]

    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        return self.http.get("/ready").status_code == 200

    def ask_to_stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        self.ask_to_stop()
        return self.end()


def project(stack: Stack) -> dict[str, str]:
    """The variables that name a project; nothing of AWS, and no queue."""
    return {
        "SUPABASE_URL": stack.url,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "WHATSAPP_APP_SECRET": stack.whatsapp_app_secret,
        "WAKE_SECRET": stack.wake_secret,
    }


@contextmanager
def serving(
    log: Path,
    variables: Mapping[str, str],
    command: Sequence[str] = COMMAND,
    inherited: Mapping[str, str] = os.environ,
) -> Iterator[Served]:
    """A server on a free port, ended after that if it still runs."""
    port = choose_any("serve")["serve"]
    environment = {**inherited, **variables, "PORT": str(port)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        served = Served(process, port, log)
        try:
            eventually(lambda: _answers(served, process))
            yield served
        finally:
            served.http.close()
            process.kill()


def _answers(served: Served, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, served.log()
    try:
        return served.http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def eventually(condition: Callable[[], object]) -> None:
    """Waits for what must come."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        pause.wait(0.05)
