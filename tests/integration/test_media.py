"""Files from WhatsApp into a bucket and out to users, and the other way; over real HTTP and S3."""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from logging import StreamHandler
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import boto3  # type: ignore[import-untyped]
import httpx
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg.rows import dict_row
from pydantic import HttpUrl
from tests.aws import recording
from tests.integration.graph_files import TOKEN, Graph, digest, serving
from typer.testing import CliRunner

from rapport.commands import app
from rapport.errors import Conflict, NotFound, StorageUnavailable
from rapport.handlers import fetch_media, media_api, sync_templates
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.log import logger
from rapport.server.events import InvocationContext
from rapport.server.host import application, deploy
from rapport.server.serverless import SERVERLESS_FILE, Service
from rapport.settings import GraphSettings, MediaSettings, StoreSettings
from rapport.storage import Storage
from rapport.store.media import FileToSend, MediaOutcome, MediaStore
from rapport.whatsapp.graph import GraphMedia
from rapport.whatsapp.media import content_to_send, upload_to_whatsapp

NUMBER = "106540352242922"
PEOPLE = {
    "andrej": "11111111-0000-4000-8000-000000000001",
    "vera": "11111111-0000-4000-8000-000000000002",
    "ana": "11111111-0000-4000-8000-000000000003",
    "cilka": "11111111-0000-4000-8000-000000000004",
    "stranger": "11111111-0000-4000-8000-000000000005",
}
ALPINE = "22222222-0000-4000-8000-000000000001"
BAY = "22222222-0000-4000-8000-000000000002"
CILKA = "33333333-0000-4000-8000-000000000001"
PHOTO = b"\xff\xd8\xff photo " * 1000

Row = dict[str, Any]


