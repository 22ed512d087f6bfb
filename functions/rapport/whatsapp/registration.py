"""What Meta has to know of a deployment: its token, the app's subscriptions, the webhook's address.

For the commands that set a deployment up and check it; the functions call none of it. Two kinds of
tokens open these calls: that of a system user, which belongs to a number, and the app's own, which
is made of the app's id and secret.

Source: developers.facebook.com, "Debug token", "App subscriptions", "WhatsApp Business Account
subscribed apps", "Phone numbers", "Webhook overrides", "Error codes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from rapport.connections import http_client
from rapport.errors import WhatsAppError, WhatsAppRefused, WhatsAppUnavailable
from rapport.settings import GraphSettings
from rapport.whatsapp.webhook import ACCOUNT_FIELDS, GROUP_FIELDS

M = TypeVar("M", bound=BaseModel)

# without it no message comes
NEEDED_FIELD = "messages"
# what webhooks may tell of, as far as it is understood here
FIELDS = frozenset(
    {
        NEEDED_FIELD,
        "calls",
        "history",
        "smb_app_state_sync",
        "smb_message_echoes",
        "user_preferences",
        *ACCOUNT_FIELDS,
        *GROUP_FIELDS,
    }
)
# what a token has to be allowed
SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")
_OBJECT = "whatsapp_business_account"
_NUMBER = (
    "id,display_phone_number,verified_name,status,code_verification_status,quality_rating,"
    "webhook_configuration"
)

# a number with another status is not registered, or no longer
_SENDING = ("CONNECTED", "FLAGGED", "RESTRICTED")

# seconds; Meta asks the webhook's address before it answers
_TIMEOUT = httpx.Timeout(30, connect=5)
_WORDS_LIMIT = 300
_PAGE = 100

_NEW_TOKEN = (
    "Make one that never expires: business.facebook.com, Settings, System users, Generate token,"
    f" with {' and '.join(SCOPES)}."
)
_ASSETS = (
    "Give the system user the app and the WhatsApp Business account as assets with full control"
    " (business.facebook.com, Settings, System users, Assign assets)."
)
_WAIT = "Wait an hour, and run it again."

# What Meta's codes mean and what to do; with a subcode before without one.
_TOLD: Mapping[tuple[int, int | None], tuple[str, str]] = {
    (0, None): ("Meta does not accept the token.", _NEW_TOKEN),
    (1, None): ("Meta has had an error.", "Run it again in a minute."),
    (2, None): ("Meta is not available.", "Run it again in a minute."),
    (4, None): ("Meta takes no more calls of this app for now.", _WAIT),
    (10, None): ("The token may not do this.", _ASSETS),
    (17, None): ("Meta takes no more calls of this user for now.", _WAIT),
    (100, 33): ("Meta shows this token no object with this id.", f"Check the id. {_ASSETS}"),
    (101, None): (
        "Meta does not know this app.",
        "Check the app secret: App settings, Basic, in the app that the token is of.",
    ),
    (190, None): ("Meta does not accept the token.", _NEW_TOKEN),
    (190, 460): ("The token ended, since its user changed the password.", _NEW_TOKEN),
    (190, 463): ("The token has expired.", _NEW_TOKEN),
    (190, 467): ("The token was revoked.", _NEW_TOKEN),
    (200, None): ("The token lacks a permission.", f"{_NEW_TOKEN} {_ASSETS}"),
    (368, None): (
        "Meta has blocked the WhatsApp Business account.",
        "business.facebook.com, Business support home, says why and how to appeal.",
    ),
    (2200, None): (
        "Meta could not confirm the webhook's address.",
        "It needs https, the internet, and the same verify token: `rapport check` asks it as well.",
    ),
    (80007, None): ("Meta takes no more calls of this business for now.", _WAIT),
    (80008, None): ("Meta takes no more calls of this WhatsApp Business account for now.", _WAIT),
    (131030, None): (
        "A test number of Meta's sends to five numbers alone, and this is none of them.",
        "Add the recipient in the app: WhatsApp, API setup, To.",
    ),
    (131031, None): (
        "Meta has locked the WhatsApp Business account.",
        "business.facebook.com, Business support home, says why and how to appeal.",
    ),
    (131042, None): (
        "The WhatsApp Business account can't pay.",
        "Add a payment method: business.facebook.com, Billing.",
    ),
    (132001, None): (
        "There is no such template in this language, or it is not approved.",
        "Give one that WhatsApp Manager shows as active: --template NAME --language CODE.",
    ),
    (133005, None): (
        "This is not the number's PIN.",
        "WhatsApp Manager, Phone numbers, Two-step verification, sets another.",
    ),
    (133006, None): (
        "The number has to be verified first.",
        "WhatsApp Manager, Phone numbers, sends a code to it.",
    ),
    (133010, None): (
        "The number is not registered with the Cloud API.",
        "Run `rapport connect whatsapp` with --pin and six digits, which become its PIN.",
    ),
    (133016, None): ("The number was registered too often.", "Wait three days."),
}


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class MetaApp(_Answer):
    """An app at Meta."""

    id: str
    name: str = ""


class _Granular(_Answer):
    scope: str
    target_ids: list[str] = []


class _TokenProblem(_Answer):
    code: int | None = None
    message: str = ""


class TokenFacts(_Answer):
    """What a token is good for."""

    app_id: str = ""
    is_valid: bool
    # seconds since 1970; 0 is never
    expires_at: int = 0
    data_access_expires_at: int = 0
    scopes: list[str] = []
    granular_scopes: list[_Granular] = []

    @property
    def ends_at(self) -> datetime | None:
        """When it ends (UTC); None for never."""
        return datetime.fromtimestamp(self.expires_at, UTC) if self.expires_at else None

    @property
    def missing_scopes(self) -> list[str]:
        """What it would have to be allowed."""
        return [scope for scope in SCOPES if scope not in self.scopes]

    @property
    def waba_ids(self) -> list[str]:
        """The WhatsApp Business accounts that it may manage, as far as it names them."""
        return [
            waba_id
            for one in self.granular_scopes
            if one.scope == SCOPES[0]
            for waba_id in one.target_ids
        ]


class _Debugged(_Answer):
    data: TokenFacts


class WebhookAddresses(_Answer):
    """Where a number's webhooks go: the first of number, account and app that is set."""

    phone_number: str | None = None
    whatsapp_business_account: str | None = None
    application: str | None = None

    @property
    def effective(self) -> str | None:
        return self.phone_number or self.whatsapp_business_account or self.application


