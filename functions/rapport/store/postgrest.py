"""How Postgres is called: through PostgREST, by the functions themselves or as one user.

One rule says when a call is tried again, for the functions and for users: up to three times, after
a failure that passes in a moment (`rapport.retry.transient`). So every call must be safe to repeat:
it reads, or the database recognises it, or a second call has the same effect as the first. A call
that isn't says `repeat=False`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from pydantic import JsonValue, TypeAdapter, ValidationError

from rapport.api_keys import is_token, key_headers
from rapport.connections import Answer, Connections, Http, Unreachable
from rapport.errors import (
    NotSignedIn,
    RapportError,
    StoreError,
    StoreUnavailable,
    from_postgrest,
    from_users_postgrest,
)
from rapport.retry import transient
from rapport.settings import Current, StoreSettings, UserStoreSettings

# The RPCs end within 8 seconds, the hosted statement time-out: past 9 nothing comes.
_TIMEOUT, _CONNECT = 9.0, 2.0

_UNAUTHORIZED, _FORBIDDEN = 401, 403

Row = dict[str, JsonValue]
T = TypeVar("T")


def understood(shape: type[T], answer: object) -> T:
    """A function's answer in the shape that it has to have.

    Raises:
        StoreError: It has another shape.
    """
    try:
        return TypeAdapter(shape).validate_python(answer)
    except ValidationError:
        # the error's text would quote the answer
        raise StoreError(f"The database's answer is not a {shape.__name__}.") from None


class _Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Caller:
    """Calls the functions and reads the tables of one schema; safe to share between threads.

    With a user's `token` the calls are that user's, and without one the functions' own. Each raises

        StoreUnavailable: The database can't be reached, or is too busy.
        StoreError: It refused the call, or its answer can't be understood.
        NotSignedIn: The user's token is not accepted.
        RequestError: One of our SQL functions refuses, with its sentence, field and hint.
    """

    def __init__(
        self,
        http: Http,
        url: str,
        schema: str,
        key: Callable[[], str],
        renew: Callable[[], bool],
        token: str | None = None,
    ) -> None:
        """`renew` looks for another key after a refusal of this one, and says whether there is."""
        self._http = http
        self._url = f"{url.rstrip('/')}/rest/v1"
        self._schema = {"Accept-Profile": schema, "Content-Profile": schema}
        self._key = key
        self._renew = renew
        self._token = token
        self._refusal = _refusal if token is None else _users_refusal

    def call(
        self, function: str, arguments: Mapping[str, object], *, repeat: bool = True
    ) -> object:
        """The answer of an SQL function; None if it has none."""
        request = self._request("POST", f"rpc/{function}", arguments)
        if not repeat:
            return self._ask(request)
        return transient()(lambda: self._ask(request))

    def rows(self, table: str, query: Iterable[tuple[str, str]]) -> list[Row]:
        """Rows of a table, by a query as PostgREST takes it."""
        request = self._request("GET", f"{table}?{urlencode(tuple(query))}")
        return understood(list[Row], transient()(lambda: self._ask(request)))

    def require_key(self, table: str) -> None:
        """Asks once for nothing of a table: whether the key is good, not whether rows may be read.

        Raises StoreUnavailable and StoreError alone.
        """
        answer = self._send(self._request("GET", f"{table}?limit=0"), self._key())
        code, *words = _problem(answer)
        # anonymous users may read no table
        if not answer.is_success and code != "42501":
            raise from_postgrest(str(answer.status) if code is None else code, *words)

    def _request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> _Request:
        url = f"{self._url}/{path}"
        if body is None:
            return _Request(method, url, self._schema)
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        headers = {**self._schema, "Content-Type": "application/json"}
        return _Request(method, url, headers, written.encode())

    def _ask(self, request: _Request) -> object:
        key = self._key()
        answer = self._send(request, key)
        # a call whose key is not accepted has had no effect; another thread may have the new key
        if self._is_key_refused(answer) and (self._renew() or self._key() != key):
            answer = self._send(request, self._key())
        if not answer.is_success:
            raise self._refusal(answer)
        if not answer.content:
            return None
        try:
            return answer.json()
        # a number with too many digits, or JSON that is nested too deep
        except (ValueError, RecursionError):
            raise StoreError("The database's answer is no JSON that we can read.") from None

    def _send(self, request: _Request, key: str) -> Answer:
        method, url, headers, body = request
        try:
            return self._http.send(method, url, {**headers, **key_headers(key, self._token)}, body)
        except Unreachable as error:
            raise StoreUnavailable(f"The database can't be reached ({error}).") from None

    def _is_key_refused(self, answer: Answer) -> bool:
        if answer.status not in (_UNAUTHORIZED, _FORBIDDEN):
            return False
        # PostgREST refuses a user's token with a code, and the gateway a key without one
        return _problem(answer)[0] is None or (
            self._token is None and answer.status == _UNAUTHORIZED
        )


def _refusal(answer: Answer) -> RapportError:
    code, *words = _problem(answer)
    # the functions' key was not accepted; the code may say something else
    if answer.status == _UNAUTHORIZED and not (code or "").startswith("PGRST3"):
        return from_postgrest("401")
    # without a code it is the gateway that answers
    return from_postgrest(str(answer.status) if code is None else code, *words)


def _users_refusal(answer: Answer) -> RapportError:
    code, *words = _problem(answer)
    if code is None:
        # the gateway knows no users: with 401 it is our own key that it does not accept
        return from_postgrest(str(answer.status))
    if answer.status == _UNAUTHORIZED:
        return NotSignedIn()
    return from_users_postgrest(code, *words)


def _problem(answer: Answer) -> tuple[str | None, str | None, str | None, str | None]:
    """PostgREST's code, message, details and hint; None for each that there is not."""
    try:
        value = answer.json()
    except (ValueError, RecursionError):
        value = None
    told = value if isinstance(value, dict) else {}

    def text(name: str) -> str | None:
        value = told.get(name)
        return value if isinstance(value, str) else None

    return text("code"), text("message"), text("details"), text("hint")


