"""The parts of Auth that are not served here, each with a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rapport.local.supabase.auth import callers
from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.project import Project

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Refusal:
    """The answer 501 for some paths. `code` is the one that GoTrue has for a part that is off.

    `user_paths` ask for a user's token first and `admin_paths` for an administrator's, as GoTrue
    does.
    """

    code: str
    sentence: str
    paths: tuple[str, ...] = ()
    user_paths: tuple[str, ...] = ()
    admin_paths: tuple[str, ...] = ()

    @property
    def error(self) -> AuthError:
        """The error to raise."""
        return AuthError(501, self.code, self.sentence)

    def routes(self, project: Project) -> list[Route]:
        """The routes that answer it."""

        async def for_all(_: Request) -> Response:
            raise self.error

        async def for_users(request: Request) -> Response:
            async with project.pool.connection() as conn:
                await callers.signed_in(conn, request, project)
            raise self.error

        async def for_admins(request: Request) -> Response:
            callers.require_admin(request, project)
            raise self.error

        return [
            Route(path, refuse, methods=METHODS)
            for refuse, paths in (
                (for_all, self.paths),
                (for_users, self.user_paths),
                (for_admins, self.admin_paths),
            )
            for path in paths
        ]


_ELSEWHERE = "Try it on a hosted project; here people sign in by password, code or magic link."

MFA = Refusal(
    "feature_disabled",
    f"Second factors and passkeys are not served on this machine. {_ELSEWHERE}",
    paths=("/passkeys/authentication/{rest:path}",),
    user_paths=("/factors", "/factors/{rest:path}", "/passkeys", "/passkeys/{rest:path}"),
    admin_paths=(
        "/admin/users/{id}/factors",
        "/admin/users/{id}/factors/{rest:path}",
        "/admin/users/{id}/passkeys",
        "/admin/users/{id}/passkeys/{rest:path}",
    ),
)
OAUTH = Refusal(
    "provider_disabled",
    f"Sign-in by other providers (OAuth) is not served on this machine. {_ELSEWHERE}",
    paths=("/authorize", "/callback"),
    admin_paths=("/admin/custom-providers", "/admin/custom-providers/{rest:path}"),
)
LINKING = Refusal(
    "manual_linking_disabled",
    f"Manual linking is disabled: identities of other providers are not served on this machine. "
    f"{_ELSEWHERE}",
    user_paths=("/user/identities/authorize", "/user/identities/{id}"),
)
OAUTH_SERVER = Refusal(
    "feature_disabled",
    "This machine's Auth is no OAuth server for others. Try it on a hosted project.",
    paths=("/oauth/{rest:path}", "/.well-known/oauth-authorization-server"),
    user_paths=("/user/oauth/{rest:path}",),
    admin_paths=("/admin/oauth/{rest:path}",),
)
SSO = Refusal(
    "sso_provider_disabled",
    f"SAML 2.0 is disabled: single sign-on is not served on this machine. {_ELSEWHERE}",
    paths=("/sso", "/sso/{rest:path}"),
    admin_paths=("/admin/sso/{rest:path}",),
)
AUDIT = Refusal(
    "feature_disabled",
    "The audit log is not kept on this machine. Read it on a hosted project.",
    admin_paths=("/admin/audit",),
)
ID_TOKENS = Refusal(
    "provider_disabled",
    "Provider is not enabled: sign-in by another provider's ID token is not served on this "
    f"machine. {_ELSEWHERE}",
)
WEB3 = Refusal(
    "web3_provider_disabled",
    f"Web3 provider is disabled: sign-in by wallet is not served on this machine. {_ELSEWHERE}",
)


def routes(project: Project) -> list[Route]:
    """The routes of everything that is not served."""
    refused = (MFA, OAUTH, LINKING, OAUTH_SERVER, SSO, AUDIT)
    return [route for refusal in refused for route in refusal.routes(project)]