def visit(
    url: str, method: str = "GET", content: bytes = b"", headers: dict[str, str] | None = None
) -> httpx.Response:
    """What a browser does with an address that it was given."""
    return httpx.request(method, url, content=content, headers=headers, trust_env=False)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, and the environment in which functions find it."""
    name = f"media-{secrets.token_hex(4)}"
    for variable, value in {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "MEDIA_BUCKET": name,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(variable, value)
    bucket = boto3.resource("s3").Bucket(name)
    bucket.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return bucket


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with serving() as graph:
        monkeypatch.setenv("WHATSAPP_GRAPH_URL", graph.url)
        monkeypatch.setenv("WHATSAPP_TOKEN", TOKEN)
        yield graph


@dataclass(frozen=True)
class Media:
    """Two businesses, a bucket and WhatsApp, with the functions between them."""

    graph: Graph
    bucket: Any
    stack: Stack
    connection: psycopg.Connection[Row]

    def rows(self, query: LiteralString, *parameters: object) -> list[Row]:
        return self.connection.execute(query, parameters).fetchall()

    def receive(
        self,
        name: str,
        content: bytes,
        type_: str = "image",
        days_ago: int = 0,
        number: str = NUMBER,
        **file: str,
    ) -> UUID:
        """A message of Cilka's with a file that WhatsApp has; answers the message's id."""
        self.graph.files[name] = content
        described = {"id": name, "mime_type": "image/jpeg", "sha256": digest(content)} | file
        item = {
            "kind": "message",
            "phone_number_id": number,
            "provider_id": f"wamid.{name}",
            "wa_id": "38640111222",
            "sent_at": (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(),
            "type": type_,
            "text": f"[{type_}]",
            "content": {"type": type_, type_: described},
        }
        items = json.dumps([item])
        self.rows("select backend.ingest_whatsapp(%s, %s)", items, items)
        (row,) = self.rows("select id from public.messages where provider_id = %s", f"wamid.{name}")
        found: UUID = row["id"]
        return found

    def fetch(self, timeout: float = 60) -> dict[str, int]:
        """One run of the worker, with all that waits due."""
        self.connection.execute("update private.media_queue set not_before = now(), worker = null")
        return fetch_media.handler({}, InvocationContext("fetch_media", 1024, timeout))  # type: ignore[arg-type]

    def sync_templates(self) -> dict[str, int]:
        """One run of the worker."""
        return sync_templates.handler({}, InvocationContext("sync_templates", 512, 60))  # type: ignore[arg-type]

    def file(self, message: UUID) -> Row:
        (row,) = self.rows("select * from public.message_media where message_id = %s", message)
        return row

    def stored(self) -> dict[str, bytes]:
        return {one.key: one.get()["Body"].read() for one in self.bucket.objects.all()}

    def headers(self, actor: str) -> dict[str, str]:
        token = keys.mint_user_token(self.stack.signing_key, user_id=UUID(PEOPLE[actor]))
        return {"authorization": f"Bearer {token}"}

    def http(self) -> httpx.AsyncClient:
        """The API as API Gateway serves it."""
        service = Service.read(SERVERLESS_FILE)
        app = application([one for one in deploy(service) if one.name == "media_api"])
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.example")

    async def ask(self, actor: str, message: object) -> httpx.Response:
        async with self.http() as client:
            return await client.get(f"/api/messages/{message}/media", headers=self.headers(actor))

    async def announce(self, actor: str, **changes: object) -> httpx.Response:
        (row,) = self.rows("select id from public.conversations")
        body = {
            "conversationId": str(row["id"]),
            "type": "document",
            "mimeType": "application/pdf",
            "size": len(PHOTO),
            "fileName": "Načrt.pdf",
        }
        async with self.http() as client:
            return await client.post("/api/media", json=body | changes, headers=self.headers(actor))


@pytest.fixture
def media(
    gateway: Stack,
    database: Database,
    bucket: Any,
    graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Media]:
    monkeypatch.setenv("SUPABASE_URL", gateway.url)
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", gateway.publishable_key)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", gateway.secret_key)
    opened = [
        fetch_media._store,
        fetch_media._graph,
        sync_templates._store,
        sync_templates._graph,
        media_api._users,
    ]
    for one in (*opened, fetch_media._storage, media_api._storage):
        one.cache_clear()
    with psycopg.connect(database.url(), autocommit=True, row_factory=dict_row) as connection:
        _populate(connection)
        yield Media(graph, bucket, gateway, connection)
    for one in opened:
        if one.cache_info().currsize:
            one().close()
        one.cache_clear()


def _populate(connection: psycopg.Connection[Row]) -> None:
    for name, user in PEOPLE.items():
        connection.execute(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, %s, 'authenticated', 'authenticated')",
            [user, f"{name}@rapport.example"],
        )
    connection.execute(
        "insert into public.accounts (id, name) values (%s, 'Alpine'), (%s, 'Bay')", [ALPINE, BAY]
    )
    connection.execute(
        "insert into public.account_members (account_id, user_id, role, display_name) values"
        " (%s, %s, 'agent', 'Andrej'), (%s, %s, 'viewer', 'Vera'), (%s, %s, 'agent', 'Ana')",
        [ALPINE, PEOPLE["andrej"], ALPINE, PEOPLE["vera"], BAY, PEOPLE["ana"]],
    )
    connection.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name, waba_id) values"
        " (%s, %s, 'any', 'any', '501'), (%s, '7', 'any', 'any', '502')",
        [ALPINE, NUMBER, BAY],
    )
    connection.execute(
        "insert into public.contacts (id, account_id, name, phone, portal_user_id)"
        " values (%s, %s, 'Cilka', '+38640111222', %s)",
        [CILKA, ALPINE, PEOPLE["cilka"]],
    )
    connection.execute(
        "insert into public.contact_identities (account_id, kind, value, contact_id)"
        " values (%s, 'phone', '+38640111222', %s)",
        [ALPINE, CILKA],
    )


async def test_a_photo_comes_into_the_bucket_and_out_to_those_who_see_its_message(
    media: Media,
) -> None:
    message = media.receive("p1", PHOTO)
    assert (await media.ask("andrej", message)).status_code == 202
    assert media.fetch() == {"stored": 1}

    row = media.file(message)
    assert (row["state"], row["size"]) == ("stored", len(PHOTO))
    assert media.stored() == {f"{ALPINE}/{message}/{row['id']}": PHOTO}
    for actor in ("andrej", "vera", "cilka"):
        response = await media.ask(actor, message)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        answer = response.json()
        got = visit(answer["url"])
        assert got.content == PHOTO
        assert got.headers["content-type"] == "image/jpeg"
        assert got.headers["content-disposition"].startswith('attachment; filename="file.jpg"')
        assert "X-Amz-Expires=300" in answer["url"]


async def test_nobody_else_learns_that_there_is_a_file(media: Media) -> None:
    message = media.receive("p1", PHOTO)
    media.fetch()
    refused = [await media.ask(actor, message) for actor in ("ana", "stranger")]
    none = await media.ask("andrej", PEOPLE["andrej"])
    assert [one.status_code for one in (*refused, none)] == [404] * 3
    assert {one.text for one in (*refused, none)} == {refused[0].text}
    for no_id in ("x", "%2e%2e"):
        answer = await media.ask("andrej", no_id)
        assert (answer.status_code, answer.json()["field"]) == (422, "id")


async def test_without_a_good_token_there_is_nothing(media: Media) -> None:
    message = media.receive("p1", PHOTO)
    forged = keys.mint_user_token("another-secret-another-secret-another", user_id=UUID(ALPINE))
    async with media.http() as client:
        answers = [
            await client.get(f"/api/messages/{message}/media", headers=headers)
            for headers in (
                {},
                {"authorization": "Basic x"},
                {"authorization": "Bearer "},
                {"authorization": "Bearer x"},
                {"authorization": f"Bearer {forged}"},
            )
        ]
    assert [(one.status_code, one.json()["code"]) for one in answers] == [
        (401, "not_signed_in")
    ] * 5


async def test_what_calls_itself_a_page_is_handed_out_as_bytes(media: Media) -> None:
    message = media.receive(
        "d1",
        b"<script>alert(1)</script>",
        "document",
        mime_type="text/html",
        filename='../"\r\nx-evil: 1.html',
    )
    media.fetch()
    answer = (await media.ask("andrej", message)).json()
    got = visit(answer["url"])
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment;")
    assert "x-evil" not in got.headers
    # nor without the address's own wishes
    kept = media.bucket.Object(media.file(message)["object_key"])
    assert (kept.content_type, kept.content_disposition) == (
        "application/octet-stream",
        "attachment",
    )


async def test_media_gone_after_one_503(media: Media) -> None:
    """Failure case 16: the message stays, the file is fetched by a later try."""
    message = media.receive("p1", PHOTO)
    media.graph.troubles.extend([503])
    assert media.fetch() == {"pending": 1}
    media.graph.troubles.extend(["no trouble", 503])
    assert media.fetch() == {"pending": 1}
    media.graph.troubles.extend(["no trouble", "cut"])
    assert media.fetch() == {"pending": 1}
    media.graph.troubles.extend(["no trouble", 404])
    assert media.fetch() == {"pending": 1}
    assert media.stored() == {}

    # a webhook that is repeated meanwhile changes nothing
    assert media.receive("p1", PHOTO) == message
    assert media.fetch() == {"stored": 1}
    assert list(media.stored().values()) == [PHOTO]


def test_a_file_that_is_another_than_was_sent_is_not_kept(media: Media) -> None:
    message = media.receive("p1", PHOTO)
    media.graph.files["p1"] = PHOTO[:-1] + b"x"
    assert media.fetch() == {"pending": 1}
    assert media.stored() == {}
    (job,) = media.rows("select last_error from private.media_queue")
    assert "SHA-256" in job["last_error"]
    assert media.file(message)["sha256"] == hashlib.sha256(PHOTO).hexdigest()


def test_a_large_file_goes_through_in_parts(media: Media) -> None:
    large = secrets.token_bytes(1024) * (20 * 1024)
    media.receive("v1", large, "video")
    assert media.fetch() == {"stored": 1}
    (kept,) = media.bucket.objects.all()
    assert kept.size == len(large)
    # S3 marks what came in parts
    assert "-3" in kept.e_tag
    assert hashlib.sha256(kept.get()["Body"].read()).digest() == hashlib.sha256(large).digest()


def test_a_large_file_is_written_again_where_the_answer_to_its_end_is_lost(
    bucket: Any, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bytes(9 * 1024 * 1024)
    with recording(s3) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws.url)
        aws.lost = "uploadId="
        storage = Storage(
            MediaSettings(media_bucket=bucket.name, aws_endpoint_url_s3=HttpUrl(aws.url))
        )
        with pytest.raises(StorageUnavailable, match="NoSuchUpload"):
            storage.put("a/1.mp4", BytesIO(large), "video/mp4")
        storage.put("a/1.mp4", BytesIO(large), "video/mp4")
    (kept,) = bucket.objects.all()
    assert kept.size == len(large)


async def test_a_file_beyond_the_limit_fails_and_is_not_kept(media: Media) -> None:
    message = media.receive("v1", bytes(100 * 1024 * 1024 + 1), "video")
    assert media.fetch() == {"failed": 1}
    assert media.stored() == {}
    response = await media.ask("andrej", message)
    assert response.status_code == 409
    assert response.json() == {
        "code": "not_fetched",
        "message": "The file is larger than 100 MB.",
    }


async def test_a_file_that_whatsapp_does_not_know_fails_or_has_expired(media: Media) -> None:
    known, old = media.receive("p1", PHOTO), media.receive("p2", PHOTO, days_ago=8)
    media.graph.files.clear()
    assert media.fetch() == {"failed": 1, "expired": 1}
    assert (await media.ask("andrej", known)).status_code == 409
    gone = await media.ask("andrej", old)
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")


def test_a_token_that_is_not_accepted_costs_no_file(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.receive("p1", PHOTO)
    with monkeypatch.context() as patch:
        patch.setenv("WHATSAPP_TOKEN", "old")
        assert media.fetch() == {"pending": 1}
    fetch_media._graph().close()
    fetch_media._graph.cache_clear()
    assert media.fetch() == {"stored": 1}


def test_a_bucket_that_is_away_costs_no_file(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    media.receive("p1", PHOTO)
    with monkeypatch.context() as patch:
        patch.setenv("MEDIA_BUCKET", "no-such-bucket")
        assert media.fetch() == {"pending": 1}
    fetch_media._storage.cache_clear()
    assert media.fetch() == {"stored": 1}


def test_a_worker_without_time_begins_nothing(media: Media) -> None:
    media.receive("p1", PHOTO)
    assert media.fetch(timeout=fetch_media.SETTLE_SECONDS) == {}
    assert media.graph.asked == []
    assert media.fetch() == {"stored": 1}


def test_the_log_tells_of_ids_alone(media: Media) -> None:
    media.receive("p1", PHOTO, "document", filename="Cilka.pdf")
    media.receive("p2", PHOTO)
    media.graph.troubles.append(503)
    stream = StringIO()
    listener = StreamHandler(stream)
    listener.setFormatter(logger.registered_formatter)
    logger.addHandler(listener)
    try:
        media.fetch()
    finally:
        logger.removeHandler(listener)
    log = stream.getvalue()
    assert log.count('"fetched"') == 2
    for private in ("Cilka", "38640111222", TOKEN, "/files/", "photo"):
        assert private not in log


async def test_an_agent_s_file_goes_into_the_bucket_and_to_whatsapp(media: Media) -> None:
    media.receive("p1", PHOTO)
    response = await media.announce("andrej")
    assert response.status_code == 201
    upload = response.json()
    assert visit(upload["url"], upload["method"], PHOTO, upload["headers"]).status_code == 200
    assert media.stored() == {f"{ALPINE}/uploads/{upload['uploadId']}": PHOTO}
    # an address for just this type and size
    assert "X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost" in upload["url"]

    content = {"upload_id": upload["uploadId"], "caption": "See page 2"}
    sent = _post_message(media, content)
    answer = await media.ask("cilka", sent)
    assert visit(answer.json()["url"]).content == PHOTO

    graph, storage = GraphMedia(GraphSettings.load()), Storage(MediaSettings.load())
    with closing(MediaStore(StoreSettings.load())) as store, closing(graph):
        file = store.media_to_send(sent)
        assert file is not None
        media_id = upload_to_whatsapp(file, NUMBER, graph, storage)
    ((number, body),) = media.graph.uploads
    assert number == NUMBER
    assert PHOTO in body
    assert content_to_send("document", content, file, media_id) == {
        "caption": "See page 2",
        "id": "up1",
        "filename": "Načrt.pdf",
    }


@pytest.mark.usefixtures("bucket")
def test_a_file_that_claims_to_be_compressed_is_read_as_it_is_stored() -> None:
    storage = Storage(MediaSettings.load())
    packed = gzip.compress(bytes(10_000_000))
    link = storage.upload_link("claims", content_type="image/jpeg", size=len(packed))
    headers = {"content-type": "image/jpeg", "content-encoding": "gzip"}
    assert visit(link, "PUT", packed, headers).status_code == 200
    with storage.open("claims") as stored:
        assert stored.size == len(packed)
        assert stored.body.read() == packed


async def test_a_file_that_was_only_announced_is_not_sent(media: Media) -> None:
    media.receive("p1", PHOTO)
    upload = (await media.announce("andrej")).json()
    sent = _post_message(media, {"upload_id": upload["uploadId"]})
    graph, storage = GraphMedia(GraphSettings.load()), Storage(MediaSettings.load())
    with closing(MediaStore(StoreSettings.load())) as store, closing(graph):
        file = store.media_to_send(sent)
        assert file is not None
        with pytest.raises(NotFound):
            upload_to_whatsapp(file, NUMBER, graph, storage)
    assert media.graph.uploads == []


@pytest.mark.parametrize(
    ("actor", "changes", "status", "error"),
    [
        ("vera", {}, 403, "not_allowed"),
        ("cilka", {}, 403, "not_allowed"),
        ("ana", {}, 404, "not_found"),
        ("stranger", {}, 404, "not_found"),
        ("andrej", {"mimeType": "text/html"}, 422, "unprocessable"),
        ("andrej", {"size": 2**40}, 422, "unprocessable"),
        ("andrej", {"size": -1}, 422, "unprocessable"),
        ("andrej", {"size": "many"}, 422, "unprocessable"),
        ("andrej", {"key": "x"}, 422, "unprocessable"),
        ("andrej", {"fileName": "x" * 5000}, 413, "payload_too_large"),
    ],
)
async def test_what_may_not_be_sent_gets_no_address(
    media: Media, actor: str, changes: Row, status: int, error: str
) -> None:
    media.receive("p1", PHOTO)
    response = await media.announce(actor, **changes)
    assert (response.status_code, response.json()["code"]) == (status, error)
    assert "url" not in response.json()
    assert media.rows("select from private.media_uploads") == []


def _post_message(media: Media, content: Row) -> UUID:
    """A document that Andrej sends to Cilka."""
    with media.connection.transaction():
        claims = json.dumps({"role": "authenticated", "sub": PEOPLE["andrej"]})
        media.rows("select set_config('request.jwt.claims', %s, true)", claims)
        (row,) = media.rows(
            "select (public.post_message(c.id, '', type => 'document', content => %s)"
            " ->> 'id')::uuid as id from public.conversations c",
            json.dumps(content),
        )
    found: UUID = row["id"]
    return found


def test_templates_are_read_for_every_business_and_one_that_fails_keeps_none_of_them(
    media: Media,
) -> None:
    def template(name: str) -> Row:
        return {
            "name": name,
            "language": "sl",
            "category": "UTILITY",
            "status": "APPROVED",
            "components": [{"type": "BODY", "text": "Hello {{1}} and {{2}}"}],
        }

    media.graph.templates["502"] = [template(f"t{n}") for n in range(5)]
    assert media.sync_templates() == {"synced": 1, "failed": 1}
    media.graph.templates["501"] = [template("ours"), {"name": "broken"}]
    media.graph.templates["502"].pop()
    assert media.sync_templates() == {"synced": 2, "failed": 0}

    rows = media.rows(
        "select account_id::text as account, name, body_variables"
        " from public.sendable_templates order by name"
    )
    assert [(row["account"], row["name"], row["body_variables"]) for row in rows] == [
        (ALPINE, "ours", 2),
        *((BAY, f"t{n}", 2) for n in range(4)),
    ]


def test_two_numbers_have_two_tokens_for_files_both_ways_and_for_templates(
    media: Media, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As deployed: an SSM parameter for each number, and no token for all."""
    monkeypatch.delenv("WHATSAPP_TOKEN")
    monkeypatch.setenv("WHATSAPP_TOKEN_PARAMETER", "/rapport/{phone_number_id}/token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", s3)
    for number, token in ((NUMBER, "alpine"), ("7", "bay")):
        boto3.client("ssm").put_parameter(
            Name=f"/rapport/{number}/token", Value=token, Type="SecureString", Overwrite=True
        )
    media.graph.tokens = {
        **dict.fromkeys((NUMBER, "p1", "501"), "alpine"),
        **dict.fromkeys(("7", "p2", "502"), "bay"),
    }

    media.receive("p1", PHOTO)
    media.receive("p2", PHOTO + b"2", number="7")
    assert media.fetch() == {"stored": 2}

    graph = GraphMedia(GraphSettings.load())
    storage = Storage(MediaSettings.load())
    for number in (NUMBER, "7"):
        storage.put(f"file of {number}", BytesIO(number.encode()), "text/plain")
        file = FileToSend(
            object_key=f"file of {number}", mime_type="text/plain", file_name="a", size=99
        )
        upload_to_whatsapp(file, number, graph, storage)
    graph.close()
    assert [number for number, _ in media.graph.uploads] == [NUMBER, "7"]

    media.graph.templates = {"501": [], "502": []}
    assert media.sync_templates() == {"synced": 2, "failed": 0}
    # and of several in one WhatsApp Business account any will do
    media.connection.execute("update public.whatsapp_channels set waba_id = '502'")
    boto3.client("ssm").delete_parameter(Name=f"/rapport/{NUMBER}/token")
    sync_templates._graph.cache_clear()
    assert media.sync_templates() == {"synced": 1, "failed": 0}


