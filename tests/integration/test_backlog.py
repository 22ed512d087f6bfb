"""Nothing is lost and nothing comes twice while the database, or a webhook's contents, fail."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import httpx
import psycopg
import pytest
from tests.stacks import Sharing, Start

from rapport.local.fakes.whatsapp.payloads import encode, inbound_text, status_update
from rapport.local.stack import children
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import WEBHOOK_PATH, Stack
from rapport.local.stack.serving import aws_values
from rapport.local.stack.supervisor import Supervisor
from rapport.whatsapp.backlog import pack
from rapport.whatsapp.webhook import HEADER, sign

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

NUMBER = "106540352242922"
PATIENCE = 40  # seconds


def queue_of(stack: Stack) -> SQSClient:
    """SQS as the stack's functions see it."""
    aws = aws_values(stack)
    return boto3.client(
        "sqs",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name=aws["AWS_REGION"],
        aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
    )


class System:
    """A stack whose PostgREST comes and goes."""

    def __init__(self, stack: Stack, binaries: Binaries, connection: psycopg.Connection) -> None:
        self.stack = stack
        self._binaries = binaries
        self._connection = connection
        self.sqs = queue_of(stack)

    @contextmanager
    def database_reachable(self) -> Iterator[None]:
        """Runs PostgREST, which is all that functions see of the database."""
        folder = self.stack.folder / "postgrest"
        folder.mkdir(exist_ok=True)
        with Supervisor(folder) as supervisor:
            supervisor.start(children.postgrest(self.stack, self._binaries))
            yield

    def post(self, text: str, body: bytes | None = None) -> httpx.Response:
        """Posts a signed webhook with one message, whose id is made of its text."""
        body = body or encode(
            inbound_text(
                phone_number_id=NUMBER,
                sender="385911234567",
                name="Ana",
                text=text,
                provider_id=f"wamid.{text}",
            )
        )
        return httpx.post(
            self.stack.functions_url + WEBHOOK_PATH,
            content=body,
            headers={HEADER: sign(body, self.stack.whatsapp_app_secret)},
            timeout=30,
            trust_env=False,
        )

    def put(self, body: str) -> None:
        """Puts a message on the queue, as everybody can who may write to it."""
        self.sqs.send_message(QueueUrl=self.stack.queue_url("WebhookQueue"), MessageBody=body)

    def waiting(self, queue: str) -> int:
        """How many messages a queue has, those that are hidden or delayed among them."""
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=self.stack.queue_url(queue), AttributeNames=["All"]
        )["Attributes"]
        return sum(
            int(attributes[f"ApproximateNumberOfMessages{state}"])
            for state in ("", "NotVisible", "Delayed")
        )

    def texts(self) -> list[str]:
        rows = self._connection.execute("select message from public.messages order by message")
        return [row[0] for row in rows]

    def eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.1)


def drain(sqs: SQSClient, url: str) -> None:
    """Deletes what an earlier test has left on a queue: PurgeQueue may be called once a minute."""
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def add_number(connection: psycopg.Connection) -> None:
    connection.execute(
        "with account as (insert into public.accounts (name) values ('Alpine') returning id)"
        " insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name)"
        " select id, %s, '+1 555 078 3881', 'Front desk' from account",
        [NUMBER],
    )


@contextmanager
def opened(start: Start, database: Database, binaries: Binaries) -> Iterator[System]:
    stack = start("moto")
    sqs = queue_of(stack)
    # before the first poll: what failed is there again soon, and not after six minutes
    sqs.set_queue_attributes(
        QueueUrl=stack.queue_url("WebhookQueue"), Attributes={"VisibilityTimeout": "1"}
    )
    for queue in ("WebhookQueue", "WebhookDeadLetters"):
        drain(sqs, stack.queue_url(queue))
    start("gateway", "functions")
    with psycopg.connect(database.url(), autocommit=True) as connection:
        add_number(connection)
        yield System(stack, binaries, connection)


@pytest.fixture(scope="module")
def share(share_of_module: Sharing) -> Sharing:
    """PostgREST comes and goes, and the queue is one that is quick."""
    return share_of_module


@pytest.fixture
def system(start: Start, database: Database, binaries: Binaries) -> Iterator[System]:
    """A stack with its database out of reach."""
    with opened(start, database, binaries) as system:
        yield system


@pytest.fixture
def own_system(own_start: Start, own_database: Database, binaries: Binaries) -> Iterator[System]:
    with opened(own_start, own_database, binaries) as system:
        yield system


def test_webhooks_of_an_outage_are_taken_and_arrive_exactly_once(system: System) -> None:
    texts = [f"message {n}" for n in range(7)]
    with ThreadPoolExecutor(4) as pool:
        # Meta repeats some of them
        answers = list(pool.map(system.post, [*texts, *texts[:3]]))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert [answer.json() for answer in answers] == [{"queued": True}] * 10
    assert system.texts() == []

    with system.database_reachable():
        system.eventually(lambda: system.waiting("WebhookQueue") == 0)
        assert system.texts() == texts
        # and one that was queued meanwhile is a repetition for what comes directly
        assert system.post(texts[0]).json() == {
            "received": 1,
            "applied": 0,
            "duplicates": 1,
            "rejected": 0,
        }
    assert system.waiting("WebhookDeadLetters") == 0


