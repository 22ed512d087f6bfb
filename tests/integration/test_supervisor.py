from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rapport.local.stack.ports import choose_any
from rapport.local.stack.process import Child, answers
from rapport.local.stack.supervisor import (
    ChildDiedError,
    ChildNotReadyError,
    Recorded,
    Supervisor,
    restarts,
)

KILLED_SUPERVISOR = """
import signal, sys
from pathlib import Path
from rapport.local.stack.process import Child
from rapport.local.stack.supervisor import Supervisor

with Supervisor(Path(sys.argv[1])) as supervisor:
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    supervisor.start(Child(name="sleeper", command=command, is_ready=lambda: True))
    print(supervisor.processes[0].pid, flush=True)
    signal.pause()
"""


def python(name: str, program: str, *, grace: float = 5, is_ready: bool = True) -> Child:
    return Child(
        name=name,
        command=(sys.executable, "-c", program),
        is_ready=lambda: is_ready,
        grace=grace,
    )


def web_server(name: str) -> tuple[Child, int]:
    port = choose_any(name)[name]
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    return Child(name=name, command=command, is_ready=answers(port, "/")), port


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path) as supervisor:
        yield supervisor


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no supervisor's child."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def remember(folder: Path, pid: int, created: float) -> None:
    recorded = Recorded(name="sleeper", pid=pid, created=created)
    (folder / "children.json").write_text(f"[{recorded.model_dump_json()}]")


def test_start_returns_when_every_child_answers(supervisor: Supervisor) -> None:
    (one, one_port), (other, other_port) = web_server("one"), web_server("other")
    supervisor.start(one, other)
    assert answers(one_port, "/")()
    assert answers(other_port, "/")()


def test_stop_leaves_no_child(supervisor: Supervisor) -> None:
    supervisor.start(web_server("one")[0], web_server("other")[0])
    pids = [process.pid for process in supervisor.processes]
    supervisor.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_child_that_ignores_the_request_to_stop_is_killed(supervisor: Supervisor) -> None:
    program = (
        "import signal, pathlib, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('deaf').touch()\n"
        "time.sleep(600)"
    )
    child = Child(
        name="deaf",
        command=(sys.executable, "-c", program),
        is_ready=lambda: (supervisor.logs / "deaf").exists(),
        grace=0.1,
    )
    supervisor.start(child)
    process = supervisor.processes[0]
    supervisor.stop()
    assert process.exit_status == -signal.SIGKILL


def test_a_child_that_dies_while_starting_is_reported_with_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(ChildDiedError, match=r"(?s)broken ended with exit status 3.*what went"):
        supervisor.start(
            python("broken", "print('what went wrong'); raise SystemExit(3)", is_ready=False)
        )


def test_a_vital_child_that_dies_later_is_reported_with_the_signal(supervisor: Supervisor) -> None:
    victim = python("victim", "import time; time.sleep(600)")
    supervisor.start(replace(victim, is_vital=True))
    os.kill(supervisor.processes[0].pid, signal.SIGKILL)
    with pytest.raises(ChildDiedError, match="victim ended with signal SIGKILL"):
        supervisor.watch()


