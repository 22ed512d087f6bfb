"""A worker of the sync is killed hard: another goes on when the lease is over, without a double."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.desk import Desk, open_desk
from tests.stacks import FOLDER, Running, copy_of
from tests.world import ALPINE, seed_uuid

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database

CILKA = seed_uuid("contact cilka")
# seconds, in place of half a minute
LEASE = 2.0
WORKER = """
import sys, time
from rapport.handlers.metakocka_sync import handler

class Context:
    aws_request_id = "a run"
    ends_at = time.monotonic() + 300
    def get_remaining_time_in_millis(self):
        return int((self.ends_at - time.monotonic()) * 1000)

print(handler({"worker": "metakocka_sync"} if sys.argv[1] == "woken" else {}, Context()))
"""


@pytest.fixture
def desk(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    world_template: Database,
    session_folder: Path,
    binaries: Binaries,
) -> Iterator[Desk]:
    """On a database of its own, since its leases are shorter."""
    with (
        copy_of(cluster, world_template) as database,
        Running(database, session_folder, binaries) as running,
        open_desk(running.start, database, "metakocka") as desk,
    ):
        request.node.stash[FOLDER] = running.folder
        owner = desk.world.owner
        owner.execute(
            "create or replace function private.sync_lease() returns interval language sql"
            f" immutable set search_path = '' as 'select interval ''{LEASE} seconds'''".encode()
        )
        owner.execute(
            "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
            [ALPINE],
        )
        owner.execute(
            "update public.contacts set street = 'Pot 1', post_number = '1000',"
            " place = 'Ljubljana', country = 'Slovenija' where id = %s",
            [CILKA],
        )
        owner.execute("update private.metakocka_dirty set not_before = now()")
        yield desk


@contextmanager
def worker(desk: Desk, event: str) -> Iterator[subprocess.Popen[str]]:
    """A process that synchronizes what there is to do, and ends."""
    environment = os.environ | {
        "SUPABASE_URL": desk.stack.url,
        "SUPABASE_SECRET_KEY": desk.stack.secret_key,
        "METAKOCKA_URL": desk.stack.metakocka_url,
        "METAKOCKA_SECRET_KEY": desk.stack.metakocka_secret_key,
        "METAKOCKA_COMPANIES": "any",
        "no_proxy": desk.stack.host,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, event],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def erp(desk: Desk, method: str, path: str, body: object = None) -> Any:
    url = f"{desk.stack.metakocka_fake_url}/_fake/{path}"
    return httpx.request(method, url, json=body, trust_env=False, timeout=10).json()


def wait_for(what: Callable[[], object]) -> None:
    ends_at = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


@pytest.mark.parametrize("operation", ["get_partner", "add_partner"])
def test_a_worker_that_is_killed_amid_a_call_is_followed_within_its_lease(
    desk: Desk, operation: str
) -> None:
    slow = {"on": operation, "after_accepting": True, "delay_ms": 20_000}
    erp(desk, "POST", "behaviour", {"faults": [slow]})
    with worker(desk, "woken") as first:
        wait_for(lambda: erp(desk, "GET", "calls")["calls"].get(operation))
        # longer than its lease: a worker that lives keeps it
        time.sleep(LEASE * 1.5)
        with worker(desk, "woken") as other:
            assert other.wait(60) == 0
        assert erp(desk, "GET", "calls")["calls"][operation] == 1
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    with worker(desk, "on schedule") as second:
        wait_for(
            lambda: desk.world.rows(
                "select from public.metakocka_contact_mappings"
                " where contact_id = %s and state = 'synced'",
                [CILKA],
            )
        )
        assert second.poll() in (None, 0)
    [partner] = erp(desk, "GET", "partners?company_id=16")["partners"]
    assert partner["customer"]
    assert erp(desk, "GET", "calls")["calls"]["add_partner"] == 1
    # the second has gone on with the first one's
    assert desk.world.value("select count(*) from public.sync_runs") == 1
