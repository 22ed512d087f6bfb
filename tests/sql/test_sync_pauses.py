"""Where Metakocka takes no calls of a company, its account rests: nobody is refused for that."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.sync.run import serve
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.faces import ask, refusal
from tests.sql.syncing import SECRET, Erp
from tests.world import World

HOME = {"street": "Pot 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"}
CLOSED: list[dict[str, Any]] = [
    {"opr_code": "5", "opr_desc": "Quota of calls is used up."},
    {"opr_code": "3"},
    {"opr_code": "4"},
    {"status": 401},
    {"status": 403},
]


@pytest.fixture
def erp(world: World) -> Erp:
    return Erp(world, Fake(SECRET))


def close(erp: Erp, *, after: int = 0, on: str = "any", **how: Any) -> None:
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on=on, after=after, times=1000, **(how or CLOSED[0]))]  # type: ignore[arg-type]
    )


def connection(erp: Erp) -> dict[str, Any]:
    [row] = erp.world.rows(
        "select *, extract(epoch from paused_until - clock_timestamp())::float as seconds"
        " from public.metakocka_connections where account_id = %s",
        [erp.account],
    )
    return row


def run(erp: Erp) -> dict[str, Any]:
    [row] = erp.world.rows(
        "select * from public.sync_runs where account_id = %s order by created_at desc limit 1",
        [erp.account],
    )
    return row


def calls(erp: Erp) -> int:
    return erp.fake.calls.total()


def errors(erp: Erp) -> list[dict[str, Any]]:
    return erp.world.rows("select * from public.sync_errors where account_id = %s", [erp.account])


@pytest.mark.parametrize("how", CLOSED, ids=str)
def test_sixty_contacts_cost_one_call_and_no_error_each(erp: Erp, how: dict[str, Any]) -> None:
    contacts = [
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
        for number in range(60)
    ]
    close(erp, **how)
    report = erp.sync("to_metakocka", "wake")
    assert calls(erp) == 1
    assert (report.state, report.counts.failed, report.counts.waiting) == ("stopped", 0, 1)
    [error] = errors(erp)
    assert (error["code"], error["contact_id"]) == ("metakocka_closed", None)
    seen = connection(erp)
    assert seen["paused_until"] == report.paused_until == run(erp)["resumes_at"]
    assert 50 < seen["seconds"] <= 60
    assert seen["pause_reason"] in error["message"]

    # no worker asks it for anything meanwhile
    erp.end_pauses()
    with erp.worker() as sync:
        assert serve(sync) == {}
        assert sync.run(erp.account, "both", "schedule") is None
        at_work = sync.store.sync_at_work(erp.account)
    assert at_work is not None
    assert at_work.paused_until == seen["paused_until"]
    assert calls(erp) == 1

    # then the run goes on, and every contact is sent
    erp.fake.behaviour = MetakockaBehaviour()
    report = erp.sync("to_metakocka", "wake")
    assert (report.state, report.run_id) == ("done", run(erp)["id"])
    assert all(erp.contact(one)["sync_state"] == "synced" for one in contacts)
    assert (connection(erp)["pauses"], run(erp)["resumes_at"]) == (0, None)


def test_a_quota_that_ends_amid_a_run_makes_nothing_twice(erp: Erp) -> None:
    for number in range(6):
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
    for after in range(0, 24, 3):
        close(erp, after=after)
        erp.sync("both", "schedule")
    erp.fake.behaviour = MetakockaBehaviour()
    assert erp.sync("both", "schedule").state == "done"
    assert len(erp.company.partners) == 6
    assert {one["sync_state"] for one in erp.contacts()} == {"synced"}


@pytest.mark.parametrize("listing", ["all", "documents"])
def test_reading_stops_and_goes_on_where_it_was(world: World, listing: str) -> None:
    erp = Erp(world, Fake(SECRET), listing=listing)
    named = [erp.add_partner(f"Partner {number}") for number in range(45)]
    for one in named:
        erp.company.issue("sales_order", one)
    close(erp, after=0 if listing == "all" else 25)
    before = erp.sync()
    assert (before.state, before.counts.failed) == ("stopped", 0)
    assert len(errors(erp)) == 1
    erp.fake.behaviour = MetakockaBehaviour()
    report = erp.sync()
    assert (report.state, report.run_id, report.counts.failed) == ("done", before.run_id, 0)
    assert sorted(one["metakocka_id"] for one in erp.contacts()) == sorted(named)


def test_what_a_lost_call_of_a_deleted_contact_asks_for_stops_too(erp: Erp) -> None:
    lost = erp.add_contact(name="Strup", email="strup@kos.si", **HOME)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", after_accepting=True, drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=600)
    ask(erp.world, "olivia", "delete from public.metakocka_partners where id = %s", lost)
    close(erp)
    before = calls(erp)
    assert erp.sync("both").state == "stopped"
    assert calls(erp) == before + 1


def test_each_pause_after_another_is_longer_up_to_a_bound(erp: Erp) -> None:
    retries = '{"pause": {"first_wait": 100, "longest_wait": 300, "jitter": 0}}'
    change = "update public.metakocka_connections set retries = %s where account_id = %s"
    ask(erp.world, "olivia", change, retries, erp.account)
    erp.add_contact(name="Kos", email="k@kos.si", **HOME)
    close(erp)
    waits = []
    for _ in range(4):
        erp.sync("to_metakocka", "wake")
        waits.append(round(connection(erp)["seconds"], -1))
    assert waits == [100, 200, 300, 300]
    erp.fake.behaviour = MetakockaBehaviour()
    erp.sync("to_metakocka", "wake")
    assert connection(erp)["pauses"] == 0


def test_somebody_who_waits_for_an_answer_gets_one(erp: Erp) -> None:
    contact = erp.add_contact(name="Kos", email="k@kos.si", **HOME)
    close(erp)
    report = erp.sync("to_metakocka", "user", SyncRequest(contact_ids=[contact]))
    assert [(one.status, one.code) for one in report.outcomes] == [("waiting", "metakocka_closed")]
    assert (report.state, run(erp)["state"]) == ("failed", "failed")
    # it is still to be sent
    erp.fake.behaviour = MetakockaBehaviour()
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["sync_state"] == "synced"


def test_a_missing_key_lets_the_account_rest(erp: Erp, world: World) -> None:
    world.owner.execute(
        "update public.metakocka_connections set base_url = 'https://erp.example.org'"
        " where account_id = %s",
        [erp.account],
    )
    erp.add_contact(name="Kos", email="k@kos.si", **HOME)
    assert erp.sync("to_metakocka", "wake").state == "stopped"
    assert "METAKOCKA_DOMAINS" in connection(erp)["pause_reason"]


def test_an_admin_ends_a_pause_and_nobody_makes_one(erp: Erp) -> None:
    erp.add_contact(name="Kos", email="k@kos.si", **HOME)
    close(erp)
    erp.sync("to_metakocka", "wake")
    later = (
        "update public.metakocka_connections set paused_until = now() + interval '1 day'"
        " where account_id = %s"
    )
    error = refusal(erp.world, "olivia", later, erp.account)
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", "field: paused_until")
    with pytest.raises(psycopg.Error):
        ask(erp.world, "andrej", later.replace("now() + interval '1 day'", "null"), erp.account)
    ask(
        erp.world,
        "olivia",
        "update public.metakocka_connections set paused_until = null where account_id = %s",
        erp.account,
    )
    seen = connection(erp)
    assert (seen["paused_until"], seen["pause_reason"], seen["pauses"]) == (None, None, 0)
    erp.fake.behaviour = MetakockaBehaviour()
    erp.end_pauses()
    with erp.worker() as sync:
        assert serve(sync)["done"] >= 1


def test_a_refusal_of_one_contact_is_its_own(erp: Erp) -> None:
    """Codes 2 and 6 are about what was sent."""
    for number in range(3):
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", opr_code="6")]
    )
    report = erp.sync("to_metakocka", "wake")
    assert (report.state, report.counts.failed, report.counts.succeeded) == ("done", 1, 2)
    assert connection(erp)["paused_until"] is None
