"""The zip: what is in it, and that it needs nothing else. The roles: what the functions do."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import certifi
import httpx
import psycopg
import pytest
from tests.aws import Aws, Call, recording
from tests.integration import bare
from tests.sql.outbound import conversation, post
from tests.stacks import Start
from tests.world import ALPINE, ALPINE_NUMBER, World, seed_uuid

from rapport.commands.package.bundle import DOCUMENT, PACKAGE, Bundle, build, modules_of_functions
from rapport.commands.package.command import read
from rapport.commands.package.document import Document
from rapport.commands.package.template import template_of
from rapport.connections import CERTIFICATES
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import AWS_KEY_ID, AWS_REGION, MEDIA_BUCKET, Stack
from rapport.local.supabase import keys
from rapport.server.events import schedule_event
from rapport.whatsapp.backlog import pack
from rapport.whatsapp.webhook import sign

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
PHOTO = b"\xff\xd8\xff photo " * 1000
STAGE = "prod"
LIMIT = 11_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As Lambda's x86-64 would get it, for the Python that runs this."""
    folder = tmp_path_factory.mktemp("bundle")
    return build(folder / "functions.zip", architecture="x86_64", runtime=RUNTIME)


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, unpacked as Lambda does it."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(bundle.file) as zipped:
        zipped.extractall(folder)
    return folder


def test_the_zip_has_what_the_functions_need_compiled_and_nothing_else(
    bundle: Bundle, folder: Path
) -> None:
    assert bundle.size <= LIMIT
    assert bundle.size == bundle.file.stat().st_size
    names = [path.name for path in (folder / "rapport").iterdir()]
    assert {"handlers", "whatsapp", "store"} <= set(names)
    # what people start, and what is about a table of contacts
    assert set(names).isdisjoint({"client", "commands", "contacts", "local", "server", "web"})
    tops = {path.name for path in folder.iterdir()}
    assert tops.isdisjoint({"boto3", "botocore", "pydantic_settings", "rich", "supabase"})
    assert not list(folder.glob("*.dist-info"))
    phone = {path.name for path in (folder / "phonenumbers").iterdir()}
    assert phone.isdisjoint({"geodata", "carrierdata", "tzdata", "geocoder.py", "carrier.py"})
    magic = importlib.util.MAGIC_NUMBER
    sources = list(folder.rglob("*.py"))
    for source in sources:
        # beside the source, wherever this process keeps its own
        compiled = (
            source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        )
        header = compiled.read_bytes()[:16]
        # PEP 552: by a hash of the source, which is not checked
        assert header[:8] == magic + b"\x01\0\0\0", source
        assert header[8:] == importlib.util.source_hash(source.read_bytes()), source
    assert len(sources) > 100


