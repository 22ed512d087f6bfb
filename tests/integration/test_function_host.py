"""The function host over real HTTP, with functions of the tests' own."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.integration.function_host import deployed, serve

from rapport.local.lambda_host.events import Event, InvocationContext, schedule_event
from rapport.local.lambda_host.host import BODY_LIMIT
from rapport.local.lambda_host.schedules import LastRuns, run_every

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def echo(event: Event, context: InvocationContext) -> object:
    about = {
        "function": context.function_name,
        "request": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
    }
    return {
        "statusCode": 201,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"event": event, "context": about}),
    }


async def test_a_request_becomes_an_event_of_payload_version_2() -> None:
    async with serve(deployed(echo, "POST /orders/{id}")) as client:
        response = await client.post(
            "/orders/7?tag=a&tag=b&empty=",
            content='{"name": "č"}',
            headers=[
                ("Content-Type", "application/json"),
                ("X-One", "1"),
                ("X-One", "2"),
                ("Cookie", "a=1; b=2"),
                ("User-Agent", "tests"),
            ],
        )
    assert response.status_code == 201
    event = response.json()["event"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == "POST /orders/{id}"
    assert event["rawPath"] == "/orders/7"
    assert event["rawQueryString"] == "tag=a&tag=b&empty="
    assert event["queryStringParameters"] == {"tag": "a,b", "empty": ""}
    assert event["pathParameters"] == {"id": "7"}
    assert event["headers"]["x-one"] == "1,2"
    assert event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in event["headers"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"name": "č"}', False)
    assert event["requestContext"]["http"] == {
        "method": "POST",
        "path": "/orders/7",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "tests",
    }


async def test_a_function_knows_about_its_invocation() -> None:
    async with serve(deployed(echo, "GET /")) as client:
        first = (await client.get("/")).json()["context"]
        second = (await client.get("/")).json()["context"]
    assert first["function"] == "example"
    assert first["request"] != second["request"]
    assert 0 < first["remaining"] <= 6_000


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"\xff\x00", "application/json"), (b"plain", "application/octet-stream"), (b"plain", "")],
)
async def test_a_body_that_is_no_text_is_base64(content: bytes, content_type: str) -> None:
    async with serve(deployed(echo, "POST /")) as client:
        response = await client.post("/", content=content, headers={"Content-Type": content_type})
    event = response.json()["event"]
    assert event["isBase64Encoded"]
    assert base64.b64decode(event["body"]) == content


async def test_an_answer_is_given_with_its_headers_cookies_and_bytes() -> None:
    def handler(_event: Event, _context: InvocationContext) -> object:
        return {
            "statusCode": 200,
            "headers": {"content-type": "image/png", "x-count": 3},
            "cookies": ["a=1", "b=2"],
            "body": base64.b64encode(b"\x89PNG").decode(),
            "isBase64Encoded": True,
        }

    async with serve(deployed(handler, "GET /")) as client:
        response = await client.get("/")
    assert response.content == b"\x89PNG"
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-count"] == "3"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("answer", [None, {"body": "no status"}, {"statusCode": "x"}, "text"])
async def test_an_answer_of_another_shape_is_500(answer: object) -> None:
    async with serve(deployed(lambda _event, _context: answer, "GET /")) as client:
        response = await client.get("/")
    assert response.status_code == 500


async def test_a_crash_is_500_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(_event: Event, _context: InvocationContext) -> object:
        raise ZeroDivisionError

    async with serve(deployed(handler, "GET /")) as client:
        response = await client.get("/")
        healthy = await client.get("/health")
    assert response.status_code == 500
    assert response.json() == {"message": "Internal Server Error"}
    assert "ZeroDivisionError" in caplog.text
    assert healthy.status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/other"), ("PUT", "/"), ("HEAD", "/")])
async def test_what_has_no_route_is_404(method: str, path: str) -> None:
    async with serve(deployed(echo, "GET /")) as client:
        response = await client.request(method, path)
    assert response.status_code == 404


async def test_a_body_above_the_gateways_limit_is_413() -> None:
    async with serve(deployed(echo, "POST /")) as client:
        response = await client.post("/", content=bytes(BODY_LIMIT + 1))
    assert response.status_code == 413


async def test_functions_run_beside_each_other() -> None:
    both = threading.Barrier(2)

    def handler(_event: Event, _context: InvocationContext) -> object:
        both.wait(timeout=20)
        return {"statusCode": 200}

    async with serve(deployed(handler, "GET /")) as client:
        responses = await asyncio.gather(client.get("/"), client.get("/"))
    assert [response.status_code for response in responses] == [200, 200]


async def test_a_schedule_outlives_a_crash_and_never_overlaps(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.CRITICAL, "rapport.local.lambda_host.schedules")
    running = threading.Lock()
    events: list[Event] = []
    third = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(event: Event, _context: InvocationContext) -> object:
        assert running.acquire(blocking=False)
        try:
            events.append(event)
            if len(events) == 1:
                raise ZeroDivisionError
            if len(events) == 3:
                loop.call_soon_threadsafe(third.set)
        finally:
            running.release()
        return None

    def invoke() -> object:
        return handler(schedule_event("example"), InvocationContext("example", 128, 6))

    runs = LastRuns(tmp_path / "schedules.json")
    every = timedelta(milliseconds=1)
    task = asyncio.create_task(run_every(every, "example", invoke, runs))
    await asyncio.wait_for(third.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    assert {event["detail-type"] for event in events} == {"Scheduled Event"}
    assert len({event["id"] for event in events}) == len(events)
