"""The stand-in's memory: of each kind the newest items, enough for a demo."""

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
from rapport.local.fakes.whatsapp.registered import Registered

K = TypeVar("K")
V = TypeVar("V")

KEPT = 5_000
KEPT_MEDIA_BYTES = 64 * 1024 * 1024
WINDOW = timedelta(hours=24)


@dataclass
class Bucket:
    """A rate limit: the messages that may be sent now; it refills with time."""

    left: float
    at: float

    def take(self, now: float, *, size: int, seconds_each: float) -> bool:
        """Whether a message may be sent, which is then counted; `now` is from a monotonic clock."""
        self.left = min(size, self.left + (now - self.at) / seconds_each)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True)
class WhatsAppPerson:
    """A customer as a business names one: by number, by business-scoped user id, or by both.

    A group is named by its own id instead.
    """

    wa_id: str | None = None
    user_id: str | None = None
    group_id: str | None = None

    @property
    def key(self) -> str:
        return self.group_id or self.wa_id or self.user_id or ""


@dataclass
class Sent:
    """An accepted message, as the customer's phone shows it."""

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


@dataclass
class Written:
    """A message that a customer wrote, or that the business wrote to one in its phone app."""

    id: str
    phone_number_id: str
    sender: WhatsAppPerson
    type: str
    content: JsonValue
    at: datetime
    reply_to: str | None = None
    # of the business, from its own phone
    is_echo: bool = False

    @property
    def text(self) -> str:
        """The words of it."""
        content = self.content if isinstance(self.content, dict) else {}
        for name in ("body", "caption", "text", "emoji", "name", "filename"):
            if isinstance(words := content.get(name), str):
                return words
        # a button or an entry of a list that was chosen
        reply = content.get(str(content.get("type")))
        title = reply.get("title") if isinstance(reply, dict) else None
        return title if isinstance(title, str) else ""

    def shown(self) -> Payload:
        return {
            "id": self.id,
            "phone_number_id": self.phone_number_id,
            "from": self.sender.wa_id,
            "user_id": self.sender.user_id,
            "group_id": self.sender.group_id,
            "type": self.type,
            self.type: self.content,
            "text_shown": self.text,
            "reply_to": self.reply_to,
            "echo": self.is_echo,
            "at": self.at.isoformat(),
        }


@dataclass(frozen=True)
class StoredMedia:
    """A file that a business or a customer gave to Meta."""

    id: str
    mime_type: str
    # in hex, as the API answers it
    sha256: str
    content: bytes = field(repr=False)
    filename: str | None = None
    # the number whose token opens it
    phone_number_id: str | None = None

    def encode(self) -> bytes:
        """A line of JSON, and then the content."""
        about = [self.id, self.mime_type, self.sha256, self.filename, self.phone_number_id]
        return json.dumps(about).encode() + b"\n" + self.content

    @classmethod
    def decode(cls, encoded: bytes) -> StoredMedia:
        """Reverses `encode`."""
        about, _, content = encoded.partition(b"\n")
        id_, mime_type, sha256, filename, number = json.loads(about)
        return cls(id_, mime_type, sha256, content, filename, number)


# made with the module, for all copies of the fork server
_SENT = TypeAdapter(Sent)
_WRITTEN = TypeAdapter(Written)
_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)
_PAYLOADS: TypeAdapter[dict[str, Payload]] = TypeAdapter(dict[str, Payload])
_MOMENT = TypeAdapter(datetime)


@dataclass
class State:
    """Everything that POST /_fake/reset deletes."""

    behaviour: WhatsAppBehaviour = field(default_factory=WhatsAppBehaviour)
    # what Meta knows of the app
    registered: Registered = field(default_factory=Registered)
    sent: OrderedDict[str, Sent] = field(default_factory=OrderedDict)
    # what customers wrote, in the order in which it came
    written: OrderedDict[str, Written] = field(default_factory=OrderedDict)
    # messages marked as read, and whether the customer saw the business typing
    reads: OrderedDict[str, Payload] = field(default_factory=OrderedDict)
    media: OrderedDict[str, StoredMedia] = field(default_factory=OrderedDict)
    # by a download's secret path: its media id, and until when it is valid
    downloads: OrderedDict[str, tuple[str, datetime]] = field(default_factory=OrderedDict)
    # of a WhatsApp Business account, by id, newest last
    templates: dict[str, dict[str, Payload]] = field(default_factory=dict)
    # rate limits by number, and by number and person
    buckets: OrderedDict[tuple[str, ...], Bucket] = field(default_factory=OrderedDict)
    # when a person last wrote to a number, by number, space, person
    last_inbound: OrderedDict[str, datetime] = field(default_factory=OrderedDict)

    @classmethod
    def kept(cls, shelf: Shelf) -> State:
        """The data on the shelf. Short-lived data and the behaviour start empty."""
        return cls(
            sent=Kept.of(shelf, "sent", _SENT),
            written=Kept.of(shelf, "written", _WRITTEN),
            reads=Kept.of(shelf, "reads", _PAYLOAD),
            media=Kept(shelf, "media", StoredMedia.encode, StoredMedia.decode),
            templates=Kept.of(shelf, "templates", _PAYLOADS),
            last_inbound=Kept.of(shelf, "inbound", _MOMENT),
        )

    def clear(self) -> None:
        """Deletes everything, in place, so that every holder sees it."""
        self.behaviour = WhatsAppBehaviour()
        self.registered = Registered()
        for store in (
            *(self.sent, self.written, self.reads, self.media, self.downloads),
            *(self.buckets, self.last_inbound),
        ):
            store.clear()
        self.templates.clear()

    def keep(self, store: OrderedDict[K, V], key: K, value: V) -> None:
        """Adds a value, and drops the oldest beyond the limit."""
        store[key] = value
        while len(store) > KEPT:
            store.popitem(last=False)

    def keep_media(self, media: StoredMedia) -> None:
        """Adds a file, and drops the oldest if there are too many."""
        self.keep(self.media, media.id, media)
        while sum(len(one.content) for one in self.media.values()) > KEPT_MEDIA_BYTES:
            self.media.popitem(last=False)

    def note_status(self, sent: Sent, word: str) -> None:
        """Notes a message's status, if the message is still known."""
        sent.statuses.append(word)
        if sent.id in self.sent:
            self.sent[sent.id] = sent

    def may_send(self, *key: str, size: int, seconds_each: float) -> bool:
        """Whether one more message fits a burst limit of `size` that refills one by one."""
        now = monotonic()
        bucket = self.buckets.get(key) or Bucket(left=size, at=now)
        self.keep(self.buckets, key, bucket)
        return bucket.take(now, size=size, seconds_each=seconds_each)

    def note_inbound(self, phone_number_id: str, person: WhatsAppPerson, at: datetime) -> None:
        """Opens the 24-hour window of a person with a number."""
        # in a group, the group's window and not the person's
        keys = (person.group_id,) if person.group_id else (person.wa_id, person.user_id)
        for key in filter(None, keys):
            window = f"{phone_number_id} {key}"
            before = self.last_inbound.get(window, at)
            self.keep(self.last_inbound, window, max(before, at))

    def is_window_open(self, phone_number_id: str, person: WhatsAppPerson) -> bool:
        last = self.last_inbound.get(f"{phone_number_id} {person.key}")
        return last is not None and datetime.now(UTC) - last < WINDOW
