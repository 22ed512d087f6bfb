"""What the event source mapping makes of a function's answer, on moto's SQS."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.aws import KEY

from rapport.server.event_source import Queue, take_batch
from rapport.server.events import Event
from rapport.server.queues import QueueSource

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

PARTIAL = QueueSource.model_validate(
    {"arn": "Orders.Arn", "batchSize": 3, "functionResponseType": "ReportBatchItemFailures"}
)
PLAIN = QueueSource.model_validate({"arn": "Orders.Arn", "batchSize": 3})

Answer = Callable[[list[dict[str, Any]]], object]


class Orders:
    """A queue with three messages, and a function that is fed from it."""

    def __init__(self, sqs: SQSClient) -> None:
        self._sqs = sqs
        self._url = sqs.create_queue(QueueName=f"Orders-{secrets.token_hex(4)}")["QueueUrl"]
        self.events: list[Any] = []
        for body in ("a", "b", "c"):
            sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def feed(self, answer: Answer, source: QueueSource = PARTIAL) -> None:
        def invoke(event: Event) -> object:
            self.events.append(event)
            records: Any = event["Records"]
            return answer(records)

        take_batch(Queue(self._url), source, invoke)

    def left(self) -> int:
        attributes = self._sqs.get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessagesNotVisible"])


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """A server that speaks SQS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def orders(aws: str, monkeypatch: pytest.MonkeyPatch) -> Orders:
    for name, value in {**KEY, "AWS_DEFAULT_REGION": KEY["AWS_REGION"]}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    return Orders(boto3.client("sqs"))


def test_a_function_is_given_what_lambda_would_give_it(orders: Orders) -> None:
    orders.feed(lambda _records: None)
    ((first, *_others),) = [event["Records"] for event in orders.events]
    assert first["body"] == "a"
    assert first["eventSource"] == "aws:sqs"
    assert first["eventSourceARN"].endswith(":Orders")
    assert first["attributes"]["ApproximateReceiveCount"] == "1"
    assert {"messageId", "receiptHandle", "md5OfBody"} <= first.keys()


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, ""])
def test_an_answer_without_failures_deletes_the_batch(orders: Orders, answer: object) -> None:
    orders.feed(lambda _records: answer)
    assert orders.left() == 0


def test_what_failed_alone_stays(orders: Orders) -> None:
    orders.feed(
        lambda records: {"batchItemFailures": [{"itemIdentifier": records[1]["messageId"]}]}
    )
    assert orders.left() == 1


@pytest.mark.parametrize(
    "failures", [[{"itemIdentifier": "another's"}], [{"itemIdentifier": ""}], [{"id": "1"}], "all"]
)
def test_an_answer_that_can_not_be_understood_keeps_the_batch(
    orders: Orders, failures: object
) -> None:
    orders.feed(lambda _records: {"batchItemFailures": failures})
    assert orders.left() == 3


def test_without_the_response_type_the_answer_says_nothing(orders: Orders) -> None:
    orders.feed(
        lambda records: {"batchItemFailures": [{"itemIdentifier": records[0]["messageId"]}]}, PLAIN
    )
    assert orders.left() == 0


def test_a_crash_keeps_the_batch_and_is_logged(
    orders: Orders, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(_records: object) -> object:
        raise ZeroDivisionError

    orders.feed(crash)
    assert orders.left() == 3
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_an_empty_queue_invokes_nothing(orders: Orders) -> None:
    for _ in range(2):
        orders.feed(lambda _records: None)
    assert len(orders.events) == 1