class MetaNumber(_Answer):
    """A number as Meta has it."""

    id: str
    display_phone_number: str = ""
    verified_name: str = ""
    status: str | None = None
    quality_rating: str | None = None
    webhook_configuration: WebhookAddresses | None = None

    @property
    def can_send(self) -> bool:
        """Whether Meta lets it send, as far as its status says."""
        return self.status in (None, *_SENDING)

    @property
    def digits(self) -> str:
        return "".join(one for one in self.display_phone_number if one.isdigit())


class _Numbers(_Answer):
    data: list[MetaNumber]


class _SubscribedApp(_Answer):
    whatsapp_business_api_data: MetaApp


class _SubscribedApps(_Answer):
    data: list[_SubscribedApp]


class _Field(_Answer):
    name: str


class Subscription(_Answer):
    """The app's webhook for one kind of object."""

    object: str
    callback_url: str = ""
    active: bool = False
    fields: list[_Field] = []

    @property
    def field_names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.fields)


class _Subscriptions(_Answer):
    data: list[Subscription] = []


class _Success(_Answer):
    success: bool


class _Details(_Answer):
    details: str = ""


class _Fault(_Answer):
    code: int
    error_subcode: int | None = None
    message: str = ""
    # more particular, where it is there
    error_user_msg: str = ""
    error_data: _Details | None = None


class _Error(_Answer):
    error: _Fault


@dataclass(frozen=True)
class AppToken:
    """The app's own token."""

    app_id: str
    secret: SecretStr

    @property
    def text(self) -> str:
        return f"{self.app_id}|{self.secret.get_secret_value()}"


def told(code: int, subcode: int | None = None) -> tuple[str, str] | None:
    """What a code of Meta's means and what to do; None for an unknown one."""
    if 200 < code < 300:
        code = 200
    return _TOLD.get((code, subcode)) or _TOLD.get((code, None))


