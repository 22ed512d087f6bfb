"""The customer's pages in a real browser, on one stack that is open to the network: portal, phone,
mails, and the pages as files on another host.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from tests.integration.pages import check_scrolls, comes, is_complaint
from tests.stacks import Running, copy_of
from tests.web import node

from rapport.commands.web import build
from rapport.errors import ConfigError
from rapport.local.errors import StackError
from rapport.local.origins import network_urls
from rapport.local.stack.logins import PASSWORD
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.local.supabase.keys import mint_user_token
from rapport.local.supabase.prepare import set_doorbell

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>"
# ms: a machine that does much else at the same time
PATIENCE = 20_000
# bytes of JavaScript that a page may load, as they come over the network
MOST_SCRIPT = 120 * 1024
PHONE_SIZE = {"width": 360, "height": 720}
ALPINE = "a0000000-0000-4000-8000-00000000000a"
CILKA = "c0000000-0000-4000-8000-00000000000a"

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def open_database(cluster: Cluster, template: Database) -> Iterator[Database]:
    with copy_of(cluster, template) as database:
        yield database


@pytest.fixture(scope="module")
def stack(open_database: Database, session_folder: Path, binaries: Binaries) -> Iterator[Stack]:
    """A whole stack with the seed's people, which others in the network may ask."""
    with Running(open_database, session_folder, binaries, listen="0.0.0.0") as running:
        stack = running.start("postgrest", "gateway", "functions", "fakes", "net", "moto")
        set_doorbell(stack)
        with psycopg.connect(open_database.url(), autocommit=True) as owner:
            owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        yield stack


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
def complaints() -> list[str]:
    """What pages have said of errors, also of what their policy has kept out."""
    return []


