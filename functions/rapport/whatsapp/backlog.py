"""The backlog: a queue for webhooks that the database could not take.

Their signatures were checked on arrival. A webhook stays on the queue until the database has it,
for as long as Meta would repeat it. One that fails for another reason ends among the dead letters,
which raise an alarm.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from datetime import UTC, datetime

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable
from rapport.errors import ConfigError, MalformedPayload, QueueUnavailable

MESSAGE_LIMIT = 1024 * 1024  # bytes, SQS's limit
BODY_LIMIT = 10 * 1024 * 1024  # bytes, API Gateway's limit for a request
_LONGEST_WAIT = 39_600  # seconds; SQS allows 12 hours from when the message was received
_LONGEST_DELAY = 900  # seconds, SQS's limit
KEPT_SINCE = "kept_since"  # the name of the message attribute: seconds since 1970
_GZIP = 31  # zlib's window bits for the gzip format


class Backlog:
    """The SQS queue at `url`; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        # after a failure here Meta repeats the webhook
        self._sqs = AwsService("sqs", timeout=3, connect=1, attempts=2)

    def keep(self, body: str) -> None:
        """Puts a webhook's body on the queue.

        Raises:
            QueueUnavailable: The queue can't be reached, or does not take it.
        """
        self._send(pack(body), datetime.now(UTC), delay=0)

    def put_back(self, message: str, kept_since: datetime, delay: int) -> None:
        """Puts a received message on the queue again, to be delivered after `delay` seconds.

        The new message has all its tries, since the failed one was not its fault. The caller
        deletes the received message; if that fails, the webhook is still stored only once.

        Raises:
            QueueUnavailable: The queue can't be reached, or does not take it.
        """
        self._send(message, kept_since, delay=min(delay, _LONGEST_DELAY))

    def _send(self, message: str, kept_since: datetime, *, delay: int) -> None:
        if len(message) > MESSAGE_LIMIT:
            raise QueueUnavailable(
                f"The webhook has {len(message)} bytes when packed; SQS takes {MESSAGE_LIMIT}."
            )
        self._ask(
            "SendMessage",
            {
                "MessageBody": message,
                "DelaySeconds": delay,
                "MessageAttributes": {
                    KEPT_SINCE: {
                        "DataType": "Number",
                        "StringValue": str(int(kept_since.timestamp())),
                    }
                },
            },
        )

    def put_off(self, receipt_handle: str, seconds: int) -> None:
        """Hides a received message for `seconds` from now, in place of the queue's own visibility
        timeout.

        Raises:
            QueueUnavailable: The queue can't be reached, or no longer has the message; the queue's
                own timeout holds.
        """
        self._ask(
            "ChangeMessageVisibility",
            {"ReceiptHandle": receipt_handle, "VisibilityTimeout": min(seconds, _LONGEST_WAIT)},
        )

    def _ask(self, operation: str, body: dict[str, object]) -> None:
        try:
            self._sqs.ask(f"AmazonSQS.{operation}", "1.0", {"QueueUrl": self._url, **body})
        except AwsRefused as error:
            raise QueueUnavailable(f"The queue refused the call (code {error.code}).") from None
        except AwsUnreachable as error:
            raise QueueUnavailable(f"The queue can't be reached ({error}).") from None
        except ConfigError as error:
            raise QueueUnavailable(str(error)) from None


def pack(body: str) -> str:
    """A body as the queue carries it: base64 of gzip.

    SQS refuses some characters that JSON allows. A body of 4 MB becomes about 0.3 MB.
    """
    return base64.b64encode(gzip.compress(body.encode(), mtime=0)).decode()


def unpack(message: str) -> str:
    """The body that `pack` was given.

    Raises:
        MalformedPayload: `pack` did not make this message.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        # limited, since a few compressed bytes can unpack to very many
        body = stream.decompress(base64.b64decode(message, validate=True), BODY_LIMIT)
        if not stream.eof:
            raise MalformedPayload("The queued message is cut off or too large.")
        return body.decode()
    except (binascii.Error, zlib.error, ValueError):
        raise MalformedPayload("The queued message is not a packed webhook.") from None
