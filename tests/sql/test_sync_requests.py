"""Owners and admins ask for a sync of what is theirs; everything else does not exist for them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.sql.faces import ask, refusal
from tests.sql.metakocka import apply, backend, marked, partner
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid

CILKA, CARLOS = seed_uuid("contact cilka"), seed_uuid("contact carlos")
REQUEST = "select public.request_sync(%s, null, %s, %s) as run"


def request(world: World, user: str, direction: str, contacts: list[UUID] | None = None) -> UUID:
    [row] = ask(world, user, REQUEST, direction, contacts or [], [])
    run: UUID = row["run"]
    return run


@pytest.mark.parametrize("user", ["olivia", "adam"])
def test_those_who_administer_ask_for_a_run_that_is_gone_on_with(erp: World, user: str) -> None:
    run = request(erp, user, "to_metakocka", [CILKA, CARLOS])
    assert marked(erp) == [CILKA]
    begun = backend(
        erp, "begin_sync", account_id=ALPINE, direction="both", trigger="wake", worker="w"
    )
    assert (begun["run_id"], begun["direction"], begun["trigger"]) == (
        str(run),
        "to_metakocka",
        "user",
    )
    assert begun["request"] == {"contact_ids": [str(CILKA)]}
    assert begun["user_id"] == str(seed_uuid(user))


def test_the_same_request_twice_is_one_run(erp: World) -> None:
    assert request(erp, "olivia", "from_metakocka") == request(erp, "adam", "from_metakocka")
    assert request(erp, "olivia", "both") != request(erp, "olivia", "from_metakocka")


def test_all_contacts_are_those_that_are_not_agreed_on(erp: World) -> None:
    apply(erp, partner("1600"))
    request(erp, "olivia", "to_metakocka")
    assert marked(erp) == [CILKA]


def test_reading_partners_marks_no_contact(erp: World) -> None:
    [row] = ask(erp, "olivia", REQUEST, "from_metakocka", [], ["1600", "1600", "1601"])
    [run] = erp.rows("select request from public.sync_runs where id = %s", [row["run"]])
    assert run["request"] == {"metakocka_ids": ["1600", "1601"]}
    assert marked(erp) == []


@pytest.mark.parametrize("user", ["andrej", "vera", "ana", "cilka", "stranger"])
def test_nobody_else_asks(erp: World, user: str) -> None:
    for query in (
        "select public.request_sync('to_metakocka')",
        "select public.authorize_sync()",
    ):
        assert refusal(erp, user, query).sqlstate == "42501"
    named = f"select public.request_sync('to_metakocka', '{ALPINE}')"
    expected = "42501" if user in ("andrej", "vera") else "PT404"
    assert refusal(erp, user, named).sqlstate == expected
    assert (marked(erp), erp.rows("select from public.sync_runs")) == ([], [])


def test_contacts_of_another_account_do_not_exist(erp: World) -> None:
    error = refusal(erp, "olivia", REQUEST, "to_metakocka", [CARLOS], [])
    assert (error.sqlstate, error.diag.message_detail) == ("PT404", "field: contact_ids")
    error = refusal(erp, "olivia", "select public.request_sync('both', %s)", BAY)
    assert error.sqlstate == "PT404"
    [row] = ask(erp, "olivia", "select public.authorize_sync(null, %s) as answer", [CILKA, CARLOS])
    assert row["answer"] == {
        "account_id": str(ALPINE),
        "user_id": str(seed_uuid("olivia")),
        "contact_ids": [str(CILKA)],
        "not_found": [str(CARLOS)],
    }


@pytest.mark.parametrize(
    ("direction", "contacts", "partners", "field"),
    [
        ("sideways", [], [], "direction"),
        ("both", [], ["16 00"], "metakocka_ids"),
        ("both", [], [""], "metakocka_ids"),
        ("both", [UUID(int=n) for n in range(1001)], [], "contact_ids"),
        ("both", [], [str(n) for n in range(1001)], "metakocka_ids"),
    ],
)
def test_wrong_request_names_its_field(
    erp: World, direction: str, contacts: list[UUID], partners: list[str], field: str
) -> None:
    error = refusal(erp, "olivia", REQUEST, direction, contacts, partners)
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", f"field: {field}")


def test_account_has_to_be_connected(world: World) -> None:
    error = refusal(world, "olivia", "select public.request_sync('both')")
    assert error.sqlstate == "PT409"


def mappings(world: World, user: str, *arguments: Any) -> dict[str, Any]:
    places = ", ".join(["%s"] * len(arguments))
    [row] = ask(world, user, f"select public.metakocka_mappings({places}) as page", *arguments)
    page: dict[str, Any] = row["page"]
    return page


def test_mappings_come_by_page_each_once(erp: World) -> None:
    apply(erp, *(partner(f"16{n}", email=f"{n}@x.si", phone=None) for n in range(7)))
    apply(erp, partner("16-bay"), account=BAY)
    found: list[str] = []
    cursor = None
    while True:
        page = mappings(erp, "vera", None, cursor, 3)
        found += [one["metakocka_id"] for one in page["mappings"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == [f"16{n}" for n in range(7)]
    assert [one["metakocka_id"] for one in mappings(erp, "ana")["mappings"]] == ["16-bay"]
    assert mappings(erp, "cilka")["mappings"] == []


def test_mapping_of_one_contact(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    [one] = mappings(erp, "vera", made["contact_id"])["mappings"]
    assert (one["metakocka_id"], one["state"]) == ("1600", "synced")
    assert mappings(erp, "vera", CILKA)["mappings"] == []
    for user, contact in (("vera", CARLOS), ("ana", CILKA), ("cilka", CARLOS)):
        query = "select public.metakocka_mappings(%s)"
        assert refusal(erp, user, query, contact).sqlstate == "PT404"


def test_cursor_of_something_else_is_refused(erp: World) -> None:
    query = "select public.metakocka_mappings(null, 'nonsense')"
    # also where no row is compared with it
    assert refusal(erp, "vera", query).sqlstate == "PT422"
    apply(erp, partner("1600"))
    assert refusal(erp, "vera", query).sqlstate == "PT422"


@pytest.mark.parametrize(
    ("direction", "contacts", "partners", "field"),
    [
        ("from_metakocka", [CILKA], [], "contact_ids"),
        ("to_metakocka", [], ["1600"], "metakocka_ids"),
        ("both", [CILKA], ["1600"], "metakocka_ids"),
    ],
)
def test_request_that_names_what_it_does_not_move_is_refused(
    erp: World, direction: str, contacts: list[UUID], partners: list[str], field: str
) -> None:
    """Or it would do something else: nothing, or all of the account."""
    error = refusal(erp, "olivia", REQUEST, direction, contacts, partners)
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", f"field: {field}")
    assert (marked(erp), erp.rows("select from public.sync_runs")) == ([], [])
