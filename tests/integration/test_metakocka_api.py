"""The endpoints for Metakocka and the worker, as the people of two businesses meet them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.commands import rapport
from tests.integration.desk import Desk, open_desk
from tests.world import ALPINE, BAY, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.local.supabase.prepare import set_doorbell

BASE = "/api/integrations/metakocka/contacts"
TO, FROM = f"{BASE}/sync-to-metakocka", f"{BASE}/sync-from-metakocka"
ALL_FROM, MAPPINGS = f"{BASE}/sync-all-from-metakocka", f"{BASE}/mappings"
CILKA, CARLOS = str(seed_uuid("contact cilka")), str(seed_uuid("contact carlos"))
ADDRESS = (
    "update public.contacts set street = 'Pot 1', post_number = '1000', place = 'Ljubljana',"
    " country = 'Slovenija' where id = %s"
)


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def desk(start: Callable[..., Stack], database: Database) -> Iterator[Desk]:
    with open_desk(start, database, "functions", "metakocka") as desk:
        for account, company in ((ALPINE, "16"), (BAY, "17")):
            desk.world.owner.execute(
                "insert into public.metakocka_connections (account_id, company_id) values (%s, %s)",
                [account, company],
            )
        yield desk


def erp(desk: Desk, method: str, path: str, body: object = None) -> Any:
    """Somebody at Metakocka, in company 16."""
    url = f"{desk.stack.metakocka_fake_url}/_fake/{path}"
    return httpx.request(method, url, json=body, trust_env=False, timeout=10).json()


def partners(desk: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = erp(desk, "GET", "partners?company_id=16")["partners"]
    return found


def test_an_admin_sends_a_contact_and_reads_its_mapping(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    assert desk.call("adam", "GET", MAPPINGS, contactId=CILKA).status_code == 404
    answer = desk.call("adam", "POST", TO, {"contactId": CILKA})
    assert (answer.status_code, answer.json()["status"]) == (200, "created"), answer.text
    mapping = desk.call("adam", "GET", MAPPINGS, contactId=CILKA).json()["mapping"]
    assert mapping["metakockaId"] == answer.json()["metakockaId"]
    assert mapping["state"] == "synced"
    page = desk.call("olivia", "GET", MAPPINGS).json()
    assert [one["contactId"] for one in page["mappings"]] == [CILKA]
    again = desk.call("adam", "POST", TO, {"contactId": CILKA})
    assert (again.status_code, again.json()["status"]) == (200, "unchanged")


def test_what_a_contact_lacks_is_named(desk: Desk) -> None:
    answer = desk.call("adam", "POST", TO, {"contactId": CILKA})
    assert (answer.status_code, answer.json()["field"]) == (422, "street")
    assert "post_number" in answer.json()["message"]


def test_many_at_once_each_with_its_end(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    stranger = str(uuid4())
    answer = desk.call("adam", "POST", TO, {"contactIds": [CILKA, CARLOS, stranger]}, bulk="true")
    told = answer.json()
    assert answer.status_code == 200
    assert (told["total"], told["succeeded"], told["failed"]) == (3, 1, 2)
    assert [(one["id"], one["status"]) for one in told["results"]] == [
        (CILKA, "created"),
        (CARLOS, "not_found"),
        (stranger, "not_found"),
    ]
    assert told["results"][1]["error"]["code"] == "not_found"


def test_partners_that_are_no_contact_yet_are_listed_and_read(desk: Desk) -> None:
    assert erp(desk, "POST", "fill", {"company_id": "16", "count": 3}) == {"partners": 3}
    listed = desk.call("adam", "GET", FROM, limit=2).json()
    assert len(listed["partners"]) == 2
    rest = desk.call("adam", "GET", FROM, cursor=listed["cursor"]).json()
    assert (len(rest["partners"]), rest["cursor"]) == (1, None)
    [first, second, third] = [
        one["metakockaId"] for one in (*listed["partners"], *rest["partners"])
    ]
    single = desk.call("adam", "POST", FROM, {"metakockaId": first})
    assert (single.status_code, single.json()["status"]) == (200, "created")
    bulk = desk.call("adam", "POST", ALL_FROM, {"metakockaIds": [second, third, "404"]}).json()
    assert (bulk["total"], bulk["succeeded"], bulk["failed"]) == (3, 2, 1)
    assert desk.call("adam", "GET", FROM).json() == {"partners": [], "cursor": None}
    missing = desk.call("adam", "POST", FROM, {"metakockaId": "404"})
    assert missing.status_code == 404


def test_more_than_fifty_become_a_run(desk: Desk) -> None:
    ids = [str(one) for one in range(51)]
    answer = desk.call("adam", "POST", ALL_FROM, {"metakockaIds": ids})
    assert answer.status_code == 202
    run = desk.world.rows("select * from public.sync_runs")
    assert [str(one["id"]) for one in run] == [answer.json()["runId"]]
    assert run[0]["user_id"] == seed_uuid("adam")


def test_only_those_who_administer_the_account_are_served(desk: Desk) -> None:
    for user in ("andrej", "vera", "cilka", "stranger"):
        for method, path, body in (
            ("POST", TO, {"contactId": CILKA}),
            ("POST", FROM, {"metakockaId": "1"}),
            ("POST", ALL_FROM, {"metakockaIds": ["1"]}),
            ("GET", FROM, None),
            ("GET", MAPPINGS, None),
        ):
            assert desk.call(user, method, path, body).status_code == 403, (user, path)
    other = desk.call("adam", "POST", TO, {"contactId": CARLOS})
    assert (other.status_code, other.json()["code"]) == (404, "not_found")
    theirs = desk.call("adam", "GET", MAPPINGS, accountId=BAY)
    assert (theirs.status_code, theirs.json()["field"]) == (404, "accountId")
    assert desk.world.value("select count(*) from public.sync_runs") == 0
    assert httpx.post(f"{desk.stack.functions_url}{TO}", trust_env=False).status_code == 401


def test_who_administers_several_accounts_says_which(desk: Desk) -> None:
    desk.world.owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'admin', 'adam')",
        [BAY, seed_uuid("adam")],
    )
    answer = desk.call("adam", "POST", FROM, {"metakockaId": "404"})
    assert (answer.status_code, answer.json()["field"]) == (422, "accountId")
    named = desk.call("adam", "POST", FROM, {"metakockaId": "404", "accountId": str(BAY)})
    assert named.status_code == 404
    assert desk.world.value("select account_id from public.sync_runs") == BAY


MISTAKES: list[tuple[str, str, dict[str, object], dict[str, object], str]] = [
    ("POST", TO, {}, {}, "contactId"),
    ("POST", TO, {"contactId": "x"}, {}, "contactId"),
    ("POST", TO, {"contactIds": []}, {"bulk": "true"}, "contactIds"),
    ("POST", TO, {"contactId": CILKA, "force": True}, {}, "force"),
    ("POST", FROM, {"metakockaId": " "}, {}, "metakockaId"),
    ("POST", ALL_FROM, {"metakockaIds": []}, {}, "metakockaIds"),
    ("GET", FROM, {}, {"limit": 1000}, "limit"),
    ("GET", MAPPINGS, {}, {"contactId": "x"}, "contactId"),
    ("GET", MAPPINGS, {}, {"accountId": "x"}, "accountId"),
    ("GET", MAPPINGS, {}, {"cursor": "x"}, "cursor"),
    ("POST", FROM, {"metakockaId": "1\x00"}, {}, "metakockaId"),
    ("POST", ALL_FROM, {"metakocka_ids": ["1", "\x00"]}, {}, "metakockaIds"),
    ("POST", TO, {"contactId": CILKA}, {"bulk": "perhaps"}, "bulk"),
]


def test_a_mistake_is_named_by_its_field(desk: Desk) -> None:
    for method, path, body, query, field in MISTAKES:
        answer = desk.call("adam", method, path, body or None, **query)
        assert (answer.status_code, answer.json().get("field")) == (422, field), (path, body)


def test_a_contact_that_changes_is_at_metakocka_a_moment_later(
    start: Callable[..., Stack], desk: Desk
) -> None:
    start("net")
    set_doorbell(desk.stack)
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    for name in ("Cilka", "Cilka K", "Cilka Kos"):
        with desk.world.acting_as("andrej") as connection:
            connection.execute(
                "update public.contacts_v2 set name = %s where id = %s", [name, CILKA]
            )
    for _ in range(200):
        if partners(desk):
            break
        time.sleep(0.1)
    [partner] = partners(desk)
    assert partner["customer"] == "Cilka Kos"


def test_the_smoke_test_passes_against_the_stack(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    erp(desk, "POST", "fill", {"company_id": "16", "count": 1})
    script = PROJECT / "tests/metakocka/run-contact-sync-test.sh"
    environment = os.environ | {
        "AUTH_TOKEN": desk.token("adam"),
        "CONTACT_ID": CILKA,
        "METAKOCKA_ID": partners(desk)[0]["mk_id"],
        "API_URL": desk.stack.functions_url,
        "no_proxy": desk.stack.host,
    }
    done = subprocess.run(
        [script, "-q"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_the_command_line_shows_differences_and_settles_them(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    desk.world.owner.execute("update private.metakocka_dirty set not_before = now()")
    erp(desk, "POST", "fill", {"company_id": "16", "count": 2})
    environment = os.environ | {
        "SUPABASE_URL": desk.stack.url,
        "SUPABASE_SECRET_KEY": desk.stack.secret_key,
        "METAKOCKA_URL": desk.stack.metakocka_url,
        "METAKOCKA_SECRET_KEY": desk.stack.metakocka_secret_key,
        "METAKOCKA_COMPANIES": f"{ALPINE}=16,{BAY}=17",
        "no_proxy": desk.stack.host,
        "COLUMNS": "200",
    }

    def sync(*options: str) -> tuple[int, str]:
        done = rapport(("sync", "--account", "695a15a5c526dbe7c085ece2", *options), environment)
        return done.returncode, done.stdout

    status, shown = sync("--dry-run")
    assert status == 0
    assert "contact  name: Novak 1 Janez" in shown
    assert "Nothing was written. 2 new contacts, 1 new partner." in shown
    assert "A run would have 3 synchronized, 0 waiting, 0 failed." in shown
    assert "missing fields" not in shown
    assert desk.world.value("select count(*) from public.metakocka_contact_mappings") == 0
    assert desk.world.value("select count(*) from public.sync_runs") == 0

    assert sync() == (0, "done: 3 looked at, 3 synchronized, 0 unchanged, 0 waiting, 0 failed.\n")
    assert len(partners(desk)) == 3
    assert sync("--dry-run") == (0, "Nothing was written. There is nothing to do.\n")

    # what lacks fields is counted the same before, in and after a run; no other run comes between
    desk.world.owner.execute("update private.doorbell set url = null, secret = null")
    desk.world.owner.execute(
        "insert into public.contacts (account_id, name) select %s, 'Bor ' || n"
        " from generate_series(1, 120) n",
        [ALPINE],
    )
    desk.world.owner.execute("update private.metakocka_dirty set not_before = now()")
    lacking = "120 contacts wait for missing fields: metakocka_partners shows which.\n"
    _, before = sync("--dry-run")
    assert "A run would have 0 synchronized, 0 waiting, 120 failed.\n" + lacking in before
    status, during = sync()
    assert "120 failed." in during
    assert (status, during.endswith(lacking)) == (1, True)
    nothing = "Nothing was written. There is nothing to do.\n"
    assert sync("--dry-run") == (0, nothing + lacking)
    assert sync("--direction", "sideways")[0] == 1


def at_work(desk: Desk, seconds: float, worker: str = "another") -> None:
    """Another worker's run for the account, with a lease that ends by itself."""
    run = desk.world.value(
        "insert into public.sync_runs (account_id, direction, trigger, state, started_at)"
        " values (%s, 'both', 'schedule', 'running', now()) returning id",
        [ALPINE],
    )
    desk.world.owner.execute(
        "insert into private.sync_leases (account_id, run_id, worker, lease_until, ends_by)"
        " values (%s, %s, %s, clock_timestamp() + %s * interval '1 second',"
        " clock_timestamp() + interval '4 minutes')",
        [ALPINE, run, worker, seconds],
    )


