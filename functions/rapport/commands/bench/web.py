"""The pages as a person at a desk has them: how soon a conversation is there, how soon a message
is seen, what keeps the page from answering, and what it weighs.

Each figure stands beside one of an empty page of the same server, in the same browser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, async_playwright

from rapport.commands.bench.browser import CHROMIUM
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.waiting import PATIENCE_S
from rapport.local.errors import StackError
from rapport.local.fakes.whatsapp.courier import Meta
from rapport.local.fakes.whatsapp.payloads import inbound_text
from rapport.local.stack.logins import LOGINS, PHONES
from rapport.local.stack.postgres import SUPERUSER
from rapport.local.stack.running import Stack

SCRIPT = Path(__file__).with_suffix(".sql")
PAGE_SCRIPT = Path(__file__).with_suffix(".js")
# whose JavaScript is weighed
PAGES = {
    "start": "first page",
    "dashboard": "dashboard",
    "conversation": "dashboard with a conversation",
    "portal": "portal",
    "phone": "phone",
}
PATIENCE_MS = 120_000
WARM_UP = 10
SENDERS = 100
# a small file that the gateway makes, which a browser shows as a page of its own
EMPTY = "config.json"
# until what the page has begun is done, before its heap is read
SETTLED_MS = 5_000


@dataclass(frozen=True)
class WebLoad:
    """`conversations` in the inbox, one of them with `messages`; `alone` messages, each
    `pause_s` after the last one was seen; `stream_s` seconds of `per_second` messages; and for
    `traffic_s` seconds as many as a busy hour has.
    """

    conversations: int = 50_000
    messages: int = 2_000
    sign_ins: int = 5
    alone: int = 100
    # longer than the page waits between two readings of its list, which is what `stream_s` is about
    pause_s: float = 0.25
    stream_s: float = 20
    per_second: float = 50
    traffic_s: float = 300
    traffic: int = 3_600


@dataclass
class WebFigures:
    """Milliseconds and bytes; long tasks are those of more than 50 ms, by their lengths."""

    empty_ms: list[float]
    empty_frame: Latency
    empty_heap: int
    first: list[float]
    to_pixels: Latency
    stream_tasks: list[float]
    scroll_tasks: list[float]
    bubbles: int
    # of JavaScript, by the names of PAGES
    scripts: dict[str, int]
    heap_before: int
    heap_after: int


def fill(stack: Stack, load: WebLoad) -> None:
    """Writes the conversations into a stack that has the seed and nothing else."""
    # who may write past triggers
    url = stack.db_url(SUPERUSER)
    with psycopg.connect(url, autocommit=True) as owner, owner.transaction():
        for name, value in (
            ("conversations", load.conversations),
            ("messages", load.messages),
            ("number", PHONES[0].phone_number_id),
        ):
            owner.execute("select set_config(%s, %s, true)", [f"web.{name}", str(value)])
        owner.execute(SCRIPT.read_bytes())
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("vacuum (analyze)")


def measure(stack: Stack, load: WebLoad | None = None) -> WebFigures:
    """Measures in Debian's Chromium, on a whole stack that `fill` has filled.

    Raises StackError where there is no browser.
    """
    if not CHROMIUM.exists():
        raise StackError(
            f"There is no browser at {CHROMIUM}. Install Debian's package chromium,"
            " in which pages are measured."
        )
    return asyncio.run(_measure(stack, load or WebLoad()))


async def _measure(stack: Stack, load: WebLoad) -> WebFigures:
    scripts = {}
    async with _browser() as new_context:
        context = await new_context()
        empty_ms, empty_frame, empty_heap = await _empty(context, stack)
        first = []
        for _ in range(load.sign_ins):
            # a browser that has the files, as from the second day on, and nobody signed in
            page = await context.new_page()
            await page.goto(f"{stack.url}/dashboard/")
            first.append(await _sign_in(page, "andrej"))
            await page.evaluate("localStorage.clear()")
            await page.close()
        desk = await context.new_page()
        await desk.goto(f"{stack.url}/dashboard/")
        await _sign_in(desk, "andrej")
        # as who has signed in before
        await desk.reload()
        await desk.wait_for_selector(".inbox-row")
        scripts["dashboard"] = await _script_size(desk)
        # the long conversation, the first of the list
        await desk.click(".inbox-row")
        await desk.wait_for_selector(".bubble")
        await desk.evaluate("takeTasks()")
        bubbles = await desk.evaluate("scrollUp()")
        scroll_tasks = await desk.evaluate("takeTasks()")
        scripts["conversation"] = await _script_size(desk)
        # each in a window of its own: what is behind another one shows no frames
        phone = await (await new_context()).new_page()
        await phone.goto(f"{stack.url}/phone/")
        await phone.wait_for_selector("#composer-words")
        scripts["phone"] = await _script_size(phone)
        to_pixels = await _pixels(phone, desk, load)
        await phone.close()
        await desk.evaluate("takeTasks()")
        await _stream(stack, desk, load.stream_s, round(load.stream_s * load.per_second))
        stream_tasks = await desk.evaluate("takeTasks()")
        session = await context.new_cdp_session(desk)
        await desk.wait_for_timeout(SETTLED_MS)
        heap_before = await _heap_size(session)
        await _stream(stack, desk, load.traffic_s, load.traffic)
        await desk.wait_for_timeout(SETTLED_MS)
        heap_after = await _heap_size(session)
        scripts |= await _other_scripts(await new_context(), stack)
    return WebFigures(
        empty_ms=empty_ms,
        empty_frame=empty_frame,
        empty_heap=empty_heap,
        first=first,
        to_pixels=to_pixels,
        stream_tasks=stream_tasks,
        scroll_tasks=scroll_tasks,
        bubbles=bubbles,
        scripts={page: scripts[page] for page in PAGES},
        heap_before=heap_before,
        heap_after=heap_after,
    )


async def _empty(context: BrowserContext, stack: Stack) -> tuple[list[float], Latency, int]:
    page = await context.new_page()
    loaded = []
    for _ in range(5):
        await page.goto(f"{stack.url}/{EMPTY}")
        loaded.append(await page.evaluate("performance.getEntriesByType('navigation')[0].duration"))
    frames = await page.evaluate(
        """async (path) => {
            const taken = [];
            for (let n = 0; n < 50; n++) {
                const begun = performance.now();
                await (await fetch(path)).text();
                await new Promise(requestAnimationFrame);
                taken.push((performance.now() - begun) / 1000);
            }
            return taken;
        }""",
        f"/{EMPTY}",
    )
    heap = await _heap_size(await context.new_cdp_session(page))
    await page.close()
    return loaded, Latency.of(frames[WARM_UP:]), heap


async def _sign_in(page: Page, name: str) -> float:
    """Signs in as somebody of the seed; milliseconds until the first conversation is in sight."""
    login = next(one for one in LOGINS if one.email.startswith(f"{name}@"))
    await page.wait_for_selector("sign-in form")
    taken: float = await page.evaluate("(login) => signIn(login)", login._asdict())
    return taken


async def _pixels(phone: Page, desk: Page, load: WebLoad) -> Latency:
    taken = []
    for number in range(WARM_UP + load.alone):
        await asyncio.sleep(load.pause_s)
        words = f"To pixels {number}."
        seen = asyncio.ensure_future(desk.evaluate("(words) => whenSeen(words)", words))
        # so that the page looks before the phone writes
        await asyncio.sleep(0)
        await desk.evaluate("0")
        begun = await phone.evaluate("(order) => bring(order)", _order(words))
        taken.append((await seen - begun) / 1000)
    return Latency.of(taken[WARM_UP:])


def _order(words: str) -> dict[str, str]:
    phone = PHONES[0]
    return {
        "phone_number_id": phone.phone_number_id,
        "from": phone.number,
        "name": phone.name,
        "text": words,
    }


async def _stream(stack: Stack, desk: Page, seconds: float, messages: int) -> None:
    """Has customers write at a steady rate, and waits until the last message is in sight."""
    last = f"Last of {messages}, {time.monotonic_ns()}."
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
        meta = Meta(http, stack.webhook_url, stack.whatsapp_app_secret)

        async def post(place: int) -> None:
            answer = await meta.post(
                inbound_text(
                    phone_number_id=PHONES[0].phone_number_id,
                    sender=str(38_690_000_000 + place % SENDERS),
                    name=f"Sender {place % SENDERS}",
                    text=last if place == messages - 1 else f"Message {place}",
                )
            )
            answer.raise_for_status()

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as posts:
            for place in range(messages):
                due = begun + place * seconds / messages
                await asyncio.sleep(max(0, due - time.perf_counter()))
                posts.create_task(post(place))
    await desk.evaluate("(words) => untilSeen(words)", last)


async def _heap_size(session: CDPSession) -> int:
    """What is still used after everything that nothing needs is collected (bytes)."""
    for _ in range(2):
        await session.send("HeapProfiler.collectGarbage")
    return int((await session.send("Runtime.getHeapUsage"))["usedSize"])


async def _script_size(page: Page) -> int:
    size: int = await page.evaluate("scriptSize()")
    return size


async def _other_scripts(context: BrowserContext, stack: Stack) -> dict[str, int]:
    page = await context.new_page()
    await page.goto(f"{stack.url}/")
    await page.wait_for_selector(".door")
    start = await _script_size(page)
    await page.goto(f"{stack.url}/portal/")
    await page.wait_for_selector("sign-in form")
    await page.get_by_role("button", name="Cilka").click()
    await page.wait_for_selector(".connection-is-connected")
    return {"start": start, "portal": await _script_size(page)}


class _NewContext:
    """Makes browsers of their own, each with the functions of web.js on its pages."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def __call__(self) -> BrowserContext:
        context = await self._browser.new_context(
            viewport={"width": 1360, "height": 860}, locale="en-GB"
        )
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(PAGE_SCRIPT.read_text())
        return context


@asynccontextmanager
async def _browser() -> AsyncIterator[_NewContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield _NewContext(browser)
        await browser.close()
