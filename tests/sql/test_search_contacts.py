"""Search: what finds a contact, in which order, by whom, and a page at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from tests.world import ALPINE, BAY, World, seed_uuid

PEOPLE: dict[str, dict[str, Any]] = {
    "ziga": {
        "name": "Žiga Čuden",
        "phone": "+38641222333",
        "email": "ziga.cuden@example.si",
        "tags": ["VIP", "first visit"],
    },
    "francois": {"name": "François O'Brien-Müller", "username": "frank_o"},
    "smith": {"name": "100% Smith", "email": "smith\\co@example.com", "tags": ["50%_off"]},
    # the second accent is a character of its own
    "jose": {"profile_name": "José  Nun\u0303ez", "phone": "+442079460958"},
    "renamed": {"name": "Zora", "profile_name": "Jutranja", "tags": ["Obročno"]},
    "nameless": {"phone": "+12125550100"},
}


def introduce(world: World) -> None:
    """Alpine knows these people beside Cilka, and Bay has a Žiga of its own."""
    world.owner.cursor().executemany(
        "insert into public.contacts"
        " (id, account_id, name, profile_name, profile_named_at, phone, email, username, tags)"
        " values (%s, %s, %s, %s::text, case when %s::text is not null then now() end,"
        " %s, %s, %s, %s)",
        [
            (
                seed_uuid(f"contact {key}"),
                BAY if key == "bay ziga" else ALPINE,
                person.get("name"),
                person.get("profile_name"),
                person.get("profile_name"),
                person.get("phone"),
                person.get("email"),
                person.get("username"),
                person.get("tags", []),
            )
            for key, person in (PEOPLE | {"bay ziga": PEOPLE["ziga"]}).items()
        ],
    )


@pytest.fixture
def changing(world: World) -> World:
    """A database for one test alone."""
    introduce(world)
    return world


@pytest.fixture(scope="module")
def known(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """A database that no test changes."""
    database = cluster.clone_database(world_template, "search")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        introduce(world)
        yield world
    cluster.drop_database(database.name)


# at both ends of the walks along the list, and of the list
RARE = [10000, 10998, 10999, 11000, 11001, 13998, 13999, 14000, 14001, 22999, 23000]
# often enough at the beginning that the walk goes on, and then not until the end
CLUSTERED = [*range(10000, 10020), *range(13990, 14010), *range(22990, 23001)]
# a walk for beginnings of words goes further
LATE = [10000, 13998, 13999, 14000, 14001, 23000]
# some of them beyond that walk by their place in the list
NAMES = [
    "anna qu", "qu", "Qaver", "Qenia qu", "qé", "zoe q@x.example", "zoe x@qu.example",
    "% off", "_x", "\\x", "zz \\"
]  # fmt: skip


@pytest.fixture(scope="module")
def crowded(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """Bay knows 13,001 guests by their numbers, some of them tagged, and Alpine some as well."""
    database = cluster.clone_database(world_template, "search_crowded")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            """
            insert into public.contacts (account_id, name, tags)
            select
                %s::uuid,
                'guest ' || n,
                array_remove(
                    array[
                        case when n = any (%s) then 'rare' end,
                        case when n = any (%s) then 'clustered' end,
                        case when n = any (%s) then 'xl' end
                    ],
                    null
                )
            from generate_series(10000, 23000) n
            union all
            select %s::uuid, 'guest ' || n, '{}' from generate_series(10000, 12000) n
            union all
            select %s::uuid, n, '{}' from unnest(%s::text[]) n
            """,
            (BAY, RARE, CLUSTERED, LATE, ALPINE, BAY, NAMES),
        )
        yield World(database, owner)
    cluster.drop_database(database.name)


def search(
    world: World, query: str | None, user: str = "andrej", account: UUID = ALPINE, **more: Any
) -> dict[str, Any]:
    arguments = {"account_id": account, "query": query} | more
    names = ", ".join(f"{name} => %({name})s" for name in arguments)
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.search_contacts({names})".encode(), arguments
        ).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def found(world: World, query: str | None, **more: Any) -> list[str]:
    """By the names of PEOPLE, in the order of the answer."""
    ids = {str(seed_uuid(f"contact {key}")): key for key in (*PEOPLE, "cilka", "bay ziga")}
    return [ids[contact["id"]] for contact in search(world, query, **more)["contacts"]]


def found_names(world: World, query: str) -> list[str]:
    """Of Bay's."""
    return [
        contact["name"] for contact in search(world, query, user="ana", account=BAY)["contacts"]
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ziga", ["ziga"]),
        ("ŽIGA", ["ziga"]),
        ("z\u030cIGA čud", ["ziga"]),
        ("cuden žiga", ["ziga"]),
        ("iga", ["ziga"]),
        ("muller", ["francois"]),
        ("o'brien", ["francois"]),
        ("nuñez josé", ["jose"]),
        ("frank_o", ["francois"]),
        ("@example.si", ["ziga"]),
        ("vip", ["ziga"]),
        ("visit vip", ["ziga"]),
        ("obrocno", ["renamed"]),
        ("zora", ["renamed"]),
        # what staff call them is shown in place of it
        ("jutranja", []),
        ("ziga smith", []),
        ("nobody", []),
    ],
)
def test_agent_finds_contacts_by_every_word_whatever_case_and_accents(
    known: World, query: str, expected: list[str]
) -> None:
    assert found(known, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("24/7", ["both", "tagged"]),
        ("2026-11", ["tagged"]),
        ("room 12-34", ["tagged"]),
        ("12.34", ["written"]),
        ("2026-11 room 24/7", ["tagged"]),
    ],
)
def test_what_looks_like_a_number_is_found_as_it_is_written(
    changing: World, query: str, expected: list[str]
) -> None:
    """Beside those whose phone has these digits, each once and in one order, page by page."""
    people: dict[str, tuple[str, str | None, list[str]]] = {
        "both": ("Anton", "+38640024700", ["24/7"]),
        "tagged": ("Room 12-34", None, ["24/7", "2026-11"]),
        "written": ("Written", None, ["12.34.56"]),
    }
    changing.owner.cursor().executemany(
        "insert into public.contacts (id, account_id, name, phone, tags)"
        " values (%s, %s, %s, %s, %s)",
        [(seed_uuid(f"contact {key}"), ALPINE, *person) for key, person in people.items()],
    )
    names = [people[key][0] for key in expected]
    met: list[str] = []
    cursor = None
    for _ in range(len(people) + 1):
        page = search(changing, query, cursor=cursor, page_size=1)
        met += [contact["name"] for contact in page["contacts"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert met == names


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("+386 41 222 333", ["ziga"]),
        ("041 222-333", ["ziga"]),
        ("(041) 222/333", ["ziga"]),
        ("0038641222333", ["ziga"]),
        ("222 333", ["ziga"]),
        ("+386", ["cilka", "ziga"]),
        ("+44 (0)20 7946 0958", ["jose"]),
        ("020 7946 0958", ["jose"]),
        ("2125550100", ["nameless"]),
        ("cuden 041222333", ["ziga"]),
        ("cuden 040111222", []),
        ("041 222 334", []),
    ],
)
def test_agent_finds_a_phone_number_in_any_spelling(
    known: World, query: str, expected: list[str]
) -> None:
    assert found(known, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("z", ["ziga", "renamed"]),
        ("cu", ["ziga"]),
        # in the middle of words alone
        ("ud", []),
        ("%", []),
        ("_", []),
        ("-", []),
    ],
)
def test_one_letter_or_two_are_the_beginning_of_a_word(
    known: World, query: str, expected: list[str]
) -> None:
    assert found(known, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("100%", ["smith"]),
        ("0%_off", ["smith"]),
        ("h\\co", ["smith"]),
        ("s%h", []),
        ("s_ith", []),
        ("%%%", []),
        ("___", []),
        ("\\\\\\", []),
        ("'; drop table contacts; --", []),
    ],
)
def test_wildcards_are_characters_like_others(
    known: World, query: str, expected: list[str]
) -> None:
    assert found(known, query) == expected


