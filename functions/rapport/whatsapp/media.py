"""Files of messages: from WhatsApp to the storage, and from the storage to WhatsApp."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from pydantic import JsonValue

from rapport.errors import (
    ConfigError,
    NotFound,
    PayloadTooLarge,
    RapportError,
    Unprocessable,
    WhatsAppRefused,
    WhatsAppUnavailable,
)
from rapport.storage import Storage
from rapport.store.media import FetchJob, FileToSend, MediaOutcome, MediaStore
from rapport.store.outbound import OutboundMessage
from rapport.whatsapp.file_names import FALLBACK_TYPE, file_name_of, shown_type
from rapport.whatsapp.graph import NO_TOKEN, GraphMedia
from rapport.whatsapp.mime_types import read_mime_type

SIZE_LIMIT = 100 * 1024 * 1024  # bytes; WhatsApp's limit for documents
_TOO_LARGE = "The file is larger than 100 MB."
_IN_MEMORY = 4 * 1024 * 1024
_NO_SUCH_FILE = 100  # the Graph API's code for an id that it does not know, or no longer knows


def fetch(job: FetchJob, graph: GraphMedia, storage: Storage, deadline: float) -> MediaOutcome:
    """Copies one file to the storage. Every error becomes an outcome.

    `deadline` is a time of `time.monotonic`. A file that has not arrived by then is left for the
    next try.
    """
    try:
        address = graph.find(job.phone_number_id, job.provider_id)
        with graph.download(job.phone_number_id, address) as chunks:
            source = _Checked(
                chunks,
                sha256=job.sha256 or address.sha256,
                size=address.file_size,
                deadline=deadline,
            )
            kept_type = shown_type(job.mime_type or address.mime_type)
            storage.put(job.object_key, source, kept_type)
    except PayloadTooLarge as error:
        return MediaOutcome("failed", error=str(error))
    except WhatsAppRefused as error:
        if error.graph_code == _NO_SUCH_FILE:
            return MediaOutcome("failed", error="WhatsApp does not have this file.")
        # for example an expired token: a person will replace it
        return MediaOutcome("retry", error=str(error))
    except RapportError as error:
        return MediaOutcome("retry", error=str(error))
    return MediaOutcome(
        "stored", size=source.size, sha256=source.sha256, mime_type=address.mime_type
    )


class _Checked:
    """Bytes that are counted and hashed as they pass; the last read raises if they are wrong."""

    def __init__(
        self,
        chunks: Iterator[bytes],
        *,
        sha256: str | None,
        size: int | None,
        deadline: float,
    ) -> None:
        if size is not None and size > SIZE_LIMIT:
            raise PayloadTooLarge(_TOO_LARGE)
        self._chunks = chunks
        self._said = (digest_hex(sha256), size)
        self._deadline = deadline
        self._rest = b""
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        parts = [self._rest]
        held = len(self._rest)
        while size < 0 or held < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._compare()
                break
            self._count(chunk)
            parts.append(chunk)
            held += len(chunk)
        whole = b"".join(parts)
        end = len(whole) if size < 0 else size
        self._rest = whole[end:]
        return whole[:end]

    def _count(self, chunk: bytes) -> None:
        if time.monotonic() > self._deadline:
            raise WhatsAppUnavailable("The download took too long.")
        self.size += len(chunk)
        if self.size > SIZE_LIMIT:
            raise PayloadTooLarge(_TOO_LARGE)
        self._hash.update(chunk)

    def _compare(self) -> None:
        sha256, size = self._said
        if size is not None and size != self.size:
            raise WhatsAppUnavailable("The file's length differs from the one that WhatsApp named.")
        if sha256 is not None and sha256 != self.sha256:
            raise WhatsAppUnavailable(
                "The file's SHA-256 differs from the one that WhatsApp named."
            )


def digest_hex(digest: str | None) -> str | None:
    """A SHA-256 in hex; WhatsApp's webhooks write it in base64. None if it is no SHA-256."""
    if digest is None:
        return None
    if re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        return digest.lower()
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=", digest):
        return base64.b64decode(digest).hex()
    return None


def upload_to_whatsapp(
    file: FileToSend, phone_number_id: str, graph: GraphMedia, storage: Storage
) -> str:
    """Uploads a file of ours and returns the id by which a message may name it.

    Raises:
        NotFound: The file was announced and never uploaded to the storage.
        PayloadTooLarge: It is larger than was announced.
        StorageError: The storage refused, or can't be reached.
        WhatsAppError: WhatsApp refused, or can't be reached; no message was sent.
    """
    with (
        storage.open(file.object_key) as stored,
        # the length must be known before the upload, and memory is limited
        SpooledTemporaryFile(_IN_MEMORY) as copy,
    ):
        if stored.size > file.size:
            raise PayloadTooLarge("The file is larger than was announced.")
        while chunk := stored.body.read(1024 * 1024):
            copy.write(chunk)
        copy.seek(0)
        read = read_mime_type(file.mime_type)
        return graph.upload(
            phone_number_id,
            cast(IO[bytes], copy),
            mime_type=read.sent if read else FALLBACK_TYPE,
            file_name=file_name_of(file.file_name, file.mime_type),
        )


def content_to_send(
    type_: str, content: dict[str, JsonValue], file: FileToSend, media_id: str
) -> dict[str, JsonValue]:
    """The content of a message that names an upload, with WhatsApp's `media_id` in its place."""
    ready: dict[str, JsonValue] = {
        name: value for name, value in content.items() if name != "upload_id"
    }
    ready["id"] = media_id
    if type_ == "document":
        ready.setdefault("filename", file_name_of(file.file_name, file.mime_type))
    return ready


class Attachments:
    """Uploads the files that messages name by `upload_id`."""

    def __init__(self, store: MediaStore, graph: GraphMedia, storage: Storage) -> None:
        self._store = store
        self._graph = graph
        self._storage = storage

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        """The message with WhatsApp's id of its file; unchanged if it names no upload of ours.

        Raises:
            Unprocessable: It can never be sent, for example because the file was never uploaded.
            StoreError: As rapport.store.postgrest.
            StorageError: The storage refused, or can't be reached.
            WhatsAppError: WhatsApp refused the file, or can't be reached, or there is no token for
                the number; no message was sent.
        """
        content = message.content
        if not isinstance(content, dict) or "upload_id" not in content:
            return message
        file = self._store.media_to_send(message.message_id)
        if file is None:
            raise Unprocessable(
                "The message's file no longer exists. Upload it again.", field="content.upload_id"
            )
        try:
            media_id = upload_to_whatsapp(file, message.phone_number_id, self._graph, self._storage)
        except NotFound:
            raise Unprocessable(
                "The file was announced but never uploaded.", field="content.upload_id"
            ) from None
        except ConfigError as error:
            raise WhatsAppRefused(str(error), NO_TOKEN) from None
        except PayloadTooLarge as error:
            raise Unprocessable(str(error), field="content.upload_id") from None
        return message.model_copy(
            update={"content": content_to_send(message.type, content, file, media_id)}
        )
