"""How functions call Postgres: SQL functions of schema `backend`, through PostgREST."""

from __future__ import annotations

from typing import TypeVar

import httpx
from postgrest import SyncPostgrestClient
from postgrest.exceptions import APIError
from pydantic import TypeAdapter, ValidationError

from rapport.errors import StoreError, StoreUnavailable, from_postgrest
from rapport.retry import transient
from rapport.settings import StoreSettings

# The RPCs end within 8 seconds, the hosted statement time-out: past 9 nothing comes.
_TIMEOUT = httpx.Timeout(9, connect=2)

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


class Store:
    """The database as the functions see it; safe to share between threads.

    Connections are kept open from one call to the next. Each call is in a subclass, and raises

        StoreUnavailable: The database can't be reached, or is too busy.
        StoreError: It refused the call, or answered what we don't understand.
    """

    def __init__(
        self, settings: StoreSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        key = settings.supabase_service_role_key.get_secret_value()
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            transport=transport,
            event_hooks={"response": [_raise_as_stranger, raise_without_code]},
        )
        self._backend = SyncPostgrestClient(
            f"{str(settings.supabase_url).rstrip('/')}/rest/v1",
            schema="backend",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            http_client=self._http,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _call(self, function: str, arguments: dict[str, object]) -> object:
        for attempt in transient():
            with attempt:
                return self._call_once(function, arguments)
        raise AssertionError("a call is answered or its last error raised")

    def _call_once(self, function: str, arguments: dict[str, object]) -> object:
        try:
            # the client's types know only texts; it sends any JSON
            return self._backend.rpc(function, arguments).execute().data  # type: ignore[arg-type]
        except APIError as error:
            # not chained: PostgREST's details may quote rows
            raise from_postgrest(error.code) from None
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from None


def raise_without_code(response: httpx.Response) -> None:
    """Raises for the errors of a gateway, which come without a code, by their status."""
    if response.is_success:
        return
    response.read()
    if code_of(response) is None:
        raise from_postgrest(str(response.status_code))


def code_of(response: httpx.Response) -> str | None:
    """PostgREST's code for what went wrong; None where it isn't PostgREST that answers."""
    try:
        answer = response.json()
    except ValueError:
        return None
    code = answer.get("code") if isinstance(answer, dict) else None
    return code if isinstance(code, str) else None


def _raise_as_stranger(response: httpx.Response) -> None:
    """Raises where the key of the functions is taken for nobody's, whatever the code says."""
    if response.status_code == httpx.codes.UNAUTHORIZED:
        response.read()
        code = code_of(response) or ""
        raise from_postgrest(code if code.startswith("PGRST3") else "401")
