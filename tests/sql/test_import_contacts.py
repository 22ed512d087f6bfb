"""Contacts from a file: each row for itself, the same file twice changes nothing."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from rapport.phone import to_e164
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

ACCOUNT = "695a15a5c526dbe7c085ece2"
CILKA = {"id": str(seed_uuid("contact cilka")), "phone": "+38640111222"}
NIKA = {
    "name": "Nika",
    "phone": "+38631222333",
    "email": "nika@example.si",
    "username": "nika",
    "tags": ["vip", "boat"],
    "notes": "Rings twice.",
    "conversation_status": "pending",
}

Row = dict[str, Any]


def import_contacts(
    world: World, *contacts: Row, account: str = ACCOUNT, dry_run: bool = False
) -> list[Row]:
    with world.acting("service_role") as connection:
        answer = connection.execute(
            "select backend.import_contacts(%s, %s, %s)",
            [account, json.dumps(contacts), dry_run],
        ).fetchone()
    assert answer is not None
    results: list[Row] = answer[0]
    assert [result["row"] for result in results] == list(range(1, len(contacts) + 1))
    return results


def outcomes(results: list[Row]) -> list[str]:
    return [result["outcome"] for result in results]


def refusal(world: World, row: Row) -> tuple[str | None, str]:
    [result] = import_contacts(world, row)
    assert result["outcome"] == "refused"
    assert result["contact_id"] is None
    return result["field"], result["reason"]


def page_shows(world: World, contact_id: object) -> Row:
    [row] = world.rows("select * from public.contacts_v2 where id = %s", [contact_id])
    return row


def everything(world: World) -> dict[str, list[Row]]:
    """What an import could write to."""
    tables = (
        "public.contacts",
        "public.contact_identities",
        "public.contact_suggestions",
        "public.conversations",
        "public.customers",
        "private.changes",
        "realtime.messages",
    )
    return {
        table: world.rows(f"select to_jsonb(t) as row from {table} t order by 1")
        for table in tables
    }


def waits(world: World) -> bool:
    """Whether a session waits for another's transaction."""
    return bool(
        world.value(
            "select count(*) from pg_locks where not granted"
            " and locktype = 'transactionid'"
            " and pid in (select pid from pg_stat_activity where datname = current_database())"
        )
    )


def test_new_row_is_a_contact_with_all_that_it_says(world: World) -> None:
    [result] = import_contacts(world, NIKA)

    assert result["outcome"] == "created"
    shown = page_shows(world, result["contact_id"])
    assert {field: shown[field] for field in NIKA} == NIKA
    assert shown["account_id"] == ALPINE
    assert world.rows(
        "select kind from public.contact_identities where contact_id = %s order by kind",
        [result["contact_id"]],
    ) == [{"kind": "email"}, {"kind": "phone"}, {"kind": "username"}]


def test_same_rows_again_change_nothing(world: World) -> None:
    rows = [NIKA, {"phone": "+38631222444", "tags": ["vip"]}, CILKA | {"name": "Cilka Novak"}]
    assert outcomes(import_contacts(world, *rows)) == ["created", "created", "updated"]
    before = everything(world)

    assert outcomes(import_contacts(world, *rows)) == ["unchanged"] * 3

    assert everything(world) == before


@pytest.mark.parametrize("key", ["id", "phone", "email", "username"])
def test_contact_is_known_by_any_of_its_keys(world: World, key: str) -> None:
    [made] = import_contacts(world, NIKA)
    keys = NIKA | {"id": made["contact_id"], "email": "NIKA@example.si", "username": "Nika"}

    [result] = import_contacts(world, {key: keys[key], "notes": "Rings once."})

    assert (result["outcome"], result["contact_id"]) == ("updated", made["contact_id"])
    assert page_shows(world, made["contact_id"])["notes"] == "Rings once."


def test_what_a_row_does_not_say_stays(world: World) -> None:
    [made] = import_contacts(world, NIKA)

    import_contacts(world, {"phone": NIKA["phone"], "name": "", "email": None, "notes": " "})

    shown = page_shows(world, made["contact_id"])
    assert {field: shown[field] for field in NIKA} == NIKA


