"""The pages in a real browser, as one of the seed's people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)
from tests.web import node

CHROMIUM = "/usr/bin/chromium"
# ms: a machine that does much else at the same time
PATIENCE = 20_000

T = TypeVar("T")


def is_complaint(said: ConsoleMessage) -> bool:
    """An error; but a conversation may be told of, and marked as read, before others can see it,
    and where much is asked at once a page waits until it may ask again.
    """
    is_early = "404" in said.text and said.location["url"].endswith("/rpc/mark_read")
    return said.type == "error" and not (is_early or "429" in said.text)


def comes(page: Page, read: Callable[[], T], is_right: Callable[[T], object] = bool) -> T:
    """What is read outside of the page once it is right: a page may be told of a transaction a
    moment before others can see it.
    """
    deadline = time.monotonic() + PATIENCE / 1000
    while not is_right(found := read()):
        assert time.monotonic() < deadline, found
        page.wait_for_timeout(20)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, which asks no proxy."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


class People:
    """Browsers of their own for several people; `complaints` is what their pages say of errors,
    also of what their policy has kept out.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._url = url
        self._contexts: list[BrowserContext] = []

    def open(self, path: str, name: str | None = None, **settings: Any) -> Page:
        """A page, signed in by the button of a name."""
        context = self._browser.new_context(
            **{"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **settings}
        )
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(error.message))
        page.goto(f"{self._url}/{path}")
        if name:
            page.get_by_role("button", name=name).click()
            expect(page.locator(".connection-is-connected")).to_be_visible()
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if is_complaint(message):
            self.complaints.append(message.text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


# boxes that can be scrolled although all that is seen of them is in sight: something hidden, or an
# empty container, makes them longer
_EMPTY_SCROLLS = """() => {
    const root = document.scrollingElement;
    const boxes = [root, ...document.querySelectorAll("body *")].filter(
        (box) => box === root || /auto|scroll/.test(getComputedStyle(box).overflowY));
    const ends = new Map(boxes.map((box) => [box, 0]));
    for (const one of document.querySelectorAll("body *")) {
        if (one.closest(".hidden") || !one.checkVisibility()) continue;
        let box = one.parentElement;
        while (!ends.has(box)) box = box.parentElement;
        const { bottom, height, width } = one.getBoundingClientRect();
        if (height < 2 || width < 2) continue;
        const top = box === root ? 0 : box.getBoundingClientRect().top;
        ends.set(box, Math.max(ends.get(box), bottom - top + box.scrollTop));
    }
    return boxes
        .filter((box) => box.scrollHeight > box.clientHeight + 1 && box.checkVisibility())
        .filter((box) => box.scrollHeight > ends.get(box) + 40)
        .map((box) => [box.className || box.tagName, box.scrollHeight, ends.get(box)]);
}"""


def check_scrolls(page: Page, *, of: str) -> None:
    """Every box that scrolls ends with what is seen in it, and so does the page."""
    found = page.evaluate(_EMPTY_SCROLLS)
    assert found == [], (of, found)


def check_accessible(page: Page, *, of: str) -> None:
    """axe-core finds nothing serious, by light and by dark, and nothing scrolls without need."""
    check_scrolls(page, of=of)
    page.evaluate((node.install() / "axe-core" / "axe.min.js").read_text())
    # by dark only colours are others
    for scheme, rules in (("light", "undefined"), ("dark", "['color-contrast']")):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of its literals
        asked = f"axe.run({{resultTypes: ['violations'], runOnly: {rules}}})"
        found = page.evaluate(asked)["violations"]
        serious = [
            (of, scheme, one["id"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], serious
    page.emulate_media(color_scheme="light")
