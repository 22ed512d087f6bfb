"""Inputs as they are kept, and how each is sent to a stack; every one is answered or is a fault."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import httpx
import jwt
from psycopg import sql
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token
from rapport.whatsapp.webhook import sign
from tests.hostile.inside import Erp, File, answer_sync, read_file
from tests.hostile.judge import (
    ALPINE_MARK,
    BAY_MARK,
    DESK_MARK,
    fault_of,
    fault_of_function,
    leak_in,
    raw_words_in,
)
from tests.hostile.slow import SlowClients
from tests.hostile.values import IDS
from tests.sql.actors import about, populate
from tests.stacks import Running
from tests.world import ALPINE, BAY, BAY_NUMBER, World, seed_uuid, text_message

CORPUS = Path(__file__).parent / "corpus"
PATIENCE = 60  # seconds; a statement may take 8
# columns that other rows or other systems are found by
KEYS = re.compile(r"(_id|^id|_key|_hash|_code|^phone.*|display_phone_number|time_zone|country)$")
# what the functions tell everybody
OPEN = {"/api/openapi.json"}
DESK = {"conversation_notes", "labels", "saved_replies"}
# a websocket may be closed for these: left, wrong data, too large, too slow
FAIR_ENDS = {1000, 1001, 1003, 1007, 1008, 1009, 1013}
PLACEHOLDER = re.compile("|".join(map(re.escape, sorted(IDS, key=len, reverse=True))))


@dataclass(frozen=True)
class Ask:
    """An HTTP request. Text is one character a byte; the actor's token is added."""

    at: Literal["gateway", "functions"]
    actor: str
    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    # by WhatsApp's app secret
    signed: bool = False
    kind: Literal["ask"] = "ask"


@dataclass(frozen=True)
class Frames:
    """What a client of Realtime sends, one frame after another; base64 after `bytes:`."""

    actor: str
    version: str
    frames: tuple[str, ...]
    kind: Literal["frames"] = "frames"


Input = Ask | Frames | File | Erp


def read(file: Path) -> Input:
    """The input of a file of the corpus."""
    told = json.loads(file.read_text())
    if told["kind"] in ("file", "erp"):
        return (File if told["kind"] == "file" else Erp)(**told)
    if told["kind"] == "frames":
        return Frames(**{**told, "frames": tuple(told["frames"])})
    headers = tuple((name, value) for name, value in told["headers"])
    return Ask(**{**told, "headers": headers})


def keep(target: str, given: Input) -> Path:
    """Writes a found input into the corpus."""
    content = json.dumps(asdict(given), indent=1) + "\n"
    name = hashlib.sha256(content.encode()).hexdigest()[:12]
    file = CORPUS / f"{target}-{name}.json"
    file.write_text(content)
    return file


class FaultError(AssertionError):
    """An input that was answered as no input may be."""

    def __init__(self, fault: str, given: Input) -> None:
        shown = repr(given)
        super().__init__(f"{fault}\n{shown if len(shown) < 3000 else f'{shown:.3000} …'}")
        self.given = given


def plant(world: World) -> dict[str, str]:
    """Marks all texts of both businesses, so that a leak is seen; lifts the limits of users.

    Returns the ids that placeholders stand for.
    """
    populate(world)
    ids = {
        f"@{name}.{key}": str(value)
        for name, account in (("alpine", ALPINE), ("bay", BAY))
        for key, value in about(world, account).items()
    }
    # the business's own words, not what was formed of them: no trigger has a say
    world.owner.execute("set session_replication_role = replica")
    columns = world.rows(
        """
        select c.table_name, c.column_name
        from information_schema.columns c
        join information_schema.tables t using (table_schema, table_name)
        where c.table_schema = 'public'
          and t.table_type = 'BASE TABLE'
          and c.data_type = 'text'
          and c.is_generated = 'NEVER'
          and (c.table_name = 'accounts' or exists (
              select
              from information_schema.columns a
              where a.table_schema = 'public'
                and a.table_name = c.table_name
                and a.column_name = 'account_id'
          ))
        order by 1, 2
        """
    )
    for column in columns:
        table, name = column["table_name"], column["column_name"]
        if KEYS.search(name):
            continue
        for account, mark in ((BAY, BAY_MARK), (ALPINE, ALPINE_MARK)):
            # words that a check lists stay as they are
            with contextlib.suppress(Exception):
                world.owner.execute(
                    sql.SQL("update public.{} set {} = {} || %s where {} = %s").format(
                        *map(sql.Identifier, (table, name, name)),
                        sql.Identifier("id" if table == "accounts" else "account_id"),
                    ),
                    [DESK_MARK if account == ALPINE and table in DESK else mark, account],
                )
    world.owner.execute(
        "update public.accounts set messages_per_minute = 100000, writes_per_minute = 1000000"
    )
    world.owner.execute("set session_replication_role = origin")
    return ids