def test_tags_are_added_to_those_that_are_there(world: World) -> None:
    [made] = import_contacts(world, NIKA)
    [again] = import_contacts(world, {"phone": NIKA["phone"], "tags": ["new", "vip"]})

    assert again["outcome"] == "updated"
    assert page_shows(world, made["contact_id"])["tags"] == ["vip", "boat", "new"]


def test_status_goes_to_the_current_conversation(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640111222"))

    assert outcomes(import_contacts(world, CILKA | {"conversation_status": "closed"})) == [
        "updated"
    ]

    assert world.value("select status from public.conversations") == "closed"
    assert world.value("select status from public.contacts where name = 'cilka'") == "open"


def test_name_of_the_profile_is_not_written_down(world: World) -> None:
    """What an export shows is unchanged when it comes back."""
    world.ingest(text_message("wamid.1", profile_name=" Nejc "))

    [result] = import_contacts(world, {"phone": "+38640999888", "name": "Nejc"})

    assert result["outcome"] == "unchanged"
    assert world.value("select name from public.contacts where phone = '+38640999888'") is None


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"phone": "040 111 333"}, "phone", "not a phone number"),
        ({"email": "nika"}, "email", "not an email"),
        ({"username": "n ka"}, "username", "not a username"),
        ({"phone": "+38631222333", "name": "n" * 201}, "name", "200 characters"),
        ({"phone": "+38631222333", "notes": "n" * 20001}, "notes", "20,000 characters"),
        ({"phone": "+38631222333", "tags": ["t" * 101]}, "tags", "100 tags"),
        ({"phone": "+38631222333", "tags": "vip"}, "tags", "a list of texts"),
        ({"phone": "+38631222333", "conversation_status": "Open"}, "conversation_status", "Known"),
        ({"phone": 31222333}, "phone", "is a text"),
        ({"id": "7"}, "id", "not an id"),
        ({"id": str(uuid4())}, "id", "no contact with this id"),
        ({"phone": "+38631222333", "shoe_size": "44"}, "shoe_size", "not written here"),
        ({"name": "Nika"}, "phone", "no phone, email, username or id"),
        ({}, "phone", "no phone, email, username or id"),
    ],
)
def test_refused_row_tells_field_and_reason(
    world: World, row: Row, field: str, reason: str
) -> None:
    before = everything(world)

    told_field, told_reason = refusal(world, row)

    assert told_field == field
    assert reason in told_reason
    assert everything(world) == before


def test_good_rows_go_in_beside_refused_ones(world: World) -> None:
    results = import_contacts(world, {"phone": "1"}, NIKA, {"email": "x"}, CILKA)

    assert outcomes(results) == ["refused", "created", "refused", "unchanged"]
    assert world.value("select count(*) from public.contacts where account_id = %s", [ALPINE]) == 2


def test_row_of_two_contacts_is_left_for_somebody_who_knows(world: World) -> None:
    results = import_contacts(world, {"email": "cilka@example.si", "name": "C."})
    other = results[0]["contact_id"]
    contacts = everything(world)["public.contacts"]
    row = {"phone": CILKA["phone"], "email": "cilka@example.si", "notes": "private"}

    [result] = import_contacts(world, row)

    assert result["outcome"] == "ambiguous"
    assert CILKA["id"] in result["reason"]
    assert other in result["reason"]
    assert everything(world)["public.contacts"] == contacts
    [suggestion] = world.rows("select * from public.contact_suggestions")
    assert {str(suggestion["contact_id"]), str(suggestion["other_contact_id"])} == {
        CILKA["id"],
        other,
    }
    assert suggestion["reason"] == "same_row"
    assert suggestion["evidence"] == {"phone": CILKA["phone"], "email": "cilka@example.si"}

    before = everything(world)
    assert outcomes(import_contacts(world, row)) == ["ambiguous"]
    assert everything(world) == before


def test_id_of_one_and_phone_of_another_are_ambiguous(world: World) -> None:
    [made] = import_contacts(world, NIKA)

    assert outcomes(
        import_contacts(world, {"id": made["contact_id"], "phone": CILKA["phone"]})
    ) == ["ambiguous"]
    assert page_shows(world, made["contact_id"])["phone"] == NIKA["phone"]


