"""How a login becomes a customer, and ceases to be one: invitations, claims, unlinking."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import Refusal, Row, ask, at_once, refusal, start_blocked
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

CILKA = seed_uuid("contact cilka")
INVITE = "select public.invite_to_portal(%s) as answer"
CLAIM = "select public.claim_portal_invitation(%s) as answer"
REVOKE = "select public.revoke_invitation(%s)"
UNLINK = "select public.unlink_portal_login(%s)"
DAVID = seed_uuid("contact david")


@pytest.fixture
def nejc(world: World) -> UUID:
    """A contact of Alpine's who has written once, and has no login."""
    world.ingest(text_message("wamid.nejc", text="hello"))
    found: UUID = world.value("select customer_id from public.messages")
    return found


def invite(world: World, contact: UUID, user: str = "andrej") -> Row:
    answer: Row = ask(world, user, INVITE, contact)[0]["answer"]
    return answer


def claim(world: World, user: str, token: str) -> Row:
    answer: Row = ask(world, user, CLAIM, token)[0]["answer"]
    return answer


def refused_claim(world: World, user: str, token: str | None) -> Refusal:
    refused = refusal(world, user, CLAIM, token)
    assert not token or token not in repr(refused)
    return refused


def login_of(world: World, contact: UUID) -> UUID | None:
    found: UUID | None = world.value(
        "select portal_user_id from public.contacts where id = %s", [contact]
    )
    return found


def open_invitations(world: World) -> list[UUID]:
    rows = world.rows(
        "select id from public.portal_invitations where claimed_at is null and revoked_at is null"
    )
    return [row["id"] for row in rows]


def add_contact(world: World, contact: UUID, account: UUID, login: str | None = None) -> None:
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'any', %s)",
        [contact, account, seed_uuid(login) if login else None],
    )


MERGE = """
    update public.contacts
    set deleted_at = now(), merged_into = %s, name = null, profile_name = null,
        profile_named_at = null, phone = null
    where id = %s
"""


def merge(world: World, dropped: UUID, kept: UUID) -> None:
    """What a merge leaves of a contact that has no login."""
    world.owner.execute(MERGE, [kept, dropped])


def topics(world: World, user: str) -> set[str]:
    conversation = world.value("select id from public.conversations limit 1")
    return {
        row["topic"] for row in ask(world, user, "select * from public.my_topics(%s)", conversation)
    }


# Staff invite


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej"])
def test_staff_invite_for_seven_days(world: World, nejc: UUID, user: str) -> None:
    answer = invite(world, nejc, user)

    assert set(answer) == {"invitation_id", "token", "expires_at"}
    row = world.rows("select * from public.portal_invitations")[0]
    assert (str(row["id"]), row["account_id"], row["contact_id"], row["created_by"]) == (
        answer["invitation_id"],
        ALPINE,
        nejc,
        seed_uuid(user),
    )
    assert row["expires_at"] - row["created_at"] == timedelta(days=7)
    assert (row["claimed_at"], row["claimed_by"], row["revoked_at"]) == (None, None, None)


def test_token_has_256_bits_and_is_kept_hashed_alone(world: World, nejc: UUID) -> None:
    tokens = {invite(world, nejc)["token"] for _ in range(20)}

    assert len(tokens) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)
    kept = world.rows("select token_hash from private.portal_invitation_tokens")
    assert {row["token_hash"] for row in kept} == {
        hashlib.sha256(token.encode()).digest() for token in tokens
    }


def test_members_read_their_invitations_and_nobody_a_token(world: World, nejc: UUID) -> None:
    invite(world, nejc)
    add_contact(world, DAVID, BAY)
    invite(world, DAVID, "ana")

    for user, seen in {
        "vera": [nejc],
        "ana": [DAVID],
        "cilka": [],
        "carlos": [],
        "stranger": [],
    }.items():
        rows = ask(world, user, "select * from public.portal_invitations")
        assert [row["contact_id"] for row in rows] == seen, user
        tokens = refusal(world, user, "select * from private.portal_invitation_tokens")
        assert tokens.code == "42501", user


