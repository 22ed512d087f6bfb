"""Pages in a real browser, of a host that has the live client's files and the official one's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright
from tests.web import node

CHROMIUM = Path("/usr/bin/chromium")
# nothing listens there: what the page asks for is answered by the test
ORIGIN = "http://localhost:65000"
HIDE = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
TELL = "document.dispatchEvent(new Event('visibilitychange'))"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, which asks no proxy."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--no-proxy-server",
                # a page that comes from no server is not known to be of this machine
                "--disable-features=LocalNetworkAccessChecks",
                # as tabs of a window that somebody looks at
                "--disable-background-timer-throttling",
                "--disable-renderer-backgrounding",
            ],
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def context(of: Browser) -> AsyncIterator[BrowserContext]:
    """A window of its own, which shares nothing with others of the browser."""
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

    made = await of.new_context()
    await made.route(f"{ORIGIN}/**/*.js", file)
    await made.route("https://esm.sh/**", package)
    yield made
    await made.close()


async def new_page(of: BrowserContext, *, is_told: bool = True) -> Page:
    """An empty page; what goes wrong in it is shown where a test fails, and what it says as well
    where `is_told`.
    """
    page = await of.new_page()
    if is_told:
        page.on("console", lambda message: print(message.text))  # noqa: T201
    page.on("pageerror", lambda error: print(error.message))  # noqa: T201
    return page


async def show(page: Page, html: str) -> None:
    """Goes to a page with this text."""

    async def answer(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html")

    await page.route(f"{ORIGIN}/", answer)
    await page.goto(f"{ORIGIN}/")


def running(module: str, settings: Mapping[str, object]) -> str:
    """A page that runs a module of this folder with these settings."""
    return (
        f"<script>window.settings = {json.dumps(settings)}</script>"
        f'<script type="module">{(node.HERE / module).read_text()}</script>'
    )
