"""Auth's refusals, in the codes and words that its clients match."""

from __future__ import annotations

from psycopg.errors import UniqueViolation


class AuthError(Exception):
    """A refusal: HTTP status, error code, and a message for people.

    `reasons` says why a password is weak; it is empty for every other refusal. Source of codes and
    statuses: Supabase's "Error Codes" of Auth, and GoTrue 2.189.
    """

    def __init__(
        self, status: int, code: str, message: str, *, reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.reasons = reasons


def invalid_credentials() -> AuthError:
    """The refusal for an unknown address or a wrong password; both get the same words."""
    return AuthError(400, "invalid_credentials", "Invalid login credentials")


def user_not_found(message: str = "User not found") -> AuthError:
    return AuthError(404, "user_not_found", message)


def validation_failed(message: str) -> AuthError:
    return AuthError(400, "validation_failed", message)


def taken(error: UniqueViolation) -> AuthError:
    """The refusal for an address, number or id that already exists, for an administrator."""
    match error.diag.constraint_name:
        case "users_email_partial_key":
            code, what = "email_exists", "email address"
        case "users_phone_key":
            code, what = "phone_exists", "phone number"
        case _:
            code, what = "conflict", "id"
    return AuthError(422, code, f"A user with this {what} has already been registered")


def already_registered() -> AuthError:
    """The refusal of a sign-up for an address or number that has a user."""
    return AuthError(422, "user_already_exists", "User already registered")


def sign_ups_disabled() -> AuthError:
    return AuthError(422, "signup_disabled", "Signups not allowed for this instance")


def code_invalid() -> AuthError:
    """The refusal for a code that is wrong, used or late; all get the same words."""
    return AuthError(403, "otp_expired", "Token has expired or is invalid")


def link_invalid() -> AuthError:
    """The refusal for a link that is wrong, used or late; all get the same words."""
    return AuthError(403, "otp_expired", "Email link is invalid or has expired")
