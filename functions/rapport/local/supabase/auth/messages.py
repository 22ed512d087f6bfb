"""The mails and SMS of Auth: composed here, and put into the local inbox."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlencode

from rapport.local.supabase.auth import codes, users
from rapport.local.supabase.auth.codes import Code, Kind, SentAt
from rapport.local.supabase.auth.errors import validation_failed
from rapport.local.supabase.auth.project import Project
from rapport.local.supabase.auth.users import Connection, User

# older messages leave the inbox
KEPT = 1_000


class Words(NamedTuple):
    """What a mail says, in one language."""

    subject: str
    sentence: str


class Purpose(NamedTuple):
    """A kind of mail: the code that its link verifies, the place of that code, and its words by
    language.
    """

    verifies: str
    kind: Kind
    sent_at: SentAt
    words: dict[str, Words]


class Frame(NamedTuple):
    """What stands around the words of every mail, in one language."""

    link: str
    or_code: str
    code: str
    subject: str
    sms: str
    reauthentication: str


# a hosted project's templates do the same by {{ .Data.language }}
FRAMES = {
    "en": Frame(
        link="Follow this link:",
        or_code="Or enter this code:",
        code="Enter this code:",
        subject="Your code",
        sms="Your code is {code}.",
        reauthentication="You want to change how you sign in.",
    ),
    "sl": Frame(
        link="Sledite tej povezavi:",
        or_code="Ali vpišite to kodo:",
        code="Vpišite to kodo:",
        subject="Vaša koda",
        sms="Vaša koda je {code}.",
        reauthentication="Radi bi spremenili, kako se prijavljate.",
    ),
}

SIGN_UP = Purpose(
    "signup",
    "confirmation_token",
    "confirmation_sent_at",
    {
        "en": Words("Confirm your email address", "You have signed up with this address."),
        "sl": Words("Potrdite svoj e-naslov", "S tem naslovom ste se registrirali."),
    },
)
INVITATION = Purpose(
    "invite",
    "confirmation_token",
    "confirmation_sent_at",
    {
        "en": Words("You are invited", "Somebody has invited you to sign in with this address."),
        "sl": Words("Povabljeni ste", "Nekdo vas vabi, da se prijavite s tem naslovom."),
    },
)
# by whom, where the invitation says so
INVITED_BY = {
    "en": Words(
        "{business} invites you to Rapport",
        "{business} invites you to answer its customers with Rapport. The link below signs you in"
        " with this address and opens the dashboard; you need no password.",
    ),
    "sl": Words(
        "Vabilo v Rapport: {business}",
        "{business} vas vabi, da v Rapportu odgovarjate strankam. Spodnja povezava vas prijavi s"
        " tem naslovom in odpre nadzorno ploščo; gesla ne potrebujete.",
    ),
}
MAGIC_LINK = Purpose(
    "magiclink",
    "recovery_token",
    "recovery_sent_at",
    {
        "en": Words("Your link to sign in", "You want to sign in without a password."),
        "sl": Words("Povezava za prijavo", "Radi bi se prijavili brez gesla."),
    },
)
RECOVERY = Purpose(
    "recovery",
    "recovery_token",
    "recovery_sent_at",
    {
        "en": Words("Set a new password", "You have forgotten your password."),
        "sl": Words("Nastavite novo geslo", "Pozabili ste geslo."),
    },
)
NEW_ADDRESS = Purpose(
    "email_change",
    "email_change_token_new",
    "email_change_sent_at",
    {
        "en": Words(
            "Confirm your new email address", "You want to sign in with this address from now on."
        ),
        "sl": Words("Potrdite svoj novi e-naslov", "Odslej se želite prijavljati s tem naslovom."),
    },
)
OLD_ADDRESS = Purpose(
    "email_change",
    "email_change_token_current",
    "email_change_sent_at",
    {
        "en": Words(
            "Confirm that your email address changes",
            "You want to sign in with another address from now on.",
        ),
        "sl": Words(
            "Potrdite spremembo svojega e-naslova",
            "Odslej se želite prijavljati z drugim naslovom.",
        ),
    },
)


def language_of(user: User) -> str:
    """The language in which a user is written to: the one that the user's pages were in."""
    chosen = user.user_metadata.get("language")
    return chosen if isinstance(chosen, str) and chosen in FRAMES else "en"


