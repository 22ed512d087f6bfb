"""Several workers and people at once: no double, no lost edit, no deadlock, no mark too few."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg

from tests.sql.asking import Refusal, at_once
from tests.sql.faces import ask
from tests.sql.metakocka import apply, backend, end_quiet, mapping, partner
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, World, text_message

# what somebody is told who comes too late: try again, or look again
REFUSALS = {"PT409", "PT404", "PT503"}


def test_two_imports_of_one_batch_make_each_partner_once(erp: World) -> None:
    items = [partner(str(n), email=f"{n}@x.si", phone=f"+3861{n:07}") for n in range(40)]

    def run(order: int) -> list[dict[str, Any]]:
        mine = list(items)
        random.Random(order).shuffle(mine)
        return apply(erp, *mine)

    answers = at_once(*[lambda order=order: run(order) for order in range(4)])

    assert not [one for one in answers if isinstance(one, Refusal)]
    statuses = [row["status"] for one in answers if not isinstance(one, Refusal) for row in one]
    assert sorted(set(statuses)) == ["created", "stale"]
    assert statuses.count("created") == 40
    assert erp.value("select count(*) from public.contacts where tax_id_number is not null") == 40


def test_message_that_comes_during_an_import_finds_or_becomes_the_one_contact(erp: World) -> None:
    """The first one claims the number; the other finds its owner."""
    for n in range(6):
        number = f"3863100000{n}"
        item = partner(f"p{n}", email=None, phone=f"+{number}")
        calls: list[Callable[[], Any]] = [
            partial(apply, erp, item),
            partial(erp.ingest, text_message(f"wamid.{n}", number)),
        ]
        answers = at_once(*calls)
        assert not [one for one in answers if isinstance(one, Refusal)]
        imported = answers[0][0]  # type: ignore[index]
        owner = erp.value(
            "select contact_id from public.contact_identities where match_key = %s", [number]
        )
        if imported["status"] == "created":
            assert str(owner) == imported["contact_id"]
        else:
            # it was there first: read again, it is a candidate
            assert imported["status"] == "stale"
            assert mapping(erp, f"p{n}") is None


def test_edit_that_commits_while_the_writing_waits_is_not_overwritten(erp: World) -> None:
    """The version is held against the row once it is locked, not only before."""
    apply(erp, partner("1600"), partner("1601", email="b@x.si", phone=None))
    found = [mapping(erp, one) for one in ("1600", "1601")]
    items = [
        {
            "metakocka_id": one["metakocka_id"],
            "partner_hash": "another",
            "base": one["base"],
            "contact_id": str(one["contact_id"]),
            "expected_version": 1,
            "changes": {"place": "Kranj"},
        }
        for one in found
        if one is not None
    ]
    with ThreadPoolExecutor(1) as pool:
        with erp.acting_as("andrej") as editor:
            editor.execute(
                "update public.metakocka_partners set place = 'Bled' where id = %s",
                [items[0]["contact_id"]],
            )
            answer = pool.submit(apply, erp, *items)
            waiting = (
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            while not erp.value(waiting):
                assert not answer.done(), answer.result()
        results = answer.result(timeout=30)
    assert [result["status"] for result in results] == ["stale", "updated"]
    places = [
        erp.value("select place from public.contacts where id = %s", [item["contact_id"]])
        for item in items
    ]
    assert places == ["Bled", "Kranj"]


def test_edits_and_both_directions_at_once_lose_nothing(erp: World) -> None:
    """Marks and versions together: an edit is in the contact or has been seen by the worker."""
    ids = [
        row["contact_id"]
        for row in apply(erp, *(partner(str(n), email=f"{n}@x.si", phone=None) for n in range(6)))
    ]
    sent: dict[str, Any] = {}
    failures: list[psycopg.Error] = []
    stop = threading.Event()

    def quietly(work: Any) -> None:
        try:
            work()
        except psycopg.Error as error:
            if error.sqlstate not in REFUSALS:
                failures.append(error)

    def edit(seed: int) -> None:
        chance = random.Random(seed)
        for n in range(25):
            one = chance.choice(ids)
            quietly(
                lambda one=one, n=n: ask(
                    erp,
                    "andrej",
                    "update public.metakocka_partners set street = %s where id = %s",
                    f"{seed} {n}",
                    one,
                )
            )

    def send() -> None:
        while not stop.is_set():
            end_quiet(erp)
            quietly(send_once)

    def send_once() -> None:
        answer = backend(erp, "claim_dirty_contacts", account_id=ALPINE, worker="w", batch=3)
        for job in answer["claimed"]:
            sent[job["contact_id"]] = job["party"]["street"]
            quietly(
                lambda job=job: backend(
                    erp,
                    "settle_partner",
                    account_id=ALPINE,
                    run_id=None,
                    contact_id=job["contact_id"],
                    changed_seq=job["changed_seq"],
                    item={
                        "metakocka_id": job["metakocka_id"],
                        "partner_hash": "sent",
                        "base": job["party"],
                    },
                )
            )

    def pull() -> None:
        chance = random.Random(9)
        while not stop.is_set():
            refs = [{"metakocka_id": str(n), "partner_hash": "x"} for n in range(6)]
            found = backend(erp, "read_partners", account_id=ALPINE, refs=refs)
            items = [
                {
                    "metakocka_id": one["metakocka_id"],
                    "partner_hash": f"pulled {chance.random()}",
                    "base": one["base"],
                    "contact_id": one["contact_id"],
                    "expected_version": one["version"],
                    "changes": {"place": f"place {chance.randrange(9)}"},
                }
                for one in found
            ]
            chance.shuffle(items)
            quietly(lambda items=items: apply(erp, *items))

    workers = [threading.Thread(target=one) for one in (send, pull)]
    editors = [threading.Thread(target=edit, args=[seed]) for seed in range(3)]
    for thread in (*workers, *editors):
        thread.start()
    for thread in editors:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert failures == []

    # nothing is left to do but what is marked
    erp.owner.execute("update private.metakocka_dirty set lease_until = null, worker = null")
    end_quiet(erp)
    while erp.value("select count(*) from private.metakocka_dirty"):
        send_once()
        end_quiet(erp)
    for row in erp.rows("select id, street from public.contacts where id = any (%s)", [ids]):
        assert sent.get(str(row["id"]), "Slovenska cesta 1") == row["street"]
    assert erp.rows("select distinct state from public.metakocka_contact_mappings") == [
        {"state": "synced"}
    ]
    assert erp.value("select count(*) from public.metakocka_contact_mappings") == 6


def test_run_that_begins_and_an_edit_of_several_contacts_don_t_lock_each_other_out(
    erp: World,
) -> None:
    """A worker that died holds marks: the next takes them over while somebody writes."""
    applied = apply(erp, *(partner(str(n), email=f"{n}@x.si", phone=None) for n in range(2)))
    first, last = sorted(row["contact_id"] for row in applied)
    edit = "update public.metakocka_partners set place = %s where id = %s"
    for one in (last, first):
        ask(erp, "andrej", edit, "Kranj", one)
    end_quiet(erp)
    backend(erp, "claim_dirty_contacts", account_id=ALPINE, worker="dead")

    waiting = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool:
        with erp.acting_as("andrej") as editor:
            editor.execute(edit, ["Bled", first])
            begun = pool.submit(
                backend,
                erp,
                "begin_sync",
                account_id=ALPINE,
                direction="both",
                trigger="wake",
                worker="next",
            )
            while not begun.done() and not erp.value(waiting):
                pass
            editor.execute(edit, ["Bled", last])
        assert begun.result(timeout=30)["run_id"]
    places = [
        one["place"] for one in erp.rows("select place from public.contacts where place = 'Bled'")
    ]
    assert len(places) == 2
