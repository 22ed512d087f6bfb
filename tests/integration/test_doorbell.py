"""A writer of work wakes the worker, after the commit and once: rings as a server hears them."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg
import pytest
from tests.stacks import Start

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.prepare import set_doorbell

SECRET = "of the doorbell, 32 characters at least"
PATIENCE_S = 15.0


@dataclass(frozen=True)
class Ring:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """A server that hears rings and answers them."""

    status: int = 202
    # seconds until it answers
    pause: float = 0
    port: int = 0
    rings: queue.SimpleQueue[Ring] = field(default_factory=queue.SimpleQueue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/internal/wake"

    def next(self) -> Ring:
        return self.rings.get(timeout=PATIENCE_S)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            listener.rings.put(Ring(self.path, headers, body))
            stopped.wait(listener.pause)
            self.send_response(listener.status)
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(b"woken")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # a batch's connections come at once
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Handler)
    listener.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield listener
    stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def owner(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def bell(start: Start, owner: psycopg.Connection[Any], listener: Listener) -> Listener:
    """A doorbell that the listener hears."""
    start("net")
    owner.execute("select backend.set_doorbell(%s, %s)", [listener.url, SECRET])
    return listener


@pytest.fixture
def own_owner(own_database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(own_database.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def own_bell(own_start: Start, own_owner: psycopg.Connection[Any], listener: Listener) -> Listener:
    own_start("net")
    own_owner.execute("select backend.set_doorbell(%s, %s)", [listener.url, SECRET])
    return listener


@pytest.fixture
def own_gateway(own_start: Start) -> Stack:
    """A stack in which nobody makes requests."""
    return own_start("postgrest", "gateway")


@contextmanager
def acting(database: Database, role: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url("authenticator")) as connection:
        connection.execute(f"set local role {role}".encode())
        yield connection


def ring(connection: psycopg.Connection[Any], worker: str = "deliver_outbound") -> None:
    connection.execute("select private.ring(%s)", [worker])


def responses(owner: psycopg.Connection[Any], count: int) -> list[dict[str, Any]]:
    """Waits until so many requests are settled."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        rows = owner.execute("select to_jsonb(r) from net._http_response r order by id").fetchall()
        if len(rows) >= count:
            return [row[0] for row in rows]
        time.sleep(0.02)
    raise AssertionError(f"{len(rows)} of {count} requests were settled")


def waiting(owner: psycopg.Connection[Any]) -> int:
    row = owner.execute("select count(*) from net.http_request_queue").fetchone()
    assert row is not None
    return int(row[0])


