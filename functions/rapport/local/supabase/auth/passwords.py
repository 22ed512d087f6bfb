"""Passwords: the rules for new ones, and bcrypt outside the event loop."""

from __future__ import annotations

import asyncio

import bcrypt
from pydantic import SecretStr

from rapport.local.supabase.auth.errors import AuthError, validation_failed

MIN_LENGTH = 6
MAX_BYTES = 72  # bcrypt ignores further bytes
COST = 10  # GoTrue's

# compared where there is no user, so that the time taken reveals nothing
_NOBODY = bcrypt.hashpw(b"", bcrypt.gensalt(COST)).decode()


def check_strength(password: SecretStr) -> None:
    """Raises AuthError for a new password that is too short or too long."""
    value = password.get_secret_value()
    if len(value) < MIN_LENGTH:
        raise AuthError(
            422,
            "weak_password",
            f"Password should be at least {MIN_LENGTH} characters.",
            reasons=("length",),
        )
    if len(value.encode()) > MAX_BYTES:
        raise validation_failed(f"Password cannot be longer than {MAX_BYTES} characters")


async def hash_password(password: SecretStr) -> SecretStr:
    """Hashes a new password. Raises AuthError as `check_strength` does."""
    check_strength(password)
    value = password.get_secret_value().encode()
    hashed = await asyncio.to_thread(bcrypt.hashpw, value, bcrypt.gensalt(COST))
    return SecretStr(hashed.decode())


async def matches(password: SecretStr, encrypted: SecretStr | None) -> bool:
    """Whether the password matches the hash; takes as long where there is no hash."""
    value = password.get_secret_value().encode()
    hashed = encrypted.get_secret_value() if encrypted else ""
    # a seed may hold anything in this column
    try:
        equal = await asyncio.to_thread(
            bcrypt.checkpw, value[:MAX_BYTES], (hashed or _NOBODY).encode()
        )
    except ValueError:
        return False
    return equal and bool(hashed) and len(value) <= MAX_BYTES