@pytest.mark.parametrize("query", ["", "   \t\n", None])
def test_empty_query_lists_all_by_what_is_shown_without_accents(
    known: World, query: str | None
) -> None:
    assert found(known, query) == [
        "smith", "cilka", "francois", "jose", "ziga", "renamed", "nameless",
    ]  # fmt: skip


def test_contacts_are_found_as_the_contacts_page_shows_them(known: World) -> None:
    with known.acting_as("andrej") as connection:
        shown = connection.execute(
            "select to_jsonb(v) from public.contacts_v2 v where id = %s",
            [seed_uuid("contact ziga")],
        ).fetchone()

    assert shown is not None
    assert search(known, "ziga") == {"contacts": [shown[0]], "cursor": None}


@pytest.mark.parametrize("page_size", [1, 2, 7, 8, 200])
def test_pages_bring_everybody_once_and_in_order(changing: World, page_size: int) -> None:
    # two who are told apart by their ids alone
    changing.owner.execute(
        "insert into public.contacts (id, account_id, name) values (%s, %s, 'žiga čuden')",
        (seed_uuid("contact bay ziga 2"), ALPINE),
    )
    everybody = [contact["id"] for contact in search(changing, "")["contacts"]]
    pages: list[list[str]] = []
    cursor = None
    while cursor or not pages:
        answer = search(changing, "", cursor=cursor, page_size=page_size)
        pages.append([contact["id"] for contact in answer["contacts"]])
        cursor = answer["cursor"]

    assert len(everybody) == 8
    assert [contact for page in pages for contact in page] == everybody
    assert [len(page) for page in pages[:-1]] == [page_size] * (len(pages) - 1)
    assert 1 <= len(pages[-1]) <= page_size


