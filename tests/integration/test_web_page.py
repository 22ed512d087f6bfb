"""The live client in a page of a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from playwright.async_api import Page, Route, async_playwright, expect
from tests.web import node

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.local.supabase import keys

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


def settings_of(stack: Stack, owner: psycopg.Connection) -> dict[str, str]:
    """What the page of a customer has to know."""
    found = owner.execute(
        "select c.id, c.portal_user_id from public.customers c"
        " join auth.users u on u.id = c.portal_user_id"
        " where u.email = 'cilka@customers.example'"
    ).fetchone()
    assert found is not None
    return {
        "url": stack.url,
        "key": stack.publishable_key,
        "token": keys.mint_user_token(stack.signing_key, user_id=found[1]),
        "customerId": str(found[0]),
        "userId": str(found[1]),
    }


async def test_the_page_of_readme_shows_a_customers_jobs_live(
    stack: Stack, database: Database, page: Page
) -> None:
    readme = (PROJECT / "README.md").read_text()
    (html,) = re.findall(r"^```html\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    html = html.replace("http://127.0.0.1:24321", stack.url)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())

        await show(page, html.replace("the publishable key", stack.publishable_key))

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


async def test_hooks_show_tell_once_and_leave_nothing_behind(
    stack: Stack, database: Database, page: Page
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        settings = settings_of(stack, owner)
        app = node.bundled(node.HERE / "portal.jsx")
        await show(
            page,
            f"<main></main><script>window.settings = {json.dumps(settings)}</script>"
            f'<script type="module">{app}</script>',
        )
        jobs, toasts, signs = (page.locator(f"#{name}") for name in ("jobs", "toasts", "signs"))
        await expect(jobs).to_have_text("true fine | | |")
        await expect(toasts).to_have_text("true 5/5 |")
        await expect(signs).to_contain_text("connected")
        assert "0 unread, 0 points" in await page.evaluate(
            "window.fromServer.replaceAll('<!-- -->', '')"
        )

        owner.execute(
            "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
            " select account_id, id, 'Carpet', now() from public.customers where id = %s",
            [settings["customerId"]],
        )
        await expect(jobs).to_have_text("true fine | Carpet scheduled | Carpet scheduled | INSERT")
        await page.get_by_text("render 0").click()
        owner.execute("update public.jobs set status = 'cancelled'")
        await expect(jobs).to_have_text("true fine | Carpet cancelled | Carpet cancelled | UPDATE")
        owner.execute(
            "insert into public.loyalty_transactions (account_id, customer_id, type, points)"
            " select account_id, id, 'earned', 50 from public.customers where id = %s",
            [settings["customerId"]],
        )
        await expect(signs).to_contain_text("50 points")
        await expect(toasts).to_contain_text(
            "true 5/5 | New appointment, Appointment cancelled, +50 points"
        )

        # hooks that are gone leave their topics
        await page.get_by_text("toggle").click()
        await page.wait_for_function("window.client.getChannels().length === 0")
        await page.get_by_text("toggle").click()
        await expect(jobs).to_have_text("true fine | Carpet cancelled | |")
        await expect(toasts).to_have_text("true 5/5 |")


async def test_messages_outlive_their_page_and_are_sent_once_in_order(
    stack: Stack, database: Database, page: Page
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        settings = settings_of(stack, owner)
        html = (
            f"<script>window.settings = {json.dumps(settings)}</script>"
            f'<script type="module">{(node.HERE / "chat.mjs").read_text()}</script>'
        )
        await show(page, html)
        await page.wait_for_function("window.messages?.getSnapshot().isConnected && pending()")

        await page.context.set_offline(True)
        for text in ("one", "two", "three"):
            await page.evaluate(f"send('{text}')")
        assert await page.evaluate("pending()") == ["one", "two", "three"]
        await page.evaluate("send('   ')")
        await page.reload()
        await page.wait_for_function("window.pending && pending().length === 4")
        await page.context.set_offline(False)
        await page.wait_for_function("texts().join() === 'one,two,three'")
        await page.wait_for_function("outbox.getSnapshot().pending[0]?.state === 'refused'")
        [refused] = await page.evaluate("outbox.getSnapshot().pending")
        assert refused["refusal"]
        await page.evaluate(f"outbox.dismiss('{refused['clientRef']}')")
        assert await page.evaluate("pending()") == []
        rows = owner.execute("select message from public.messages order by seq").fetchall()
        assert rows == [("one",), ("two",), ("three",)]

        # a page that nobody looks at hangs up, and goes on once it is looked at
        hide = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
        tell = "document.dispatchEvent(new Event('visibilitychange'))"
        await page.evaluate(hide.format("true") + tell)
        await page.wait_for_function("live.state === 'offline'")
        owner.execute("update public.messages set message = 'third' where message = 'three'")
        await page.evaluate(hide.format("false") + tell)
        await page.wait_for_function("texts().join() === 'one,two,third'")
        await page.wait_for_function("live.state === 'connected'")
