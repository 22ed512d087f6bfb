"""Files in a bucket that speaks S3: AWS, Supabase Storage, or a stand-in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from rapport.errors import NotFound, StorageError, StorageUnavailable
from rapport.settings import MediaSettings

LINK_SECONDS = 300
_CHUNK = 8 * 1024 * 1024  # bytes of a file in memory at a time
_MISSING = {"NoSuchKey", "404", "NotFound"}


class Readable(Protocol):
    """A source of bytes that need not be seekable."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


class _S3Client(Protocol):
    """The part of boto3's S3 client that is used here."""

    def upload_fileobj(
        self, source: Readable, bucket: str, key: str, /, **options: object
    ) -> None: ...
    def get_object(self, **parameters: str) -> Mapping[str, Any]: ...
    def generate_presigned_url(self, method: str, /, **options: object) -> str: ...


@dataclass(frozen=True)
class StoredFile:
    """A file that is being read."""

    size: int
    body: IO[bytes]


class Storage:
    """The bucket; safe to share between threads."""

    def __init__(self, settings: MediaSettings) -> None:
        self._bucket = settings.media_bucket
        self._client = _client(elsewhere=settings.aws_endpoint_url_s3 is not None)

    def put(self, key: str, source: Readable, content_type: str) -> None:
        """Writes all of `source` to `key`, a large file in parts. An existing file is replaced.

        If reading fails, its error is raised and nothing is written.

        Raises:
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        # imported when needed: it takes a third of a second
        from boto3.s3.transfer import TransferConfig

        with _storage_errors():
            self._client.upload_fileobj(
                source,
                self._bucket,
                key,
                # the type comes from the sender, so browsers save the file and do not show it
                ExtraArgs={"ContentType": content_type, "ContentDisposition": "attachment"},
                Config=TransferConfig(
                    multipart_threshold=_CHUNK, multipart_chunksize=_CHUNK, use_threads=False
                ),
            )

    @contextmanager
    def open(self, key: str) -> Iterator[StoredFile]:
        """The file at `key`, to be read once.

        Raises:
            NotFound: There is none.
            StorageUnavailable: The storage can't be reached, or is too busy.
            StorageError: The storage refused.
        """
        with _storage_errors():
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            body = cast(IO[bytes], answer["Body"])
            try:
                yield StoredFile(int(answer["ContentLength"]), body)
            finally:
                body.close()

    def link(self, key: str, *, disposition: str, content_type: str) -> str:
        """An address that opens the file for five minutes; it needs no login."""
        return self._presigned(
            "get_object",
            Key=key,
            ResponseContentDisposition=disposition,
            ResponseContentType=content_type,
        )

    def upload_link(self, key: str, *, content_type: str, size: int) -> str:
        """An address that takes one PUT of exactly this type and size, for five minutes."""
        return self._presigned("put_object", Key=key, ContentType=content_type, ContentLength=size)

    def _presigned(self, method: str, **parameters: object) -> str:
        with _storage_errors():
            return self._client.generate_presigned_url(
                method,
                Params={"Bucket": self._bucket} | parameters,
                ExpiresIn=LINK_SECONDS,
            )


def _client(*, elsewhere: bool) -> _S3Client:
    import boto3
    from botocore.config import Config

    client: _S3Client = boto3.client(
        "s3",
        config=Config(
            signature_version="s3v4",
            # other servers have no host name for each bucket
            s3={"addressing_style": "path" if elsewhere else "virtual"},
            # other servers do not know the newer checksums
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 3},
        ),
    )
    return client


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Translates botocore's errors. Their text names keys and hosts, and is dropped."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if code in _MISSING:
            raise NotFound("The file is not in the storage.") from None
        kind = StorageUnavailable if status >= 500 or status == 429 else StorageError
        raise kind(f"{kind.__doc__} (code {code})") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} ({type(error).__name__})") from None
