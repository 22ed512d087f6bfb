"""The answer to a request that meets a fault: none, an error of the API, or the page of a proxy."""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

from rapport.local.fakes.faults import Dropped
from rapport.local.fakes.whatsapp.behaviour import WhatsAppFault
from rapport.local.fakes.whatsapp.errors import GraphError

PAGE_OF_A_PROXY = "<!DOCTYPE html><title>Error</title><p>Sorry, something went wrong.</p>"


def otherwise(fault: WhatsAppFault) -> Response:
    """The answer in place of the right one."""
    if fault.drop:
        return Dropped()
    if fault.code is not None:
        return GraphError(
            fault.code, fault.details, status=fault.status, retry_after=fault.retry_after
        ).response()
    headers = {"retry-after": str(fault.retry_after)} if fault.retry_after is not None else None
    return HTMLResponse(PAGE_OF_A_PROXY, fault.status or 500, headers)
