"""What proves who somebody is: staff, WhatsApp and partners, never a customer's own words."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.agreement.compare import same_tax
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.asking import refusal
from tests.sql.faces import ask
from tests.sql.syncing import SECRET, Erp
from tests.world import BAY, World, seed_uuid

NEJC = {"email": "nejc@kos.si", "phone": "+38640111333"}
PLACE = {"street": "Pot 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"}


@pytest.fixture
def erp(world: World) -> Erp:
    return Erp(world, Fake(SECRET))


def customer(erp: Erp, **fields: str) -> UUID:
    """A contact by staff, with Cilka's login."""
    contact = erp.add_contact(**({"name": "Cilka"} | fields))
    erp.world.owner.execute(
        "update public.contacts set portal_user_id = %s where id = %s",
        [seed_uuid("cilka"), contact],
    )
    return contact


def write_profile(erp: Erp, contact: UUID, **fields: str | None) -> None:
    named = ", ".join(f"{name} = %s" for name in fields)
    ask(
        erp.world,
        "cilka",
        f"update public.my_profile set {named} where id = %s",
        *fields.values(),
        contact,
    )


def profile(erp: Erp, contact: UUID) -> dict[str, Any]:
    [row] = ask(erp.world, "cilka", "select * from public.my_profile where id = %s", contact)
    return row


def known_by(erp: Erp, contact: UUID) -> set[tuple[str, str]]:
    rows = erp.world.rows(
        "select kind, value from public.contact_identities where contact_id = %s", [contact]
    )
    return {(row["kind"], row["value"]) for row in rows if row["kind"] != "metakocka"}


def unproved(erp: Erp, contact: UUID) -> list[str]:
    [row] = ask(erp.world, "olivia", "select public.unproved_fields(%s) as fields", contact)
    fields: list[str] = row["fields"]
    return fields


def confirm(erp: Erp, contact: UUID, *fields: str) -> list[str]:
    [row] = ask(
        erp.world,
        "olivia",
        "select public.confirm_contact(%s, %s) as fields",
        contact,
        list(fields) or None,
    )
    left: list[str] = row["fields"]
    return left


def question(erp: Erp) -> dict[str, Any]:
    [found] = erp.world.rows(
        "select * from public.sync_conflicts where account_id = %s and state = 'open'",
        [erp.account],
    )
    return found


def decide(erp: Erp, choice: str) -> None:
    ask(
        erp.world,
        "olivia",
        "select public.resolve_sync_conflict(%s, %s)",
        question(erp)["id"],
        choice,
    )


def push(erp: Erp, contact: UUID) -> None:
    erp.sync("to_metakocka", "user", SyncRequest(contact_ids=[contact]))


# A customer who is no partner yet writes another's words


@pytest.mark.parametrize("written", [{"email": NEJC["email"]}, {"phone": NEJC["phone"]}, NEJC])
@pytest.mark.parametrize("listing", ["all", "documents"])
def test_what_a_customer_writes_finds_no_partner_but_a_question(
    world: World, written: dict[str, str], listing: str
) -> None:
    erp = Erp(world, Fake(SECRET), listing=listing)
    contact = customer(erp)
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    before = erp.company.partners[nejcs].people.copy()
    write_profile(erp, contact, **written)
    erp.edit_contact(contact, **PLACE)

    erp.sync("to_metakocka", "wake")
    shown = profile(erp, contact)
    assert {"email": shown["email"], "phone": shown["phone"]} == {
        "email": None,
        "phone": None,
    } | written
    assert known_by(erp, contact) == set()
    assert (erp.contact(contact)["metakocka_id"], erp.writes()) == (None, 0)
    assert erp.company.partners[nejcs].people == before
    asked = question(erp)
    assert (asked["question"], asked["contact_id"]) == ("partner", contact)
    assert [one["metakocka_id"] for one in asked["partners"]] == [nejcs]

    # asked once, even if something is written meanwhile
    write_profile(erp, contact, name="Cilka Kos")
    erp.sync("to_metakocka", "wake")
    assert question(erp)["id"] == asked["id"]
    decide(erp, "new")
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["metakocka_id"] not in (None, nejcs)
    assert erp.company.partners[nejcs].people == before


