"""The demo says that every step was observed only if it was; and the wheel alone can do it all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.integration import wheel
from tests.integration.up import up

from rapport.local.stack.state import PROJECT, running_stack

pytestmark = pytest.mark.usefixtures("binaries")


# nobody is there, and a client that knows no SOCKS can't be made with such a one
PROXIES = {"HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
PROXIES |= {"ALL_PROXY": "socks5://127.0.0.1:9"}


# what README shows, but it ends with the first new message
CLIENT = """
import asyncio, sys
from rapport.client.live import LiveClient
from rapport.client.tokens import of_session
from supabase import acreate_client


async def main(url: str, publishable_key: str) -> None:
    client = await acreate_client(url, publishable_key)
    await client.auth.sign_in_with_password(
        {"email": "andrej@alpine.example", "password": "rapport-demo"}
    )
    told = asyncio.Event()

    def tell(message):
        print(message, flush=True)
        told.set()

    async with LiveClient(url, publishable_key, of_session(client)) as live:
        async with live.messages(on_new_message=tell) as messages:
            await messages.ready()
            print("ready", flush=True)
            await told.wait()


# it never outlives its test
asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 120))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(tmp_path_factory.mktemp("wheel"))


def demo(home: Path, *program: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(program or (sys.executable, "-m", "rapport")), "demo"],
        # an empty folder
        cwd=home.parent,
        env={**os.environ, **PROXIES, "RAPPORT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def check_observed(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("✓") == 9
    assert "Every step was observed by a real client." in result.stdout


def test_the_demo_says_what_it_has_observed_and_fails_where_that_is_wrong(
    session_folder: Path, built: Path
) -> None:
    folder = session_folder / "demo"
    folder.mkdir()
    home = folder / "home"
    # it starts what it needs and stops it: here the wheel does, with no checkout beside it
    local = wheel.installed(built, "local", session_folder / "of-wheel")
    with wheel.with_our_binaries(local):
        check_observed(demo(home, local / "rapport"))
    assert running_stack(home) is None

    client = wheel.installed(built, "client", session_folder / "of-client")
    without_commands = subprocess.run(
        [client / "rapport", "up"], capture_output=True, text=True, check=False
    )
    assert without_commands.returncode == 1
    assert "pip install 'rapport-live[local]'" in without_commands.stderr

    with up(home) as running:
        arguments = (running.summary.url, running.summary.publishable_key)
        with subprocess.Popen(
            [client / "python", "-c", CLIENT, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        ) as listening:
            assert listening.stdout is not None
            assert listening.stdout.readline() == "ready\n"
            # what the first has left behind is not taken for the second's
            check_observed(demo(home))
            assert listening.stdout.readline() != ""
            assert listening.wait(30) == 0

        # and one account can listen to another
        with psycopg.connect(running.summary.db_url) as connection:
            connection.execute(
                'create policy "everybody can receive everything"'
                " on realtime.messages for select to authenticated using (true)"
            )
        result = demo(home)

        assert result.returncode == 1
        assert "An agent could join another account's topic." in result.stderr
        assert "Traceback" not in result.stderr
        # the stack was not the demo's to stop
        assert running_stack(home) is not None


def test_the_wheel_has_all_that_a_checkout_has_beside_the_package(built: Path) -> None:
    found = wheel.files(built)
    beside = {
        name.removeprefix("rapport/checkout/"): content
        for name, content in found.items()
        if name.startswith("rapport/checkout/")
    }
    assert beside == {
        str(path.relative_to(PROJECT)): path.read_bytes()
        for path in (
            *(PROJECT / name for name in ("pyproject.toml", "serverless.yml")),
            *(PROJECT / "supabase" / name for name in ("config.toml", "seed.sql")),
            *(PROJECT / "supabase" / "migrations").glob("*.sql"),
            PROJECT / "tests" / "events" / "text.json",
        )
    }
    # what a build of the pages and the binaries starts from, and the notes
    for name in ("local/stack/.npmrc", "local/stack/package-lock.json", "py.typed", "releases.md"):
        assert f"rapport/{name}" in found
    assert any(name.startswith("rapport/web/pages/") for name in found)
    assert not [name for name in found if "node_modules" in name or "__pycache__" in name]
