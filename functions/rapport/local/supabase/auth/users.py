"""The users of a project: rows of auth.users and auth.identities, and their form for clients."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field, JsonValue, SecretStr

from rapport.local.supabase.auth.errors import AuthError, taken, user_not_found
from rapport.local.supabase.auth.models import Metadata

Connection = AsyncConnection[DictRow]

# As GoTrue, we look only in this instance and audience. Otherwise a seed without them would make
# logins that work here and not on a hosted project.
_IN_PROJECT = """
    u.instance_id = '00000000-0000-0000-0000-000000000000'
    and u.aud = 'authenticated'
    and u.deleted_at is null
"""

_SELECT = """
    select
        u.*,
        coalesce(u.email, '') as shown_email,
        coalesce(u.phone, '') as shown_phone,
        nullif(u.email_change, '') as new_email,
        nullif(u.phone_change, '') as new_phone,
        coalesce(u.raw_app_meta_data, '{}') as app_metadata,
        coalesce(u.raw_user_meta_data, '{}') as user_metadata,
        (
            select coalesce(jsonb_agg(
                jsonb_build_object(
                    'identity_id', i.id,
                    'id', i.provider_id,
                    'user_id', i.user_id,
                    'identity_data', i.identity_data,
                    'provider', i.provider,
                    'last_sign_in_at', i.last_sign_in_at,
                    'created_at', i.created_at,
                    'updated_at', i.updated_at,
                    'email', i.email
                )
                order by i.created_at
            ), '[]')
            from auth.identities i
            where i.user_id = u.id
        ) as identities
    from auth.users u