def test_id_of_a_merged_contact_leads_where_it_went(world: World) -> None:
    [made] = import_contacts(world, NIKA)
    gone = uuid4()
    world.owner.execute(
        "insert into public.contacts (id, account_id, deleted_at, merged_into)"
        " values (%s, %s, now(), %s)",
        [gone, ALPINE, made["contact_id"]],
    )

    [result] = import_contacts(world, {"id": str(gone), "name": "Nika K."})

    assert (result["outcome"], result["contact_id"]) == ("updated", made["contact_id"])


def test_id_of_a_contact_that_was_merged_many_times_still_leads_there(world: World) -> None:
    made = import_contacts(world, *({"email": f"{number}@example.si"} for number in range(13)))
    ids = [row["contact_id"] for row in made]
    with world.acting_as("andrej") as andrej:
        for drop, keep in pairwise(ids):
            andrej.execute("select public.merge_contacts(%s, %s)", [keep, drop])

    [result] = import_contacts(world, {"id": ids[0], "notes": "Rings."})

    assert (result["outcome"], result["contact_id"]) == ("updated", ids[-1])


def test_deleted_contact_does_not_come_back_by_its_id(world: World) -> None:
    with world.acting_as("andrej") as andrej:
        andrej.execute("delete from public.contacts_v2 where id = %s", [CILKA["id"]])

    field, reason = refusal(world, {"id": CILKA["id"], "name": "Cilka"})

    assert field == "id"
    assert "any more" in reason


def test_dry_run_tells_what_would_happen_and_writes_nothing(world: World) -> None:
    import_contacts(world, {"email": "cilka@example.si"})
    rows: list[Row] = [
        NIKA,
        # the contact of the row before
        {"email": NIKA["email"], "notes": "Rings once."},
        CILKA,
        CILKA | {"email": "cilka@example.si"},
        {"phone": "1"},
    ]
    before = everything(world)

    trial = import_contacts(world, *rows, dry_run=True)

    assert everything(world) == before
    assert outcomes(trial) == outcomes(import_contacts(world, *rows))
    assert trial[0]["contact_id"] is None
    assert trial[2]["contact_id"] == CILKA["id"]


def test_dry_run_tells_what_of_each_contact_would_change(world: World) -> None:
    [made] = import_contacts(world, NIKA)
    row = {
        "phone": NIKA["phone"],
        "name": "Nika K.",
        "email": NIKA["email"],
        "tags": ["vip", "new"],
        "notes": "Rings once.",
        "conversation_status": "closed",
    }
    new = {"phone": "+38631222444", "name": "Ana", "conversation_status": "closed"}

    updated, created, unchanged, refused = import_contacts(
        world, row, new, {"id": made["contact_id"]}, {"phone": "1"}, dry_run=True
    )

    assert updated["changes"] == {
        "name": {"old": "Nika", "new": "Nika K."},
        "tags": {"old": ["vip", "boat"], "new": ["vip", "boat", "new"]},
        "notes": {"old": "Rings twice.", "new": "Rings once."},
        "conversation_status": {"old": "pending", "new": "closed"},
    }
    assert created["changes"] == {name: {"old": None, "new": text} for name, text in new.items()}
    assert (unchanged["changes"], refused["changes"]) == ({}, {})
    # and an import itself does not
    assert [one["changes"] for one in import_contacts(world, row, new)] == [{}, {}]


def test_a_number_in_another_spelling_is_no_news(world: World) -> None:
    """Replies go to the spelling that WhatsApp uses, and a file knows no better."""
    world.ingest(text_message("wamid.1", wa_id="5215512345678", profile_name=None))
    before = everything(world)

    assert outcomes(import_contacts(world, {"phone": "+525512345678"})) == ["unchanged"]

    assert everything(world) == before


@pytest.mark.parametrize(
    "written",
    [
        "+52 1 55 1234 5678",
        "+55 11 8765-4321",
        "+55 11 98765-4321",
        "+54 9 11 2345-6789",
        "+386 (0)40 111 222",
        "+39 06 12345678",
    ],
)
def test_the_reader_of_numbers_and_the_database_know_one_number(world: World, written: str) -> None:
    """In every spelling that WhatsApp, a file or staff have."""
    keys = [
        world.value("select private.match_key('phone', %s)", [number])
        for number in (to_e164(written), written.replace("(0)", ""))
    ]
    assert keys[0] == keys[1]


