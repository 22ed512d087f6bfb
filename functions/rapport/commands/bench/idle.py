"""`rapport up` without work: how fast it starts, and how much memory it and its sockets keep."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from websockets.asyncio.client import ClientConnection, connect

from rapport.local.errors import StackError
from rapport.local.stack.state import HOME_VARIABLE
from rapport.local.stack.summary import StackSummary
from rapport.local.stack.supervisor import pid_of

SOCKETS = 1_000
CHANNELS = 5_000
AT_A_TIME = 50
# until memory that only the start needed is released
SETTLED_S = 3.0
PATIENCE_S = 30.0


class IdleFigures(NamedTuple):
    """Seconds to start, and bytes: of the whole stack, and more in the gateway for its clients."""

    start_s: float
    memory: int
    sockets: int
    channels: int


def measure(folder: Path) -> IdleFigures:
    """Starts `rapport up` on a folder that has its database, as a developer would."""
    before = time.perf_counter()
    with _up(folder) as summary:
        start_s = time.perf_counter() - before
        time.sleep(SETTLED_S)
        this = psutil.Process(summary.pid)
        family = this.children(recursive=True)
        memory = sum(process.memory_full_info().pss for process in (this, *family))
        gateway = psutil.Process(pid_of(folder, "gateway"))
        sockets, channels = asyncio.run(_measure_clients(summary, gateway))
    return IdleFigures(start_s, memory, sockets, channels)


@contextmanager
def _up(folder: Path) -> Iterator[StackSummary]:
    environment = {**os.environ, HOME_VARIABLE: str(folder)}
    command = [sys.executable, "-m", "rapport", "up", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise StackError("`rapport up` has no output.")
        try:
            line = process.stdout.readline()
            if not line:
                raise StackError(f"`rapport up` did not start:\n{process.stderr.read()}")
            yield StackSummary.model_validate_json(line)
        finally:
            process.send_signal(signal.SIGINT)


async def _measure_clients(summary: StackSummary, gateway: psutil.Process) -> tuple[int, int]:
    url = summary.url.replace("http", "ws", 1) + "/realtime/v1/websocket"
    query = f"?vsn=1.0.0&apikey={summary.publishable_key}"
    idle = gateway.memory_info().rss
    sockets: list[ClientConnection] = []
    try:
        for _ in range(0, SOCKETS, AT_A_TIME):
            sockets += await asyncio.gather(
                *(connect(url + query, compression=None) for _ in range(AT_A_TIME))
            )
        await asyncio.sleep(SETTLED_S)
        connected = gateway.memory_info().rss
        for start in range(0, SOCKETS, AT_A_TIME):
            group = sockets[start : start + AT_A_TIME]
            await asyncio.gather(*(_join(socket, CHANNELS // SOCKETS) for socket in group))
        await asyncio.sleep(SETTLED_S)
        joined = gateway.memory_info().rss
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))
    return connected - idle, joined - connected


async def _join(socket: ClientConnection, channels: int) -> None:
    """Joins as many topics, each of this socket alone."""
    for number in range(channels):
        topic = f"realtime:{id(socket)}:{number}"
        payload = '{"config":{"broadcast":{"self":false,"ack":false},"presence":{"key":""}}}'
        await socket.send(
            f'{{"topic":"{topic}","event":"phx_join","payload":{payload},"ref":"{number}"}}'
        )
        async with asyncio.timeout(PATIENCE_S):
            answer = await socket.recv()
        if '"status":"ok"' not in str(answer):
            raise StackError(f"A join was refused: {answer!r}")
