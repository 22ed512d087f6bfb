"""Passwords: the rules for new ones, and bcrypt outside the event loop."""

from __future__ import annotations

import asyncio

import bcrypt
from pydantic import SecretStr

from rapport.local.supabase.auth.errors import AuthError, validation_failed
from rapport.local.supabase.auth.settings import AuthSettings

MAX_BYTES = 72  # bcrypt ignores further bytes
COST = 10  # GoTrue's

# of an empty password: compared where there is no user, so that the time taken reveals nothing; it
# stands here since it takes as long to make as to compare
_NOBODY = "$2b$10$gHY3uAr/2uYEPyZus8idOOI.Ud6k1r3bIwDbexbj1I1fLtrNfDA9a"

_LOWER, _UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS, _SYMBOLS = "0123456789", "!@#$%^&*()_+-=[]{};'\\:\"|<>?,./`~"
# a password needs one character of each set; by the name in the settings
_REQUIRED = {
    "": (),
    "letters_digits": (_LOWER + _UPPER, _DIGITS),
    "lower_upper_letters_digits": (_LOWER, _UPPER, _DIGITS),
    "lower_upper_letters_digits_symbols": (_LOWER, _UPPER, _DIGITS, _SYMBOLS),
}


def check_strength(password: SecretStr, settings: AuthSettings) -> None:
    """Raises AuthError for a new password that is too short, too long or too simple."""
    value = password.get_secret_value()
    sentences, reasons = [], []
    if len(value) < settings.minimum_password_length:
        reasons.append("length")
        sentences.append(
            f"Password should be at least {settings.minimum_password_length} characters."
        )
    required = _REQUIRED[settings.password_requirements]
    if not all(set(value) & set(characters) for characters in required):
        reasons.append("characters")
        sentences.append(
            "Password should contain at least one character of each: " + ", ".join(required) + "."
        )
    if reasons:
        raise AuthError(422, "weak_password", " ".join(sentences), reasons=tuple(reasons))
    if len(value.encode()) > MAX_BYTES:
        raise validation_failed(f"Password cannot be longer than {MAX_BYTES} characters")


async def hash_password(password: SecretStr, settings: AuthSettings) -> SecretStr:
    """Hashes a new password. Raises AuthError as `check_strength` does."""
    check_strength(password, settings)
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