def test_whom_the_customer_really_is_staff_say(erp: Erp) -> None:
    contact = customer(erp, **PLACE)
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    write_profile(erp, contact, email=NEJC["email"])
    erp.sync("to_metakocka", "wake")
    decide(erp, nejcs)
    erp.sync()
    row = erp.contact(contact)
    assert (row["metakocka_id"], row["phone"]) == (nejcs, NEJC["phone"])
    # what came with the partner is shown, and whose it is for staff to confirm
    assert known_by(erp, contact) == set()
    assert unproved(erp, contact) == ["email", "phone"]
    assert confirm(erp, contact, "phone") == ["email"]
    assert known_by(erp, contact) == {("phone", NEJC["phone"])}


def test_a_confirmed_word_finds_the_partner(erp: Erp) -> None:
    contact = customer(erp, **PLACE)
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    write_profile(erp, contact, email=NEJC["email"])
    erp.sync("to_metakocka", "wake")
    assert confirm(erp, contact) == []
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["metakocka_id"] == nejcs
    assert erp.world.rows(
        "select choice, decided_by from public.sync_conflicts where account_id = %s"
        " and question = 'partner'",
        [erp.account],
    ) == [{"choice": nejcs, "decided_by": "both"}]


def test_a_name_that_the_customer_has_written_finds_no_partner_at_the_same_address(
    erp: Erp,
) -> None:
    contact = customer(erp)
    nejcs = erp.add_partner("Nejc Kos", phone=NEJC["phone"])
    write_profile(erp, contact, name="Nejc Kos")
    erp.edit_contact(contact, **PLACE)
    erp.sync("to_metakocka", "wake")
    assert [one["metakocka_id"] for one in question(erp)["partners"]] == [nejcs]
    # as one by staff does
    other = erp.add_contact(name="Maja Hribar", **PLACE)
    majas = erp.add_partner("Maja Hribar")
    push(erp, other)
    assert erp.contact(other)["metakocka_id"] == majas


def test_a_proved_email_finds_the_partner_though_the_customer_shows_anothers(erp: Erp) -> None:
    contact = customer(erp, email="cilka@home.example", **PLACE)
    cilkas = erp.add_partner("Cilka Cerar", email="cilka@home.example")
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    write_profile(erp, contact, email=NEJC["email"])
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["metakocka_id"] == cilkas
    # of itself it may say what it likes
    assert next(iter(erp.company.partners[cilkas].people.values()))["email"] == NEJC["email"]
    assert next(iter(erp.company.partners[nejcs].people.values()))["email"] == NEJC["email"]
    erp.sync()
    assert {row["metakocka_id"] for row in erp.contacts()} == {cilkas, nejcs}
    assert known_by(erp, contact) == {("email", "cilka@home.example")}


def test_a_partner_that_is_a_contact_already_is_not_asked_about(erp: Erp) -> None:
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    contact = customer(erp, **PLACE)
    write_profile(erp, contact, **NEJC)
    erp.sync()
    erp.sync()
    rows = {row["metakocka_id"]: row["id"] for row in erp.contacts()}
    assert rows[nejcs] != contact
    assert len(rows) == len(erp.company.partners) == 2
    # what Nejc writes is his
    assert known_by(erp, rows[nejcs]) == {("email", NEJC["email"]), ("phone", NEJC["phone"])}
    assert known_by(erp, contact) == set()


# What was sent and nobody has answered is looked for by the same rule


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_lost_call_takes_nobody_elses_partner(erp: Erp, is_deleted: bool) -> None:
    contact = customer(erp, **PLACE)
    write_profile(erp, contact, email=NEJC["email"])
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=600)
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    if is_deleted:
        ask(erp.world, "olivia", "delete from public.metakocka_partners where id = %s", contact)
        erp.sync()
        erp.sync()
        # a deleted contact keeps nobody's partner from coming
        assert [row["metakocka_id"] for row in erp.contacts()] == [nejcs]
    else:
        erp.sync("to_metakocka", "wake")
        assert erp.contact(contact)["metakocka_id"] is None
        assert [one["metakocka_id"] for one in question(erp)["partners"]] == [nejcs]


def test_a_lost_call_finds_what_it_has_made_of_a_customers_words(erp: Erp) -> None:
    contact = customer(erp, **PLACE)
    write_profile(erp, contact, name="Cilka Cerar", email="cilka@home.example")
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", after_accepting=True, drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=600)
    write_profile(erp, contact, email="cilka@work.example")
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    row = erp.contact(contact)
    assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced")


# Words that come back


