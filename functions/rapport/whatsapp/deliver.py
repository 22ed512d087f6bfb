"""The worker that sends queued messages: claim, begin, call, settle.

If it is killed, no message is lost or sent twice. Before `begin`, a message is free again when its
lease ends. After `begin`, nobody sends it again until its status arrives or a person decides.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal, Protocol
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import (
    ConfigError,
    RapportError,
    StorageError,
    StoreUnavailable,
    Unprocessable,
    UpstreamUnavailable,
    WhatsAppError,
    WhatsAppRefused,
)
from rapport.log import correlated, described, log_crash, logger
from rapport.store.outbound import Claim, OutboundMessage
from rapport.whatsapp.graph import (
    NO_FILE,
    NOT_REACHED,
    NOT_SENDABLE,
    Accepted,
    Outcome,
    Refused,
    Unknown,
)
from rapport.whatsapp.outgoing import request_body

PARALLEL = 10
# Seconds, as all times here: the longest time of one message, with the call's timeouts and
# settling.
RESERVE = 20.0
# How long the worker waits for the next message: enough for two tries of a temporary refusal, since
# the next run may start only a minute later.
PATIENCE = 15.0
# How often it looks for new messages while it waits or sends.
LOOK = 1.0
_SHORTEST_WAIT = 0.05
_SETTLE_AGAIN = 0.5
# The Graph API's code for a file that it did not accept.
_FILE_NOT_TAKEN = 131053


class OutboundQueue(Protocol):
    """The store's part of sending; see rapport.store.outbound."""

    def claim_outbound(self, worker: str, batch: int) -> Claim: ...
    def begin_send(self, message_id: UUID, worker: str) -> bool: ...
    def settle_send(self, message_id: UUID, worker: str, outcome: dict[str, JsonValue]) -> str: ...


class MessageSender(Protocol):
    """WhatsApp's part of sending; see rapport.whatsapp.graph."""

    def send(self, phone_number_id: str, body: dict[str, JsonValue]) -> Outcome: ...


class Files(Protocol):
    """Uploads the files of messages to WhatsApp; see rapport.whatsapp.media."""

    def attach(self, message: OutboundMessage) -> OutboundMessage: ...


@dataclass(frozen=True)
class Delivery:
    """One run of the worker; `name` is unique, `remaining` returns the time left in seconds."""

    queue: OutboundQueue
    sender: MessageSender
    files: Files
    name: str
    remaining: Callable[[], float]
    user_id_field: Literal["recipient", "to"] = "recipient"
    parallel: int = PARALLEL

    def run(self) -> Counter[str]:
        """Sends until no message is due soon, or the time is nearly over.

        Returns the number of messages by outcome: sent, retry, fail, stop, unknown …

        Raises:
            StoreError: The database refused to hand out messages.
            StoreUnavailable: The database can't be reached.
        """
        ends: Counter[str] = Counter()
        running: set[Future[str]] = set()
        leases = (f"{self.name}/{n}" for n in count(1))
        with ThreadPoolExecutor(self.parallel) as pool:
            while self.remaining() > RESERVE:
                next_at: datetime | None = None
                if len(running) < self.parallel:
                    # each claim has a new name, so that a late result of an older claim is not
                    # mistaken for it
                    lease = next(leases)
                    claim = self.queue.claim_outbound(lease, self.parallel - len(running))
                    running |= {
                        pool.submit(self._deliver, message, lease) for message in claim.claimed
                    }
                    next_at = claim.next_at
                if running:
                    finished, running = wait(running, LOOK, FIRST_COMPLETED)
                    ends.update(future.result() for future in finished)
                elif (pause := _pause(next_at)) is not None:
                    time.sleep(pause)
                else:
                    break
        ends.update(future.result() for future in running)
        return ends

    def _deliver(self, message: OutboundMessage, lease: str) -> str:
        # all log lines of a delivery carry its message's id, in every run
        with correlated(str(message.message_id)):
            return self._deliver_one(message, lease)

    def _deliver_one(self, message: OutboundMessage, lease: str) -> str:
        ids = {
            "message_id": str(message.message_id),
            "conversation_id": str(message.conversation_id),
            "account_id": str(message.account_id),
            "attempt": lease,
        }
        try:
            # before `begin`: an upload is not a message, so it may be repeated
            body = self._body(message)
            if not self.queue.begin_send(message.message_id, lease):
                return "passed over"
            outcome = (
                body
                if isinstance(body, Refused)
                else self.sender.send(message.phone_number_id, body)
            )
            end = self._settle(message, lease, outcome)
        except RapportError as error:
            # when its lease ends it is free again, or unknown
            logger.error("not settled", extra={**ids, **described(error)})
            return "not settled"
        except Exception as error:  # noqa: BLE001 - one message's fault keeps no other
            log_crash(error, **ids)
            return "not settled"
        told: dict[str, str | int | None] = {
            **ids,
            "type": message.type,
            "outcome": type(outcome).__name__.lower(),
            "code": outcome.code if isinstance(outcome, Refused) else None,
            "reason": outcome.reason if isinstance(outcome, Unknown) else None,
            "end": end,
        }
        logger.info("delivery", extra=told)
        return end

    def _body(self, message: OutboundMessage) -> dict[str, JsonValue] | Refused:
        try:
            return request_body(self.files.attach(message), self.user_id_field)
        except Unprocessable as error:
            return Refused(NOT_SENDABLE, str(error))
        # the code also decides what happens after a failed upload
        except WhatsAppError as error:
            unnamed = _FILE_NOT_TAKEN if isinstance(error, WhatsAppRefused) else NOT_REACHED
            return Refused(unnamed if error.graph_code is None else error.graph_code, str(error))
        except (StorageError, ConfigError) as error:
            return Refused(NO_FILE, str(error))
        except UpstreamUnavailable as error:
            return Refused(NOT_REACHED, str(error))

    def _settle(self, message: OutboundMessage, lease: str, outcome: Outcome) -> str:
        """Settles the outcome, trying for as long as there is time: it can't be found out again
        later.
        """
        while True:
            try:
                return self.queue.settle_send(message.message_id, lease, _told(outcome))
            except StoreUnavailable:
                if self.remaining() < 2 * _SETTLE_AGAIN:
                    raise
                time.sleep(_SETTLE_AGAIN)


def _told(outcome: Outcome) -> dict[str, JsonValue]:
    match outcome:
        case Accepted(provider_id):
            return {"outcome": "accepted", "provider_id": provider_id}
        case Refused(code, details, retry_after):
            return {
                "outcome": "refused",
                "code": code,
                "details": details,
                "retry_after": retry_after,
            }
        case Unknown(reason):
            return {"outcome": "unknown", "details": reason}


def _pause(next_at: datetime | None) -> float | None:
    """How long to wait for the next message; None where the wait would be too long."""
    if next_at is None:
        return None
    ahead = (next_at - datetime.now(UTC)).total_seconds()
    return min(max(ahead, _SHORTEST_WAIT), LOOK) if ahead <= PATIENCE else None
