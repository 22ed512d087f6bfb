"""The demo says that every step was observed only if it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.integration.up import up

from rapport.local.stack.state import running_stack

pytestmark = pytest.mark.usefixtures("binaries")


# nobody is there, and a client that knows no SOCKS can't be made with such a one
PROXIES = {"HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
PROXIES |= {"ALL_PROXY": "socks5://127.0.0.1:9"}


def demo(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rapport", "demo"],
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
    session_folder: Path,
) -> None:
    home = session_folder / "demo"
    # it starts what it needs and stops it
    check_observed(demo(home))
    assert running_stack(home) is None

    with up(home) as running:
        # what the first has left behind is not taken for the second's
        check_observed(demo(home))

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
