"""Points: lines that are added and never changed, whose sum never falls below zero."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.asking import Refusal, Row, ask, at_once, refusal
from tests.sql.outbound import backend
from tests.sql.portal import CARLOS, CILKA, MERGED, add_contact, add_points, total
from tests.world import ALPINE, World, seed_uuid

REDEEM = "insert into public.loyalty_transactions (customer_id, type, points) values (%s, %s, %s)"


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej"])
def test_staff_give_points_and_the_customer_sees_the_total(world: World, user: str) -> None:
    earned = add_points(world, 100, user)
    bonus = add_points(world, 20, user, type="bonus")
    spent = add_points(world, -50, user)

    assert total(world) == 70
    lines = ask(world, "cilka", "select * from public.loyalty_transactions")
    assert sorted(line["points"] for line in lines) == [-50, 20, 100]
    assert {line["id"] for line in lines} == {earned["id"], bonus["id"], spent["id"]}
    assert ask(world, "cilka", "select points from public.loyalty_balances") == [{"points": 70}]


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_who_may_not_give_points_gives_none(world: World, user: str, code: str) -> None:
    assert refusal(world, user, REDEEM, CILKA, "earned", 5).code == code
    assert total(world) == 0


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_see_no_points(world: World, user: str) -> None:
    add_points(world, 100)

    assert ask(world, user, "select * from public.loyalty_transactions") == []
    assert ask(world, user, "select * from public.loyalty_balances") == []


@pytest.mark.parametrize(
    ("type_", "points"), [("earned", -1), ("bonus", 0), ("redeemed", 1), ("gift", 1)]
)
def test_the_sign_is_that_of_the_type(world: World, type_: str, points: int) -> None:
    add_points(world, 100)

    # the types that take are settled before the check is asked
    assert refusal(world, "andrej", REDEEM, CILKA, type_, points).code == "PT422"
    assert total(world) == 100


@pytest.mark.parametrize("never", ["infinity", "20261-02-01", "0044-03-15 BC"])
def test_points_expire_on_a_day_that_clients_can_read(world: World, never: str) -> None:
    with pytest.raises(psycopg.Error, match="between the years 1 and 9999"):
        add_points(world, 100, expires_on=never)


def test_what_expires_only_the_schedule_says(world: World) -> None:
    add_points(world, 100)

    assert refusal(world, "olivia", REDEEM, CILKA, "expired", -5).code == "42501"
    assert total(world) == 100


# Never below zero


def test_nobody_redeems_what_is_not_there(world: World) -> None:
    add_points(world, 100)

    refused = refusal(world, "andrej", REDEEM, CILKA, "redeemed", -101)
    assert (refused.code, refused.detail) == ("PT409", "field: points; points: 100; wanted: 101")
    assert refused.message == "The customer has 100 points; 101 can't be redeemed."
    assert refused.hint == "Redeem at most 100 points."
    assert total(world) == 100


def test_of_many_who_redeem_at_once_those_do_for_whom_it_lasts(world: World) -> None:
    add_points(world, 60)
    add_points(world, 40)

    def redeem() -> Row:
        return add_points(world, -30)

    done = at_once(*[redeem] * 8)

    assert [one.code for one in done if isinstance(one, Refusal)] == ["PT409"] * 5
    assert total(world) == 10


def test_first_points_at_once_are_all_counted(world: World) -> None:
    """There is no balance yet for anybody to wait for."""
    at_once(*[lambda: add_points(world, 10)] * 6)

    assert total(world) == 60


def test_lines_of_many_customers_wait_for_nobody_who_may_wait_for_them(world: World) -> None:
    """Merges, imports and messages lock contacts by their ids."""
    first, last = sorted(add_contact(world, name) for name in ("nina", "mina"))
    bulk = (
        "insert into public.loyalty_transactions (customer_id, type, points)"
        " select c, 'earned', 1 from unnest(%s::uuid[]) c"
    )
    with (
        world.connect() as other,
        other.transaction(),
        world.acting_as("andrej") as connection,
    ):
        other.execute("select from public.contacts where id = %s for no key update", [first])
        connection.execute("set local statement_timeout = '5s'")
        with pytest.raises(psycopg.Error) as refused, connection.transaction():
            connection.execute(bulk, [[last, first]])
        assert refused.value.sqlstate == "PT503"
        # which it can now
        other.execute("select from public.contacts where id = %s for no key update nowait", [last])

    ask(world, "andrej", bulk, [last, first])
    ask(world, "andrej", bulk, [first, last])
    assert [total(world, first), total(world, last)] == [2, 2]


def test_what_is_given_in_a_statement_can_be_redeemed_in_it(world: World) -> None:
    values = "(%(c)s, 'redeemed', -7), (%(c)s, 'earned', 10), (%(c)s, 'redeemed', -2)"
    with world.acting_as("andrej") as connection:
        connection.execute(
            "insert into public.loyalty_transactions (customer_id, type, points)"
            f" values {values}".encode(),
            {"c": CILKA},
        )
    assert total(world) == 1


def test_a_repeated_line_is_counted_once(world: World) -> None:
    line = seed_uuid("line")
    add_points(world, 10, id=line)

    query = REDEEM.replace("(customer_id", "(id, customer_id").replace("(%s", "(%s, %s")
    assert refusal(world, "andrej", query, line, CILKA, "earned", 10).code == "PT409"
    assert total(world) == 10


# Never changed


@pytest.mark.parametrize("user", ["olivia", "cilka"])
def test_no_client_changes_a_line_or_a_total(world: World, user: str) -> None:
    add_points(world, 10)

    for table in ("loyalty_transactions", "loyalty_balances"):
        for query in (f"update public.{table} set points = 99", f"delete from public.{table}"):
            assert refusal(world, user, query).code == "42501"


@pytest.mark.parametrize(
    "query",
    [
        "update public.loyalty_transactions set points = 99",
        "update public.loyalty_transactions set description = 'x'",
        "update public.loyalty_transactions set expires_on = now()",
        "delete from public.loyalty_transactions",
    ],
)
def test_nor_does_anybody_else(world: World, query: str) -> None:
    add_points(world, 10)

    with pytest.raises(psycopg.errors.CheckViolation, match="can't be changed or deleted"):
        world.owner.execute(query.encode())


def test_lines_go_with_their_customer(world: World) -> None:
    add_points(world, 10)
    world.owner.execute("delete from public.contacts where id = %s", [CILKA])

    assert world.value("select count(*) from public.loyalty_transactions") == 0
    assert world.value("select count(*) from private.loyalty_lots") == 0


# Time


def test_what_nobody_redeemed_expires(world: World) -> None:
    """The first to expire is redeemed first, whenever it was earned."""
    add_points(world, 50)
    lasting = add_points(world, 100, expires_on="2100-01-01")["id"]
    add_points(world, -60)
    assert total(world) == 90
    over(world, lasting)

    assert backend(world, "expire_points()") == 1
    assert total(world) == 50
    (line,) = world.rows("select * from public.loyalty_transactions where type = 'expired'")
    assert (line["customer_id"], line["points"]) == (CILKA, -40)
    assert backend(world, "expire_points()") == 0


def over(world: World, line: object) -> None:
    """Lets a lot's time be over; the line itself can't be changed."""
    world.owner.execute(
        "update private.loyalty_lots set expires_on = now() - interval '1 day'"
        " where transaction_id = %s",
        [line],
    )


def test_points_whose_time_is_over_are_not_redeemed(world: World) -> None:
    over(world, add_points(world, 100)["id"])
    add_points(world, 10)

    assert refusal(world, "andrej", REDEEM, CILKA, "redeemed", -11).code == "PT409"
    add_points(world, -10)
    assert backend(world, "expire_points()") == 1
    assert total(world) == 0


def test_points_that_are_earned_too_late_expire_at_the_next_run(world: World) -> None:
    add_points(world, 10, expires_on="2020-01-01")

    assert backend(world, "expire_points()") == 1
    assert total(world) == 0


def test_each_run_takes_so_many_customers(world: World) -> None:
    for name in ("nina", "oto", "pia"):
        add_points(world, 5, customer_id=add_contact(world, name), expires_on="2020-01-01")
    add_points(world, 5, "ana", customer_id=CARLOS, expires_on="2020-01-01")

    assert [backend(world, "expire_points(%s)", 3) for _ in range(3)] == [3, 1, 0]


def test_schedule_and_redemption_at_once_take_no_point_twice(world: World) -> None:
    for _ in range(5):
        over(world, add_points(world, 10)["id"])
        add_points(world, 10)

    def redeem() -> Any:
        return add_points(world, -25)

    at_once(redeem, lambda: backend(world, "expire_points()"), redeem, redeem)
    backend(world, "expire_points()")

    assert total(world) == 0


def test_points_of_a_deleted_contact_stay_as_they_are(world: World) -> None:
    add_points(world, 10, expires_on="2020-01-01")
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)

    assert backend(world, "expire_points()") == 0
    assert total(world) == 10


# What is told


def test_points_are_told_to_their_customer(world: World) -> None:
    world.forget_events()
    add_points(world, 10)

    told = [event for event in world.events() if event["kind"] == "customer"]
    assert [event["event"] for event in told] == ["loyalty_transactions.inserted"]
    assert told[0]["payload"]["record"]["points"] == 10


# Customers that are merged


def merge(world: World, nina: object) -> dict[str, Any]:
    with world.owner.transaction():
        world.owner.execute(MERGED.encode(), [CILKA, nina])
        moved: dict[str, Any] = world.value(
            "select private.move_customer_rows(%s, %s, %s)", [ALPINE, nina, CILKA]
        )
        world.owner.execute(
            "insert into public.contact_merges (account_id, kept_contact_id, dropped_contact_id,"
            " kept_before, dropped_before, kept_after, moved_identities, moved_conversations,"
            " kept_conversations, settled_suggestions, added_suggestions)"
            " values (%s, %s, %s, '{}', '{}', '{}', '[]', '{}', '{}', '{}', '{}')",
            [ALPINE, CILKA, nina],
        )
    return moved


def undo(world: World, nina: object, moved: dict[str, Any]) -> Any:
    return world.value(
        "select private.return_customer_rows(%s, %s, %s, %s)", [ALPINE, Jsonb(moved), CILKA, nina]
    )


def test_points_of_both_add_up_and_come_apart_again(world: World) -> None:
    nina = add_contact(world, "nina")
    add_points(world, 100, customer_id=nina)
    add_points(world, -30, customer_id=nina)
    add_points(world, 5)

    moved = merge(world, nina)
    assert (total(world), total(world, nina)) == (75, 0)
    add_points(world, 1)

    assert undo(world, nina, moved) == []
    assert (total(world), total(world, nina)) == (6, 70)


def test_points_that_were_spent_since_stay(world: World) -> None:
    """Or the kept customer's would fall below zero."""
    nina = add_contact(world, "nina")
    line = add_points(world, 100, customer_id=nina)["id"]
    moved = merge(world, nina)
    add_points(world, -60)

    assert undo(world, nina, moved) == [
        {
            "kind": "loyalty_transactions",
            "value": [str(line)],
            "reason": "spent_since",
            "contact_id": str(CILKA),
        }
    ]
    assert (total(world), total(world, nina)) == (40, 0)
