"""The rule of pg-safeupdate, which hosted projects load for PostgREST: no write without a filter.

There an UPDATE or DELETE without WHERE is refused in every statement of the API's sessions, those
of functions too. Here no library can be loaded, so the gateway refuses the requests. Functions are
not checked; a test holds sql/ to the rule.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

from starlette.responses import JSONResponse

COMMANDS = {"PATCH": "UPDATE", "DELETE": "DELETE"}
# what a query may say beside filters. PostgREST 13 dropped limits on writes: it ignores them.
NO_FILTERS = frozenset({"columns", "limit", "offset", "on_conflict", "order", "select"})


def refusal(method: str, path: bytes, query: bytes) -> JSONResponse | None:
    """PostgREST's answer to a write that would hit every row; None for other requests.

    `path` starts at PostgREST's root.
    """
    command = COMMANDS.get(method)
    if command is None or path.startswith(b"/rpc/"):
        return None
    names = (unquote_plus(part.partition("=")[0]) for part in query.decode("latin-1").split("&"))
    if any(name and name not in NO_FILTERS for name in names):
        return None
    return JSONResponse(
        {
            "code": "21000",
            "details": None,
            "hint": None,
            "message": f"{command} requires a WHERE clause",
        },
        status_code=400,
    )
