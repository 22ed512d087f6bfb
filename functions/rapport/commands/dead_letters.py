"""Dead letters: webhooks that could not be stored in five tries, on a queue of their own.

Once the cause is mended they go back to the queue, and are stored from there. A letter is deleted
after the queue has it: a webhook that is queued twice is stored once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, Field, JsonValue, ValidationError

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable
from rapport.errors import MalformedPayload, QueueUnavailable
from rapport.whatsapp.backlog import KEPT_SINCE, Backlog, unpack
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

# how long a letter is hidden from others while one looks through all of them
_HIDDEN_SECONDS = 300
_PAGE = 10  # SQS's limit


class _Value(BaseModel):
    string: str | None = Field(None, alias="StringValue")


class _Message(BaseModel):
    receipt: str = Field(alias="ReceiptHandle")
    body: str = Field(alias="Body")
    attributes: dict[str, str] = Field({}, alias="Attributes")
    told: dict[str, _Value] = Field({}, alias="MessageAttributes")


class _Answer(BaseModel):
    messages: list[_Message] = Field([], alias="Messages")


@dataclass(frozen=True)
class DeadLetter:
    """A webhook among the dead letters; it is hidden from others for five minutes."""

    body: str
    receipt: str
    kept_since: datetime
    # whose it is; none where it can't be read
    phone_number_ids: frozenset[str]
    waba_ids: frozenset[str]


class DeadLetters:
    """The SQS queue at `url`. Each call raises QueueUnavailable where it can't be reached."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sqs = AwsService("sqs", timeout=10, connect=3, attempts=3)

    def read(self) -> Iterator[DeadLetter]:
        """All letters, each once."""
        while True:
            answer = self._ask(
                "ReceiveMessage",
                MaxNumberOfMessages=_PAGE,
                VisibilityTimeout=_HIDDEN_SECONDS,
                # without a wait SQS asks some of its servers only
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=[KEPT_SINCE],
            )
            try:
                page = _Answer.model_validate(answer).messages
            except ValidationError:
                # the error's text would quote the webhook
                raise QueueUnavailable("The queue's answer can't be read.") from None
            if not page:
                return
            yield from map(_letter, page)

    def release(self, letter: DeadLetter) -> None:
        """Shows a letter to others again, at once."""
        self._ask("ChangeMessageVisibility", ReceiptHandle=letter.receipt, VisibilityTimeout=0)

    def move(self, letter: DeadLetter, backlog: Backlog) -> None:
        """Puts a letter on the queue for webhooks, and deletes it here."""
        # from now on it is kept for as long as a new one
        backlog.put_back(letter.body, datetime.now(UTC), delay=0)
        self._ask("DeleteMessage", ReceiptHandle=letter.receipt)

    def _ask(self, operation: str, **body: JsonValue) -> dict[str, object]:
        try:
            return self._sqs.ask(f"AmazonSQS.{operation}", "1.0", {"QueueUrl": self._url, **body})
        except AwsRefused as error:
            raise QueueUnavailable(f"The queue refused the call (code {error.code}).") from None
        except AwsUnreachable as error:
            raise QueueUnavailable(f"The queue can't be reached ({error}).") from None


def _letter(message: _Message) -> DeadLetter:
    told = message.told.get(KEPT_SINCE)
    seconds = (
        float(told.string)
        if told and told.string
        else int(message.attributes.get("SentTimestamp", "0")) / 1000
    )
    try:
        items = items_of(parse(unpack(message.body)))
    except MalformedPayload:
        items = []
    return DeadLetter(
        body=message.body,
        receipt=message.receipt,
        kept_since=datetime.fromtimestamp(seconds, UTC),
        phone_number_ids=frozenset(
            number for item in items if (number := getattr(item, "phone_number_id", None))
        ),
        waba_ids=frozenset(item.waba_id for item in items if item.waba_id),
    )
