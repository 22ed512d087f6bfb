"""What is not served here, each with a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rapport.local.supabase.auth.errors import AuthError

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Refusal:
    """The answer 501 for some paths. `code` is the one that GoTrue has for a part that is off."""

    code: str
    sentence: str
    paths: tuple[str, ...] = ()

    @property
    def error(self) -> AuthError:
        """The error to raise."""
        return AuthError(501, self.code, self.sentence)

    def routes(self) -> list[Route]:
        """The routes that answer it."""
        return [Route(path, self._refuse, methods=METHODS) for path in self.paths]

    async def _refuse(self, _: Request) -> Response:
        raise self.error


_ELSEWHERE = "Try it on a hosted project; here people sign in by password, code or magic link."

MFA = Refusal(
    "feature_disabled",
    f"Second factors and passkeys are not served on this machine. {_ELSEWHERE}",
    (
        "/factors",
        "/factors/{rest:path}",
        "/passkeys",
        "/passkeys/{rest:path}",
        "/admin/users/{id}/factors",
        "/admin/users/{id}/factors/{rest:path}",
        "/admin/users/{id}/passkeys",
        "/admin/users/{id}/passkeys/{rest:path}",
    ),
)
OAUTH = Refusal(
    "provider_disabled",
    f"Sign-in by other providers (OAuth) is not served on this machine. {_ELSEWHERE}",
    ("/authorize", "/callback", "/admin/custom-providers", "/admin/custom-providers/{rest:path}"),
)
LINKING = Refusal(
    "manual_linking_disabled",
    f"Manual linking is disabled: identities of other providers are not served on this machine. "
    f"{_ELSEWHERE}",
    ("/user/identities/authorize", "/user/identities/{id}"),
)
OAUTH_SERVER = Refusal(
    "feature_disabled",
    "This machine's Auth is no OAuth server for others. Try it on a hosted project.",
    (
        "/oauth/{rest:path}",
        "/user/oauth/{rest:path}",
        "/admin/oauth/{rest:path}",
        "/.well-known/oauth-authorization-server",
    ),
)
SSO = Refusal(
    "sso_provider_disabled",
    f"SAML 2.0 is disabled: single sign-on is not served on this machine. {_ELSEWHERE}",
    ("/sso", "/sso/{rest:path}", "/admin/sso/{rest:path}"),
)
AUDIT = Refusal(
    "feature_disabled",
    "The audit log is not kept on this machine. Read it on a hosted project.",
    ("/admin/audit",),
)
ID_TOKENS = Refusal(
    "provider_disabled",
    f"Sign-in by another provider's ID token is not served on this machine. {_ELSEWHERE}",
)
WEB3 = Refusal(
    "web3_provider_disabled",
    f"Web3 provider is disabled: sign-in by wallet is not served on this machine. {_ELSEWHERE}",
)


def routes() -> list[Route]:
    """The routes of everything that is not served."""
    refused = (MFA, OAUTH, LINKING, OAUTH_SERVER, SSO, AUDIT)
    return [route for refusal in refused for route in refusal.routes()]
