"""Sends one notification to one device through its push service."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

import httpcore

from rapport.connections import trusted
from rapport.push.encryption import encrypted, from_base64url
from rapport.push.guarded import AddressRefused, GuardedBackend
from rapport.push.vapid import Vapid
from rapport.store.notifications import PushJob

# seconds for a whole exchange, also with a push service that trickles
EXCHANGE = 10.0
# bytes of an answer that are read: it has nothing to say but its status
ANSWER_LIMIT = 4096
# seconds for which a push service keeps a notification for a device that is off
KEPT = 24 * 3600
# what names or awaits the person wakes the device; the rest may wait for it to be awake
_URGENT = ("message", "mention", "assigned")
_GONE = (404, 410)
_LATER = (408, 425, 429)


class PushOutcome(NamedTuple):
    """What became of a push, and in how many seconds the push service wants the next one."""

    outcome: Literal["sent", "gone", "retry", "refused"]
    # why, for the log; never the endpoint, which is a secret
    reason: str
    retry_after: int | None = None


class PushSender:
    """Pushes to any push service of the public internet; safe to share between threads."""

    def __init__(self, vapid: Vapid, *, allows_loopback: bool = False) -> None:
        self._vapid = vapid
        self._backend = GuardedBackend(allows_loopback=allows_loopback)
        self._allows_loopback = allows_loopback
        self._pool = httpcore.ConnectionPool(
            ssl_context=trusted(),
            network_backend=self._backend,
            max_connections=20,
            keepalive_expiry=30,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def send(self, job: PushJob) -> PushOutcome:
        """Makes one call; every failure is an outcome."""
        try:
            url = httpcore.URL(job.endpoint)
            if not self._is_allowed(url):
                return PushOutcome("refused", "address")
            body = encrypted(_payload(job), from_base64url(job.p256dh), from_base64url(job.auth))
        except ValueError:
            # with these keys nothing is ever read
            return PushOutcome("gone", "keys")
        try:
            return self._exchange(url, job, body)
        except AddressRefused:
            return PushOutcome("refused", "address")
        # an answer that is not HTTP is a ProtocolError
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            return PushOutcome("retry", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one address must not end the pushes of others
            return PushOutcome("refused", type(error).__name__)

    def _is_allowed(self, url: httpcore.URL) -> bool:
        return url.scheme == b"https" or (
            self._allows_loopback and url.scheme == b"http" and url.host == b"127.0.0.1"
        )

    def _exchange(self, url: httpcore.URL, job: PushJob, body: bytes) -> PushOutcome:
        # the port of https is no part of an origin
        port = "" if url.port in (None, 443) else f":{url.port}"
        origin = f"{url.scheme.decode()}://{url.host.decode()}{port}"
        headers: dict[bytes | str, bytes | str] = {
            "Authorization": self._vapid.header(origin),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(KEPT),
            "Urgency": "high" if job.kind in _URGENT else "normal",
            # one that waits at the push service gives its place to the next of its subject
            "Topic": job.subject_id.hex,
        }
        self._backend.start(EXCHANGE)
        with self._pool.stream(
            "POST",
            url,
            headers=headers,
            content=body,
            extensions={"timeout": {"pool": EXCHANGE}},
        ) as answer:
            read = 0
            for chunk in answer.iter_stream():
                read += len(chunk)
                if read > ANSWER_LIMIT:
                    break
            return _outcome(answer.status, dict(answer.headers))


def _payload(job: PushJob) -> bytes:
    """The text that the page's service worker shows, and the id that its link opens."""
    shown = {"title": job.title, "body": job.body, "kind": job.kind, "id": str(job.subject_id)}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()


def _outcome(status: int, headers: dict[bytes, bytes]) -> PushOutcome:
    if status in range(200, 300):
        return PushOutcome("sent", str(status))
    if status in _GONE:
        return PushOutcome("gone", str(status))
    if status in _LATER or status >= 500:
        named = {name.lower(): value for name, value in headers.items()}
        return PushOutcome("retry", str(status), _seconds(named.get(b"retry-after", b"")))
    return PushOutcome("refused", str(status))


def _seconds(text: bytes) -> int | None:
    """Retry-After, of seconds or a date; None where it says nothing that we read."""
    if re.fullmatch(rb"[0-9]{1,9}", text):
        return int(text)
    try:
        at = parsedate_to_datetime(text.decode("ascii"))
        ahead = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    # OverflowError: a year or a zone that no date can have
    except (ValueError, OverflowError):
        return None
    return int(min(max(ahead, 0), 10**9))