def contacts_of_ids(world: World, *ids: object, account: str = ACCOUNT) -> dict[str, Row]:
    with world.acting("service_role") as connection:
        answer = connection.execute(
            "select backend.contacts_of_ids(%s, %s::uuid[])", [account, [str(one) for one in ids]]
        ).fetchone()
    assert answer is not None
    contacts: dict[str, Row] = answer[0]
    return contacts


def test_contacts_are_shown_by_their_ids_as_they_are_exported(world: World) -> None:
    made = import_contacts(world, NIKA, {"email": "one@example.si"}, {"email": "two@example.si"})
    nika, one, two = (row["contact_id"] for row in made)
    with world.acting_as("andrej") as andrej:
        andrej.execute("select public.merge_contacts(%s, %s)", [two, one])
        andrej.execute("delete from public.contacts_v2 where id = %s", [CILKA["id"]])
    exported = {row["id"]: row for row in export(world)}

    shown = contacts_of_ids(world, nika, one, nika, CILKA["id"], uuid4())

    assert shown == {nika: exported[nika], one: exported[two]}
    # another account's are as if they were not there
    assert contacts_of_ids(world, nika, account="bay") == {}
    assert contacts_of_ids(world) == {}
    with pytest.raises(psycopg.Error, match="These are 201 ids"):
        contacts_of_ids(world, *(uuid4() for _ in range(201)))
    with pytest.raises(psycopg.Error) as refused:
        contacts_of_ids(world, nika, account="nobody")
    assert refused.value.sqlstate == "PT404"


def test_an_account_s_country_is_that_of_its_numbers(world: World) -> None:
    world.owner.execute("update public.accounts set country = 'SI' where id = %s", [ALPINE])
    with world.acting("service_role") as connection:
        for account, country in ((ACCOUNT, "SI"), ("bay", None)):
            asked = connection.execute("select backend.account_country(%s)", [account])
            assert asked.fetchone() == (country,)


def test_one_account_s_file_never_reaches_another_s_contacts(world: World) -> None:
    """Bay imports with Alpine's ids and numbers, and finds and changes none of Alpine's."""
    alpine = "select * from public.contacts where account_id = %s order by id"
    before = world.rows(alpine, [ALPINE])

    results = import_contacts(
        world, CILKA | {"name": "Ana's"}, {"phone": CILKA["phone"], "name": "Ana's"}, account="bay"
    )

    assert outcomes(results) == ["refused", "created"]
    assert results[0]["reason"].startswith("There is no contact with this id.")
    assert page_shows(world, results[1]["contact_id"])["account_id"] == BAY
    assert world.rows(alpine, [ALPINE]) == before


def test_account_that_is_not_there_is_refused(world: World) -> None:
    for call in ("import_contacts('nobody', '[]')", "export_contacts('nobody')"):
        with (
            pytest.raises(psycopg.Error) as caught,
            world.acting("service_role") as connection,
        ):
            connection.execute(f"select backend.{call}".encode())
        assert caught.value.sqlstate == "PT404"


@pytest.mark.parametrize("contacts", ["{}", "null", "[1]", "[[{}]]", json.dumps([{}] * 201)])
def test_what_is_no_list_of_at_most_200_contacts_is_refused(world: World, contacts: str) -> None:
    with pytest.raises(psycopg.Error) as caught, world.acting("service_role") as connection:
        connection.execute("select backend.import_contacts(%s, %s)", [ACCOUNT, contacts])
    assert caught.value.sqlstate == "PT422"


@pytest.mark.parametrize("user", ["olivia", "andrej", "vera", "ana", "cilka", "stranger"])
@pytest.mark.parametrize(
    "call",
    [
        "import_contacts('bay', '[]')",
        "export_contacts('bay')",
        "contacts_of_ids('bay', '{}')",
        "account_country('bay')",
        "prune()",
    ],
)
def test_people_do_not_call_what_is_for_functions(world: World, user: str, call: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), world.acting_as(user) as connection:
        connection.execute(f"select backend.{call}".encode())