def words_of(purpose: Purpose, user: User) -> Words:
    """What a mail to a user says; an invitation names the business that invites."""
    language = language_of(user)
    business = user.user_metadata.get("business")
    if purpose is not INVITATION or not isinstance(business, str) or not business:
        return purpose.words[language]
    # a subject is one line
    name = " ".join(business.split())[:200]
    return Words(*(words.replace("{business}", name) for words in INVITED_BY[language]))


def link(project: Project, verifies: str, token: str, redirect_to: str) -> str:
    """The address by which a person proves that a mail has arrived."""
    query = urlencode({"token": token, "type": verifies, "redirect_to": redirect_to})
    return f"{project.url_beside(redirect_to)}/verify?{query}"


async def send_link(
    project: Project,
    conn: Connection,
    user: User,
    purpose: Purpose,
    redirect_to: str,
    *,
    address: str | None = None,
    pkce: bool = False,
    again: bool = False,
) -> Code:
    """Sends a link and its code to a user, or to another address of theirs.

    `again`: a further mail of the same occasion, which the shortest time between two mails doesn't
    count. Raises AuthError (429).
    """
    address = address or user.email
    project.limits.emails.take()
    every = None if again else project.settings.email.max_frequency
    refusal = "over_email_send_rate_limit"
    await codes.note_sent(conn, user.id, purpose.sent_at, every, refusal)
    code = await project.codes.issue(conn, user.id, purpose.kind, address, pkce=pkce)
    url = link(project, purpose.verifies, code.token, redirect_to)
    words, frame = words_of(purpose, user), FRAMES[language_of(user)]
    body = f"{words.sentence}\n\n{frame.link}\n{url}\n\n{frame.or_code} {code.digits}\n"
    await _lay_down(conn, "email", address, words.subject, body, code.digits, url)
    return code


async def send_email_change(
    project: Project, conn: Connection, user: User, redirect_to: str, *, pkce: bool
) -> None:
    """Sends a link to the new address, and one to the old if that has to agree. AuthError: 429."""
    if not user.new_email:
        return
    await users.forget_confirmations(conn, user.id)
    await send_link(
        project, conn, user, NEW_ADDRESS, redirect_to, address=user.new_email, pkce=pkce
    )
    if project.settings.email.double_confirm_changes and user.email:
        await send_link(project, conn, user, OLD_ADDRESS, redirect_to, pkce=pkce, again=True)


async def send_reauthentication(project: Project, conn: Connection, user: User) -> None:
    """Sends a code by which a user proves again who they are. Raises AuthError (429)."""
    if not user.email:
        await send_sms(
            project,
            conn,
            user,
            "reauthentication_token",
            "reauthentication_sent_at",
            phone=user.phone,
        )
        return
    project.limits.emails.take()
    await codes.note_sent(
        conn,
        user.id,
        "reauthentication_sent_at",
        project.settings.email.max_frequency,
        "over_email_send_rate_limit",
    )
    code = await project.codes.issue(conn, user.id, "reauthentication_token", user.email)
    frame = FRAMES[language_of(user)]
    body = f"{frame.reauthentication}\n\n{frame.code} {code.digits}\n"
    await _lay_down(conn, "email", user.email, frame.subject, body, code.digits, None)


async def send_sms(
    project: Project, conn: Connection, user: User, kind: Kind, sent_at: SentAt, *, phone: str
) -> None:
    """Sends a code to a phone number of a user. Raises AuthError (429)."""
    project.limits.sms.take()
    every = project.settings.sms.max_frequency
    await codes.note_sent(conn, user.id, sent_at, every, "over_sms_send_rate_limit")
    code = await project.codes.issue(conn, user.id, kind, phone)
    frame = FRAMES[language_of(user)]
    body = frame.sms.format(code=code.digits)
    await _lay_down(conn, "sms", phone, frame.subject, body, code.digits, None)


def check_channel(channel: str | None) -> None:
    """Raises AuthError unless codes shall go by SMS."""
    if channel not in (None, "", "sms"):
        raise validation_failed("Invalid channel, the only one that is supported here is sms")


async def _lay_down(
    conn: Connection,
    channel: Literal["email", "sms"],
    recipient: str,
    subject: str,
    body: str,
    code: str,
    url: str | None,
) -> None:
    cursor = await conn.execute(
        """
        insert into local_inbox.messages (channel, recipient, subject, body, code, link)
        values (%s, %s, %s, %s, %s, %s)
        returning id
        """,
        [channel, recipient, subject, body, code, url],
    )
    row = await cursor.fetchone()
    if row:
        await conn.execute("delete from local_inbox.messages where id <= %s", [row["id"] - KEPT])