def privacy(*arguments: str) -> tuple[int, str]:
    """The status of `rapport privacy …`, and what it prints."""
    ended = CliRunner().invoke(app, ["privacy", *arguments])
    return ended.exit_code, ended.output


def test_a_person_gets_a_copy_of_all_files_and_then_has_none(media: Media, tmp_path: Path) -> None:
    photo, gone = media.receive("p1", PHOTO), media.receive("p2", b"other")
    media.fetch()
    # a file whose row another worker took long to settle, and one that the bucket has lost
    media.bucket.put_object(Key=f"{ALPINE}/{photo}/stray", Body=PHOTO)
    media.bucket.Object(media.file(gone)["object_key"]).delete()
    media.bucket.put_object(Key=f"{BAY}/{photo}/another", Body=PHOTO)

    file = tmp_path / "copy.zip"
    status, told = privacy("export", CILKA, "--out", str(file))
    assert (status, "1 files are left out" in told) == (0, True), told
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["contact_ids"] == [CILKA]
        [lost, kept] = sorted(manifest["files"], key=lambda one: one["size"])
        assert lost["left_out"] == "The bucket does not have it."
        assert archive.read(kept["file"]) == PHOTO
        messages = json.loads(archive.read("data/messages.json"))
        assert [one["seq"] for one in messages] == [1, 2]
        [contact] = json.loads(archive.read("data/contacts.json"))
        assert contact["name"] == "Cilka"
        named = {one["file"] for one in (*manifest["tables"], *manifest["files"])} - {lost["file"]}
        assert set(archive.namelist()) == named | {"README.txt", "manifest.json"}

    status, told = privacy("erase", CILKA)
    assert status == 1
    media.rows("select backend.hold_contact(%s, 'Court file 7')", CILKA)
    for options in ((), ("--yes",)):
        error = CliRunner().invoke(app, ["privacy", "erase", CILKA, *options]).exception
        assert isinstance(error, Conflict)
        assert error.hint == f"If the hold has ended: rapport privacy release {CILKA}"
    assert set(media.stored()) >= {f"{ALPINE}/{photo}/stray"}
    assert privacy("release", CILKA)[0] == 0

    status, told = privacy("erase", CILKA, "--yes")
    assert (status, "No word of the person is left" in told) == (0, True), told
    assert set(media.stored()) == {f"{BAY}/{photo}/another"}
    status, again = privacy("erase", CILKA, "--yes")
    assert status == 0
    assert told.endswith(again.replace("already, ", "")), again
    assert "Erased already, at" in again
    status, told = privacy("log", "--account", ALPINE)
    assert [line.split()[3] for line in told.splitlines()] == [
        "export", "hold", "release", "erase",
    ]  # fmt: skip


def test_a_file_that_comes_while_its_message_is_erased_goes(media: Media) -> None:
    message = media.receive("p1", PHOTO)
    store = fetch_media._store()
    [job] = store.claim_media("run", 1)
    media.connection.execute("delete from public.messages where id = %s", [message])
    fetch_media._storage().put(job.object_key, BytesIO(PHOTO), "image/jpeg")
    state = store.settle_media(job, "run", MediaOutcome("stored", size=1))
    assert state == "gone"
