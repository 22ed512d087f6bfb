"""What README shows is run as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.integration.client.portal import until

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.push.vapid import Vapid

README = (PROJECT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one block of code in README that has this in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (found,) = [code for code in blocks if containing in code]
    assert isinstance(found, str)
    return found


def inbound() -> tuple[str, dict[str, Any]]:
    """The path and the body by which README lets a customer write."""
    command = block("sh", "/_fake/inbound")
    match = re.fullmatch(r"curl http://[\d.:]+(/\S+) -d '(.*)'\n", command, re.DOTALL)
    assert match is not None
    return match[1], json.loads(match[2])


async def lines_of(output: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in output:
        lines.append(line.decode())  # noqa: PERF401 - as they come


@asynccontextmanager
async def printing(code: str, stack: Stack, folder: Path) -> AsyncIterator[list[str]]:
    """The lines that an example prints while it runs."""
    program = folder / "example.py"
    program.write_text(
        code.replace("http://127.0.0.1:24321", stack.url).replace(
            "the publishable key", stack.publishable_key
        )
    )
    example = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(program), stdout=subprocess.PIPE
    )
    assert example.stdout is not None
    printed: list[str] = []
    reading = asyncio.create_task(lines_of(example.stdout, printed))
    try:
        yield printed
        assert example.returncode is None
    finally:
        if example.returncode is None:
            example.kill()
        await example.wait()
        await reading


@pytest.fixture
def seeded(database: Database) -> Iterator[psycopg.Connection]:
    """The database with the businesses that `rapport up` starts with."""
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        yield owner


async def test_the_live_clients_example_prints_what_a_customer_writes(
    stack: Stack,
    seeded: psycopg.Connection,  # noqa: ARG001 - there meanwhile
    tmp_path: Path,
) -> None:
    path, body = inbound()
    async with (
        printing(block("python", "live.messages"), stack, tmp_path) as printed,
        httpx.AsyncClient(base_url=stack.whatsapp_url, trust_env=False) as http,
    ):

        async def write(text: str) -> None:
            (await http.post(path, json=body | {"text": text})).raise_for_status()

        async with asyncio.timeout(30):
            # what comes before the example is ready it does not tell
            while not printed:
                await write("Hello?")
                await asyncio.sleep(0.5)
        await write(body["text"])
        await until(lambda: any(f"message={body['text']!r}" in line for line in printed))

    assert all(f"sender_name={body['name']!r}" in line for line in printed)
    seqs = [int(seq) for line in printed for seq in re.findall(r" seq=(\d+) ", line)]
    assert seqs == [*range(seqs[0], seqs[0] + len(printed))]


async def test_the_example_in_python_prints_a_customers_jobs_as_they_change(
    stack: Stack, seeded: psycopg.Connection, tmp_path: Path
) -> None:
    seeded.execute(
        "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
        " select c.account_id, c.id, 'Carpet', '2027-01-05 09:00Z' from public.customers c"
        " join auth.users u on u.id = c.portal_user_id"
        " where u.email = 'cilka@customers.example'"
    )
    async with printing(block("python", "live.jobs"), stack, tmp_path) as printed:
        await until(lambda: printed == ["Carpet, Tue Jan  5 09:00:00 2027: scheduled\n"])
        seeded.execute("update public.jobs set status = 'cancelled'")
        await until(lambda: printed[1:] == ["Carpet, Tue Jan  5 09:00:00 2027: cancelled\n"])


def test_the_examples_by_curl_do_what_they_say(stack: Stack, seeded: psycopg.Connection) -> None:
    path, body = inbound()
    httpx.post(stack.whatsapp_url + path, json=body, trust_env=False).raise_for_status()
    # as the worker of notifications does at its first run
    key = Vapid(stack.vapid_private_key, "mailto:somebody@rapport.example").public_key
    seeded.execute("select backend.set_push_key(%s, true)", [key])
    signed = httpx.post(
        f"{stack.url}/auth/v1/token?grant_type=password",
        json={"email": "olivia@alpine.example", "password": "rapport-demo"},
        headers={"apikey": stack.publishable_key},
        trust_env=False,
    ).json()
    code = block("sh", "ask() {")
    code = code.replace("http://127.0.0.1:24321", stack.url)
    code = code.replace("http://127.0.0.1:24328", stack.push_url)
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env={
            **os.environ,
            "no_proxy": "127.0.0.1",
            "PUBLISHABLE_KEY": stack.publishable_key,
            "TOKEN": signed["access_token"],
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert '"message":' not in told.replace('"message":"See you tomorrow."', "")
    assert '"received":' in told
    found = seeded.execute(
        """
        select
            (select count(*) from desk_states
             where assignee_id is not null and snoozed_until is not null),
            (select count(*) from conversation_notes where note = 'Wants it before noon.'),
            (select count(*) from scheduled_messages where status = 'waiting'),
            (select count(*) from reminder_rules),
            (select count(*) from push_subscriptions)
        """
    ).fetchone()
    assert found == (1, 1, 1, 1, 1)
