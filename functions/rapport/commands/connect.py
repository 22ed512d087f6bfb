"""The commands `rapport connect …`: functions, WhatsApp and Metakocka get to know each other.

Each step is looked at first, so a second run finds it done, changes nothing and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import JsonValue, SecretStr

from rapport.commands.accounts import find_waba
from rapport.commands.project import (
    functions_url,
    graph_settings,
    metakocka_settings,
    no_account,
    store_settings,
    wake_settings,
    whatsapp_settings,
    where,
)
from rapport.connections import http_client
from rapport.errors import (
    ConfigError,
    MetakockaClosed,
    MetakockaRefused,
    NotFound,
    Unprocessable,
    UpstreamError,
    UpstreamUnavailable,
    WhatsAppRefused,
)
from rapport.local.stack.running import WAKE_PATH, WEBHOOK_PATH
from rapport.metakocka.api.client import MetakockaClient, company
from rapport.parameters import secret_source, token_source
from rapport.phone import to_e164
from rapport.settings import WhatsAppSettings
from rapport.store.deployment import Deployment, DeploymentStore, RegisteredNumber
from rapport.store.setup import SetupStore
from rapport.whatsapp.graph import Accepted, GraphClient, Refused
from rapport.whatsapp.registration import (
    FIELDS,
    NEEDED_FIELD,
    AppToken,
    Registration,
    TokenFacts,
    told,
)

Tell = Callable[[str], object]

# seconds
_TIMEOUT = httpx.Timeout(10, connect=5)
# a token that ends so soon is one of Meta's page for developers
_SOON = timedelta(days=7)
_SYSTEM_USER = (
    "business.facebook.com, Settings, System users: add one, assign it the app and the WhatsApp"
    " Business account with full control, and generate a token that never expires with"
    " whatsapp_business_management and whatsapp_business_messaging."
)
# of fields that an app may lack, nothing is told; Meta refuses the whole list then
_ALWAYS = frozenset(
    {
        NEEDED_FIELD,
        "account_update",
        "message_template_status_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "template_category_update",
    }
)
_INVALID_PARAMETER = 100


def connect_functions(url: str, tell: Tell) -> None:
    """Tells the database where to wake workers.

    Raises:
        RapportError: The address is not that of the functions, or has another secret.
    """
    base = functions_url(url, None)
    secret = wake_settings().wake_secret
    if secret is None:
        raise ConfigError(
            f"There is no secret for the doorbell. It belongs in {where('WAKE_SECRET')}: 32 random"
            " characters or more, such as those of `openssl rand -hex 32`."
        )
    address = f"{base}{WAKE_PATH}"
    _require_wake(address, secret)
    with closing(DeploymentStore(store_settings())) as store:
        before = store.deployment().doorbell_url
    with closing(SetupStore(store_settings())) as setup:
        setup.set_doorbell(address, secret.get_secret_value())
    state = "rings there already" if before == address else "now rings there"
    tell(f"{address} takes the secret, and the database {state}.")


def _require_wake(address: str, secret: SecretStr) -> None:
    """Wakes a worker, which finds nothing to do. Raises RapportError."""
    with http_client(timeout=_TIMEOUT) as http:
        try:
            response = http.post(
                address,
                json={"worker": "send_later"},
                headers={"Authorization": f"Bearer {secret.get_secret_value()}"},
            )
        except httpx.RequestError as error:
            raise UpstreamUnavailable(
                f"{address} can't be reached ({type(error).__name__}).",
                hint="Give --url the address that the deployment has printed (HttpApiUrl).",
            ) from None
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise UpstreamError(
            f"{address} has another secret.",
            hint=f"It reads that of {where('WAKE_SECRET')}. A changed one is read within a minute.",
        )
    if response.status_code != httpx.codes.ACCEPTED:
        raise UpstreamError(
            f"{address} answered with status {response.status_code}, where 202 is right.",
            hint="Give --url the address of the functions, without a path.",
        )


@dataclass(frozen=True)
class WhatsAppOrder:
    """What `rapport connect whatsapp` is to do."""

    # of these numbers; all where none is named
    phone_number_ids: tuple[str, ...] = ()
    url: str | None = None
    # six digits: registers the numbers with the Cloud API
    pin: str | None = None
    # the number that gets a message
    test: str | None = None
    template: str = "hello_world"
    language: str = "en_US"


def connect_whatsapp(order: WhatsAppOrder, tell: Tell) -> None:
    """Checks the tokens, subscribes the app and registers the webhook's address.

    Raises:
        RapportError: Something is missing or refused; the message says what, and what to do.
    """
    if order.pin is not None and not re.fullmatch("[0-9]{6}", order.pin):
        raise Unprocessable("--pin takes six digits.", hint="Choose them; they become its PIN.")
    with closing(DeploymentStore(store_settings())) as store:
        deployment = store.deployment()
    numbers = _numbers(deployment, order.phone_number_ids)
    base = functions_url(order.url, deployment.doorbell_url)
    if base is None:
        raise ConfigError(
            "Where the functions are is not known.",
            hint="Give --url, or run `rapport connect functions` first.",
        )
    address = f"{base}{WEBHOOK_PATH}"
    settings = whatsapp_settings()
    verify_token = settings.whatsapp_verify_token
    if not settings.app_secrets:
        raise ConfigError(
            "The app's secret is missing: App settings, Basic, at developers.facebook.com. It"
            f" belongs in {where('WHATSAPP_APP_SECRET')}."
        )
    if verify_token is None:
        raise ConfigError(
            "The verify token is missing. It is a word of your own, which Meta repeats; it belongs"
            f" in {where('WHATSAPP_VERIFY_TOKEN')}."
        )
    with closing(Registration(graph_settings())) as meta:
        registered: set[str] = set()
        for number in numbers:
            app_token = _connect_number(meta, settings, number, order, tell)
            _require_no_other_address(meta, number, address)
            if app_token.app_id not in registered:
                registered.add(app_token.app_id)
                _register_webhook(meta, app_token, address, verify_token, tell)
    if order.test is not None:
        _send_test(numbers[0], order, tell)


def _numbers(deployment: Deployment, wanted: tuple[str, ...]) -> list[RegisteredNumber]:
    known = {one.phone_number_id: one for one in deployment.numbers}
    for phone_number_id in wanted:
        if phone_number_id not in known:
            raise NotFound(
                f"{phone_number_id} is no number of an account.",
                hint="Run `rapport number add` first. This takes Meta's id of a number.",
            )
    if not known:
        raise NotFound("No account has a WhatsApp number.", hint="Run `rapport number add` first.")
    return [known[one] for one in wanted] if wanted else list(known.values())


def _connect_number(
    meta: Registration,
    settings: WhatsAppSettings,
    number: RegisteredNumber,
    order: WhatsAppOrder,
    tell: Tell,
) -> AppToken:
    id_, shown = number.phone_number_id, number.display_phone_number
    place = where("WHATSAPP_TOKEN", phone_number_id=id_)
    try:
        token = token_source(graph_settings()).token(id_).get_secret_value()
    except ConfigError as error:
        raise ConfigError(
            f"There is no token for {shown}. It belongs in {place}. ({error})", hint=_SYSTEM_USER
        ) from None
    try:
        app = meta.app_of(token)
    except WhatsAppRefused as error:
        error.hint = f"{error.hint or _SYSTEM_USER} The token of {shown} belongs in {place}."
        raise
    app_token = _app_token(meta, settings, app.id, token)
    facts = meta.token_facts(token, app_token)
    _require_good(facts, shown, place)
    ends = facts.ends_at
    until = f"ends on {ends:%Y-%m-%d %H:%M} UTC" if ends else "never ends"
    tell(f"{shown}: its token is good and {until}. The app is {app.name} ({app.id}).")
    if ends and ends - datetime.now(UTC) < _SOON:
        tell(f"  Replace the token before that, or nothing is sent any more. {_SYSTEM_USER}")

    found = meta.number(id_, token)
    if order.pin is not None and not found.can_send:
        meta.register(id_, order.pin, token)
        tell(f"{shown} is now registered with the Cloud API.")
    elif not found.can_send:
        tell(
            f"{shown} has the status {found.status} at Meta and can't send. Run this again with"
            " --pin and six digits, which become its PIN."
        )
    waba_id = number.waba_id or _keep_waba(number, find_waba(meta, id_, token))
    if any(one.id == app.id for one in meta.subscribed_apps(waba_id, token)):
        tell(f"The app hears of the WhatsApp Business account {waba_id} already.")
    else:
        meta.subscribe_app(waba_id, token)
        tell(f"The app now hears of the WhatsApp Business account {waba_id}.")
    return app_token


def _keep_waba(number: RegisteredNumber, waba_id: str | None) -> str:
    """Notes the WhatsApp Business account of a number, whose templates are read from then on."""
    shown, id_ = number.display_phone_number, number.phone_number_id
    if waba_id is None:
        raise NotFound(
            f"The WhatsApp Business account of {shown} is not known.",
            hint=f"rapport number add {number.account} '{shown}' --phone-number-id {id_} --waba-id"
            " and the id that Meta shows under WhatsApp, API setup.",
        )
    with closing(SetupStore(store_settings())) as store:
        store.add_number(number.account, id_, shown, waba_id)
    return waba_id


def _require_no_other_address(meta: Registration, number: RegisteredNumber, address: str) -> None:
    """Refuses a number whose webhooks go elsewhere than the app's. Raises UpstreamError."""
    id_ = number.phone_number_id
    token = token_source(graph_settings()).token(id_).get_secret_value()
    goes_to = meta.number(id_, token).webhook_configuration
    other = goes_to and (goes_to.phone_number or goes_to.whatsapp_business_account)
    if other and other != address:
        raise UpstreamError(
            f"The webhooks of {number.display_phone_number} go to {other}: it or its WhatsApp"
            " Business account has an address of its own.",
            hint="Remove it at Meta (webhook_configuration of the number, or subscribed_apps of the"
            " account), and run this again.",
        )


