"""The pages for people, in a real browser: phone, dashboard and portal on one stack."""

from __future__ import annotations

import json
import re
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)
from tests.integration.pages import check_scrolls, comes, is_complaint
from tests.stacks import Start
from tests.web import node

import rapport
from rapport.local.stack.logins import LOGINS, PASSWORD, PHONES
from rapport.local.stack.postgres import SUPERUSER, Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT

WEB = Path(rapport.__file__).parent / "web"
CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>"
# ms: a machine that does much else at the same time
PATIENCE = 20_000

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--no-proxy-server",
                # a microphone that hums
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def stack_of_the_seed(stack: Stack, database: Database) -> Stack:
    """A whole stack with the logins of supabase/seed.sql."""
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
    return stack


@pytest.fixture
def complaints() -> list[str]:
    """What pages have said of errors, also of what their policy has kept out."""
    return []


@pytest.fixture
def open_page(browser: Browser, stack_of_the_seed: Stack, complaints: list[str]) -> Iterator[Open]:
    """Opens a page in a browser of its own, as one of the seed's people."""
    contexts = []

    def open_page(path: str, name: str | None = None, **settings: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **settings}
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: is_complaint(one) and complaints.append(one.text))
        page.on("pageerror", lambda error: complaints.append(error.message))
        page.goto(f"{stack_of_the_seed.url}/{path}")
        if name:
            page.get_by_role("button", name=name).click()
            expect(page.locator(".connection-is-connected")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()


def write(page: Page, message: str) -> None:
    field = page.get_by_label("Write a message")
    field.fill(message)
    field.press("Enter")
    expect(field).to_have_value("")


def bubble(page: Page, message: str) -> Locator:
    return page.locator(".bubble-row", has=page.locator(".bubble-words", has_text=message))


def picture(red: int) -> bytes:
    """A PNG of 40 by 30 in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes((red, 120, 90)) * 40) * 30)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


class Customer:
    """A person who writes to the first business on WhatsApp, and what that person's phone shows."""

    def __init__(self, stack: Stack, number: str, name: str) -> None:
        self._url = f"{stack.whatsapp_url}/_fake"
        self._who = {
            "phone_number_id": PHONES[0].phone_number_id,
            "from": number,
            "name": name,
        }

    def does(self, **what: object) -> str:
        """Writes or does something; returns WhatsApp's id of it."""
        answer = httpx.post(
            f"{self._url}/inbound", json=self._who | what, trust_env=False, timeout=30
        ).raise_for_status()
        (message,) = answer.json()["webhook"]["entry"][0]["changes"][0]["value"]["messages"]
        return str(message["id"])

    def got(self) -> list[dict[str, Any]]:
        """What the business has sent, as the phone shows it."""
        where = {"to": self._who["from"]}
        answer = httpx.get(f"{self._url}/messages", params=where, trust_env=False)
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages


def serious(page: Page, rules: str = "undefined") -> list[object]:
    """What axe finds on a page that keeps people from using it."""
    check_scrolls(page, of=page.url)
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate((node.install() / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate(f"axe.run({{resultTypes: ['violations'], runOnly: {rules}}})")
    return [
        (page.url, one["id"], [found["html"] for found in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@contextmanager
def told_before_seen(database: Database) -> Iterator[Callable[[], int]]:
    """Has transactions wait at their very end, when Realtime tells of them already and others do
    not see them yet: a moment which lasts under load. Gives how many wait.
    """
    with psycopg.connect(database.url(SUPERUSER), autocommit=True) as superuser:

        def waiting() -> int:
            query = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
            row = superuser.execute(query).fetchone()
            assert row is not None
            return int(row[0])

        superuser.execute("alter system set synchronous_standby_names = 'nobody'")
        superuser.execute("select pg_reload_conf()")
        try:
            yield waiting
        finally:
            superuser.execute("alter system reset synchronous_standby_names")
            superuser.execute("select pg_reload_conf()")


def test_phone_desk_and_portal_see_what_is_theirs(
    open_page: Open, stack_of_the_seed: Stack, database: Database, complaints: list[str]
) -> None:
    desk = open_page("dashboard/", "Andrej", timezone_id="Europe/Ljubljana")
    others_desk = open_page("dashboard/", "Ana")
    portal = open_page("portal/", "Cilka", timezone_id="America/New_York")
    others_portal = open_page("portal/", "Carlos")
    phone = open_page("phone/", viewport={"width": 360, "height": 720})
    assert phone.evaluate("document.documentElement.scrollWidth") == 360

    # from the phone to the desk, and the answer back, with ticks
    expect(desk.get_by_text("No conversations yet")).to_be_visible()
    write(phone, "Is Tuesday free?")
    expect(bubble(phone, "Is Tuesday free?").locator("[data-status=delivered]")).to_be_visible()
    desk.locator(".inbox-row", has_text="Is Tuesday free?").click()
    expect(bubble(desk, "Is Tuesday free?")).to_be_visible()
    expect(bubble(phone, "Is Tuesday free?").locator("[data-status=read]")).to_be_visible()
    write(desk, "Yes, at nine.")
    expect(bubble(desk, "Yes, at nine.").locator("[data-status=read]")).to_be_visible()
    expect(bubble(phone, "Yes, at nine.")).to_be_visible()
    expect(bubble(portal, "Yes, at nine.")).to_be_visible()
    expect(desk.locator(".inbox .badge")).to_have_count(0)

    # an appointment that staff make and move, and the customer's page and notes
    desk.get_by_role("button", name="New appointment").click()
    desk.get_by_label("Service").fill("Carpet cleaning")
    desk.get_by_label("Date and time").fill("2027-01-05T09:00")
    desk.get_by_role("button", name="Add").click()
    # what stays for some seconds alone is looked at first
    expect(portal.locator(".notification", has_text="New appointment")).to_be_visible()
    expect(portal.locator(".job")).to_contain_text("Carpet cleaning")
    desk.get_by_role("button", name="Move").click()
    desk.get_by_label("Date and time").fill("2027-01-06T11:30")
    desk.get_by_role("button", name="Save").click()
    expect(portal.locator(".notification", has_text="Appointment moved")).to_be_visible()
    # the same hour in both, of the business, which is named where clocks show another
    expect(portal.locator(".job")).to_contain_text("Wed, 6 Jan 2027, 11:30 CET")
    expect(desk.locator(".job time")).to_have_text("Wed, 6 Jan 2027, 11:30")
    desk.get_by_role("button", name="Cancel").click()
    desk.locator(".button-bad").click()
    expect(portal.locator(".notification", has_text="Appointment cancelled")).to_be_visible()

    # a message that fails says why; that its mark as read fails as well, nobody notices
    badge = portal.locator(".tabs .badge")
    expect(badge).to_have_count(0)
    lost: list[str] = []

    def lose(route: Route) -> None:
        lost.append(route.request.url)
        route.abort()

    portal.route("**/rest/v1/rpc/mark_read", lose, times=2)
    order = {"webhooks": {"statuses": ["sent", "failed"]}}
    httpx.post(f"{stack_of_the_seed.whatsapp_url}/_fake/behaviour", json=order, trust_env=False)
    write(desk, "Not to be delivered")
    expect(bubble(desk, "Not to be delivered")).to_contain_text("Not delivered: Message undeliv")
    expect(bubble(portal, "Not to be delivered")).to_be_visible()
    expect(badge).to_have_count(0)
    assert len(lost) == 2
    while lost:
        complaints.remove("Failed to load resource: net::ERR_FAILED")
        lost.pop()

    # nor of one that came before others could see the message
    with told_before_seen(database) as waiting, portal.expect_request("**/rpc/mark_read"):
        write(desk, "Before its time")
        expect(bubble(portal, "Before its time")).to_be_visible()
        # the message, and that the customer has seen it
        comes(portal, waiting, lambda count: count >= 2)
    expect(badge).to_have_count(0)
    expect(desk.locator(".inbox-row", has_text="Before its time")).to_be_visible()

    # what comes while the chat is out of sight is counted and told, and read once it is in sight
    portal.set_viewport_size({"width": 360, "height": 720})
    write(desk, "Are you there?")
    expect(portal.locator(".notification", has_text="Are you there?")).to_be_visible()
    expect(badge.locator("[aria-hidden]")).to_have_text("1")
    portal.locator(".tabs button", has_text="Chat").click()
    expect(bubble(portal, "Are you there?")).to_be_in_viewport()
    expect(badge).to_have_count(0)

    # nobody else has seen anything; a page after the phone's would have by now
    for page in (others_desk, others_portal):
        expect(page.locator(".inbox-row, .job, .bubble, .notification")).to_have_count(0)
    assert complaints == []

    for page in (open_page(""), open_page("portal/"), phone, desk, portal, others_desk):
        # by dark only colours are others
        for scheme, rules in (("light", "undefined"), ("dark", "['color-contrast']")):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of its literals
            assert serious(page, rules) == []


def test_nothing_from_outside_is_html_and_few_bubbles_are_there(
    open_page: Open, stack_of_the_seed: Stack, complaints: list[str]
) -> None:
    order = {"phone_number_id": PHONES[0].phone_number_id, "from": "38640555001", "name": HOSTILE}
    url = f"{stack_of_the_seed.whatsapp_url}/_fake/inbound"
    past: list[dict[str, str]] = [{"text": f"Number {number}."} for number in range(1, 151)]
    past[0]["at"] = "2026-01-05T09:00:00Z"
    for what in ({"text": HOSTILE}, {"history": past}, {"text": f"{HOSTILE} again"}):
        httpx.post(url, json=order | what, trust_env=False, timeout=30).raise_for_status()

    desk = open_page("dashboard/", "Andrej", viewport={"width": 360, "height": 720})
    row = desk.locator(".inbox-row", has_text=f"{HOSTILE} again")
    expect(row.locator(".inbox-name")).to_have_text(HOSTILE)
    row.click()
    expect(bubble(desk, f"{HOSTILE} again")).to_be_in_viewport()
    expect(desk.locator("[data-key]")).to_have_count(60)
    expect(desk.get_by_role("heading", name=HOSTILE).first).to_be_visible()
    assert desk.evaluate("[window.hacked, document.images.length]") == [None, 0]
    assert desk.evaluate("document.documentElement.scrollWidth") == 360

    # upwards to the first, and down again by one key
    chat = desk.locator(".chat")
    while not bubble(desk, "Number 1.").count():
        chat.evaluate("chat => { chat.scrollTop = 0; }")
        desk.evaluate("new Promise((done) => setTimeout(done, 50))")
        assert desk.locator("[data-key]").count() == 60
    # by the day on which it was sent, although it came today
    expect(desk.locator(".day", has_text="5 January")).to_have_count(1)
    write(desk, "Down here")
    expect(bubble(desk, "Down here")).to_be_in_viewport()
    assert desk.locator("[data-key]").count() == 60
    assert complaints == []


def test_files_come_and_go_at_the_desk(
    open_page: Open,
    stack_of_the_seed: Stack,
    start: Start,
    database: Database,
    complaints: list[str],
) -> None:
    start("moto")
    person = Customer(stack_of_the_seed, "38640555002", "Fani")
    for red in (200, 20):
        data = b64encode(picture(red)).decode()
        person.does(image={"data": data, "mime_type": "image/png", "caption": f"Red {red}"})
    name = f"../{HOSTILE}.pdf"
    person.does(
        document={
            "data": b64encode(b"%PDF-1.4").decode(),
            "mime_type": "application/pdf",
            "filename": name,
        }
    )
    person.does(location={"latitude": 46.05, "longitude": 14.5, "name": HOSTILE})
    card = {
        "name": {"formatted_name": HOSTILE},
        "phones": [{"phone": "+386 40 111 222"}, {"phone": "javascript:hacked=1"}],
    }
    person.does(contacts=[card])
    person.does(text="*Bold*, https://a.example/b?c=1. <b>no</b>")

    desk = open_page("dashboard/", "Andrej", viewport={"width": 1360, "height": 1400})
    desk.locator(".inbox-row", has_text="Fani").click()
    first = bubble(desk, "Red 200")
    expect(first.locator("img")).to_be_visible()
    assert desk.evaluate("window.hacked") is None
    expect(desk.locator(".file-name", has_text="script").first).to_be_visible()
    place = desk.locator(".place a")
    assert place.get_attribute("href") == (
        "https://www.openstreetmap.org/?mlat=46.05&mlon=14.5#map=16/46.05/14.5"
    )
    assert "noopener" in (place.get_attribute("rel") or "")
    numbers = desk.locator(".vcards a")
    expect(numbers).to_have_count(1)
    assert numbers.get_attribute("href") == "tel:+38640111222"
    words = desk.locator(".bubble-words", has_text="<b>no</b>")
    expect(words.locator("strong")).to_have_text("Bold")
    assert words.locator("a").get_attribute("href") == "https://a.example/b?c=1"

    # over the page, from one to the other by keys, and back to where it was opened
    first.get_by_role("button", name="Open photo").click()
    viewer = desk.get_by_role("dialog", name="Photos")
    expect(viewer).to_contain_text("1 of 2")
    expect(viewer.locator("img")).to_have_attribute("alt", "Red 200")
    assert serious(desk) == []
    desk.keyboard.press("ArrowRight")
    expect(viewer.locator("img")).to_have_attribute("alt", "Red 20")
    with desk.expect_download() as saved:
        viewer.get_by_role("button", name="Save this photo").click()
    assert saved.value.suggested_filename == "file.png"
    assert saved.value.path().read_bytes() == picture(20)
    desk.keyboard.press("Escape")
    expect(viewer).to_have_count(0)
    expect(first.get_by_role("button", name="Open photo")).to_be_focused()
    with desk.expect_download() as saved:
        desk.get_by_role("button", name="Save").click()
    assert saved.value.path().read_bytes() == b"%PDF-1.4"

    # chosen, pasted and dropped; what WhatsApp would refuse is refused before it is uploaded
    chosen = desk.locator("#composer-files")
    large = {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": b"\xff" * 5_300_000}
    packed = {"name": "all.zip", "mimeType": "application/zip", "buffer": b"PK"}
    chosen.set_input_files([large, packed])  # type: ignore[list-item]  # as FilePayload is
    expect(desk.locator(".upload").first).to_contain_text(
        "5.1 MB is too large: WhatsApp takes up to 5 MB"
    )
    expect(desk.locator(".upload").last).to_contain_text("doesn't take this kind of file")
    assert serious(desk) == []
    for taken in ("large.jpg", "all.zip"):
        desk.get_by_role("button", name=f"Take {taken} back").click()
    give = """(target, [kind, bytes, name]) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        const init = { bubbles: true, cancelable: true };
        target.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { ...init, clipboardData: dataTransfer })
            : new DragEvent("drop", { ...init, dataTransfer }));
    }"""
    desk.get_by_label("Write a message").evaluate(give, ["paste", list(picture(90)), "pasted.png"])
    desk.locator(".chat").evaluate(give, ["drop", list(picture(91)), "dropped.png"])
    expect(desk.locator(".upload img")).to_have_count(2)
    write(desk, "Beneath the first")
    ours = bubble(desk, "Beneath the first")
    expect(ours.locator("[data-status=read]")).to_be_visible()
    expect(ours.locator("message-file img")).to_be_visible()
    expect(desk.locator(".upload")).to_have_count(0)
    expect(desk.locator(".bubble-ours message-file img")).to_have_count(2)
    assert [one.get("image", {}).get("caption") for one in person.got()] == [
        "Beneath the first",
        None,
    ]

    # one that is taken back while it is uploaded is not sent, one without network later
    desk.route(f"{stack_of_the_seed.aws_url}/**", lambda _: None)
    chosen.set_input_files([{"name": "never.png", "mimeType": "image/png", "buffer": picture(1)}])
    desk.get_by_role("button", name="Send", exact=True).click()
    expect(desk.locator(".upload progress")).to_be_visible()
    desk.get_by_role("button", name="Cancel uploading never.png").click()
    expect(desk.locator(".upload")).to_have_count(0)
    desk.unroute(f"{stack_of_the_seed.aws_url}/**")
    assert complaints == []
    # a form that is half filled outlives the connection
    desk.get_by_role("button", name="New appointment").click()
    desk.get_by_label("Service").fill("Sofa cleaning")
    desk.context.set_offline(True)
    chosen.set_input_files([{"name": "later.png", "mimeType": "image/png", "buffer": picture(2)}])
    write(desk, "When it is back")
    expect(desk.locator(".upload")).to_contain_text("No network. The file is sent when it is back")
    desk.context.set_offline(False)
    expect(bubble(desk, "When it is back").locator("[data-status=read]")).to_be_visible()
    expect(desk.get_by_label("Service")).to_have_value("Sofa cleaning")
    complaints.clear()

    # a voice message, as WhatsApp takes it
    desk.get_by_role("button", name="Record a voice message").click()
    expect(desk.get_by_role("timer")).to_have_text(re.compile("0:0[1-9]"))
    assert serious(desk) == []
    desk.get_by_role("button", name="Send voice message").click()
    voice = desk.locator(".bubble-ours .bubble-audio")
    expect(voice.locator("[data-status=read]")).to_be_visible()
    # or it would have come to its end before that is looked at
    voice.locator("audio").evaluate("(audio) => { audio.loop = true; }")
    voice.get_by_role("button", name="Play").click()
    expect(voice.get_by_role("button", name="Pause")).to_be_visible()
    sent = person.got()[-1]
    assert (sent["type"], sent["audio"]["voice"]) == ("audio", True)
    length = voice.locator("audio").evaluate("""async (audio) => {
        const bytes = await (await fetch(audio.src)).arrayBuffer();
        const head = String.fromCharCode(...new Uint8Array(bytes.slice(0, 4)));
        return [head, (await new AudioContext().decodeAudioData(bytes)).duration];
    }""")
    assert length[0] == "OggS"
    assert 0.9 < length[1] < 30
    assert complaints == []

    module = json.dumps((WEB / "elements" / "media" / "limits.js").as_uri())
    told = node.run(
        "--input-type=module",
        "-e",
        f"console.log(JSON.stringify((await import({module})).LIMITS))",
    )
    limits = json.loads(told.stdout)
    with psycopg.connect(database.url()) as owner:
        rows = owner.execute("select type, mime_type, max_size from private.media_types").fetchall()
    assert {
        (type_, mime_type, size)
        for type_, all_ in limits.items()
        for mime_type, size in all_.items()
    } == set(rows)


def test_messages_are_answered_reacted_to_and_filled_from_templates(
    open_page: Open, stack_of_the_seed: Stack, database: Database, complaints: list[str]
) -> None:
    person = Customer(stack_of_the_seed, "38640555003", "Gita")
    question = person.does(text="Is the carpet dry?")
    desk = open_page("dashboard/", "Andrej")
    desk.locator(".inbox-row", has_text="Gita").click()
    asked = bubble(desk, "Is the carpet dry?")

    # an answer quotes what it answers, and leads to it
    asked.hover()
    asked.get_by_role("button", name="Answer").click()
    expect(desk.locator(".answered")).to_contain_text("Is the carpet dry?")
    expect(desk.get_by_label("Write a message")).to_be_focused()
    write(desk, "Nearly")
    answer = bubble(desk, "Nearly")
    expect(answer.locator("[data-status=read]")).to_be_visible()
    expect(desk.locator(".answered")).to_have_count(0)
    assert person.got()[0]["reply_to"] == question
    answer.locator(".quote").click()
    expect(asked).to_be_focused()

    # by keys from bubble to bubble, and to what can be done with one
    desk.keyboard.press("Tab")
    desk.keyboard.press("Tab")
    desk.keyboard.press("Enter")
    expect(desk.locator(".emojis")).to_be_visible()
    assert serious(desk) == []
    desk.keyboard.press("Enter")
    expect(asked.locator(".reactions")).to_have_text("👍")
    expect(asked.locator(".reaction-pending")).to_have_count(0)
    assert person.got()[1]["reaction"] == {"message_id": question, "emoji": "👍"}
    person.does(reaction={"message_id": person.got()[0]["id"], "emoji": "❤️"})
    expect(answer.locator(".reactions")).to_have_text("❤️")
    asked.get_by_role("button", name="Take 👍 back").click()
    expect(asked.locator(".reactions")).to_have_count(0)
    expect(desk.locator(".bubble")).to_have_count(2)
    person.does(edit={"message_id": question, "text": "Is the carpet dry now?"})
    expect(bubble(desk, "dry now?")).to_contain_text("edited")
    expect(answer.locator(".quote")).to_contain_text("dry now?")

    # after a day only a template may be sent: filled, and shown as the customer will see it
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "update public.conversation_activity set last_inbound_at = now() - interval '2 days'"
        )
        for name, body in (
            ("appointment_reminder", "Hello *{{1}}*, we see you on {{2}}."),
            ("hostile", HOSTILE),
        ):
            owner.execute(
                "insert into public.whatsapp_templates (account_id, waba_id, name, language,"
                " category, status, components, variables) select account_id, waba_id, %s, 'en',"
                " 'UTILITY', 'APPROVED', %s, %s from public.whatsapp_channels"
                " where phone_number_id = %s"
                " on conflict (account_id, waba_id, name, language) do update"
                " set components = excluded.components, synced_at = now()",
                [
                    name,
                    json.dumps(
                        [{"type": "BODY", "text": body}, {"type": "FOOTER", "text": "Alpine"}]
                    ),
                    json.dumps({"body": ["body.1", "body.2"] if "{{2}}" in body else []}),
                    PHONES[0].phone_number_id,
                ],
            )
    desk.reload()
    expect(desk.locator(".composer-closed")).to_contain_text("24 hours are over")
    desk.get_by_role("button", name="Send a template").click()
    picker = desk.get_by_role("dialog", name="Templates")
    expect(picker.locator(".template-words", has_text=HOSTILE)).to_be_visible()
    assert desk.evaluate("window.hacked") is None
    picker.get_by_label("Search templates").fill("see you")
    picker.locator(".template-row").first.click()
    picker.get_by_label("“Hello ___, we see you on”").fill("Gita")
    picker.get_by_role("button", name="Send", exact=True).click()
    second = picker.get_by_label("“we see you on ___.”")
    expect(second).to_be_focused()
    expect(picker).to_contain_text("Fill this in.")
    assert serious(desk) == []
    # what only the database refuses stands at its field as well
    second.fill("\u0085")
    picker.get_by_role("button", name="Send", exact=True).click()
    expect(picker).to_contain_text("variables.body.2 is missing, empty or not a text.")
    (refused,) = complaints
    assert "422" in refused
    complaints.clear()
    second.fill("5 January")
    expect(picker.locator(".template-preview .bubble")).to_contain_text(
        "Hello Gita, we see you on 5 January."
    )
    expect(picker.locator(".template-preview strong")).to_have_text("Gita")
    picker.get_by_role("button", name="Send", exact=True).click()
    expect(picker).to_have_count(0)
    expect(
        bubble(desk, "Hello Gita, we see you on 5 January.").locator("[data-status=read]")
    ).to_be_visible()
    assert person.got()[-1]["template"]["name"] == "appointment_reminder"
    assert complaints == []


def test_what_stands_between_messages_and_around_the_composer(
    open_page: Open, complaints: list[str]
) -> None:
    phone = open_page("phone/")
    write(phone, "First")
    expect(bubble(phone, "First").locator("[data-status=delivered]")).to_be_visible()
    view = phone.locator("conversation-view")
    view.evaluate("""(view) => {
        const told = (window.told = []);
        for (const name of ["composer-slash", "composer-choice"]) {
            view.addEventListener(name, ({ detail }) => {
                told.push(detail);
                if (name === "composer-choice") view.write(`chosen ${detail}`);
                else {
                    const found = ["one", "two"].filter((id) => id.startsWith(detail.beginning));
                    const shown = found.map((id) => ({ id, title: `/${id}`, detail: id }));
                    view.suggestions = detail.beginning === null ? null : shown;
                }
            });
        }
        const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();
        const note = (id, minutes) => (
            { id, at: ago(minutes), kind: "note", name: "Note", content: `<i>${id}</i>` });
        view.asides = [note("before", 2), note("after", -1)];
        view.top = "Above";
        view.tools = "Beside";
    }""")
    write(phone, "Second")
    expect(bubble(phone, "Second").locator("[data-status=delivered]")).to_be_visible()
    keys = view.evaluate("""(view) => [...view.querySelectorAll("[data-key]")]
        .map((one) => /<i>.+<.i>|First|Second/.exec(one.textContent)[0])""")
    assert keys == ["<i>before</i>", "First", "Second", "<i>after</i>"]
    expect(phone.locator(".aside")).to_have_count(2)
    expect(view).to_contain_text("Above")
    expect(phone.locator(".composer")).to_contain_text("Beside")

    field = phone.locator("#composer-words")
    field.press_sequentially("/t")
    expect(phone.locator(".suggestions [role=option]")).to_have_text(["/twotwo"])
    field.press("Backspace")
    expect(phone.locator(".suggestions [role=option]")).to_have_count(2)
    field.press("ArrowDown")
    expect(phone.locator("[role=option][aria-selected=true]")).to_contain_text("two")
    assert serious(phone) == []
    field.press("Enter")
    expect(field).to_have_value("chosen two")
    expect(phone.get_by_role("listbox")).to_have_count(0)
    view.evaluate("(view) => { view.instead = 'Another composer'; }")
    expect(field).to_have_count(0)
    view.evaluate("(view) => { view.instead = null; }")
    expect(field).to_have_value("chosen two")
    many = """Array.from({ length: 100 }, (_, n) => (
        { id: `n${n}`, at: new Date().toISOString(), kind: "event", name: "Event", content: n }))"""
    view.evaluate(f"(view) => {{ view.asides = {many}; }}")
    expect(phone.locator("[data-key]")).to_have_count(60)
    told = phone.evaluate("window.told")
    assert told == [
        {"beginning": ""},
        {"beginning": "t"},
        {"beginning": ""},
        "two",
        {"beginning": None},
    ]
    assert complaints == []


def test_pages_are_kept_to_themselves(stack_of_the_seed: Stack) -> None:
    with httpx.Client(base_url=stack_of_the_seed.url, trust_env=False) as http:
        for path in ("/", "/dashboard/", "/portal/", "/phone/"):
            answer = http.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
        config = http.get("/config.json").json()
        assert config["url"] == stack_of_the_seed.url
        assert [login["password"] for login in config["logins"]] == [PASSWORD] * len(LOGINS)
        assert stack_of_the_seed.secret_key not in http.get("/config.json").text

        words = {
            "phone_number_id": PHONES[0].phone_number_id,
            "from": "1",
            "name": "A",
            "text": "B",
        }
        refused = http.post("/phone/messages", json=words)
        assert (refused.status_code, "from" in refused.json()["error"]) == (422, True)
        too_much = http.post("/phone/messages", json=words | {"text": "B" * 40_000})
        assert too_much.status_code == 413
        asked = [("GET", "/config.json"), ("GET", "/phone/messages"), ("POST", "/phone/messages")]
        for method, path in asked:
            for other in (
                {"origin": "https://elsewhere.example"},
                {"origin": "null"},
                {"host": "elsewhere.example"},
                # a name that another site makes point here
                {"host": f"elsewhere.example:{stack_of_the_seed.gateway_port}"},
                {"host": "elsewhere.example", "origin": "http://elsewhere.example"},
                {"sec-fetch-site": "cross-site"},
            ):
                answer = http.request(method, path, json=words, headers=other)
                assert answer.status_code == 403, (path, other)
                assert PASSWORD not in answer.text
                assert stack_of_the_seed.publishable_key not in answer.text
        own = {"origin": stack_of_the_seed.url, "sec-fetch-site": "same-origin"}
        local = {"host": f"localhost:{stack_of_the_seed.gateway_port}"}
        for headers in (own, local):
            assert http.get("/config.json", headers=headers).status_code == 200
        lost = http.get("/nonsense", headers={"accept": "text/html"})
        assert (lost.status_code, "missing-page" in lost.text) == (404, True)
        assert "default-src 'none'" in lost.headers["content-security-policy"]
        assert http.get("/nonsense").text == http.post("/nonsense").text == "Not Found"
        for outside in ("/assets/../../stack.json", "/portal/%2e%2e/%2e%2e/stack.json"):
            assert http.get(outside).status_code == 404


def test_the_http_api_is_described_on_a_page(open_page: Open) -> None:
    page = open_page("api/", viewport={"width": 360, "height": 800})
    call = page.locator("details#postApiPhone")
    call.locator("summary").first.click()
    expect(call.get_by_text("not_a_phone_number", exact=True)).to_be_visible()
    for example in call.locator(".api-example > summary").all():
        example.click()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    call.get_by_role("link", name="WrittenPhone").click()
    expect(page.locator("#model-WrittenPhone")).to_be_in_viewport()


def test_a_link_in_a_mail_signs_in_once(stack_of_the_seed: Stack, open_page: Open) -> None:
    portal = f"{stack_of_the_seed.url}/portal/"
    with httpx.Client(
        trust_env=False, headers={"apikey": stack_of_the_seed.publishable_key}
    ) as http:
        http.post(
            f"{stack_of_the_seed.url}/auth/v1/otp",
            params={"redirect_to": portal},
            json={"email": "cilka@customers.example"},
        ).raise_for_status()
        mails = http.get(
            f"{stack_of_the_seed.url}/_mail/messages", params={"to": "cilka@customers.example"}
        ).json()["messages"]
    path = mails[0]["link"].removeprefix(f"{stack_of_the_seed.url}/")

    page = open_page(path)
    expect(page.locator(".connection-is-connected")).to_be_visible()
    assert page.url.rstrip("#") == portal

    page = open_page(path)
    expect(page.get_by_role("alert")).to_contain_text("This link is used or has expired.")
    assert page.url.rstrip("#") == portal

    # staff, who were invited by mail and have no password, too
    page = open_page("dashboard/")
    page.get_by_label("Email", exact=True).fill("olivia@alpine.example")
    page.get_by_role("button", name="Email me a link").click()
    expect(page.get_by_text("a link is on its way there")).to_be_visible()
    where = {"to": "olivia@alpine.example"}
    mails = httpx.get(
        f"{stack_of_the_seed.url}/_mail/messages", params=where, trust_env=False
    ).json()["messages"]
    page.goto(mails[0]["link"])
    expect(page.locator(".connection-is-connected")).to_be_visible()
    expect(page.get_by_role("navigation", name="Sections")).to_be_visible()

    # an invitation that is none says what to do
    page = open_page("portal/?invitation=none")
    expect(page.get_by_role("alert")).to_contain_text("Ask the business for a new one.")
    assert page.locator(".sign-card form > :first-child").get_attribute("role") == "alert"
