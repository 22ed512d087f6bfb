"""Makes the pictures of README: `python -m tests.pictures FOLDER`, on a stack that runs.

It signs in as the seed's people, writes a short story, and takes six pictures: the phone, the
dashboard, the portal by light and by dark, and two of them as a telephone shows them. A picture is
WebP of at most 60 KB.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from rapport.local.stack import state
from rapport.local.stack.logins import PASSWORD, PHONES
from rapport.local.stack.running import Stack

CHROMIUM = Path("/usr/bin/chromium")
MOST_BYTES = 60 * 1024
WIDE = {"width": 1280, "height": 800}
TELEPHONE = {"width": 390, "height": 780}
ANSWER = "No, there will be two of us."
# Chromium's own encoder, since no library of pictures is among ours
ENCODE = """
    async ([png, quality]) => {
        const picture = await createImageBitmap(await (await fetch(png)).blob());
        const canvas = new OffscreenCanvas(picture.width, picture.height);
        canvas.getContext("2d").drawImage(picture, 0, 0);
        const blob = await canvas.convertToBlob({ type: "image/webp", quality });
        return Array.from(new Uint8Array(await blob.arrayBuffer()));
    }
"""


def main(folder: Path) -> None:
    stack = state.running_stack(state.folder())
    if stack is None:
        raise SystemExit("No stack runs on this machine. Start one with `rapport up --fresh`.")
    folder.mkdir(parents=True, exist_ok=True)
    tell_story(stack)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        for name, path, login, size, scheme in (
            ("phone", "phone/", None, WIDE, "light"),
            ("dashboard", "dashboard/", "Andrej", WIDE, "light"),
            ("dashboard-dark", "dashboard/", "Andrej", WIDE, "dark"),
            ("portal", "portal/", "Cilka", WIDE, "light"),
            ("portal-telephone", "portal/", "Cilka", TELEPHONE, "light"),
            ("dashboard-telephone", "dashboard/", "Andrej", TELEPHONE, "dark"),
        ):
            with page_of(browser, stack, path, login, size, scheme) as page:
                picture = encoded(browser, page.screenshot())
                (folder / f"{name}.webp").write_bytes(picture)
                print(f"{name}.webp", len(picture))  # noqa: T201 - its output
        browser.close()


def tell_story(stack: Stack) -> None:
    """A customer writes, staff answer, and there is something of everything."""
    phone = PHONES[0]
    with httpx.Client(trust_env=False, timeout=30) as http:
        owner, headers = (
            {
                "apikey": stack.publishable_key,
                "authorization": f"Bearer {session['access_token']}",
                "prefer": "return=representation",
            }
            for session in (
                http.post(
                    f"{stack.url}/auth/v1/token?grant_type=password",
                    json={"email": f"{name}@alpine.example", "password": PASSWORD},
                    headers={"apikey": stack.publishable_key},
                ).json()
                for name in ("olivia", "andrej")
            )
        )
        # the pages are in English, so the account's notices are too
        http.patch(
            f"{stack.url}/rest/v1/accounts?name=like.Alpine*",
            json={"language": "en"},
            headers=owner,
        ).raise_for_status()

        def ask(path: str, **body: object) -> Any:
            answer = http.post(f"{stack.url}/rest/v1/{path}", json=body, headers=headers)
            answer.raise_for_status()
            return answer.json()

        def says(words: str, sender: str = phone.number, name: str = phone.name) -> None:
            order = {"phone_number_id": phone.phone_number_id, "from": sender, "name": name}
            url = f"{stack.whatsapp_url}/_fake/inbound"
            http.post(url, json=order | {"text": words}).raise_for_status()

        says("Thank you, the carpet looks like new!", "38640555777", "Maja Mlakar")
        says("How much is a sofa with three seats?", "38640999888", "Nejc Novak")
        says("Hello! Could you clean our living room carpet before the holidays?")
        hers = {
            "customer_name": f"eq.{phone.name}",
            "channel": "eq.whatsapp",
            "select": "id,account_id,customer_id",
        }
        (chat,) = http.get(f"{stack.url}/rest/v1/inbox", params=hers, headers=headers).json()
        ask(
            "messages",
            conversation_id=chat["id"],
            message="With pleasure. Is Tuesday at nine good for you?",
        )
        # WhatsApp's times are whole seconds, by which the phone sorts
        for write in (
            lambda: says("Perfect. Do I have to move the table?"),
            lambda: ask("messages", conversation_id=chat["id"], message=ANSWER),
        ):
            before = int(time.time())
            while int(time.time()) < before + 2:
                http.get(stack.url)
            write()
        whose = {"account_id": chat["account_id"], "customer_id": chat["customer_id"]}
        now = datetime.now(UTC)
        ask(
            "jobs",
            **whose,
            service_type="Carpet cleaning",
            starts_at=f"{now + timedelta(days=6):%F}T09:00Z",
            address="Slovenska 12",
        )
        ask(
            "jobs",
            **whose,
            service_type="Sofa, three seats",
            starts_at=f"{now + timedelta(days=30):%F}T11:00Z",
        )
        (bill,) = ask(
            "invoices",
            **whose,
            number="2026-118",
            currency="EUR",
            amount_minor=12_900,
            due_on=f"{now + timedelta(days=8):%F}",
            description="Bedroom carpet",
        )
        http.patch(
            f"{stack.url}/rest/v1/invoices?id=eq.{bill['id']}",
            json={"status": "sent"},
            headers=headers,
        ).raise_for_status()
        ask(
            "loyalty_transactions",
            **whose,
            type="earned",
            points=120,
            description="Bedroom carpet",
            expires_on=f"{now + timedelta(days=200):%F}",
        )


@contextmanager
def page_of(
    browser: Browser,
    stack: Stack,
    path: str,
    login: str | None,
    size: dict[str, int],
    scheme: Literal["light", "dark"],
) -> Iterator[Page]:
    context = browser.new_context(viewport=size, color_scheme=scheme, locale="en-GB")  # type: ignore[arg-type]  # as it says
    page = context.new_page()
    page.goto(f"{stack.url}/{path}")
    if login:
        page.get_by_role("button", name=login).click()
        page.locator(".connection-is-connected").first.wait_for(state="attached")
    if path.startswith("dashboard"):
        page.locator(".inbox-row", has_text=ANSWER).click()
    page.locator(".bubble, .job").first.wait_for(state="attached")
    page.wait_for_timeout(1500)
    yield page
    context.close()


def encoded(browser: Browser, png: bytes) -> bytes:
    """A picture as WebP, as good as it may be within the limit."""
    import base64

    page = browser.new_page()
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    picture = b""
    for quality in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        picture = bytes(page.evaluate(ENCODE, [url, quality]))
        if len(picture) <= MOST_BYTES:
            break
    page.close()
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]))