@dataclass
class Victim:
    """A stack with two businesses, and everybody who may attack it."""

    running: Running
    world: World
    slow: SlowClients
    ids: dict[str, str]
    sent: int = 0
    _http: dict[str, httpx.Client] = field(default_factory=dict)

    @cached_property
    def stack(self) -> Stack:
        return self.running.start()

    def close(self) -> None:
        """Ends the connections."""
        for client in self._http.values():
            client.close()

    @cached_property
    def secrets(self) -> list[str]:
        """What may stand in no log: keys, passwords, tokens, and words of people."""
        stack = self.stack
        return [
            stack.db_password,
            *stack.secret_keys.values(),
            stack.jwt_secret,
            stack.service_role_key,
            stack.whatsapp_app_secret,
            stack.whatsapp_verify_token,
            stack.whatsapp_token,
            stack.wake_secret,
            stack.metakocka_secret_key,
            stack.vapid_private_key,
            stack.aws_secret,
            # the signature of every token of ours begins another way; its head and claims do not
            *(
                token.split(".")[1]
                for actor, token in self._tokens.items()
                if not actor.startswith("forged:")
            ),
            BAY_MARK,
            ALPINE_MARK,
            DESK_MARK,
        ]

    @cached_property
    def _tokens(self) -> dict[str, str]:
        return {}

    def token(self, actor: str) -> str | None:
        """The token of somebody who is signed in, or one that somebody made up."""
        if actor == "anonymous":
            return None
        if actor not in self._tokens:
            made = actor.startswith("forged:")
            self._tokens[actor] = (
                forged(self.stack, actor.partition(":")[2])
                if made
                else mint_user_token(self.stack.signing_key, user_id=seed_uuid(actor))
            )
        return self._tokens[actor]

    def filled(self, text: str) -> str:
        """A text with the ids of this run."""
        return PLACEHOLDER.sub(lambda found: self.ids[found[0]], text)

    def judge(self, given: Input) -> None:
        """Sends an input. Raises FaultError."""
        self.sent += 1
        match given:
            case Ask():
                fault = self.ask(given)
            case Frames():
                fault = self.talk(given)
            case File():
                fault = read_file(given)
            case _:
                fault = answer_sync(given, self.world, self.stack)
        if fault is not None:
            raise FaultError(fault, given)

    def ask(self, given: Ask) -> str | None:
        """What is wrong with the answer to a request, if anything."""
        base = self.stack.url if given.at == "gateway" else self.stack.functions_url
        if given.at not in self._http:
            self._http[given.at] = httpx.Client(base_url=base, trust_env=False, timeout=PATIENCE)
        http = self._http[given.at]
        raw = self.filled(given.path + ("?" + given.query if given.query else ""))
        body = None if given.body is None else self.filled(given.body).encode("latin-1")
        headers = [
            (name.encode("latin-1"), self.filled(value).encode("latin-1"))
            for name, value in given.headers
        ]
        names = {name.lower() for name, _ in headers}
        token = self.token(given.actor)
        if token and b"authorization" not in names:
            headers.append((b"authorization", f"Bearer {token}".encode("latin-1")))
        if given.at == "gateway" and b"apikey" not in names:
            headers.append((b"apikey", self.stack.publishable_key.encode()))
        if given.signed and body is not None:
            signature = sign(body, self.stack.whatsapp_app_secret)
            headers.append((b"x-hub-signature-256", signature.encode()))
        try:
            url = httpx.URL(base, raw_path=raw.encode("latin-1"))
            answer = http.request(given.method, url, headers=headers, content=body)
        except httpx.TimeoutException:
            return "no answer in time"
        except (httpx.LocalProtocolError, httpx.InvalidURL):
            # the client itself sends no such thing
            return None
        except httpx.TransportError as error:
            return f"no answer: {type(error).__name__}"
        sent = "\n".join((given.path, given.query, given.body or "", repr(given.headers)))
        fault = fault_of(answer, given.actor, sent)
        if fault is None and given.at == "functions":
            fault = fault_of_function(answer)
        if fault is None and answer.status_code < 400:
            if given.actor.startswith("forged:"):
                fault = "a forged token was taken"
            elif (given.at, given.actor, given.signed) == ("functions", "anonymous", False) and (
                given.path not in OPEN
            ):
                fault = "a stranger was served"
        return fault and f"{fault}: {answer.status_code} {answer.text[:500]}"

    def talk(self, given: Frames) -> str | None:
        """What is wrong with what Realtime says to these frames, if anything."""
        url = f"{self.stack.url.replace('http', 'ws', 1)}/realtime/v1/websocket"
        query = f"?apikey={self.stack.publishable_key}&vsn={given.version}"
        told: list[str] = []
        code = None
        try:
            with connect(
                url + query, proxy=None, open_timeout=PATIENCE, close_timeout=1, max_size=None
            ) as socket:
                try:
                    for frame in given.frames:
                        socket.send(self._frame(frame, given.actor))
                    # rows of the other business: none may come
                    self._write_as_bay()
                    told = _heard(socket, given.version)
                except ConnectionClosed as ended:
                    code = ended.rcvd.code if ended.rcvd else 1006
        except InvalidStatus as refused:
            if refused.response.status_code >= 500:
                return f"an error of ours: {refused.response.status_code}"
        except (InvalidHandshake, OSError, TimeoutError) as error:
            return f"no answer: {type(error).__name__}"
        if code is not None and code not in FAIR_ENDS:
            return f"the connection ended with {code}"
        text = "\n".join(told)
        fault = leak_in(text, given.actor) or raw_words_in(text, "\n".join(given.frames))
        return fault and f"{fault}: {text[:1000]}"

    def _frame(self, frame: str, actor: str) -> str | bytes:
        if frame.startswith("bytes:"):
            return base64.b64decode(frame.removeprefix("bytes:"))
        token = self.token(actor) or self.stack.publishable_key
        return self.filled(frame).replace("@token", token)

    def _write_as_bay(self) -> None:
        self.world.ingest(
            text_message(
                f"wamid.hostile.{self.sent}",
                wa_id="5511987654321",
                phone_number_id=BAY_NUMBER,
                text=f"{BAY_MARK} {self.sent}",
            )
        )


