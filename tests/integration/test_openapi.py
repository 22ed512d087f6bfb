"""The HTTP API keeps to its own description: what it takes, what it refuses, what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.integration.desk import Desk, open_desk
from tests.sql.outbound import conversation, post
from tests.stacks import Start
from tests.world import ALPINE, seed_uuid

from rapport.commands.openapi import ENDPOINTS
from rapport.local.stack.postgres import Database
from rapport.whatsapp.webhook import HEADER, sign

if TYPE_CHECKING:
    import schemathesis

EXAMPLES = 6
NOTHING_WRONG = ("GET /api/openapi.json",)
EVENTS = Path(__file__).parents[1] / "events"


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def desk(start: Start, database: Database) -> Iterator[Desk]:
    with open_desk(start, database, "functions", "metakocka") as desk:
        desk.world.owner.execute(
            "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
            [ALPINE],
        )
        yield desk


def checks_of(mode: str) -> list[Any]:
    """What is checked of each answer."""
    # here and below: every worker imports all tests, and this takes a second of processor time
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    always = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    return [*always, checks.negative_data_rejection] if mode == "negative" else always


def described(desk: Desk) -> schemathesis.BaseSchema:
    """The document as the functions serve it."""
    import schemathesis

    return schemathesis.openapi.from_dict(desk.http.get("/api/openapi.json").json())


def validated(
    desk: Desk, case: Any, checks: Sequence[Any], **headers: str
) -> schemathesis.Response:
    """The answer to a request, which the document allows."""
    secret = desk.stack.wake_secret if case.path == "/internal/wake" else desk.token("olivia")
    answer: schemathesis.Response = case.call(
        base_url=desk.stack.functions_url,
        headers={"Authorization": f"Bearer {secret}", **headers},
        timeout=30,
    )
    case.validate_response(answer, checks=list(checks))
    return answer


def test_what_is_done_is_answered_as_described_and_to_strangers_401(desk: Desk) -> None:
    thread = conversation(desk.world)
    message = post(desk.world, "andrej", thread)["id"]
    erp = f"{desk.stack.metakocka_fake_url}/_fake"
    httpx.post(f"{erp}/fill", json={"company_id": "16", "count": 2}, trust_env=False)
    found = httpx.get(f"{erp}/partners", params={"company_id": "16"}, trust_env=False).json()
    partner = found["partners"][0]
    webhook = json.loads((EVENTS / "text.json").read_text())
    where = {"conversationId": str(thread)}
    base = "/api/integrations/metakocka/contacts"
    schema = described(desk)
    checks = checks_of("positive")
    given: dict[tuple[str, str], dict[str, Any]] = {
        ("GET", "/api/messages"): {"query": where},
        ("GET", "/api/operator/messages"): {"query": {**where, "after": 0}},
        ("POST", "/api/messages"): {"body": {**where, "message": "hi", "clientRef": "a"}},
        ("POST", "/api/operator/messages"): {"query": where, "body": {"message": "ho"}},
        ("POST", "/api/conversations/{id}/read"): {"path": thread, "body": {"upToSeq": 1}},
        ("POST", "/api/conversations/{id}/typing"): {"path": thread},
        ("GET", "/api/conversations/{id}/window"): {"path": thread},
        ("POST", "/api/messages/{id}/drop"): {"path": message},
        ("POST", "/api/messages/{id}/resend"): {"path": message},
        ("POST", "/api/phone"): {"body": {"phone": "+386 40 111 222"}},
        ("POST", "/api/media"): {
            "body": {**where, "type": "image", "mimeType": "image/png", "size": 10}
        },
        ("GET", f"{base}/mappings"): {},
        ("GET", f"{base}/sync-from-metakocka"): {},
        ("POST", f"{base}/sync-from-metakocka"): {"body": {"metakockaId": partner["mk_id"]}},
        ("POST", f"{base}/sync-all-from-metakocka"): {"body": {}},
        ("POST", f"{base}/sync-to-metakocka"): {
            "query": {"bulk": "true"},
            "body": {"contactIds": [str(seed_uuid("contact cilka"))]},
        },
        ("POST", "/api/webhooks/whatsapp"): {"body": webhook},
        ("GET", "/api/webhooks/whatsapp"): {
            "query": {
                "hub.mode": "subscribe",
                "hub.verify_token": desk.stack.whatsapp_verify_token,
                "hub.challenge": "7",
            }
        },
        ("POST", "/internal/wake"): {"body": {"worker": "deliver_outbound"}},
        ("GET", "/api/openapi.json"): {},
    }
    for (method, path), parts in given.items():
        case = schema[path][method].Case(
            path_parameters={"id": str(parts["path"])} if "path" in parts else {},
            query=parts.get("query", {}),
            **(
                {"body": parts["body"], "media_type": "application/json"} if "body" in parts else {}
            ),
        )
        headers = {}
        if path == "/api/webhooks/whatsapp" and method == "POST":
            raw = json.dumps(webhook).encode()
            headers = {HEADER: sign(raw, desk.stack.whatsapp_app_secret)}
        if case.operation.definition.raw["security"]:
            refused = case.call(base_url=desk.stack.functions_url, timeout=30)
            case.validate_response(refused, checks=checks)
            assert refused.status_code == 401, (method, path, refused.text)
        answer = validated(desk, case, checks, **headers)
        assert answer.status_code < 300, (method, path, answer.text)
    # the one that needs a file which WhatsApp has
    operations = {found.ok().label for found in schema.get_all_operations()}
    assert operations - {" ".join(key) for key in given} == {"GET /api/messages/{id}/media"}


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_what_is_allowed_and_forbidden_is_answered_as_described(desk: Desk, mode: str) -> None:
    from schemathesis import GenerationMode

    thread = conversation(desk.world)
    message = post(desk.world, "andrej", thread)["id"]
    known = {"/api/conversations/": str(thread), "/api/messages/": str(message)}
    checks = checks_of(mode)
    schema = described(desk)
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(
            case=operation.as_strategy(generation_mode=GenerationMode(mode)), is_known=st.booleans()
        )
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any, *, is_known: bool) -> None:
            if is_known and mode == "positive" and case.path_parameters:
                case.path_parameters = {
                    "id": next(id_ for start, id_ in known.items() if case.path.startswith(start))
                }
            validated(desk, case, checks)
            asked.add(case.operation.label)

        # without parameters there is nothing to get wrong
        if mode == "positive" or operation.label not in NOTHING_WRONG:
            ask()
    skipped = NOTHING_WRONG if mode == "negative" else ()
    assert asked == {one.route for one in ENDPOINTS} - set(skipped)
