"""The live client in a browser's tabs over a network that can't be trusted, beside the official
client alone.

`FAULT_CHANGES=10000 uv run pytest -s tests/integration/client/test_web_faults.py` is the long form,
and prints the table of README.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from random import Random
from statistics import median
from typing import Any

import psycopg
from playwright.async_api import BrowserContext, Page
from tests.integration.client.portal import Portal
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.client.told import witness_of
from tests.integration.client.trouble import Trouble, Writers
from tests.integration.client.witness import check_order, versions
from tests.web import browser
from tests.web.browser import HIDE, TELL, running
from tests.world import seed_uuid

from rapport.client.rows import Message
from rapport.local.supabase import keys

CHANGES = int(os.environ.get("FAULT_CHANGES", "500"))
SEED = int(os.environ.get("FAULT_SEED", "20261201"))
MEASURED = 20 if CHANGES < 10_000 else 50
# the jobs that a page has missed
MISSED = min(CHANGES, 10_000)
PATIENCE_MS = 90_000

QUICK = {
    "slowPoll": 1000,
    "fastPoll": 300,
    "joinTimeout": 2000,
    "firstBackoff": 50,
    "longestBackoff": 500,
    "refreshMargin": 1000,
    "requestTimeout": 2000,
    "hiddenPause": 300,
}


class Tabs:
    """Tabs of one browser, each a user's."""

    def __init__(self, context: BrowserContext, portal: Portal, url: str) -> None:
        self._context = context
        self._portal = portal
        self._url = url
        self._random = Random(SEED)
        self.are_short_lived = False

    async def __aenter__(self) -> Tabs:
        await self._context.expose_function("mint", self._mint)
        return self

    async def __aexit__(self, *_: object) -> None:
        """The browser closes them."""

    def _mint(self, user: str) -> str:
        # some expire before they can be renewed
        seconds = self._random.uniform(1.5, 6) if self.are_short_lived else 3600
        return keys.mint_user_token(
            self._portal.stack.signing_key,
            user_id=seed_uuid(user),
            lifetime=timedelta(seconds=seconds),
        )

    async def open(self, user: str, *, alone: bool = True) -> Page:
        # the browser says of each connection that it was lost
        tab = await browser.new_page(self._context, is_told=False)
        settings = {
            "url": self._url,
            "key": self._portal.stack.publishable_key,
            "user": user,
            "customerId": str(self._portal.customer(user)),
            "timing": QUICK,
            "alone": alone,
        }
        await browser.show(tab, running("rivals.mjs", settings))
        await tab.wait_for_function("window.told && messages.getSnapshot().isConnected")
        return tab


async def hide_and_show(tabs: list[Page], random: Random) -> None:
    """Looks away from one tab or the other, again and again; in the end at all of them."""
    try:
        while True:
            tab = random.choice(tabs)
            for hidden in ("true", "false"):
                await tab.evaluate(HIDE.format(hidden) + TELL)
                await asyncio.sleep(random.uniform(0.2, 2))
    except asyncio.CancelledError:
        for tab in tabs:
            await tab.evaluate(HIDE.format("false") + TELL)