"""

# by the kind of its code, the address that has confirmed a change of the address
CONFIRMED_BY = {"email_change_token_new": 1, "email_change_token_current": 2}

# GoTrue reads these columns as text and fails on null
_TEXT_COLUMNS = ("confirmation_token", "recovery_token", "email_change_token_new", "email_change")


class User(BaseModel):
    """A user in GoTrue's form; the password's hash is never part of an answer."""

    id: UUID
    aud: str
    role: str | None
    # empty without one
    email: str = Field(validation_alias="shown_email")
    phone: str = Field(validation_alias="shown_phone")
    email_confirmed_at: datetime | None
    phone_confirmed_at: datetime | None
    confirmed_at: datetime | None
    confirmation_sent_at: datetime | None
    recovery_sent_at: datetime | None
    reauthentication_sent_at: datetime | None
    new_email: str | None
    email_change_sent_at: datetime | None
    new_phone: str | None
    phone_change_sent_at: datetime | None
    invited_at: datetime | None
    last_sign_in_at: datetime | None
    app_metadata: Metadata
    user_metadata: Metadata
    identities: list[dict[str, JsonValue]]
    created_at: datetime | None
    updated_at: datetime | None
    banned_until: datetime | None
    is_anonymous: bool
    is_sso_user: bool
    encrypted_password: SecretStr | None = Field(exclude=True)
    # which address has confirmed the change to `new_email`: 0 neither, else one of CONFIRMED_BY
    email_change_confirm_status: int | None = Field(exclude=True)


class NewUser(BaseModel):
    """The first values of a row of auth.users; `id` is ours, or given by the admin."""

    id: UUID = Field(default_factory=uuid4)
    email: str | None = None
    phone: str | None = None
    encrypted_password: SecretStr | None = None
    role: str = "authenticated"
    email_confirmed: bool = False
    phone_confirmed: bool = False
    banned_for: timedelta | None = None
    is_anonymous: bool = False
    user_metadata: Metadata = Field(default_factory=dict)
    app_metadata: Metadata = Field(default_factory=dict)


class Update(BaseModel):
    """A change of a user: None leaves a field as it is."""

    email: str | None = None
    phone: str | None = None
    encrypted_password: SecretStr | None = None
    role: str | None = None
    email_confirmed: bool = False
    phone_confirmed: bool = False
    unban: bool = False
    banned_for: timedelta | None = None
    user_metadata: Metadata | None = None
    app_metadata: Metadata | None = None


async def find_by_email(conn: Connection, email: str) -> User | None:
    """Finds a user by address, which must be in lower case."""
    return await _find(conn, "not u.is_sso_user and lower(u.email) = %s", email)


async def find_by_phone(conn: Connection, phone: str) -> User | None:
    """Finds a user by phone number, in digits alone."""
    return await _find(conn, "u.phone = %s", phone)


async def get(conn: Connection, user_id: UUID) -> User:
    """Reads one user. Raises AuthError (user_not_found)."""
    cursor = await conn.execute(f"{_SELECT} where {_IN_PROJECT} and u.id = %s", [user_id])
    row = await cursor.fetchone()
    if row is None:
        raise user_not_found()
    return _user(row)


async def page(conn: Connection, number: int, size: int) -> list[User]:
    """Lists users, newest first; `number` counts pages from 1."""
    cursor = await conn.execute(
        f"{_SELECT} where {_IN_PROJECT} order by u.created_at desc, u.id limit %s offset %s",
        [size, (number - 1) * size],
    )
    return [_user(row) for row in await cursor.fetchall()]


async def create(conn: Connection, new: NewUser) -> User:
    """Adds a user and its identities. Raises psycopg's UniqueViolation for a taken address."""
    await conn.execute(
        """
        insert into auth.users (
            instance_id, id, aud, role, email, phone, encrypted_password,
            email_confirmed_at, phone_confirmed_at, banned_until, is_anonymous,
            raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
            confirmation_token, recovery_token, email_change_token_new, email_change
        )
        values (
            '00000000-0000-0000-0000-000000000000', %(id)s, 'authenticated', %(role)s,
            %(email)s, %(phone)s, %(encrypted_password)s,
            case when %(email_confirmed)s then now() end,
            case when %(phone_confirmed)s then now() end,
            now() + %(banned_for)s::interval, %(is_anonymous)s,
            %(app_metadata)s, %(user_metadata)s, now(), now(), '', '', '', ''
        )
        """,
        _parameters(new),
    )
    await _write_identities(
        conn,
        new.id,
        email=new.email,
        email_verified=new.email_confirmed,
        phone=new.phone,
        phone_verified=new.phone_confirmed,
    )
    return await get(conn, new.id)


async def update(conn: Connection, user_id: UUID, change: Update) -> User:
    """Changes a user. Metadata is merged; a key set to null is removed. Raises AuthError."""
    try:
        await conn.execute(
            """
            update auth.users
            set
                email = coalesce(%(email)s, email),
                phone = coalesce(%(phone)s, phone),
                encrypted_password = coalesce(%(encrypted_password)s, encrypted_password),
                role = coalesce(%(role)s, role),
                email_confirmed_at = case
                    when %(email_confirmed)s then coalesce(email_confirmed_at, now())
                    else email_confirmed_at
                end,
                phone_confirmed_at = case
                    when %(phone_confirmed)s then coalesce(phone_confirmed_at, now())
                    else phone_confirmed_at
                end,
                is_anonymous = is_anonymous
                    and not (%(email)s::text is not null and %(email_confirmed)s)
                    and not (%(phone)s::text is not null and %(phone_confirmed)s),
                banned_until = case
                    when %(unban)s then null
                    else coalesce(now() + %(banned_for)s::interval, banned_until)
                end,
                raw_user_meta_data = (
                    select coalesce(jsonb_object_agg(key, value), '{}')
                    from jsonb_each(coalesce(raw_user_meta_data, '{}') || %(user_metadata)s)
                    where not (%(user_metadata)s ? key and value = 'null')
                ),
                raw_app_meta_data = (
                    select coalesce(jsonb_object_agg(key, value), '{}')
                    from jsonb_each(coalesce(raw_app_meta_data, '{}') || %(app_metadata)s)
                    where not (%(app_metadata)s ? key and value = 'null')
                ),
                updated_at = now()
            where id = %(id)s
            """,
            {**_parameters(change), "id": user_id},
        )
        if change.email or change.phone:
            await _write_identities(
                conn,
                user_id,
                email=change.email,
                email_verified=change.email_confirmed,
                phone=change.phone,
                phone_verified=change.phone_confirmed,
            )
            await _note_providers(conn, user_id)
    except UniqueViolation as error:
        raise taken(error) from error
    return await get(conn, user_id)


