"""The dashboard as a team uses it all day, in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from playwright.sync_api import APIResponse, Browser, Locator, Page, Route, expect
from tests.integration.pages import People, check_accessible, chromium, comes

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT

ALPINE = "a0000000-0000-4000-8000-00000000000a"
CILKA = "c0000000-0000-4000-8000-00000000000a"
OLIVIA = "0a000000-0000-4000-8000-000000000001"
ANDREJ = "0a000000-0000-4000-8000-000000000002"
NUMBER = "1003427786179738"
LONG = (
    "Friderik Maksimilijan Vodopivec-Korošec, Družba za čiščenje preprog in oblazinjenega pohištva"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Office:
    """What the database is given at the beginning, and what it holds."""

    def __init__(self, database: Database) -> None:
        self._owner = psycopg.connect(database.url(), autocommit=True)

    def run(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        cursor = self._owner.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._owner.close()


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    office = Office(database)
    office.run((PROJECT / "supabase" / "seed.sql").read_text())
    yield office
    office.close()


@pytest.fixture
def people(browser: Browser, stack: Stack) -> Iterator[People]:
    people = People(browser, stack.url)
    yield people
    people.close()


def inbound(stack: Stack, sender: str, name: str, words: str) -> None:
    """A customer writes on WhatsApp."""
    order = {"phone_number_id": NUMBER, "from": sender, "name": name, "text": words}
    url = f"{stack.whatsapp_url}/_fake/inbound"
    httpx.post(url, json=order, trust_env=False, timeout=30).raise_for_status()


def row(page: Page, words: str) -> Locator:
    return page.locator(".inbox-row", has_text=words)


def write(page: Page, label: str, words: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(words)
    field.press("Enter")


def check_held(page: Page, of: str) -> None:
    """What is longer than the screen scrolls in its own box; the page ends with the screen."""
    size = page.evaluate("[document.documentElement.scrollHeight, innerHeight]")
    assert size[0] <= size[1], (of, size)


def look(page: Page, name: str) -> None:
    """Keeps a picture for people, where PICTURES names a folder."""
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_team_shares_its_inbox(people: People, stack: Stack, office: Office) -> None:
    andrej = people.open("dashboard/", "Andrej")
    expect(andrej.get_by_text("No conversations yet")).to_be_visible()
    look(andrej, "desk-empty")

    # four conversations of one customer, and another one
    office.run(
        "insert into jobs (account_id, customer_id, service_type, starts_at) values"
        " (%s, %s, 'Carpet cleaning', '2027-01-05 09:00+00'),"
        " (%s, %s, 'Sofa cleaning', '2027-02-06 10:00+00')",
        *(ALPINE, CILKA) * 2,
    )
    inbound(stack, "38640111222", "Cilka", "Is Tuesday free?")
    inbound(stack, "38640555001", LONG, "Do you clean tents?")
    portal = people.open("portal/", "Cilka")
    write(portal, "Write a message", "From the portal")
    (first, second) = (str(one) for (one,) in office.run("select id from jobs order by starts_at"))
    for job, words in ((first, "About the carpet"), (second, "About the sofa")):
        office.run(
            "select set_config('request.jwt.claims', json_build_object("
            "'sub', '0a000000-0000-4000-8000-000000000003', 'role', 'authenticated')::text, false)"
        )
        office.run("select public.post_message(booking_id => %s, message => %s)", job, words)

    # they are told apart: by a mark, and bookings by what they are about
    expect(andrej.locator(".inbox-row")).to_have_count(5)
    expect(row(andrej, "About the carpet")).to_contain_text(
        re.compile("Carpet cleaning, Tue,? 5 Jan")
    )
    expect(row(andrej, "About the sofa")).to_contain_text(re.compile("Sofa cleaning, Sat,? 6 Feb"))
    expect(row(andrej, "From the portal").locator(".channel-portal")).to_be_visible()
    expect(row(andrej, "Is Tuesday").locator(".channel-whatsapp")).to_be_visible()
    expect(row(andrej, "Is Tuesday").locator(".badge")).to_contain_text("1")
    expect(andrej.get_by_role("button", name=re.compile("^Free"))).to_contain_text("5")

    # the keys lead to the field for search and through the list
    andrej.keyboard.press("/")
    field = andrej.get_by_label("Name, number, email, tag")
    expect(field).to_be_focused()
    field.fill("040 111 222")
    expect(andrej.locator(".inbox-row")).to_have_count(4)
    field.fill("maksimilijan")
    expect(andrej.locator(".inbox-row")).to_have_count(1)
    field.fill("nobody at all")
    expect(andrej.get_by_text("Nothing found")).to_be_visible()
    andrej.get_by_role("button", name="Show all conversations").click()
    expect(andrej.locator(".inbox-row")).to_have_count(5)
    andrej.locator("h1").first.click()
    for key in ("j", "j", "k"):
        andrej.keyboard.press(key)
    expect(andrej.locator(".inbox-row").first).to_be_focused()

    # who takes it has it, and a colleague is told so
    olivia = people.open("dashboard/", "Olivia")
    row(olivia, "Is Tuesday").click()
    row(andrej, "Is Tuesday").click()
    take = olivia.get_by_role("button", name="Take", exact=True)
    expect(take).to_be_visible()
    office.run(
        "insert into desk_states (id, account_id, assignee_id)"
        " select id, account_id, %s from conversations where channel = 'whatsapp'"
        " and customer_id = %s on conflict (id) do nothing",
        *(ANDREJ, CILKA),
    )
    expect(row(olivia, "Is Tuesday").locator(".inbox-assignee")).to_contain_text(
        "Andrej Arko answers"
    )
    expect(andrej.locator(".chat-assignee-name")).to_have_text("You")
    # one that the server is too busy for is asked for again
    crowded = {"code": "PT429", "message": "Too many.", "details": "retry after: 1 s"}
    andrej.route(
        "**/rpc/hand_over_conversation",
        lambda route: route.fulfill(status=429, json=crowded),
        times=1,
    )
    andrej.locator(".chat-assignee .drop-button").click()
    andrej.locator(".drop-item", has_text="Olivia Ozbolt").click()
    expect(andrej.locator(".chat-assignee-name")).to_have_text("Olivia")
    expect(andrej.locator(".chat-others")).to_contain_text("Also looking: Olivia Ozbolt")
    olivia.get_by_role("button", name=re.compile("^Mine")).click()
    expect(olivia.locator(".inbox-row")).to_have_count(1)
    write(olivia, "Write a message", "Tuesday at nine is free.")
    expect(row(andrej, "Tuesday at nine")).to_contain_text("Olivia: Tuesday at nine")
    expect(row(olivia, "Tuesday at nine")).to_contain_text("You: Tuesday at nine")
    olivia.locator(".chat-assignee .drop-button").click()
    olivia.get_by_role("button", name="Release").click()
    expect(
        olivia.get_by_text("No conversations yet").or_(olivia.get_by_text("Nothing found"))
    ).to_be_visible()
    olivia.get_by_role("button", name="All", exact=True).click()

    # two who take it at the same moment: one is refused in words
    olivia.route(
        "**/rpc/take_conversation",
        lambda route: (
            office.run("update desk_states set assignee_id = %s", ANDREJ),
            route.continue_(),
        ),
    )
    olivia.get_by_role("button", name="Take", exact=True).click()
    expect(olivia.get_by_role("alert")).to_contain_text("Andrej Arko has this conversation.")
    olivia.get_by_role("button", name="Dismiss").click()

    # labels, a snooze, the status, unread
    andrej.get_by_role("button", name="Labels").click()
    andrej.get_by_role("button", name="New label").click()
    expect(andrej.get_by_label("Name", exact=True)).to_be_focused()
    andrej.get_by_label("Name", exact=True).fill("Complaint")
    answers: list[tuple[Route, APIResponse]] = []
    andrej.route(
        "**/rpc/label_conversation", lambda route: answers.append((route, route.fetch())), times=1
    )
    andrej.get_by_role("button", name="Make and add").click()
    expect(row(olivia, "Tuesday at nine").locator(".label-tag")).to_have_text("Complaint")
    # an answer that comes late closes no panel that was opened meanwhile
    andrej.get_by_role("button", name="Snooze", exact=True).click()
    comes(andrej, lambda: answers)
    with andrej.expect_response("**/rpc/label_conversation"):
        for route, answer in answers:
            route.fulfill(response=answer)
    olivia.get_by_role("combobox", name="Label", exact=True).select_option("Complaint (1)")
    expect(olivia.locator(".inbox-row")).to_have_count(1)
    olivia.get_by_role("combobox", name="Label", exact=True).select_option("Any label")
    look(andrej, "desk-snooze")
    andrej.get_by_role("button", name="Tomorrow").click()
    expect(andrej.locator(".chat-state")).to_contain_text("Until")
    expect(andrej.locator(".inbox-row")).to_have_count(4)
    andrej.get_by_role("button", name=re.compile("Show only snoozed")).click()
    expect(andrej.locator(".inbox-row")).to_have_count(1)
    expect(andrej.locator(".inbox-snoozed").first).to_be_visible()
    andrej.get_by_role("button", name=re.compile("Show only snoozed")).click()
    andrej.get_by_role("button", name="End snooze").click()
    expect(andrej.locator(".inbox-row")).to_have_count(5)
    andrej.locator(".chat-status select").select_option("Pending")
    expect(row(olivia, "Tuesday at nine")).to_contain_text("Pending")
    olivia.locator(".filters select").first.select_option("Pending")
    expect(olivia.locator(".inbox-row")).to_have_count(1)
    olivia.locator(".filters select").first.select_option("Any status")
    andrej.get_by_role("button", name="Mark as unread").click()
    expect(andrej.get_by_text("Choose a conversation")).to_be_visible()
    expect(row(andrej, "Tuesday at nine").locator(".badge")).to_contain_text("1")
    look(andrej, "desk-list")
    row(andrej, "Do you clean tents?").click()
    expect(andrej.locator(".bubble-words")).to_have_text("Do you clean tents?")
    for page in (andrej, olivia):
        check_accessible(page, of="desk")
    look(andrej, "desk-open")
    andrej.emulate_media(color_scheme="dark")
    look(andrej, "desk-dark")
    for name in ("desk-360", "desk-list-360"):
        andrej.set_viewport_size({"width": 360, "height": 720})
        assert andrej.evaluate("document.documentElement.scrollWidth") == 360
        check_accessible(andrej, of=name)
        look(andrej, name)
        andrej.evaluate("location.hash = ''")
        expect(andrej.locator(".pane-inbox")).to_be_visible()
    # what was refused above is no error of the page
    assert [one for one in people.complaints if "409" not in one] == []

    # who is erased is gone from the conversation that is open, too
    row(andrej, "Do you clean tents?").click()
    expect(andrej.locator(".bubble-words")).to_have_text("Do you clean tents?")
    office.run(
        "select backend.erase_contact(customer_id) from messages where message = %s",
        "Do you clean tents?",
    )
    expect(andrej.locator(".pane-inbox")).to_be_visible()
    expect(row(andrej, "Do you clean tents?")).to_have_count(0)


def test_notes_saved_replies_and_what_is_sent_later(
    people: People, stack: Stack, office: Office
) -> None:
    inbound(stack, "38640111222", "Cilka", "How much is a carpet?")
    andrej = people.open("dashboard/", "Andrej")
    olivia = people.open("dashboard/", "Olivia")
    portal = people.open("portal/", "Cilka")
    for page in (andrej, olivia):
        row(page, "How much").click()
        expect(page.locator(".bubble-words")).to_have_text("How much is a carpet?")

    # a note with a colleague in it stands among the messages, and is the team's alone
    andrej.get_by_role("button", name="Note", exact=True).click()
    note = andrej.get_by_label("Write a note for colleagues")
    note.press_sequentially("She is a regular, @oli")
    expect(andrej.get_by_role("option", name="Olivia Ozbolt")).to_be_visible()
    look(andrej, "desk-mention")
    note.press("Enter")
    note.press_sequentially("please be kind <img src=x onerror=hacked=1>")
    note.press("Enter")
    expect(note).to_have_value("")
    expect(olivia.locator(".note .mention")).to_have_text("@Olivia Ozbolt")
    assert olivia.evaluate("[window.hacked, document.images.length]") == [None, 0]
    read = "select mentions::text from conversation_notes where kind = 'note'"
    assert comes(olivia, lambda: office.run(read)) == [(f"{{{OLIVIA}}}",)]
    olivia.get_by_role("button", name="Take", exact=True).click()
    expect(andrej.locator(".event")).to_contain_text("Olivia Ozbolt has taken the conversation.")
    write(olivia, "Write a message", "Eight euros a square metre.")
    expect(andrej.locator(".bubble-words").nth(1)).to_be_visible()
    # in the order of time: message, note, event, message
    expect(andrej.locator(".bubbles > li").nth(1)).to_contain_text("She is a regular")
    expect(andrej.locator(".bubbles > li").nth(2)).to_contain_text("has taken")
    expect(andrej.locator(".bubbles > li").nth(3)).to_contain_text("Eight euros")
    andrej.locator(".note").get_by_role("button", name="Edit").click()
    andrej.locator(".note textarea").fill("She is a regular.")
    andrej.locator(".note").get_by_role("button", name="Save").click()
    expect(olivia.locator(".note-words")).to_have_text("She is a regular.")
    expect(portal.get_by_text("Eight euros")).to_be_visible()
    expect(portal.get_by_text("regular")).to_have_count(0)
    check_accessible(andrej, of="note")
    look(andrej, "desk-note")

    # a saved reply is made once, found by its short code, and filled for the customer
    olivia.goto(olivia.url.split("#")[0] + "#/settings/replies")
    expect(olivia.get_by_text("No saved replies yet")).to_be_visible()
    olivia.get_by_role("button", name="New saved reply").click()
    olivia.get_by_label("Short code").fill("hello")
    olivia.get_by_label("Text", exact=True).fill("Dear ")
    olivia.get_by_role("button", name="{{contact.name}}").click()
    expect(olivia.get_by_label("Text", exact=True)).to_have_value("Dear {{contact.name}}")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.locator(".reply-words")).to_have_text("Dear {{contact.name}}")
    check_accessible(olivia, of="replies")
    look(olivia, "desk-replies")
    andrej.get_by_role("button", name="Reply", exact=True).click()
    field = andrej.get_by_label("Write a message")
    field.press_sequentially("/")
    expect(andrej.get_by_role("listbox").get_by_role("option")).to_have_count(1)
    office.run(
        "insert into saved_replies (account_id, short_code, text)"
        " values (%s, 'when', 'See you {{appointment.time}}')",
        ALPINE,
    )
    expect(andrej.get_by_role("listbox").get_by_role("option")).to_have_count(2)
    look(andrej, "desk-slash")
    field.press_sequentially("hel")
    expect(andrej.get_by_role("listbox").get_by_role("option")).to_have_count(1)
    field.press("Enter")
    expect(field).to_have_value("Dear Cilka Cerar")
    field.fill("/when")
    expect(andrej.get_by_role("listbox").get_by_role("option")).to_have_count(1)
    field.press("Enter")
    expect(andrej.get_by_role("alert")).to_contain_text("appointment.time")
    field.fill("")
    expect(andrej.get_by_role("alert")).to_have_count(0)

    # sent later; a time in the quiet hours becomes their end, and WhatsApp's window is minded
    office.run("update accounts set quiet_from = '20:00', quiet_until = '08:00', time_zone = 'UTC'")
    field.fill("We will be there.")
    # who looks something up elsewhere finds what was begun
    rail = andrej.get_by_role("navigation", name="Sections")
    rail.get_by_role("link", name="Contacts").click()
    expect(andrej.locator(".contact-row")).to_have_count(1)
    rail.get_by_role("link", name="Inbox").click()
    expect(field).to_have_value("We will be there.")
    andrej.get_by_role("button", name="Send later").click()
    look(andrej, "desk-later")
    later = andrej.get_by_label("Date and time")
    later.fill("2027-05-01T09:00")
    andrej.get_by_role("button", name="Send then").click()
    refused = andrej.locator(".drop .refusal")
    expect(refused).to_contain_text("WhatsApp takes free text until")
    expect(andrej.get_by_text("There is no template that WhatsApp would take.")).to_be_visible()
    soon = office.run("select to_char(now() + interval '2 hours', 'YYYY-MM-DD\"T\"HH24:MI')")[0][0]
    office.run("update accounts set quiet_from = null, quiet_until = null")
    andrej.evaluate(
        "at => { const field = document.querySelector('.drop input'); field.value = at;"
        " field.dispatchEvent(new Event('input')); }",
        soon,
    )
    andrej.get_by_role("button", name="Send then").click()
    expect(field).to_have_value("")
    expect(andrej.get_by_role("status").filter(has_text="It will be sent")).to_be_visible()
    andrej.locator(".later summary").click()
    expect(andrej.locator(".later-words")).to_have_text("We will be there.")
    check_accessible(andrej, of="later")
    look(andrej, "desk-scheduled")
    andrej.locator(".later").get_by_role("button", name="Change").click()
    andrej.locator(".later textarea").fill("We will be there at nine.")
    # another one comes before it, and takes nothing away
    soon = "send_at - interval '1 hour'"
    office.run(
        "insert into scheduled_messages (account_id, conversation_id, customer_id, author_id,"
        " author_name, message, wanted_at, send_at, due_at) select account_id, conversation_id,"
        f" customer_id, author_id, author_name, 'Before', {soon}, {soon}, {soon}"
        " from scheduled_messages"
    )
    expect(andrej.locator(".later-words")).to_have_text("Before")
    expect(andrej.locator(".later textarea")).to_have_value("We will be there at nine.")
    andrej.locator(".later").get_by_role("button", name="Save").click()
    expect(andrej.locator(".later-words").last).to_have_text("We will be there at nine.")
    for left in (1, 0):
        andrej.get_by_role("button", name="Don't send").last.click()
        expect(andrej.locator(".later-row")).to_have_count(left)
    read = "select status from scheduled_messages"
    comes(andrej, lambda: office.run(read), lambda rows: rows == [("cancelled",)] * 2)
    assert [one for one in people.complaints if "422" not in one] == []


def test_contacts_reminders_sync_health_and_settings(
    people: People, stack: Stack, office: Office
) -> None:
    inbound(stack, "38640111222", "Cilka", "Hello")
    inbound(stack, "38640555001", LONG, "Hello too")
    olivia = people.open("dashboard/", "Olivia", timezone_id="UTC")
    rail = olivia.get_by_role("navigation", name="Sections")

    # a contact: found by digits, written, shown by the live chat at once
    rail.get_by_role("link", name="Contacts").click()
    expect(olivia.locator(".contact-row")).to_have_count(2)
    olivia.get_by_label("Name, number, email, tag").fill("0111222")
    expect(olivia.locator(".contact-row")).to_have_count(1)
    olivia.locator(".contact-row").click()
    chat = olivia.locator(".contact-side section").first
    expect(chat).to_contain_text("Cilka Cerar")
    expect(olivia.locator(".identities")).to_contain_text("+38640111222")
    olivia.get_by_label("Name", exact=True).fill("Cilka Cerar Novak")
    olivia.get_by_label("Status").select_option("Pending")
    olivia.get_by_role("button", name="Save").click()
    expect(chat).to_contain_text("Cilka Cerar Novak")
    expect(chat).to_contain_text("Pending")
    office.run("update contacts set name = 'Cilka from elsewhere' where id = %s", CILKA)
    expect(chat).to_contain_text("Cilka from elsewhere")
    expect(olivia.get_by_label("Name", exact=True)).to_have_value("Cilka from elsewhere")
    expect(olivia.locator(".contact-row")).to_contain_text("Cilka from elsewhere")
    # a half-filled form stays while a colleague changes the contact, and is not written over the
    # same without a word
    olivia.get_by_label("Notes").fill("Rings twice")
    office.run("update contacts set name = 'Cilka again', notes = 'A dog' where id = %s", CILKA)
    expect(chat).to_contain_text("Cilka again")
    expect(olivia.get_by_label("Notes")).to_have_value("Rings twice")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_role("alert")).to_contain_text("A colleague has changed the same")
    expect(olivia.get_by_label("Notes")).to_have_value("Rings twice")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_text("Saved.")).to_be_visible()
    expect(olivia.get_by_label("Name", exact=True)).to_have_value("Cilka again")
    read = "select name, notes from contacts where id = %s"
    assert office.run(read, CILKA) == [("Cilka again", "Rings twice")]

    # merged, and taken back
    olivia.get_by_label("Find the other contact").fill("maksimilijan")
    olivia.locator(".merge-found button").click()
    look(olivia, "contacts-merge")
    olivia.locator(".contact-side").get_by_role("button", name="Merge", exact=True).click()
    expect(olivia.get_by_text("Merged.", exact=True)).to_be_visible()
    expect(olivia.locator(".identities")).to_contain_text("+38640555001")
    check_accessible(olivia, of="contact")
    look(olivia, "contacts")
    olivia.locator(".done").get_by_role("button", name="Undo").click()
    expect(olivia.get_by_text("Both contacts are back.")).to_be_visible()
    expect(olivia.locator(".identities")).not_to_contain_text("+38640555001")

    # a contact who has never written, with a number as it is written at home; an invoice and points
    olivia.get_by_role("link", name="New contact").click()
    olivia.get_by_label("Name", exact=True).fill(LONG[:60])
    olivia.get_by_role("textbox", name="Email").fill("new@customers.example")
    olivia.get_by_role("textbox", name="Phone").fill("040 777 123")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.locator(".identities")).to_contain_text("+38640777123")
    expect(olivia.get_by_text("Points of this customer appear here.")).to_be_visible()
    olivia.get_by_role("button", name="New invoice").click()
    olivia.get_by_label("Number", exact=True).fill("2026-009")
    olivia.get_by_label("Amount").fill("120,50")
    olivia.locator(".contact-records form").get_by_role("button", name="Save").click()
    expect(olivia.locator(".invoice")).to_contain_text("€120.50")
    expect(olivia.locator(".invoice")).to_contain_text("Draft")
    olivia.get_by_role("button", name="Send to the customer").click()
    expect(olivia.locator(".invoice")).to_contain_text("To pay")
    olivia.get_by_role("button", name="Enter points").click()
    olivia.get_by_label("Points", exact=True).fill("50")
    olivia.locator(".contact-records form").get_by_role("button", name="Save").click()
    expect(olivia.locator(".points strong")).to_have_text("50")
    check_accessible(olivia, of="records")
    look(olivia, "contacts-records")
    # one form at a time
    records = olivia.locator(".contact-records")
    records.get_by_role("button", name="New appointment").click()
    expect(records.locator("job-list form")).to_have_count(1)
    records.get_by_role("button", name="New invoice").click()
    expect(records.locator("form.card-plain")).to_have_count(1)
    expect(records.locator("job-list form")).to_have_count(0)
    records.get_by_role("button", name="New appointment").click()
    expect(records.locator("form.card-plain")).to_have_count(1)
    expect(records.locator("job-list form")).to_have_count(1)
    records.get_by_role("button", name="Cancel").click()
    expect(records.locator("form")).to_have_count(0)
    check_held(olivia, "records")

    # invited: the link is shown once, and greets in the customer's language
    olivia.get_by_role("button", name="Invite").click()
    link = olivia.locator(".invitation").input_value()
    assert "/portal/?invitation=" in link
    guest = people.open(link.removeprefix(f"{stack.url}/"), locale="sl-SI")
    expect(guest.get_by_role("heading", name="Alpine Carpet Care vas vabi")).to_be_visible()
    expect(guest.get_by_label("E-naslov")).to_have_value("new@customers.example")
    check_accessible(guest, of="invited")
    look(guest, "invited")
    guest.get_by_role("button", name="Pošljite mi povezavo").click()
    expect(guest.get_by_role("link", name="Preberite")).to_be_visible()
    where = {"to": "new@customers.example"}
    mails = httpx.get(f"{stack.url}/_mail/messages", params=where, trust_env=False).json()
    assert "Sledite tej povezavi" in mails["messages"][0]["body"]
    guest.goto(mails["messages"][0]["link"])
    expect(guest.locator(".invoice")).to_contain_text("2026-009")

    # and written to by a template, which opens the conversation
    office.run(
        "insert into whatsapp_templates (account_id, waba_id, name, language, category, status,"
        " components, variables) select account_id, waba_id, 'hello_world', 'en_US', 'UTILITY',"
        """ 'APPROVED', '[{"type": "BODY", "text": "Welcome and congratulations!!"}]', '{}'"""
        " from whatsapp_channels where phone_number_id = %s on conflict do nothing",
        NUMBER,
    )
    olivia.get_by_role("button", name="Send a template").click()
    olivia.locator(".template-row", has_text="Hello world").click()
    olivia.get_by_role("dialog").get_by_role("button", name="Send", exact=True).click()
    expect(olivia.locator(".bubble-words")).to_contain_text("Welcome and congratulations!!")
    expect(olivia.locator(".bubble [data-status=read]")).to_be_visible()
    rail.get_by_role("link", name="Contacts").click()
    # whom the names make look like one person
    office.run("insert into contacts (account_id, name) values (%s, %s)", ALPINE, LONG[:60])
    olivia.get_by_role("link", name="Duplicates").click()
    olivia.get_by_role("button", name="Look for more").click()
    expect(olivia.locator(".duplicate")).to_have_count(1)
    check_accessible(olivia, of="duplicates")
    look(olivia, "contacts-duplicates")
    olivia.get_by_role("button", name="Two people").click()
    expect(olivia.get_by_text("No duplicates")).to_be_visible()

    # a rule of reminders: tried, made, turned off; what it will send
    office.run(
        "insert into jobs (account_id, customer_id, service_type, starts_at, created_at)"
        " values (%s, %s, 'Carpet cleaning', now() + interval '3 days', now()),"
        " (%s, %s, 'Sofa cleaning', now() - interval '5 days', now() - interval '9 days')",
        *(ALPINE, CILKA) * 2,
    )
    rail.get_by_role("link", name="Reminders").click()
    expect(olivia.get_by_text("No rules yet")).to_be_visible()
    olivia.get_by_role("button", name="New rule").click()
    olivia.get_by_label("Name of the rule").fill("The day before")
    olivia.get_by_label("Text in the portal").fill("See you ")
    olivia.get_by_role("button", name="{{appointment.time}}").click()
    olivia.get_by_role("button", name="Try it").click()
    expect(olivia.locator(".trial")).to_contain_text("it would have sent 1 reminder")
    check_accessible(olivia, of="rule")
    look(olivia, "reminders-try")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_text("1 day before an appointment")).to_be_visible()
    expect(olivia.locator(".reminders li")).to_contain_text("Cilka again")
    look(olivia, "reminders")
    olivia.get_by_role("button", name="Turn off").click()
    expect(olivia.get_by_text("Nothing will be sent.")).to_be_visible()
    # a rule that a colleague deletes stays in the hands of who changes it
    olivia.get_by_role("button", name="Turn on").click()
    expect(olivia.locator(".reminders li")).to_contain_text("Cilka again")
    olivia.get_by_role("button", name="Edit The day before").click()
    olivia.get_by_label("Name of the rule").fill("The day before, at noon")
    office.run("delete from reminder_rules")
    expect(olivia.get_by_text("Nothing will be sent.")).to_be_visible()
    expect(olivia.get_by_label("Name of the rule")).to_have_value("The day before, at noon")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_role("alert")).to_contain_text("there is no such row")
    people.complaints.remove(
        comes(olivia, lambda: [one for one in people.complaints if "404" in one])[0]
    )
    olivia.get_by_role("button", name="Cancel").click()
    expect(olivia.get_by_text("No rules yet")).to_be_visible()

    # the sync: connected, a run that moves, a question that is answered
    rail.get_by_role("link", name="Metakocka").click()
    expect(olivia.get_by_text("Not connected")).to_be_visible()
    olivia.get_by_label("Company id").fill("4711")
    olivia.get_by_role("button", name="Connect").click()
    expect(olivia.get_by_text("Company 4711")).to_be_visible()
    office.run("delete from sync_runs")
    office.run(
        "insert into sync_runs (account_id, direction, trigger, state, started_at, total, done,"
        " succeeded) values (%s, 'both', 'user', 'running', now(), 80, 20, 20)",
        ALPINE,
    )
    bar = olivia.get_by_role("progressbar")
    expect(bar).to_have_js_property("position", 0.25)
    office.run("update sync_runs set done = 40, succeeded = 30, unchanged = 10")
    expect(bar).to_have_js_property("position", 0.5)
    office.run(
        "insert into sync_conflicts (account_id, contact_id, metakocka_id, field, base, crm,"
        " metakocka) values (%s, %s, '1', 'email', '\"a@a.example\"', '\"b@b.example\"',"
        " '\"c@c.example\"')",
        *(ALPINE, CILKA),
    )
    office.run(
        "insert into metakocka_contact_mappings (account_id, contact_id, state, missing)"
        " values (%s, %s, 'blocked', '{street,post_number,place,country}') on conflict (contact_id)"
        " do update set state = excluded.state, missing = excluded.missing",
        *(ALPINE, CILKA),
    )
    office.run(
        "update sync_runs set done = 80, succeeded = 69, failed = 1, state = 'done',"
        " finished_at = now()"
    )
    expect(olivia.locator(".pill", has_text="Done, but 1 failed")).to_be_visible()
    expect(olivia.locator(".versus")).to_contain_text("c@c.example")
    check_accessible(olivia, of="metakocka")
    look(olivia, "metakocka")
    # the decision puts the contact in the queue; a form that is half filled stays
    olivia.get_by_label("Street and number").fill("Glavna 1")
    olivia.get_by_role("button", name="Keep ours").click()
    expect(olivia.get_by_text("Nothing has to be decided.")).to_be_visible()
    office.run("update contacts set name = 'Cilka once more' where id = %s", CILKA)
    olivia.wait_for_timeout(1500)  # the list is asked again at most once in a second
    expect(olivia.get_by_label("Street and number")).to_have_value("Glavna 1")
    olivia.get_by_label("Postcode").fill("4000")
    olivia.get_by_label("Town").fill("Kranj")
    olivia.get_by_label("Country").fill("Slovenija")
    olivia.get_by_role("button", name="Save and send").click()
    expect(olivia.get_by_text("Contacts that wait")).to_have_count(0)
    assert office.run("select street, place from metakocka_partners where id = %s", CILKA) == [
        ("Glavna 1", "Kranj")
    ]

    # what is wrong, live
    rail.get_by_role("link", name="Health").click()
    expect(olivia.get_by_text("Everything works")).to_be_visible()
    office.run(
        "update whatsapp_channels set stopped_at = now(), stopped_reason = 'It ended.'"
        " where account_id = %s",
        ALPINE,
    )
    expect(olivia.locator(".health-row")).to_contain_text("+386 1 555 01 00")
    expect(rail.locator(".badge")).to_contain_text("1")
    expect(olivia.locator(".health-row")).to_contain_text("It ended.")
    check_accessible(olivia, of="health")
    look(olivia, "health")
    # why something does not show: the first broken step on top, of a number as people write it too
    field = olivia.get_by_label("Id, number or email")
    field.fill("+386 1 555 01 00")
    field.press("Enter")
    expect(olivia.locator(".why-top")).to_contain_text("It ended.")
    expect(olivia.locator(".why-top")).to_contain_text("Times are those of Europe/Ljubljana.")
    expect(olivia.locator(".why-step.why-broken").first).to_contain_text("Number")
    check_accessible(olivia, of="why")
    look(olivia, "why")
    olivia.get_by_role("link", name="Back to health").click()
    olivia.get_by_role("button", name="Send again").click()
    expect(olivia.get_by_text("Everything works")).to_be_visible()
    ((chat_id,),) = office.run(
        "select id from conversations where customer_id = %s and channel = 'whatsapp'", CILKA
    )
    olivia.evaluate("id => (location.hash = id)", str(chat_id))
    expect(olivia.get_by_role("link", name="Why doesn't it show?")).to_be_visible()
    look(olivia, "why-conversation")
    olivia.get_by_role("link", name="Why doesn't it show?").click()
    expect(olivia.locator(".why-top")).to_contain_text("Shown: yes")
    check_held(olivia, "why")
    olivia.get_by_label("Who should see it").select_option("Andrej Arko")
    expect(olivia.locator(".why-step", has_text="Who may see it")).to_contain_text(
        "Andrej Arko works for the account"
    )

    # settings: the business for owners, notifications for each
    rail.get_by_role("link", name="Settings").click()
    olivia.get_by_role("link", name="Business").click()
    olivia.get_by_label("From", exact=True).fill("21:00")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_role("alert")).to_contain_text("Quiet hours need two different times")
    olivia.get_by_label("Until", exact=True).fill("08:00")
    olivia.get_by_label("A free conversation goes in turn").check()
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.get_by_text("Saved.")).to_be_visible()
    assert office.run(
        "select quiet_from::text, quiet_until::text, assigns_in_turn from accounts where id = %s",
        ALPINE,
    ) == [("21:00:00", "08:00:00", True)]
    check_accessible(olivia, of="business")
    look(olivia, "settings-business")
    olivia.get_by_role("link", name="Notifications").click()
    # a stack without keys for pushes says so
    expect(olivia.get_by_role("switch").or_(olivia.locator(".push-note"))).to_be_visible()
    check_accessible(olivia, of="notifications")
    look(olivia, "settings-notifications")
    olivia.get_by_role("link", name="Labels").click()
    olivia.get_by_role("button", name="New label").click()
    olivia.get_by_label("Name", exact=True).fill("Offer")
    olivia.get_by_role("button", name="Save").click()
    expect(olivia.locator(".label-tag")).to_have_text("Offer")
    olivia.get_by_role("button", name="Delete Offer").click()
    expect(olivia.get_by_text("No labels yet")).to_be_visible()
    # colleagues: another role, an invitation by a link, and who is removed
    olivia.get_by_role("link", name="Colleagues").click()
    olivia.get_by_label("Role of Olivia Ozbolt").select_option("Agent")
    expect(olivia.get_by_role("alert")).to_contain_text("Make somebody else an owner first.")
    expect(olivia.get_by_label("Role of Olivia Ozbolt")).to_have_value("owner")
    olivia.get_by_label("Email", exact=True).fill("a b")
    olivia.get_by_role("button", name="Invite", exact=True).click()
    expect(olivia.locator("#fault-email")).to_contain_text("This is not an email address. Give")
    expect(olivia.get_by_label("Email", exact=True)).to_be_focused()
    olivia.get_by_label("Email", exact=True).fill("nina@alpine.example")
    olivia.get_by_label("Role", exact=True).select_option("Viewer")
    olivia.get_by_role("button", name="Invite", exact=True).click()
    expect(olivia.get_by_text("Viewer, invited by Olivia Ozbolt")).to_be_visible()
    check_accessible(olivia, of="members")
    look(olivia, "settings-members")
    link = olivia.locator(".invitation").input_value()
    nina = people.open(link.removeprefix(f"{stack.url}/"))
    expect(nina.get_by_text("A colleague has invited you.")).to_be_visible()
    expect(nina.get_by_label("Email")).to_have_value("nina@alpine.example")
    nina.get_by_role("button", name="Email me a link").click()
    expect(nina.get_by_text("A link is on its way to nina@alpine.example.")).to_be_visible()
    expect(nina.get_by_role("link", name="Read it here")).to_be_visible()
    where = {"to": "nina@alpine.example"}
    mails = httpx.get(f"{stack.url}/_mail/messages", params=where, trust_env=False).json()
    nina.goto(mails["messages"][0]["link"])
    expect(row(nina, "Welcome and congratulations!!")).to_be_visible()
    # without loading the page again
    expect(olivia.get_by_text("Viewer, invited by")).to_have_count(0)
    before = len(people.complaints)
    olivia.get_by_role("button", name="Remove Nina").click()
    olivia.get_by_role("button", name="Remove", exact=True).click()
    expect(olivia.get_by_label("Role of Nina")).to_have_count(0)
    # who is removed reads so at once; what that page asked for meanwhile was refused
    lost = "You no longer work for Alpine Carpet Care"
    expect(nina.get_by_role("heading", name=lost)).to_be_visible()
    check_accessible(nina, of="removed")
    look(nina, "removed")
    nina.close()
    del people.complaints[before:]
    assert "nina" not in str(office.run("select display_name from account_members")).lower()
    olivia.get_by_role("link", name="Labels").click()
    olivia.set_viewport_size({"width": 360, "height": 720})
    for name in ("Contacts", "Reminders", "Metakocka", "Health", "Settings"):
        rail.get_by_role("link", name=name).click()
        expect(olivia.locator("h1")).to_be_visible()
        assert olivia.evaluate("document.documentElement.scrollWidth") == 360, name
        check_held(olivia, name)
        look(olivia, f"{name.lower()}-360")
    # the whole name of the business, and one field a line
    assert olivia.locator(".bar-name").evaluate(
        "(name) => [name.scrollWidth <= name.clientWidth, name.scrollHeight <= name.clientHeight]"
    ) == [True, True]
    olivia.get_by_role("link", name="Colleagues").click()
    email, shown = (
        olivia.get_by_label(label, exact=True).bounding_box() or {}
        for label in ("Email", "Name (may be left out)")
    )
    assert shown["y"] >= email["y"] + email["height"]
    refused = [one for one in people.complaints if not re.search(r"\b4(00|09|22)\b", one)]
    assert refused == [], refused


def test_a_long_inbox_is_read_in_pages(people: People, office: Office) -> None:
    office.run(
        "with added as (insert into contacts (account_id, name)"
        " select %s, 'Customer ' || n from generate_series(1, 130) n returning id, account_id)"
        " insert into conversations (account_id, customer_id, channel, thread_key)"
        " select account_id, id, 'portal', id from added",
        ALPINE,
    )
    office.run(
        "update conversation_activity a set last_message_at = now()"
        " - (split_part(c.name, ' ', 2)::integer * interval '1 minute')"
        " from contacts c where c.id = a.customer_id"
    )
    andrej = people.open("dashboard/", "Andrej")
    rows = andrej.locator(".inbox-row")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("Customer 1")
    for count in (100, 130):
        andrej.locator(".pane-body").evaluate("pane => pane.scrollTo(0, pane.scrollHeight)")
        expect(rows).to_have_count(count)
    expect(rows.last).to_contain_text("Customer 130")
    # what comes is at the top, and the pages that were read stay
    ((customer,),) = office.run("select id::text from contacts where name = 'Customer 90'")
    office.run(
        "select set_config('request.jwt.claims', json_build_object("
        "'sub', %s::text, 'role', 'authenticated')::text, false)",
        ANDREJ,
    )
    office.run("select public.post_message(customer_id => %s, message => 'Hello 90')", customer)
    expect(rows.first).to_contain_text("You: Hello 90")
    expect(rows).to_have_count(130)
    # the last message of each in the reader's language, which is not the account's
    said = {
        ("client", "image", "[image] The hall"): "Fotografija: The hall",
        ("client", "audio", "[voice message]", '{"audio": {"voice": true}}'): "Glasovno sporočilo",
        ("client", "location", "[location] Kranj"): "Lokacija: Kranj",
        ("client", "call", "[missed call]", '{"status": "missed"}'): "Klic brez odgovora",
        ("client", "call", "[call]", '{"status": "answered", "duration_s": 65}'): "Klic, 1:05",
        ("client", "unsupported", "[unsupported message]"): "Sporočilo druge vrste",
        (
            *("system", "system", "Carpets is completed."),
            '{"event": "job.completed", "service_type": "Carpets", "starts_at": "2027-01-05"}',
        ): "Carpets: delo je končano.",
    }
    for number, (sender, type_, message, *content) in enumerate(said, 1):
        office.run(
            "insert into messages (account_id, conversation_id, customer_id, seq, sender_type,"
            " type, message, content, status) select a.account_id, a.conversation_id,"
            " a.customer_id, a.last_seq + 1, %s, %s, %s, %s, 'sent' from conversation_activity a"
            " join contacts c on c.id = a.customer_id where c.name = %s",
            *(sender, type_, message, content[0] if content else None, f"Customer {number}"),
        )
        office.run(
            "update conversation_activity a set last_seq = 1 from contacts c"
            " where c.id = a.customer_id and c.name = %s",
            f"Customer {number}",
        )
    andrej.evaluate("localStorage['rapport-language'] = 'sl'")
    andrej.reload()
    for number, words in enumerate(said.values(), 1):
        named = andrej.get_by_text(f"Customer {number}", exact=True)
        expect(rows.filter(has=named).locator(".inbox-words")).to_have_text(words)
    # of 2,000 messages few are in the page, whichever are in sight
    ((thread,),) = office.run(
        "select a.conversation_id::text from conversation_activity a"
        " join contacts c on c.id = a.customer_id where c.name = 'Customer 100'"
    )
    office.run(
        "insert into messages (account_id, conversation_id, customer_id, seq, sender_type, type,"
        " message, status) select a.account_id, a.conversation_id, a.customer_id, n, 'client',"
        " 'text', 'Number ' || n, 'delivered' from conversation_activity a,"
        " generate_series(1, 2000) n where a.conversation_id = %s",
        thread,
    )
    office.run(
        "update conversation_activity set last_seq = 2000 where conversation_id = %s", thread
    )
    andrej.evaluate("id => { location.hash = id; }", thread)
    bubbles = andrej.locator("[data-key]")
    expect(andrej.get_by_text("Number 2000", exact=True).last).to_be_in_viewport()
    expect(bubbles).to_have_count(60)
    while not andrej.get_by_text("Number 1850", exact=True).count():
        andrej.locator(".chat").evaluate("chat => { chat.scrollTop = 0; }")
        andrej.evaluate("new Promise((done) => setTimeout(done, 50))")
        assert bubbles.count() == 60
    assert people.complaints == []
