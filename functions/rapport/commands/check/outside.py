"""What lies outside the project: the functions' address, Meta, Metakocka's keys, notifications."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import httpx
from pydantic import SecretStr

from rapport.commands.check.findings import Finding, fine, lasting, listed, warning, wrong
from rapport.commands.check.project import now
from rapport.commands.project import (
    graph_settings,
    metakocka_settings,
    push_settings,
    where,
)
from rapport.connections import http_client
from rapport.errors import ConfigError, RapportError, WhatsAppRefused
from rapport.local.stack.running import WEBHOOK_PATH
from rapport.parameters import secret_source, token_source
from rapport.push.vapid import Vapid
from rapport.settings import WhatsAppSettings
from rapport.store.deployment import Deployment, RegisteredNumber
from rapport.whatsapp.registration import (
    FIELDS,
    NEEDED_FIELD,
    AppToken,
    Registration,
    TokenFacts,
)

# seconds
_TIMEOUT = httpx.Timeout(15, connect=5)
_SOON = timedelta(days=7)
_CONNECT = "Run `rapport connect whatsapp`."


def examine_webhook(base: str | None, settings: WhatsAppSettings) -> Iterator[Finding]:
    """Asks the webhook's address as Meta does before it sends there; nothing is stored."""
    check = "Webhook's address"
    if base is None:
        yield wrong(
            check,
            "Where the functions are is not known.",
            "Give --url, or run `rapport connect functions`.",
        )
        return
    address = f"{base}{WEBHOOK_PATH}"
    if settings.whatsapp_verify_token is None:
        yield wrong(
            check,
            "It was not asked: there is no verify token.",
            f"It belongs in {where('WHATSAPP_VERIFY_TOKEN')}.",
        )
        return
    challenge = str(secrets.randbelow(10**9))
    query = {
        "hub.mode": "subscribe",
        "hub.challenge": challenge,
        "hub.verify_token": settings.whatsapp_verify_token.get_secret_value(),
    }
    with http_client(timeout=_TIMEOUT) as http:
        try:
            response = http.get(address, params=query)
        except httpx.RequestError as error:
            yield wrong(
                check,
                f"{address} can't be reached ({type(error).__name__}).",
                "Deploy the functions, or give their address: --url.",
            )
            return
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        yield wrong(
            check,
            f"{address} does not take the verify token (status {response.status_code}).",
            f"The function reads it from {where('WHATSAPP_VERIFY_TOKEN')}.",
        )
    elif response.status_code != httpx.codes.OK or response.text != challenge:
        yield wrong(
            check,
            f"{address} answers with status {response.status_code}, and not as the webhook does.",
            "Give the functions' address, without a path: --url. Else look at the log of"
            " whatsapp_webhook.",
        )
    else:
        yield fine(check, f"{address} answers as Meta wants it.")


def examine_meta(
    deployment: Deployment, base: str | None, settings: WhatsAppSettings
) -> Iterator[Finding]:
    """Each number's token, its state at Meta and where its webhooks go."""
    if not deployment.numbers:
        return
    if not settings.app_secrets:
        yield wrong(
            "App secret",
            "It is missing, so every webhook is refused.",
            f"It belongs in {where('WHATSAPP_APP_SECRET')}.",
        )
    address = f"{base}{WEBHOOK_PATH}" if base else None
    with closing(Registration(graph_settings())) as meta:
        asked: set[str] = set()
        for number in deployment.numbers:
            try:
                yield from _examine_number(meta, number, settings, address, asked)
            except RapportError as error:
                yield wrong(
                    f"Number {number.display_phone_number}", str(error), error.hint or _CONNECT
                )


def _examine_number(
    meta: Registration,
    number: RegisteredNumber,
    settings: WhatsAppSettings,
    address: str | None,
    asked: set[str],
) -> Iterator[Finding]:
    shown, id_ = number.display_phone_number, number.phone_number_id
    place = where("WHATSAPP_TOKEN", phone_number_id=id_)
    try:
        token = token_source(graph_settings()).token(id_).get_secret_value()
    except ConfigError as error:
        yield wrong(f"Token of {shown}", f"There is none: {error}", f"It belongs in {place}.")
        return
    try:
        app = meta.app_of(token)
    except WhatsAppRefused as error:
        remedy = f"{error.hint or _CONNECT} It is in {place}."
        yield wrong(f"Token of {shown}", str(error), remedy)
        return
    app_token = _app_token(meta, app.id, token, settings)
    if app_token is not None:
        yield _of_token(meta.token_facts(token, app_token), f"Token of {shown}", place)
    if app.id not in asked:
        asked.add(app.id)
        if app_token is not None:
            yield _subscription(meta, app_token, address)
        elif settings.app_secrets:
            yield wrong(
                "App secret",
                f"It is not that of the app {app.id}, which the token is of: webhooks are refused.",
                f"Copy it from App settings, Basic, into {where('WHATSAPP_APP_SECRET')}.",
            )

    check = f"Number {shown}"
    found = meta.number(id_, token)
    if number.stopped_reason:
        yield wrong(
            check,
            f"Nothing is sent from it: {number.stopped_reason}",
            f"Solve that at Meta, then: rapport resume {id_}",
        )
    elif not found.can_send:
        yield wrong(
            check,
            f"At Meta it has the status {found.status}, and can't send.",
            f"rapport connect whatsapp {id_} --pin 6 digits",
        )
    elif found.quality_rating == "RED":
        yield warning(
            check,
            "Meta rates its quality RED: it may soon send less.",
            "People block it or report it: send fewer templates, to those who want them.",
        )
    else:
        yield fine(check, f"Connected at Meta, quality {found.quality_rating or 'not rated yet'}.")

    check = f"Webhooks of {shown}"
    goes_to = found.webhook_configuration and (
        found.webhook_configuration.phone_number
        or found.webhook_configuration.whatsapp_business_account
    )
    if goes_to and goes_to != address:
        yield wrong(
            check,
            f"They go to {goes_to}, since the number or its account has an address of its own.",
            "Remove the override at Meta (webhook_configuration, subscribed_apps), or set it to"
            f" {address or 'the functions'}.",
        )
    elif number.waba_id is None:
        yield warning(
            check,
            "Its WhatsApp Business account is not known.",
            f"rapport number add {number.account} '{shown}' --phone-number-id {id_} --waba-id …",
        )
    elif all(one.id != app.id for one in meta.subscribed_apps(number.waba_id, token)):
        yield wrong(
            check,
            f"The app {app.name} does not hear of the WhatsApp Business account {number.waba_id}.",
            _CONNECT,
        )
    else:
        yield fine(check, f"The app {app.name} hears of its account {number.waba_id}.")


