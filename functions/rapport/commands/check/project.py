"""What the project itself answers: its address, its keys, its clock, its schemas, its Auth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
from pydantic import BaseModel, ValidationError

from rapport.api_keys import KeyKind, key_headers, kind_of
from rapport.commands.check.findings import Finding, fine, warning, wrong
from rapport.connections import http_client
from rapport.settings import StoreSettings

# seconds
_TIMEOUT = httpx.Timeout(10, connect=5)
_CLOCK_WARNING, _CLOCK_WRONG = 5.0, 60.0
_NOT_EXPOSED = "PGRST106"
_SECRET_KEY = "Secret key"  # noqa: S105 - what is checked
# without these nothing else can be asked
NEEDED = frozenset({"Project", _SECRET_KEY})
_LEGACY = (
    "It can't be replaced without a new one for everybody. Make keys of the new kind in the"
    " project's settings: API keys."
)


class _Problem(BaseModel):
    code: str | None = None


class _AuthSettings(BaseModel):
    disable_signup: bool = True
    mailer_autoconfirm: bool = False


class ProjectCalls:
    """Calls of the project's gateway that are not the functions' own."""

    def __init__(self, settings: StoreSettings) -> None:
        self.url = str(settings.supabase_url).rstrip("/")
        self._secret_key = settings.supabase_secret_key
        self._http = http_client(timeout=_TIMEOUT)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def examine(self, publishable_key: str | None) -> Iterator[Finding]:
        """Address, keys, schemas and Auth; asks no more where the address does not answer."""
        check = "Project"
        begun = time.monotonic()
        try:
            response = self._get("auth/v1/health", self._secret_key.get_secret_value())
        except httpx.RequestError as error:
            yield wrong(
                check,
                f"{self.url} can't be reached ({type(error).__name__}).",
                "Check SUPABASE_URL: the project's settings show it. A paused project is restored"
                " in Supabase's dashboard.",
            )
            return
        took = (time.monotonic() - begun) * 1000
        if response.status_code >= 500 or response.status_code == httpx.codes.NOT_FOUND:
            yield wrong(
                check,
                f"{self.url} answers with status {response.status_code}.",
                "Check SUPABASE_URL, without a path; and the project in Supabase's dashboard.",
            )
            return
        yield fine(check, f"{self.url} answers, in {took:.0f} ms.")
        secret_key = self._of_secret_key()
        yield secret_key
        yield self._of_publishable_key(publishable_key)
        if secret_key.state == "wrong":
            return
        yield from self._schemas()
        yield from self._auth(publishable_key)

    def _of_secret_key(self) -> Finding:
        key = self._secret_key.get_secret_value()
        if self._get("auth/v1/admin/users?per_page=1", key).status_code in (401, 403):
            return wrong(
                _SECRET_KEY,
                "The project does not accept it.",
                "Copy it again from the project's settings: API keys.",
            )
        if kind_of(key) is KeyKind.SERVICE_ROLE:
            found = "The project accepts it; it is a legacy service_role key."
            return warning(_SECRET_KEY, found, _LEGACY)
        return fine(_SECRET_KEY, "The project accepts it (sb_secret_…).")

    def _of_publishable_key(self, key: str | None) -> Finding:
        check = "Publishable key"
        if key is None:
            return warning(
                check,
                "It was not looked at.",
                "Set SUPABASE_PUBLISHABLE_KEY: pages and two functions need it.",
            )
        if self._get("auth/v1/settings", key).status_code in (401, 403):
            return wrong(
                check,
                "The project does not accept it.",
                "Copy it again from the project's settings: API keys.",
            )
        if kind_of(key) is KeyKind.ANON:
            return warning(check, "The project accepts it; it is a legacy anon key.", _LEGACY)
        return fine(check, "The project accepts it (sb_publishable_…).")

    def _schemas(self) -> Iterator[Finding]:
        check = "Exposed schemas"
        hidden = [name for name in ("public", "backend") if not self._is_exposed(name)]
        if hidden:
            yield wrong(
                check,
                f"Not exposed: {', '.join(hidden)}.",
                "Add them in the project's settings: API, Exposed schemas.",
            )
        elif self._is_exposed("private"):
            yield wrong(
                check,
                "The schema private is exposed: it holds raw webhooks and ledgers.",
                "Take it out in the project's settings: API, Exposed schemas.",
            )
        else:
            yield fine(check, "public and backend are exposed, and private is not.")

    def _is_exposed(self, schema: str) -> bool:
        response = self._get(
            "rest/v1/any?limit=0",
            self._secret_key.get_secret_value(),
            {"Accept-Profile": schema},
        )
        try:
            return _Problem.model_validate_json(response.content).code != _NOT_EXPOSED
        except ValidationError:
            # rows: of a table that happens to be there
            return True

    def _auth(self, publishable_key: str | None) -> Iterator[Finding]:
        check = "Sign-ups"
        key = publishable_key or self._secret_key.get_secret_value()
        response = self._get("auth/v1/settings", key)
        try:
            settings = _AuthSettings.model_validate_json(response.content)
        except ValidationError:
            yield warning(
                check,
                f"Auth does not tell its settings (status {response.status_code}).",
                "Look in the project's settings: Authentication.",
            )
            return
        if settings.mailer_autoconfirm:
            yield warning(
                check,
                "Auth takes every email address as confirmed: nobody has to prove it.",
                "Turn on Confirm email in the project's settings: Authentication, Sign in (on this"
                " machine: enable_confirmations of [auth.email] in supabase/config.toml).",
            )
        elif not settings.disable_signup:
            yield warning(
                check,
                "Everybody may make a login. A stranger's login sees nothing, but asks.",
                "Turn sign-ups off in the project's settings (on this machine: enable_signup in"
                " supabase/config.toml), unless customers make their own, or people who have no"
                " login are invited: the link of an invitation makes it.",
            )
        else:
            yield fine(check, "Nobody makes a login: an invitation is for people who have one.")

    def _get(self, path: str, key: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self._http.get(f"{self.url}/{path}", headers=key_headers(key) | (headers or {}))


def clock(database_now: datetime, asked_at: datetime, answered_at: datetime) -> Finding:
    """Compares the database's clock with this machine's, which saw the question and the answer."""
    middle = asked_at + (answered_at - asked_at) / 2
    apart = abs((database_now - middle).total_seconds())
    known_to = (answered_at - asked_at).total_seconds() / 2
    found = f"The database's differs from this machine's by {apart:.1f} s (± {known_to:.1f} s)."
    if apart - known_to > _CLOCK_WRONG:
        return wrong(
            "Clock", found, "Set this machine's clock (NTP): tokens and signatures have times."
        )
    if apart - known_to > _CLOCK_WARNING:
        return warning("Clock", found, "Set this machine's clock (NTP).")
    return fine("Clock", found)


def now() -> datetime:
    """The present time by this machine's clock (UTC)."""
    return datetime.now(UTC)