def test_a_word_that_comes_back_from_the_erp_makes_nobody_known(erp: Erp) -> None:
    contact = customer(erp, email="cilka@home.example", **PLACE)
    erp.sync()
    mk_id = erp.contact(contact)["metakocka_id"]
    write_profile(erp, contact, phone=NEJC["phone"])
    # sent, and the worker ends before it can say so
    steps = 1
    while "phone" not in next(iter(erp.company.partners[mk_id].people.values())):
        assert erp.killed_at(steps, "to_metakocka")
        steps += 1
    write_profile(erp, contact, phone=None)
    erp.sync()
    assert known_by(erp, contact) == {("email", "cilka@home.example")}


def test_an_edit_at_metakocka_is_a_word_of_staff(erp: Erp) -> None:
    contact = customer(erp, email="cilka@home.example", **PLACE)
    erp.sync()
    erp.edit_partner(erp.contact(contact)["metakocka_id"], phone="+38640222444")
    erp.sync()
    assert ("phone", "+38640222444") in known_by(erp, contact)


def test_what_comes_with_an_adopted_partner_is_shown_and_proves_nothing(erp: Erp) -> None:
    contact = customer(erp, email="cilka@home.example", **PLACE)
    erp.add_partner("Cilka", email="cilka@home.example", phone=NEJC["phone"])
    erp.sync()
    assert erp.contact(contact)["phone"] == NEJC["phone"]
    assert known_by(erp, contact) == {("email", "cilka@home.example")}
    assert unproved(erp, contact) == ["phone"]


def test_what_is_proved_stays_while_the_customer_shows_something_else(erp: Erp) -> None:
    contact = customer(erp, phone="+38640222444", email="cilka@home.example")
    proved = {("phone", "+38640222444"), ("email", "cilka@home.example")}
    write_profile(erp, contact, **NEJC)
    # staff write something else
    erp.edit_contact(contact, gsm="+38640222555", **PLACE)
    assert known_by(erp, contact) == proved | {("phone", "+38640222555")}
    erp.edit_contact(contact, gsm=None)
    assert known_by(erp, contact) == proved
    # and now the same
    erp.edit_contact(contact, phone="+38640222666")
    assert known_by(erp, contact) == {
        ("phone", "+38640222666"),
        ("email", "cilka@home.example"),
    }


def test_a_form_that_staff_had_open_proves_nothing(erp: Erp) -> None:
    contact = customer(erp)
    write_profile(erp, contact, email=NEJC["email"])
    write_profile(erp, contact, email="cilka@home.example")
    erp.edit_contact(contact, email=NEJC["email"], name="Cilka C.")
    assert known_by(erp, contact) == set()
    assert confirm(erp, contact, "email") == []
    assert known_by(erp, contact) == {("email", NEJC["email"])}


def test_a_file_that_was_exported_proves_nothing(erp: Erp) -> None:
    contact = customer(erp)
    write_profile(erp, contact, **NEJC)
    with erp.world.acting("service_role") as connection:
        answer = connection.execute(
            "select backend.export_contacts(%s)", [str(erp.account)]
        ).fetchone()
        assert answer is not None
    write_profile(erp, contact, email="cilka@home.example", phone="+38640222444")
    with erp.world.acting("service_role") as connection:
        connection.execute(
            "select backend.import_contacts(%s, %s)", [str(erp.account), json.dumps(answer[0])]
        )
    assert known_by(erp, contact) == set()
    # a file about somebody else is a word of staff
    with erp.world.acting("service_role") as connection:
        connection.execute(
            "select backend.import_contacts(%s, %s)",
            [str(erp.account), json.dumps([{"name": "Nejc", **NEJC}])],
        )
    [nejc] = [row["id"] for row in erp.contacts() if row["name"] == "Nejc"]
    assert known_by(erp, nejc) == {("email", NEJC["email"]), ("phone", NEJC["phone"])}


@pytest.mark.parametrize("own", [{}, {"phone": "+38640222444", "email": "cilka@home.example"}])
def test_undoing_a_merge_returns_what_the_customer_has_written_since(
    erp: Erp, own: dict[str, str]
) -> None:
    contact = customer(erp, **own)
    nejc = erp.add_contact(name="Nejc", **NEJC)
    [row] = ask(
        erp.world, "olivia", "select public.merge_contacts(%s, %s) as merged", contact, nejc
    )
    # read in the profile, and written again
    write_profile(erp, contact, phone=None)
    write_profile(erp, contact, phone=NEJC["phone"])
    ask(erp.world, "olivia", "select public.undo_merge(%s)", row["merged"]["merge_id"])
    assert known_by(erp, contact) == set(own.items())
    assert known_by(erp, nejc) == {("email", NEJC["email"]), ("phone", NEJC["phone"])}


