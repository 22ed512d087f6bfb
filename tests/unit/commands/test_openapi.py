"""The description of the HTTP API: it is current, whole, and has one way of naming."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import jsonschema_rs
from openapi_spec_validator import validate
from pydantic import JsonValue

from rapport.api_json import AS_THEY_ARE
from rapport.commands.openapi import ENDPOINTS, text
from rapport.handlers.api_document import DOCUMENT
from rapport.server.serverless import SERVERLESS_FILE, Service

CAMEL = re.compile(r"[a-z][A-Za-z0-9]*")


def nodes(value: JsonValue) -> Iterator[dict[str, JsonValue]]:
    match value:
        case list():
            for each in value:
                yield from nodes(each)
        case dict():
            yield value
            for each in value.values():
                yield from nodes(each)


def test_the_document_is_the_one_that_the_models_make() -> None:
    assert DOCUMENT.read_text() == text(), "uv run python -m rapport.commands.openapi"


def test_it_describes_every_route_that_is_deployed() -> None:
    service = Service.read(SERVERLESS_FILE)
    deployed = {route.key for one in service.functions.values() for route in one.routes}
    assert {one.route for one in ENDPOINTS} == deployed


def test_it_is_a_document_of_openapi_and_its_examples_fit_their_models() -> None:
    document = json.loads(DOCUMENT.read_text())
    validate(document)
    found = 0
    for node in nodes(document["paths"]):
        if not isinstance(schema := node.get("schema"), dict):
            continue
        references = node.get("examples")
        names = references if isinstance(references, dict) else {}
        examples = [
            document["components"]["examples"][reference["$ref"].rpartition("/")[2]]["value"]
            for reference in names.values()
            if isinstance(reference, dict) and isinstance(reference["$ref"], str)
        ]
        examples += [node["example"]] if "example" in node else []
        for example in examples:
            jsonschema_rs.validate(schema | {"components": document["components"]}, example)
        found += len(examples)
    assert found > len(document["components"]["examples"])


def test_every_reference_leads_somewhere_and_names_are_in_camel_case() -> None:
    document = json.loads(DOCUMENT.read_text())
    for node in nodes(document):
        if isinstance(reference := node.get("$ref"), str):
            place = document
            for part in reference.removeprefix("#/").split("/"):
                place = place[part]
        if node.get("type") == "object" and isinstance(found := node.get("properties"), dict):
            assert [name for name in found if not CAMEL.fullmatch(name)] == []
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                # Meta's own are hub.mode and the like
                assert CAMEL.fullmatch(parameter["name"].replace("hub.", "").replace("_token", ""))
    assert set(document["components"]["schemas"]["Message"]["properties"]) >= AS_THEY_ARE