@pytest.mark.parametrize("page_size", [1, 3, 50, 80])
@pytest.mark.parametrize(
    ("query", "guests"),
    [
        ("rare", RARE),
        ("clustered", CLUSTERED),
        ("guest rare", RARE),
        ("xl", LATE),
        ("x g", LATE),
        ("cl", CLUSTERED),
    ],
)
def test_a_word_is_found_to_the_end_of_a_long_list(
    crowded: World, query: str, guests: list[int], page_size: int
) -> None:
    """The beginning of the list is walked through, the rest looked up: neither twice."""
    names: list[str] = []
    cursor = None
    while cursor or not names:
        answer = search(crowded, query, user="ana", account=BAY, cursor=cursor, page_size=page_size)
        names += [contact["name"] for contact in answer["contacts"]]
        cursor = answer["cursor"]

    assert names == [f"guest {n}" for n in guests]


@pytest.mark.parametrize("page_size", [1, 3, 50])
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q", ["anna qu", "Qaver", "qé", "Qenia qu", "qu", "zoe q@x.example"]),
        ("QU", ["anna qu", "Qenia qu", "qu"]),
        ("q z", ["zoe q@x.example"]),
        ("%", ["% off"]),
        ("_", ["_x"]),
        ("\\", ["\\x", "zz \\"]),
        ("qx", []),
    ],
)
def test_a_beginning_is_found_in_names_and_in_all_other_words(
    crowded: World, query: str, names: list[str], page_size: int
) -> None:
    """Contacts that are sorted by it stand together, the others anywhere in the list."""
    found: list[str] = []
    cursor, is_first = None, True
    while cursor or is_first:
        answer = search(crowded, query, user="ana", account=BAY, cursor=cursor, page_size=page_size)
        found += [contact["name"] for contact in answer["contacts"]]
        cursor, is_first = answer["cursor"], False

    assert found == names


def test_a_word_of_few_is_found_among_many(crowded: World) -> None:
    assert found_names(crowded, "guest rare 2300") == ["guest 23000"]
    assert found_names(crowded, "rare nobody") == []
    # of another account, which has guests as well
    assert found(crowded, "rare") == []


def test_a_contact_of_very_many_words_is_found_by_the_beginning_of_each(changing: World) -> None:
    letters = "abcdefghijklmnopqrst"
    words = [a + b for a in letters for b in letters[:15]]
    changing.owner.execute(
        "update public.contacts set tags = %s where id = %s",
        ([" ".join(words[n : n + 3]) for n in range(0, 300, 3)], seed_uuid("contact ziga")),
    )

    assert changing.value(
        "select beginnings is null from private.contact_search where contact_id = %s",
        [seed_uuid("contact ziga")],
    )
    for query in ("aa", "to", "kb zi", "t"):
        assert "ziga" in found(changing, query)
    assert found(changing, "tp") == []
    assert found(changing, "to zo") == []