def _app_token(meta: Registration, settings: WhatsAppSettings, app_id: str, token: str) -> AppToken:
    """The app's own token, by the first secret that Meta accepts. Raises RapportError."""
    refusal: WhatsAppRefused | None = None
    for secret in settings.app_secrets:
        app_token = AppToken(app_id, SecretStr(secret))
        try:
            meta.token_facts(token, app_token)
        except WhatsAppRefused as error:
            refusal = error
        else:
            return app_token
    raise UpstreamError(
        f"The app secret is not that of the app {app_id}, which the token is of. ({refusal})",
        hint=f"Copy it from App settings, Basic, into {where('WHATSAPP_APP_SECRET')}: webhooks are"
        " refused as well as long as it is wrong.",
    )


def _require_good(facts: TokenFacts, shown: str, place: str) -> None:
    if not facts.is_valid:
        raise UpstreamError(
            f"The token of {shown} is no longer good. It is in {place}.", hint=_SYSTEM_USER
        )
    if facts.missing_scopes:
        raise UpstreamError(
            f"The token of {shown} lacks {' and '.join(facts.missing_scopes)}. It is in {place}.",
            hint=_SYSTEM_USER,
        )


def _register_webhook(
    meta: Registration, app_token: AppToken, address: str, verify_token: SecretStr, tell: Tell
) -> None:
    before = meta.subscription(app_token)
    known = before.field_names if before else frozenset()
    if before and before.active and before.callback_url == address and known >= FIELDS:
        tell(f"Webhooks go to {address} already, {len(known)} kinds of them.")
        return
    wanted = FIELDS | known
    try:
        meta.subscribe(
            app_token, callback_url=address, verify_token=verify_token, fields=sorted(wanted)
        )
    except WhatsAppRefused as error:
        if error.graph_code != _INVALID_PARAMETER:
            raise
        wanted = _ALWAYS | known
        meta.subscribe(
            app_token, callback_url=address, verify_token=verify_token, fields=sorted(wanted)
        )
        tell(
            f"Meta does not offer this app {', '.join(sorted(FIELDS - wanted))}: nothing is told of"
            " them."
        )
    if before and before.callback_url not in ("", address):
        tell(f"Webhooks went to {before.callback_url} until now.")
    tell(f"Webhooks now go to {address}, {len(wanted)} kinds of them; Meta has confirmed it.")


