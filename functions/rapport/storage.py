"""Files in a bucket that speaks S3: AWS, Supabase Storage, or a stand-in.

Source: docs.aws.amazon.com, "Amazon S3 API Reference".
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Protocol
from urllib.parse import quote
from xml.sax.saxutils import escape, unescape

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable, region
from rapport.aws.signature import query_string
from rapport.connections import Answer, Stream
from rapport.errors import NotFound, StorageError, StorageUnavailable
from rapport.settings import MediaSettings

LINK_SECONDS = 300
# bytes of a file in memory at a time; S3 takes parts from 5 MB, and 10,000 of them
_CHUNK = 8 * 1024 * 1024
_MISSING = {"NoSuchKey", "404", "NotFound"}
_UPLOAD_ID = re.compile(r"<UploadId>([^<]+)</UploadId>")
_KEY = re.compile(r"<Key>([^<]*)</Key>")
_ETAG_LIMIT = 200


class Readable(Protocol):
    """A source of bytes that need not be seekable."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


@dataclass(frozen=True)
class StoredFile:
    """A file that is being read."""

    size: int
    body: IO[bytes]


class Storage:
    """The bucket; safe to share between threads."""

    def __init__(self, settings: MediaSettings) -> None:
        self._s3 = AwsService("s3", timeout=30, connect=5, attempts=3)
        if settings.aws_endpoint_url_s3 is not None:
            # other servers have no host name for each bucket
            self._root = f"{str(settings.aws_endpoint_url_s3).rstrip('/')}/{settings.media_bucket}"
        else:
            self._root = f"https://{settings.media_bucket}.s3.{region()}.amazonaws.com"

    def put(self, key: str, source: Readable, content_type: str) -> None:
        """Writes all of `source` to `key`, a large file in parts. An existing file is replaced.

        If reading fails, its error is raised and nothing is written.

        Raises:
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        # the type comes from the sender, so browsers save the file and do not show it
        headers = {"content-type": content_type, "content-disposition": "attachment"}
        first = _chunk(source)
        with _storage_errors():
            if len(first) < _CHUNK:
                self._s3.send("PUT", self._url(key), headers, first)
            else:
                self._put_in_parts(key, first, source, headers)

    def _put_in_parts(
        self, key: str, chunk: bytes, source: Readable, headers: dict[str, str]
    ) -> None:
        begun = self._s3.send("POST", f"{self._url(key)}?uploads=", headers)
        found = _UPLOAD_ID.search(begun.text)
        if found is None:
            raise StorageError("The storage's answer names no upload.")
        upload = query_string({"uploadId": found[1]})
        parts: list[str] = []
        try:
            while chunk:
                number = len(parts) + 1
                address = f"{self._url(key)}?partNumber={number}&{upload}"
                etag = self._s3.send("PUT", address, {}, chunk).headers.get("etag", "")
                parts.append(
                    f"<Part><PartNumber>{number}</PartNumber>"
                    f"<ETag>{escape(etag[:_ETAG_LIMIT])}</ETag></Part>"
                )
                chunk = _chunk(source)
            whole = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>"
            try:
                done = self._s3.send(
                    "POST",
                    f"{self._url(key)}?{upload}",
                    {"content-type": "application/xml"},
                    whole.encode(),
                )
            except AwsRefused as error:
                # The answer to a first call was lost, and the upload is over. Whether it became the
                # file is not known, so the caller writes it again.
                if error.status == 404:
                    raise AwsUnreachable(error.code) from None
                raise
            # S3 may refuse after it has begun to answer with 200
            _require_no_error(done)
        except BaseException:
            # else its parts would be paid for until the bucket's rule removes them
            with suppress(AwsRefused, AwsUnreachable):
                self._s3.send("DELETE", f"{self._url(key)}?{upload}", {})
            raise

    @contextmanager
    def open(self, key: str) -> Iterator[StoredFile]:
        """The file at `key`, to be read once.

        Raises:
            NotFound: There is none.
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        with _storage_errors(), self._s3.stream("GET", self._url(key)) as answer:
            yield StoredFile(int(answer.headers["content-length"]), _body_of(answer))

    def delete(self, key: str) -> None:
        """Deletes the file at `key`; one that is not there is deleted already.

        Raises:
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        with suppress(NotFound), _storage_errors():
            self._s3.send("DELETE", self._url(key), {})

    def keys(self, prefix: str) -> list[str]:
        """The first 1,000 keys that begin with `prefix`.

        Raises:
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        asked = query_string({"list-type": "2", "prefix": prefix})
        with _storage_errors():
            listed = self._s3.send("GET", f"{self._root}?{asked}", {}).text
        return [unescape(key) for key in _KEY.findall(listed)]

    def link(self, key: str, *, disposition: str, content_type: str) -> str:
        """An address that opens the file for five minutes; it needs no login."""
        told = query_string(
            {"response-content-disposition": disposition, "response-content-type": content_type}
        )
        return self._s3.signer.presigned("GET", f"{self._url(key)}?{told}", {}, LINK_SECONDS)

    def upload_link(self, key: str, *, content_type: str, size: int) -> str:
        """An address that takes one PUT of exactly this type and size, for five minutes."""
        headers = {"content-type": content_type, "content-length": str(size)}
        return self._s3.signer.presigned("PUT", self._url(key), headers, LINK_SECONDS)

    def _url(self, key: str) -> str:
        return f"{self._root}/{quote(key, safe='/~')}"


class _Body(io.RawIOBase):
    """The body of an answer as a file; what the storage does meanwhile are its errors."""

    def __init__(self, answer: Stream) -> None:
        # as they are stored: who uploads a file may name a compression, and a few bytes of it can
        # unpack to very many
        self._chunks = answer.chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # what io gives
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _require_no_error(answer: Answer) -> None:
    if "<Error>" in answer.text:
        raise AwsRefused(500, "InternalError")


def _body_of(answer: Stream) -> IO[bytes]:
    return io.BufferedReader(_Body(answer))


def _chunk(source: Readable) -> bytes:
    """The next 8 MB, or what is left."""
    chunk = bytearray()
    while len(chunk) < _CHUNK and (more := source.read(_CHUNK - len(chunk))):
        chunk += more
    return bytes(chunk)


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Translates AWS's errors. Their text names keys and hosts, and is dropped."""
    try:
        yield
    except AwsRefused as error:
        if error.code in _MISSING or error.status == 404:
            raise NotFound("The file is not in the storage.") from None
        kind = StorageUnavailable if error.passes else StorageError
        raise kind(f"{kind.__doc__} (code {error.code})") from None
    except AwsUnreachable as error:
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} ({error})") from None
