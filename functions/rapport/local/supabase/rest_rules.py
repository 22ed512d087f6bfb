"""The requests at /rest/v1 that hosted projects refuse and PostgREST 12.0.2 would take.

- They load pg-safeupdate for the API: an UPDATE or DELETE without WHERE is refused in every
  statement of its sessions, those of functions too. Here no library can be loaded: requests are
  refused, functions are not checked; a test holds sql/ to the rule.
- PostgREST 13 has dropped limits on writes and `Prefer: params=single-object`.
- PostgREST reads addresses and headers as UTF-8, and answers 500 where they are not. For brackets
  in brackets it takes time that grows with the square of their depth: 20 s for 6,000.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_plus, unquote_to_bytes

from starlette.responses import JSONResponse

# brackets in brackets, of conditions and of embedded tables
DEEPEST = 50
_OPENS, _CLOSES = b"()"
COMMANDS = {"PATCH": "UPDATE", "DELETE": "DELETE"}
# parameters of a query beside the filters; a limit on a write is ignored since PostgREST 13
NO_FILTERS = frozenset({"columns", "limit", "offset", "on_conflict", "order", "select"})


def refusal(method: str, path: bytes, query: bytes, preferences: bytes) -> JSONResponse | None:
    """PostgREST's answer where hosted projects refuse a request; None for all others.

    `path` starts at PostgREST's root; `preferences` are those of the header Prefer.
    """
    if path.startswith(b"/rpc/"):
        if b"params=single-object" in preferences.replace(b" ", b""):
            return _answer(
                "PGRST122",
                "params=single-object is no preference since PostgREST 13",
                "Call a function that has one unnamed json argument, or name the arguments.",
            )
        return None
    command = COMMANDS.get(method)
    if command and not _has_filter(query):
        return _answer("21000", f"{command} requires a WHERE clause", None)
    return None


def unreadable(target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> JSONResponse | None:
    """The answer to a request that is not UTF-8 or nested too deep; None for all others."""
    plain = unquote_to_bytes(target)
    if not _is_utf8(plain):
        return _answer("PGRST100", "The address is not UTF-8", "Write bytes as %XX of UTF-8.")
    if _depth(plain) > DEEPEST:
        told = f"The query has brackets in brackets, more than {DEEPEST} deep"
        return _answer("PGRST100", told, "Ask for less at a time.")
    for name, value in headers:
        if not _is_utf8(value):
            told = f"The header {name.decode('latin-1')} is not UTF-8"
            return _answer("PGRST100", told, None)
    return None


def _depth(text: bytes) -> int:
    """How deep brackets stand in brackets."""
    if text.count(b"(") <= DEEPEST:
        return 0
    deepest = depth = 0
    for one in text:
        if one == _OPENS:
            depth += 1
            deepest = max(deepest, depth)
        elif one == _CLOSES:
            # more that close than open make room for no deeper ones
            depth = max(depth - 1, 0)
    return deepest


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_filter(query: bytes) -> bool:
    names = (unquote_plus(part.partition("=")[0]) for part in query.decode("latin-1").split("&"))
    return any(name and name not in NO_FILTERS for name in names)


def _answer(code: str, message: str, hint: str | None) -> JSONResponse:
    told = {"code": code, "details": None, "hint": hint, "message": message}
    return JSONResponse(told, status_code=400)