def _app_token(
    meta: Registration, app_id: str, token: str, settings: WhatsAppSettings
) -> AppToken | None:
    """The app's own token, by the first secret that Meta accepts; None where it accepts none."""
    for secret in settings.app_secrets:
        app_token = AppToken(app_id, SecretStr(secret))
        try:
            meta.token_facts(token, app_token)
        except WhatsAppRefused:
            continue
        return app_token
    return None


def _of_token(facts: TokenFacts, check: str, place: str) -> Finding:
    ends = facts.ends_at
    left = ends - now() if ends else None
    if not facts.is_valid or (left is not None and left < timedelta()):
        return wrong(check, "It is no longer good.", f"Put a new one into {place}. {_CONNECT}")
    if facts.missing_scopes:
        return wrong(
            check, f"It lacks {listed(facts.missing_scopes)}.", f"Put a new one into {place}."
        )
    if left is not None and left < _SOON:
        return warning(
            check,
            f"It ends in {lasting(left.total_seconds())}.",
            f"Put one of a system user that never ends into {place}.",
        )
    until = f"ends in {lasting(left.total_seconds())}" if left else "never ends"
    return fine(check, f"Meta accepts it; it {until}.")


def _subscription(meta: Registration, app_token: AppToken, address: str | None) -> Finding:
    check = "Webhook subscription"
    subscription = meta.subscription(app_token)
    if subscription is None or not subscription.active:
        return wrong(check, "Meta sends the app's webhooks nowhere.", _CONNECT)
    if address and subscription.callback_url != address:
        return wrong(
            check, f"They go to {subscription.callback_url}, and not to {address}.", _CONNECT
        )
    if NEEDED_FIELD not in subscription.field_names:
        return wrong(check, "The field `messages` is not subscribed to: none comes.", _CONNECT)
    missing = sorted(FIELDS - subscription.field_names)
    if missing:
        return warning(
            check, f"Nothing is told of {listed(missing)}.", f"{_CONNECT} Meta offers some to few."
        )
    return fine(check, f"They go to {subscription.callback_url}, {len(FIELDS)} kinds of them.")


def examine_companies(deployment: Deployment) -> Iterator[Finding]:
    """The key of each company at Metakocka, and whether its account rests."""
    if not deployment.companies:
        return
    source = secret_source(metakocka_settings())
    for one in deployment.companies:
        check = f"Metakocka of {one.account}"
        try:
            source.secret(str(one.account_id), one.company_id)
        except ConfigError as error:
            place = where("METAKOCKA_SECRET_KEY", account_id=str(one.account_id))
            yield wrong(check, str(error), f"The key belongs in {place}.")
            continue
        if one.pause_reason:
            yield wrong(
                check,
                f"No calls are made: {one.pause_reason}",
                f"Then: rapport connect metakocka {one.account} --company-id {one.company_id}",
            )
        else:
            yield fine(check, f"There is a key for the company {one.company_id}.")


def examine_push(deployment: Deployment) -> Iterator[Finding]:
    """The keys for notifications: the private one of the function, the public one of browsers."""
    check = "Notifications"
    settings = push_settings()
    private = settings.vapid_private_key
    if private is None:
        if deployment.push_key is None:
            yield warning(
                check,
                "There is no key, so nobody is told on a device.",
                f"Make one, as the README says; it belongs in {where('VAPID_PRIVATE_KEY')}.",
            )
        else:
            yield warning(
                check,
                "The private key was not looked at.",
                f"It is in {where('VAPID_PRIVATE_KEY')}.",
            )
        return
    try:
        public = Vapid(private.get_secret_value(), "mailto:nobody@rapport.example").public_key
    except ValueError as error:
        yield wrong(check, f"The private key is none: {error}", "Make one, as the README says.")
        return
    if deployment.push_key is None:
        yield warning(
            check,
            "Browsers are not given the public key yet.",
            "The worker send_notifications sets it when it first runs: look at its log.",
        )
    elif deployment.push_key != public:
        yield wrong(
            check,
            "The public key that browsers have is not that of the private key: no push service"
            " takes a notification.",
            "The worker send_notifications sets it when it starts: deploy it again. All devices"
            " subscribe anew then.",
        )
    else:
        devices = deployment.push_subscriptions
        subscribed = "1 device is" if devices == 1 else f"{devices:,} devices are"
        yield fine(check, f"The keys belong together; {subscribed} subscribed.")