def test_a_child_that_dies_is_started_again_until_it_has_died_five_times_in_a_minute(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    child, port = web_server("victim")
    other, _ = web_server("other")
    supervisor.start(child, other)
    untouched = supervisor.processes[1].pid
    told: list[str] = []

    def kill_again(sentence: str) -> None:
        told.append(sentence)
        if sentence == "victim runs again.":
            assert answers(port, "/")()
            count = len(told) // 2
            assert restarts(tmp_path)[0].startswith(f"victim was started again {count} time")
            os.kill(supervisor.processes[0].pid, signal.SIGKILL)

    os.kill(supervisor.processes[0].pid, signal.SIGKILL)
    with pytest.raises(ChildDiedError) as gave_up:
        supervisor.watch(kill_again)

    pauses = ("", " in 0.5 s", " in 1 s", " in 2 s")
    assert told == [
        sentence
        for pause in pauses
        for sentence in (
            f"victim ended with signal SIGKILL and is started again{pause}.",
            "victim runs again.",
        )
    ]
    assert str(gave_up.value).startswith(
        "victim ended with signal SIGKILL, 5 times within a minute, and is not started again. "
    )
    assert supervisor.processes[1].pid == untouched
    log = (supervisor.logs / "supervisor.log").read_text().splitlines()
    assert [line.split(" UTC ", 1)[1] for line in log] == told
    # what the earlier processes have written stays
    assert (supervisor.logs / "victim.log").read_text().count("GET / HTTP") >= len(pauses) + 1


def test_a_child_that_does_not_become_ready_again_is_killed_and_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = True
    child = replace(python("mute", "import time; time.sleep(600)"), is_ready=lambda: ready)
    supervisor.start(child)
    ready = False
    monkeypatch.setattr("rapport.local.stack.supervisor.START_TIMEOUT", 0.05)
    told: list[str] = []
    os.kill(supervisor.processes[0].pid, signal.SIGTERM)
    with pytest.raises(ChildDiedError, match="mute ended with signal SIGKILL, 5 times"):
        supervisor.watch(told.append)
    assert told[0] == "mute ended with signal SIGTERM and is started again."
    assert told[1:] == [
        f"mute ended with signal SIGKILL and is started again in {pause} s."
        for pause in ("0.5", "1", "2")
    ]


def test_a_child_that_never_answers_is_reported(supervisor: Supervisor) -> None:
    with pytest.raises(ChildNotReadyError, match="mute was not ready"):
        supervisor.start(
            python("mute", "import time; time.sleep(600)", is_ready=False), timeout=0.2
        )


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children only on Linux")
def test_children_end_with_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone == [child]


def test_what_a_killed_supervisor_left_is_ended(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    remember(tmp_path, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    with Supervisor(tmp_path):
        assert not psutil.pid_exists(sleeper.pid)


def test_a_process_that_merely_has_the_id_of_a_child_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    remember(tmp_path, sleeper.pid, psutil.Process(sleeper.pid).create_time() - 100)
    with Supervisor(tmp_path):
        assert sleeper.poll() is None


def copied(supervisor: Supervisor, *arguments: str) -> Child:
    """One of our own parts, which runs as a copy of the fork server."""
    log = supervisor.logs / "copied.log"
    return Child(
        name="copied",
        command=("tests.integration.copied", *arguments),
        is_ours=True,
        is_ready=lambda: log.exists() and log.read_text().endswith("\n"),
        environment={"COPIED_GIVEN": "1"},
        forgets=("COPIED_",),
    )


def test_a_copy_is_a_process_of_its_own_whose_end_is_told(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIED_FORGOTTEN", "1")
    supervisor.start(copied(supervisor, "a", "b c"))
    assert json.loads((supervisor.logs / "copied.log").read_text()) == {
        "arguments": ["a", "b c"],
        "folder": str(supervisor.logs),
        "variables": ["COPIED_GIVEN"],
        "leads_its_session": True,
    }
    (process,) = supervisor.processes
    assert process.exit_status is None
    supervisor.stop()
    assert process.exit_status == -signal.SIGTERM
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(ChildDiedError, match="copied ended with exit status 3"):
        supervisor.start(replace(copied(supervisor, "fail"), is_ready=lambda: False))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is copied")
def test_copies_are_started_again_when_what_they_are_copies_of_is_killed(
    supervisor: Supervisor,
) -> None:
    supervisor.start(copied(supervisor))
    before = psutil.Process(supervisor.processes[0].pid)
    fork_server = before.parent()
    assert fork_server
    fork_server.kill()
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if "runs again" in sentence:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervisor.watch(tell)
    assert told == [
        "copied ended with signal SIGKILL and is started again.",
        "copied runs again.",
    ]
    gone, _ = psutil.wait_procs([before], timeout=10)
    assert gone
    assert supervisor.processes[0].exit_status is None