def test_words_stay_unproved_when_contacts_are_merged(erp: Erp) -> None:
    contact = customer(erp)
    write_profile(erp, contact, **NEJC)
    kept = erp.add_contact(name="Cilka", **PLACE)
    ask(erp.world, "olivia", "select public.merge_contacts(%s, %s)", kept, contact)
    assert unproved(erp, kept) == ["email", "phone"]
    erp.edit_contact(kept, email=None)
    erp.edit_contact(kept, email=NEJC["email"])
    assert known_by(erp, kept) == set()
    nejcs = erp.add_partner("Nejc Kos", **NEJC)
    erp.sync("to_metakocka", "wake")
    assert [one["metakocka_id"] for one in question(erp)["partners"]] == [nejcs]


def test_what_another_is_known_by_is_not_confirmed(erp: Erp) -> None:
    contact = customer(erp)
    nejc = erp.add_contact(name="Nejc", **NEJC)
    write_profile(erp, contact, phone=NEJC["phone"])
    refused = refusal(erp.world, "olivia", "select public.confirm_contact(%s)", contact)
    assert (refused.code, refused.detail) == ("PT409", f"field: phone; contact: {nejc}")
    assert unproved(erp, contact) == ["phone"]
    refused = refusal(erp.world, "olivia", "select public.confirm_contact(%s, '{notes}')", contact)
    assert (refused.code, refused.detail) == ("PT422", "field: fields")
    for stranger in ("ana", "cilka", "stranger"):
        assert (
            refusal(erp.world, stranger, "select public.confirm_contact(%s)", contact).code
            == "PT404"
        )


def test_a_customer_who_writes_without_end_is_refused(erp: Erp) -> None:
    contact = customer(erp)
    for number in range(100):
        write_profile(erp, contact, email=f"e{number}@kos.si")
    refused = refusal(
        erp.world,
        "cilka",
        "update public.my_profile set email = 'one@kos.si' where id = %s",
        contact,
    )
    assert (refused.code, refused.detail) == ("PT409", "field: email")


# One number in several spellings


def test_sql_and_python_have_one_rule_for_tax_numbers(world: World) -> None:
    numbers = [
        f"{country}{rest}"
        for country in ("", "SI", "si ", "AT", "HR", "EL", "CHE-", "US", "RS", "ES", "FR")
        for rest in ("12345678", "1234 5678", "U12345678", "X1234567X", "SMRA85M01H501Z", "", "č1")
    ]
    rows = world.rows(
        "select a, b, coalesce(private.same_tax(a, b), false) as is_same"
        " from unnest(%(numbers)s::text[]) a cross join unnest(%(numbers)s::text[]) b",
        {"numbers": numbers},
    )
    assert {row["is_same"] for row in rows} == {True, False}
    for row in rows:
        assert same_tax(row["a"], row["b"]) == row["is_same"], row


@pytest.mark.parametrize(
    ("ours", "theirs", "is_one"),
    [
        ("12345678", "SI12345678", True),
        ("SI12345678", "12345678", True),
        ("SI 1234 5678", "SI12345678", True),
        ("ATU12345678", "U12345678", True),
        ("HR12345678", "SI12345678", False),
    ],
)
@pytest.mark.parametrize("first", ["to_metakocka", "from_metakocka"])
def test_a_tax_number_is_one_with_and_without_its_country(
    erp: Erp, ours: str, theirs: str, is_one: bool, first: Any
) -> None:
    country = "Avstrija" if "U" in ours else "Slovenija"
    contact = erp.add_contact(name="Kos d.o.o.", tax_id_number=ours, **PLACE | {"country": country})
    mk_id = erp.add_partner("KOS, d. o. o.", tax_id_number=theirs)
    erp.sync(first, "wake")
    for _ in range(2):
        erp.sync()
    rows = {row["metakocka_id"]: row["id"] for row in erp.contacts()}
    assert len(rows) == len(erp.company.partners) == (1 if is_one else 2)
    assert (rows[mk_id] == contact) == is_one
    # neither side's spelling is changed
    if is_one:
        assert erp.contact(contact)["tax_id_number"] == ours
        assert erp.company.partners[mk_id].fields["tax_id_number"] == theirs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("+38640111333", "040 111 333"),
        ("+38640111333", "040111333"),
        ("+38640111333", "+386 40 111 333"),
        ("+38640111333", "0038640111333"),
        ("040 111 333", "+38640111333"),
        ("040/111-333", "040 111 333"),
    ],
)
@pytest.mark.parametrize("first", ["to_metakocka", "from_metakocka"])
def test_a_mobile_number_is_one_in_every_spelling(
    erp: Erp, ours: str, theirs: str, first: Any
) -> None:
    contact = erp.add_contact(name="Kos d.o.o.", gsm=ours, **PLACE)
    mk_id = erp.add_partner("KOS, d. o. o.", gsm=theirs)
    # of another country the same digits are another number
    other = erp.add_partner("Lipa GmbH", gsm="0640 111333")
    erp.sync(first, "wake")
    erp.sync()
    rows = {row["metakocka_id"]: row["id"] for row in erp.contacts()}
    assert rows[mk_id] == contact
    assert set(rows) == set(erp.company.partners) == {mk_id, other}


