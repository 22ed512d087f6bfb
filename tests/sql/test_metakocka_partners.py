"""The ERP's face of a contact: written as the other faces, and seen in all of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.faces import ask, identities, refusal
from tests.sql.metakocka import NOVAK, apply, partner
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

CILKA, CARLOS = seed_uuid("contact cilka"), seed_uuid("contact carlos")


def test_partner_that_is_written_here_is_a_contact_everywhere(erp: World) -> None:
    [made] = ask(
        erp,
        "andrej",
        "insert into public.metakocka_partners"
        " (name, email, gsm, place, buyer, people, conversation_status)"
        " values ('Kos', 'kos@x.si', '+38640000009', ' Bled ', true, '[{\"name\": \"Ana\"}]', 'P')"
        " returning *",
    )
    assert (made["place"], made["buyer"], made["people"]) == ("Bled", True, [{"name": "Ana"}])
    assert (made["metakocka_id"], made["sync_state"], made["version"]) == (None, None, 1)
    [shown] = ask(erp, "vera", "select * from public.contacts_v2 where id = %s", made["id"])
    assert (shown["name"], shown["conversation_status"]) == ("Kos", "pending")
    assert identities(erp, made["id"]) == {("email", "kos@x.si"), ("phone", "38640000009")}


def test_mobile_number_is_what_they_write_from(erp: World) -> None:
    [made] = ask(
        erp,
        "andrej",
        "insert into public.metakocka_partners (name, phone, gsm)"
        " values ('Kos', '+38614000001', '+38640000009') returning id",
    )
    erp.ingest(text_message("wamid.1", "38640000009"))
    assert erp.rows("select customer_id from public.messages") == [{"customer_id": made["id"]}]
    # another face writes the phone, and the mobile number stays theirs
    ask(
        erp,
        "andrej",
        "update public.contacts_v2 set phone = '+38614000002' where id = %s",
        made["id"],
    )
    assert identities(erp, made["id"]) == {("phone", "38614000002"), ("phone", "38640000009")}


def test_mobile_number_that_is_no_more_is_free_for_another(erp: World) -> None:
    [made] = ask(
        erp,
        "andrej",
        "insert into public.metakocka_partners (gsm) values ('+38640000009') returning id",
    )
    error = refusal(erp, "andrej", "insert into public.contacts_v2 (phone) values ('+38640000009')")
    assert error.sqlstate == "PT409"
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set gsm = 'none' where id = %s",
        made["id"],
    )
    ask(erp, "andrej", "insert into public.contacts_v2 (phone) values ('+38640000009')")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("street", "x" * 151),
        ("tax_id_number", "x" * 51),
        ("post_number", "x" * 21),
        ("country", "x" * 51),
        ("gsm", "x" * 256),
        ("people", '{"name": "Ana"}'),
        ("people", '["Ana"]'),
        ("addresses", "[1]"),
        ("phone", "040 111 222"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(erp: World, column: str, value: str) -> None:
    error = refusal(
        erp,
        "andrej",
        f"update public.metakocka_partners set {column} = %s where id = %s",
        value,
        CILKA,
    )
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", f"field: {column}")


@pytest.mark.parametrize("column", ["metakocka_id", "sync_state", "missing", "created_at"])
def test_what_the_sync_knows_is_not_written(erp: World, column: str) -> None:
    values: dict[str, Any] = {"missing": ["x"], "created_at": "2020-01-01"}
    error = refusal(
        erp,
        "andrej",
        f"update public.metakocka_partners set {column} = %s where id = %s",
        values.get(column, "1600"),
        CILKA,
    )
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", f"field: {column}")


def test_partner_shows_how_it_stands(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    query = "select * from public.metakocka_partners where metakocka_id = '1600'"
    [shown] = ask(erp, "vera", query)
    assert {name: shown[name] for name in NOVAK} == NOVAK
    assert (str(shown["id"]), shown["sync_state"], shown["missing"]) == (
        made["contact_id"],
        "synced",
        [],
    )
    assert shown["conversation_status"] == "O"
    assert ask(erp, "ana", query) == []
    assert ask(erp, "cilka", query) == []


def test_version_that_has_passed_is_refused(erp: World) -> None:
    statement = "update public.metakocka_partners set place = %s, version = 1 where id = %s"
    ask(erp, "andrej", statement, "Bled", CILKA)
    assert refusal(erp, "andrej", statement, "Kranj", CILKA).sqlstate == "PT409"


def test_deleted_partner_is_blank_and_gone(erp: World) -> None:
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set street = 'A', buyer = true, fax = '1' where id = %s",
        CILKA,
    )
    ask(erp, "andrej", "delete from public.metakocka_partners where id = %s", CILKA)
    assert ask(erp, "andrej", "select from public.metakocka_partners where id = %s", CILKA) == []
    [row] = erp.rows("select street, buyer, fax from public.contacts where id = %s", [CILKA])
    assert row == {"street": None, "buyer": None, "fax": None}


@pytest.mark.parametrize("user", ["vera", "ana", "cilka", "stranger"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into public.metakocka_partners (account_id, name) values (%(account)s, 'x')",
        "update public.metakocka_partners set name = 'x' where account_id = %(account)s",
        "delete from public.metakocka_partners where account_id = %(account)s",
    ],
)
def test_nobody_else_writes_an_accounts_partners(erp: World, user: str, statement: str) -> None:
    before = erp.rows("select id, version from public.contacts order by id")
    with erp.acting_as(user) as connection, pytest.raises(Exception) as refused:  # noqa: PT011
        connection.execute(statement.encode(), {"account": ALPINE})
    assert getattr(refused.value, "sqlstate", None) in ("42501", "PT404")
    assert erp.rows("select id, version from public.contacts order by id") == before


def test_connections_belong_to_owners_and_admins(world: World) -> None:
    insert = "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')"
    for user in ("andrej", "vera", "ana", "cilka", "stranger"):
        assert refusal(world, user, insert, ALPINE).sqlstate == "42501"
    ask(world, "adam", insert, ALPINE)
    [row] = ask(world, "olivia", "select * from public.metakocka_connections")
    assert (row["conflict_rule"], row["user_id"]) == ("ask", seed_uuid("adam"))
    for user in ("andrej", "vera", "ana"):
        assert ask(world, user, "select * from public.metakocka_connections") == []
        for write in (
            "update public.metakocka_connections set active = false",
            "delete from public.metakocka_connections",
        ):
            assert refusal(world, user, write).sqlstate == "PT404"
    assert world.value("select active from public.metakocka_connections") is True
    assert refusal(world, "olivia", insert, BAY).sqlstate == "42501"


@pytest.mark.parametrize(
    "url",
    [
        "http://main.metakocka.si/rest",
        "https://127.0.0.1/rest",
        "https://localhost/rest",
        "https://user:key@x.si/rest",
        "https://x.si/rest?key=1",
        "https://x.si/../rest\n",
    ],
)
def test_server_that_is_no_named_host_by_tls_is_refused(world: World, url: str) -> None:
    error = refusal(
        world,
        "olivia",
        "insert into public.metakocka_connections (account_id, company_id, base_url)"
        " values (%s, '16', %s)",
        ALPINE,
        url,
    )
    assert (error.sqlstate, error.diag.message_detail) == ("PT422", "field: base_url")


def test_how_far_it_has_read_is_the_syncs_alone(erp: World) -> None:
    statement = "update public.metakocka_connections set documents_seen_until = now()"
    assert refusal(erp, "olivia", statement).sqlstate == "PT422"


@pytest.mark.parametrize("ended", [False, True], ids=["changed", "connected again"])
def test_contacts_stay_partners_of_their_company(erp: World, ended: bool) -> None:
    """All of another company's partners would be new contacts, and ours go to strangers."""
    other = "update public.metakocka_connections set company_id = '18' where account_id = %s"
    ask(erp, "adam", other, ALPINE)
    ask(erp, "adam", other.replace("18", "16"), ALPINE)
    apply(erp, partner("1600"))
    if ended:
        ask(erp, "adam", "delete from public.metakocka_connections where account_id = %s", ALPINE)
        other = (
            "insert into public.metakocka_connections (account_id, company_id) values (%s, '18')"
        )
    error = refusal(erp, "adam", other, ALPINE)
    assert (error.sqlstate, error.diag.message_detail) == ("PT409", "field: company_id")
    ask(erp, "adam", other.replace("18", "16"), ALPINE)
    # whose account it is not learns nothing
    assert refusal(
        erp,
        "ana",
        "insert into public.metakocka_connections (account_id, company_id) values (%s, '18')",
        ALPINE,
    ).sqlstate in ("42501", "23505")