async def confirm_email(conn: Connection, user_id: UUID) -> None:
    """Notes that a user has proved their address, by a link or code that was sent to it."""
    await conn.execute(
        """
        update auth.users
        set
            email_confirmed_at = coalesce(email_confirmed_at, now()),
            raw_user_meta_data = coalesce(raw_user_meta_data, '{}')
                || '{"email_verified": true}',
            updated_at = now()
        where id = %s
        """,
        [user_id],
    )
    await _verify_identity(conn, user_id, "email")


async def confirm_phone(conn: Connection, user_id: UUID) -> None:
    """Notes that a user has proved their phone number."""
    await conn.execute(
        """
        update auth.users
        set phone_confirmed_at = coalesce(phone_confirmed_at, now()), updated_at = now()
        where id = %s
        """,
        [user_id],
    )
    await _verify_identity(conn, user_id, "phone")


async def begin_email_change(conn: Connection, user_id: UUID, email: str) -> None:
    """Notes the address that a user wants to change to."""
    await conn.execute(
        """
        update auth.users
        set email_change = %s, email_change_confirm_status = 0, updated_at = now()
        where id = %s
        """,
        [email, user_id],
    )


async def note_confirmation(conn: Connection, user_id: UUID, kind: str) -> bool:
    """Notes which address has confirmed a change; returns whether the other had done so before.

    `kind` is that of the code, see CONFIRMED_BY. Two codes of one address count once.
    """
    cursor = await conn.execute(
        """
        update auth.users
        set email_change_confirm_status = %(by)s, updated_at = now()
        where id = %(id)s and coalesce(email_change_confirm_status, 0) in (0, %(by)s)
        """,
        {"id": user_id, "by": CONFIRMED_BY[kind]},
    )
    return cursor.rowcount == 0


async def forget_confirmations(conn: Connection, user_id: UUID) -> None:
    """Makes both addresses confirm a change anew."""
    await conn.execute(
        "update auth.users set email_change_confirm_status = 0, updated_at = now() where id = %s",
        [user_id],
    )


async def finish_email_change(conn: Connection, user_id: UUID) -> None:
    """Makes the new address the user's, confirmed. Raises AuthError for one that was taken."""
    user = await get(conn, user_id)
    change = Update(email=user.new_email, email_confirmed=True)
    await conn.execute(
        """
        update auth.users
        set email_change = '', email_change_confirm_status = 0, email_confirmed_at = now()
        where id = %s
        """,
        [user_id],
    )
    await update(conn, user_id, change)


async def begin_phone_change(conn: Connection, user_id: UUID, phone: str) -> None:
    """Notes the phone number that a user wants to change to."""
    await conn.execute(
        "update auth.users set phone_change = %s, updated_at = now() where id = %s",
        [phone, user_id],
    )


async def finish_phone_change(conn: Connection, user_id: UUID) -> None:
    """Makes the new number the user's, confirmed. Raises AuthError for one that was taken."""
    user = await get(conn, user_id)
    change = Update(phone=user.new_phone, phone_confirmed=True)
    await conn.execute(
        "update auth.users set phone_change = '', phone_confirmed_at = now() where id = %s",
        [user_id],
    )
    await update(conn, user_id, change)


async def note_invited(conn: Connection, user_id: UUID) -> None:
    """Notes the time of an invitation."""
    await conn.execute(
        "update auth.users set invited_at = now(), updated_at = now() where id = %s", [user_id]
    )


