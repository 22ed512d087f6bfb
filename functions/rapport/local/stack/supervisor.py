"""Starts the children of a stack, starts those again that die, and ends all of them."""

from __future__ import annotations

import queue
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import psutil
from pydantic import BaseModel, TypeAdapter, ValidationError

from rapport.local.errors import StackError
from rapport.local.stack.files import write_whole
from rapport.local.stack.process import Child, Process

START_TIMEOUT = 60.0
POLL_INTERVAL = 0.02
CLOCK_TOLERANCE = 2.0
# A child that dies once is started again at once. Each further death within a minute doubles the
# pause before, and after some the stack ends.
MAX_DEATHS = 5
DEATHS_SECONDS = 60.0
FIRST_PAUSE = 0.5
RESTART_POLL = 0.1


class ChildDiedError(StackError):
    """A child ended without being asked to, and is not started again.

    `deaths` is how often it ended within a minute.
    """

    def __init__(self, process: Process, deaths: int = 1) -> None:
        self.name = process.child.name
        times = f", {deaths} times within a minute, and is not started again" if deaths > 1 else ""
        super().__init__(
            f"{self.name} ended with {process.end}{times}. "
            f"The end of {process.log}:\n{process.log_tail()}"
        )


class ChildNotReadyError(StackError):
    """A child runs and does not become ready."""

    def __init__(self, process: Process, seconds: float) -> None:
        self.name = process.child.name
        super().__init__(
            f"{self.name} was not ready within {seconds:.0f} seconds. "
            f"The end of {process.log}:\n{process.log_tail()}"
        )


class Recorded(BaseModel):
    """A recorded child; the time of creation tells it from another process with its id.

    `deaths` counts how often it was started again, and `last_end` says how it ended last.
    """

    name: str
    pid: int
    created: float
    deaths: int = 0
    last_end: str = ""


RECORD = "children.json"
_RECORD = TypeAdapter(list[Recorded])


class _Deaths:
    """How often one child has died, and how the last time; the recent ones by their time."""

    def __init__(self) -> None:
        self.count = 0
        self.last_end = ""
        self._recent: list[float] = []

    def add(self, end: str) -> int:
        """Counts a death; returns how many there were within a minute."""
        now = time.monotonic()
        self._recent = [moment for moment in self._recent if now - moment < DEATHS_SECONDS]
        self._recent.append(now)
        self.count += 1
        self.last_end = f"{end} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return len(self._recent)


def restarts(folder: Path) -> list[str]:
    """Says which children of the folder's running stack were started again, a sentence each."""
    return [
        f"{child.name} was started again {child.deaths} "
        f"{'time' if child.deaths == 1 else 'times'}, last after {child.last_end}"
        for child in _recorded(folder / RECORD)
        if child.deaths
    ]


def pid_of(folder: Path, name: str) -> int:
    """The process id of a child of the folder's running stack. Raises StackError."""
    for child in _recorded(folder / RECORD):
        if child.name == name:
            return child.pid
    raise StackError(f"{name} does not run in {folder}.")