def test_of_our_folders_the_imported_modules_alone_are_packed(folder: Path) -> None:
    packed = {path.relative_to(folder) for path in (folder / "rapport").rglob("*")}
    modules = {path for path in packed if path.suffix == ".py"}
    assert {PACKAGE.parent / path for path in modules} == set(modules_of_functions())
    # no key, no environment and no notes that somebody keeps beside them
    files = {path for path in packed if (folder / path).is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    certificates = {path for path in others if path.parent.name == CERTIFICATES.name}
    assert others - certificates == {DOCUMENT.relative_to(PACKAGE.parent)}


def test_the_webhook_starts_without_httpx_and_reads_no_certificates(folder: Path) -> None:
    files = [path.name for path in (folder / "rapport" / CERTIFICATES.name).iterdir()]
    assert len(files) == Path(certifi.where()).read_text().count("BEGIN CERTIFICATE")
    assert all(re.fullmatch(r"[0-9a-f]{8}\.\d+", name) for name in files)
    # once is enough
    assert not list(folder.rglob("*.pem"))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import rapport.handlers.whatsapp_webhook\n"
        "from rapport.connections import trusted\n"
        "print('httpx' in sys.modules, trusted().cert_store_stats()['x509'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(folder)],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "0"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As Lambda's arm64 would get it."""
    folder = tmp_path_factory.mktemp("other")
    return build(folder / "functions.zip", architecture="arm64", runtime=RUNTIME)


def test_the_same_sources_give_the_same_bytes(bundle: Bundle, other: Bundle) -> None:
    """Of all that is no machine's own: names, order, times, modes and what is compressed."""
    one, another = packed(bundle), packed(other)
    assert one == another
    assert len(one) > 200


def packed(bundle: Bundle) -> list[tuple[object, ...]]:
    """What a zip holds for every machine, in its order."""
    with zipfile.ZipFile(bundle.file) as zipped, bundle.file.open("rb") as file:
        found = []
        for entry in zipped.infolist():
            if entry.filename.endswith(".so"):
                continue
            file.seek(entry.header_offset)
            # the header, which names the file, and what is compressed
            size = 30 + len(entry.filename.encode()) + len(entry.extra) + entry.compress_size
            found.append((entry.filename, file.read(size), entry.external_attr, entry.comment))
        return found


def test_for_arm64_the_compiled_parts_are_arm64_s(bundle: Bundle, other: Bundle) -> None:
    assert other.size <= LIMIT
    for one, machine in ((bundle, 0x3E), (other, 0xB7)):
        with zipfile.ZipFile(one.file) as zipped:
            libraries = [name for name in zipped.namelist() if name.endswith(".so")]
            assert any("pydantic_core" in name for name in libraries)
            for name in libraries:
                assert int.from_bytes(zipped.read(name)[18:20], "little") == machine, name


# --- with the zip alone


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


class Deployment:
    """The functions of the zip with the environment of the template, and AWS written down."""

    def __init__(self, folder: Path, stack: Stack, world: World, aws: Aws) -> None:
        self.folder = folder
        self.stack = stack
        self.world = world
        self.aws = aws
        self.document = read(STAGE)
        self.calls: dict[str, list[Call]] = {name: [] for name in self.document.functions}
        self.log = ""
        aws.parameters = {
            f"/rapport/{STAGE}/{name}": value
            for name, value in {
                "supabase-url": stack.url,
                "supabase-secret-key": stack.secret_key,
                "supabase-publishable-key": stack.publishable_key,
                "whatsapp-app-secret": f"{stack.whatsapp_app_secret},next-secret",
                "whatsapp-verify-token": stack.whatsapp_verify_token,
                f"whatsapp/{ALPINE_NUMBER}/token": stack.whatsapp_token,
                f"metakocka/{ALPINE}/secret-key": stack.metakocka_secret_key,
                "wake-secret": stack.wake_secret,
                "vapid-private-key": stack.vapid_private_key,
                "vapid-contact": "mailto:somebody@rapport.example",
            }.items()
        }
        template: Any = template_of(self.document)
        self._resources = template["Resources"]

    def run(self, name: str, *events: object, **changed: str) -> list[Any]:
        """Invokes a function once for each event, in one fresh process; what it answers."""
        function = self.document.functions[name]
        variables = self._variables(name) | changed
        answers = self.folder.parent / "answers.json"
        before = len(self.aws.calls)
        done = subprocess.run(
            [sys.executable, "-I", "-S", bare.__file__, str(self.folder), str(answers)],
            input=json.dumps(
                {
                    "handler": function.handler,
                    "events": events,
                    "timeout": function.timeout or self.document.provider.timeout,
                }
            ),
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        self.log += done.stdout
        self.calls[name] += self.aws.calls[before:]
        told = json.loads(answers.read_text())
        assert told["foreign"] == []
        found: list[Any] = told["answers"]
        return found

    def _variables(self, name: str) -> dict[str, str]:
        begin = "".join(part.capitalize() for part in name.split("_"))
        (function,) = (
            one["Properties"]
            for one in self._resources.values()
            if one["Type"] == "AWS::Lambda::Function"
            and one["Properties"]["Handler"] == self.document.functions[name].handler
        )
        assert function["Role"] == {"Fn::GetAtt": [f"{begin}Role", "Arn"]}
        named = {"WebhookQueue": self.stack.queue_url("WebhookQueue"), "MediaBucket": MEDIA_BUCKET}
        variables = {
            variable: value if isinstance(value, str) else named[value["Ref"]]
            for variable, value in function["Environment"]["Variables"].items()
        }
        # where others than AWS are
        elsewhere = {
            "WHATSAPP_GRAPH_URL": self.stack.graph_url,
            "METAKOCKA_URL": self.stack.metakocka_url,
        }
        variables |= {name: url for name, url in elsewhere.items() if name in variables}
        aws = self.aws.environment() | {"AWS_SECRET_ACCESS_KEY": self.stack.aws_secret}
        return variables | aws | {"NO_PROXY": "127.0.0.1"}

    def request(
        self, method: str, path: str, body: object = None, user: str | None = None, **headers: str
    ) -> dict[str, object]:
        """API Gateway's event for a request."""
        route, _, query = path.partition("?")
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        if user:
            token = keys.mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))
            headers["authorization"] = f"Bearer {token}"
        ids = re.findall(r"[0-9a-f-]{36}", route)
        key = re.sub(r"[0-9a-f-]{36}", "{id}", route)
        return {
            "version": "2.0",
            "routeKey": f"{method} {key}",
            "rawPath": route,
            "headers": headers,
            "queryStringParameters": dict(one.split("=", 1) for one in query.split("&") if one),
            "pathParameters": {"id": ids[0]} if ids else {},
            "requestContext": {"requestId": "request-1", "http": {"method": method}},
            "isBase64Encoded": False,
            **({} if text is None else {"body": text}),
        }

    def webhook(self, name: str, **message: object) -> str:
        """A recorded webhook, for Alpine's number and of a moment that is not long ago."""
        text = Path("tests/events", f"{name}.json").read_text()
        payload = json.loads(text.replace("106540352242922", ALPINE_NUMBER))
        value = payload["entry"][0]["changes"][0]["value"]
        value["messages"][0] |= message
        return json.dumps(payload)

    def signed(self, body: str, secret: str | None = None) -> dict[str, object]:
        """The event of a webhook."""
        signature = sign(body.encode(), secret or self.stack.whatsapp_app_secret)
        return self.request(
            "POST", "/api/webhooks/whatsapp", body, **{"x-hub-signature-256": signature}
        )

    def upload(self, content: bytes) -> str:
        """A file that WhatsApp has; its id."""
        answer = httpx.post(
            f"{self.stack.graph_url}/{ALPINE_NUMBER}/media",
            data={"messaging_product": "whatsapp", "type": "image/jpeg"},
            files={"file": ("photo.jpg", content, "image/jpeg")},
            headers={"authorization": f"Bearer {self.stack.whatsapp_token}"},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def visit(self, function: str, method: str, url: str, **more: Any) -> httpx.Response:
        """What a browser does with an address; it acts as the function that signed it."""
        before = len(self.aws.calls)
        answer = httpx.request(method, url, trust_env=False, **more)
        self.calls[function] += self.aws.calls[before:]
        return answer


@pytest.fixture
def deployment(folder: Path, start: Start, database: Database) -> Iterator[Deployment]:
    stack = start("postgrest", "gateway", "fakes", "moto")
    # moto loads a service with its first call, which takes longer than a webhook waits
    boto3.client(
        "sqs",
        endpoint_url=stack.aws_url,
        aws_access_key_id=AWS_KEY_ID,
        aws_secret_access_key=stack.aws_secret,
        region_name=AWS_REGION,
    ).list_queues()
    with (
        psycopg.connect(database.url(), autocommit=True) as owner,
        recording(stack.aws_url) as aws,
    ):
        owner.execute("update public.whatsapp_channels set waba_id = '501'")
        owner.execute(
            "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
            [ALPINE],
        )
        yield Deployment(folder, stack, World(database, owner), aws)


def sqs_event(*bodies: str) -> dict[str, object]:
    """Lambda's event for a batch."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "none",
                "body": body,
                "attributes": {
                    "SentTimestamp": str(int(time.time() * 1000)),
                    "ApproximateReceiveCount": "1",
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:1:WebhookQueue",
                "awsRegion": "eu-central-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_an_empty_machine_with_the_zip_alone_runs_every_function_and_its_role_lets_it(
    deployment: Deployment,
) -> None:
    run, request, world = deployment.run, deployment.request, deployment.world
    # a parameter of an address where no database is
    deployment.aws.parameters[f"/rapport/{STAGE}/away"] = "http://127.0.0.1:9"
    away = {"SUPABASE_URL_PARAMETER": f"/rapport/{STAGE}/away"}

    token = deployment.stack.whatsapp_verify_token
    challenge = f"hub.mode=subscribe&hub.verify_token={token}&hub.challenge=42"
    image = deployment.webhook(
        "image", image={"id": deployment.upload(PHOTO), "mime_type": "image/jpeg"}
    )
    confirmed, *taken, refused = run(
        "whatsapp_webhook",
        request("GET", f"/api/webhooks/whatsapp?{challenge}"),
        deployment.signed(deployment.webhook("text")),
        deployment.signed(image, "next-secret"),
        deployment.signed("{}", "another-secret"),
    )
    assert (confirmed["statusCode"], confirmed["body"]) == (200, "42")
    assert [json.loads(one["body"])["applied"] for one in taken] == [1, 1]
    assert refused["statusCode"] == 401
    [queued] = run("whatsapp_webhook", deployment.signed(deployment.webhook("audio")), **away)
    assert json.loads(queued["body"]) == {"queued": True}

    [drained] = run("drain_webhooks", sqs_event(pack(deployment.webhook("audio")), "not packed"))
    assert drained == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    [put_back] = run("drain_webhooks", sqs_event(pack(deployment.webhook("video"))), **away)
    assert put_back == {"batchItemFailures": []}

    assert run("fetch_media", {})[0]["stored"] == 1
    image_id = world.value(
        "select message_id from public.message_media where state = 'stored' and size = %s",
        [len(PHOTO)],
    )
    thread = conversation(world)
    announced = {
        "conversationId": str(thread),
        "type": "image",
        "mimeType": "image/jpeg",
        "size": len(PHOTO),
    }
    given, begun = run(
        "media_api",
        request("GET", f"/api/messages/{image_id}/media", user="andrej"),
        request("POST", "/api/media", announced, user="andrej"),
    )
    link, upload = json.loads(given["body"]), json.loads(begun["body"])
    assert deployment.visit("media_api", "GET", link["url"]).content == PHOTO
    put = deployment.visit(
        "media_api", "PUT", upload["url"], content=PHOTO, headers=upload["headers"]
    )
    assert put.status_code == 200, put.text

    with_file = post(
        world, "andrej", thread, None, type="image",
        content=psycopg.types.json.Jsonb({"upload_id": upload["uploadId"]}),
    )  # fmt: skip
    written = post(world, "andrej", thread, "Tuesday at 9?")
    listed, typed = run(
        "messages_api",
        request("GET", f"/api/messages?conversationId={thread}", user="andrej"),
        request("POST", f"/api/conversations/{thread}/typing", user="andrej"),
    )
    assert "Tuesday at 9?" in listed["body"]
    assert typed["statusCode"] == 200
    assert run("deliver_outbound", {}) == [{"sent": 2}]
    for one in (with_file, written):
        assert (
            world.value("select status from public.messages where id = %s", [one["id"]]) == "sent"
        )

    bearer = {"authorization": f"Bearer {deployment.stack.wake_secret}"}
    woken, unknown = run(
        "wake",
        request("POST", "/internal/wake", {"worker": "deliver_outbound"}, **bearer),
        request("POST", "/internal/wake", {"worker": "deliver_outbound"}, authorization="Bearer x"),
    )
    assert (woken["statusCode"], unknown["statusCode"]) == (202, 403)

    [told] = run("api_document", request("GET", "/api/openapi.json"))
    assert json.loads(told["body"])["openapi"] == "3.1.0"
    assert run("send_later", schedule_event("send_later")) == [{}]
    assert run("send_notifications", schedule_event("send_notifications"))
    assert run("sweep_health", schedule_event("sweep_health"))
    erased = world.value(
        "select backend.erase_contact(customer_id) from public.messages where id = %s", [image_id]
    )
    # of a message that its account does not keep any longer
    world.owner.execute(
        "insert into private.file_deletions (object_key, account_id, not_before)"
        " values (%s, %s, now())",
        [f"{ALPINE}/gone", ALPINE],
    )
    assert run("daily", schedule_event("daily")) == [None]
    assert world.value(
        "select state || (counts ->> 'files') from public.privacy_actions where id = %s",
        [erased["id"]],
    ).startswith("done")
    assert world.value("select count(*) from private.file_deletions") == 0
    assert run("sync_templates", schedule_event("sync_templates")) == [{"synced": 1, "failed": 0}]
    world.owner.execute(
        "insert into public.sync_runs (account_id, direction, trigger, state)"
        " values (%s, 'both', 'schedule', 'queued')",
        [ALPINE],
    )
    assert run("metakocka_sync", {"worker": "metakocka_sync"}) == [{"done": 1}]
    base = "/api/integrations/metakocka/contacts"
    [mappings, partners] = run(
        "metakocka_api",
        request("GET", f"{base}/mappings", user="adam"),
        request("GET", f"{base}/sync-from-metakocka", user="adam"),
    )
    assert (mappings["statusCode"], partners["statusCode"]) == (200, 200), partners["body"]

    figures = {
        name: line
        for line in map(json.loads, filter(None, deployment.log.splitlines()))
        if "_aws" in line
        for name in line
    }
    assert {
        "DailyRuns",
        "FailingSyncs",
        "OldestOutboundAge",
        "OldestWebhookAge",
        "RefusedSignatures",
        "StoppedNumbers",
    } <= set(figures)
    for secret in deployment.aws.parameters.values():
        if not secret.startswith(("http", "mailto")):
            assert secret not in deployment.log
    # of people there are ids alone, in no line of any function
    for words in ("Ana Horvat", "385911234567", "Friday", "Tuesday at 9?", "Cilka", "38640111222"):
        assert words not in deployment.log
    _require_exact_roles(deployment)


NOT_HERE = {
    # it decides how a missing file is answered
    ("deliver_outbound", "s3:ListBucket"),
    # a file whose message is erased while it is copied
    ("fetch_media", "s3:DeleteObject"),
}


def _require_exact_roles(deployment: Deployment) -> None:
    """Every call that was made is allowed, and what is allowed was called."""
    for name, calls in deployment.calls.items():
        allowed = list(_allowed(deployment.document, name))
        # the test's own, for a database that is away
        made = {one for one in calls if not one.resource.endswith("/away")}
        for one in made:
            assert any(_covers(rule, one) for rule in allowed), (name, one)
        for rule in allowed:
            # one start may not need each worker, and one run each parameter
            if (name, rule.action) not in NOT_HERE and rule.action not in (
                "lambda:InvokeFunction",
                "s3:AbortMultipartUpload",
            ):
                assert any(_covers(rule, one) for one in made), (name, rule)


def _covers(rule: Call, call: Call) -> bool:
    return rule.action == call.action and fnmatchcase(call.resource, rule.resource)


def _allowed(document: Document, name: str) -> Iterator[Call]:
    """What a role allows, in the words of calls; without what Lambda itself does with it."""
    template: Any = template_of(document)
    role = template["Resources"][document.functions[name].role]
    for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]:
        for resource in statement["Resource"]:
            for action in statement["Action"]:
                told = json.dumps(resource)
                if action.startswith("logs:") or "FailedRuns" in told:
                    continue
                if action in ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"):
                    continue
                yield Call(action, _named(action, resource))


def _named(action: str, resource: Any) -> str:
    told = resource.get("Fn::Sub") or resource["Fn::GetAtt"][0]
    if action.startswith("ssm:"):
        return str(told).partition(":parameter")[2]
    if action.startswith("lambda:"):
        return str(told).rpartition(":")[2]
    if action == "s3:ListBucket":
        return f"/{MEDIA_BUCKET}"
    return f"/{MEDIA_BUCKET}/*" if action.startswith("s3:") else str(told)
