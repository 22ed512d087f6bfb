"""How patient an account's sync is: shown whole with its connection, within bounds, and obeyed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.api.client import POLICIES, policies_of
from tests.sql.faces import ask, refusal
from tests.sql.metakocka import erp as erp
from tests.sql.syncing import SECRET, Erp
from tests.world import ALPINE, World

CHANGE = "update public.metakocka_connections set retries = %s where account_id = %s"
CALL = {"attempts": 4, "first_wait": 0.5, "longest_wait": 8, "jitter": 1}
USUAL = {
    "read": CALL,
    "write": CALL,
    "create": CALL,
    "list": CALL | {"attempts": 1},
    "contact": {"first_wait": 15, "longest_wait": 3600, "jitter": 1},
    "pause": {"first_wait": 60, "longest_wait": 3600, "jitter": 0},
}
HOME = {"street": "Pot 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"}


def shown(world: World) -> dict[str, Any]:
    [row] = ask(world, "olivia", "select retries from public.metakocka_connections")
    retries: dict[str, Any] = row["retries"]
    return retries


def test_a_connection_shows_all_of_them_and_the_usual_ones_first(erp: World) -> None:
    assert shown(erp) == USUAL


def test_what_is_written_is_laid_over_what_is_there(erp: World) -> None:
    ask(erp, "olivia", CHANGE, '{"read": {"attempts": 6}, "pause": {"jitter": 0.5}}', ALPINE)
    ask(erp, "adam", CHANGE, '{"read": {"longest_wait": 20}}', ALPINE)
    assert shown(erp) == USUAL | {
        "read": CALL | {"attempts": 6, "longest_wait": 20},
        "pause": USUAL["pause"] | {"jitter": 0.5},
    }
    ask(erp, "adam", CHANGE, "{}", ALPINE)
    assert shown(erp)["read"]["attempts"] == 6


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"read": {"attempts": 0}}, "retries.read.attempts"),
        ({"read": {"attempts": 11}}, "retries.read.attempts"),
        ({"read": {"attempts": 1.5}}, "retries.read.attempts"),
        ({"list": {"attempts": 4}}, "retries.list.attempts"),
        ({"write": {"first_wait": -1}}, "retries.write.first_wait"),
        ({"create": {"longest_wait": 26}}, "retries.create.longest_wait"),
        ({"create": {"jitter": 1.1}}, "retries.create.jitter"),
        ({"create": {"jitter": "much"}}, "retries.create.jitter"),
        ({"create": {"jitter": None}}, "retries.create.jitter"),
        ({"contact": {"attempts": 3}}, "retries.contact.attempts"),
        ({"pause": {"first_wait": 0}}, "retries.pause.first_wait"),
        ({"read": {"first_wait": 9}}, "retries.read.longest_wait"),
        ({"reads": {"attempts": 3}}, "retries.reads.attempts"),
        ({"reads": {}}, "retries.reads"),
        ({"read": 4}, "retries"),
        ([], "retries"),
        (None, "retries"),
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_named(erp: World, given: object, field: str) -> None:
    error = refusal(erp, "olivia", CHANGE, json.dumps(given), ALPINE)
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", f"field: {field}")
    assert error.diag.message_hint or field.endswith("longest_wait")
    assert shown(erp) == USUAL


def test_how_long_a_request_waits_has_a_bound(erp: World) -> None:
    change = "update public.metakocka_connections set request_wait = %s where account_id = %s"
    ask(erp, "olivia", change, "3 seconds", ALPINE)
    assert refusal(erp, "olivia", change, "13 seconds", ALPINE).sqlstate == "PT422"


def test_the_usual_settings_are_those_of_the_client(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    with erp.worker() as sync:
        connection = sync.store.connection(str(erp.account))
    assert policies_of(connection.retries) == POLICIES


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("read", "get_partner"), ("create", "add_partner"), ("write", "update_partner")],
)
def test_the_engine_obeys(world: World, kind: str, operation: str) -> None:
    erp = Erp(world, Fake(SECRET))
    contact = erp.add_contact(name="Kos", **HOME)
    if operation != "add_partner":
        erp.sync()
        erp.edit_contact(contact, street="Pot 2")
    settings = {kind: {"attempts": 3, "first_wait": 0, "longest_wait": 0}}
    ask(world, "olivia", CHANGE, json.dumps(settings), erp.account)
    with erp.worker() as sync:
        connection = sync.store.connection(str(erp.account))
    policy = policies_of(connection.retries)[operation]  # type: ignore[index]
    assert (policy.retries.attempts, policy.retries.first_wait) == (3, 0)
    # an answer that is lost; of a new partner it is not asked for again
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on=operation, times=100, status=503)]  # type: ignore[arg-type]
    )
    before = erp.fake.calls[operation]
    erp.end_quiet()
    with erp.worker(late=600) as sync:
        object.__setattr__(sync, "policies", {})
        sync.run(erp.account, "to_metakocka", "wake")
    assert erp.fake.calls[operation] - before == (1 if operation == "add_partner" else 3)


def test_a_contact_that_failed_comes_again_as_its_settings_say(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    settings = {"contact": {"first_wait": 100, "longest_wait": 300, "jitter": 0}}
    ask(world, "olivia", CHANGE, json.dumps(settings), erp.account)
    erp.add_contact(name="Kos", **HOME)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", times=9, opr_code="6")]
    )
    waits = []
    for _ in range(3):
        erp.sync("to_metakocka", "wake")
        left = "select extract(epoch from not_before - clock_timestamp())::float"
        waits.append(
            round(
                world.value(
                    f"{left} from private.metakocka_dirty where account_id = %s", [erp.account]
                ),
                -1,
            )
        )
    assert waits == [200, 300, 300]