def test_a_ring_says_whom_to_wake_and_proves_who_rings(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    ring(owner)

    heard = bell.next()
    assert heard.path == "/internal/wake"
    assert heard.headers["authorization"] == f"Bearer {SECRET}"
    assert heard.headers["content-type"] == "application/json"
    assert json.loads(heard.body) == {"worker": "deliver_outbound"}


def test_a_transaction_rings_once_for_each_worker_when_it_commits(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    with owner.transaction():
        for _ in range(3):
            ring(owner, "deliver_outbound")
            ring(owner, "fetch_media")
        assert waiting(owner) == 2
        assert bell.rings.empty()
    with owner.transaction():
        ring(owner)

    workers = [json.loads(bell.next().body)["worker"] for _ in range(3)]
    assert sorted(workers) == ["deliver_outbound", "deliver_outbound", "fetch_media"]
    assert len(responses(owner, 3)) == 3
    assert bell.rings.empty()


def test_messages_that_are_queued_together_ring_once(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("insert into public.accounts (external_id, name) values ('alpine', 'Alpine')")
    owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name)"
        " select id, '1003427786179738', 'any', 'any' from public.accounts"
    )
    inbound = {
        "kind": "message",
        "phone_number_id": "1003427786179738",
        "provider_id": "wamid.1",
        "wa_id": "385911234567",
        "sent_at": "2026-11-21T10:00:00Z",
        "type": "text",
        "text": "hello",
    }
    owner.execute("select backend.ingest_whatsapp('{}', %s)", [json.dumps([inbound])])
    assert waiting(owner) == 0
    owner.execute(
        """
        insert into public.messages (
            account_id, conversation_id, customer_id, whatsapp_channel_id, seq, sender_type,
            message, status
        )
        select account_id, id, customer_id, whatsapp_channel_id, seq, 'operator', 'hi', 'queued'
        from public.conversations, generate_series(2, 4) as seq
        """
    )

    assert json.loads(bell.next().body) == {"worker": "deliver_outbound"}
    assert len(responses(owner, 1)) == 1
    assert bell.rings.empty()


def test_nothing_rings_for_what_was_rolled_back(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    with owner.transaction() as transaction:
        ring(owner, "rolled_back")
        raise psycopg.Rollback(transaction)
    ring(owner, "committed")

    assert json.loads(bell.next().body) == {"worker": "committed"}
    assert [row["status_code"] for row in responses(owner, 1)] == [202]
    assert bell.rings.empty()


def test_a_ring_that_a_savepoint_took_back_can_be_rung_again(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    with owner.transaction():
        with owner.transaction() as savepoint:
            ring(owner)
            raise psycopg.Rollback(savepoint)
        ring(owner)

    bell.next()
    responses(owner, 1)
    assert bell.rings.empty()


def test_what_was_answered_is_recorded_without_the_secret(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    bell.status = 503
    ring(owner)

    (response,) = responses(owner, 1)
    assert (response["status_code"], response["content"]) == (503, "woken")
    assert response["content_type"] == "text/plain"
    assert (response["timed_out"], response["error_msg"]) == (False, None)
    assert SECRET not in json.dumps(response)
    assert waiting(owner) == 0


def test_nobody_at_the_door_is_recorded(start: Start, owner: psycopg.Connection[Any]) -> None:
    start("net")
    owner.execute("select backend.set_doorbell('http://127.0.0.1:1/internal/wake', %s)", [SECRET])
    ring(owner)

    (response,) = responses(owner, 1)
    assert response["status_code"] is None
    assert response["timed_out"] is False
    assert response["error_msg"]


def test_a_request_that_cannot_be_made_stops_no_other(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    with owner.transaction():
        for url, headers in (
            (bell.url, {"x-number": 7}),
            (bell.url, {"x-name": "ž\n"}),
            ("nonsense", {}),
            ("http://[", {}),
            (bell.url, {}),
        ):
            owner.execute("select net.http_post(%s, headers => %s)", [url, json.dumps(headers)])

    settled = responses(owner, 5)
    assert [row["status_code"] for row in settled] == [202, None, None, None, 202]
    assert all(row["error_msg"] for row in settled if row["status_code"] is None)
    assert bell.next().headers["content-type"] == "application/json"


def test_a_request_ends_at_its_time_out(bell: Listener, owner: psycopg.Connection[Any]) -> None:
    bell.pause = PATIENCE_S
    owner.execute("select net.http_post(%s, timeout_milliseconds => 100)", [bell.url])

    (response,) = responses(owner, 1)
    assert response["timed_out"] is True
    assert response["error_msg"] == "Timeout of 100 ms reached."


def test_parameters_are_encoded_into_the_url(own_owner: psycopg.Connection[Any]) -> None:
    for url, encoded in (
        ("http://example.com/", "http://example.com/?to=a%20b%26%C5%BE~"),
        ("http://example.com/?limit=1", "http://example.com/?limit=1&to=a%20b%26%C5%BE~"),
    ):
        params = json.dumps({"to": "a b&ž~"})
        row = own_owner.execute("select net.http_get(%s, params => %s)", [url, params]).fetchone()
        assert row is not None
        assert own_owner.execute(
            "select url from net.http_request_queue where id = %s", [row[0]]
        ).fetchone() == (encoded,)


def test_a_get_is_answered(start: Start, owner: psycopg.Connection[Any]) -> None:
    stack = start("net", "fakes")
    owner.execute("select net.http_get(%s)", [f"{stack.whatsapp_url}/health"])

    (response,) = responses(owner, 1)
    assert (response["status_code"], response["content"]) == (200, "ok")


def test_only_json_is_posted(owner: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="application/json"):
        owner.execute(
            "select net.http_post('http://example.com/', headers => %s)",
            [json.dumps({"content-type": "text/plain"})],
        )


def test_requests_of_a_time_without_a_worker_are_made_when_it_comes(
    own_start: Start, own_owner: psycopg.Connection[Any], listener: Listener
) -> None:
    own_owner.execute("select backend.set_doorbell(%s, %s)", [listener.url, SECRET])
    ring(own_owner)
    with pytest.raises(psycopg.errors.RaiseException, match="not up"):
        own_owner.execute("select net.check_worker_is_up()")
    assert waiting(own_owner) == 1

    own_start("net")
    listener.next()
    own_owner.execute("select net.check_worker_is_up()")


def test_the_worker_comes_back_when_it_loses_the_database(
    own_bell: Listener, own_database: Database, own_owner: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(own_database.url("supabase_admin"), autocommit=True) as admin:
        ended = admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'pg_net' and datname = current_database()"
        ).fetchall()
    assert ended == [(True,)]
    ring(own_owner)

    assert json.loads(own_bell.next().body) == {"worker": "deliver_outbound"}


def test_more_requests_than_a_batch_holds_are_all_made(
    bell: Listener, owner: psycopg.Connection[Any]
) -> None:
    with owner.transaction():
        owner.execute("select net.http_post(%s) from generate_series(1, 450)", [bell.url])

    assert {row["status_code"] for row in responses(owner, 450)} == {202}
    assert waiting(owner) == 0


def test_without_a_doorbell_nothing_rings(own_owner: psycopg.Connection[Any]) -> None:
    ring(own_owner)

    assert waiting(own_owner) == 0


def test_a_ring_that_fails_aborts_nothing(
    own_database: Database, own_owner: psycopg.Connection[Any]
) -> None:
    own_owner.execute("select backend.set_doorbell('http://127.0.0.1:1/', %s)", [SECRET])
    with psycopg.connect(own_database.url("supabase_admin"), autocommit=True) as admin:
        admin.execute("drop schema net cascade")
    warnings: list[str] = []
    own_owner.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
    with own_owner.transaction():
        own_owner.execute("create table public.written as select 1 as value")
        ring(own_owner)

    assert own_owner.execute("table public.written").fetchall() == [(1,)]
    assert len(warnings) == 1
    assert warnings[0].startswith("no worker was woken")
    assert SECRET not in warnings[0]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_no_client_sees_the_secret(
    database: Database, owner: psycopg.Connection[Any], role: str
) -> None:
    owner.execute("select backend.set_doorbell('http://127.0.0.1:1/', %s)", [SECRET])
    for statement in (
        "select secret from private.doorbell",
        "update private.doorbell set url = 'http://elsewhere.example/'",
        "select private.ring('deliver_outbound')",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            acting(database, role) as connection,
        ):
            connection.execute(statement.encode())


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_only_functions_say_where_to_ring(database: Database, role: str) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        acting(database, role) as connection,
    ):
        connection.execute("select backend.set_doorbell('http://elsewhere.example/', 'mine')")


def test_the_api_shows_nobody_what_is_to_be_requested(
    own_gateway: Stack, own_owner: psycopg.Connection[Any]
) -> None:
    own_owner.execute("select backend.set_doorbell('http://127.0.0.1:1/', %s)", [SECRET])
    ring(own_owner)
    assert waiting(own_owner) == 1
    for key in (own_gateway.publishable_key, own_gateway.secret_key):
        for schema in ("net", "private"):
            answer = httpx.get(
                f"{own_gateway.url}/rest/v1/http_request_queue",
                headers={"apikey": key, "accept-profile": schema},
                trust_env=False,
            )
            assert answer.status_code == httpx.codes.NOT_ACCEPTABLE
            assert SECRET not in answer.text


def test_a_developer_sets_the_doorbell_over_the_api(
    gateway: Stack, owner: psycopg.Connection[Any]
) -> None:
    def set_it(key: str, url: str | None, secret: str | None) -> httpx.Response:
        return httpx.post(
            f"{gateway.url}/rest/v1/rpc/set_doorbell",
            headers={"apikey": key, "content-profile": "backend"},
            json={"url": url, "secret": secret},
            trust_env=False,
        )

    def stored() -> tuple[Any, ...] | None:
        return owner.execute("select url, secret from private.doorbell").fetchone()

    url = "https://functions.example/internal/wake"
    assert set_it(gateway.publishable_key, url, SECRET).status_code == httpx.codes.UNAUTHORIZED
    assert stored() == (None, None)
    assert set_it(gateway.secret_key, url, SECRET).status_code == httpx.codes.NO_CONTENT
    assert stored() == (url, SECRET)
    for wrong in (("ftp://functions.example", SECRET), (url, "short but secret"), (url, None)):
        refusal = set_it(gateway.secret_key, *wrong)
        assert refusal.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        assert "secret" not in refusal.json()["message"].replace("a secret", "")
        assert SECRET not in refusal.text
        assert "short" not in refusal.text
    assert stored() == (url, SECRET)
    assert set_it(gateway.secret_key, None, None).status_code == httpx.codes.NO_CONTENT
    assert stored() == (None, None)


def test_a_stack_rings_at_its_own_functions(start: Start, owner: psycopg.Connection[Any]) -> None:
    stack = start()
    for _ in range(2):
        set_doorbell(stack)

    row = owner.execute("select url, secret from private.doorbell").fetchone()
    assert row == (f"{stack.functions_url}/internal/wake", stack.wake_secret)