async def delete(conn: Connection, user_id: UUID) -> None:
    """Deletes a user with all sessions and identities. Raises AuthError (user_not_found)."""
    cursor = await conn.execute("delete from auth.users where id = %s", [user_id])
    if cursor.rowcount == 0:
        raise user_not_found()


async def count(conn: Connection) -> int:
    """How many users there are, over all pages."""
    cursor = await conn.execute(
        f"select count(*) as users from auth.users u where {_IN_PROJECT}"  # noqa: S608 - our own
    )
    row = await cursor.fetchone()
    return int(row["users"]) if row else 0


async def _find(conn: Connection, condition: str, value: str) -> User | None:
    # condition: one of those above
    cursor = await conn.execute(f"{_SELECT} where {_IN_PROJECT} and {condition}", [value])
    row = await cursor.fetchone()
    return _user(row) if row else None


async def _write_identities(
    conn: Connection,
    user_id: UUID,
    *,
    email: str | None,
    email_verified: bool,
    phone: str | None,
    phone_verified: bool,
) -> None:
    """Writes the way in which a user signs in by this address, and by this phone number."""
    await conn.execute(
        """
        insert into auth.identities (
            provider_id, user_id, identity_data, provider,
            last_sign_in_at, created_at, updated_at
        )
        select
            %(id)s::text, %(id)s,
            jsonb_build_object(
                'sub', %(id)s::text, way.provider, way.address,
                'email_verified', false, 'phone_verified', false
            ) || jsonb_build_object(way.provider || '_verified', way.verified),
            way.provider, now(), now(), now()
        from (
            values
                ('email', %(email)s::text, %(email_verified)s),
                ('phone', %(phone)s::text, %(phone_verified)s)
        ) as way (provider, address, verified)
        where way.address is not null
        on conflict (provider_id, provider) do update
        set
            identity_data = identities.identity_data || jsonb_build_object(
                excluded.provider, excluded.identity_data -> excluded.provider,
                excluded.provider || '_verified',
                excluded.identity_data -> (excluded.provider || '_verified')
            ),
            updated_at = excluded.updated_at
        """,
        {
            "id": user_id,
            "email": email,
            "email_verified": email_verified,
            "phone": phone,
            "phone_verified": phone_verified,
        },
    )


async def _verify_identity(conn: Connection, user_id: UUID, provider: str) -> None:
    await conn.execute(
        """
        update auth.identities
        set
            identity_data = identity_data || jsonb_build_object(provider || '_verified', true),
            updated_at = now()
        where user_id = %s and provider = %s
        """,
        [user_id, provider],
    )


async def _note_providers(conn: Connection, user_id: UUID) -> None:
    """Names the ways in which a user signs in, where tokens tell of them."""
    await conn.execute(
        """
        update auth.users u
        set raw_app_meta_data = jsonb_build_object('provider', way.providers -> 0)
            || coalesce(u.raw_app_meta_data, '{}')
            || jsonb_build_object('providers', way.providers)
        from (
            select jsonb_agg(i.provider order by i.created_at, i.provider) as providers
            from auth.identities i
            where i.user_id = %(id)s
        ) way
        where u.id = %(id)s and way.providers is not null
        """,
        {"id": user_id},
    )


def _user(row: DictRow) -> User:
    absent = [column for column in _TEXT_COLUMNS if row[column] is None]
    if absent:
        raise AuthError(
            500,
            "unexpected_failure",
            f"Database error querying schema: null in auth.users.{absent[0]}, expected ''",
        )
    return User.model_validate(row)


def _parameters(values: NewUser | Update) -> dict[str, object]:
    password = values.encrypted_password
    return {
        **values.model_dump(),
        "encrypted_password": password.get_secret_value() if password else None,
        "user_metadata": Jsonb(values.user_metadata or {}),
        "app_metadata": Jsonb(values.app_metadata or {}),
    }
