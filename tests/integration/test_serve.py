"""`rapport serve` beside a project: one process that a container stops and starts as it likes."""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from tests.integration.container import Image, build
from tests.integration.serving import PATIENCE, eventually, project, serving
from tests.stacks import Start
from tests.world import ALPINE_NUMBER, World, seed_uuid

from rapport.local.fakes.whatsapp.payloads import encode, inbound_text
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import WEBHOOK_PATH, Stack
from rapport.local.supabase import keys
from rapport.whatsapp.webhook import HEADER, sign

# a call of the API for the messages, which are locked
WAITS = """
    select exists (
        select from pg_locks l
        join pg_database d on d.oid = l.database
        where d.datname = current_database()
          and l.relation = 'public.messages'::regclass
          and not l.granted
    )
"""


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("postgrest", "gateway")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("container") / "image")


def webhook(stack: Stack, text: str) -> tuple[bytes, dict[str, str]]:
    body = encode(
        inbound_text(phone_number_id=ALPINE_NUMBER, sender="38640111999", name="Nejc", text=text)
    )
    return body, {HEADER: sign(body, stack.whatsapp_app_secret)}


def make_due(owner: psycopg.Connection, *functions: str) -> None:
    """Gives these schedules to the servers of a test, which another one holds otherwise."""
    owner.execute(
        "update private.schedule_runs"
        " set due_at = now(), succeeded_at = null, run = null, run_until = null"
        " where function = any (%s)",
        [list(functions)],
    )


def have_run(owner: psycopg.Connection) -> set[str]:
    rows = owner.execute(
        "select function from private.schedule_runs where succeeded_at is not null"
    )
    return {row[0] for row in rows}


def test_one_process_carries_webhooks_and_schedules_and_ends_in_order(
    stack: Stack, database: Database, image: Image, tmp_path: Path
) -> None:
    variables = project(stack) | {"SERVE_URL": "https://rapport.example/"}
    with psycopg.connect(database.url(), autocommit=True) as owner, ThreadPoolExecutor() as others:
        world = World(database, owner)
        make_due(owner, "daily", "sweep_health")
        with (
            serving(tmp_path / "one.log", variables) as one,
            # as in a container
            serving(
                tmp_path / "two.log",
                image.environment | project(stack),
                image.command,
                inherited={},
            ) as two,
        ):
            eventually(lambda: one.is_ready() and two.is_ready())
            # no AWS, and no queue
            body, headers = webhook(stack, "Is Tuesday free?")
            assert one.http.post(WEBHOOK_PATH, content=body, headers=headers).json()["applied"] == 1
            assert world.value("select message from public.messages") == "Is Tuesday free?"

            # two servers, one run
            eventually(lambda: have_run(owner) == {"daily", "sweep_health"})
            assert len(one.lines("pruned") + two.lines("pruned")) == 1
            # the database rings at the one that says where it is
            address = world.value("select url from private.doorbell")
            assert address == "https://rapport.example/internal/wake"
            told = {**image.environment, "PORT": str(two.port)}
            assert subprocess.run(image.health, env=told, check=False).returncode == 0
            assert two.stop() == 0

            # a call that runs is answered, and nothing more is accepted; a body that has not come
            # is not waited for
            slow = socket.create_connection(("127.0.0.1", one.port), timeout=PATIENCE)
            slow.sendall(
                f"POST {WEBHOOK_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{".encode()
            )
            token = keys.mint_user_token(stack.signing_key, user_id=seed_uuid("andrej"))
            thread = world.value("select id from public.conversations")
            with psycopg.connect(database.url()) as busy:
                busy.execute("lock table public.messages in access exclusive mode")
                call = others.submit(
                    one.http.get,
                    "/api/messages",
                    params={"conversationId": str(thread)},
                    headers={"Authorization": f"Bearer {token}"},
                )
                eventually(lambda: world.value(WAITS))
                one.ask_to_stop()
                eventually(lambda: one.lines("stopping"))
            answer = call.result()
            assert (answer.status_code, answer.json()["messages"][0]["message"]) == (
                200,
                "Is Tuesday free?",
            )
            assert one.end() == 0
            with slow:
                assert slow.recv(4096).startswith(b"HTTP/1.1 503 ")
            [stopping] = one.lines("stopping")
            assert "messages_api" in stopping["running"]
            assert [line["cut"] for line in one.lines("stopped")] == [[]]
            routes = [line["route"] for line in one.lines("request") if line["route"]]
            assert sorted(routes) == ["GET /api/messages", *[f"POST {WEBHOOK_PATH}"] * 2]

        # what ran before the restart does not run again, and what is due does
        began = world.value("select began_at from private.schedule_runs where function = 'daily'")
        make_due(owner, "sweep_health")
        with serving(tmp_path / "again.log", project(stack)) as again:
            eventually(lambda: "sweep_health" in have_run(owner))
            assert again.stop() == 0
        assert again.lines("pruned") == []
        assert began == world.value(
            "select began_at from private.schedule_runs where function = 'daily'"
        )
        logs = one.log() + two.log() + again.log()
        _url, *keys_and_secrets = project(stack).values()
        private = (*keys_and_secrets, token, "Tuesday", "38640111999")
        assert [one for one in private if one in logs] == []


def test_a_server_with_wrong_keys_lives_and_says_which_are_wrong(
    stack: Stack, tmp_path: Path
) -> None:
    wrong = {
        "SUPABASE_SECRET_KEY": "sb_secret_of_another_project",
        "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_of_another_project",
    }
    with serving(tmp_path / "serve.log", project(stack) | wrong) as served:
        answer = served.http.get("/ready")
        # the database is away for it: Meta repeats for 7 days
        body, headers = webhook(stack, "Is Tuesday free?")
        refused = served.http.post(WEBHOOK_PATH, content=body, headers=headers)
        assert served.stop() == 0
    assert (answer.status_code, refused.status_code) == (503, 503)
    secret, publishable = answer.json()["problems"]
    assert "SUPABASE_SECRET_KEY" in secret
    assert "SUPABASE_PUBLISHABLE_KEY" in publishable
    for key in wrong.values():
        assert key not in answer.text + served.log()


def test_the_image_is_small_and_says_what_its_environment_lacks(image: Image) -> None:
    # the base has 120 MB
    assert image.size() < 70_000_000
    assert int(image.user.partition(":")[0]) > 0
    rooms = {path.name for path in (image.folder / "functions" / "rapport").iterdir()}
    assert "server" in rooms
    assert rooms.isdisjoint({"client", "commands", "local", "web"})

    started = subprocess.run(
        image.command, env=image.environment, capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    assert "SUPABASE_URL" in started.stderr
    assert "Traceback" not in started.stderr
