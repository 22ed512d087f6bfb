"""Answers of the functions against the description of the HTTP API.

httpx.Client(…, event_hooks={"response": [is_described]})
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

from rapport.handlers.api_document import DOCUMENT

_PARAMETER = re.compile(r"\\\{\w+\\\}")


def is_described(answer: httpx.Response) -> None:
    """Checks that the description has this answer, in its status, its type and each field.

    What the description doesn't name at all, such as /ready of the host, is left alone.
    """
    asked = f"{answer.request.method} {answer.request.url.path}"
    responses = next((told for route, told in _operations() if route.fullmatch(asked)), None)
    if responses is None:
        return
    answer.read()
    status = str(answer.status_code)
    assert status in responses, f"{asked}: {status} is not described: {answer.text[:500]}"
    kind = answer.headers["content-type"].partition(";")[0]
    content = responses[status]["content"]
    assert kind in content, f"{asked}: {status} is {kind}"
    if kind == "application/json":
        faults = list(_validator(json.dumps(content[kind]["schema"])).iter_errors(answer.json()))
        assert not faults, f"{asked}: {status} is not as described: {faults[0]}\n{answer.text}"


@cache
def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [
        (
            re.compile(_PARAMETER.sub("[^/]+", re.escape(f"{method.upper()} {path}"))),
            one["responses"],
        )
        for path, operations in json.loads(DOCUMENT.read_text())["paths"].items()
        for method, one in operations.items()
    ]


@cache
def _validator(schema: str) -> jsonschema_rs.Validator:
    components = json.loads(DOCUMENT.read_text())["components"]
    for model in components["schemas"].values():
        # clients may meet a field that is new; here it is one that was forgotten
        if "properties" in model:
            model.setdefault("additionalProperties", False)
    # the description of the description says only that there is one
    components["schemas"]["Document"]["additionalProperties"] = True
    return jsonschema_rs.validator_for(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **json.loads(schema),
            "components": components,
        },
        validate_formats=True,
    )
