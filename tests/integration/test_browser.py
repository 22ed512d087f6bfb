"""What a page in a real browser may do with the endpoints of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.stacks import Start
from tests.world import seed_uuid

from rapport.local.stack.running import MEDIA_BUCKET, Stack
from rapport.local.stack.serving import aws_values
from rapport.local.supabase import keys
from rapport.settings import MediaSettings
from rapport.storage import Storage

CHROMIUM = Path("/usr/bin/chromium")

# what came of a request: what the page can read, or that the browser let it read nothing
CALL = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        const retry = answer.headers.get("retry-after");
        return {status: answer.status, text: await answer.text(), retry};
    } catch (error) {
        return {error: error.name};
    }
}"""


class _Portal(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A portal</title>")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of another origin on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Portal) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        page = browser.new_page()
        try:
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            yield page
        finally:
            page.close()
            server.shutdown()
            serving.join()


def call(page: Page, url: str, method: str = "GET", **options: Any) -> Any:
    return page.evaluate(CALL, [url, {"method": method, **options}])


def test_a_page_calls_the_functions_as_serverless_yml_says(page: Page, start: Start) -> None:
    stack = start("postgrest", "gateway", "functions")
    url = f"{stack.functions_url}/api/operator/messages"
    told = {"authorization": f"Bearer {token(stack, 'andrej')}"}

    listed = call(page, f"{url}?conversationId=none", headers=told)
    assert (listed["status"], "is named by its uuid" in listed["text"]) == (422, True)
    refused = call(page, url, "POST", headers={"content-type": "application/json"}, body="{}")
    assert refused["status"] == 401, refused
    nowhere = call(page, f"{stack.functions_url}/api/nowhere", headers=told)
    assert (nowhere["status"], nowhere["text"]) == (404, '{"message":"Not Found"}')
    # not one of the methods, not one of the headers
    assert call(page, url, "DELETE", headers=told) == {"error": "TypeError"}
    assert call(page, url, headers={"x-other": "1"}) == {"error": "TypeError"}


def test_a_page_reads_rows_through_the_gateway(page: Page, start: Start) -> None:
    stack = start("postgrest", "gateway")
    told = {"apikey": stack.publishable_key, "authorization": f"Bearer {token(stack, 'andrej')}"}
    found = call(page, f"{stack.url}/rest/v1/accounts?select=id", headers=told)
    assert found["status"] == 200, found


def test_a_page_has_files_by_their_addresses_alone(
    page: Page, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = start("moto")
    for name, value in aws_values(stack).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDIA_BUCKET", MEDIA_BUCKET)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    storage = Storage(MediaSettings.load())
    up = storage.upload_link("a/photo", content_type="image/jpeg", size=5)
    put = call(page, up, "PUT", headers={"content-type": "image/jpeg"}, body="12345")
    assert put["status"] == 200, put
    down = storage.link("a/photo", disposition="inline", content_type="image/jpeg")
    assert call(page, down)["text"] == "12345"

    for wrong in (f"{stack.aws_url}/{MEDIA_BUCKET}/a/photo", f"{stack.aws_url}/{MEDIA_BUCKET}"):
        assert call(page, wrong).get("status") in (403, None)
    form = {"content-type": "application/x-www-form-urlencoded"}
    url = f"{stack.aws_url}/"
    for body in ("Action=ListQueues", "Action=PurgeQueue"):
        assert call(page, url, "POST", headers=form, body=body).get("status") in (403, None)
    call(page, f"{stack.aws_url}/moto-api/reset", "POST")
    assert httpx.get(down).content == b"12345"


def token(stack: Stack, user: str) -> str:
    return keys.mint_user_token(stack.signing_key, user_id=seed_uuid(user))
