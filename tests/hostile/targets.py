"""Where hostile input goes in: for each place how an input is made."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from rapport.server.serverless import SERVERLESS_FILE, Service
from tests.hostile import inside, values
from tests.hostile.sending import FORGERIES, Ask, Frames, Input
from tests.world import World

ROUTES = [
    route
    for function in Service.read(SERVERLESS_FILE).functions.values()
    for route in function.routes
]
EVENTS = [
    json.loads(file.read_text())
    for file in sorted((Path(__file__).parents[1] / "events").glob("*.json"))
]
STAFF = ("andrej", "olivia", "cilka")
# strangers may write once a second
READERS = (*STAFF, "vera", "stranger", "anonymous")
FIELDS = [
    *("bookingId", "conversationId", "conversation_id", "customerId", "message", "type"),
    *("content", "clientRef", "replyTo", "upToSeq", "before", "after", "limit", "cursor", "bulk"),
    *("accountId", "contactId", "contactIds", "metakockaId", "metakockaIds", "worker"),
    *("mimeType", "mime_type", "size", "file_name", "invoiceData", "hasInvoice", "phone"),
    *("hub.mode", "hub.verify_token", "hub.challenge"),
]
HEADERS = [
    *("Bearer \xe9", "Bearer \xff\xfe", "Bearer", "Basic YTpi", "Bearer a b"),
    *("Bearer " + "a" * 9000, "bearer null", "Bearer eyJhbGciOiJub25lIn0.e30.", "\xc3\xa9"),
]
HEADER_NAMES = ("authorization", "x-hub-signature-256", "cookie", "content-type", "x-forwarded-for")
OPERATORS = (
    *("eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch", "in", "is"),
    *("isdistinct", "fts", "plfts", "phfts", "wfts", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl"),
    *("adj", "not.eq", "not.in", "eq(any)", "like(all)", "fts(simple)", "not", "xx", ""),
)
SELECTS = (
    *("*", "*,*", "id", "", "count()", "id.count()", "id.sum()", "max:id.max()", "id::text"),
    *(
        "*,messages(*)",
        "*,contacts(*)",
        "*,accounts(*)",
        "*,conversations!inner(*)",
        "...accounts(*)",
    ),
    *("x:id,x:id", "id->a", "content->>a->b", "content->'a'", "*,messages(count)", "((", "*)(,"),
    *("id::regclass", "id::int[]", "*,labels!x(*)", "a" * 3000, "*," * 500 + "*", "\\", '"'),
    "messages(" * 40 + "*" + ")" * 40,
    "conversations(messages(conversations(messages(*))))",
)
LOGIC = (
    *("(", "()", "(a)", "(id.eq.1", "(id.is.null,or(id.is.null))", "(and(id.eq.1),not.or())"),
    "(" + "or(" * 2000 + "id.is.null" + ")" * 2000 + ")",
    "(" + ",".join(["id.is.null"] * 2000) + ")",
)
PREFERENCES = (
    *("count=exact", "count=planned", "count=estimated", "return=representation", "tx=rollback"),
    *("return=headers-only", "resolution=merge-duplicates", "resolution=ignore-duplicates"),
    *("missing=default", "max-affected=0", "handling=strict", "timezone=x", "params=single-object"),
    *("handling=strict,max-affected=x", "return=representation,count=exact", "x" * 3000, "\xff"),
)
ACCEPTS = (
    *("*/*", "text/csv", "application/vnd.pgrst.object+json", "application/geo+json", "x", "\xff"),
    *("application/octet-stream", "application/vnd.pgrst.plan", "application/openapi+json", ""),
    "application/vnd.pgrst.object+json;nulls=stripped",
    "application/vnd.pgrst.plan+json;options=analyze|verbose",
)
PROFILES = ("backend", "private", "auth", "pg_catalog", "", "public,private", "\xff", "realtime")
KINDS = ("application/json", "text/csv", "application/x-www-form-urlencoded", "text/plain", "")
RANGES = ("0-0", "0-", "-1", "5-2", "a-b", "0-99999999999999999999", "99999999-", "bytes=0-1")
AUTH = (
    *(
        ("POST", path)
        for path in ("/signup", "/token", "/otp", "/recover", "/verify", "/magiclink")
    ),
    *(("GET", path) for path in ("/user", "/settings", "/verify", "/authorize", "/admin/users")),
    *(("PUT", "/user"), ("POST", "/logout"), ("POST", "/resend"), ("POST", "/invite")),
    *(("POST", "/admin/users"), ("POST", "/admin/generate_link"), ("GET", "/factors")),
    *(("DELETE", "/admin/users/x"), ("GET", "/admin/users/%00"), ("POST", "/factors/x/verify")),
)
AUTH_FIELDS = (
    *("email", "phone", "token", "token_hash", "type", "data", "options", "create_user", "channel"),
    *("refresh_token", "auth_code", "code_verifier", "code_challenge", "code_challenge_method"),
    *("redirect_to", "scope", "nonce", "gotrue_meta_security", "user_metadata", "ban_duration"),
)
GRANTS = ("refresh_token", "pkce", "id_token", "password", "x", "%00", "")
TOPICS = (
    *("realtime:@alpine.conversation", "realtime:conversation:@bay.conversation", "realtime:"),
    *("realtime:account:@bay.account", "realtime:contact:@bay.contact", "phoenix", "", "x" * 300),
    *("realtime:account:@alpine.account", "realtime:*", "realtime:public:messages", "é\u202e"),
)
FILTERS = (
    *("id=eq.@bay.contact", "account_id=eq.@bay.account", "phone=like.+386%", "x", "id=in.(", ""),
    *(
        "id=in.(@bay.contact,x)",
        "name=gt.",
        "id=eq." + "9" * 400,
        "name=is.null",
        "name=match.(a+)+$",
    ),
)
EVENTS_OF_FRAMES = (
    *("phx_join", "phx_join", "phx_join", "broadcast", "presence", "access_token", "phx_leave"),
    *("heartbeat", "phx_close", "phx_reply", "", "postgres_changes", "x" * 300),
)


@dataclass(frozen=True)
class Catalog:
    """What clients can name in the database."""

    # name: columns with their types
    tables: dict[str, dict[str, str]]
    # name: arguments with their types
    functions: dict[str, dict[str, str]]

    @classmethod
    def of(cls, world: World) -> Catalog:
        tables: dict[str, dict[str, str]] = {}
        for row in world.rows(
            """
            select c.relname as name, a.attname as field, format_type(a.atttypid, null) as type
            from pg_class c
            join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
            order by c.relname, a.attnum
            """
        ):
            tables.setdefault(row["name"], {})[row["field"]] = row["type"]
        functions: dict[str, dict[str, str]] = {}
        for row in world.rows(
            """
            select
                p.proname as name,
                coalesce(p.proargnames, '{}') as names,
                array(
                    select format_type(t, null)
                    from unnest(p.proargtypes) with ordinality as u (t, n)
                    order by n
                ) as types
            from pg_proc p
            where p.pronamespace = 'public'::regnamespace
              and p.prokind = 'f'
              and has_function_privilege('authenticated', p.oid, 'execute')
            order by p.proname, p.oid
            """
        ):
            # arguments that only answer come after these
            functions[row["name"]] = dict(zip(row["names"], row["types"], strict=False))
        return cls(tables, functions)


Strategy = st.SearchStrategy[Input]


@dataclass(frozen=True)
class Target:
    """A place, and the share of the inputs that it gets."""

    name: str
    strategy: Callable[[Catalog], Strategy]
    share: float = 1.0


def _body(fields: tuple[str, ...] | list[str]) -> st.SearchStrategy[str]:
    inner = values.values(fields)
    return st.one_of(
        st.dictionaries(st.sampled_from(fields), inner, max_size=5).map(values.text_of),
        st.dictionaries(st.sampled_from(fields), values.scalars, max_size=5).map(values.text_of),
        inner.map(values.text_of),
        values.raw_json,
        st.binary(max_size=60).map(lambda content: content.decode("latin-1")),
    )


def _query(fields: tuple[str, ...] | list[str]) -> st.SearchStrategy[str]:
    value = st.one_of(values.texts, values.ids)
    return st.one_of(
        st.lists(st.tuples(st.sampled_from(fields), value), max_size=4).map(
            lambda pairs: "&".join(f"{name}={values.percent(text)}" for name, text in pairs)
        ),
        st.sampled_from(values.QUERIES),
    )


def functions(_: Catalog) -> Strategy:
    def ask(actor: str, route: Any, segment: str, query: str, body: str, kind: str) -> Input:
        return Ask(
            "functions",
            actor,
            route.method,
            route.path.replace("{id}", segment),
            query,
            (("content-type", kind),),
            body if route.method == "POST" else None,
        )

    return st.builds(
        ask,
        st.sampled_from((*STAFF, "stranger")),
        st.sampled_from(ROUTES),
        st.sampled_from(values.SEGMENTS),
        _query(FIELDS),
        _body(FIELDS),
        st.sampled_from(["application/json", "application/json", *KINDS, "\xc3\xa9"]),
    )


@st.composite
def _webhook(draw: st.DrawFn) -> Input:
    event = draw(st.sampled_from(EVENTS))
    event = inside.changed(draw, event, values.values(FIELDS), draw(st.integers(1, 3)))
    body = draw(
        st.one_of(st.just(values.text_of(event)), st.just(values.text_of(event)), values.raw_json)
    )
    signed = draw(st.sampled_from([True, True, True, False]))
    headers = [("content-type", "application/json")]
    if not signed:
        headers.append(("x-hub-signature-256", draw(st.sampled_from(["sha256=", *HEADERS]))))
    return Ask(
        "functions", "anonymous", "POST", "/api/webhooks/whatsapp", "", tuple(headers), body, signed
    )


def webhooks(_: Catalog) -> Strategy:
    return _webhook()


_rest_headers = st.lists(
    st.one_of(
        st.tuples(st.just("prefer"), st.sampled_from(PREFERENCES)),
        st.tuples(st.just("accept"), st.sampled_from(ACCEPTS)),
        st.tuples(st.just("range"), st.sampled_from(RANGES)),
        st.tuples(
            st.sampled_from(("accept-profile", "content-profile")), st.sampled_from(PROFILES)
        ),
        st.tuples(st.just("x-forwarded-for"), st.sampled_from(HEADERS)),
    ),
    max_size=2,
    unique_by=lambda header: header[0],
).map(tuple)


@st.composite
def _filters(draw: st.DrawFn, columns: dict[str, str]) -> str:
    names = st.sampled_from(
        [*columns, *columns, "x", "id->a", "content->>a", "messages.id", '"id"']
    )
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(
            st.sampled_from(("filter", "filter", "filter", "select", "order", "logic", "count"))
        )
        if kind == "filter":
            value = draw(st.one_of(values.texts, values.ids, st.just("null"), st.just("(1,2)")))
            parts.append(
                f"{draw(names)}={draw(st.sampled_from(OPERATORS))}.{values.percent(value)}"
            )
        elif kind == "select":
            parts.append(f"select={values.percent(draw(st.sampled_from(SELECTS)))}")
        elif kind == "order":
            way = draw(st.sampled_from(("", ".desc", ".asc.nullsfirst", ".x", ".desc.desc", ",,")))
            parts.append(f"order={values.percent(draw(names))}{way}")
        elif kind == "logic":
            name = draw(st.sampled_from(("or", "and", "not.or", "messages.or", "or.and")))
            parts.append(f"{name}={draw(st.sampled_from(LOGIC))}")
        else:
            name = draw(
                st.sampled_from(("limit", "offset", "messages.limit", "columns", "on_conflict"))
            )
            parts.append(f"{name}={values.percent(draw(values.texts))}")
    return "&".join(parts) or draw(st.sampled_from(["", *values.QUERIES]))


def reads(catalog: Catalog) -> Strategy:
    @st.composite
    def ask(draw: st.DrawFn) -> Input:
        table = draw(st.sampled_from(sorted(catalog.tables)))
        query = draw(_filters(catalog.tables[table]))
        path = f"/rest/v1/{table}"
        if draw(st.integers(0, 19)) == 0:
            path = f"/rest/v1/{draw(st.sampled_from(values.SEGMENTS))}"
        method = draw(st.sampled_from(("GET", "GET", "GET", "HEAD", "OPTIONS")))
        return Ask(
            "gateway", draw(st.sampled_from(READERS)), method, path, query, draw(_rest_headers)
        )

    return ask()


@st.composite
def _row(draw: st.DrawFn, columns: dict[str, str]) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(columns)), max_size=5, unique=True))
    return {name: draw(values.typed(columns[name])) for name in names}


def writes(catalog: Catalog) -> Strategy:
    @st.composite
    def ask(draw: st.DrawFn) -> Input:
        table = draw(st.sampled_from(sorted(catalog.tables)))
        columns = catalog.tables[table]
        method = draw(st.sampled_from(("POST", "POST", "PATCH", "PATCH", "PUT", "DELETE")))
        query = draw(_filters(columns))
        if method != "POST" and draw(st.booleans()):
            # a row that is there, or would be the other business's
            names = [name for name, type_ in columns.items() if type_ == "uuid"]
            query = f"{draw(st.sampled_from(names or ['id']))}=eq.{draw(values.ids)}"
        rows = st.one_of(_row(columns), _row(columns), st.lists(_row(columns), max_size=3))
        body = draw(st.one_of(rows.map(values.text_of), rows.map(values.text_of), values.raw_json))
        kind = draw(st.sampled_from(("application/json", "application/json", *KINDS)))
        headers = (("content-type", kind), *draw(_rest_headers))
        return Ask(
            "gateway",
            draw(st.sampled_from(STAFF)),
            method,
            f"/rest/v1/{table}",
            query,
            headers,
            body,
        )

    return ask()


def calls(catalog: Catalog) -> Strategy:
    @st.composite
    def ask(draw: st.DrawFn) -> Input:
        name = draw(st.sampled_from(sorted(catalog.functions)))
        arguments = catalog.functions[name]
        # most with all of their arguments: others are no such function
        given = {
            argument: draw(values.cursors() if argument == "cursor" else values.typed(type_))
            for argument, type_ in arguments.items()
            if draw(st.integers(0, 5))
        }
        if draw(st.integers(0, 19)) == 0:
            given["x"] = 1
        headers = draw(_rest_headers)
        actor = draw(st.sampled_from((*READERS, *STAFF)))
        path = f"/rest/v1/rpc/{name}"
        if draw(st.integers(0, 7)) == 0:
            query = "&".join(
                f"{key}={values.percent(value if isinstance(value, str) else json.dumps(value))}"
                for key, value in given.items()
            )
            return Ask("gateway", actor, "GET", path, query, headers)
        body = draw(st.one_of(*[st.just(values.text_of(given))] * 9, values.raw_json))
        return Ask(
            "gateway",
            actor,
            "POST",
            path,
            "",
            (("content-type", "application/json"), *headers),
            body,
        )

    return ask()


def tokens(_: Catalog) -> Strategy:
    places = [
        *(("gateway", "GET", f"/rest/v1/{table}") for table in ("contacts", "messages", "inbox")),
        ("gateway", "POST", "/rest/v1/rpc/my_topics"),
        ("gateway", "GET", "/auth/v1/user"),
        ("gateway", "POST", "/realtime/v1/api/broadcast"),
        ("functions", "GET", "/api/messages?conversationId=@bay.conversation"),
        ("functions", "POST", "/api/phone"),
    ]

    def ask(how: str, place: tuple[Any, str, str]) -> Input:
        at, method, path = place
        body = "{}" if method == "POST" else None
        headers = (("content-type", "application/json"),) if body else ()
        return Ask(at, f"forged:{how}", method, path, "", headers, body)

    return st.builds(ask, st.sampled_from(FORGERIES), st.sampled_from(places))


def logins(_: Catalog) -> Strategy:
    def ask(place: tuple[str, str], actor: str, query: str, grant: str, body: str) -> Input:
        method, path = place
        query = f"grant_type={grant}&{query}" if path == "/token" else query
        headers = (("content-type", "application/json"),)
        content = body if method in ("POST", "PUT") else None
        return Ask("gateway", actor, method, f"/auth/v1{path}", query, headers, content)

    return st.builds(
        ask,
        st.sampled_from(AUTH),
        st.sampled_from(READERS),
        _query(AUTH_FIELDS),
        st.sampled_from(GRANTS),
        _body(AUTH_FIELDS),
    )


@st.composite
def _join(draw: st.DrawFn) -> Any:
    binding = {
        "event": draw(st.sampled_from(("*", "INSERT", "DELETE", "x", None, 7))),
        "schema": draw(st.sampled_from(("public", "private", "auth", "*", "é", None))),
        "table": draw(
            st.sampled_from(("messages", "contacts", "customers", "jobs", "users", "*", "\x00"))
        ),
        "filter": draw(st.sampled_from(FILTERS)),
    }
    config = {
        "postgres_changes": draw(
            st.one_of(st.just([binding]), st.just([binding] * 200), values.values(("event",)))
        ),
        "private": draw(st.sampled_from((True, False, "x", None))),
        "broadcast": draw(st.one_of(st.just({"self": True, "ack": True}), values.scalars)),
        "presence": draw(st.one_of(st.just({"key": ""}), values.values(("key", "enabled")))),
    }
    return {
        "config": draw(st.one_of(st.just(config), st.just(config), values.values(tuple(config)))),
        "access_token": draw(
            st.one_of(st.just("@token"), st.just("@token"), values.texts, values.scalars)
        ),
    }


@st.composite
def _frames(draw: st.DrawFn) -> Input:
    version = draw(st.sampled_from(("1.0.0", "2.0.0")))
    frames = []
    for place in range(draw(st.integers(1, 4))):
        topic = draw(st.one_of(st.sampled_from(TOPICS), values.texts))
        event = draw(st.sampled_from(EVENTS_OF_FRAMES))
        fields = ("event", "payload", "type", "access_token")
        payload = draw(_join() if event == "phx_join" else values.values(fields))
        ref = draw(st.one_of(st.just(str(place)), st.just("9" * 5000), values.scalars))
        told: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        if version == "2.0.0":
            told = [ref, ref, topic, event, payload]
        frame = draw(
            st.one_of(
                *[st.just(values.text_of(told))] * 6,
                values.raw_json,
                st.binary(max_size=40).map(lambda content: _binary(content)),
                st.binary(max_size=40).map(lambda content: _binary(b"\x03" + content)),
            )
        )
        frames.append(frame)
    forged = [f"forged:{how}" for how in FORGERIES if how not in ("not base64", "long")]
    return Frames(draw(st.sampled_from((*READERS, *READERS, *forged))), version, tuple(frames))


def _binary(content: bytes) -> str:
    return f"bytes:{base64.b64encode(content).decode()}"


def frames(_: Catalog) -> Strategy:
    return _frames()


def posts(_: Catalog) -> Strategy:
    fields = ("messages", "topic", "event", "payload", "private")
    body = st.one_of(
        _body(fields),
        st.lists(st.dictionaries(st.sampled_from(fields), values.scalars), max_size=3).map(
            lambda messages: values.text_of({"messages": messages})
        ),
    )

    def ask(actor: str, path: str, segment: str, query: str, kind: str, body: str) -> Input:
        path = path.replace("{id}", segment)
        headers = (("content-type", kind),)
        return Ask("gateway", actor, "POST", f"/realtime/v1/api{path}", query, headers, body)

    return st.builds(
        ask,
        st.sampled_from(READERS),
        st.sampled_from(
            ("/broadcast", "/broadcast/{id}/events/x", "/broadcast/x/events/{id}", "/{id}")
        ),
        st.sampled_from(values.SEGMENTS),
        st.sampled_from(("", "private=true", *values.QUERIES)),
        st.sampled_from(KINDS),
        body,
    )


def pages(_: Catalog) -> Strategy:
    paths = (
        "/{id}",
        "/_mail/{id}",
        "/_mail/messages",
        "/phone/messages",
        "/dashboard/{id}",
        "/assets/{id}",
    )

    def ask(method: str, path: str, segment: str, query: str, body: str, accept: str) -> Input:
        headers = (("accept", accept), ("content-type", "application/json"))
        content = body if method == "POST" else None
        path = path.replace("{id}", segment)
        return Ask("gateway", "anonymous", method, path, query, headers, content)

    return st.builds(
        ask,
        st.sampled_from(("GET", "GET", "HEAD", "POST", "PUT")),
        st.sampled_from(paths),
        st.sampled_from(values.SEGMENTS),
        _query(("to", "id", "since")),
        _body(("phone_number_id", "from", "name", "text", "id")),
        st.sampled_from(("text/html", "*/*")),
    )


def tables(_: Catalog) -> Strategy:
    return inside.files()


def workbooks(_: Catalog) -> Strategy:
    return inside.books()


def partners(_: Catalog) -> Strategy:
    return inside.erps()


TARGETS = [
    Target("functions", functions, 2),
    Target("webhooks", webhooks, 2),
    Target("reads", reads, 3),
    Target("writes", writes, 3),
    Target("calls", calls, 4),
    Target("tokens", tokens),
    Target("logins", logins),
    Target("frames", frames),
    Target("posts", posts, 0.5),
    Target("pages", pages, 0.5),
    Target("tables", tables),
    # each starts a process
    Target("workbooks", workbooks, 0.2),
    Target("partners", partners),
]