def test_an_email_is_one_in_any_case(erp: Erp) -> None:
    contact = erp.add_contact(name="Kos d.o.o.", email="Info@Kos.si", **PLACE)
    mk_id = erp.add_partner("KOS, d. o. o.", email="info@kos.SI")
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["metakocka_id"] == mk_id


# A partner that comes back


def test_a_partner_that_is_another_contact_is_asked_about_once(erp: Erp) -> None:
    first = erp.add_contact(name="Kos", email="info@kos.si", **PLACE)
    erp.sync()
    mk_id = erp.contact(first)["metakocka_id"]
    second = erp.add_contact(name="Lipa", email="info@lipa.si", **PLACE)
    erp.fake.behaviour.same_partner = mk_id
    for number in range(4):
        erp.sync("both" if number % 2 else "to_metakocka", "wake")
        erp.edit_contact(second, street=f"Pot {number}")
    assert erp.fake.calls["add_partner"] == 2
    asked = question(erp)
    assert (asked["question"], asked["contact_id"]) == ("partner", second)
    assert [one["metakocka_id"] for one in asked["partners"]] == [mk_id]
    assert erp.contact(second)["metakocka_id"] is None
    errors = erp.world.rows(
        "select contact_id, metakocka_id from public.sync_errors where account_id = %s",
        [erp.account],
    )
    assert errors == [{"contact_id": second, "metakocka_id": mk_id}]
    # it is not another's by an answer
    refused = refusal(
        erp.world, "olivia", "select public.resolve_sync_conflict(%s, %s)", asked["id"], mk_id
    )
    assert (refused.code, refused.hint) == (
        "PT409",
        "Merge the two contacts, or choose another partner.",
    )
    erp.fake.behaviour.same_partner = None
    decide(erp, "new")
    erp.sync()
    assert erp.contact(second)["metakocka_id"] not in (None, mk_id)
    assert erp.contact(first)["metakocka_id"] == mk_id


# A company is one account's


@pytest.mark.parametrize("prefix", ["", "0"])
@pytest.mark.parametrize("base_url", [None, "https://other.metakocka.si/v1"])
def test_a_company_is_one_accounts(erp: Erp, prefix: str, base_url: str | None) -> None:
    with pytest.raises(psycopg.Error, match="connected to another account") as refused:
        erp.world.owner.execute(
            "insert into public.metakocka_connections (account_id, company_id, base_url)"
            " values (%s, %s, %s)",
            [BAY, prefix + erp.company_id.upper(), base_url],
        )
    assert refused.value.sqlstate == "PT409"


def test_a_company_that_was_named_in_error_is_given_back(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    other = Erp(world, Fake(SECRET))
    update = "update public.metakocka_connections set company_id = %s where account_id = %s"
    answer = refusal(world, "olivia", update, erp.company_id, other.account)
    assert (answer.code, answer.detail) == ("PT409", "field: company_id")
    # of whom a contact is a partner stays its account's
    erp.add_partner("Kos")
    erp.sync()
    for one in (erp, other):
        ask(
            world,
            "olivia",
            "delete from public.metakocka_connections where account_id = %s",
            one.account,
        )
    insert = "insert into public.metakocka_connections (account_id, company_id) values (%s, %s)"
    ask(world, "olivia", insert, erp.account, erp.company_id)
    answer = refusal(world, "olivia", insert, other.account, erp.company_id)
    assert answer.code == "PT409"
    ask(world, "olivia", insert, other.account, other.company_id)