def test_a_page_goes_on_where_a_contact_was_that_is_gone(changing: World) -> None:
    first = search(changing, "", page_size=3)
    last = first["contacts"][-1]["id"]
    with changing.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [last])

    assert found(changing, "", cursor=first["cursor"]) == ["jose", "ziga", "renamed", "nameless"]


def test_search_keeps_in_step_with_contacts(changing: World) -> None:
    ziga = seed_uuid("contact ziga")
    with changing.acting_as("andrej") as connection:
        connection.execute(
            "update public.contacts_v2 set name = 'Tjaša', phone = '+38670123456',"
            " tags = '{calm}' where id = %s",
            [ziga],
        )
    for query in ("ziga cuden vip", "041222333"):
        assert found(changing, query) == []
    for query in ("tjasa", "070123456", "calm", "cuden@example"):
        assert found(changing, query) == ["ziga"]
    assert changing.value(
        "select sort_name from private.contact_search where contact_id = %s", [ziga]
    )

    with changing.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [ziga])
    assert found(changing, "tjasa") == []
    assert not changing.rows("select from private.contact_search where contact_id = %s", [ziga])


def test_what_is_not_searched_writes_nothing(changing: World) -> None:
    before = changing.rows(
        "select xmin::text, ctid::text from private.contact_search order by 1, 2"
    )
    changing.owner.execute("update public.contacts set notes = 'new', status = 'pending'")

    assert before == changing.rows(
        "select xmin::text, ctid::text from private.contact_search order by 1, 2"
    )


# Who may


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej", "vera"])
def test_everybody_who_works_there_searches(known: World, user: str) -> None:
    assert found(known, "ziga", user=user) == ["ziga"]


def test_agent_of_another_account_finds_her_own(known: World) -> None:
    assert found(known, "ziga", user="ana", account=BAY) == ["bay ziga"]


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("ana", ALPINE),
        ("andrej", BAY),
        ("cilka", ALPINE),
        ("stranger", ALPINE),
        ("andrej", uuid4()),
        ("andrej", None),
    ],
)
def test_others_search_an_account_that_does_not_exist(
    known: World, user: str, account: UUID
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        search(known, "ziga", user=user, account=account)

    assert refused.value.sqlstate == "PT404"
    assert refused.value.diag.message_detail == "field: account_id"


def test_ids_are_found_by_members_alone(known: World) -> None:
    """The half that sees past row level security checks the caller itself."""
    with known.acting_as("ana") as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(
            "select * from private.search_page(%s, '{}', '', %s, 10)", [ALPINE, UUID(int=0)]
        )
    assert refused.value.sqlstate == "PT404"


@pytest.mark.parametrize("role", ["anon", "service_role"])
def test_the_signed_out_do_not_search(known: World, role: str) -> None:
    with known.acting(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select public.search_contacts(%s, '')", [ALPINE])


@pytest.mark.parametrize("user", ["olivia", "cilka"])
def test_nobody_reads_what_is_searched(known: World, user: str) -> None:
    with known.acting_as(user) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select from private.contact_search")


# What is refused


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "not base64!",
        "AAAA",
        "/w==",
        base64.b64encode(b'{"name": "\\u0000", "id": null}').decode(),
        encoded([]),
        encoded("text"),
        encoded({"name": "a"}),
        encoded({"name": 1, "id": str(UUID(int=0))}),
        encoded({"name": "a", "id": "1"}),
    ],
)
def test_a_cursor_that_is_none_is_refused(known: World, cursor: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        search(known, "", cursor=cursor)

    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == "field: cursor"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"query": "a" * 201}, "query"),
        ({"query": "", "page_size": 0}, "page_size"),
        ({"query": "", "page_size": 201}, "page_size"),
        ({"query": "", "page_size": None}, "page_size"),
    ],
)
def test_too_much_is_refused(known: World, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        search(known, **arguments)

    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {field}"


def test_a_long_query_of_short_words_is_answered(known: World) -> None:
    assert found(known, "z " * 100) == ["ziga", "renamed"]
