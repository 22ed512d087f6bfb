"""The function host over real HTTP, with functions of the tests' own."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message
from tests.integration.function_host import deployed, serve

from rapport.server.bodies import Bodies, BodyError
from rapport.server.events import Event, InvocationContext
from rapport.server.host import AT_ONCE, BODY_LIMIT

PATIENCE = 30  # seconds; nothing is measured


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the host has logged."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


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


async def test_a_crash_is_500_and_the_log_has_its_class_and_place_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def handler(_event: Event, _context: InvocationContext) -> object:
        raise ZeroDivisionError("somebody's words")

    async with serve(deployed(handler, "GET /")) as client:
        response = await client.get("/")
        healthy = await client.get("/health")
    assert response.status_code == 500
    assert response.json() == {"message": "Internal Server Error"}
    crash, request = lines(capsys)
    assert (crash["message"], crash["error"]) == ("crashed", "ZeroDivisionError")
    assert "test_function_host.py" in crash["at"][-1]
    assert (request["status"], request["correlation_id"]) == (500, crash["correlation_id"])
    assert "somebody" not in json.dumps([crash, request])
    assert healthy.status_code == 200


async def test_a_request_is_a_line_with_its_route_and_without_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serve(deployed(echo, "POST /orders/{id}")) as client:
        answer = await client.post("/orders/7?name=Ana", headers={"X-Forwarded-For": "1.2.3.4"})
        await client.get("/elsewhere/Ana")
        await client.get("/health")
    # a line comes after its answer, when the next request may be answered already
    missed, served = sorted(lines(capsys), key=lambda line: line["route"] or "")
    assert (served["message"], served["route"]) == ("request", "POST /orders/{id}")
    assert (served["status"], served["bytes"]) == (201, len(answer.content))
    assert served["milliseconds"] >= 0
    assert answer.json()["event"]["requestContext"]["requestId"] == served["correlation_id"]
    assert (missed["route"], missed["status"]) == (None, 404)
    for private in ("Ana", "/7", "1.2.3.4", "127.0.0.1"):
        assert private not in json.dumps([served, missed])


async def test_ready_says_what_is_wrong() -> None:
    async with serve(deployed(echo, "GET /")) as client:
        ready = await client.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    wrong = ["The key: it is not accepted."]
    async with serve(deployed(echo, "GET /"), problems=wrong) as client:
        ready = await client.get("/ready")
        healthy = await client.get("/health")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "problems": wrong})
    assert healthy.status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/other"), ("PUT", "/"), ("HEAD", "/")])
async def test_what_has_no_route_is_404(method: str, path: str) -> None:
    async with serve(deployed(echo, "GET /")) as client:
        response = await client.request(method, path)
    assert response.status_code == 404


async def test_what_no_function_serves_is_404_as_api_gateway_says_it() -> None:
    async with serve(deployed(echo, "GET /orders/{id}")) as client:
        for path in ("/other", "/orders/7/", "/health/", "/other%0d%0a", "/%0A/x"):
            response = await client.get(path)
            assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


async def test_a_body_above_the_gateways_limit_is_413() -> None:
    async with serve(deployed(echo, "POST /")) as client:
        response = await client.post("/", content=bytes(BODY_LIMIT + 1))
    assert response.status_code == 413


async def test_slow_bodies_hold_up_no_request() -> None:
    slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    async with serve(deployed(echo, "POST /")) as client:
        sockets = [
            await asyncio.open_connection(client.base_url.host, client.base_url.port)
            for _ in range(AT_ONCE + 2)
        ]
        for _, writer in sockets:
            writer.write(slow)
            await writer.drain()
        assert (await client.post("/", json={})).status_code == 201
        for _, writer in sockets:
            writer.close()


def _request(*chunks: bytes, is_whole: bool = True) -> Request:
    """A request whose body comes in these pieces, and then no more if it is not whole."""
    pieces = [{"type": "http.request", "body": one, "more_body": True} for one in chunks]
    if is_whole:
        pieces[-1]["more_body"] = False

    async def receive() -> Message:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def _status(bodies: Bodies, request: Request) -> int:
    try:
        async with bodies.read(request):
            return 200
    except BodyError as refused:
        return refused.status


async def test_a_body_that_does_not_come_is_408() -> None:
    bodies = Bodies(limit=10, room=20, seconds=0)
    with pytest.raises(BodyError, match="did not come within 0 seconds") as refused:
        async with bodies.read(_request(b"{", is_whole=False)):
            pass
    # what did not come is not waited for
    assert (refused.value.status, refused.value.headers) == (408, {"connection": "close"})


async def test_bodies_that_come_the_longest_give_way_and_all_do_when_the_host_stops() -> None:
    bodies = Bodies(limit=10, room=20, at_once=3)
    async with asyncio.timeout(PATIENCE):
        slow = [
            asyncio.create_task(_status(bodies, _request(b"12345", is_whole=False)))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        # more bytes than there is room for
        async with bodies.read(_request(b"1234567890")) as body:
            assert body == b"1234567890"
            assert await slow[0] == 503
        # more bodies than may come at once
        slow.append(asyncio.create_task(_status(bodies, _request(b"1", is_whole=False))))
        await asyncio.sleep(0)
        assert await _status(bodies, _request(b"1")) == 200
        assert await slow[1] == 503
        bodies.end()
        assert await asyncio.gather(*slow[2:]) == [503, 503]
        assert await _status(bodies, _request(b"1", is_whole=False)) == 503


async def test_functions_run_beside_each_other() -> None:
    both = threading.Barrier(2)

    def handler(_event: Event, _context: InvocationContext) -> object:
        both.wait(timeout=20)
        return {"statusCode": 200}

    async with serve(deployed(handler, "GET /")) as client:
        responses = await asyncio.gather(client.get("/"), client.get("/"))
    assert [response.status_code for response in responses] == [200, 200]