@pytest.fixture
def new_page(browser: Browser, stack: Stack, complaints: list[str]) -> Iterator[Open]:
    """Opens an address in a browser of its own; with a name, signed in as one of the seed."""
    with ExitStack() as contexts:

        def new_page(path: str, name: str | None = None, **settings: Any) -> Page:
            context = browser.new_context(
                **{"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **settings}
            )
            contexts.callback(context.close)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.on("console", lambda one: is_complaint(one) and complaints.append(one.text))
            page.on("pageerror", lambda error: complaints.append(error.message))
            page.goto(path if path.startswith("http") else f"{stack.url}/{path}")
            if name:
                page.get_by_role("button", name=name).click()
                expect(page.locator(".connection-is-connected").first).to_be_attached()
            return page

        yield new_page


class Desk:
    """A member of staff who writes through PostgREST."""

    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self._http = http
        signed = http.post(
            f"{stack.url}/auth/v1/token",
            params={"grant_type": "password"},
            json={"email": "andrej@alpine.example", "password": PASSWORD},
            headers={"apikey": stack.publishable_key},
        ).raise_for_status()
        self.headers = {
            "apikey": stack.publishable_key,
            "authorization": f"Bearer {signed.json()['access_token']}",
            "prefer": "return=representation",
        }
        self._rest = f"{stack.url}/rest/v1"

    def insert(self, table: str, **row: object) -> dict[str, Any]:
        row = {"customer_id": CILKA, "account_id": ALPINE} | row
        answer = self._http.post(f"{self._rest}/{table}", json=row, headers=self.headers)
        assert answer.is_success, answer.text
        return answer.json()[0]  # type: ignore[no-any-return]  # JSON

    def update(self, table: str, id_: str, **row: object) -> None:
        url = f"{self._rest}/{table}?id=eq.{id_}"
        answer = self._http.patch(url, json=row, headers=self.headers)
        assert answer.is_success, answer.text

    def call(self, function: str, **arguments: object) -> Any:
        url = f"{self._rest}/rpc/{function}"
        answer = self._http.post(url, json=arguments, headers=self.headers)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    with httpx.Client(trust_env=False, timeout=30) as http:
        yield Desk(stack, http)


def write(page: Page, message: str) -> None:
    field = page.get_by_label("Write a message")
    field.fill(message)
    field.press("Enter")
    expect(field).to_have_value("")


def bubble(page: Page, message: str) -> Locator:
    return page.locator(".bubble-row", has=page.locator(".bubble-words", has_text=message))


def note(page: Page, kind: str, words: str) -> None:
    """Waits for a note of a kind, and takes it away."""
    found = page.locator(f".notification-{kind}", has_text=words)
    expect(found).to_be_visible()
    found.get_by_role("button", name="Dismiss").click()
    expect(found).to_have_count(0)


def check_access(page: Page) -> None:
    """Asks axe-core about a page, by light and by dark; nothing scrolls without need."""
    check_scrolls(page, of=page.url)
    if not page.evaluate("'axe' in window"):
        page.evaluate((node.install() / "axe-core" / "axe.min.js").read_text())
    # by dark only colours are others
    for scheme, rules in (("light", "undefined"), ("dark", "['color-contrast']")):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of its literals
        asked = f"axe.run({{resultTypes: ['violations'], runOnly: {rules}}})"
        serious = [
            (page.url, scheme, one["id"], [node["html"] for node in one["nodes"]])
            for one in page.evaluate(asked)["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


def in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="minutes")


def test_a_customers_day(new_page: Open, desk: Desk, stack: Stack, complaints: list[str]) -> None:
    portal = new_page("portal/", "Cilka")
    other = new_page("portal/", "Carlos")
    check_access(portal)

    # a note of each kind, in its colour, when staff change something
    job = desk.insert("jobs", service_type="Carpet cleaning", starts_at=in_days(3))
    note(portal, "job", "New appointment")
    desk.update("jobs", job["id"], starts_at=in_days(4), status="rescheduled")
    note(portal, "job", "Appointment moved")
    about = {"currency": "EUR", "amount_minor": 12_000}
    bill = desk.insert("invoices", number="2026-1", due_on=in_days(5)[:10], **about)
    desk.update("invoices", bill["id"], status="sent")
    note(portal, "invoice", "New invoice")
    late = desk.insert("invoices", number="2026-2", due_on=in_days(-2)[:10], **about)
    desk.update("invoices", late["id"], status="sent")
    note(portal, "invoice", "2026-2")
    points = {"type": "earned", "points": 60, "description": "Thank you"}
    desk.insert("loyalty_transactions", **points, expires_on=in_days(10)[:10])
    note(portal, "loyalty", "+60 points")
    desk.insert("loyalty_transactions", type="redeemed", points=-15)
    expect(portal.locator(".points strong")).to_have_text("45")
    expect(portal.locator(".points-soon")).to_contain_text("45 points expire on")
    expect(portal.locator(".points-soon")).to_contain_text("in 10 days")
    expect(portal.locator(".invoice-open")).to_contain_text("€240.00 to pay")
    expect(portal.locator(".invoice").first).to_contain_text("2 days ago")

    # the chat of the appointment: unread is counted, told, and read once it is in sight
    desk.call("post_message", booking_id=job["id"], message="Shall we bring a ladder?")
    note(portal, "message", "Shall we bring a ladder?")
    expect(portal.locator(".job .badge")).to_contain_text("1")
    portal.get_by_role("button", name="Chat about it").click()
    expect(bubble(portal, "Shall we bring a ladder?")).to_be_visible()
    expect(portal.locator(".part-chat .notice").first).to_contain_text(
        "Carpet cleaning is scheduled"
    )
    expect(portal.locator(".job .badge")).to_have_count(0)
    write(portal, "Yes, please.")
    expect(bubble(portal, "Yes, please.").locator("[data-status=sent]")).to_be_visible()
    check_access(portal)
    portal.get_by_role("button", name="Back to the chat about everything").click()
    expect(bubble(portal, "Yes, please.")).to_have_count(0)

    # the profile: what is wrong is said beside its field, what is right is everywhere at once
    portal.get_by_label("Phone").fill("12")
    portal.get_by_role("button", name="Save").click()
    expect(portal.get_by_role("alert")).to_contain_text("number")
    expect(portal.get_by_label("Phone")).to_be_focused()
    # as it is written at home
    portal.get_by_label("Phone").fill("040 111 222")
    portal.get_by_label("Name").fill("Cilka Čerar")
    portal.get_by_label("Remind me").uncheck()
    portal.get_by_role("button", name="Save").click()
    expect(portal.get_by_text("Saved")).to_be_visible()
    expect(portal.get_by_role("heading", name="Hello, Cilka Čerar")).to_be_visible()
    expect(portal.get_by_label("Phone")).to_have_value("+38640111222")

    # offline: said, written, and sent once
    context = portal.context
    context.set_offline(True)
    expect(portal.locator(".connection-note-offline")).to_be_visible()
    write(portal, "Written in a tunnel")
    expect(bubble(portal, "Written in a tunnel").locator("[data-status=pending]")).to_be_visible()
    check_access(portal)
    context.set_offline(False)
    expect(bubble(portal, "Written in a tunnel").locator("[data-status=sent]")).to_be_visible()
    expect(bubble(portal, "Written in a tunnel")).to_have_count(1)
    expect(portal.locator(".connection-note")).to_have_count(0)

    # what happens while away is one line at the next visit; what is over is folded, with its year
    portal.goto("about:blank")
    desk.update("jobs", job["id"], status="cancelled")
    desk.update("invoices", bill["id"], status="paid")
    desk.call("post_message", customer_id=CILKA, message="Paid, thank you.")
    portal.goto(f"{stack.url}/portal/")
    expect(portal.locator(".portal-away")).to_have_text(
        "While you were away: 1 changed appointment, 1 payment received and 1 new message."
    )
    portal.locator(".past summary", has_text="1 past or cancelled appointment").click()
    expect(portal.locator(".job-over time")).to_contain_text(in_days(4)[:4])
    check_access(portal)

    # a telephone's screen: each part, and notes one at a time above the tabs
    portal.set_viewport_size(PHONE_SIZE)  # type: ignore[arg-type]  # as it says
    for part in ("Appointments", "Invoices", "Points", "Profile", "Chat"):
        portal.locator(".tabs button", has_text=part).click()
        check_access(portal)
    for button in ("English", "Slovenščina"):
        expect(portal.get_by_role("button", name=button)).to_be_visible()
    portal.locator(".tabs button", has_text="Points").click()
    for service in ("Windows", "Curtains"):
        desk.insert("jobs", service_type=service, starts_at=in_days(7))
    expect(portal.locator(".notification", has_text="Curtains")).to_be_visible()
    expect(portal.locator(".notification:visible")).to_have_count(1)
    # what is pointed at stays
    portal.locator(".notification:visible").hover()
    box = portal.locator(".notification:visible").bounding_box()
    tabs = portal.locator(".tabs").bounding_box()
    assert box is not None
    assert tabs is not None
    assert box["y"] + box["height"] <= tabs["y"]
    portal.locator(".notification:visible").get_by_role("button", name="Show").click()
    expect(portal.locator(".job", has_text="Curtains")).to_be_in_viewport()
    portal.get_by_role("button", name="Slovenščina").click()
    expect(portal.locator(".tabs button", has_text="Termini")).to_be_visible()
    check_access(portal)
    # what is refused is said in the page's language as well
    portal.locator(".tabs button", has_text="Profil").click()
    portal.get_by_label("Telefon").fill("1234")
    portal.get_by_role("button", name="Shrani").click()
    expect(portal.get_by_role("alert")).to_contain_text("To ni telefonska številka")

    # nothing of this was another customer's
    expect(other.locator(".job, .invoice, .bubble, .notification, .ledger li")).to_have_count(0)
    expected = ("ERR_INTERNET_DISCONNECTED", "status of 422")
    assert [one for one in complaints if not any(known in one for known in expected)] == []


def test_a_token_that_ends_while_nobody_looks_and_the_network_is_away(
    new_page: Open, desk: Desk, stack: Stack
) -> None:
    portal = new_page("portal/", "Cilka")
    hide(portal, is_hidden=True)
    portal.context.set_offline(True)
    token = expired_token(stack)
    portal.evaluate(
        """(token) => {
            const kept = JSON.parse(localStorage["rapport-portal"]);
            kept.access_token = token;
            kept.expires_at = 1;
            localStorage["rapport-portal"] = JSON.stringify(kept);
        }""",
        token,
    )
    desk.call("post_message", customer_id=CILKA, message="Are you still there?")
    portal.context.set_offline(False)
    hide(portal, is_hidden=False)
    expect(bubble(portal, "Are you still there?")).to_be_visible()
    expect(portal.locator(".connection-is-connected")).to_be_attached()
    write(portal, "Here again.")
    expect(bubble(portal, "Here again.").locator("[data-status=sent]")).to_be_visible()
    kept = portal.evaluate("JSON.parse(localStorage['rapport-portal']).access_token")
    assert kept != token


def hide(page: Page, *, is_hidden: bool) -> None:
    """Lets a page find itself in the background, or in sight again."""
    page.evaluate(
        """(isHidden) => {
            const found = { hidden: isHidden, visibilityState: isHidden ? "hidden" : "visible" };
            for (const [name, value] of Object.entries(found)) {
                Object.defineProperty(document, name, { value, configurable: true });
            }
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def expired_token(stack: Stack) -> str:
    return mint_user_token(
        stack.signing_key,
        user_id=UUID("0a000000-0000-4000-8000-000000000003"),
        issuer=f"{stack.url}/auth/v1",
        email="cilka@customers.example",
        lifetime=timedelta(seconds=-60),
    )


def test_a_telephone_in_the_network(new_page: Open, stack: Stack, desk: Desk) -> None:
    url = network_urls(stack)[0]
    host = urlsplit(url).hostname
    assert host not in ("127.0.0.1", "localhost")

    # a link by mail, by the name that the telephone has for this machine
    portal = new_page(f"{url}/portal/", viewport=PHONE_SIZE)
    portal.get_by_label("Email").fill("cilka@customers.example")
    portal.get_by_role("button", name="Email me a link").click()
    expect(portal.get_by_role("status")).to_contain_text("a link is on its way")
    check_access(portal)
    with portal.context.expect_page() as opened:
        portal.get_by_role("link", name="Read it here").click()
    mails = opened.value
    expect(mails.get_by_text("Your link to sign in")).to_be_visible()
    check_access(mails)
    mails.get_by_role("link", name="Follow the link").click()
    expect(mails.locator(".connection-is-connected")).to_be_attached()
    assert mails.url.rstrip("#") == f"{url}/portal/"

    # the phone writes without what only https has, and another browser shows the whole chat
    phone = new_page(f"{url}/phone/")
    assert phone.evaluate("isSecureContext") is False
    write(phone, f"From a telephone {HOSTILE}")
    expect(bubble(phone, "From a telephone").locator("[data-status=delivered]")).to_be_visible()
    check_access(phone)
    # the phone shows what it has sent before the webhook has brought it
    wanted = {"message": "like.From a telephone*", "select": "conversation_id"}
    (row,) = comes(
        phone,
        lambda: httpx.get(
            f"{stack.url}/rest/v1/messages", params=wanted, headers=desk.headers, trust_env=False
        ).json(),
    )
    desk.insert("messages", **{**row, "message": "And back", "account_id": ALPINE})
    expect(bubble(phone, "And back")).to_be_visible()
    elsewhere = new_page("phone/")
    expect(bubble(elsewhere, "And back")).to_be_visible()
    expect(bubble(elsewhere, HOSTILE)).to_be_visible()
    assert elsewhere.evaluate("[window.hacked, document.images.length]") == [None, 0]

    # every address in an answer is one that the telephone can reach, and files come from there
    with httpx.Client(trust_env=False) as http:
        config = http.get(f"{url}/config.json").json()
        assert config["url"] == url
        assert urlsplit(config["functions_url"]).hostname == host
        announced = http.post(
            f"{config['functions_url']}/api/media",
            json={
                "conversationId": row["conversation_id"],
                "type": "image",
                "mimeType": "image/png",
                "size": 4,
                "fileName": "a.png",
            },
            headers=desk.headers,
        )
        assert announced.is_success, announced.text
        upload = next(one for one in announced.json().values() if str(one).startswith("http"))
        assert urlsplit(upload).hostname == host
        put = http.put(upload, content=b"\x89PNG", headers={"content-type": "image/png"})
        assert put.is_success, put.text
        # a name that another site makes point here is none of ours
        for name in (f"elsewhere.example:{stack.gateway_port}", f"{host}:1"):
            answer = http.get(f"{stack.url}/config.json", headers={"host": name})
            assert answer.status_code == 403


def test_each_page_loads_little_and_once(new_page: Open, desk: Desk) -> None:
    desk.call("post_message", customer_id=CILKA, message="Welcome.")
    # start, phone and mails are smaller; what comes with sign-in counts, too
    for path, name in (
        ("", None),
        ("phone/", None),
        ("portal/", "Cilka"),
        ("dashboard/", "Olivia"),
    ):
        page = new_page("mail/")
        files: dict[str, Any] = {}
        page.on("response", lambda one, files=files: files.setdefault(one.url, one))
        page.goto(page.url.replace("mail/", path))
        if name:
            page.get_by_role("button", name=name).click()
            expect(page.locator(".connection-is-connected")).to_be_visible()
        if path == "dashboard/":
            # what a conversation needs comes with the first one that is opened
            page.locator(".inbox-row").first.click()
            expect(page.locator(".bubble").first).to_be_visible()
        page.wait_for_load_state("networkidle") if not name else page.wait_for_timeout(500)
        scripts = [one for one in files.values() if one.request.resource_type == "script"]
        size = sum(int(one.headers["content-length"]) for one in scripts)
        assert 0 < size <= MOST_SCRIPT, (path, size)
        for one in scripts:
            assert "immutable" in one.headers["cache-control"]
            assert one.headers.get("content-encoding") == "gzip" or len(one.body()) < 1_000
        first = files[page.url.split("#")[0]]
        again = httpx.get(
            page.url, headers={"if-none-match": first.headers["etag"]}, trust_env=False
        )
        assert "no-cache" in first.headers["cache-control"]
        assert again.status_code in (200, 304)


@contextmanager
def any_host(folder: Path) -> Iterator[str]:
    """A plain server of files, which knows nothing of pages."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_files_for_any_host(
    new_page: Open,
    stack: Stack,
    tmp_path: Path,
    complaints: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "pages"
    urls = (stack.functions_url, stack.aws_url)
    for _ in range(2):
        # another build takes the place of the first
        build(folder, stack.url, stack.publishable_key, *urls)
    assert "Content-Security-Policy: default-src 'none'" in capsys.readouterr().out
    assert sorted(one.name for one in tmp_path.iterdir()) == ["pages"]
    names = {one.name for one in folder.iterdir()}
    pages = {f"{name}{ending}" for name in ("404.html", "index.html") for ending in ("", ".gz")}
    assert names == {"assets", "config.json", "dashboard", "portal"} | pages
    assert stack.secret_key not in "".join(
        one.read_text(errors="replace") for one in folder.rglob("*") if one.is_file()
    )
    # also below a path, as on a project's page
    with any_host(tmp_path) as host:
        portal = new_page(f"{host}/pages/portal/")
        portal.get_by_label("Email").fill("carlos@customers.example")
        portal.get_by_label("Password").fill(PASSWORD)
        portal.get_by_role("button", name="Sign in").click()
        expect(portal.locator(".connection-is-connected")).to_be_visible()
        expect(portal.get_by_text("No appointments")).to_be_visible()
        start = new_page(f"{host}/pages/")
        expect(start.locator(".door")).to_have_count(2)
        expect(start.get_by_text("Logins")).to_have_count(0)
        check_access(start)
        assert complaints == []
        # the policy is in the page, and lets nothing else in
        with portal.expect_console_message(lambda one: "Content Security Policy" in one.text):
            said = portal.evaluate("fetch('http://localhost:1').catch((error) => String(error))")
        assert "Failed to fetch" in said

    for key, sentence in (
        (stack.secret_key, "This is a secret key"),
        (stack.service_role_key, "This is a secret key"),
        ("sb-nothing", "This is no key"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            build(folder, stack.url, key, None, None)
    for url in (
        "http://project.example",
        "https://",
        "https://[",
        "https://project.example:x",
        "https://postgres:secret@project.example",
        "https://project.example;script-src",
        "https://project.example/?apikey=secret",
    ):
        with pytest.raises(ConfigError, match="--url") as refused:
            build(folder, url, stack.publishable_key, None, None)
        assert "secret" not in str(refused.value)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("keep me")
    with pytest.raises(StackError, match="has other files"):
        build(other, stack.url, stack.publishable_key, None, None)
    assert (other / "letter.txt").read_text() == "keep me"
    # nor a folder of ours in which somebody keeps more
    (folder / "CNAME").write_text("desk.example")
    with pytest.raises(StackError, match="has other files"):
        build(folder, stack.url, stack.publishable_key, None, None)
    assert (folder / "CNAME").read_text() == "desk.example"


SUBSCRIBED = """
  const made = {
    endpoint: "https://push.example/1",
    unsubscribe: async () => sessionStorage.setItem("ended", "yes"),
  };
  const registration = { pushManager: { getSubscription: async () => made } };
  navigator.serviceWorker.getRegistration = async () => registration;
"""


KEPT = """new Promise((answer) => {
    const opening = indexedDB.open("rapport-outbox");
    opening.onsuccess = () => {
        const all = opening.result.transaction("messages").objectStore("messages").getAll();
        all.onsuccess = () => {
            opening.result.close();
            answer(all.result.map(({ message }) => message));
        };
    };
})"""


def test_who_signs_out_leaves_nothing_here_whether_the_server_answers_or_not(
    new_page: Open,
) -> None:
    desk = new_page("dashboard/", "Andrej")
    desk.evaluate(SUBSCRIBED)
    desk.route("**/rpc/delete_push_subscription", lambda route: route.abort())
    desk.route("**/logout*", lambda route: route.abort())
    desk.get_by_role("button", name="Sign out").first.click()
    expect(desk.get_by_label("Password")).to_be_visible()
    assert desk.evaluate("sessionStorage.getItem('ended')") == "yes"
    assert (
        desk.evaluate("Object.keys(localStorage).filter((key) => /^rapport-dash/.test(key))") == []
    )

    # nor does it take a network, and every tab ends with the one in which it was done
    desk.get_by_role("button", name="Andrej").click()
    expect(desk.locator(".connection-is-connected")).to_be_visible()
    beside = desk.context.new_page()
    beside.goto(desk.url)
    expect(beside.locator(".connection-is-connected")).to_be_visible()
    desk.context.set_offline(True)
    desk.get_by_role("button", name="Sign out").first.click()
    for tab in (desk, beside):
        expect(tab.get_by_text("You are signed out on this device")).to_be_visible()
    check_access(desk)
    desk.context.set_offline(False)
    for tab in (desk, beside):
        expect(tab.get_by_label("Password")).to_be_visible()

    # what is not sent yet is not lost without a word
    portal = new_page("portal/", "Cilka")
    portal.evaluate(SUBSCRIBED)
    portal.route("**/rpc/post_message", lambda route: route.abort())
    write(portal, "Not sent yet")
    expect(bubble(portal, "Not sent yet").locator("[data-status=pending]")).to_be_visible()
    leave = portal.get_by_role("button", name="Sign out").first
    leave.click()
    asked = portal.get_by_role("dialog", name="1 message is not sent yet")
    expect(asked).to_be_visible()
    check_access(portal)
    asked.get_by_role("button", name="Stay signed in").click()
    expect(asked).to_have_count(0)
    assert portal.evaluate(KEPT) == ["Not sent yet"]
    assert portal.evaluate("sessionStorage.getItem('ended')") is None

    # a session that has ended by itself: its messages wait for their author, and show nothing
    portal.evaluate("localStorage.removeItem('rapport-portal')")
    portal.add_init_script(SUBSCRIBED)
    portal.reload()
    waiting = portal.locator(".left-behind")
    expect(waiting).to_contain_text("It is sent once its author signs in again.")
    check_access(portal)
    assert portal.evaluate("sessionStorage.getItem('ended')") == "yes"
    assert portal.evaluate(KEPT) == ["Not sent yet"]
    portal.get_by_role("button", name="Cilka").click()
    expect(bubble(portal, "Not sent yet").first).to_be_visible()
    # also what another tab writes while it is asked
    leave.click()
    expect(asked).to_be_visible()
    beside = portal.context.new_page()
    beside.route("**/rpc/post_message", lambda route: route.abort())
    beside.goto(portal.url)
    write(beside, "From the other tab")
    expect(bubble(beside, "From the other tab")).to_be_visible()
    asked.get_by_role("button", name="Delete and sign out").click()
    asked = portal.get_by_role("dialog", name="2 messages are not sent yet")
    asked.get_by_role("button", name="Delete and sign out").click()
    for tab in (portal, beside):
        expect(tab.get_by_label("Password")).to_be_visible()
    expect(waiting).to_have_count(0)
    assert portal.evaluate(KEPT) == []

    # nor does another login find it
    portal.get_by_role("button", name="Cilka").click()
    expect(portal.locator(".connection-is-connected")).to_be_attached()
    write(portal, "Nobody else's")
    expect(bubble(portal, "Nobody else's")).to_be_visible()
    portal.evaluate("localStorage.removeItem('rapport-portal')")
    portal.reload()
    expect(waiting).to_be_visible()
    portal.get_by_role("button", name="Carlos").click()
    expect(portal.locator(".connection-is-connected")).to_be_attached()
    expect(bubble(portal, "Nobody else's")).to_have_count(0)
    assert portal.evaluate(KEPT) == []


def test_a_login_of_another_page_is_led_there(new_page: Open) -> None:
    for path, email, there in (
        ("dashboard/", "cilka@customers.example", "Go to the portal"),
        ("portal/", "andrej@alpine.example", "Go to the dashboard"),
    ):
        page = new_page(path)
        page.get_by_label("Email").fill(email)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("This login is for another page")
        check_access(page)
        page.get_by_role("link", name=there).click()
        expect(page.locator(".connection-is-connected")).to_be_visible()


def test_an_owner_without_a_number_sees_what_to_do(
    new_page: Open, stack: Stack, open_database: Database
) -> None:
    new = "a0000000-0000-4000-8000-0000000000ff"
    with psycopg.connect(open_database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into accounts (id, external_id, name) values (%s, 'new', 'New')", [new]
        )
        owner.execute(
            "insert into account_members (account_id, user_id, role, display_name)"
            " values (%s, '0a000000-0000-4000-8000-000000000001', 'owner', 'Olivia')",
            [new],
        )
        desk = new_page("dashboard/", "Olivia")
        desk.evaluate("(id) => (localStorage['rapport-account'] = id)", new)
        desk.reload()
        expect(desk.locator(".step[aria-current=step]")).to_contain_text("Add a WhatsApp number")
        expect(desk.get_by_text("0 of 4 done")).to_be_visible()
        check_access(desk)
        # each step leads to where it is done
        ways = {"How to add it": "#/settings/business", "New contact": "#/contacts/new"}
        for way, there in (ways | {"To the contacts": "#/contacts"}).items():
            expect(desk.get_by_role("link", name=way)).to_have_attribute("href", there)
        # a colleague may be left out, and counts once one is invited
        colleague = desk.locator(".step", has_text="Invite a colleague (may be left out)")
        way = colleague.get_by_role("link", name="To the colleagues")
        expect(way).to_have_attribute("href", "#/settings/members")
        expect(desk.get_by_text("Nothing to answer yet")).to_be_visible()
        desk.evaluate(
            """(id) => document.querySelector("dashboard-page").supabase
                .rpc("invite_member", { account_id: id, email: "b@new.example", role: "agent" })""",
            new,
        )
        desk.get_by_role("link", name="How to add it").click()
        expect(desk.locator(".commands")).to_contain_text(f"rapport number add {new}")
        desk.get_by_role("link", name="Inbox").click()
        expect(desk.get_by_text("0 of 4 done")).to_be_visible()
        expect(colleague.and_(desk.locator(".step-done"))).to_be_visible()
        owner.execute(
            "insert into whatsapp_channels"
            " (account_id, phone_number_id, waba_id, display_phone_number, name)"
            " values (%s, '1003427786179700', '102290129340300', '+386 1 555', 'New')",
            [new],
        )
        order = {"phone_number_id": "1003427786179700", "from": "38640555002", "text": "Hello"}
        url = f"{stack.whatsapp_url}/_fake/inbound"
        httpx.post(url, json=order, trust_env=False).raise_for_status()
        # without loading the page again
        expect(desk.get_by_text("2 of 4 done")).to_be_visible()
        test = desk.get_by_role("link", name="Write to +386 1 555")
        expect(test).to_have_attribute("href", "https://wa.me/3861555")
        (conversation,) = owner.execute(
            "select id from conversations where account_id = %s", [new]
        ).fetchone() or ("",)
        (contact,) = owner.execute(
            "select id from contacts where account_id = %s", [new]
        ).fetchone() or ("",)
        desk.evaluate(
            """async ([id, contact]) => {
                const { supabase } = document.querySelector("dashboard-page");
                await supabase.rpc("post_message", { conversation_id: id, message: "Hi" });
                await supabase.rpc("invite_to_portal", { contact_id: contact });
            }""",
            [str(conversation), str(contact)],
        )
        expect(desk.locator(".steps")).to_have_count(0)
