"""Keeps the contents of moto's queues and bucket on disk.

moto has everything in memory. After each request that may have changed something, and before its
answer, the difference is written to disk. So everything that was answered survives a crash.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from moto.s3.models import FakeKey, S3Backend
from moto.sqs.models import Message, SQSBackend

from rapport.local.stack.files import write_whole

SCHEMA = """
    create table if not exists messages (
        number integer primary key,
        id text not null unique,
        queue text not null,
        body text not null,
        sent_at integer not null,
        first_received_at integer,
        receives integer not null
    ) strict;
    create table if not exists files (
        key text primary key,
        content text not null,
        size integer not null,
        etag text not null,
        stored_at real not null,
        metadata text not null
    ) strict;
"""


class _Known(NamedTuple):
    """The parts of a message on disk that can change."""

    queue: str
    receives: int


class StoredKey(FakeKey):
    """An object whose bytes stay on disk until they are read."""

    def __init__(
        self, backend: S3Backend, bucket: str, name: str, content: Path, size: int, etag: str
    ) -> None:
        super().__init__(
            name,
            b"",
            backend.account_id,
            backend.region_name,
            etag=etag,
            bucket_name=bucket,
        )
        self.content = content
        self.contentsize = size

    @property
    def value(self) -> bytes:
        return self.content.read_bytes()

    @value.setter
    def value(self, _content: bytes) -> None:
        """moto sets a new object's value to empty; ours is there already."""
        self.contentsize = 0


class AwsState:
    """The folder with the contents of the queues and one bucket; safe to share between threads."""

    def __init__(self, folder: Path, sqs: SQSBackend, s3: S3Backend, bucket: str) -> None:
        self._sqs = sqs
        self._s3 = s3
        self._bucket = bucket
        self._files = folder / "files"
        self._files.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._messages: dict[str, _Known] = {}
        self._keys: dict[str, StoredKey] = {}
        self._database = sqlite3.connect(folder / "state.db", check_same_thread=False)
        self._database.execute("pragma journal_mode = wal")
        # on disk before the answer
        self._database.execute("pragma synchronous = full")
        self._database.executescript(SCHEMA)

    def restore(self) -> None:
        """Loads the contents into the queues and the bucket, which must exist.

        Messages that a worker had received are visible again, since that worker is gone.
        """
        for id_, queue, body, sent_at, first_at, receives in self._database.execute(
            "select id, queue, body, sent_at, first_received_at, receives"
            " from messages order by number"
        ):
            message = Message(id_, body)
            message.sent_timestamp = sent_at
            message.approximate_first_receive_timestamp = first_at
            message.approximate_receive_count = receives
            self._sqs.queues[queue].add_message(message)
            self._messages[id_] = _Known(queue, receives)
        contents = set()
        for key, content, size, etag, stored_at, metadata in self._database.execute(
            "select key, content, size, etag, stored_at, metadata from files"
        ):
            contents.add(content)
            stored = self._stored(key, self._files / content, size, etag)
            stored.last_modified = datetime.fromtimestamp(stored_at, UTC).replace(tzinfo=None)
            stored.set_metadata(json.loads(metadata))
            self._set(key, stored)
        for path in self._files.iterdir():
            # written but never answered, or deleted
            if path.name not in contents:
                path.unlink()

    def keep(self) -> None:
        """Writes new contents to disk and deletes old ones.

        Raises:
            OSError: The disk failed; the next request tries again.
            sqlite3.Error: As OSError.
        """
        with self._lock:
            self._keep_messages()
            self._keep_files()

    def _keep_messages(self) -> None:
        here = {
            message.id: (message, name)
            for name, queue in self._sqs.queues.items()
            # `messages` has only the visible ones
            for message in list(queue._messages)
        }
        changed = [
            (message, queue)
            for message, queue in here.values()
            if self._messages.get(message.id) != (queue, message.approximate_receive_count)
        ]
        gone = self._messages.keys() - here.keys()
        if not changed and not gone:
            return
        with self._database:
            self._database.executemany(
                "insert into messages (id, queue, body, sent_at, first_received_at, receives)"
                " values (?, ?, ?, ?, ?, ?) on conflict (id) do update set queue = excluded.queue,"
                " first_received_at = excluded.first_received_at, receives = excluded.receives",
                [
                    (
                        message.id,
                        queue,
                        message.body,
                        message.sent_timestamp,
                        message.approximate_first_receive_timestamp,
                        message.approximate_receive_count,
                    )
                    for message, queue in changed
                ],
            )
            self._database.executemany(
                "delete from messages where id = ?", [(id_,) for id_ in gone]
            )
        for message, queue in changed:
            self._messages[message.id] = _Known(queue, message.approximate_receive_count)
        for id_ in gone:
            del self._messages[id_]

    def _keep_files(self) -> None:
        keys = self._s3.buckets[self._bucket].keys
        # a copy that other threads can't change
        names = list(dict.keys(keys))
        for key in names:
            found = keys.get(key)
            if isinstance(found, FakeKey) and self._keys.get(key) is not found:
                self._store(key, found)
        for key in self._keys.keys() - set(names):
            with self._database:
                self._database.execute("delete from files where key = ?", [key])
            self._keys.pop(key).content.unlink()

    def _store(self, key: str, found: FakeKey) -> None:
        content = self._files / token_hex(16)
        write_whole(content, found.value)
        stored = self._stored(key, content, found.size, found.etag.strip('"'))
        stored.last_modified = found.last_modified
        metadata = dict(found.metadata.items())
        stored.set_metadata(metadata)
        with self._database:
            self._database.execute(
                "insert or replace into files (key, content, size, etag, stored_at, metadata)"
                " values (?, ?, ?, ?, ?, ?)",
                [
                    key,
                    content.name,
                    stored.size,
                    stored.etag.strip('"'),
                    stored.last_modified.replace(tzinfo=UTC).timestamp(),
                    json.dumps(metadata),
                ],
            )
        before = self._keys.get(key)
        self._set(key, stored)
        if before:
            before.content.unlink()

    def _stored(self, key: str, content: Path, size: int, etag: str) -> StoredKey:
        return StoredKey(self._s3, self._bucket, key, content, size, etag)

    def _set(self, key: str, stored: StoredKey) -> None:
        self._s3.buckets[self._bucket].keys.setlist(key, [stored])
        self._keys[key] = stored
