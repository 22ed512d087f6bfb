from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from tests.integration.up import Up, command, up

from rapport.client.live import LiveClient
from rapport.client.rows import Message
from rapport.commands.demo import ALPINE_NUMBER
from rapport.local.stack.summary import StackSummary
from rapport.local.stack.supervisor import restarts

pytestmark = pytest.mark.usefixtures("binaries")


def signed_in(summary: StackSummary) -> str:
    """The token of an agent."""
    answer = httpx.post(
        f"{summary.url}/auth/v1/token?grant_type=password",
        headers={"apikey": summary.publishable_key},
        json={"email": "andrej@alpine.example", "password": "rapport-demo"},
    )
    return str(answer.raise_for_status().json()["access_token"])


async def inbound(summary: StackSummary, body: str) -> None:
    """Lets a customer write, as soon as WhatsApp's stand-in and the webhook are there."""
    message = {
        "phone_number_id": ALPINE_NUMBER,
        "from": "38640111222",
        "name": "Cilka",
        "text": body,
    }
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
        for url in (summary.whatsapp_url, summary.functions_url):
            answer = None
            while answer is None:
                try:
                    answer = await http.get(f"{url}/health")
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        (await http.post(f"{summary.whatsapp_url}/_fake/inbound", json=message)).raise_for_status()


@pytest.fixture(scope="module")
def shared(session_folder: Path) -> Iterator[Up]:
    """A stack that tests look at and leave as it is."""
    with up(session_folder / "shared") as running:
        yield running


@pytest.fixture(scope="module")
def home(session_folder: Path) -> Path:
    """The folder of a stack that tests start and stop."""
    return session_folder / "home"


def test_every_part_serves_when_the_line_is_printed(shared: Up) -> None:
    summary = shared.summary
    for url in (summary.url, summary.functions_url, summary.whatsapp_url):
        assert httpx.get(f"{url}/health").status_code == httpx.codes.OK
    key = {"apikey": summary.publishable_key}
    assert httpx.get(f"{summary.url}/rest/v1/", headers=key).status_code == httpx.codes.OK
    with psycopg.connect(summary.db_url) as connection:
        assert connection.execute("select current_user").fetchone() == ("postgres",)


def test_every_login_that_is_shown_works(shared: Up) -> None:
    for login in shared.summary.logins:
        answer = httpx.post(
            f"{shared.summary.url}/auth/v1/token?grant_type=password",
            headers={"apikey": shared.summary.publishable_key},
            json={"email": login.email, "password": login.password},
        )
        assert answer.status_code == httpx.codes.OK, login.email


def test_schedules_have_run_soon_after_the_start(shared: Up) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(shared.summary.db_url, autocommit=True) as connection:
        have_run = False
        while not have_run:
            assert time.monotonic() < deadline, "one runs each 15 minutes, the other each hour"
            time.sleep(0.2)
            (have_run,) = connection.execute(
                "select exists (select from public.whatsapp_templates)"
                " and exists (select from private.schedule_runs"
                " where function = 'daily' and succeeded_at is not null)"
            ).fetchone() or (False,)


def test_a_second_up_says_that_one_is_running(shared: Up, session_folder: Path) -> None:
    arguments, environment = command(session_folder / "shared")
    second = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"process {shared.process.pid}, at {shared.summary.url}" in second.stderr
    assert "Traceback" not in second.stderr


def test_data_without_its_secrets_is_refused_with_a_remedy(session_folder: Path) -> None:
    (session_folder / "lost" / "postgres").mkdir(parents=True)
    arguments, environment = command(session_folder / "lost")
    result = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert result.returncode == 1
    assert "`rapport up --fresh`" in result.stderr
    assert "Traceback" not in result.stderr


async def test_whichever_part_is_killed_is_started_again_and_nothing_is_missed(
    shared: Up,
) -> None:
    summary, home = shared.summary, shared.summary.folder
    record = home / "children.json"
    told: asyncio.Queue[str | None] = asyncio.Queue()

    def tell(row: Message) -> None:
        told.put_nowait(row.message)

    def pid_of(name: str) -> int:
        return next(int(c["pid"]) for c in json.loads(record.read_text()) if c["name"] == name)

    names = [child["name"] for child in json.loads(record.read_text())]
    assert names.pop(0) == "postgres"
    own_token = signed_in(summary)

    async def token() -> str:
        return own_token

    live = LiveClient(summary.url, summary.publishable_key, token)
    async with live, live.messages(on_new_message=tell) as heard:
        await heard.ready()
        for name in names:
            os.kill(pid_of(name), signal.SIGKILL)
            await inbound(summary, name)
            assert await asyncio.wait_for(told.get(), 60) == name
    assert told.empty()
    assert shared.process.poll() is None
    errors = shared.errors.read_text()
    for name in names:
        assert f"{name} ended with signal SIGKILL and is started again.\n" in errors
    assert len(restarts(home)) == len(names)


def test_a_stack_outlives_every_end_and_leaves_nothing_behind(shared: Up, home: Path) -> None:
    """One home after the other end: each start of a stack also proves what the last one left."""
    # beside another, on other ports; Ctrl-C leaves no process and the data
    with up(home) as first:
        assert first.summary.url != shared.summary.url
        assert httpx.get(f"{first.summary.url}/health").status_code == httpx.codes.OK
        family = first.family()
        with psycopg.connect(first.summary.db_url) as connection:
            connection.execute("create table public.kept as select 1 as value")
        assert first.stop(signal.SIGINT) == 0
        assert not any(process.is_running() for process in family)

    # a backend that outlives a killed Postgres is ended by the next
    with up(home) as crashed:
        assert crashed.summary.publishable_key == first.summary.publishable_key
        with psycopg.connect(crashed.summary.db_url) as connection:
            assert connection.execute("table public.kept").fetchall() == [(1,)]
        client = psycopg.pq.PGconn.connect(crashed.summary.db_url.encode())
        try:
            # it asks for interrupts, and never whether its server is there still
            client.send_query(b"do $$ begin loop null; end loop; end $$")
            client.flush()
            busy = psutil.Process(client.backend_pid)
            server = busy.parent()
            assert server
            time.sleep(0.5)  # or it has not begun, and ends with its server
            server.kill()
            assert crashed.process.wait(30) == 1
            assert busy.is_running()
        finally:
            client.finish()
    with up(home) as killed:
        assert not busy.is_running()
        with psycopg.connect(killed.summary.db_url) as after:
            found = after.execute("select count(*) > 0 from public.accounts").fetchone()
        assert found == (True,)
        ended = "Ending processes that a crash of Postgres left running: 1"
        assert ended in killed.errors.read_text()
        # an up that was killed is no obstacle to the next
        family = killed.family()
        killed.process.kill()
        killed.process.wait()
        with up(home) as last:
            assert httpx.get(f"{last.summary.url}/health").status_code == httpx.codes.OK
            assert not any(process.is_running() for process in family)

    # started anew where it is asked to
    with up(home, "--fresh") as fresh:
        assert fresh.summary.publishable_key != first.summary.publishable_key
        with psycopg.connect(fresh.summary.db_url) as connection:
            row = connection.execute("select to_regclass('public.kept')").fetchone()
        assert row == (None,)
