"""The package for browsers in projects of others, and what their pages do with it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect
from tests.integration.client.portal import until
from tests.web import browser, node, package

from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.local.supabase import keys

# nothing listens there: what the page asks for is answered by the test
ORIGIN = "http://localhost:65000"
ACCOUNT = "a0000000-0000-4000-8000-00000000000a"
CILKA = "c0000000-0000-4000-8000-00000000000a"
CILKAS_LOGIN = "0a000000-0000-4000-8000-000000000003"
ANDREJ = "0a000000-0000-4000-8000-000000000002"

# one browser for all
in_the_browser = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Built:
    """The package, and the Vite project that was built with it."""

    package: Path
    pages: Path
    # what TypeScript says of the project
    complaints: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A Vite project with the package, the examples of its hooks and README's page in React."""
    folder = tmp_path_factory.mktemp("package")
    packed = package.pack(folder)
    project = package.project("vite", folder, packed)
    readme = (PROJECT / "README.md").read_text()
    (page,) = re.findall(r"^```tsx\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    # its stack is not known yet
    page = page.replace('"http://127.0.0.1:24321"', "window.settings.url")
    page = page.replace('"the publishable key"', "window.settings.key")
    (project / "src" / "readme.tsx").write_text(page)
    checked = package.run(project, "typescript/bin/tsc", "--pretty", "false")
    done = package.run(project, "vite/bin/vite.js", "build", "--logLevel=warn")
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(packed, project / "dist", checked.stdout.splitlines())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser.chromium() as chromium:
        yield chromium


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    # what goes wrong in the page is shown where a test fails
    page.on("console", lambda message: print(message.text))  # noqa: T201
    page.on("pageerror", lambda error: print(error.message))  # noqa: T201
    yield page
    await page.close()


async def host(page: Page, folder: Path, settings: dict[str, str]) -> None:
    """Serves a folder's files, with settings in its pages."""

    async def file(route: Route) -> None:
        path = folder / route.request.url.removeprefix(f"{ORIGIN}/").partition("?")[0]
        body = path.read_text()
        if path.suffix == ".html":
            body = body.replace("window.settings = {}", f"window.settings = {json.dumps(settings)}")
        await route.fulfill(body=body, content_type=guess_type(path.name)[0] or "text/plain")

    await page.unroute(f"{ORIGIN}/**")
    await page.route(f"{ORIGIN}/**", file)


def settings_of(stack: Stack, user: str, example: str = "nothing") -> dict[str, str]:
    return {
        "url": stack.url,
        "key": stack.publishable_key,
        "token": keys.mint_user_token(stack.jwt_secret, user_id=user),
        "customerId": CILKA,
        "userId": user,
        "example": example,
    }


class Office:
    """What staff do meanwhile."""

    def __init__(self, owner: psycopg.Connection) -> None:
        self._owner = owner

    def run(self, statement: str, *parameters: Any) -> list[Any]:
        cursor = self._owner.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def add_job(self, service: str) -> str:
        [(job,)] = self.run(
            "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
            " values (%s, %s, %s, now() + interval '1 day') returning id::text",
            ACCOUNT,
            CILKA,
            service,
        )
        assert isinstance(job, str)
        return job

    def set_status(self, job: str, status: str) -> None:
        self.run("update public.jobs set status = %s where id = %s", status, job)

    def add_points(self, points: int) -> None:
        self.run(
            "insert into public.loyalty_transactions (account_id, customer_id, type, points)"
            " values (%s, %s, %s, %s)",
            ACCOUNT,
            CILKA,
            "earned" if points > 0 else "redeemed",
            points,
        )

    def add_invoice(self, number: str) -> None:
        self.run(
            "insert into public.invoices"
            " (account_id, customer_id, number, currency, amount_minor, tax_minor, status, sent_at)"
            " values (%s, %s, %s, 'EUR', 12200, 2200, 'sent', now())",
            ACCOUNT,
            CILKA,
            number,
        )

    def as_andrej(self, call: str, *parameters: Any) -> list[Any]:
        with self._owner.transaction():
            claims = json.dumps({"sub": ANDREJ, "role": "authenticated"})
            self.run("select set_config('request.jwt.claims', %s, true)", claims)
            self.run("set local role authenticated")
            return self.run(call, *parameters)

    def write(self, text: str) -> None:
        self.as_andrej("select public.post_message(customer_id => %s, message => %s)", CILKA, text)


@pytest.fixture
def office(stack: Stack, database: Database) -> Iterator[Office]:  # noqa: ARG001 - runs meanwhile
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        yield Office(owner)


def test_examples_and_types_of_the_package_are_right_to_a_strict_compiler(built: Built) -> None:
    # the official client's own declarations want those of Node
    ours = [line for line in built.complaints if "@supabase/" not in line]

    assert ours == []
    assert {path.name for path in (built.package / "types").iterdir()} == {
        "database.types.d.ts",
        "elements",
        "live",
        "react.d.ts",
    }


@in_the_browser
async def test_hooks_do_for_customers_what_their_examples_say(
    stack: Stack, built: Built, office: Office, page: Page
) -> None:
    await host(page, built.pages, settings_of(stack, CILKAS_LOGIN))
    await page.goto(f"{ORIGIN}/index.html")
    shown, toasts = page.locator("section"), page.locator("aside")
    told: list[str] = []

    async def show(example: str) -> Locator:
        await page.get_by_role("button", name=example, exact=True).click()
        return shown

    async def toasted(*more: str) -> None:
        told.extend(more)
        await expect(toasts).to_have_text(", ".join(told))

    async def first_told(service: str) -> str:
        """Adds jobs until one is told: what was there when the rows were read is not."""
        for number in count():
            job = office.add_job(f"{service} {number}")
            with suppress(AssertionError):
                await expect(toasts).to_contain_text(f"{service} {number}", timeout=1000)
                break
        told[:] = [await toasts.inner_text()]
        return job

    async def connected() -> None:
        await page.wait_for_function(
            "window.client.getChannels().some((one) => one.state === 'joined')"
        )

    await show("Combined")
    await expect(shown).to_have_text("true 5/5: 0 jobs, 0 invoices")
    job = office.add_job("Carpet")
    await toasted("New: Carpet")
    office.run("update public.jobs set address = 'Ptuj 2'")
    office.set_status(job, "in_progress")
    await toasted("Now in_progress")
    office.add_invoice("2026-1")
    await toasted("Invoice 2026-1")
    office.run("update public.invoices set status = 'paid', paid_at = now()")
    await toasted("Paid, thank you")
    office.write("See you on Tuesday")
    await toasted("See you on Tuesday")
    office.add_points(50)
    await toasted("50 points for you")
    office.add_points(-20)
    await toasted("-20 points")
    await expect(shown).to_have_text("true 5/5: 1 jobs, 1 invoices")

    await show("Individual")
    for part in ("jobs", "invoices", "messages", "loyalty"):
        await expect(shown.locator("b").get_by_text(part)).to_be_visible()
    await expect(shown.locator("#totals")).to_contain_text("30 points")
    office.set_status(job, "completed")
    office.write("Done")
    office.add_points(5)
    second = office.add_job("Sofa")
    for text in ("job completed", "Done", "+5", "job scheduled"):
        await expect(shown.locator("#told")).to_contain_text(text)
    await expect(shown.locator("#latest")).to_have_text("INSERT")
    await expect(shown.locator("#totals")).to_contain_text("35 points")
    office.run("delete from public.jobs where id = %s", second)
    await expect(shown.locator("#told")).to_contain_text("no job Sofa")

    await show("WithState")
    await expect(shown.locator("#rows")).to_have_text("Carpet")
    third = office.add_job("Stairs")
    await expect(shown.locator("#own")).to_have_text("Stairs")
    await expect(shown.locator("#rows li")).to_have_text(["Carpet", "Stairs"])
    office.run("update public.jobs set service_type = 'Attic' where id = %s", third)
    await expect(shown.locator("#own")).to_have_text("Attic")
    office.run("delete from public.jobs where id = %s", third)
    await expect(shown.locator("#own li")).to_have_count(0)

    await show("Quick")
    await expect(shown).to_have_text("Your appointments")
    await connected()
    await show("Direct")
    await expect(shown).to_have_text("connected")
    fourth = await first_told("Van")
    office.set_status(fourth, "cancelled")
    await toasted("update scheduled cancelled")
    await show("Everybodys")
    await expect(shown).to_have_text("connected")
    last = await first_told("Ladder")
    office.run(
        "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
        " select account_id, id, 'Boat', now() from public.customers where id <> %s",
        CILKA,
    )
    office.run("update public.jobs set service_type = 'Lorry' where id = %s", last)
    await toasted("Lorry")

    await show("WithError")
    await expect(shown.get_by_role("alert")).to_contain_text("NotAllowed")

    await show("BookingChat")
    office.as_andrej(
        "select public.post_message(booking_id => %s, message => 'The van is on its way')", last
    )
    await expect(shown.locator("li").last).to_contain_text("operator: The van is on its way")

    await show("WhoIsThere")
    await expect(shown).to_contain_text("live")
    await show("Paused")
    await expect(shown).to_have_text("connected")
    hide = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    await page.evaluate(hide.format("true") + tell)
    await expect(shown).to_have_text("offline")
    await page.evaluate(hide.format("false") + tell)
    await expect(shown).to_have_text("connected")

    await show("nothing")
    await page.wait_for_function("window.client.getChannels().length === 0")
    await expect(toasts).to_have_text(", ".join(told))


@in_the_browser
async def test_hooks_do_for_staff_what_their_examples_say(
    stack: Stack, built: Built, office: Office, page: Page
) -> None:
    await host(page, built.pages, settings_of(stack, ANDREJ, "Optimistic"))
    job = office.add_job("Carpet")
    office.set_status(job, "in_progress")
    await page.goto(f"{ORIGIN}/index.html")
    shown, toasts = page.locator("section"), page.locator("aside")

    await expect(shown.locator("li")).to_contain_text("in_progress")
    await page.get_by_role("button", name="move").click()
    await expect(shown.locator("li")).to_contain_text("in_progress Bled 1")
    await page.get_by_role("button", name="back").click()
    await expect(toasts).not_to_be_empty()
    await expect(shown.locator("li")).to_contain_text("in_progress Bled 1")
    assert office.run("select status, address from public.jobs") == [("in_progress", "Bled 1")]

    office.write("Welcome")
    await page.get_by_role("button", name="Contacts").click()
    chat, contacts, messages = (shown.locator(f"#{name}") for name in ("chat", "page", "messages"))
    await expect(contacts).to_have_text("Cilka Cerar open")
    await chat.get_by_text("Cilka Cerar").click()
    await expect(messages).to_contain_text("Welcome")
    office.write("How are you?")
    await expect(messages).to_contain_text("Welcome, How are you?")
    await expect(toasts).to_contain_text("How are you?")
    office.as_andrej(
        "insert into public.contacts_v2 (account_id, name) values (%s, 'Nika')", ACCOUNT
    )
    await expect(toasts).to_contain_text("New: Nika")
    await expect(chat).to_contain_text("Nika")
    office.as_andrej(
        "update public.contacts_live_chat set conversation_status = 'Closed' where name = 'Nika'"
    )
    await expect(contacts).to_have_text("Cilka Cerar open, Nika closed")
    await expect(chat).to_have_text("Cilka Cerar")


@in_the_browser
async def test_the_page_of_readme_in_react_shows_a_customers_jobs_live(
    stack: Stack, built: Built, office: Office, page: Page
) -> None:
    job = office.add_job("Carpet")
    await host(page, built.pages, settings_of(stack, CILKAS_LOGIN))

    await page.goto(f"{ORIGIN}/readme.html")

    await expect(page.locator("h1")).to_have_text("Cilka Cerar")
    await expect(page.locator("p")).to_have_text("connected")
    await expect(page.locator("li")).to_contain_text(re.compile("^Carpet, .*: scheduled$"))
    async with page.expect_console_message(lambda one: one.text == "Carpet: now cancelled"):
        office.set_status(job, "cancelled")
    await expect(page.locator("li")).to_contain_text("cancelled")


@in_the_browser
async def test_the_package_works_by_an_import_map(
    stack: Stack, built: Built, office: Office, page: Page
) -> None:
    official = node.install() / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js"
    office.add_job("Carpet")
    (built.package / "plain.html").write_text(
        """
        <ul></ul>
        <script>window.settings = {}</script>
        <script src="supabase.js"></script>
        <script type="importmap">{"imports": {"@rapport/live": "./live/index.js"}}</script>
        <script type="module">
          import { createLive } from "@rapport/live";
          const { url, key, token, customerId } = window.settings;
          const client = supabase.createClient(url, key, { accessToken: async () => token });
          const jobs = createLive(client).jobs(customerId);
          jobs.subscribe(() => {
            const texts = jobs.getSnapshot().rows.map((job) => job.service_type);
            document.querySelector("ul").innerText = texts.join();
          });
        </script>
        """
    )
    (built.package / "supabase.js").write_text(official.read_text())
    await host(page, built.package, settings_of(stack, CILKAS_LOGIN))

    await page.goto(f"{ORIGIN}/plain.html")

    await expect(page.locator("ul")).to_have_text("Carpet")


@pytest.mark.next
@in_the_browser
async def test_the_package_works_in_a_project_of_next(
    stack: Stack, office: Office, page: Page, tmp_path: Path
) -> None:
    """Its server renders what nobody has read yet; the browser goes on from there."""
    office.add_job("Carpet")
    # its bundler looks for no packages outside the project
    project = package.project("next", tmp_path, package.pack(tmp_path), links=False)
    built = package.run(project, "next/dist/bin/next", "build")
    assert built.returncode == 0, built.stdout + built.stderr
    port = choose_any("next")["next"]
    address = f"http://127.0.0.1:{port}"
    settings = settings_of(stack, CILKAS_LOGIN)
    query = urlencode(
        {name: settings[name] for name in ("url", "key", "token")} | {"customer": CILKA}
    )
    async with package.serving(project, "next/dist/bin/next", "start", f"--port={port}") as lines:
        await until(lambda: any("Ready" in line for line in lines))
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{address}/?{query}")
        await page.goto(f"{address}/?{query}")
        await expect(page.locator("p")).to_have_text("connected 5/5: Carpet scheduled")
        office.run("update public.jobs set status = 'cancelled'")
        await expect(page.locator("p")).to_have_text("connected 5/5: Carpet cancelled")

    assert "connecting 0/5:" in answer.text.replace("<!-- -->", "")