async def test_tabs_miss_nothing_and_tell_nothing_twice_whatever_fails(portal: Portal) -> None:
    conversations = [portal.conversation("cilka") for _ in range(3)]
    conversations.append(portal.conversation("carlos"))
    portal.write("andrej", conversations[0], "before", "the subscription")
    cilka = portal.customer("cilka")
    faults = Faults(Random(SEED))
    async with (
        browser.chromium() as chromium,
        browser.context(chromium) as context,
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        Tabs(context, portal, proxy.url) as tabs,
    ):
        # the one that is hidden now and then begins with the socket of both
        second = await tabs.open("cilka")
        first = await tabs.open("cilka", alone=False)
        his = await tabs.open("carlos")
        # what is measured comes through the network that can be trusted
        await first.wait_for_function("hearsPlain()")
        took = await first.evaluate(f"measure('{conversations[0]}', {MEASURED})")

        start = [len(told) for told in await asyncio.gather(*map(told_in, (first, second)))]
        before = versions(portal.world, "messages", cilka)
        tabs.are_short_lived = True
        writers = Writers(portal, conversations, CHANGES, SEED)
        trouble = Trouble(portal, proxy)
        faults.drop, faults.delay, faults.cut, faults.stall = 0.1, 0.02, 0.01, 0.003
        looking = asyncio.create_task(hide_and_show([second, his], Random(SEED)))
        writers.start()
        while not writers.are_done or trouble.count < 4:
            await asyncio.sleep(1.5)
            await trouble.strike()
        assert not writers.errors
        looking.cancel()
        await looking
        faults.calm()
        tabs.are_short_lived = False
        expected = versions(portal.world, "messages", cilka)
        numbers = {str(row): version for row, version in expected.items()}
        for tab in (first, second):
            await tab.wait_for_function(
                "(numbers) => flaws('live', numbers).wrong === 0"
                " && messages.getSnapshot().isConnected",
                arg=numbers,
                timeout=PATIENCE_MS,
            )
        await his.wait_for_function(
            "messages.getSnapshot().state === 'error' && !messages.getSnapshot().rows.length",
            timeout=PATIENCE_MS,
        )
        # what is still on its way would now be told twice
        await asyncio.sleep(3)
        for tab, heard in zip((first, second), start, strict=True):
            told = (await told_in(tab))[heard:]
            witness = witness_of(told, Message)
            witness.check_rows(expected, before)
            check_order(witness.inserts)
            assert {row.customer_id for row in witness.inserts} == {cilka}
        theirs = {change["row"]["customer_id"] for change in await told_in(his)}
        assert theirs <= {str(portal.customer("carlos"))}
        found = {
            who: await first.evaluate("([who, n]) => flaws(who, n)", [who, numbers]) for who in took
        }
        caught_up = await away(first, portal)
    report(took, found, caught_up)
    assert (found["live"]["wrong"], found["live"]["twice"]) == (0, 0)


async def told_in(tab: Page) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = await tab.evaluate("told.live")
    return told


async def away(tab: Page, portal: Portal) -> float:
    """Milliseconds until a tab has told all that has happened while it was paused."""
    with psycopg.connect(portal.world.database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
            " select c.account_id, c.id, 'Carpet', now()"
            " from public.contacts c, generate_series(1, %s) where c.id = %s",
            (MISSED, portal.customer("cilka")),
        )
        await tab.evaluate(
            "(async () => { window.changed = 0;"
            " window.jobs = live.jobs(window.settings.customerId, { onUpdate: () => changed++ });"
            " await jobs.ready(); await live.pause() })()"
        )
        owner.execute("update public.jobs set description = 'missed'")
    begun = time.perf_counter()
    await tab.evaluate("live.resume()")
    await tab.wait_for_function(f"changed === {MISSED}", polling=5, timeout=PATIENCE_MS)
    return (time.perf_counter() - begun) * 1000


def report(took: dict[str, list[float]], found: dict[str, Any], caught_up: float) -> None:
    lines = [
        (
            f"{CHANGES:6} changes | p50 ms | p95 ms | wrong at the end | told twice or of the past"
            " | after more than 5 s | at the latest after"
        )
    ]
    for who, times in took.items():
        ordered = sorted(times)
        p95 = ordered[int(len(ordered) * 0.95)]
        flaws = found[who]
        lines.append(
            f"{who:14} | {median(times):6.1f} | {p95:6.1f} | {flaws['wrong']:16} |"
            f" {flaws['twice']:25} | {flaws['late']:19} | {flaws['longest']:.1f} s"
        )
    lines.append(f"catch-up of {MISSED} changes: {caught_up:.0f} ms")
    print("\n".join(lines))  # noqa: T201 - the table of README
