"""A file on its way from WhatsApp: counted, hashed and held against what was said of it."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr

from rapport.errors import StorageUnavailable
from rapport.settings import GraphSettings
from rapport.storage import Readable
from rapport.store.media import FetchJob, FileToSend, MediaOutcome
from rapport.whatsapp.graph import GraphMedia
from rapport.whatsapp.media import SIZE_LIMIT, content_to_send, digest_hex, fetch

CONTENT = b"photo"
DIGEST = hashlib.sha256(CONTENT)


@dataclass
class Bucket:
    """Reads a file in pieces of some size, as uploads in parts do."""

    piece: int = 2
    away: bool = False
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def put(self, key: str, source: Readable, content_type: str) -> None:
        whole = b"".join(iter(lambda: source.read(self.piece), b""))
        if self.away:
            raise StorageUnavailable
        self.files[key] = (whole, content_type)


def job(**changes: str | None) -> FetchJob:
    given = {"provider_id": "77", "mime_type": "image/png", "sha256": None, "object_key": "a/b/c"}
    ids = {
        name: UUID(int=1) for name in ("media_id", "account_id", "conversation_id", "message_id")
    }
    return FetchJob.model_validate(ids | {"phone_number_id": "106"} | given | changes)


def graph(content: bytes = CONTENT, **said: str | int) -> GraphMedia:
    """WhatsApp with one file, described as said."""

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/77":
            return httpx.Response(200, json={"url": "https://graph.example/file"} | said)
        return httpx.Response(200, content=iter([content[:3], b"", content[3:]]))

    settings = GraphSettings(
        whatsapp_graph_url=HttpUrl("https://graph.example"), whatsapp_token=SecretStr("token")
    )
    return GraphMedia(settings, httpx.MockTransport(respond))


def run(bucket: Bucket, job: FetchJob, graph: GraphMedia, seconds: float = 60) -> MediaOutcome:
    try:
        return fetch(job, graph, bucket, time.monotonic() + seconds)  # type: ignore[arg-type]
    finally:
        graph.close()


@given(content=st.binary(max_size=50), piece=st.integers(1, 60) | st.just(-1))
def test_every_byte_arrives_once_however_it_is_read(content: bytes, piece: int) -> None:
    bucket = Bucket(piece)
    outcome = run(bucket, job(), graph(content))
    assert bucket.files == {"a/b/c": (content, "image/png")}
    assert outcome == MediaOutcome(
        "stored", size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"file_size": 5, "sha256": DIGEST.hexdigest()},
        {"file_size": "5", "sha256": b64encode(DIGEST.digest()).decode()},
        {"sha256": DIGEST.hexdigest().upper()},
        # no digest: nothing to hold the file against
        {"sha256": "unknown"},
    ],
)
def test_what_whatsapp_said_of_it_is_compared_in_either_spelling(
    said: dict[str, str | int],
) -> None:
    assert run(Bucket(), job(), graph(**said)).outcome == "stored"


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"file_size": 6}, {}),
        ({"file_size": 4}, {}),
        ({"sha256": hashlib.sha256(b"other").hexdigest()}, {}),
        # the webhook's word counts before the description's
        ({"sha256": DIGEST.hexdigest()}, {"sha256": hashlib.sha256(b"other").hexdigest()}),
    ],
)
def test_a_file_that_is_not_what_was_said_is_not_kept(
    said: dict[str, str | int], known: dict[str, str]
) -> None:
    bucket = Bucket()
    assert run(bucket, job(**known), graph(**said)).outcome == "retry"
    assert bucket.files == {}


@pytest.mark.parametrize("said", [{}, {"file_size": SIZE_LIMIT + 1}])
def test_a_file_beyond_the_limit_fails_whether_it_was_said_or_not(said: dict[str, int]) -> None:
    bucket = Bucket(piece=1024 * 1024)
    outcome = run(bucket, job(), graph(bytes(SIZE_LIMIT + 1), **said))
    assert (outcome.outcome, outcome.error) == ("failed", "The file is larger than 100 MB.")
    assert bucket.files == {}


def test_a_file_that_takes_too_long_is_left_for_the_next_try() -> None:
    bucket = Bucket()
    outcome = run(bucket, job(), graph(), seconds=-1)
    assert (outcome.outcome, outcome.error) == ("retry", "The download took too long.")
    assert bucket.files == {}


def test_a_storage_that_is_away_is_for_another_try() -> None:
    assert run(Bucket(away=True), job(), graph()).outcome == "retry"


def test_the_type_that_is_kept_is_a_harmless_one() -> None:
    bucket = Bucket()
    outcome = run(bucket, job(mime_type=None), graph(mime_type="text/html"))
    assert bucket.files["a/b/c"][1] == "application/octet-stream"
    assert outcome.mime_type == "text/html"


@pytest.mark.parametrize("digest", [None, "", "x", DIGEST.hexdigest()[:-1], "A" * 44])
def test_what_is_no_digest_is_none(digest: str | None) -> None:
    assert digest_hex(digest) is None


@pytest.mark.parametrize(
    ("type_", "content", "ready"),
    [
        ("image", {"caption": "x"}, {"caption": "x", "id": "9"}),
        ("document", {}, {"id": "9", "filename": "a.pdf"}),
        ("document", {"filename": "mine.pdf"}, {"id": "9", "filename": "mine.pdf"}),
        ("audio", {"voice": True}, {"voice": True, "id": "9"}),
    ],
)
def test_a_message_names_whatsapps_id_in_place_of_the_upload(
    type_: str, content: dict[str, str | bool], ready: dict[str, str | bool]
) -> None:
    file = FileToSend(object_key="a/u/1", mime_type="application/pdf", file_name="a.pdf", size=1)
    assert content_to_send(type_, {"upload_id": "1", **content}, file, "9") == ready
