"""The JavaScript of the project, run by the Node of a Python package."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rapport.local.stack.npm import NODE_ROOT, node

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "functions" / "rapport" / "web"


def install() -> Path:
    """Installs what the lock of the web folder names, unless it is there; returns where."""
    modules = WEB / "node_modules"
    stamp = modules / ".installed"
    digest = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    with (WEB / ".npmrc").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == digest):
            npm = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            subprocess.run(
                [node(), npm, "ci", "--ignore-scripts", "--no-progress", "--loglevel=error"],
                cwd=WEB,
                env={**os.environ, "PATH": f"{NODE_ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}"},
                check=True,
            )
            stamp.write_text(digest)
    return modules


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Node to its end."""
    return subprocess.run([node(), *arguments], check=False, capture_output=True, text=True)


def bundled(source: Path, *without: str) -> str:
    """A module with all that it imports but some, as a browser takes it."""
    modules = install()
    made = subprocess.run(
        [
            node(),
            modules / "esbuild" / "bin" / "esbuild",
            source,
            "--bundle",
            "--format=esm",
            "--minify",
            "--jsx=automatic",
            *(f"--external:{name}" for name in without),
            f"--alias:@rapport/live={WEB}",
            '--define:process.env.NODE_ENV="development"',
        ],
        env={**os.environ, "NODE_PATH": str(modules)},
        check=True,
        capture_output=True,
        text=True,
    )
    return made.stdout


class Client:
    """A live client in a Node of its own, which notes what it is told: see `witness.mjs`."""

    def __init__(
        self, process: asyncio.subprocess.Process, take: Callable[[dict[str, Any]], None]
    ) -> None:
        self._process = process
        self._take = take
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def ask(self, question: str, **more: object) -> Any:
        """Has it do something; returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"ask": question, **more}).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(30):
            answer = await self._answers.get()
        assert not isinstance(answer, EOFError), "Node has ended"
        return answer

    async def listen(self) -> None:
        """Takes what it says until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "answer" in said:
                self._answers.put_nowait(said["answer"])
            else:
                self._take(said)
        self._answers.put_nowait(EOFError())


@asynccontextmanager
async def client(
    take: Callable[[dict[str, Any]], None], **settings: object
) -> AsyncIterator[Client]:
    """A live client with these settings; `take` gets each thing that it is told."""
    install()
    process = await asyncio.create_subprocess_exec(
        node(),
        HERE / "witness.mjs",
        json.dumps(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    it = Client(process, take)
    listening = asyncio.create_task(it.listen())
    try:
        yield it
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await listening
