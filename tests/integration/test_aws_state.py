"""The stand-in for AWS: what it answered for outlives it, and it answers the stack's key alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from rapport.errors import NotFound
from rapport.local.stack import children
from rapport.local.stack.ports import choose_any
from rapport.local.stack.running import MEDIA_BUCKET, Stack
from rapport.local.stack.serving import aws_values
from rapport.local.stack.state import PREFERRED_PORTS, aws_folder, new_stack, settings_file
from rapport.local.stack.supervisor import Supervisor
from rapport.settings import MediaSettings
from rapport.storage import Storage
from rapport.whatsapp.backlog import Backlog, pack, unpack

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


class Aws:
    """The stand-in on a folder, and its clients as functions have them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.queue_url("WebhookQueue")
        self.backlog = Backlog(self.url)
        self.sqs: SQSClient = boto3.client("sqs")

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        with Supervisor(self.stack.folder) as supervisor:
            supervisor.start(children.moto(self.stack))
            yield psutil.Process(supervisor.processes[0].pid)

    def receive(self, queue: str = "WebhookQueue", hidden: int = 0) -> dict[str, tuple[str, str]]:
        """What may be received now: count of receives and handle, by body."""
        answer = self.sqs.receive_message(
            QueueUrl=self.stack.queue_url(queue),
            MaxNumberOfMessages=10,
            VisibilityTimeout=hidden,
            MessageSystemAttributeNames=["All"],
        )
        return {
            unpack(message["Body"]): (
                message["Attributes"]["ApproximateReceiveCount"],
                message["ReceiptHandle"],
            )
            for message in answer.get("Messages", [])
        }

    def storage(self) -> Storage:
        return Storage(MediaSettings.load())


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aws:
    stack = new_stack(tmp_path, choose_any(*PREFERRED_PORTS))
    stack.save(settings_file(tmp_path))
    for name, value in aws_values(stack).items():
        monkeypatch.setenv(name, value)
    # or the key of the first stack that this process knew
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("MEDIA_BUCKET", MEDIA_BUCKET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Aws(stack)


def test_every_message_that_was_taken_outlives_a_kill(aws: Aws) -> None:
    bodies = [f"webhook {number}" for number in range(5)]
    with aws.running() as process:
        for body in bodies:
            aws.backlog.keep(body)
        done = aws.receive(hidden=600)
        for body in bodies[:2]:
            aws.sqs.delete_message(QueueUrl=aws.url, ReceiptHandle=done[body][1])
        process.kill()
    with aws.running():
        # the others are there again, though they are hidden elsewhere for 10 minutes more
        again = aws.receive(hidden=0)
        assert sorted(again) == bodies[2:]
        assert {count for count, _ in again.values()} == {"2"}


def test_what_failed_five_times_is_a_dead_letter_also_after_restarts(aws: Aws) -> None:
    with aws.running() as process:
        aws.backlog.keep("poison")
        for tries in ("1", "2"):
            assert aws.receive()["poison"][0] == tries
        process.send_signal(signal.SIGTERM)
    with aws.running() as process:
        for tries in ("3", "4", "5"):
            assert aws.receive()["poison"][0] == tries
        assert aws.receive() == {}
        assert list(aws.receive("WebhookDeadLetters")) == ["poison"]
        process.kill()
    with aws.running():
        assert aws.receive() == {}
        assert list(aws.receive("WebhookDeadLetters")) == ["poison"]


def test_a_message_that_the_disk_does_not_take_is_not_acknowledged(aws: Aws) -> None:
    with aws.running() as process:
        aws.backlog.keep("before")
        size = max(path.stat().st_size for path in aws_folder(aws.stack.folder).glob("state.db*"))
        process.rlimit(psutil.RLIMIT_FSIZE, (size + 4096, psutil.RLIM_INFINITY))
        noise = os.urandom(400_000).hex()
        with pytest.raises(ClientError, match="503"):
            aws.sqs.send_message(QueueUrl=aws.url, MessageBody=noise)
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        aws.backlog.keep("after")
    with aws.running():
        bodies = {
            message["Body"]
            for message in aws.sqs.receive_message(QueueUrl=aws.url, MaxNumberOfMessages=10)[
                "Messages"
            ]
        }
        assert {pack("before"), pack("after")} <= bodies


def test_files_outlive_a_kill_with_what_is_known_of_them(aws: Aws) -> None:
    small, large = b"\xff\xd8 photo", os.urandom(9 * 1024 * 1024)
    with aws.running() as process:
        storage = aws.storage()
        storage.put("a/small č.jpg", BytesIO(b"before"), "image/png")
        storage.put("a/small č.jpg", BytesIO(small), "image/jpeg")
        # in parts
        storage.put("a/large", BytesIO(large), "video/mp4")
        storage.put("a/gone", BytesIO(b"gone"), "text/plain")
        boto3.client("s3").delete_object(Bucket=MEDIA_BUCKET, Key="a/gone")
        process.kill()
    with aws.running():
        storage = aws.storage()
        with storage.open("a/small č.jpg") as file:
            assert (file.size, file.body.read()) == (len(small), small)
        head = boto3.client("s3").head_object(Bucket=MEDIA_BUCKET, Key="a/small č.jpg")
        assert head["ContentType"] == "image/jpeg"
        assert head["ContentDisposition"] == "attachment"
        with storage.open("a/large") as file:
            assert file.body.read() == large
        with pytest.raises(NotFound), storage.open("a/gone"):
            pass
    # no other contents are left
    assert len(list((aws_folder(aws.stack.folder) / "files").iterdir())) == 2


def test_an_address_is_good_for_what_it_was_made_for_alone(aws: Aws) -> None:
    with aws.running():
        storage = aws.storage()
        up = storage.upload_link("a/photo", content_type="image/jpeg", size=5)
        told = {"content-type": "image/jpeg"}
        assert httpx.put(up, content=b"12345", headers={"content-type": "text/html"}).is_error
        assert httpx.put(up, content=b"123456", headers=told).status_code == 403
        assert httpx.put(up, content=b"12345", headers=told).is_success
        down = storage.link("a/photo", disposition="inline", content_type="image/jpeg")
        answer = httpx.get(down)
        assert answer.content == b"12345"
        assert answer.headers["content-disposition"] == "inline"
        for wrong in (
            down.replace("a/photo", "a/other"),
            down.replace("inline", "attachment"),
            down.replace("X-Amz-Expires=300", "X-Amz-Expires=30000"),
            down.partition("?")[0],
        ):
            assert httpx.get(wrong).status_code == 403, wrong
        assert httpx.put(down, content=b"x").status_code == 403


def test_who_has_not_the_stack_s_key_is_refused_everything(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    with aws.running():
        base = aws.stack.aws_url
        assert httpx.get(f"{base}/health").text == "ok"
        for method, path in (
            ("GET", f"/{MEDIA_BUCKET}"),
            ("GET", "/"),
            ("POST", "/moto-api/reset"),
            ("GET", "/moto-api/data.json"),
            ("POST", f"/{MEDIA_BUCKET}/key"),
        ):
            assert httpx.request(method, base + path).status_code == 403, path
        # a form of any page's
        purge = {"Action": "PurgeQueue", "QueueUrl": aws.url}
        assert httpx.post(base, data=purge).status_code == 403
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guess")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        with pytest.raises(ClientError, match="403"):
            boto3.client("sqs").get_queue_attributes(QueueUrl=aws.url, AttributeNames=["All"])
        with pytest.raises(ClientError, match="403"):
            boto3.client("s3").head_bucket(Bucket=MEDIA_BUCKET)
