"""The live client in a page of a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.web import browser, node
from tests.web.browser import HIDE, TELL, running, show

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PROJECT
from rapport.local.supabase import keys

# one browser for all
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser.chromium() as chromium:
        yield chromium


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A page of a window of its own."""
    async with browser.context(chromium) as context:
        yield await browser.new_page(context)


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
        await show(page, running("chat.mjs", settings))
        await page.wait_for_function("window.pending && window.messages?.getSnapshot().isConnected")

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
        await page.evaluate(HIDE.format("true") + TELL)
        await page.wait_for_function("live.state === 'offline'")
        owner.execute("update public.messages set message = 'third' where message = 'three'")
        await page.evaluate(HIDE.format("false") + TELL)
        await page.wait_for_function("texts().join() === 'one,two,third'")
        await page.wait_for_function("live.state === 'connected'")


class Tabs:
    """Tabs of one browser, and the sockets that they have opened."""

    def __init__(self, page: Page, settings: dict[str, str]) -> None:
        self.sockets = 0
        self._first: Page | None = page
        self._html = running("tab.mjs", settings)
        self._context = page.context

    async def open(self) -> Page:
        """Another tab, as soon as it hears what happens."""
        tab, self._first = self._first or await self._context.new_page(), None

        def count(_: object) -> None:
            self.sockets += 1

        tab.on("websocket", count)
        await show(tab, self._html)
        await connected(tab)
        return tab


async def connected(tab: Page) -> None:
    await tab.wait_for_function(
        "window.told && live.state === 'connected' && jobs.getSnapshot().isConnected"
    )


async def test_tabs_of_a_login_have_one_socket_and_miss_nothing_when_its_tab_closes(
    stack: Stack, database: Database, page: Page
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        settings = settings_of(stack, owner)

        def add(text: str) -> str:
            owner.execute(
                "insert into public.jobs"
                " (account_id, customer_id, service_type, starts_at, description)"
                " select account_id, id, 'Carpet', now(), %s from public.customers where id = %s",
                [text, settings["customerId"]],
            )
            return f"INSERT {text}"

        async def tells(tab: Page, *news: str) -> None:
            wanted = json.dumps(sorted(news))
            jobs = "told.filter((text) => text.startsWith('INSERT')).sort()"
            await tab.wait_for_function(f"JSON.stringify({jobs}) === JSON.stringify({wanted})")

        tabs = Tabs(page, settings)
        first = await tabs.open()
        second = await tabs.open()
        assert tabs.sockets == 1
        one = add("one")
        for tab in (first, second):
            await tells(tab, one)
        # the tab with the socket is gone, and what happens meanwhile is not
        await first.close()
        two = add("two")
        await tells(second, one, two)
        await connected(second)
        three = add("three")
        await tells(second, one, two, three)
        third = await tabs.open()
        assert tabs.sockets == 2

        # nobody looks at the tab with the socket
        await second.evaluate(HIDE.format("true") + TELL)
        await second.wait_for_function("live.state === 'offline'")
        await connected(third)
        four = add("four")
        await tells(third, four)
        await tells(second, one, two, three)
        await second.evaluate(HIDE.format("false") + TELL)
        await tells(second, one, two, three, four)
        await connected(second)
        assert tabs.sockets == 3
        five = add("five")
        await tells(second, one, two, three, four, five)
        await tells(third, four, five)

        # what either writes offline is sent once, in the order in which it was written
        await page.context.set_offline(True)
        for tab, text in ((second, "one"), (third, "two"), (second, "three"), (third, "four")):
            await tab.evaluate(f"send('{text}')")
        await page.context.set_offline(False)
        for tab in (second, third):
            await tab.wait_for_function("outbox.getSnapshot().pending.length === 0")
            said = "told.filter((text) => text.startsWith('said ') && text.length < 11).join()"
            await tab.wait_for_function(f"{said} === 'said one,said two,said three,said four'")
        rows = owner.execute(
            "select message from public.messages where sender_type = 'client' order by seq"
        ).fetchall()
        assert rows == [("one",), ("two",), ("three",), ("four",)]


async def test_thousand_subscriptions_that_come_and_go_leave_nothing(
    stack: Stack, database: Database, page: Page
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute((PROJECT / "supabase" / "seed.sql").read_bytes())
        settings = settings_of(stack, owner)
    await show(page, running("tab.mjs", settings))
    await connected(page)
    inspector = await page.context.new_cdp_session(page)
    await inspector.send("Performance.enable")

    async def churn(times: int) -> dict[str, float]:
        """Subscribes and unsubscribes so often; returns what the page holds then."""
        await page.evaluate(f"churn({times})")
        await connected(page)
        await inspector.send("HeapProfiler.collectGarbage")
        metrics = (await inspector.send("Performance.getMetrics"))["metrics"]
        held = {metric["name"]: metric["value"] for metric in metrics}
        return {name: held[name] for name in ("JSHeapUsedSize", "JSEventListeners")} | {
            "channels": await page.evaluate("client.getChannels().length")
        }

    before = await churn(200)
    after = await churn(1000)
    assert before["channels"] == after["channels"] == 1
    assert after["JSEventListeners"] <= before["JSEventListeners"]
    # bytes; a single row for each would be more
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 200_000
