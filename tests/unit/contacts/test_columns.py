"""Exports of other systems, with the headers that they have, and `--map`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapport.contacts.columns import columns_of, system_of
from rapport.contacts.rows import Read, Said, read_row
from rapport.contacts.table import Table
from rapport.errors import MalformedTable
from rapport.store.contacts import Contact

GOOGLE = (
    "First Name,Middle Name,Last Name,Phonetic First Name,Phonetic Middle Name,Phonetic Last Name,"
    "Name Prefix,Name Suffix,Nickname,File As,Organization Name,Organization Title,"
    "Organization Department,Birthday,Notes,Photo,Labels,E-mail 1 - Label,E-mail 1 - Value,"
    "E-mail 2 - Label,E-mail 2 - Value,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,"
    "Phone 2 - Value,Website 1 - Label,Website 1 - Value"
)
GOOGLE_BEFORE_2024 = (
    "Name,Given Name,Additional Name,Family Name,Yomi Name,Given Name Yomi,Additional Name Yomi,"
    "Family Name Yomi,Name Prefix,Name Suffix,Initials,Nickname,Short Name,Maiden Name,Birthday,"
    "Gender,Location,Billing Information,Directory Server,Mileage,Occupation,Hobby,Sensitivity,"
    "Priority,Subject,Notes,Language,Photo,Group Membership,E-mail 1 - Type,E-mail 1 - Value,"
    "Phone 1 - Type,Phone 1 - Value"
)
OUTLOOK = (
    "Title,First Name,Middle Name,Last Name,Suffix,Company,Department,Job Title,Business Street,"
    "Business Street 2,Business Street 3,Business City,Business State,Business Postal Code,"
    "Business Country/Region,Home Street,Assistant's Phone,Business Fax,Business Phone,"
    "Business Phone 2,Callback,Car Phone,Company Main Phone,Home Fax,Home Phone,Home Phone 2,ISDN,"
    "Mobile Phone,Other Fax,Other Phone,Pager,Primary Phone,Radio Phone,TTY/TDD Phone,Telex,"
    "Account,Anniversary,Birthday,Categories,Children,E-mail Address,E-mail Type,"
    "E-mail Display Name,E-mail 2 Address,E-mail 2 Type,E-mail 2 Display Name,Gender,Notes,"
    "Web Page"
)
HUBSPOT = (
    "Record ID,First Name,Last Name,Email,Phone Number,Mobile Phone Number,Contact owner,"
    "Lead Status,Marketing contact status,Create Date (CET),Associated Company"
)
CHATWOOT = (
    "id,name,email,identifier,phone_number,labels,ip_address,company_name,custom_attribute_1,"
    "custom_attribute_2"
)
WATI = "Name,CountryCode,Phone,AllowCampaign,AllowSMS,Attribute 1,Attribute 2"


def read(folder: Path, header: str, **cells: str) -> Read:
    """A row with these cells; a title is written with underscores, `x` for a hyphen with spaces."""
    titles = header.split(",")
    row = [""] * len(titles)
    for name, text in cells.items():
        row[titles.index(name.replace("_x_", " - ").replace("__", "-").replace("_", " "))] = text
    file = folder / "contacts.csv"
    quoted = ",".join(f'"{cell}"' for cell in row)
    file.write_text(f"{header}\r\n{quoted}\r\n")
    table = Table.open(file)
    [record] = table.records()
    return read_row(Said.of(record, table.columns), "SI")


def test_google_contacts(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        GOOGLE,
        First_Name="Ana",
        Last_Name="Novak",
        Notes="Rings twice.",
        Labels="Customers ::: * myContacts",
        E__mail_1_x_Value="ana@example.si",
        Phone_1_x_Value="040 111 222 ::: +386 40 111 333",
        Phone_2_x_Value="12",
        Organization_Name="Alpine",
        Birthday="1990-01-01",
    )
    assert found.contact == Contact(
        name="Ana Novak",
        phone="+38640111222",
        email="ana@example.si",
        tags=["Customers"],
        notes="Rings twice.",
    )
    assert found.note == (
        "A contact has one phone: +38640111333 (Phone 1 - Value), 12 (Phone 2 - Value) left out."
    )
    company = read(tmp_path, GOOGLE, Organization_Name="Alpine", Phone_1_x_Value="+38614258888")
    assert company.contact == Contact(name="Alpine", phone="+38614258888")


def test_google_contacts_as_they_were_before_2024(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        GOOGLE_BEFORE_2024,
        Name="Ana Novak",
        Given_Name="Ana",
        Family_Name="Novak",
        Group_Membership="* myContacts ::: Boats",
        Phone_1_x_Value="+386 40 111 222",
    )
    assert found.contact == Contact(name="Ana Novak", phone="+38640111222", tags=["Boats"])


def test_outlook(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        OUTLOOK,
        Title="Dr.",
        First_Name="Ana",
        Middle_Name="M.",
        Last_Name="Novak",
        Company="Alpine",
        Business_Phone="01 425 88 88",
        Mobile_Phone="040 111 222",
        Categories="vip;boat",
        E__mail_Address="ana@example.si",
        E__mail_2_Address="novak@example.si",
    )
    assert found.contact == Contact(
        name="Ana M. Novak", phone="+38640111222", email="ana@example.si", tags=["vip", "boat"]
    )
    assert found.note == (
        "A contact has one phone: +38614258888 (Business Phone) left out. A contact has one email:"
        " novak@example.si (E-mail 2 Address) left out."
    )


@pytest.mark.parametrize(
    "header",
    [
        "Anrede,Vorname,Nachname,Firma,Telefon geschäftlich,Mobiltelefon,E-Mail-Adresse,E-Mail-Typ",
        "Naziv,Ime,Priimek,Podjetje,Službeni telefon,Prenosni telefon,E-poštni naslov,Tip",
    ],
)
def test_outlook_in_german_and_slovene(tmp_path: Path, header: str) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text(f"{header}\r\n,Ana,Novak,Alpine,,040 111 222,ana@example.si,SMTP\r\n")
    table = Table.open(file)
    assert table.system == "Outlook"
    [record] = table.records()
    contact = read_row(Said.of(record, table.columns), "SI").contact
    assert contact == Contact(name="Ana Novak", phone="+38640111222", email="ana@example.si")


def test_hubspot(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        HUBSPOT,
        Record_ID="901",
        First_Name="Ana",
        Last_Name="Novak",
        Email="ana@example.si",
        Phone_Number="01 425 88 88",
        Mobile_Phone_Number="'+38640111222",
    )
    assert found.contact == Contact(name="Ana Novak", phone="+38640111222", email="ana@example.si")


def test_chatwoot_whose_ids_are_not_ours(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text(f'{CHATWOOT}\n7,Ana,ana@example.si,,+38640111222,"vip,boat",,Alpine,,\n')
    table = Table.open(file)
    [record] = table.records()
    contact = read_row(Said.of(record, table.columns), None).contact
    assert contact == Contact(
        name="Ana", phone="+38640111222", email="ana@example.si", tags=["vip", "boat"]
    )
    assert table.left_out[:2] == ["id", "identifier"]
    assert system_of(["id", "name", "email", "phone_number"]) == "Chatwoot"


def test_wati_whose_country_codes_stand_apart(tmp_path: Path) -> None:
    found = read(tmp_path, WATI, Name="Ana", CountryCode="852", Phone="64318721", AllowSMS="TRUE")
    assert found.contact == Contact(name="Ana", phone="+85264318721")


def test_an_export_of_ours_is_not_taken_for_another_s() -> None:
    assert system_of(["id", "name", "phone", "email", "conversation_status"]) is None


def test_columns_are_what_the_map_says(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text(
        "Stranka;Kontakt;Telefonska;Opis;Geboren\nNovak;Ana;040 111 222;Rings twice.;1990\n"
    )
    mapping = {
        "stranka": "last_name",
        "Kontakt": "first_name",
        "Telefonska": "phone",
        "Opis": "notes",
        "Geboren": "",
    }
    table = Table.open(file, ";", mapping=mapping)
    [record] = table.records()
    assert read_row(Said.of(record, table.columns), "SI").contact == Contact(
        name="Ana Novak", phone="+38640111222", notes="Rings twice."
    )
    assert table.left_out == ["Geboren"]


def test_what_the_map_says_comes_before_what_is_known() -> None:
    columns = columns_of(["Phone", "Mobile", "Name"], {"Mobile": "notes", "Phone": "phone"})
    assert [column.target for column in columns] == ["phone", "notes", "name"]


def test_beside_a_first_name_the_name_is_the_last() -> None:
    columns = columns_of(["Vorname", "Name", "Telefon"], {})
    assert [column.target for column in columns] == ["first_name", "last_name", "phone"]
    columns = columns_of(["Ime", "GSM"], {})
    assert [column.target for column in columns] == ["name", "phone"]


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        (["phone", "city"], {}, "unknown columns: 'city'.*--map 'city'=notes, or leave it out"),
        (["phone", "city"], {"town": "notes"}, "not there: 'town' .has 'phone', 'city'"),
        (["phone", "city"], {"city": "place"}, "'place' is not a field. Fields: id, name"),
        (["phone", "Phone"], {}, "twice: phone .'phone', 'Phone'.*--map 'Phone'="),
        (["name", "Full Name", "phone"], {}, "twice: name"),
        (["notes", "city"], {"city": "notes"}, "twice: notes"),
        (["phone", "Mobile", "phone"], {}, "twice: phone"),
    ],
)
def test_a_header_that_leaves_a_doubt_is_refused_with_what_to_do(
    header: list[str], mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(MalformedTable, match=message):
        columns_of(header, mapping)
