"""How Postgres is called: through PostgREST, by the functions themselves or as one user.

One rule says when a call is tried again, for the functions and for users: up to three times, after
a failure that passes in a moment (`rapport.retry.transient`). So every call must be safe to repeat:
it reads, or the database recognises it, or a second call has the same effect as the first. A call
that isn't says `repeat=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import httpx
from pydantic import JsonValue, TypeAdapter, ValidationError

from rapport.api_keys import is_token, key_headers
from rapport.connections import http_client
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
_TIMEOUT = httpx.Timeout(9, connect=2)

_KEY_STATUSES = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)

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
        http: httpx.Client,
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
        return self._ask("POST", f"rpc/{function}", repeat=repeat, json=arguments)

    def rows(self, table: str, query: Iterable[tuple[str, str]]) -> list[Row]:
        """Rows of a table, by a query as PostgREST takes it."""
        return understood(list[Row], self._ask("GET", table, query=httpx.QueryParams(tuple(query))))

    def require_key(self, table: str) -> None:
        """Asks once for nothing of a table: whether the key is good, not whether rows may be read.

        Raises StoreUnavailable and StoreError alone.
        """
        request = self._http.build_request(
            "GET", f"{self._url}/{table}", params={"limit": "0"}, headers=self._schema
        )
        response = self._send(request, self._key())
        code, *words = _problem(response)
        # anonymous users may read no table
        if not response.is_success and code != "42501":
            raise from_postgrest(str(response.status_code) if code is None else code, *words)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeat: bool = True,
        query: httpx.QueryParams | None = None,
        json: Mapping[str, object] | None = None,
    ) -> object:
        request = self._http.build_request(
            method, f"{self._url}/{path}", params=query, json=json, headers=self._schema
        )
        if not repeat:
            return self._ask_once(request)
        return transient()(lambda: self._ask_once(request))

    def _ask_once(self, request: httpx.Request) -> object:
        key = self._key()
        response = self._send(request, key)
        # a call whose key is not accepted has had no effect; another thread may have the new key
        if self._is_key_refused(response) and (self._renew() or self._key() != key):
            response = self._send(request, self._key())
        if not response.is_success:
            raise self._refusal(response)
        if not response.content:
            return None
        try:
            answer: object = response.json()
        # a number with too many digits, or JSON that is nested too deep
        except (ValueError, RecursionError):
            raise StoreError("The database's answer is no JSON that we can read.") from None
        return answer

    def _send(self, request: httpx.Request, key: str) -> httpx.Response:
        # of another kind of key
        request.headers.pop("Authorization", None)
        request.headers.update(key_headers(key, self._token))
        try:
            return self._http.send(request)
        except httpx.RequestError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from None

    def _is_key_refused(self, response: httpx.Response) -> bool:
        if response.status_code not in _KEY_STATUSES:
            return False
        # PostgREST refuses a user's token with a code, and the gateway a key without one
        return _problem(response)[0] is None or (
            self._token is None and response.status_code == httpx.codes.UNAUTHORIZED
        )


def _refusal(response: httpx.Response) -> RapportError:
    code, *words = _problem(response)
    # the functions' key was not accepted; the code may say something else
    if response.status_code == httpx.codes.UNAUTHORIZED and not (code or "").startswith("PGRST3"):
        return from_postgrest("401")
    # without a code it is the gateway that answers
    return from_postgrest(str(response.status_code) if code is None else code, *words)


def _users_refusal(response: httpx.Response) -> RapportError:
    code, *words = _problem(response)
    if code is None:
        # the gateway knows no users: with 401 it is our own key that it does not accept
        return from_postgrest(str(response.status_code))
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return NotSignedIn()
    return from_users_postgrest(code, *words)


def _problem(
    response: httpx.Response,
) -> tuple[str | None, str | None, str | None, str | None]:
    """PostgREST's code, message, details and hint; None for each that there is not."""
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    told = answer if isinstance(answer, dict) else {}

    def text(name: str) -> str | None:
        value = told.get(name)
        return value if isinstance(value, str) else None

    return text("code"), text("message"), text("details"), text("hint")


class Store:
    """The database as the functions see it; safe to share between threads.

    Connections are kept open from one call to the next. Each call is in a subclass, and raises as
    those of `Caller`.
    """

    def __init__(
        self, settings: StoreSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        current = Current(lambda: settings)
        self._http = http_client(timeout=_TIMEOUT, transport=transport)
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = Current(lambda: settings)
        self._store = store
        self._http = http_client(timeout=_TIMEOUT, transport=transport)

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