class Supervisor:
    """The children of one stack, stopped in reverse order at the end of the `with` block.

    `folder` gets each child's `logs/<name>.log`, `logs/supervisor.log` with the deaths of children,
    and `children.json`, by which the next supervisor finds the children of a killed one.
    """

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self._record = folder / RECORD
        # the groups that were started together, in order
        self._groups: list[list[Process]] = []
        # started, and not awaited yet
        self._unready: list[Process] = []
        self._exits: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._deaths: defaultdict[str, _Deaths] = defaultdict(_Deaths)
        # ended children and when to start them again; started ones and when they must be ready
        self._due: dict[Process, float] = {}
        self._starting: dict[Process, float] = {}

    def __enter__(self) -> Supervisor:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._end_leftovers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def processes(self) -> tuple[Process, ...]:
        return tuple(process for group in self._groups for process in group)

    def start(
        self, *children: Child, beside: Iterable[Child] = (), timeout: float = START_TIMEOUT
    ) -> None:
        """Starts children at the same time and returns when all are ready.

        Those `beside` them are awaited by the next `start`. Call it on the main thread: on Linux a
        child ends with the thread that started it. Raises ChildDiedError or ChildNotReadyError;
        `stop` ends the children that run then.
        """
        group: list[Process] = []
        self._groups.append(group)
        waiting = self._unready
        self._unready = []
        for child in (*children, *beside):
            process = Process(child, self.logs / f"{child.name}.log", self._exits.put)
            group.append(process)
            (waiting if child in children else self._unready).append(process)
        self._write_record()
        deadline = time.monotonic() + timeout
        while waiting:
            for process in waiting:
                if process.exit_status is not None:
                    raise ChildDiedError(process)
            waiting = [process for process in waiting if not process.child.is_ready()]
            if waiting and time.monotonic() > deadline:
                raise ChildNotReadyError(waiting[0], timeout)
            if waiting:
                time.sleep(POLL_INTERVAL)

    def watch(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Starts children again that die, without end; `tell` takes a sentence about each.

        Blocks, on the main thread as `start`. Raises ChildDiedError when a vital child dies, or one
        that has died too often within a minute.
        """
        while True:
            try:
                process = self._exits.get(timeout=self._patience())
            except queue.Empty:
                process = None
            # otherwise it was stopped already
            if process in self.processes:
                self._take_death(process, tell)
            now = time.monotonic()
            for ended in [each for each, moment in self._due.items() if moment <= now]:
                self._start_again(ended)
            for started, deadline in list(self._starting.items()):
                if started.exit_status is None and started.child.is_ready():
                    del self._starting[started]
                    self._say(f"{started.child.name} runs again.", tell)
                elif now > deadline:
                    # its end counts as another death
                    started.kill()

    def _patience(self) -> float | None:
        """Seconds until something has to be done, whether or not a child dies."""
        if self._starting:
            return RESTART_POLL
        if self._due:
            return max(0.0, min(self._due.values()) - time.monotonic())
        return None

    def _take_death(self, process: Process, tell: Callable[[str], None]) -> None:
        self._starting.pop(process, None)
        name = process.child.name
        deaths = self._deaths[name].add(process.end)
        if process.child.is_vital:
            raise ChildDiedError(process)
        if deaths >= MAX_DEATHS:
            raise ChildDiedError(process, deaths)
        pause = 0.0 if deaths == 1 else FIRST_PAUSE * 2 ** (deaths - 2)
        when = f" in {pause:g} s" if pause else ""
        self._say(f"{name} ended with {process.end} and is started again{when}.", tell)
        self._due[process] = time.monotonic() + pause

    def _start_again(self, ended: Process) -> None:
        del self._due[ended]
        group = next(group for group in self._groups if ended in group)
        started = Process(ended.child, ended.log, self._exits.put, append=True)
        group[group.index(ended)] = started
        self._starting[started] = time.monotonic() + START_TIMEOUT
        self._write_record()

    def _say(self, sentence: str, tell: Callable[[str], None]) -> None:
        with (self.logs / "supervisor.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {sentence}\n")
        tell(sentence)

    def stop(self) -> None:
        """Ends every child: the last group first, the children of a group at the same time."""
        while self._groups:
            for process in self._groups[-1]:
                process.ask_to_stop()
            for process in self._groups[-1]:
                process.wait()
            self._groups.pop()
        self._record.unlink(missing_ok=True)

    def _write_record(self) -> None:
        recorded = [
            Recorded(
                name=process.child.name,
                pid=process.pid,
                created=process.created,
                deaths=self._deaths[process.child.name].count,
                last_end=self._deaths[process.child.name].last_end,
            )
            for process in self.processes
        ]
        write_whole(self._record, _RECORD.dump_json(recorded))

    def _end_leftovers(self) -> None:
        leftovers = []
        for child in reversed(_recorded(self._record)):
            try:
                process = psutil.Process(child.pid)
                # the time is derived from the clock, which may have been set since
                if abs(process.create_time() - child.created) < CLOCK_TOLERANCE:
                    # a fast shutdown for Postgres; as good as SIGTERM for the others
                    process.send_signal(signal.SIGINT)
                    leftovers.append(process)
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(leftovers, timeout=10)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive)
        self._record.unlink(missing_ok=True)


def _recorded(file: Path) -> list[Recorded]:
    try:
        return _RECORD.validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return []