class Registration:
    """Calls of the Graph API that set an app up. Every call raises

    WhatsAppUnavailable: It can't be reached, or is too busy.
    WhatsAppRefused: It refused; the message says what that means, and `hint` what to do.
    WhatsAppError: Its answer can't be understood.
    """

    def __init__(
        self, settings: GraphSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._root = str(settings.whatsapp_graph_url).rstrip("/")
        self._http = http_client(timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def app_of(self, token: str) -> MetaApp:
        """The app that a token is of."""
        return self._ask(MetaApp, "GET", "app", token)

    def token_facts(self, token: str, app_token: AppToken) -> TokenFacts:
        """What a token is good for. Proves the app's secret as well."""
        query = {"input_token": token}
        return self._ask(_Debugged, "GET", "debug_token", app_token.text, query=query).data

    def number(self, phone_number_id: str, token: str) -> MetaNumber:
        """A number, if the token opens it."""
        return self._ask(MetaNumber, "GET", phone_number_id, token, query={"fields": _NUMBER})

    def numbers(self, waba_id: str, token: str) -> list[MetaNumber]:
        """The numbers of a WhatsApp Business account, 100 at most."""
        query = {"fields": "id,display_phone_number", "limit": str(_PAGE)}
        return self._ask(_Numbers, "GET", f"{waba_id}/phone_numbers", token, query=query).data

    def subscribed_apps(self, waba_id: str, token: str) -> list[MetaApp]:
        """The apps that hear of a WhatsApp Business account."""
        found = self._ask(_SubscribedApps, "GET", f"{waba_id}/subscribed_apps", token)
        return [one.whatsapp_business_api_data for one in found.data]

    def subscribe_app(self, waba_id: str, token: str) -> None:
        """Lets the token's app hear of a WhatsApp Business account."""
        self._do("POST", f"{waba_id}/subscribed_apps", token)

    def subscription(self, app_token: AppToken) -> Subscription | None:
        """Where the app's webhooks of WhatsApp go; None where they go nowhere."""
        path = f"{app_token.app_id}/subscriptions"
        found = self._ask(_Subscriptions, "GET", path, app_token.text)
        return next((one for one in found.data if one.object == _OBJECT), None)

    def subscribe(
        self,
        app_token: AppToken,
        *,
        callback_url: str,
        verify_token: SecretStr,
        fields: Sequence[str],
    ) -> None:
        """Has Meta send webhooks to an address, which it asks for a proof first."""
        form = {
            "object": _OBJECT,
            "callback_url": callback_url,
            "verify_token": verify_token.get_secret_value(),
            "fields": ",".join(fields),
            "include_values": "true",
        }
        path = f"{app_token.app_id}/subscriptions"
        self._do("POST", path, app_token.text, form=form, secrets=[form["verify_token"]])

    def register(self, phone_number_id: str, pin: str, token: str) -> None:
        """Registers a number with the Cloud API; the PIN becomes its own."""
        form = {"messaging_product": "whatsapp", "pin": pin}
        self._do("POST", f"{phone_number_id}/register", token, form=form, secrets=[pin])

    def _do(
        self,
        method: str,
        path: str,
        token: str,
        *,
        form: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        answer = self._ask(_Success, method, path, token, form=form, secrets=secrets)
        if not answer.success:
            raise WhatsAppError("WhatsApp did not do it, and does not say why.")

    def _ask(
        self,
        model: type[M],
        method: str,
        path: str,
        token: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
    ) -> M:
        try:
            response = self._http.request(
                method,
                f"{self._root}/{path}",
                params=query,
                data=form,
                headers={"Authorization": f"Bearer {token}"},
            )
        except httpx.RequestError as error:
            raise WhatsAppUnavailable(
                f"WhatsApp can't be reached ({type(error).__name__})."
            ) from None
        if not response.is_success:
            said = [token, *token.split("|")[1:], *secrets, (query or {}).get("input_token", "")]
            raise _refusal(response, said)
        try:
            return model.model_validate_json(response.content)
        except ValidationError:
            # the error's text would quote the answer
            raise WhatsAppError("WhatsApp's answer does not have the expected form.") from None


def _refusal(response: httpx.Response, secrets: Sequence[str]) -> WhatsAppError:
    try:
        fault = _Error.model_validate_json(response.content).error
    except ValidationError:
        return WhatsAppUnavailable(f"WhatsApp answered with HTTP status {response.status_code}.")
    meaning, remedy = told(fault.code, fault.error_subcode) or ("WhatsApp refused the call.", None)
    details = fault.error_data.details if fault.error_data else ""
    words = fault.error_user_msg or details or fault.message
    for secret in filter(None, secrets):
        # Meta repeats a token that it can't read
        words = words.replace(secret, "…")
    error = WhatsAppRefused(
        f"{meaning} (Meta: {words[:_WORDS_LIMIT] or 'no words'}; code {fault.code})", fault.code
    )
    error.hint = remedy
    return error
