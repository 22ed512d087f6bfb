"""The queue of webhooks: what is put on it comes out as it was, or is said not to be on it."""

from __future__ import annotations

import base64
import gzip
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from tests.aws import KEY

from rapport.commands.dead_letters import DeadLetter, DeadLetters
from rapport.errors import MalformedPayload, QueueUnavailable
from rapport.whatsapp.backlog import (
    BODY_LIMIT,
    KEPT_SINCE,
    MESSAGE_LIMIT,
    Backlog,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that speaks SQS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def sqs(server: str, monkeypatch: pytest.MonkeyPatch) -> SQSClient:
    for name, value in (KEY | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    # the library keeps a session with the settings of its first client
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return boto3.client("sqs", region_name=KEY["AWS_REGION"])


@pytest.fixture
def url(sqs: SQSClient) -> str:
    return sqs.create_queue(QueueName=f"webhooks-{uuid4()}")["QueueUrl"]


@given(st.text())
def test_a_body_comes_out_as_it_went_in(body: str) -> None:
    assert pack(body).isascii()
    assert unpack(pack(body)) == body


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no base64!",
        base64.b64encode(b"no gzip").decode(),
        base64.b64encode(gzip.compress(b"x" * 1000)[:-9]).decode(),
        base64.b64encode(gzip.compress(b"\xff")).decode(),
        pack("x" * (BODY_LIMIT + 1)),
    ],
    # what is packed differs from second to second, and names of tests do not
    ids=["nothing", "no base64", "no gzip", "cut short", "no UTF-8", "too large"],
)
def test_what_was_not_packed_here_is_refused(message: str) -> None:
    with pytest.raises(MalformedPayload):
        unpack(message)


def test_a_body_with_what_sqs_takes_no_text_of_is_kept_whole(sqs: SQSClient, url: str) -> None:
    body = '{"text": "\x0b \uffff č 🧽"}'
    Backlog(url).keep(body)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert unpack(message["Body"]) == body


def test_a_body_that_is_too_large_even_when_packed_is_not_said_to_be_kept(
    sqs: SQSClient, url: str
) -> None:
    noise = random.Random(1).randbytes(MESSAGE_LIMIT).hex()
    with pytest.raises(QueueUnavailable, match="bytes when packed"):
        Backlog(url).keep(noise)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_a_queue_that_is_not_there_is_unavailable(url: str) -> None:
    with pytest.raises(QueueUnavailable, match="QueueDoesNotExist"):
        Backlog(f"{url}-gone").keep("{}")


def test_a_queue_that_can_not_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(QueueUnavailable, match="can't be reached"):
        Backlog("http://127.0.0.1:9/123456789012/webhooks").keep("{}")


def test_a_message_that_is_put_off_is_hidden_meanwhile(sqs: SQSClient, url: str) -> None:
    Backlog(url).keep("{}")
    received = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    Backlog(url).put_off(received["Messages"][0]["ReceiptHandle"], 100_000)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_a_message_that_is_put_back_is_a_new_one_of_the_same_age(sqs: SQSClient, url: str) -> None:
    kept_since = datetime(2026, 11, 30, 8, tzinfo=UTC)
    Backlog(url).put_back(pack("{}"), kept_since, delay=0)
    (message,) = sqs.receive_message(
        QueueUrl=url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )["Messages"]
    assert unpack(message["Body"]) == "{}"
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert message["MessageAttributes"][KEPT_SINCE]["StringValue"] == str(
        int(kept_since.timestamp())
    )


def test_a_message_that_is_put_back_comes_later(sqs: SQSClient, url: str) -> None:
    # longer than SQS delays any
    Backlog(url).put_back(pack("{}"), datetime.now(UTC), delay=100_000)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "1"


def test_dead_letters_are_read_whole_and_go_back_one_by_one(sqs: SQSClient, url: str) -> None:
    dead = sqs.create_queue(QueueName=f"dead-{uuid4()}")["QueueUrl"]
    webhook = (Path(__file__).parents[2] / "events" / "text.json").read_text()
    bodies = [pack(webhook.replace("106540352242922", str(number))) for number in range(12)]
    for body in (*bodies, "not packed"):
        sqs.send_message(
            QueueUrl=dead,
            MessageBody=body,
            MessageAttributes={KEPT_SINCE: {"DataType": "Number", "StringValue": "1764500000"}},
        )
    letters = DeadLetters(dead)

    def read() -> dict[str, DeadLetter]:
        return {letter.body: letter for letter in letters.read()}

    looked = read()
    for letter in looked.values():
        assert letter.kept_since == datetime.fromtimestamp(1764500000, UTC)
        letters.release(letter)
    # whose each is; nobody's where it can't be read
    assert [looked[body].phone_number_ids for body in bodies] == [
        frozenset({str(number)}) for number in range(12)
    ]
    assert looked["not packed"].phone_number_ids == looked["not packed"].waba_ids == frozenset()
    assert looked[bodies[0]].waba_ids == frozenset({"102290129340398"})

    again = read()
    assert again.keys() == looked.keys()
    letters.move(again[bodies[3]], Backlog(url))
    [moved] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert moved["Body"] == bodies[3]
    for body, letter in again.items():
        if body != bodies[3]:
            letters.release(letter)
    assert read().keys() == looked.keys() - {bodies[3]}
