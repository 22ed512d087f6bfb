"""Accounts, members and numbers without SQL of one's own: what commands and owners call."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.sql.asking import Refusal, ask, refusal
from tests.world import ALPINE, ALPINE_NUMBER, BAY, World, seed_uuid

NUMBER = {"phone_number_id": "1003427786179740", "display_phone_number": "+386 40 111 333"}
INVITE = "select public.invite_member(%s, %s, %s) as answer"
CLAIM = "select public.claim_member_invitation(%s) as answer"


def call(world: World, function: str, **arguments: Any) -> dict[str, Any]:
    """What a function of schema backend answers the commands."""
    named = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in arguments.items()
    )
    query = sql.SQL("select backend.{}({})").format(sql.Identifier(function), named)
    with world.acting("service_role") as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def refused(world: World, function: str, **arguments: Any) -> Refusal:
    with pytest.raises(psycopg.Error) as error:
        call(world, function, **arguments)
    return Refusal.of(error.value)


def confirm(world: World, *names: str) -> None:
    world.owner.execute(
        "update auth.users set email_confirmed_at = now() where id = any (%s)",
        [[seed_uuid(name) for name in names]],
    )


def test_an_account_is_made_once(world: World) -> None:
    made = call(world, "create_account", name=" Carpet Care ", country="si")
    assert made["is_new"]
    assert made["name"] == "Carpet Care"
    assert (made["country"], made["time_zone"], made["language"]) == (
        "SI",
        "Europe/Ljubljana",
        "sl",
    )

    again = call(world, "create_account", name="carpet care")
    assert again == made | {"is_new": False}
    # another business of the same name has to be meant
    other = call(world, "create_account", name="Carpet Care", external_id="carpets-2")
    assert other["is_new"]
    assert other["external_id"] == "carpets-2"
    found = call(world, "create_account", name="any", external_id="carpets-2")
    assert found["account_id"] == other["account_id"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "A", "external_id": "with space"}, "external_id"),
        ({"name": "A", "country": "XX"}, "country"),
        ({"name": "A", "language": "de"}, "language"),
    ],
)
def test_what_an_account_can_t_be_is_told(world: World, given: dict[str, str], field: str) -> None:
    answer = refused(world, "create_account", **given)
    assert (answer.code, answer.detail) == ("PT422", f"field: {field}")
    assert "23514" not in (answer.message or "")


def test_a_member_is_added_once_and_changed_by_another_role(world: World) -> None:
    member = {"account": "bay", "email": "Stranger@rapport.example"}
    added = call(world, "add_member", role="agent", **member)
    assert (added["state"], added["role"], added["display_name"]) == ("added", "agent", "Stranger")
    assert not added["is_confirmed"]
    assert call(world, "add_member", role="agent", **member)["state"] == "there"

    changed = call(world, "add_member", role="owner", display_name="Stran", **member)
    assert (changed["state"], changed["role_before"], changed["role"]) == (
        "changed",
        "agent",
        "owner",
    )
    assert changed["display_name"] == "Stran"
    # a name that is not given stays
    assert call(world, "add_member", role="owner", **member)["display_name"] == "Stran"


def test_nobody_has_the_address_yet(world: World) -> None:
    answer = call(world, "add_member", account="bay", email="new@bay.example", role="owner")
    assert answer == {"state": "no_login"}


def test_an_account_keeps_an_owner(world: World) -> None:
    olivia = {"account": str(ALPINE), "email": "olivia@rapport.example"}
    answer = refused(world, "add_member", role="agent", **olivia)
    assert (answer.code, answer.message) == ("PT409", "This is the only owner of the account.")

    call(world, "add_member", account=str(ALPINE), email="adam@rapport.example", role="owner")
    assert call(world, "add_member", role="agent", **olivia)["role"] == "agent"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"email": "no address", "role": "agent"}, "email"),
        ({"email": "a@b.si", "role": "boss"}, "role"),
        (
            {"email": "adam@rapport.example", "role": "agent", "display_name": "x" * 201},
            "display_name",
        ),
        ({"email": "a@b.si", "role": "agent", "account": "none"}, "account"),
    ],
)
def test_what_a_member_can_t_be_is_told(world: World, given: dict[str, str], field: str) -> None:
    answer = refused(world, "add_member", **{"account": "bay", **given})
    assert answer.detail == f"field: {field}"


def test_a_number_is_added_once(world: World) -> None:
    added = call(world, "add_number", account="bay", **NUMBER)
    assert (added["state"], added["waba_id"], added["name"]) == ("added", None, "+386 40 111 333")
    assert call(world, "add_number", account="bay", **NUMBER)["state"] == "there"

    changed = call(world, "add_number", account="bay", waba_id="77", name="Harbour", **NUMBER)
    assert (changed["state"], changed["waba_id"], changed["name"]) == ("changed", "77", "Harbour")
    # what is not given stays
    assert call(world, "add_number", account="bay", **NUMBER) == changed | {"state": "there"}


def test_a_number_of_another_account_stays_there(world: World) -> None:
    given = NUMBER | {"phone_number_id": ALPINE_NUMBER}
    answer = refused(world, "add_number", account="bay", **given)
    assert answer.code == "PT409"
    assert answer.message == "This number is one of the account Alpine (695a15a5c526dbe7c085ece2)."
    assert call(world, "add_number", account=str(ALPINE), **given)["account_id"] == str(ALPINE)

    wrong = refused(world, "add_number", account="bay", **NUMBER | {"phone_number_id": "+386"})
    assert (wrong.code, wrong.detail) == ("PT422", "field: phone_number_id")


def test_a_company_is_connected_once(world: World) -> None:
    added = call(world, "connect_metakocka", account="bay", company_id="16")
    assert added["state"] == "added"
    assert call(world, "connect_metakocka", account="bay", company_id="16")["state"] == "there"

    world.owner.execute("update public.metakocka_connections set active = false")
    again = call(world, "connect_metakocka", account="bay", company_id="16")
    assert (again["state"], again["company_before"]) == ("changed", "16")
    taken = refused(world, "connect_metakocka", account=str(ALPINE), company_id="016")
    assert (taken.code, taken.detail) == ("PT409", "field: company_id")
    wrong = refused(world, "connect_metakocka", account="bay", company_id="1 6")
    assert (wrong.code, wrong.detail) == ("PT422", "field: company_id")


def test_an_owner_invites_and_the_invited_address_claims(world: World) -> None:
    confirm(world, "stranger", "carlos")
    [row] = ask(world, "olivia", INVITE, ALPINE, " Stranger@Rapport.example ", "agent")
    token = row["answer"]["token"]
    assert token not in str(world.rows("select * from private.member_invitations"))

    # somebody who came by the link, signed in with another address
    other = refusal(world, "carlos", CLAIM, token)
    assert (other.code, other.hint) == ("PT409", "Sign in with the address that was invited.")
    for _ in range(2):
        [row] = ask(world, "stranger", CLAIM, token)
        assert row["answer"] == {"account_id": str(ALPINE), "role": "agent"}
    [member] = world.rows(
        "select role, display_name from public.account_members where user_id = %s",
        [seed_uuid("stranger")],
    )
    assert member == {"role": "agent", "display_name": "Stranger"}

    # who was removed does not come back by the old link
    world.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("stranger")]
    )
    assert refusal(world, "stranger", CLAIM, token).code == "PT404"


def test_an_address_that_is_not_confirmed_claims_nothing(world: World) -> None:
    [row] = ask(world, "olivia", INVITE, ALPINE, "stranger@rapport.example", "admin")
    assert refusal(world, "stranger", CLAIM, row["answer"]["token"]).code == "PT409"


def test_an_invitation_ends_by_time_and_by_a_later_one(world: World) -> None:
    confirm(world, "stranger")
    [first] = ask(world, "olivia", INVITE, ALPINE, "stranger@rapport.example", "admin")
    [second] = ask(world, "olivia", INVITE, ALPINE, "stranger@rapport.example", "viewer")
    assert refusal(world, "stranger", CLAIM, first["answer"]["token"]).code == "PT404"
    world.owner.execute("update private.member_invitations set expires_at = now()")
    assert refusal(world, "stranger", CLAIM, second["answer"]["token"]).code == "PT410"
    assert refusal(world, "stranger", CLAIM, "no token").code == "PT404"


def test_an_invitation_changes_no_member_s_role(world: World) -> None:
    confirm(world, "adam")
    [row] = ask(world, "olivia", INVITE, ALPINE, "adam@rapport.example", "viewer")
    [claimed] = ask(world, "adam", CLAIM, row["answer"]["token"])
    assert claimed["answer"]["role"] == "admin"


def test_only_owners_invite(world: World) -> None:
    for user in ("adam", "andrej", "vera"):
        answer = refusal(world, user, INVITE, ALPINE, "a@b.si", "agent")
        assert (answer.code, answer.hint) == ("42501", "Its owners may.")
    for user, account in (("cilka", ALPINE), ("stranger", ALPINE), ("olivia", BAY)):
        assert refusal(world, user, INVITE, account, "a@b.si", "agent").code == "PT404"
    for email, role, field in (("a b", "agent", "email"), ("a@b.si", "boss", "role")):
        answer = refusal(world, "olivia", INVITE, ALPINE, email, role)
        assert (answer.code, answer.detail) == ("PT422", f"field: {field}")


def test_an_open_invitation_ends_with_its_owner_and_by_revoking(world: World) -> None:
    confirm(world, "stranger")
    revoke = "select public.revoke_member_invitation(%s, %s)"
    invited = (ALPINE, "stranger@rapport.example", "owner")
    owner = {"id": seed_uuid("adam"), "account": ALPINE}
    make_owner = (
        "update public.account_members set role = 'owner'"
        " where user_id = %(id)s and account_id = %(account)s"
    )
    for ending in (
        make_owner.replace("'owner'", "'admin'"),
        "delete from public.account_members where user_id = %(id)s and account_id = %(account)s",
    ):
        world.owner.execute(make_owner, owner)
        [mine] = ask(world, "adam", INVITE, *invited)
        world.owner.execute(ending, owner)
        assert refusal(world, "stranger", CLAIM, mine["answer"]["token"]).code == "PT404"

    [row] = ask(world, "olivia", INVITE, *invited)
    assert refusal(world, "vera", revoke, *invited[:2]).code == "42501"
    assert refusal(world, "olivia", revoke, BAY, invited[1]).code == "PT404"
    ask(world, "olivia", revoke, ALPINE, " Stranger@rapport.example")
    assert refusal(world, "stranger", CLAIM, row["answer"]["token"]).code == "PT404"
    assert refusal(world, "olivia", revoke, *invited[:2]).detail == "field: email"


def test_owners_see_who_is_invited_and_decide_who_stays(world: World) -> None:
    listed = "select * from public.open_member_invitations(%s)"
    change = "select public.change_member(%s, %s, %s, %s)"
    remove = "select public.remove_member(%s, %s)"
    andrej, olivia = seed_uuid("andrej"), seed_uuid("olivia")
    confirm(world, "stranger")
    [row] = ask(world, "olivia", INVITE, ALPINE, "stranger@rapport.example", "agent")
    ask(world, "olivia", INVITE, ALPINE, "ana.novak@alpine.example", "viewer")
    invited = [
        (one["email"], one["role"], one["display_name"], one["invited_by"])
        for one in ask(world, "olivia", listed, ALPINE)
    ]
    assert invited == [
        ("ana.novak@alpine.example", "viewer", "Ana Novak", "olivia"),
        ("stranger@rapport.example", "agent", "Stranger", "olivia"),
    ]
    ask(world, "stranger", CLAIM, row["answer"]["token"])
    assert [one["email"] for one in ask(world, "olivia", listed, ALPINE)] == [invited[0][0]]

    ask(world, "olivia", change, ALPINE, andrej, "viewer", None)
    ask(world, "olivia", change, ALPINE, andrej, None, " Andrej A. ")
    seen = "select role, display_name from public.account_members where user_id = %s"
    member = {"role": "viewer", "display_name": "Andrej A."}
    assert ask(world, "vera", seen, andrej) == [member]
    for role, name, field in (("boss", None, "role"), (None, "x" * 201, "display_name")):
        answer = refusal(world, "olivia", change, ALPINE, andrej, role, name)
        assert (answer.code, answer.detail) == ("PT422", f"field: {field}")
    assert ask(world, "vera", seen, andrej) == [member]

    # somebody always owns it
    for call in (("admin", None), None):
        query = (remove, ALPINE, olivia) if call is None else (change, ALPINE, olivia, *call)
        answer = refusal(world, "olivia", *query)
        assert (answer.code, answer.hint) == ("PT409", "Make somebody else an owner first.")
    ask(world, "olivia", change, ALPINE, seed_uuid("adam"), "owner", None)
    ask(world, "olivia", remove, ALPINE, andrej)
    assert ask(world, "andrej", seen, andrej) == []
    ask(world, "olivia", remove, ALPINE, olivia)

    for query in (
        (listed, ALPINE),
        (change, ALPINE, andrej, "agent", None),
        (remove, ALPINE, andrej),
    ):
        # who is a member, but no owner; who was one
        assert refusal(world, "vera", *query).code == "42501"
        assert refusal(world, "olivia", *query).code == "PT404"
    assert refusal(world, "adam", remove, ALPINE, andrej).detail == "field: user_id"
