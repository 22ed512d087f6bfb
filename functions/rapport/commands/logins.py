"""Logins of the project, by its Auth: an invitation by mail, or a link that somebody hands on."""

from __future__ import annotations

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from rapport.api_keys import key_headers
from rapport.connections import http_client
from rapport.errors import RapportError, UpstreamError, UpstreamUnavailable
from rapport.settings import StoreSettings

# seconds: Auth answers once the mail is sent
_TIMEOUT = httpx.Timeout(30, connect=5)
_NO_MAIL = (
    "Take --link, which sends no mail and shows the link; or set up a mail server in the project's"
    " settings: Authentication, Emails, SMTP."
)
_REMEDIES = {
    "over_email_send_rate_limit": f"The project sends no more mails this hour. {_NO_MAIL}",
    "email_address_not_authorized": (
        "Without a mail server of its own the project writes to the people of its organization"
        f" alone. {_NO_MAIL}"
    ),
    "email_address_invalid": "Check the address.",
    "email_provider_disabled": (
        "Turn on sign-in by email in the project's settings: Authentication, Sign in."
    ),
    "no_authorization": "Set the secret key that the project's API settings show.",
    "not_admin": "Set the secret key that the project's API settings show.",
}


class _Refusal(BaseModel):
    error_code: str | None = None
    msg: str | None = None


class _Link(BaseModel):
    action_link: str


class Logins:
    """Makes logins. Each call raises

    UpstreamUnavailable: Auth can't be reached.
    UpstreamError: It refused; `hint` says what to do.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._url = f"{str(settings.supabase_url).rstrip('/')}/auth/v1"
        self._headers = key_headers(settings.supabase_secret_key.get_secret_value())
        self._http = http_client(timeout=_TIMEOUT)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def invite(self, email: str, page: str | None, *, business: str) -> None:
        """Makes a login for an address, and sends a link there that signs in on the page.

        The mail can name the business: it is kept as `business` in the login's metadata.
        """
        self._post("invite", {"email": email, "data": {"business": business}}, page)

    def link(self, email: str, page: str | None, *, is_confirmed: bool = False) -> str:
        """Makes a login for an address; returns the link that signs in on the page.

        For a login that is there it is a new link. Auth invites nobody whose address is confirmed.
        """
        kind = "magiclink" if is_confirmed else "invite"
        body: dict[str, JsonValue] = {"type": kind, "email": email}
        response = self._post("admin/generate_link", body, page)
        try:
            return _Link.model_validate_json(response.content).action_link
        except ValidationError:
            raise UpstreamError("Auth's answer has no link.") from None

    def _post(self, path: str, body: dict[str, JsonValue], page: str | None) -> httpx.Response:
        query = {"redirect_to": page} if page else None
        try:
            response = self._http.post(
                f"{self._url}/{path}", params=query, json=body, headers=self._headers
            )
        except httpx.RequestError as error:
            raise UpstreamUnavailable(f"Auth can't be reached ({type(error).__name__}).") from None
        if not response.is_success:
            raise _refusal(response)
        return response


def _refusal(response: httpx.Response) -> RapportError:
    try:
        refusal = _Refusal.model_validate_json(response.content)
    except ValidationError:
        refusal = _Refusal()
    hint = _REMEDIES.get(refusal.error_code or "")
    if hint is None and response.status_code >= 500:
        # so it answers where its mail server does not take the mail
        hint = _NO_MAIL
    words = refusal.msg or f"HTTP status {response.status_code}"
    return UpstreamError(f"Auth made no login: {words.rstrip('.')}.", hint=hint)
