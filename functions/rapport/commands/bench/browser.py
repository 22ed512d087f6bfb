"""The time from a change to its callback in a browser's page, and of a page's catch-up.

The live client is measured beside what an app would write with the official client alone: a
subscription to postgres_changes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from playwright.async_api import Page, Route, async_playwright

from rapport.commands.bench import away
from rapport.commands.bench.business import Business, Customer, Owner
from rapport.commands.bench.latency import Latency
from rapport.local.errors import StackError
from rapport.local.stack import state
from rapport.local.stack.running import Stack

CHROMIUM = Path("/usr/bin/chromium")
# nothing listens there: what the page asks for is answered here
ORIGIN = "http://localhost:65000"
WEB = Path(__file__).parents[2] / "web"
OFFICIAL = Path("@supabase", "supabase-js", "dist", "umd", "supabase.js")
WARM_UP = 10
CHANGES = 100
PATIENCE_MS = 120_000


@dataclass(frozen=True)
class BrowserFigures:
    """From a change to its callback with each client, and the seconds of each catch-up."""

    live: Latency
    official: Latency
    missed: int
    seconds: tuple[float, ...]


def measure(
    stack: Stack, changes: int = CHANGES, missed: int = away.CHANGES, rounds: int = away.ROUNDS
) -> BrowserFigures:
    """Measures in a page of Debian's Chromium. `missed` is a multiple of ten.

    Raises StackError where there is no browser.
    """
    if not CHROMIUM.exists():
        raise StackError(
            f"There is no browser at {CHROMIUM}. Install Debian's package chromium,"
            " in which pages are measured."
        )
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        (customer,) = business.add_customers(owner, 1)
        return asyncio.run(_measure(owner, business, customer, changes, missed, rounds))


async def _measure(
    owner: Owner,
    business: Business,
    customer: Customer,
    changes: int,
    missed: int,
    rounds: int,
) -> BrowserFigures:
    transactions = missed // away.TRANSACTION
    async with _page(business, customer) as page:
        live, official = [
            Latency.of(ms / 1000 for ms in taken[WARM_UP:])
            for who in ("live", "official")
            for taken in [await page.evaluate(f"measure('{who}', {WARM_UP + changes})")]
        ]
        rows = away.prepare(owner, business, customer, transactions)
        seconds = []
        for number in range(rounds):
            await page.evaluate("leave()")
            missing = away.Missing()
            await asyncio.to_thread(
                away.write, owner, rows, f"page {number}", transactions, missing
            )
            told = await page.evaluate(
                "(missing) => comeBack(missing)",
                {
                    "messages": list(missing.messages),
                    "rows": {str(row): text for row, text in missing.rows.items()},
                },
            )
            seconds.append(told / 1000)
    return BrowserFigures(live, official, transactions * away.TRANSACTION, tuple(seconds))


@asynccontextmanager
async def _page(business: Business, customer: Customer) -> AsyncIterator[Page]:
    """The page of browser.js, with the customer's and the agent's tokens."""
    settings = {
        "url": business.stack.url,
        "key": business.stack.publishable_key,
        "staff": business.token(business.agent),
        "customer": {
            "id": str(customer.id),
            "job": str(customer.job),
            "token": business.token(customer.user),
        },
    }
    official = state.npm_folder() / "node_modules" / OFFICIAL
    files = {
        "": (
            f'<script type="application/json" id="settings">{json.dumps(settings)}</script>'
            '<script type="module" src="browser.js"></script>'
        ),
        "browser.js": Path(__file__).with_suffix(".js").read_text(),
        "supabase.js": f"{official.read_text()}\nexport const {{ createClient }} = supabase;",
    }

    async def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/")
        body = files.get(name) or (WEB / name).read_text()
        kind = "text/javascript" if name else "text/html"
        await route.fulfill(body=body, content_type=kind)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--no-proxy-server",
                # the page comes from no server, which a browser may take for another network
                "--disable-features=LocalNetworkAccessChecks",
            ],
        )
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        await page.route(f"{ORIGIN}/**", answer)
        await page.goto(f"{ORIGIN}/")
        await page.wait_for_function("typeof comeBack === 'function'")
        yield page
        await browser.close()
