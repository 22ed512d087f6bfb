"""The pages for people, in a real browser: phone, dashboard and portal on one stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)
from tests.web import node

from rapport.local.stack.logins import LOGINS, PASSWORD, PHONES
from rapport.local.stack.postgres import SUPERUSER, Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>"
# ms: a machine that does much else at the same time
PATIENCE = 20_000

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
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


def is_complaint(said: ConsoleMessage) -> bool:
    """An error; but a conversation may be told of, and marked as read, before others can see it."""
    is_early = "404" in said.text and said.location["url"].endswith("/rpc/mark_read")
    return said.type == "error" and not is_early


def write(page: Page, message: str) -> None:
    field = page.get_by_label("Write a message")
    field.fill(message)
    field.press("Enter")
    expect(field).to_have_value("")


def bubble(page: Page, message: str) -> Locator:
    return page.locator(".bubble-row", has=page.locator(".bubble-words", has_text=message))


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
    desk = open_page("dashboard/", "Andrej")
    others_desk = open_page("dashboard/", "Ana")
    portal = open_page("portal/", "Cilka")
    others_portal = open_page("portal/", "Carlos")
    phone = open_page("phone/")

    # from the phone to the desk, and the answer back, with ticks
    expect(desk.get_by_text("No conversations yet")).to_be_visible()
    write(phone, "Is Tuesday free?")
    expect(bubble(phone, "Is Tuesday free?").locator("[data-status=delivered]")).to_be_visible()
    desk.locator(".inbox-row", has_text="Is Tuesday free?").click()
    expect(bubble(desk, "Is Tuesday free?")).to_be_visible()
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
    expect(portal.locator(".job")).to_contain_text("Carpet cleaning")
    expect(portal.locator(".notification", has_text="New appointment")).to_be_visible()
    desk.get_by_role("button", name="Move").click()
    desk.get_by_label("Date and time").fill("2027-01-06T11:30")
    desk.get_by_role("button", name="Save").click()
    expect(portal.locator(".job")).to_contain_text("Wed 6 Jan, 11:30")
    expect(portal.locator(".notification", has_text="Appointment moved")).to_be_visible()
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
        while waiting() < 2:
            portal.wait_for_timeout(20)
    expect(badge).to_have_count(0)

    # what comes while the chat is out of sight is counted and told, and read once it is in sight
    portal.set_viewport_size({"width": 360, "height": 720})
    write(desk, "Are you there?")
    expect(portal.locator(".notification", has_text="Are you there?")).to_be_visible()
    expect(badge).to_have_text("1")
    portal.locator(".tabs button", has_text="Chat").click()
    expect(bubble(portal, "Are you there?")).to_be_in_viewport()
    expect(badge).to_have_count(0)

    # nobody else has seen anything; a page after the phone's would have by now
    for page in (others_desk, others_portal):
        expect(page.locator(".inbox-row, .job, .bubble, .notification")).to_have_count(0)
    assert complaints == []

    axe = (node.install() / "axe-core" / "axe.min.js").read_text()
    for page in (open_page(""), open_page("portal/"), phone, desk, portal, others_desk):
        page.evaluate(axe)
        # by dark only colours are others
        for scheme, rules in (("light", "undefined"), ("dark", "['color-contrast']")):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of its literals
            asked = f"axe.run({{resultTypes: ['violations'], runOnly: {rules}}})"
            found = page.evaluate(asked)["violations"]
            serious = [
                (page.url, scheme, one["id"], [node["html"] for node in one["nodes"]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == []


def test_nothing_from_outside_is_html_and_few_bubbles_are_there(
    open_page: Open, stack_of_the_seed: Stack, complaints: list[str]
) -> None:
    order = {"phone_number_id": PHONES[0].phone_number_id, "from": "38640555001", "name": HOSTILE}
    url = f"{stack_of_the_seed.whatsapp_url}/_fake/inbound"
    past = [{"text": f"Number {number}."} for number in range(1, 151)]
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
    write(desk, "Down here")
    expect(bubble(desk, "Down here")).to_be_in_viewport()
    assert desk.locator("[data-key]").count() == 60
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
        for outside in ("/elements/../package.json", "/vendor/lit/../../.package-lock.json"):
            assert http.get(outside).status_code == 404


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
