"""Each fault strikes a whole stack at work; afterwards nothing is lost, doubled or out of order.

`uv run pytest -m faults` has 5,000 webhooks and 500 replies for each and prints how long each took
to pass; the usual run has one stack, few messages and the kills that hurt most.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from tests.faults.judgement import judge, settled, slowest_sent
from tests.faults.load import Load
from tests.integration.up import Up, up

from rapport.local.stack.running import Stack
from rapport.local.stack.state import settings_file
from rapport.local.stack.summary import StackSummary
from rapport.local.stack.supervisor import pid_of

pytestmark = pytest.mark.usefixtures("binaries")

# how the stand-in for WhatsApp treats calls and webhooks meanwhile
MISBEHAVIOUR = {
    "webhooks": {"copies": 2},
    "faults": [
        {"on": "messages", "drop": True, "after_accepting": True, "after": 5, "times": 3},
        {"on": "messages", "drop": True, "after": 12, "times": 2},
        {"on": "messages", "delay_ms": 1500, "after": 18, "times": 5},
    ],
}
# seconds that a fault lasts which passes by itself
LASTS = 8.0
# of a message that a worker sends, see claim_outbound
LEASE = timedelta(seconds=60)
# bytes of the disk that fills up: a stack is not begun where less than 600 MB are free
FULL = 800 * 1024 * 1024
# fewer, to look at one fault
WEBHOOKS = int(os.environ.get("FAULTS_WEBHOOKS", "5000"))
REPLIES = WEBHOOKS // 10


class Struck:
    """A stack that something happens to; Postgres takes the whole stack with it, as a crash of the
    machine would, and then the stack is started again.
    """

    def __init__(self, home: Path, ending: ExitStack) -> None:
        self._home = home
        self._ending = ending
        self._up = self._start()

    @property
    def summary(self) -> StackSummary:
        return self._up.summary

    @property
    def stack(self) -> Stack:
        return Stack.load(settings_file(self._home))

    def _start(self) -> Up:
        return self._ending.enter_context(up(self._home))

    async def kill(self, name: str) -> None:
        os.kill(pid_of(self._home, name), signal.SIGKILL)

    async def kill_backend(self) -> None:
        """One of Postgres' processes, in the middle of its work: all others are reset."""
        with psycopg.connect(self.summary.db_url) as connection:
            found = connection.execute(
                "select pid from pg_stat_activity"
                " where usename = 'authenticator' order by query_start desc limit 1"
            ).fetchone()
        assert found is not None
        os.kill(found[0], signal.SIGKILL)

    async def kill_postgres(self) -> None:
        os.kill(int((self._home / "postgres" / "postmaster.pid").read_text().split()[0]), 9)
        await self.again()

    async def end_leases(self, killed: datetime) -> None:
        """Lets the minute pass for which killed workers hold their messages, and wakes another."""
        with psycopg.connect(self.summary.db_url) as connection:
            connection.execute(
                "update private.outbound_queue set leased_until = clock_timestamp()"
                " where leased_until < %s",
                [killed + LEASE],
            )
        stack = self.stack
        await self._answers(
            "POST",
            stack.wake_url,
            headers={"authorization": f"Bearer {stack.wake_secret}"},
            json={"worker": "deliver_outbound"},
        )

    async def again(self) -> None:
        """Starts the stack once more, after it has ended by itself."""
        await asyncio.to_thread(self._up.process.wait, 60)
        self._up = await asyncio.to_thread(self._start)

    @property
    def has_ended(self) -> bool:
        return self._up.process.poll() is not None

    async def works(self) -> None:
        """Waits until everything that can be asked answers: the functions, which ask the database,
        a row through the gateway and PostgREST, the stand-ins, and the queue.
        """
        stack = self.stack
        key = {"apikey": stack.publishable_key}
        await self._answers("GET", f"{stack.functions_url}/ready")
        await self._answers("GET", f"{stack.url}/rest/v1/accounts?limit=1", headers=key)
        await self._answers("GET", f"{stack.whatsapp_url}/_fake/behaviour")
        await self._answers("GET", stack.aws_url)

    async def _answers(self, method: str, url: str, **request: Any) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            while True:
                with suppress(httpx.TransportError):
                    if (await http.request(method, url, **request)).status_code < 500:
                        return
                await asyncio.sleep(0.05)


