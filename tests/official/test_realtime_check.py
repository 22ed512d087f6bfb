"""The end-to-end check of supabase/realtime, against `rapport up`.

`pytest -m official` runs it where OFFICIAL_REALTIME names a checkout of
github.com/supabase/realtime, after `npm install` in its test/e2e, and PATH has Bun (npm's package
`bun`). OFFICIAL_REALTIME_RUNS says how often in a row. `realtime.toml` has the number of tests in
each suite, all of which must pass.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rapport.local.stack.summary import StackSummary
from tests.integration.up import up

pytestmark = [pytest.mark.official, pytest.mark.usefixtures("binaries")]

TABLE = Path(__file__).with_name("realtime.toml")
# seconds; it takes some 70 on an idle machine
PATIENCE = 900

# The check is written for an empty project from before May 2026, so it takes back three things.
SETUP = """
    -- it grants nothing on its tables: as it was until then, clients may do all with new ones
    alter default privileges for role postgres in schema public
        grant all on tables to anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
        grant all on sequences to anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
        grant all on functions to anon, authenticated, service_role;

    -- our migrations leave deletions out, which Realtime would tell to everybody
    alter publication supabase_realtime set (publish = 'insert, update, delete');

    -- our migrations let a user make 8 requests at a time, and it makes 20
    alter role authenticator reset pgrst.db_pre_request;
    notify pgrst, 'reload config';
"""


@pytest.fixture(scope="module")
def check() -> Path:
    """The folder of the check."""
    named = os.environ.get("OFFICIAL_REALTIME")
    if not named:
        pytest.skip("OFFICIAL_REALTIME names no checkout of supabase/realtime")
    folder = Path(named) / "test" / "e2e"
    assert (folder / "node_modules").exists(), f"`npm install` is missing in {folder}"
    assert shutil.which("bun"), "PATH has no bun, which npm's package of that name brings"
    return folder


@pytest.fixture(scope="module")
def summary(check: Path, session_folder: Path) -> Iterator[StackSummary]:
    """A stack that is as the check expects it."""
    assert check.exists()
    with up(session_folder / "official") as running:
        with psycopg.connect(running.summary.db_url) as connection:
            connection.execute(SETUP)
        yield running.summary


@pytest.mark.parametrize("run", range(int(os.environ.get("OFFICIAL_REALTIME_RUNS", "1"))))
def test_realtime_passes_its_own_check(check: Path, summary: StackSummary, run: int) -> None:
    result = subprocess.run(
        [
            *("bun", "realtime-check.ts", "--json", "--env", "local"),
            *("--url", summary.url, "--db-url", summary.db_url),
            *("--publishable-key", summary.anon_key, "--secret-key", summary.service_role_key),
        ],
        cwd=check,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.stdout, result.stderr
    suites: dict[str, Any] = json.loads(result.stdout)["suites"]
    failed = {
        f"{name}: {test['name']}": test.get("error")
        for name, suite in suites.items()
        for test in suite["tests"]
        if not test["passed"]
    }
    assert failed == {}, f"run {run + 1}"
    counts = {name: len(suite["tests"]) for name, suite in suites.items()}
    assert counts == tomllib.loads(TABLE.read_text())