def test_webhooks_that_were_taken_outlive_a_kill_of_the_queue(
    own_start: Start, own_database: Database, binaries: Binaries
) -> None:
    stack = own_start("gateway", "functions")
    folder = stack.folder / "queues"
    folder.mkdir()
    texts = [f"message {n}" for n in range(5)]
    with psycopg.connect(own_database.url(), autocommit=True) as connection:
        add_number(connection)
        system = System(stack, binaries, connection)
        with Supervisor(folder) as supervisor:
            supervisor.start(children.moto(stack))
            assert [system.post(text).json() for text in texts] == [{"queued": True}] * 5
            os.kill(supervisor.processes[0].pid, signal.SIGKILL)
        with Supervisor(folder) as supervisor, system.database_reachable():
            supervisor.start(children.moto(stack))
            system.eventually(lambda: system.texts() == texts)


def test_without_database_and_queue_meta_is_to_repeat_it(
    own_start: Start, own_database: Database, binaries: Binaries
) -> None:
    stack = own_start("gateway", "functions")
    with psycopg.connect(own_database.url(), autocommit=True) as connection:
        answer = System(stack, binaries, connection).post("lost?")
    assert answer.status_code == 503
    assert answer.json()["code"] == "queue_unavailable"


def test_what_can_not_be_handled_ends_among_the_dead_letters_alone(system: System) -> None:
    system.put("not what we queue")
    system.put(pack("not JSON"))
    with system.database_reachable():
        assert system.post("direct").json()["applied"] == 1
        system.eventually(lambda: system.waiting("WebhookDeadLetters") == 2)
        system.put(
            pack(
                json.dumps(
                    inbound_text(phone_number_id=NUMBER, sender="385911234567", name="A", text="q")
                )
            )
        )
        system.eventually(lambda: system.texts() == ["direct", "q"])
    assert system.waiting("WebhookQueue") == 0


def test_a_webhook_that_the_database_refuses_is_kept_until_that_is_mended(
    own_system: System, own_database: Database
) -> None:
    system = own_system
    with psycopg.connect(own_database.url(), autocommit=True) as owner, system.database_reachable():
        owner.execute("revoke execute on function backend.ingest_whatsapp from service_role")
        assert system.post("refused").json() == {"queued": True}
        system.eventually(lambda: system.waiting("WebhookDeadLetters") == 1)
        owner.execute("grant execute on function backend.ingest_whatsapp to service_role")
        # what StartMessageMoveTask does
        dead = system.sqs.receive_message(QueueUrl=system.stack.queue_url("WebhookDeadLetters"))
        system.put(dead["Messages"][0]["Body"])
        system.eventually(lambda: system.texts() == ["refused"])


def test_a_locked_conversation_holds_up_its_own_webhooks_alone(
    system: System, database: Database
) -> None:
    """Another tenant's are stored at once, those of the conversation when it is free again."""

    def body(number: str, sender: str, text: str) -> bytes:
        return encode(
            inbound_text(
                phone_number_id=number,
                sender=sender,
                name="Ana",
                text=text,
                provider_id=f"wamid.{number}.{text}",
            )
        )

    def unknown(number: int) -> bytes:
        return encode(
            status_update(
                phone_number_id=NUMBER,
                recipient="385911234567",
                provider_id=f"wamid.unknown.{number}",
                status="sent",
            )
        )

    with (
        system.database_reachable(),
        psycopg.connect(database.url()) as holder,
        ThreadPoolExecutor(24) as pool,
    ):
        holder.execute(
            "with account as (insert into public.accounts (name) values ('Bay') returning id)"
            " insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " select id, '7', '+1 555 078 3882', 'Desk' from account"
        )
        holder.commit()
        assert system.post("0").json()["applied"] == 1
        holder.execute("select from public.conversations for update")
        held = [f"held {n}" for n in range(12)]
        posts = [pool.submit(system.post, text) for text in held]
        posts += [pool.submit(system.post, "", unknown(n)) for n in range(12)]
        others = [
            pool.submit(system.post, "", body("7", "385910000000", f"other {n}")) for n in range(4)
        ]
        # directly, while the conversation is held
        assert sorted(one.result().json().get("applied") for one in others) == [1] * 4
        answers = [one.result() for one in posts]
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json() == {"queued": True} for answer in answers[:12])
        holder.rollback()
        system.eventually(lambda: system.waiting("WebhookQueue") == 0)
        assert set(held) <= set(system.texts())
    assert system.waiting("WebhookDeadLetters") == 0


def test_a_large_webhook_outlives_an_outage(system: System) -> None:
    text = "x" * 3_900_000
    body = encode(
        inbound_text(phone_number_id=NUMBER, sender="385911234567", name="Ana", text=text)
    )
    assert system.post("", body).json() == {"queued": True}
    with system.database_reachable():
        system.eventually(lambda: system.waiting("WebhookQueue") == 0)
    assert len(system.texts()) == 1


def test_no_body_is_logged(system: System) -> None:
    system.post("very-private-words")
    with system.database_reachable():
        system.eventually(lambda: system.texts() == ["very-private-words"])
    log = (system.stack.folder / "logs" / "functions.log").read_text()
    assert '"queued"' in log
    assert "very-private-words" not in log
    assert "385911234567" not in log
