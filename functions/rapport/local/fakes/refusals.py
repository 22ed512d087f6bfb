"""How the stand-ins refuse an order to /_fake/… that is wrong: each fault with its field."""

from __future__ import annotations

import json

from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response


def fault_of(field: str, message: str) -> PydanticCustomError:
    """A fault of one field that a check of several fields has found."""
    return PydanticCustomError("order", "{message}", {"field": field, "message": message})


def invalid(error: ValidationError) -> Response:
    """422 with the faults; `loc` begins with the field."""
    faults = json.loads(error.json(include_url=False))
    for fault in faults:
        context = fault.pop("ctx", {})
        fault["loc"] = fault["loc"] or [context.get("field", "body")]
    return JSONResponse(faults, 422)
