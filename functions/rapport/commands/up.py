"""The command `rapport up`: a stack in the foreground."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn
from rich.progress import Progress as ProgressBar

from rapport.checkout import IS_CHECKOUT
from rapport.local.errors import StackError
from rapport.local.stack import launch, state
from rapport.local.stack.summary import StackSummary, show
from rapport.server.memory import release_memory

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminalProgress:
    """Shows steps and progress bars; plain lines where the console is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if not self._console.is_terminal:
            self._console.print(what)
        with self._console.status(what):
            yield

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with ProgressBar(*columns, console=self._console) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=min(done, total))


HOSTS = {"127.0.0.1": False, "localhost": False, "0.0.0.0": True}  # noqa: S104 - asked for


def up(*, as_json: bool, fresh: bool, host: str = "127.0.0.1") -> None:
    """Runs the stack until a signal stops it, or until Postgres dies or another child too often,
    which raises StackError.

    Stdout gets only the summary, once everything is ready.
    """
    if host not in HOSTS:
        raise StackError(
            f"--host takes 0.0.0.0, for all networks that this machine is in, or 127.0.0.1, for"
            f" this machine alone. {host} is neither."
        )
    console = Console(stderr=True)
    interrupt_on_signals()
    folder = state.folder()
    if not folder.is_relative_to(state.PROJECT) and state.HOME_VARIABLE not in os.environ:
        reason = f", since {state.PROJECT} can't be used" if IS_CHECKOUT else ""
        sentence = f"The stack's folder is {folder}{reason}."
        console.print(sentence, soft_wrap=True)
    try:
        with launch.running(
            folder, TerminalProgress(console), fresh=fresh, is_open=HOSTS[host]
        ) as running:
            if as_json:
                print(StackSummary.of(running.stack).model_dump_json(), flush=True)  # noqa: T201 - its output
            else:
                show(running.stack, Console())
            try:
                release_memory()
                running.supervisor.watch(lambda sentence: console.print(sentence, highlight=False))
            except KeyboardInterrupt:
                console.print("Stopping.")
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def interrupt_on_signals() -> None:
    """Turns the first stop signal into a KeyboardInterrupt; further ones are ignored.

    Stopping takes a moment, and a second Ctrl-C must not interrupt it.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for stopping in STOPPING_SIGNALS:
            signal.signal(stopping, signal.SIG_IGN)
        raise KeyboardInterrupt

    for stopping in STOPPING_SIGNALS:
        signal.signal(stopping, interrupt)