async def half_open(struck: Struck) -> None:
    """Connections that send half a request and then nothing, to the gateway and the functions."""
    async with AsyncExitStack() as ending:
        for url in (struck.summary.url, struck.summary.functions_url):
            address = httpx.URL(url)
            for _ in range(200):
                _, writer = await asyncio.open_connection(address.host, address.port)
                ending.callback(writer.close)
                writer.write(
                    b"POST /api/webhooks/whatsapp HTTP/1.1\r\nhost: x\r\ncontent-length: 9"
                )
        await asyncio.sleep(LASTS)


async def long_transaction(struck: Struck) -> None:
    """A transaction that has locked conversations, and another one that only stays open."""

    def hold() -> None:
        with psycopg.connect(struck.summary.db_url) as idle, idle.cursor() as reader:
            reader.execute("set transaction isolation level repeatable read")
            reader.execute("select count(*) from public.messages")
            with psycopg.connect(struck.summary.db_url) as locking:
                locking.execute("select id from public.conversations limit 10 for update")
                time.sleep(LASTS)

    await asyncio.to_thread(hold)


async def pool_exhausted(struck: Struck) -> None:
    """Every connection of PostgREST's waits for a table that somebody has locked."""

    def hold() -> None:
        with psycopg.connect(struck.summary.db_url) as locking:
            locking.execute("lock table public.contacts in access exclusive mode")
            time.sleep(LASTS)

    await asyncio.to_thread(hold)


FAULTS: dict[str, Callable[[Struck], Awaitable[None]]] = {
    "postgrest killed": lambda struck: struck.kill("postgrest"),
    "gateway killed": lambda struck: struck.kill("gateway"),
    "functions killed": lambda struck: struck.kill("functions"),
    "whatsapp and metakocka killed": lambda struck: struck.kill("fakes"),
    "queue killed": lambda struck: struck.kill("moto"),
    "net worker killed": lambda struck: struck.kill("net"),
    "a backend killed": Struck.kill_backend,
    "postgres killed": Struck.kill_postgres,
    "half-open connections": half_open,
    "long transactions": long_transaction,
    "pool exhausted": pool_exhausted,
}


@pytest.fixture(scope="module")
def times(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, object]]]:
    """What each fault took, shown at the end."""
    table: dict[str, dict[str, object]] = {}
    yield table
    for name, row in table.items():
        request.config.get_terminal_writer().line(f"\n{name}: {json.dumps(row)}")


