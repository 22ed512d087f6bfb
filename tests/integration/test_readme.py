"""What README shows is run as it stands there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
from tests.integration.client.portal import until

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT

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


async def test_the_live_clients_example_prints_what_a_customer_writes(
    stack: Stack, database: Database, tmp_path: Path
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
    path, body = inbound()
    program = tmp_path / "example.py"
    program.write_text(
        block("python", "LiveClient")
        .replace("http://127.0.0.1:24321", stack.url)
        .replace("the publishable key", stack.publishable_key)
    )
    example = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(program), stdout=subprocess.PIPE
    )
    assert example.stdout is not None
    printed: list[str] = []
    reading = asyncio.create_task(lines_of(example.stdout, printed))
    async with httpx.AsyncClient(base_url=stack.whatsapp_url, trust_env=False) as http:

        async def write(text: str) -> None:
            (await http.post(path, json=body | {"text": text})).raise_for_status()

        try:
            async with asyncio.timeout(30):
                # what comes before the example is ready it does not tell
                while not printed:
                    assert example.returncode is None
                    await write("Hello?")
                    await asyncio.sleep(0.5)
            await write(body["text"])
            await until(lambda: any(f"message={body['text']!r}" in line for line in printed))
        finally:
            example.kill()
            await example.wait()
            await reading

    assert all(f"sender_name={body['name']!r}" in line for line in printed)
    seqs = [int(seq) for line in printed for seq in re.findall(r" seq=(\d+) ", line)]
    assert seqs == [*range(seqs[0], seqs[0] + len(printed))]
