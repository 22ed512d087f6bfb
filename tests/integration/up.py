"""`rapport up` as people run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from rapport.local.stack.summary import StackSummary


@dataclass
class Up:
    """A `rapport up --json` that is ready."""

    process: subprocess.Popen[str]
    errors: Path
    summary: StackSummary

    def family(self) -> list[psutil.Process]:
        """The processes that it has started, directly or not."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def command(home: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    # a developer's settings for other servers, which would keep any connection from working
    foreign = {"PGSSLMODE": "verify-full", "PGHOST": "db.example"}
    environment = {**os.environ, **foreign, "RAPPORT_HOME": str(home)}
    return [sys.executable, "-m", "rapport", "up", "--json", *options], environment


@contextmanager
def up(home: Path, *options: str) -> Iterator[Up]:
    arguments, environment = command(home, *options)
    errors = home.with_suffix(".stderr")
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line, errors.read_text()
            yield Up(process, errors, StackSummary.model_validate_json(line))
        finally:
            process.terminate()
            rest = process.stdout.read()
    assert rest == "", "stdout carries the one line alone"