def test_a_request_waits_a_moment_for_the_run_that_is_at_work(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    at_work(desk, 1.5)
    answer = desk.call("adam", "POST", TO, {"contactId": CILKA})
    assert (answer.status_code, answer.json()["status"]) == (200, "created"), answer.text


def test_a_run_that_goes_on_is_named_with_its_end(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    desk.world.owner.execute(
        "update public.metakocka_connections set request_wait = interval '0.5 seconds'"
    )
    at_work(desk, 25)
    for path, body in ((TO, {"contactId": CILKA}), (FROM, {"metakockaId": "1"})):
        answer = desk.call("adam", "POST", path, body)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (503, "sync_busy"), answer.text
        assert 20 <= int(answer.headers["retry-after"]) <= 25
        ends_by = desk.world.value(
            "select to_char(ends_by at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
            " from private.sync_leases"
        )
        assert f"ends by {ends_by} UTC at the latest" in told["message"]
    # nothing was begun, and nothing is lost: the contact is marked as it was
    assert desk.world.value("select count(*) from public.sync_runs") == 1


def test_a_company_that_takes_no_calls_is_told_with_its_end(desk: Desk) -> None:
    desk.world.owner.execute(ADDRESS.encode(), [CILKA])
    erp(desk, "POST", "behaviour", {"faults": [{"opr_code": "5", "times": 100}]})
    answer = desk.call("adam", "POST", FROM, {"metakockaId": "1"})
    assert (answer.status_code, answer.json()["code"]) == (503, "metakocka_closed"), answer.text
    again = desk.call("adam", "POST", TO, {"contactId": CILKA})
    assert (again.status_code, again.json()["code"]) == (503, "metakocka_closed")
    assert 50 <= int(again.headers["retry-after"]) <= 60
    assert "opr_code 5" in again.json()["message"]
    assert erp(desk, "GET", "calls")["calls"] == {"get_partner": 1}
    erp(desk, "POST", "behaviour", {})
