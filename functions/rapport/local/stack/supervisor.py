"""Starts the children of a stack, notices when one dies, and ends all of them."""

from __future__ import annotations

import queue
import signal
import time
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


class ChildDiedError(StackError):
    """A child ended without being asked to."""

    def __init__(self, process: Process) -> None:
        status = process.exit_status
        how = f"exit status {status}"
        if status is not None and status < 0:
            how = f"signal {signal.Signals(-status).name}"
        self.name = process.child.name
        super().__init__(
            f"{self.name} ended with {how}. The end of {process.log}:\n{process.log_tail()}"
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
    """A recorded child; the time of creation tells it from another process with its id."""

    name: str
    pid: int
    created: float


_RECORD = TypeAdapter(list[Recorded])


class Supervisor:
    """The children of one stack, stopped in reverse order at the end of the `with` block.

    `folder` gets each child's `logs/<name>.log`, and `children.json`, by which the next supervisor
    finds the children of a killed one.
    """

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self._record = folder / "children.json"
        # the groups that were started together, in order
        self._groups: list[list[Process]] = []
        self._exits: queue.SimpleQueue[Process] = queue.SimpleQueue()

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

    def start(self, *children: Child, timeout: float = START_TIMEOUT) -> None:
        """Starts children at the same time and returns when all are ready.

        Call it on the main thread: on Linux a child ends with the thread that started it. Raises
        ChildDiedError or ChildNotReadyError; `stop` ends the children that run then.
        """
        group: list[Process] = []
        self._groups.append(group)
        group.extend(
            Process(child, self.logs / f"{child.name}.log", self._exits.put) for child in children
        )
        self._write_record()
        waiting = group
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

    def watch(self) -> None:
        """Blocks until a child dies, and then raises ChildDiedError."""
        while (process := self._exits.get()) not in self.processes:
            pass  # it was stopped already
        raise ChildDiedError(process)

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
            Recorded(name=process.child.name, pid=process.pid, created=process.created)
            for process in self.processes
        ]
        write_whole(self._record, _RECORD.dump_json(recorded))

    def _end_leftovers(self) -> None:
        try:
            recorded = _RECORD.validate_json(self._record.read_bytes())
        except (FileNotFoundError, ValidationError):
            return
        leftovers = []
        for child in reversed(recorded):
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
        self._record.unlink()
