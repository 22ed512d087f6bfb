"""The time from signing in at the dashboard to the first conversation in sight, of 50,000.

Beside it stands the least that it could be in that page: one question for the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from playwright.sync_api import Browser, sync_playwright

from rapport.commands.bench.browser import CHROMIUM, PATIENCE_MS
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.population import Population, account_id, populate
from rapport.local.errors import StackError
from rapport.local.stack.logins import LOGINS
from rapport.local.stack.postgres import SUPERUSER
from rapport.local.stack.running import Stack

ROUNDS = 12
WARM_UP = 2
LARGE = Population(accounts=3, contacts=52_000, largest=50_000, messages=200_000)
LOGIN = LOGINS[1]

# a frame after the first conversation was put into the page
_WATCH = """
() => {
  window.shown = new Promise((resolve) => {
    const look = () => requestAnimationFrame(document.querySelector(".inbox-row") ? resolve : look);
    look();
  });
}
"""
# ms from the answer to the password
_TAKEN = """
async () => {
  const at = await window.shown;
  const asked = performance.getEntriesByType("resource");
  const signedIn = asked.find(({ name }) => name.includes("/auth/v1/token")).responseEnd;
  return at - signedIn;
}
"""
_ASK = """
async (account) => {
  const { url, publishable_key } = await (await fetch("../config.json")).json();
  const { access_token } = JSON.parse(localStorage.getItem("rapport-dashboard"));
  const begun = performance.now();
  const answer = await fetch(`${url}/rest/v1/rpc/inbox_page`, {
    method: "POST",
    headers: {
      apikey: publishable_key,
      Authorization: `Bearer ${access_token}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ account_id: account, is_snoozed: false, page_size: 51 }),
  });
  await answer.json();
  return performance.now() - begun;
}
"""


@dataclass(frozen=True)
class DashboardFigures:
    """From the answer to the password to the first conversation, and one question for its rows."""

    conversations: int
    first: Latency
    question: Latency


def measure(stack: Stack, population: Population = LARGE, rounds: int = ROUNDS) -> DashboardFigures:
    """Fills a temporary stack's database anew, and signs in again and again in Debian's Chromium.

    Raises StackError where there is no browser.
    """
    if not CHROMIUM.exists():
        raise StackError(
            f"There is no browser at {CHROMIUM}. Install Debian's package chromium,"
            " in which pages are measured."
        )
    account = account_id(1)
    with psycopg.connect(stack.db_url(SUPERUSER), autocommit=True) as superuser:
        # of the seed only the logins stay
        superuser.execute("truncate public.accounts cascade")
        populate(superuser, population)
        superuser.execute(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " select %s, u.id, 'agent', 'Agent' from auth.users u where u.email = %s",
            [account, LOGIN.email],
        )
        ((conversations,),) = superuser.execute(
            "select count(*) from public.conversations where account_id = %s", [account]
        ).fetchall()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        taken = [_sign_in(browser, stack.url, str(account)) for _ in range(WARM_UP + rounds)]
        browser.close()
    return DashboardFigures(
        conversations,
        Latency.of(first / 1000 for first, _ in taken[WARM_UP:]),
        Latency.of(question / 1000 for _, question in taken[WARM_UP:]),
    )


def _sign_in(browser: Browser, url: str, account: str) -> tuple[float, float]:
    """ms to the first row and of one question, in a browser of its own."""
    context = browser.new_context(viewport={"width": 1360, "height": 860}, locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{url}/dashboard/")
    page.fill("[name=email]", LOGIN.email)
    page.fill("[name=password]", LOGIN.password)
    page.evaluate(_WATCH)
    page.click("[type=submit]")
    first: float = page.evaluate(_TAKEN)
    question: float = page.evaluate(_ASK, account)
    context.close()
    return first, question
