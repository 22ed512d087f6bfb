"""The templates, and what each function may do by them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from rapport import settings
from rapport.commands.package.bundle import PACKAGE
from rapport.commands.package.command import read, roles
from rapport.commands.package.document import Document
from rapport.commands.package.roles import resources_of
from rapport.commands.package.template import template_of
from rapport.errors import ConfigError
from rapport.handlers.wake import Wake
from rapport.server.serverless import SERVERLESS_FILE

HANDLERS = PACKAGE / "handlers"


@pytest.fixture(scope="module")
def document() -> Document:
    return read("prod")


@pytest.fixture(scope="module")
def resources(document: Document) -> dict[str, Any]:
    made: dict[str, Any] = template_of(document)["Resources"]  # type: ignore[assignment]  # JSON
    return made


def settings_of(module: Path) -> set[str]:
    """The variables that a handler reads: the fields of the settings that it names."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.module == "rapport.handlers.metakocka":
            found |= settings_of(HANDLERS / "metakocka.py")
        if node.module == "rapport.settings":
            for alias in node.names:
                kind = getattr(settings, alias.name)
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    found |= {name.upper() for name in kind.model_fields}
    return found


def test_a_function_is_given_what_it_reads_and_nothing_else(document: Document) -> None:
    for name, function in document.functions.items():
        wanted = settings_of(HANDLERS / f"{name}.py")
        given = {one.removesuffix("_PARAMETER") for one in function.environment}
        assert given <= wanted, name
        secrets = {one for one in wanted if one.startswith("SUPABASE_")}
        assert secrets <= given, name
    holders = {
        name
        for name, function in document.functions.items()
        if "SUPABASE_SECRET_KEY_PARAMETER" in function.environment
    }
    assert holders.isdisjoint({"messages_api", "media_api", "wake"})


def test_no_secret_is_in_the_templates(resources: dict[str, Any]) -> None:
    """A variable of a secret is the name of its parameter, and nothing looks one up."""
    secret_fields = {
        name.upper()
        for kind in vars(settings).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert "SUPABASE_SECRET_KEY" in secret_fields
    for one in resources.values():
        if one["Type"] == "AWS::Lambda::Function":
            assert secret_fields.isdisjoint(one["Properties"]["Environment"]["Variables"])
    told = json.dumps(resources)
    assert "resolve:ssm" not in told
    assert "${ssm" not in told
    assert "${sls" not in told


def test_each_function_has_a_role_of_its_own(document: Document, resources: dict[str, Any]) -> None:
    named = [function.role for function in document.functions.values()]
    assert len(set(named)) == len(named)
    for name, function in document.functions.items():
        (policy,) = resources[function.role]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            assert "*" not in "".join(statement["Action"])
            told = json.dumps(statement["Resource"])
            # of a bucket's files, of each number's or account's parameter, of a function's log
            assert told.count("*") == sum(
                told.count(one)
                for one in ("Arn}/*", "/whatsapp/*/token", "/metakocka/*/", f"{name}:*")
            ), told


def test_the_secret_key_may_be_read_by_its_users_alone(
    document: Document, resources: dict[str, Any]
) -> None:
    for function in document.functions.values():
        holds = "SUPABASE_SECRET_KEY_PARAMETER" in function.environment
        told = json.dumps(resources[function.role])
        assert ("parameter/rapport/prod/supabase-secret-key" in told) == holds


def test_wake_may_start_the_workers_that_it_knows(document: Document) -> None:
    known = set(get_args(Wake.model_fields["worker"].annotation))
    # on AWS, EventBridge does it
    workers = known - {"schedules"}
    assert set(document.custom.uses["wake"]["lambda:InvokeFunction"]) == workers
    assert workers <= set(document.functions)


def test_what_nobody_waits_for_leaves_a_trace_when_it_fails(document: Document) -> None:
    for name, function in document.functions.items():
        is_asynchronous = any(trigger.schedule for trigger in function.events)
        assert (function.onError is not None) == is_asynchronous, name
        is_worker = is_asynchronous or any(trigger.sqs for trigger in function.events)
        assert (function.reservedConcurrency is not None) == is_worker, name


def test_both_templates_have_the_same_roles(document: Document) -> None:
    of_osls = json.dumps(roles()["Resources"])
    assert json.loads(of_osls.replace("${sls:stage}", "prod")) == resources_of(document)


def test_another_architecture_and_runtime_are_taken() -> None:
    document = read("prod", "x86_64", "python3.11")
    made: Any = template_of(document)["Resources"]
    properties = made["WakeLambdaFunction"]["Properties"]
    assert (properties["Runtime"], properties["Architectures"]) == ("python3.11", ["x86_64"])


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("    whatsapp_webhook:\n      sqs", "    nobody:\n      sqs", "nobody"),
        ("[WebhookQueue]", "[NoQueue]", "NoQueue"),
        ("        - send_later\n", "        - send_never\n", "send_never"),
        ("    role: WakeRole\n", "    role: WakeRole\n    tags: {}\n", "tags"),
        ("${opt:stage, 'dev'}", "${opt:other}", "opt:other"),
    ],
)
def test_what_the_template_would_not_have_is_refused(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = SERVERLESS_FILE.read_text()
    assert before in text
    file = tmp_path / "serverless.yml"
    file.write_text(text.replace(before, after, 1))
    variables = {"sls:stage": "prod", "self:service": "rapport"}
    with pytest.raises(ConfigError, match=words):
        template_of(Document.read(file, variables))
