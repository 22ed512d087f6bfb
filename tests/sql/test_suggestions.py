"""Contacts that may be one person: found, shown to the deciding people, and never merged alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.world import ALPINE, BAY, World, seed_uuid

CILKA = seed_uuid("contact cilka")
CARLOS = seed_uuid("contact carlos")


def call(world: World, user: str, function: str, *parameters: Any) -> Any:
    """What a public function answers a signed-in person."""
    places = ", ".join(["%s"] * len(parameters))
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.{function}({places})".encode(), parameters
        ).fetchone()
    assert row is not None
    return row[0]


def add(world: World, label: str, known: bool = True, **fields: Any) -> UUID:
    """A contact of Alpine; known by its phone and email, or only said to have them."""
    contact = seed_uuid(f"contact {label}")
    columns = {"id": contact, "account_id": ALPINE} | fields
    world.owner.execute(
        f"insert into public.contacts ({', '.join(columns)})"
        f" values ({', '.join(['%s'] * len(columns))})".encode(),
        list(columns.values()),
    )
    for kind in ("phone", "email"):
        if known and kind in fields:
            world.owner.execute(
                "insert into public.contact_identities (account_id, kind, value, contact_id)"
                " values (%s, %s, %s, %s)",
                (ALPINE, kind, fields[kind], contact),
            )
    return contact


def suggest(world: World, one: UUID, other: UUID, reason: str = "same_row") -> UUID:
    """A suggestion as importing or WhatsApp make it."""
    world.owner.execute(
        "select private.suggest_merge(%s, %s, %s, '{}')", (ALPINE, [one, other], reason)
    )
    return UUID(
        str(
            world.value(
                "select id from public.contact_suggestions"
                " where contact_id = %s and other_contact_id = %s and reason = %s",
                (min(one, other), max(one, other), reason),
            )
        )
    )


def shown(world: World, user: str = "andrej") -> list[dict[str, Any]]:
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from public.open_suggestions order by reason, id"
        ).fetchall()


def pairs(world: World, user: str = "andrej") -> set[tuple[str, frozenset[UUID]]]:
    return {
        (row["reason"], frozenset((row["contact_id"], row["other_contact_id"])))
        for row in shown(world, user)
    }


def test_same_name_is_suggested_however_it_is_written(world: World) -> None:
    one = add(world, "one", name="Ana  Kovač")
    other = add(world, "other", profile_name=" ANA KOVAČ", profile_named_at="2026-11-20")
    add(world, "third", name="Ana Kovačič")
    add(world, "nameless")
    add(world, "blank", name=" ")
    add(world, "blank too", name="  ")

    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 1
    (row,) = shown(world)
    assert (row["reason"], {row["contact_id"], row["other_contact_id"]}) == (
        "same_name",
        {one, other},
    )
    assert {row["name"], row["other_name"]} == {"Ana  Kovač", " ANA KOVAČ"}
    assert row["evidence"]["name"] in {"Ana  Kovač", " ANA KOVAČ"}


def test_phone_and_email_that_another_has_are_suggested_with_their_owner(world: World) -> None:
    owner = add(world, "owner", phone="+5511987654321", email="Ana@Kovac.example")
    # as a customer writes it in the portal; the phone without its ninth digit
    writer = add(
        world, "writer", known=False, phone="+551187654321", email="ana@kovac.example", name="W"
    )
    # neither of these two is known by what they say
    first = add(world, "first", known=False, email="info@kovac.example")
    second = add(world, "second", known=False, email="INFO@kovac.example")

    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 3
    assert pairs(world) == {
        ("same_phone", frozenset((owner, writer))),
        ("same_email", frozenset((owner, writer))),
        ("same_email", frozenset((first, second))),
    }
    known_of = {(row["reason"], row["evidence"]["known_of"]) for row in shown(world)}
    assert known_of == {
        ("same_phone", str(owner)),
        ("same_email", str(owner)),
        ("same_email", None),
    }


def test_what_many_share_is_no_evidence(world: World) -> None:
    for i in range(3):
        add(world, f"ana {i}", name="Ana")
    for i in range(4):
        add(world, f"reception {i}", name="Reception", known=False, phone="+38615551000")

    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 3
    assert {row["name"] for row in shown(world)} == {"Ana"}


def test_looking_again_finds_only_what_is_new(world: World) -> None:
    add(world, "one", name="Ana")
    add(world, "other", name="ana")
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 1
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 0

    (suggestion,) = shown(world)
    call(world, "andrej", "dismiss_suggestion", suggestion["id"])
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 0
    assert shown(world) == []


def test_two_who_look_at_once_note_each_pair_once(world: World) -> None:
    for i in range(40):
        add(world, f"one {i}", name=f"Ana {i}")
        add(world, f"other {i}", name=f"ana {i}")
    with ThreadPoolExecutor(3) as pool:
        added = list(
            pool.map(lambda _: call(world, "andrej", "suggest_duplicates", ALPINE), range(3))
        )
    assert sum(added) == len(shown(world)) == 40


def test_a_call_adds_a_bounded_number_and_the_best_evidence_first(world: World) -> None:
    world.owner.execute(
        "insert into public.contacts (account_id, name)"
        " select %s, 'Ana ' || i / 2 from generate_series(0, 1019) i",
        [ALPINE],
    )
    add(world, "one", known=False, phone="+38615551000")
    add(world, "other", known=False, phone="+38615551000")

    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 500
    assert "same_phone" in {row["reason"] for row in shown(world)}
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 11
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 0


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("vera", ALPINE),
        ("ana", ALPINE),
        ("andrej", BAY),
        ("cilka", ALPINE),
        ("stranger", ALPINE),
        ("andrej", None),
    ],
)
def test_only_those_who_write_an_account_look_for_duplicates(
    world: World, user: str, account: UUID
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        call(world, user, "suggest_duplicates", account)


def test_contacts_of_another_business_are_no_evidence(world: World) -> None:
    add(world, "carlos too", name="carlos", known=False, phone="+5511987654321")
    assert call(world, "andrej", "suggest_duplicates", ALPINE) == 0
    assert call(world, "ana", "suggest_duplicates", BAY) == 0


def test_suggestions_are_read_by_staff_and_decided_by_those_who_write(world: World) -> None:
    suggestion = suggest(world, CILKA, add(world, "one"))

    assert len(shown(world, "vera")) == 1
    for user in ("ana", "cilka", "stranger"):
        assert shown(world, user) == []
    refusals = {"vera": "42501", "ana": "PT404", "cilka": "PT404", "stranger": "PT404"}
    for user, code in refusals.items():
        with pytest.raises(psycopg.Error) as refusal:
            call(world, user, "dismiss_suggestion", suggestion)
        assert refusal.value.sqlstate == code
    for user in ("olivia", "ana", "cilka"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            world.acting_as(user) as connection,
        ):
            connection.execute("update public.contact_suggestions set status = 'dismissed'")
    assert len(shown(world)) == 1


def test_dismissing_says_it_of_the_pair_and_remembers_who(world: World) -> None:
    one, other = add(world, "one"), add(world, "other")
    suggestion = suggest(world, one, other)
    suggest(world, one, other, "same_name")
    elsewhere = suggest(world, one, CILKA)
    call(world, "andrej", "dismiss_suggestion", suggestion)
    call(world, "adam", "dismiss_suggestion", suggestion)

    assert [row["id"] for row in shown(world)] == [elsewhere]
    decided = world.rows(
        "select distinct decided_by, decided_at is not null as timed"
        " from public.contact_suggestions where status = 'dismissed'"
    )
    assert decided == [{"decided_by": seed_uuid("andrej"), "timed": True}]


def test_merging_settles_the_pair_and_undoing_asks_again(world: World) -> None:
    one, other = add(world, "one", name="One"), add(world, "other", name="Other")
    suggestion = suggest(world, one, other)
    merge_id = call(world, "andrej", "merge_contacts", one, other)["merge_id"]

    assert shown(world) == []
    (row,) = world.rows("select status, decided_by from public.contact_suggestions")
    assert row == {"status": "merged", "decided_by": seed_uuid("andrej")}
    with pytest.raises(psycopg.Error) as refusal:
        call(world, "andrej", "dismiss_suggestion", suggestion)
    assert refusal.value.sqlstate == "PT409"

    call(world, "andrej", "undo_merge", merge_id)
    assert [row["id"] for row in shown(world)] == [suggestion]


def test_what_was_suspected_of_the_dropped_one_now_holds_of_the_kept_one(world: World) -> None:
    kept, dropped, third = (add(world, label) for label in ("kept", "dropped", "third"))
    gone = add(world, "gone")
    suggest(world, dropped, third, "same_row")
    suggest(world, dropped, gone, "same_row")
    ruled_out = suggest(world, dropped, CILKA, "same_name")
    call(world, "andrej", "dismiss_suggestion", ruled_out)
    call(world, "andrej", "merge_contacts", third, gone)
    before = world.rows("select * from public.contact_suggestions order by id")

    merge_id = call(world, "andrej", "merge_contacts", kept, dropped)["merge_id"]
    assert pairs(world) == {("same_row", frozenset((kept, third)))}
    # what was ruled out of one is ruled out of both
    suggest(world, kept, CILKA, "same_name")
    assert pairs(world) == {("same_row", frozenset((kept, third)))}

    call(world, "andrej", "undo_merge", merge_id)
    assert world.rows("select * from public.contact_suggestions order by id") == before


def test_what_was_decided_since_outlasts_the_undoing(world: World) -> None:
    kept, dropped, third = (add(world, label) for label in ("kept", "dropped", "third"))
    suggest(world, dropped, third)
    merge_id = call(world, "andrej", "merge_contacts", kept, dropped)["merge_id"]
    (passed_on,) = shown(world)
    call(world, "andrej", "dismiss_suggestion", passed_on["id"])
    call(world, "andrej", "undo_merge", merge_id)

    assert pairs(world) == {("same_row", frozenset((dropped, third)))}
    assert (
        world.value(
            "select status from public.contact_suggestions where id = %s", [passed_on["id"]]
        )
        == "dismissed"
    )


def test_suggestions_about_a_deleted_contact_go_with_it(world: World) -> None:
    one, other = add(world, "one"), add(world, "other")
    suggest(world, one, other)
    elsewhere = suggest(world, other, CILKA)
    with world.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [one])

    assert world.rows("select id from public.contact_suggestions") == [{"id": elsewhere}]


def test_looking_for_duplicates_while_others_merge_ends_well(world: World) -> None:
    couples = [
        tuple(add(world, f"{side} {i}", name=f"Ana {i}") for side in ("left", "right"))
        for i in range(20)
    ]

    def merge_all() -> None:
        for left, right in couples:
            call(world, "andrej", "merge_contacts", left, right)

    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(merge_all),
            *(pool.submit(call, world, "andrej", "suggest_duplicates", ALPINE) for _ in range(6)),
        ]
    for job in running:
        job.result()

    # a pair that was noted while it was merged is not shown
    assert shown(world) == []
