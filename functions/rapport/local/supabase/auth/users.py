"""The users of a project: rows of auth.users and auth.identities, and their form for clients."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

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

# GoTrue reads these columns as text and fails on null
_TEXT_COLUMNS = ("confirmation_token", "recovery_token", "email_change_token_new", "email_change")


class User(BaseModel):
    """A user in GoTrue's form; the password's hash is never part of an answer."""

    id: UUID
    aud: str
    role: str | None
    email: str | None
    phone: str | None
    email_confirmed_at: datetime | None
    phone_confirmed_at: datetime | None
    confirmed_at: datetime | None
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


class NewUser(BaseModel):
    """The first values of a row of auth.users; `id` is ours, or given by the admin."""

    id: UUID
    email: str | None
    phone: str | None = None
    encrypted_password: SecretStr | None
    role: str = "authenticated"
    email_confirmed: bool
    phone_confirmed: bool = False
    banned_for: timedelta | None = None
    user_metadata: Metadata
    app_metadata: Metadata


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
    query = f"{_SELECT} where {_IN_PROJECT} and not u.is_sso_user and lower(u.email) = %s"
    cursor = await conn.execute(query, [email])
    row = await cursor.fetchone()
    return _user(row) if row else None


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
            email_confirmed_at, phone_confirmed_at, banned_until,
            raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
            confirmation_token, recovery_token, email_change_token_new, email_change
        )
        values (
            '00000000-0000-0000-0000-000000000000', %(id)s, 'authenticated', %(role)s,
            %(email)s, %(phone)s, %(encrypted_password)s,
            case when %(email_confirmed)s then now() end,
            case when %(phone_confirmed)s then now() end,
            now() + %(banned_for)s::interval,
            %(app_metadata)s, %(user_metadata)s, now(), now(), '', '', '', ''
        )
        """,
        _parameters(new),
    )
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
            ),
            way.provider, now(), now(), now()
        from (values ('email', %(email)s::text), ('phone', %(phone)s::text))
            as way (provider, address)
        where way.address is not null
        """,
        {"id": new.id, "email": new.email, "phone": new.phone},
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
        await conn.execute(
            """
            update auth.identities
            set
                identity_data = identity_data || jsonb_build_object('email', %(email)s::text),
                updated_at = now()
            where user_id = %(id)s
                and provider = 'email'
                and %(email)s::text is not null
            """,
            {"id": user_id, "email": change.email},
        )
    except UniqueViolation as error:
        raise taken(error) from error
    return await get(conn, user_id)


async def delete(conn: Connection, user_id: UUID) -> None:
    """Deletes a user with all sessions and identities. Raises AuthError (user_not_found)."""
    cursor = await conn.execute("delete from auth.users where id = %s", [user_id])
    if cursor.rowcount == 0:
        raise user_not_found()


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