def _heard(socket: Connection, version: str) -> list[str]:
    """All that comes until the answer to a last heartbeat."""
    ref = "the-last-one"
    if version == "1.0.0":
        beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": ref}
        socket.send(json.dumps(beat))
    else:
        socket.send(json.dumps([None, ref, "phoenix", "heartbeat", {}]))
    told = []
    until = time.monotonic() + PATIENCE
    while True:
        frame = socket.recv(timeout=max(0.0, until - time.monotonic()))
        text = frame if isinstance(frame, str) else frame.decode("latin-1")
        told.append(text)
        if ref in text:
            return told


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


FORGERIES = (
    *("none", "None", "empty signature", "kid path", "kid null", "kid number", "kid injected"),
    *("public key as secret", "hs256 with another secret", "expired", "no role", "service role"),
    *("changed subject", "postgres", "huge exp", "nan exp", "text exp", "nested", "jwk in header"),
    *("crit", "two dots", "four parts", "not base64", "not json", "array", "long", "deep header"),
)


def forged(stack: Stack, how: str) -> str:
    """A token that nobody of ours has signed, or whose claims are no good."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": str(seed_uuid("ana")),
        "role": "authenticated",
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
    }
    right = mint_user_token(stack.signing_key, user_id=seed_uuid("stranger"))
    head, _, signature = right.split(".")

    def bare(header: object, payload: object = claims, end: str = "") -> str:
        return ".".join(
            (_b64(json.dumps(header).encode()), _b64(json.dumps(payload).encode()), end)
        )

    def by_secret(payload: dict[str, Any], **header: Any) -> str:
        return jwt.encode(payload, "x" * 40, "HS256", headers=header)

    es = {"alg": "ES256", "typ": "JWT"}
    made: dict[str, Callable[[], str]] = {
        "none": lambda: bare({"alg": "none"}),
        "None": lambda: bare({"alg": "NoNe", "typ": "JWT"}, end=signature),
        "empty signature": lambda: bare(json.loads(base64.urlsafe_b64decode(head + "=="))),
        "kid path": lambda: bare({**es, "kid": "../../../../dev/null"}, end=signature),
        "kid null": lambda: bare({**es, "kid": None}, end=signature),
        "kid number": lambda: bare({**es, "kid": 10**400}, end=signature),
        "kid injected": lambda: bare({**es, "kid": "' or 1=1 --\x00"}, end=signature),
        "public key as secret": lambda: by_secret(claims, kid=stack.signing_key.kid),
        "hs256 with another secret": lambda: by_secret(claims),
        "expired": lambda: jwt.encode({**claims, "exp": 1}, stack.jwt_secret, "HS256"),
        "no role": lambda: by_secret({"sub": claims["sub"]}),
        "service role": lambda: by_secret({**claims, "role": "service_role"}),
        "changed subject": lambda: bare(es | {"kid": stack.signing_key.kid}, end=signature),
        "postgres": lambda: by_secret({**claims, "role": "postgres"}),
        "huge exp": lambda: by_secret({**claims, "exp": 10**400}),
        "nan exp": lambda: bare(es, {**claims, "exp": float("nan")}, signature),
        "text exp": lambda: bare(es, {**claims, "exp": "never"}, signature),
        "nested": lambda: by_secret({**claims, "sub": {"a": [None]}}),
        "jwk in header": lambda: bare({**es, "jwk": {"kty": "EC"}, "jku": "http://x"}),
        "crit": lambda: bare({**es, "crit": ["b64"], "b64": False}, end=signature),
        "two dots": lambda: "..",
        "four parts": lambda: f"{right}.x",
        "not base64": lambda: "é!.??.//",
        "not json": lambda: f"{_b64(b'{')}.{_b64(b'[')}.{signature}",
        "array": lambda: bare([], [], signature),
        "long": lambda: "a" * 9000,
        "deep header": lambda: f"{_b64(b'[' * 6000)}.{_b64(b'{}')}.{signature}",
    }
    return made[how]()