def test_two_imports_of_one_file_at_once_make_each_contact_once(world: World) -> None:
    """The second is in the opposite order: it queues all the same, and neither gives way."""
    rows: list[Row] = [
        {"phone": f"+3864000{number:04}", "email": f"{number}@example.si", "name": f"{number}"}
        for number in range(60)
    ]
    gate = threading.Barrier(2)
    told: dict[int, list[str]] = {}

    def run(direction: int) -> None:
        gate.wait()
        told[direction] = outcomes(import_contacts(world, *rows[::direction]))

    threads = [threading.Thread(target=run, args=(direction,)) for direction in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(set(told[1] + told[-1])) == ["created", "unchanged"]
    assert told[1].count("created") + told[-1].count("created") == 60
    assert world.value("select count(*) from public.contacts where account_id = %s", [ALPINE]) == 61


def test_import_gives_way_to_whoever_holds_a_later_row(world: World) -> None:
    """Its first row waits, since it holds nothing yet; a later one does not wait long."""
    import_contacts(world, NIKA)
    changed = NIKA | {"name": "N."}
    with world.connect() as other, other.transaction():
        other.execute(
            "select from public.contacts where phone = %s for no key update", [NIKA["phone"]]
        )
        with pytest.raises(psycopg.Error) as caught:
            import_contacts(world, {"email": "a@example.si"}, changed)
    assert caught.value.sqlstate == "PT503"
    assert world.value("select count(*) from public.contacts where email = 'a@example.si'") == 0

    assert outcomes(import_contacts(world, {"email": "a@example.si"}, changed)) == [
        "created",
        "updated",
    ]


def test_tag_that_a_colleague_gives_meanwhile_stays(world: World) -> None:
    """The import has read the tags, waits for the colleague's write, and reads them again."""
    [made] = import_contacts(world, NIKA)
    result: list[Row] = []
    importer = threading.Thread(
        target=lambda: result.extend(
            import_contacts(world, {"phone": NIKA["phone"], "tags": ["imported"]})
        )
    )
    with world.connect() as other, other.transaction():
        other.execute(
            "update public.contacts set tags = tags || '{colleague}' where id = %s",
            [made["contact_id"]],
        )
        importer.start()
        while not waits(world):
            assert importer.is_alive()
    importer.join()

    assert outcomes(result) == ["updated"]
    assert page_shows(world, made["contact_id"])["tags"] == ["vip", "boat", "colleague", "imported"]


def export(world: World, after: str | None = None, page_size: int = 500) -> list[Row]:
    with world.acting("service_role") as connection:
        answer = connection.execute(
            "select backend.export_contacts(%s, %s, %s)", [ACCOUNT, after, page_size]
        ).fetchone()
    assert answer is not None
    rows: list[Row] = answer[0]
    return rows


def test_what_is_exported_is_unchanged_when_it_is_imported(world: World) -> None:
    import_contacts(world, NIKA, {"email": "only@example.si"})
    world.ingest(
        text_message("wamid.1", profile_name=" Nejc\n"),
        text_message("wamid.2", wa_id=None, user_id="SI.1", profile_name=None),
        text_message("wamid.3", wa_id="38640111222"),
    )
    world.owner.execute(
        "update public.contacts set tags = '{\" spaced \",\"\"}', notes = E'\\n n' where id = %s",
        [CILKA["id"]],
    )
    rows = export(world)
    before = everything(world)

    assert len(rows) == 5
    assert outcomes(import_contacts(world, *rows)) == ["unchanged"] * 5
    assert everything(world) == before


def write_profile(world: World, **fields: str) -> None:
    with world.acting_as("cilka") as cilka:
        for column, value in fields.items():
            cilka.execute(
                f"update public.my_profile set {column} = %s where id is not null".encode(), [value]
            )


def test_a_number_that_a_customer_wrote_of_another_is_unchanged_by_an_export(world: World) -> None:
    """Staff have said that the two are not one; the file knows nothing new of it."""
    import_contacts(world, NIKA)
    write_profile(world, phone=NIKA["phone"], email=NIKA["email"])
    with world.acting_as("andrej") as andrej:
        andrej.execute("select public.dismiss_suggestion(id) from public.open_suggestions")
    rows = export(world)
    before = everything(world)

    assert outcomes(import_contacts(world, *rows)) == ["unchanged"] * 2
    assert everything(world) == before
    [row] = [row for row in rows if row["id"] == CILKA["id"]]
    assert outcomes(import_contacts(world, row | {"notes": "Rings."})) == ["updated"]
    assert world.rows("select * from public.open_suggestions") == []


def test_a_file_is_no_proof_of_a_number_that_a_customer_wrote(world: World) -> None:
    """Otherwise a customer who writes a stranger's number would get the stranger's messages."""
    write_profile(world, phone="+38640999888", email="stranger@example.si")
    [row] = export(world)

    assert outcomes(import_contacts(world, row | {"notes": "Rings.", "tags": ["vip"]})) == [
        "updated"
    ]
    assert page_shows(world, CILKA["id"])["notes"] == "Rings."
    world.ingest(text_message("wamid.1", wa_id="38640999888"))
    assert world.rows(
        "select kind, match_key from public.contact_identities where contact_id = %s",
        [CILKA["id"]],
    ) == [{"kind": "phone", "match_key": "38640111222"}]
    assert (
        world.rows("select id from public.conversations where customer_id = %s", [CILKA["id"]])
        == []
    )


@pytest.mark.parametrize("known_by", ["id", "phone"])
def test_row_of_a_contact_that_is_being_merged_goes_to_the_kept_one(
    world: World, known_by: str
) -> None:
    [made] = import_contacts(world, NIKA)
    known = {"id": made["contact_id"], "phone": NIKA["phone"]}
    result: list[Row] = []
    importer = threading.Thread(
        target=lambda: result.extend(
            import_contacts(world, {known_by: known[known_by], "tags": ["imported"]})
        )
    )
    with world.acting_as("andrej") as andrej:
        andrej.execute("select public.merge_contacts(%s, %s)", [CILKA["id"], made["contact_id"]])
        importer.start()
        while not waits(world):
            assert importer.is_alive()
    importer.join()

    assert [(row["outcome"], row["contact_id"]) for row in result] == [("updated", CILKA["id"])]
    assert "imported" in page_shows(world, CILKA["id"])["tags"]


def test_number_that_changes_meanwhile_is_looked_at_again(world: World) -> None:
    """What was there already when it was read is news once a colleague has taken it away."""
    [made] = import_contacts(world, NIKA)
    result: list[Row] = []
    row = {"id": made["contact_id"], "phone": NIKA["phone"], "notes": "Rings."}
    importer = threading.Thread(target=lambda: result.extend(import_contacts(world, row)))
    with world.acting_as("andrej") as andrej:
        andrej.execute(
            "update public.contacts_v2 set phone = null where id = %s", [made["contact_id"]]
        )
        importer.start()
        while not waits(world):
            assert importer.is_alive()
    importer.join()

    assert outcomes(result) == ["updated"]
    shown = page_shows(world, made["contact_id"])
    assert (shown["phone"], shown["notes"]) == (NIKA["phone"], "Rings.")
    assert world.rows(
        "select match_key from public.contact_identities where contact_id = %s and kind = 'phone'",
        [made["contact_id"]],
    ) == [{"match_key": "38631222333"}]


def test_export_pages_through_the_account_s_own_contacts(world: World) -> None:
    import_contacts(world, *({"email": f"{number}@example.si"} for number in range(7)))
    with world.acting_as("andrej") as andrej:
        andrej.execute("delete from public.contacts_v2 where email = '3@example.si'")
    ids: list[str] = []
    while page := export(world, ids[-1] if ids else None, 3):
        assert len(page) <= 3
        ids += [row["id"] for row in page]

    assert ids == sorted(ids)
    assert ids == [
        str(row["id"])
        for row in world.rows(
            "select id from public.contacts where account_id = %s and deleted_at is null"
            " order by id",
            [ALPINE],
        )
    ]
    assert len(ids) == 7


def guests(count: int) -> list[Row]:
    return [{"name": f"Guest {n}", "phone": f"+3863100{n:04}"} for n in range(1, count + 1)]


def heard(world: World, kind: str) -> list[tuple[str, Any]]:
    """The news on topics of a kind: the tables, or the row and its version."""
    return sorted(
        (event["event"], payload.get("tables") or (payload["id"], payload["version"]))
        for event in world.events()
        if event["kind"] == kind
        for payload in [event["payload"]]
    )


def logged(world: World) -> int:
    count: int = world.value("select count(*) from private.changes")
    return count


def test_more_than_hundred_new_contacts_are_told_by_one_resync(world: World) -> None:
    world.forget_events()
    import_contacts(world, *guests(101))

    assert heard(world, "account") == [("resync", ["contacts", "customers"])]
    assert len(world.events()) == 1
    assert logged(world) == 202

    world.forget_events()
    import_contacts(world, *guests(101))
    assert world.events() == []


def test_hundred_new_contacts_are_still_told_one_by_one(world: World) -> None:
    world.forget_events()
    import_contacts(world, *guests(100))

    events = [event for event, _ in heard(world, "account")]
    assert events.count("contacts.inserted") == 100
    assert all(event["payload"]["record"] for event in world.events())


def test_few_changes_of_a_large_import_are_told_by_id_to_all_who_may_see_them(
    world: World,
) -> None:
    import_contacts(world, *guests(200))
    world.ingest(text_message("wamid.1", wa_id="38640111222", profile_name="Cilka"))
    [conversation] = world.rows("select id, version from public.conversations")
    world.forget_events()

    import_contacts(
        world, *guests(199), CILKA | {"name": "Cilka Novak", "conversation_status": "closed"}
    )

    versions = {
        f"{row['table']}.updated": (CILKA["id"], row["version"])
        for row in world.rows(
            "select 'contacts' as table, version from public.contacts where id = %(id)s"
            " union all select 'customers', version from public.customers where id = %(id)s",
            {"id": CILKA["id"]},
        )
    }
    closed = ("conversations.updated", (str(conversation["id"]), conversation["version"] + 1))
    theirs = ("customers.updated", versions["customers.updated"])
    assert heard(world, "account") == sorted([*versions.items(), closed])
    # hers alone, and neither name nor status: she reads what she may
    assert heard(world, "customer") == sorted([theirs, closed])
    assert heard(world, "conversation") == [closed]
    assert all("record" not in event["payload"] for event in world.events())


def test_quiet_import_tells_customers_at_once_and_staff_when_it_is_announced(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640111222", profile_name="Cilka"))
    world.forget_events()
    with world.acting("service_role") as connection:
        connection.execute(
            "select backend.import_contacts(%s, %s, quiet => true)",
            [
                ACCOUNT,
                json.dumps(
                    [*guests(50), CILKA | {"name": "C. Novak", "conversation_status": "closed"}]
                ),
            ],
        )

    assert heard(world, "account") == []
    assert [event for event, _ in heard(world, "customer")] == [
        "conversations.updated",
        "customers.updated",
    ]
    assert [event for event, _ in heard(world, "conversation")] == ["conversations.updated"]
    world.forget_events()
    with world.acting("service_role") as connection:
        connection.execute("select backend.announce_import(%s)", [ACCOUNT])

    assert heard(world, "account") == [("resync", ["contacts", "conversations", "customers"])]
    assert len(world.events()) == 1
    with pytest.raises(psycopg.Error) as unknown, world.acting("service_role") as connection:
        connection.execute("select backend.announce_import('nobody')")
    assert unknown.value.sqlstate == "PT404"


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_follows_an_import_in_its_transaction_is_told_as_ever(
    world: World, dry_run: bool
) -> None:
    world.forget_events()
    with world.acting("service_role") as connection:
        connection.execute(
            "select backend.import_contacts(%s, %s, %s)",
            [ACCOUNT, json.dumps(guests(101)), dry_run],
        )
        connection.execute(
            "select backend.import_contacts(%s, %s)", [ACCOUNT, json.dumps([CILKA | NIKA])]
        )

    events = [event for event, _ in heard(world, "account")]
    assert "contacts.updated" in events
    assert ("resync" in events) is not dry_run
