"""The package as others install it: packed by npm, in a project that is made fresh."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.web.node import HERE, WEB, install

from rapport.local.stack.npm import NODE_ROOT, node

NAME = "@rapport/live"


def pack(folder: Path) -> Path:
    """Packs it and unpacks it beneath a folder, as npm would install it; returns where."""
    install()
    with (WEB / ".npmrc").open() as lock:
        # the types are made in place
        fcntl.flock(lock, fcntl.LOCK_EX)
        npm(WEB, "pack", f"--pack-destination={folder}")
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def project(name: str, folder: Path, package: Path, *, links: bool = True) -> Path:
    """A copy of a project beneath `tests/web/` with its packages and ours; returns where.

    Packages are links to what is installed, or copies.
    """
    modules = modules_of(HERE / name)
    copy = folder / name
    shutil.copytree(HERE / name, copy, ignore=shutil.ignore_patterns("node_modules"))
    if links:
        (copy / "node_modules").mkdir()
        for module in modules.iterdir():
            (copy / "node_modules" / module.name).symlink_to(module)
    else:
        shutil.copytree(modules, copy / "node_modules", symlinks=True)
    shutil.copytree(package, copy / "node_modules" / NAME)
    return copy


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of a project's packages to its end."""
    program, *arguments = command
    return subprocess.run(
        [node(), folder / "node_modules" / program, *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@asynccontextmanager
async def serving(folder: Path, *command: str) -> AsyncIterator[list[str]]:
    """A program of a project's packages that runs meanwhile, and the lines that it prints."""
    program, *arguments = command
    process = await asyncio.create_subprocess_exec(
        node(),
        folder / "node_modules" / program,
        *arguments,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(line.decode())  # noqa: PERF401 - as they come

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


def npm(folder: Path, *arguments: str) -> None:
    """Runs npm in a folder. Raises RuntimeError with what it said."""
    done = subprocess.run(
        [node(), NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def modules_of(folder: Path) -> Path:
    """The packages of a project's lock, installed beside it unless they are there."""
    modules = folder / "node_modules"
    stamp = modules / ".installed"
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    with (folder / ".npmrc").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == digest):
            npm(folder, "ci", "--ignore-scripts", "--no-progress", "--loglevel=error")
            stamp.write_text(digest)
    return modules


def _environment() -> dict[str, str]:
    path = f"{NODE_ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "NEXT_TELEMETRY_DISABLED": "1"}
