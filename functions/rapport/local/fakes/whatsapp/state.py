"""What the stand-in remembers: of each thing the newest, as much as a demo needs."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TypeVar

from pydantic import JsonValue, TypeAdapter

from rapport.local.fakes.shelf import Kept, Shelf
from rapport.local.fakes.whatsapp.behaviour import WhatsAppBehaviour
from rapport.local.fakes.whatsapp.payloads import Payload

K = TypeVar("K")
V = TypeVar("V")

KEPT = 5_000
KEPT_MEDIA_BYTES = 64 * 1024 * 1024
WINDOW = timedelta(hours=24)


@dataclass
class Bucket:
    """What may be sent at once, as it refills."""

    left: float
    at: float

    def take(self, now: float, *, size: int, seconds_each: float) -> bool:
        """Whether there is one left, which is then one fewer; `now` is of a monotonic clock."""
        self.left = min(size, self.left + (now - self.at) / seconds_each)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True)
class WhatsAppPerson:
    """A customer as a business can name one: by number, by business-scoped user id, or both.

    A group is known by its id instead.
    """

    wa_id: str | None = None
    user_id: str | None = None
    group_id: str | None = None

    @property
    def key(self) -> str:
        return self.group_id or self.wa_id or self.user_id or ""


@dataclass
class Sent:
    """A message that was accepted: what the customer's phone shows."""

    id: str
    phone_number_id: str
    to: WhatsAppPerson
    type: str
    content: JsonValue
    text: str
    at: datetime
    reply_to: str | None = None
    callback_data: str | None = None
    statuses: list[str] = field(default_factory=list)

    def shown(self) -> Payload:
        return {
            "id": self.id,
            "phone_number_id": self.phone_number_id,
            "to": self.to.group_id or self.to.wa_id,
            "recipient": self.to.user_id,
            "type": self.type,
            self.type: self.content,
            "text_shown": self.text,
            "reply_to": self.reply_to,
            "biz_opaque_callback_data": self.callback_data,
            "at": self.at.isoformat(),
            "statuses": list(self.statuses),
        }


@dataclass(frozen=True)
class StoredMedia:
    """A file, given to Meta by a business or a customer."""

    id: str
    mime_type: str
    # hex, as the API answers it
    sha256: str
    content: bytes = field(repr=False)
    filename: str | None = None
    # whose token opens it
    phone_number_id: str | None = None

    def encode(self) -> bytes:
        """A line of JSON, and the content."""
        about = [self.id, self.mime_type, self.sha256, self.filename, self.phone_number_id]
        return json.dumps(about).encode() + b"\n" + self.content

    @classmethod
    def decode(cls, encoded: bytes) -> StoredMedia:
        """What `encode` made."""
        about, _, content = encoded.partition(b"\n")
        id_, mime_type, sha256, filename, number = json.loads(about)
        return cls(id_, mime_type, sha256, content, filename, number)


@dataclass
class State:
    """Everything that POST /_fake/reset forgets."""

    behaviour: WhatsAppBehaviour = field(default_factory=WhatsAppBehaviour)
    sent: OrderedDict[str, Sent] = field(default_factory=OrderedDict)
    # marked as read, with whether the customer saw the business typing
    reads: OrderedDict[str, Payload] = field(default_factory=OrderedDict)
    media: OrderedDict[str, StoredMedia] = field(default_factory=OrderedDict)
    # a download's secret path: its media and until when it is good
    downloads: OrderedDict[str, tuple[str, datetime]] = field(default_factory=OrderedDict)
    # of a WhatsApp Business account, by id, newest last
    templates: dict[str, dict[str, Payload]] = field(default_factory=dict)
    # what may be sent by a number, and by a number to a person
    buckets: OrderedDict[tuple[str, ...], Bucket] = field(default_factory=OrderedDict)
    # when a person last wrote to a number: by the number, a space, and the person
    last_inbound: OrderedDict[str, datetime] = field(default_factory=OrderedDict)

    @classmethod
    def kept(cls, shelf: Shelf) -> State:
        """What is on the shelf; what is good for a moment, and the behaviour, are as at first."""
        payloads: TypeAdapter[Payload] = TypeAdapter(Payload)
        return cls(
            sent=Kept.of(shelf, "sent", TypeAdapter(Sent)),
            reads=Kept.of(shelf, "reads", payloads),
            media=Kept(shelf, "media", StoredMedia.encode, StoredMedia.decode),
            templates=Kept.of(shelf, "templates", TypeAdapter(dict[str, Payload])),
            last_inbound=Kept.of(shelf, "inbound", TypeAdapter(datetime)),
        )

    def clear(self) -> None:
        """Forgets everything, in place: whoever holds it sees it empty."""
        self.behaviour = WhatsAppBehaviour()
        for store in (
            *(self.sent, self.reads, self.media, self.downloads),
            *(self.buckets, self.last_inbound),
        ):
            store.clear()
        self.templates.clear()

    def keep(self, store: OrderedDict[K, V], key: K, value: V) -> None:
        """Remembers the value, and forgets the oldest beyond what is kept."""
        store[key] = value
        while len(store) > KEPT:
            store.popitem(last=False)

    def keep_media(self, media: StoredMedia) -> None:
        """Remembers a file; the oldest make room."""
        self.keep(self.media, media.id, media)
        while sum(len(one.content) for one in self.media.values()) > KEPT_MEDIA_BYTES:
            self.media.popitem(last=False)

    def note_status(self, sent: Sent, word: str) -> None:
        """Remembers what has become of a message, if the message is remembered."""
        sent.statuses.append(word)
        if sent.id in self.sent:
            self.sent[sent.id] = sent

    def may_send(self, *key: str, size: int, seconds_each: float) -> bool:
        """Whether one more is within a limit of `size` at once, refilled one by one."""
        now = monotonic()
        bucket = self.buckets.get(key) or Bucket(left=size, at=now)
        self.keep(self.buckets, key, bucket)
        return bucket.take(now, size=size, seconds_each=seconds_each)

    def note_inbound(self, phone_number_id: str, person: WhatsAppPerson, at: datetime) -> None:
        """Opens the window of a person on a number."""
        # in a group its window, not the person's
        keys = (person.group_id,) if person.group_id else (person.wa_id, person.user_id)
        for key in filter(None, keys):
            window = f"{phone_number_id} {key}"
            before = self.last_inbound.get(window, at)
            self.keep(self.last_inbound, window, max(before, at))

    def is_window_open(self, phone_number_id: str, person: WhatsAppPerson) -> bool:
        last = self.last_inbound.get(f"{phone_number_id} {person.key}")
        return last is not None and datetime.now(UTC) - last < WINDOW