@pytest.mark.parametrize("user", ["ana", "cilka", "carlos", "stranger"])
def test_contact_of_others_can_not_be_invited(world: World, nejc: UUID, user: str) -> None:
    assert refusal(world, user, INVITE, nejc).code == "PT404"
    assert open_invitations(world) == []


def test_viewer_can_not_invite_revoke_or_unlink(world: World, nejc: UUID) -> None:
    invitation = invite(world, nejc)["invitation_id"]

    assert refusal(world, "vera", INVITE, nejc).code == "42501"
    assert refusal(world, "vera", REVOKE, invitation).code == "42501"
    assert refusal(world, "vera", UNLINK, CILKA).code == "42501"
    assert [str(open_id) for open_id in open_invitations(world)] == [invitation]
    assert login_of(world, CILKA) == seed_uuid("cilka")


@pytest.mark.parametrize(
    "query",
    [
        INVITE.replace("%s", "gen_random_uuid()"),
        CLAIM.replace("%s", "'x'"),
        REVOKE.replace("%s", "gen_random_uuid()"),
        UNLINK.replace("%s", "gen_random_uuid()"),
        "select from public.portal_invitations",
    ],
)
def test_anonymous_is_refused(world: World, query: str) -> None:
    with (
        world.acting("anon") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(query.encode())


def test_nobody_writes_invitations_directly(world: World, nejc: UUID) -> None:
    invite(world, nejc)

    for statement in (
        "update public.portal_invitations set expires_at = 'infinity'",
        "delete from public.portal_invitations",
        f"insert into public.portal_invitations values ('{CILKA}', '{ALPINE}', '{CILKA}')",
    ):
        assert refusal(world, "olivia", statement).code == "42501"


def test_contact_that_has_a_login_is_not_invited(world: World) -> None:
    refused = refusal(world, "andrej", INVITE, CILKA)

    assert refused.code == "PT409"
    assert refused.hint
    assert "unlink_portal_login" in refused.hint


def test_contact_that_is_gone_is_not_invited(world: World, nejc: UUID) -> None:
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", nejc)

    assert refusal(world, "andrej", INVITE, nejc).code == "PT404"
    assert refusal(world, "andrej", INVITE, seed_uuid("nobody")).code == "PT404"
    assert refusal(world, "andrej", INVITE, None).code == "PT404"


@pytest.mark.parametrize("valid_for", ["4 minutes", "31 days", "-1 day", "infinity", None])
def test_invitation_is_neither_too_short_nor_too_long(
    world: World, nejc: UUID, valid_for: str | None
) -> None:
    refused = refusal(world, "andrej", "select public.invite_to_portal(%s, %s)", nejc, valid_for)

    assert (refused.code, refused.detail) == ("PT422", "field: valid_for")


def test_new_invitation_ends_the_open_one_of_that_contact_alone(world: World, nejc: UUID) -> None:
    add_contact(world, DAVID, ALPINE)
    first = invite(world, nejc)
    other = invite(world, DAVID)

    second = invite(world, nejc)

    assert refused_claim(world, "stranger", first["token"]).code == "PT404"
    assert {str(open_id) for open_id in open_invitations(world)} == {
        other["invitation_id"],
        second["invitation_id"],
    }
    assert claim(world, "stranger", second["token"])["customer_id"] == str(nejc)


# The invited person claims


def test_claim_opens_the_customers_own_rows(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    for table in ("customers", "conversations", "messages", "my_profile"):
        assert ask(world, "stranger", f"select from public.{table}") == []

    answer = claim(world, "stranger", token)

    assert answer == {"account_id": str(ALPINE), "customer_id": str(nejc)}
    assert [row["id"] for row in ask(world, "stranger", "select * from public.customers")] == [nejc]
    assert [row["message"] for row in ask(world, "stranger", "select * from public.messages")] == [
        "hello"
    ]
    kinds = {topic.split(":")[0] for topic in topics(world, "stranger")}
    assert kinds == {"customer", "conversation", "presence", "typing"}
    row = world.rows("select claimed_by, claimed_at is not null as claimed from portal_invitations")
    assert row == [{"claimed_by": seed_uuid("stranger"), "claimed": True}]


def test_claim_is_told_to_staff_and_to_the_customer(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    world.forget_events()

    claim(world, "stranger", token)

    assert [(event["kind"], event["event"]) for event in world.events()] == [
        ("account", "contacts.updated"),
        ("account", "customers.updated"),
        ("customer", "customers.updated"),
    ]


def test_whoever_has_no_good_token_is_always_answered_alike(world: World, nejc: UUID) -> None:
    for name in ("david", "eva"):
        add_contact(world, seed_uuid(f"contact {name}"), ALPINE)
    revoked = invite(world, DAVID)
    ask(world, "andrej", REVOKE, revoked["invitation_id"])
    deleted = invite(world, seed_uuid("contact eva"))
    ask(
        world,
        "andrej",
        "delete from public.contacts_v2 where id = %s",
        seed_uuid("contact eva"),
    )
    claimed = invite(world, nejc)
    claim(world, "stranger", claimed["token"])

    answers = {
        refused_claim(world, "carlos", token)
        for token in (
            revoked["token"],
            deleted["token"],
            claimed["token"],
            claimed["token"][:-1],
            claimed["token"] + "=",
            claimed["invitation_id"],
            "A" * 43,
            "ž" * 100_000,
            "",
            None,
        )
    }

    assert {answer.code for answer in answers} == {"PT404"}
    assert len(answers) == 1
    assert ask(world, "carlos", "select id from public.customers") == [
        {"id": seed_uuid("contact carlos")}
    ]


def expire(world: World) -> None:
    world.owner.execute(
        "update public.portal_invitations set created_at = created_at - interval '8 days',"
        " expires_at = expires_at - interval '8 days'"
    )


def test_who_holds_the_link_sees_who_invites(world: World, nejc: UUID) -> None:
    """Signed in or not; and nothing once the invitation has ended in any way."""
    show = "select public.portal_invitation(%s) as answer"

    def seen(token: str) -> Row:
        with world.acting("anon") as connection:
            found = connection.execute(show, [token]).fetchone()
        assert found is not None
        answer: Row = found[0]
        assert ask(world, "stranger", show, token) == [{"answer": answer}]
        return answer

    revoked, token = (invite(world, nejc)["token"] for _ in range(2))
    answer = seen(token)
    assert (answer["account_name"], answer["email"]) == ("Alpine", None)
    world.owner.execute("update public.contacts set email = 'n@home.example' where id = %s", [nejc])
    assert seen(token)["email"] == "n@home.example"

    for wrong in (revoked, "nothing", None):
        assert refusal(world, "stranger", show, wrong).code == "PT404"
    claim(world, "stranger", token)
    assert refusal(world, "stranger", show, token).code == "PT404"


def test_expired_invitation_says_so(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    expire(world)

    refused = refused_claim(world, "stranger", token)

    assert (refused.code, refused.hint) == ("PT410", "Ask the business for a new one.")
    assert login_of(world, nejc) is None
    claim(world, "stranger", invite(world, nejc)["token"])


def test_claiming_again_answers_the_same(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    first = claim(world, "stranger", token)
    expire(world)
    world.forget_events()

    assert claim(world, "stranger", token) == first
    assert world.events() == []


def test_who_is_another_customer_of_the_business_can_not_claim(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]

    assert refused_claim(world, "cilka", token).code == "PT409"
    assert login_of(world, nejc) is None
    # and the invitation is as good as before
    claim(world, "stranger", token)


def test_customer_of_another_business_can_claim(world: World, nejc: UUID) -> None:
    claim(world, "carlos", invite(world, nejc)["token"])

    rows = ask(world, "carlos", "select account_name from public.my_profile order by account_name")
    assert [row["account_name"] for row in rows] == ["Alpine", "Bay"]


def test_login_that_came_in_another_way_is_not_replaced(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    world.owner.execute(
        "update public.contacts set portal_user_id = %s where id = %s",
        [seed_uuid("carlos"), nejc],
    )

    assert refused_claim(world, "stranger", token).code == "PT409"
    assert claim(world, "carlos", token)["customer_id"] == str(nejc)


def test_token_of_nobody_claims_nothing(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]

    with (
        world.acting("authenticated") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(CLAIM.encode(), [token])


# Contacts are merged between invitation and claim


def test_invitation_of_a_merged_contact_leads_to_the_kept_one(world: World, nejc: UUID) -> None:
    add_contact(world, DAVID, ALPINE)
    token = invite(world, nejc)["token"]
    own = invite(world, DAVID)["token"]
    merge(world, nejc, DAVID)

    assert claim(world, "stranger", token)["customer_id"] == str(DAVID)
    assert (login_of(world, nejc), login_of(world, DAVID)) == (None, seed_uuid("stranger"))
    assert claim(world, "stranger", token)["customer_id"] == str(DAVID)
    # one link has been used, and with that the other one
    assert refused_claim(world, "carlos", own).code == "PT404"


def test_login_of_the_kept_contact_is_not_replaced(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    merge(world, nejc, CILKA)

    assert refused_claim(world, "stranger", token).code == "PT409"
    assert login_of(world, CILKA) == seed_uuid("cilka")
    assert claim(world, "cilka", token)["customer_id"] == str(CILKA)


def test_inviting_the_kept_contact_ends_what_was_open(world: World, nejc: UUID) -> None:
    add_contact(world, DAVID, ALPINE)
    token = invite(world, nejc)["token"]
    merge(world, nejc, DAVID)

    # by the id that a page still shows
    again = invite(world, nejc)

    assert refused_claim(world, "stranger", token).code == "PT404"
    assert claim(world, "stranger", again["token"])["customer_id"] == str(DAVID)


def test_claim_that_meets_a_merge_is_to_be_tried_again(world: World, nejc: UUID) -> None:
    add_contact(world, DAVID, ALPINE)
    token = invite(world, nejc)["token"]

    with world.connect() as other, other.transaction():
        other.execute(MERGE.encode(), [DAVID, nejc])
        claiming = start_blocked(world, "stranger", CLAIM, token)
    refused = claiming.result(10)

    assert isinstance(refused, Refusal)
    assert refused.code == "PT503"
    assert claim(world, "stranger", token)["customer_id"] == str(DAVID)


# Staff take back


def test_revoking_twice_is_revoking(world: World, nejc: UUID) -> None:
    answer = invite(world, nejc)
    ask(world, "andrej", REVOKE, answer["invitation_id"])
    revoked_at = world.value("select revoked_at from public.portal_invitations")

    ask(world, "olivia", REVOKE, answer["invitation_id"])

    assert revoked_at
    assert world.value("select revoked_at from public.portal_invitations") == revoked_at


@pytest.mark.parametrize("user", ["ana", "cilka", "stranger"])
def test_invitation_of_others_can_not_be_revoked(world: World, nejc: UUID, user: str) -> None:
    answer = invite(world, nejc)

    assert refusal(world, user, REVOKE, answer["invitation_id"]).code == "PT404"
    assert len(open_invitations(world)) == 1


def test_claimed_invitation_can_not_be_revoked(world: World, nejc: UUID) -> None:
    answer = invite(world, nejc)
    claim(world, "stranger", answer["token"])

    refused = refusal(world, "andrej", REVOKE, answer["invitation_id"])

    assert refused.code == "PT409"
    assert refused.hint
    assert "unlink_portal_login" in refused.hint


def test_unlinked_login_sees_nothing_and_hears_nothing_more(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    claim(world, "stranger", token)
    known = topics(world, "stranger")
    cursor = ask(world, "stranger", "select public.changes_since() as answer")[0]["answer"]

    ask(world, "andrej", UNLINK, nejc)
    world.forget_events()
    world.ingest(text_message("wamid.secret", text="secret"))

    for table in ("customers", "conversations", "conversation_activity", "messages", "my_profile"):
        assert ask(world, "stranger", f"select from public.{table}") == [], table
    sent = {event["topic"] for event in world.events()}
    assert sent
    assert not sent & known
    assert topics(world, "stranger") == set()
    since = ask(world, "stranger", "select public.changes_since(%s) as answer", cursor["cursor"])[
        0
    ]["answer"]
    assert (since["changes"], since["resync"]) == ([], True)
    after = ask(world, "stranger", "select public.changes_since(%s) as answer", since["cursor"])[0][
        "answer"
    ]
    assert (after["changes"], after["resync"]) == ([], False)
    # and the old link leads back in for nobody
    assert refused_claim(world, "stranger", token).code == "PT404"
    assert refused_claim(world, "carlos", token).code == "PT404"


def test_unlinking_ends_invitations_that_lead_to_the_contact(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    merge(world, nejc, CILKA)

    ask(world, "andrej", UNLINK, CILKA)

    assert refused_claim(world, "stranger", token).code == "PT404"
    assert login_of(world, CILKA) is None


def test_contact_without_a_login_stays_so(world: World, nejc: UUID) -> None:
    world.forget_events()

    ask(world, "andrej", UNLINK, nejc)

    assert world.events() == []
    assert login_of(world, nejc) is None


@pytest.mark.parametrize("user", ["ana", "cilka", "carlos", "stranger"])
def test_login_of_others_can_not_be_unlinked(world: World, user: str) -> None:
    assert refusal(world, user, UNLINK, CILKA).code == "PT404"
    assert login_of(world, CILKA) == seed_uuid("cilka")


def test_another_login_can_be_invited_after_unlinking(world: World) -> None:
    ask(world, "andrej", UNLINK, CILKA)

    claim(world, "stranger", invite(world, CILKA)["token"])

    assert login_of(world, CILKA) == seed_uuid("stranger")
    assert ask(world, "cilka", "select from public.customers") == []


# At the same time


def test_of_two_who_claim_at_once_one_wins(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]
    users = ("stranger", "carlos")

    answers = at_once(*(lambda user=user: claim(world, user, token) for user in users))

    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [answer.code for answer in refused] == ["PT404"]
    winner = users[0] if answers[1] in refused else users[1]
    assert login_of(world, nejc) == seed_uuid(winner)


def test_claim_that_waited_for_another_is_refused(world: World, nejc: UUID) -> None:
    token = invite(world, nejc)["token"]

    with world.acting_as("stranger") as first:
        first.execute(CLAIM.encode(), [token])
        second = start_blocked(world, "carlos", CLAIM, token)
    refused = second.result(10)

    assert isinstance(refused, Refusal)
    assert refused.code == "PT404"
    assert login_of(world, nejc) == seed_uuid("stranger")


def test_one_login_becomes_one_of_two_customers_at_once(world: World, nejc: UUID) -> None:
    add_contact(world, DAVID, ALPINE)
    tokens = [invite(world, contact)["token"] for contact in (nejc, DAVID)]

    with world.acting_as("stranger") as first:
        first.execute(CLAIM.encode(), [tokens[0]])
        second = start_blocked(world, "stranger", CLAIM, tokens[1])
    refused = second.result(10)

    assert isinstance(refused, Refusal)
    assert refused.code == "PT409"
    assert (login_of(world, nejc), login_of(world, DAVID)) == (seed_uuid("stranger"), None)


def test_two_who_invite_at_once_leave_one_invitation_open(world: World, nejc: UUID) -> None:
    answers = at_once(
        *(lambda user=user: invite(world, nejc, user) for user in ("olivia", "adam", "andrej"))
    )

    tokens = [answer["token"] for answer in answers if not isinstance(answer, Refusal)]
    assert len(tokens) == 3
    assert len(open_invitations(world)) == 1


@pytest.mark.parametrize("taking_back", [UNLINK, INVITE, REVOKE])
def test_claim_that_waited_for_staff_is_refused(world: World, nejc: UUID, taking_back: str) -> None:
    answer = invite(world, nejc)
    named: Any = answer["invitation_id"] if taking_back == REVOKE else nejc

    with world.acting_as("andrej") as staff:
        staff.execute(taking_back.encode(), [named])
        claiming = start_blocked(world, "stranger", CLAIM, answer["token"])
    refused = claiming.result(10)

    assert isinstance(refused, Refusal)
    assert refused.code == "PT404"
    assert login_of(world, nejc) is None