class Store:
    """The database as the functions see it; safe to share between threads.

    Connections are kept open from one call to the next. Each call is in a subclass, and raises as
    those of `Caller`.
    """

    def __init__(self, settings: StoreSettings, http: Http | None = None) -> None:
        current = Current(lambda: settings)
        self._http = http or Connections(timeout=_TIMEOUT, connect=_CONNECT)
        self._backend = Caller(
            self._http,
            str(settings.supabase_url),
            "backend",
            lambda: current().supabase_secret_key.get_secret_value(),
            current.reread,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _call(self, function: str, arguments: dict[str, object]) -> object:
        return self._backend.call(function, arguments)


class UserStore:
    """The database as one user sees it: row level security decides.

    Each call is in a subclass, and raises as those of `Caller`: NotSignedIn, NotAllowed, NotFound
    (also for a hidden row), Conflict, Unprocessable; StoreUnavailable when it can't be reached.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def _call(self, function: str, arguments: Mapping[str, object]) -> object:
        return self._caller.call(function, arguments)

    def _rows(self, table: str, columns: str, **equal: object) -> list[Row]:
        """Up to 100 rows whose columns equal the given values."""
        equals = [(column, f"eq.{value}") for column, value in equal.items()]
        return self._caller.rows(table, [("select", columns), ("limit", "100"), *equals])


UserStoreT = TypeVar("UserStoreT", bound=UserStore)


class UserStores(Generic[UserStoreT]):
    """Makes the store of each request's user; connections are shared and kept open."""

    def __init__(
        self,
        settings: UserStoreSettings,
        store: Callable[[Caller], UserStoreT],
        http: Http | None = None,
    ) -> None:
        self._settings = Current(lambda: settings)
        self._store = store
        self._http = http or Connections(timeout=_TIMEOUT, connect=_CONNECT)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def require_key(self) -> None:
        """Raises a StoreError where users' calls can't be made: the key or the address is wrong."""
        self._caller().require_key("accounts")

    def of(self, token: str) -> UserStoreT:
        """The database as the user of this access token sees it.

        Raises:
            NotSignedIn: It is no token, but an API key or something else.
        """
        if not is_token(token):
            raise NotSignedIn()
        return self._store(self._caller(token))

    def _caller(self, token: str | None = None) -> Caller:
        return Caller(
            self._http,
            str(self._settings().supabase_url),
            "public",
            lambda: self._settings().supabase_publishable_key.get_secret_value(),
            self._settings.reread,
            token,
        )