def _send_test(number: RegisteredNumber, order: WhatsAppOrder, tell: Tell) -> None:
    """Sends a template, which may be sent to anybody at any time. Raises RapportError."""
    recipient = to_e164(order.test or "")
    body: dict[str, JsonValue] = {
        "messaging_product": "whatsapp",
        "to": recipient.removeprefix("+"),
        "type": "template",
        "template": {"name": order.template, "language": {"code": order.language}},
    }
    with closing(GraphClient(graph_settings())) as graph:
        outcome = graph.send(number.phone_number_id, body)
    if isinstance(outcome, Accepted):
        tell(
            f"{number.display_phone_number} has sent the template {order.template} to {recipient}."
            " Answer it on that phone: the answer is a conversation in the dashboard within"
            " seconds. The test itself is not shown there, since nobody of the account has sent it."
        )
        return
    if isinstance(outcome, Refused):
        meaning, remedy = told(outcome.code) or ("WhatsApp refused the message.", None)
        refused = UpstreamError(f"{meaning} (Meta: {outcome.details}; code {outcome.code})")
        refused.hint = remedy
        raise refused
    raise UpstreamUnavailable(
        f"Whether the message was sent is not known: {outcome.reason}.",
        hint="Look at the phone before you run it again.",
    )


def connect_metakocka(account: str, company_id: str, tell: Tell) -> None:
    """Makes a test call with the account's key, and connects the account to the company.

    Raises:
        RapportError: There is no key, Metakocka refuses it, or another account has the company.
    """
    if not company_id.strip():
        raise Unprocessable("--company-id is empty.", hint="Metakocka shows it beside the key.")
    settings = metakocka_settings()
    with closing(SetupStore(store_settings())) as store:
        try:
            account_id = str(store.account_id(account))
        except NotFound:
            raise no_account(account) from None
        place = where("METAKOCKA_SECRET_KEY", account_id=account_id)
        source = secret_source(settings)
        try:
            source.secret(account_id, company_id)
        except ConfigError as error:
            raise ConfigError(
                f"There is no key for this company. It belongs in {place}. ({error})",
                hint="Metakocka shows it, with the company's id, under Settings, API.",
            ) from None
        with MetakockaClient(company(settings, account_id, company_id), source) as client:
            try:
                # a partner that nobody has
                client.find_partners("partner_id", "0")
            except (MetakockaClosed, MetakockaRefused) as error:
                raise UpstreamError(
                    f"{error} The key is in {place}.",
                    hint="Check the company's id and the key: Metakocka shows both under Settings,"
                    " API.",
                ) from None
        connected = store.connect_metakocka(account, company_id)
    tell(f"Metakocka takes the key for the company {company_id}.")
    match connected.state:
        case "added":
            tell(f"The account {account} is now connected to it.")
        case "changed":
            before = connected.company_before
            was = f" It was connected to {before}." if before != company_id else ""
            tell(f"The account {account} is now connected to it and synchronized.{was}")
        case _:
            tell(f"The account {account} is connected to it already.")
    tell(f"Next: rapport sync --account {account} --dry-run shows what the first run would change.")
