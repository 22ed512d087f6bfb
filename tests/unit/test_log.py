"""The log never has words of others, in any error."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NoReturn
from uuid import uuid4

import httpx
import pytest
from pydantic import HttpUrl, JsonValue, SecretStr

from rapport.errors import (
    Conflict,
    MetakockaRefused,
    RapportError,
    StoreClosed,
    Unprocessable,
    from_postgrest,
    from_users_postgrest,
)
from rapport.handlers import drain_webhooks
from rapport.handlers.http import HttpRequest, Response, http_function
from rapport.log import Crash, correlated, described, logger, worker
from rapport.server.events import InvocationContext
from rapport.settings import GraphSettings
from rapport.starter import ThreadStarter
from rapport.store.outbound import Claim, OutboundMessage
from rapport.whatsapp.backlog import pack
from rapport.whatsapp.deliver import Delivery
from rapport.whatsapp.graph import GraphClient, GraphMedia

PHONE = "+385911234567"
TOKEN = "EAAGm0PX4ZCpsBA"
WORDS = f"Ana ({PHONE}) with {TOKEN}"

# the least of a request
EVENT = {"requestContext": {"requestId": "request-1", "http": {"method": "POST"}}}

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines of the log as they are written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    assert stream.getvalue() != ""
    for secret in (PHONE, PHONE[1:], TOKEN, "Ana"):
        assert secret not in stream.getvalue()


MESSAGE = OutboundMessage(
    message_id=uuid4(),
    account_id=uuid4(),
    conversation_id=uuid4(),
    phone_number_id="1",
    wa_id="38640111222",
    user_id=None,
    type="text",
    text="hi",
    content=None,
    reply_to=None,
    reaction_to=None,
)


class Fails:
    """A queue, a sender and files; one of them fails."""

    def __init__(self, error: Exception, at: str) -> None:
        self._error = error
        self._at = at
        self._left = [MESSAGE]

    def _do(self, part: str) -> None:
        if part == self._at:
            raise self._error

    def claim_outbound(self, _worker: str, batch: int) -> Claim:
        claimed, self._left = self._left[:batch], []
        return Claim(claimed=claimed, next_at=None)

    def begin_send(self, *_: object) -> bool:
        self._do("begin")
        return True

    def settle_send(self, *_: object) -> str:
        self._do("settle")
        return "sent"

    def send(self, *_: object) -> NoReturn:
        raise self._error

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        self._do("attach")
        return message


@pytest.mark.parametrize("at", ["begin", "send", "settle", "attach"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError(WORDS),
        httpx.ReadError(WORDS),
        Conflict(WORDS),
        from_users_postgrest("PT409", WORDS, WORDS, WORDS),
        from_postgrest("PT503", WORDS, WORDS, WORDS),
        from_postgrest("RP004", WORDS, WORDS, WORDS),
        from_postgrest("42501", WORDS, WORDS, WORDS),
        from_postgrest("22P02", WORDS, WORDS, WORDS),
    ],
)
def test_a_delivery_that_fails_names_its_ids_alone(lines: Lines, error: Exception, at: str) -> None:
    parts = Fails(error, at)
    ends = Delivery(parts, parts, parts, "deliver-1", lambda: 30, parallel=1).run()
    assert ends == {"not settled": 1}
    (line,) = lines()
    assert line["correlation_id"] == line["message_id"] == str(MESSAGE.message_id)
    assert line["conversation_id"] == str(MESSAGE.conversation_id)
    assert line["account_id"] == str(MESSAGE.account_id)
    assert line["attempt"] == "deliver-1/1"


@pytest.mark.parametrize("status", [400, 401, 500])
def test_what_whatsapp_says_is_for_the_operator_and_not_for_the_log(
    lines: Lines, status: int
) -> None:
    told: list[dict[str, JsonValue]] = []

    class Queue(Fails):
        def settle_send(self, *given: Any) -> str:
            told.append(given[2])
            return "fail"

    answer: dict[str, object] = {
        "error": {"code": 131009, "message": WORDS, "error_data": {"details": WORDS}}
    }
    graph = GraphClient(
        GraphSettings(
            whatsapp_graph_url=HttpUrl("https://graph.example"), whatsapp_token=SecretStr(TOKEN)
        ),
        httpx.MockTransport(lambda _request: httpx.Response(status, json=answer)),
    )
    queue = Queue(ValueError(), "nowhere")
    Delivery(queue, graph, queue, "deliver-1", lambda: 30, parallel=1).run()
    graph.close()
    (line,) = lines()
    assert (line["outcome"], line["code"], line["end"]) == ("refused", 131009, "fail")
    assert told[0]["details"] == WORDS


def test_a_workers_crash_is_told_by_its_class_and_place(lines: Lines) -> None:
    ended: SimpleQueue[int] = SimpleQueue()

    def run(_worker: str) -> None:
        ended.put(1)
        raise ValueError(WORDS)

    ThreadStarter(run).start("a")
    ended.get(timeout=20)
    while not lines():
        pass
    (line,) = lines()
    assert (line["message"], line["error"], line["worker"]) == ("crashed", "ValueError", "a")
    assert "test_log.py" in line["at"][-1]


@pytest.mark.parametrize("error", [ValueError(WORDS), Unprocessable(WORDS), StoreClosed()])
def test_lambda_is_given_no_words_to_log(lines: Lines, error: Exception) -> None:
    @worker
    def handler(_event: object, _context: InvocationContext) -> None:
        raise error

    with pytest.raises(Crash, match=type(error).__name__) as caught:
        handler({}, InvocationContext("any", 512, 60))
    assert PHONE not in str(caught.value)
    assert caught.value.__suppress_context__
    (line,) = lines()
    assert line["correlation_id"]


@pytest.mark.parametrize(
    "error", [ValueError(WORDS), Unprocessable(WORDS, field="phone"), Conflict(WORDS)]
)
def test_what_a_user_is_told_is_not_logged(lines: Lines, error: Exception) -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise error

    with suppress(Crash):
        answer = handler(EVENT, None)
        assert json.loads(answer["body"])["message"] == WORDS
    (line,) = lines()
    assert line["correlation_id"] == "request-1"


@pytest.mark.parametrize(
    "error", [ValueError(WORDS), from_users_postgrest("PT422", WORDS, WORDS, WORDS)]
)
def test_a_queued_webhook_that_fails_is_logged_without_words(
    lines: Lines, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Store:
        def ingest_whatsapp(self, *_: object) -> NoReturn:
            raise error

    monkeypatch.setattr(drain_webhooks, "_store", Store)
    monkeypatch.setattr(drain_webhooks, "_backlog", lambda: None)
    record = {
        "messageId": "message-1",
        "receiptHandle": "r",
        "body": pack(json.dumps({"entry": [{"id": PHONE, "changes": []}]})),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1764500000000"},
        "messageAttributes": {},
    }
    drain_webhooks.handler({"Records": [record]}, InvocationContext("drain_webhooks", 512, 60))  # type: ignore[arg-type]
    assert lines()[-1]["correlation_id"] == "message-1"


def test_a_refusal_of_metakockas_is_told_by_its_code(lines: Lines) -> None:
    error = MetakockaRefused(f"Metakocka: {WORDS}", operation="add_partner", opr_code="5")
    logger.info("any", extra=described(error))
    logger.info("any", extra=described(MetakockaRefused(WORDS, opr_code=PHONE)))
    assert (lines()[0]["operation"], lines()[0]["opr_code"]) == ("add_partner", "5")


def test_what_an_operator_has_to_do_is_logged(lines: Lines) -> None:
    logger.info("any", extra=described(from_postgrest("540")))
    assert "Restore the project" in lines()[0]["reason"]


def test_a_refusal_of_the_database_s_is_told_by_its_code(lines: Lines) -> None:
    for code in ("PT422", "PT503", "22P02"):
        logger.info("any", extra=described(from_postgrest(code, WORDS, WORDS, WORDS)))
    assert [line["sqlstate"] for line in lines()] == ["PT422", "PT503", "22P02"]


def test_a_files_error_has_no_words_of_whatsapps(lines: Lines) -> None:
    graph = GraphMedia(
        GraphSettings(
            whatsapp_graph_url=HttpUrl("https://graph.example"), whatsapp_token=SecretStr(TOKEN)
        ),
        httpx.MockTransport(
            lambda _request: httpx.Response(400, json={"error": {"code": 100, "message": WORDS}})
        ),
    )
    with pytest.raises(RapportError) as caught:
        graph.find("1", "77")
    graph.close()
    logger.info("any", extra=described(caught.value))
    assert "code 100" in lines()[0]["reason"]


def test_a_line_within_another_correlation_goes_back_to_it(lines: Lines) -> None:
    with correlated("run"):
        with correlated("message"):
            logger.info("any")
        logger.info("any")
    logger.info("any")
    assert [line.get("correlation_id") for line in lines()] == ["message", "run", None]
