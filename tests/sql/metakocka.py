"""How tests act as the sync with Metakocka, and what they hand to it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from tests.world import ALPINE, BAY, World

Item = dict[str, Any]

NOVAK: dict[str, Any] = {
    "name": "Novak d.o.o.",
    "email": "info@novak.si",
    "phone": "+38614000001",
    "street": "Slovenska cesta 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
    "tax_id_number": "SI 1234 5678",
    "business_entity": True,
    "buyer": True,
}


@pytest.fixture
def erp(world: World) -> World:
    """Both businesses, each connected to a company of its own, with nothing to be sent."""
    for account, company in ((ALPINE, "16"), (BAY, "17")):
        world.owner.execute(
            "insert into public.metakocka_connections (account_id, company_id) values (%s, %s)",
            [account, company],
        )
    return world


def backend(world: World, function: str, **arguments: Any) -> Any:
    """What a function of schema backend answers the sync."""
    names = ", ".join(f"{name} => %({name})s" for name in arguments)
    given = {
        name: json.dumps(value) if isinstance(value, dict) or is_json(value) else value
        for name, value in arguments.items()
    }
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{function}({names})".encode(), given).fetchone()
    assert row is not None
    return row[0]


def is_json(value: object) -> bool:
    """Whether a list is to be JSON: one of objects, and not an array of texts."""
    return isinstance(value, list) and (not value or isinstance(value[0], dict))


def partner(metakocka_id: str, **changes: Any) -> Item:
    """A partner that nobody has seen before, as the merge hands it over."""
    party = {**NOVAK, **changes}
    return {
        "metakocka_id": metakocka_id,
        "partner_hash": f"hash of {metakocka_id}",
        "base": party,
        "changes": {name: value for name, value in party.items() if value is not None},
    }


def apply(
    world: World,
    *items: Item,
    account: UUID = ALPINE,
    run: UUID | None = None,
    quiet: bool = False,
    worker: str | None = None,
) -> list[dict[str, Any]]:
    """What the worker of the run that is at work writes, or nobody's while there is none."""
    at_work = world.rows("select worker from private.sync_leases where account_id = %s", [account])
    answer: list[dict[str, Any]] = backend(
        world,
        "apply_partners",
        account_id=account,
        run_id=run,
        items=list(items),
        quiet=quiet,
        worker=worker or (at_work[0]["worker"] if at_work else None),
    )
    return answer


def read(world: World, *refs: Item, account: UUID = ALPINE) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = backend(
        world, "read_partners", account_id=account, refs=list(refs)
    )
    return answer


def claim(
    world: World, worker: str = "worker", batch: int = 10, account: UUID = ALPINE
) -> list[dict[str, Any]]:
    """The contacts that a worker gets to send, once their quiet moment is over."""
    end_quiet(world)
    answer = backend(world, "claim_dirty_contacts", account_id=account, worker=worker, batch=batch)
    claimed: list[dict[str, Any]] = answer["claimed"]
    return claimed


def end_quiet(world: World) -> None:
    world.owner.execute("update private.metakocka_dirty set not_before = clock_timestamp()")


def settle(world: World, job: dict[str, Any], metakocka_id: str, **item: Any) -> dict[str, Any]:
    """What follows when a claimed contact has been sent."""
    answer: dict[str, Any] = backend(
        world,
        "settle_partner",
        account_id=ALPINE,
        run_id=None,
        contact_id=job["contact_id"],
        changed_seq=job["changed_seq"],
        item={"metakocka_id": metakocka_id, "partner_hash": "sent", "base": job["party"], **item},
    )
    return answer


def marked(world: World) -> list[UUID]:
    return [
        row["contact_id"]
        for row in world.rows("select contact_id from private.metakocka_dirty order by changed_seq")
    ]


def contact(world: World, contact_id: object) -> dict[str, Any]:
    [row] = world.rows("select * from public.contacts where id = %s", [contact_id])
    return row


def mapping(world: World, metakocka_id: str, account: UUID = ALPINE) -> dict[str, Any] | None:
    found = world.rows(
        "select * from public.metakocka_contact_mappings"
        " where account_id = %s and metakocka_id = %s",
        [account, metakocka_id],
    )
    return found[0] if found else None


def state_of(world: World, metakocka_id: str) -> str:
    found = mapping(world, metakocka_id)
    assert found is not None
    return str(found["state"])


def snapshot(world: World) -> dict[str, Any]:
    """Which version of each row there is: a row that is written again has another xmin."""
    return {
        table: world.rows(f"select t.xmin::text, t.ctid::text from {table} t order by t.ctid")
        for table in (
            "public.contacts",
            "public.customers",
            "public.contact_identities",
            "public.metakocka_contact_mappings",
            "public.sync_conflicts",
            "private.metakocka_dirty",
            "private.changes",
        )
    }