@pytest.fixture(autouse=True)
def kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keeps the table after each fault in the file that FAULTS_FILE names."""
    yield
    if (file := os.environ.get("FAULTS_FILE")) and "times" in request.fixturenames:
        Path(file).write_text(json.dumps(request.getfixturevalue("times"), indent=1))


@contextmanager
def struck_stack(home: Path) -> Iterator[Struck]:
    with ExitStack() as ending:
        struck = Struck(home, ending)
        httpx.post(
            f"{struck.summary.whatsapp_url}/_fake/behaviour", json=MISBEHAVIOUR, trust_env=False
        ).raise_for_status()
        yield struck


async def endure(
    struck: Struck, load: Load, strike: Callable[[Struck], Awaitable[None]]
) -> dict[str, object]:
    """The load with a fault in it, and what must hold afterwards.

    Returns seconds: `lasted_s` until every part answered, of a fault that passes by itself with its
    own time; `webhook_s` and `reply_s` of the request that was taken last after it was first made;
    `sent_s` of the reply that WhatsApp took last after it was written.
    """
    lasted = 0.0

    async def fail() -> None:
        nonlocal lasted
        struck_at = time.monotonic()
        await strike(struck)
        await struck.works()
        lasted = time.monotonic() - struck_at

    begun = time.monotonic()
    await load.run(fail)
    taken = time.monotonic()
    await asyncio.to_thread(settled, load)
    done = time.monotonic()
    statuses = await asyncio.to_thread(judge, load)
    return {
        "lasted_s": round(lasted, 1),
        "webhook_s": round(load.slowest["webhook"], 1),
        "reply_s": round(load.slowest["reply"], 1),
        "sent_s": round(await asyncio.to_thread(slowest_sent, load), 1),
        "load_s": round(taken - begun, 1),
        "settled_s": round(done - taken, 1),
        "repeated": load.repeated,
        "replies": statuses,
    }


async def test_kills_at_work_lose_and_double_nothing(session_folder: Path) -> None:
    async def strike(struck: Struck) -> None:
        await struck.kill("functions")
        killed = datetime.now(UTC)
        await struck.kill("postgrest")
        await struck.works()
        await struck.kill_backend()
        await struck.works()
        await struck.end_leases(killed)

    with struck_stack(session_folder / "few") as struck:
        load = Load(struck.summary, webhooks=150, replies=20, customers=10, per_second=60)
        told = await endure(struck, load, strike)
    assert load.acknowledged == 150
    assert sum(told["replies"].values()) == 20  # type: ignore[attr-defined]  # by status


@pytest.mark.faults
@pytest.mark.parametrize("name", FAULTS)
async def test_nothing_is_lost_or_doubled(
    session_folder: Path, times: dict[str, dict[str, object]], name: str
) -> None:
    with struck_stack(session_folder / name.replace(" ", "-")) as struck:
        load = Load(struck.summary, webhooks=WEBHOOKS, replies=REPLIES, customers=50)
        times[name] = await endure(struck, load, FAULTS[name])
    assert (load.acknowledged, load.replied) == (WEBHOOKS, REPLIES)


@pytest.mark.faults
async def test_ten_times_as_much_is_taken_later(
    session_folder: Path, times: dict[str, dict[str, object]]
) -> None:
    async def nothing(_: Struck) -> None:
        """The load itself is the fault."""

    with struck_stack(session_folder / "overload") as struck:
        load = Load(
            struck.summary, webhooks=WEBHOOKS, replies=REPLIES, customers=50, per_second=2_000
        )
        times["overload"] = await endure(struck, load, nothing)
        memory = sum(
            one.memory_full_info().uss for one in psutil.process_iter() if is_of(one, struck)
        )
    assert load.acknowledged == WEBHOOKS
    assert memory < 1_000_000_000


def is_of(process: psutil.Process, struck: Struck) -> bool:
    with suppress(psutil.Error):
        return any(parent.pid == struck.summary.pid for parent in process.parents())
    return False


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which only root may do")
async def test_a_full_disk_loses_nothing(
    session_folder: Path, times: dict[str, dict[str, object]]
) -> None:
    home = session_folder / "full"
    home.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={FULL},mode=0755", "tmpfs", str(home)]
    await asyncio.to_thread(subprocess.run, ["mount", *options], check=True)
    try:
        with struck_stack(home) as struck:

            async def fill(struck: Struck) -> None:
                ballast = home / "ballast"
                with ballast.open("wb") as file, suppress(OSError):
                    while True:
                        file.write(bytes(1024 * 1024))
                        file.flush()
                await asyncio.sleep(LASTS)
                ballast.unlink()
                if struck.has_ended:
                    await struck.again()

            load = Load(struck.summary, webhooks=WEBHOOKS, replies=REPLIES, customers=50)
            times["disk full"] = await endure(struck, load, fill)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(home)], check=True)
    assert load.acknowledged == WEBHOOKS
