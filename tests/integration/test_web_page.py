"""The live client in a page of a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from playwright.async_api import Page, Route, async_playwright, expect
from tests.web import node

from rapport.local.postgres import Database
from rapport.local.stack import Stack
from rapport.local.state import PROJECT

CHROMIUM = Path("/usr/bin/chromium")
# nothing listens there: what the page asks for is answered by the test
ORIGIN = "http://localhost:65000"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page of a host that has the live client's files, and the official one's."""
    modules = node.install()
    official = modules / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js"

    async def file(route: Route) -> None:
        path = node.WEB / route.request.url.removeprefix(f"{ORIGIN}/")
        await route.fulfill(body=path.read_text(), content_type="text/javascript")

    async def package(route: Route) -> None:
        body = f"{official.read_text()}\nexport const {{ createClient }} = supabase;"
        await route.fulfill(
            body=body,
            content_type="text/javascript",
            headers={"access-control-allow-origin": "*"},
        )

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--no-proxy-server",
                # a page that comes from no server is not known to be of this machine
                "--disable-features=LocalNetworkAccessChecks",
            ],
        )
        page = await browser.new_page()
        # what goes wrong in the page is shown where a test fails
        page.on("console", lambda message: print(message.text))  # noqa: T201
        page.on("pageerror", lambda error: print(error.message))  # noqa: T201
        await page.route(f"{ORIGIN}/**/*.js", file)
        await page.route("https://esm.sh/**", package)
        yield page
        await browser.close()


async def show(page: Page, html: str) -> None:
    async def answer(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html")

    await page.route(f"{ORIGIN}/", answer)
    await page.goto(f"{ORIGIN}/")


async def test_the_page_of_readme_shows_a_customers_jobs_live(
    stack: Stack, database: Database, page: Page
) -> None:
    readme = (PROJECT / "README.md").read_text()
    (html,) = re.findall(r"^```html\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    html = html.replace("http://127.0.0.1:24321", stack.url)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())

        await show(page, html.replace("the anon key", stack.anon_key))

        owner.execute(
            "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
            " select c.account_id, c.id, 'Carpet', '2027-01-05 09:00Z' from public.customers c"
            " join auth.users u on u.id = c.portal_user_id"
            " where u.email = 'cilka@customers.example'"
        )
        shown = page.locator("ul")
        await expect(shown).to_contain_text("Carpet, 2027-01-05T09:00:00+00:00: scheduled")
        owner.execute("update public.jobs set status = 'cancelled' where service_type = 'Carpet'")
        await expect(shown).to_contain_text("cancelled")
