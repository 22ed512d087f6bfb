"""The commands `rapport account create`, `member add` and `number add`: first steps without SQL.

Each says what there is afterwards. Run again, it changes nothing and says that it is there.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from pydantic import SecretStr

from rapport.commands.logins import Logins
from rapport.commands.project import (
    dashboard_url,
    graph_settings,
    no_account,
    store_settings,
    whatsapp_settings,
    where,
)
from rapport.email_address import is_email
from rapport.errors import (
    ConfigError,
    Conflict,
    NotFound,
    RapportError,
    Unprocessable,
    WhatsAppRefused,
)
from rapport.parameters import token_source
from rapport.phone import to_e164
from rapport.settings import StoreSettings
from rapport.store.setup import Member, SetupStore
from rapport.whatsapp.registration import AppToken, MetaNumber, Registration

# how many WhatsApp Business accounts are looked through for a number
_WABAS = 20
ROLES = ("owner", "admin", "agent", "viewer")


@dataclass(frozen=True)
class Invitation:
    """How somebody who has no login yet gets one."""

    # the link is shown instead of sent by mail
    as_link: bool = False
    # where the link leads; by default to the dashboard
    page: str | None = None

    def target(self) -> str:
        """The page, or the dashboard; raises ConfigError where that is not known."""
        return self.page or dashboard_url()


def create_account(
    name: str,
    owners: list[str],
    *,
    external_id: str | None,
    country: str | None,
    time_zone: str | None,
    language: str | None,
    invitation: Invitation,
) -> list[str]:
    """Makes an account with its owners; returns what to tell, a line each.

    Raises:
        RapportError: An option is wrong, or the project refuses.
    """
    for owner in owners:
        _require_email(owner)
    with closing(SetupStore(store_settings())) as store:
        account = store.create_account(
            name,
            external_id=external_id,
            country=country,
            time_zone=time_zone,
            language=language,
        )
    made = "There is now" if account.is_new else "There is already"
    locale = f"country {account.country or 'unknown'}, time zone {account.time_zone}"
    told = [f"{made} the account {account.name} ({account.external_id}): {locale}."]
    if not account.is_new:
        told.append("It was not changed; another account of this name needs an --external-id.")
    for owner in owners:
        told += add_member(account.external_id, owner, "owner", None, invitation)
    if not owners:
        told.append(
            f"Next: rapport member add {account.external_id} EMAIL --role owner: nobody sees the"
            " account without a member."
        )
    return told


def add_member(
    account: str, email: str, role: str, name: str | None, invitation: Invitation
) -> list[str]:
    """Makes somebody a member, and a login where there is none; returns what to tell.

    Raises:
        RapportError: An option is wrong, or the project refuses.
    """
    _require_email(email)
    if role not in ROLES:
        raise Unprocessable(f"There is no role {role}.", hint=f"Give {', '.join(ROLES)}.")
    told = []
    settings = store_settings()
    with closing(SetupStore(settings)) as store:
        try:
            member = store.add_member(account, email, role, name)
        except NotFound:
            raise no_account(account) from None
        if member.state == "no_login":
            page = invitation.target()
            with closing(Logins(settings)) as logins:
                if invitation.as_link:
                    told.append(_of_link(email, logins.link(email, page)))
                else:
                    logins.invite(email, page, business=_name_of(store, account))
                    told.append(f"A mail with a link to sign in went to {email}.")
            member = store.add_member(account, email, role, name)
        else:
            told += _of_login(email, member)
            if invitation.as_link:
                told.append(_link_again(settings, email, member, invitation))
    return [_of_member(account, email, member), *told]


def _name_of(store: SetupStore, account: str) -> str:
    """What the account is called, by its id or external id."""
    names = (one.name for one in store.accounts() if account in (one.external_id, str(one.id)))
    return next(names, account)


def _of_link(email: str, link: str) -> str:
    return f"Send this link to {email} alone; it signs in, once:\n{link}"


def _link_again(settings: StoreSettings, email: str, member: Member, invitation: Invitation) -> str:
    """A new link for who has not come yet: the earlier one may be lost."""
    if member.last_sign_in_at:
        return (
            f"No link was made: {email} has signed in before, on {member.last_sign_in_at:%Y-%m-%d},"
            " and does so again by the page itself."
        )
    with closing(Logins(settings)) as logins:
        link = logins.link(email, invitation.target(), is_confirmed=member.is_confirmed)
    return _of_link(email, link)


def list_accounts() -> list[str]:
    """All accounts, each with its ids, name, members and numbers; what to tell, a line each."""
    with closing(SetupStore(store_settings())) as store:
        accounts = store.accounts()
    if not accounts:
        return ["There is no account yet. Make one: rapport account create NAME --owner EMAIL"]
    told = []
    for one in accounts:
        told += [
            f"{one.external_id or one.id}  {one.name}",
            f"  id       {one.id}",
            *(f"  {role:<8} {', '.join(emails)}" for role, emails in one.members.items()),
            *(f"  number   {number}" for number in one.numbers),
        ]
    return told


def _of_member(account: str, email: str, member: Member) -> str:
    match member.state:
        case "added":
            return f"{email} is now {member.role} of {account}, shown as {member.display_name}."
        case "changed" if member.role_before != member.role:
            return f"{email} is now {member.role} of {account}, and was {member.role_before}."
        case "changed":
            return f"{email} is now shown as {member.display_name}."
        case _:
            return f"{email} is {member.role} of {account} already, shown as {member.display_name}."


def _of_login(email: str, member: Member) -> list[str]:
    """What to know of a login that was there before, since anybody may have made it."""
    if member.state != "added":
        return []
    since = f"{member.login_created_at:%Y-%m-%d}" if member.login_created_at else "before"
    used = (
        f"signed in last on {member.last_sign_in_at:%Y-%m-%d}"
        if member.last_sign_in_at
        else "never signed in"
    )
    told = [f"The login of {email} has been there since {since}, and has {used}."]
    if not member.is_confirmed:
        told.append(
            "Its address is not confirmed, so anybody may have made it: make sure that it is the"
            " person's own."
        )
    return told


def add_number(
    account: str,
    number: str,
    *,
    phone_number_id: str,
    waba_id: str | None,
    name: str | None,
    asks_meta: bool,
) -> list[str]:
    """Makes a WhatsApp number one of an account; returns what to tell.

    Where there is a token, Meta is asked whether the id is this number's, and which WhatsApp
    Business account it is in.

    Raises:
        RapportError: An option is wrong, Meta knows the number otherwise, or the project refuses.
    """
    if not number.startswith("+"):
        raise Unprocessable(
            f"{number} has no country code.", hint="Write it as +386 40 111 222, in quotes."
        )
    shown, digits = number, to_e164(number).removeprefix("+")
    told: list[str] = []
    if asks_meta:
        found, waba_id, told = _ask_meta(phone_number_id, waba_id)
        if found is not None:
            if found.digits != digits:
                raise Conflict(
                    f"At Meta {phone_number_id} is {found.display_phone_number}, not {number}.",
                    hint="Meta shows each number with its id under WhatsApp, API setup.",
                )
            shown = found.display_phone_number
    with closing(SetupStore(store_settings())) as store:
        try:
            channel = store.add_number(account, phone_number_id, shown, waba_id, name)
        except NotFound:
            raise no_account(account) from None
    words = {"added": "is now", "changed": "is as before, with new details,"}
    state = words.get(channel.state, "is already")
    told.insert(
        0,
        f"{channel.display_phone_number} ({channel.phone_number_id}) {state} a number of {account},"
        f" named {channel.name}.",
    )
    if channel.waba_id is None:
        told.append(
            "Its WhatsApp Business account is not known, so no templates are read: run this again"
            " with --waba-id."
        )
    told.append(f"Next: rapport connect whatsapp {channel.phone_number_id}")
    return told


def _ask_meta(
    phone_number_id: str, waba_id: str | None
) -> tuple[MetaNumber | None, str | None, list[str]]:
    """The number at Meta, None without a token; its WhatsApp Business account; and what to tell."""
    settings = graph_settings()
    try:
        token = token_source(settings).token(phone_number_id).get_secret_value()
    except ConfigError:
        place = where("WHATSAPP_TOKEN", phone_number_id=phone_number_id)
        return None, waba_id, [f"Meta was not asked: there is no token yet. It belongs in {place}."]
    with closing(Registration(settings)) as meta:
        try:
            number = meta.number(phone_number_id, token)
            if waba_id is None:
                waba_id = find_waba(meta, phone_number_id, token)
            elif all(one.id != phone_number_id for one in meta.numbers(waba_id, token)):
                raise Conflict(
                    f"{phone_number_id} is no number of the WhatsApp Business account {waba_id}.",
                    hint="Meta shows both ids under WhatsApp, API setup.",
                )
        except RapportError as error:
            hint = "Or add it without asking Meta: --without-meta."
            error.hint = f"{error.hint} {hint}" if error.hint else hint
            raise
    return number, waba_id, []


def find_waba(meta: Registration, phone_number_id: str, token: str) -> str | None:
    """The WhatsApp Business account of a number, among those that the token may manage.

    None where it is not among them, or where the app's secret, by which Meta tells them, is missing
    or another app's. Raises RapportError for what else Meta refuses.
    """
    secrets = whatsapp_settings().app_secrets
    if not secrets:
        return None
    app_token = AppToken(meta.app_of(token).id, SecretStr(secrets[-1]))
    try:
        waba_ids = meta.token_facts(token, app_token).waba_ids
    except WhatsAppRefused:
        return None
    for waba_id in waba_ids[:_WABAS]:
        if any(one.id == phone_number_id for one in meta.numbers(waba_id, token)):
            return waba_id
    return None


def _require_email(email: str) -> None:
    if not is_email(email):
        raise Unprocessable(
            f"{email} is not an email address.", hint="Give one such as olivia@alpine.example."
        )
