"""Auth as one application: its endpoints, and its description of itself."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.origins import OwnOrigin, network_urls
from rapport.local.stack.running import Stack
from rapport.local.supabase.auth import refusals
from rapport.local.supabase.auth.account import AccountEndpoints
from rapport.local.supabase.auth.admin import AdminEndpoints
from rapport.local.supabase.auth.http import EXCEPTION_HANDLERS
from rapport.local.supabase.auth.inbox import Inbox
from rapport.local.supabase.auth.project import Project
from rapport.local.supabase.auth.sending import SendingEndpoints
from rapport.local.supabase.auth.settings import CONFIG, AuthSettings
from rapport.local.supabase.auth.signup import SignUpEndpoints
from rapport.local.supabase.auth.tokens import TokenEndpoints
from rapport.local.supabase.auth.verify import VerifyEndpoints
from rapport.local.supabase.signing_key import published_keys

# how long others may keep the published keys, as on a hosted project
KEYS_SECONDS = 600
# other ways to sign in, all of them off
PROVIDERS = (
    *("apple", "azure", "bitbucket", "discord", "facebook", "figma", "fly", "github", "gitlab"),
    *("google", "keycloak", "kakao", "linkedin", "linkedin_oidc", "notion", "slack", "slack_oidc"),
    *("snapchat", "spotify", "twitch", "twitter", "workos", "zoom"),
)


class AuthService:
    """Auth on one stack's database; `app` serves it below /auth/v1, `inbox` below /_mail.

    `settings` are by default those of the stack's config.toml. Raises StackError where they are
    wrong.
    """

    def __init__(self, stack: Stack, settings: AuthSettings | None = None) -> None:
        settings = settings or AuthSettings.read(stack.supabase_config or CONFIG)
        own = {"network_urls": tuple(network_urls(stack))}
        self._project = Project(stack, settings.model_copy(update=own))
        self._signing_key = stack.signing_key
        self.inbox = Inbox(self._project.pool, OwnOrigin.of(stack)).app
        self.app = Starlette(
            routes=[
                *SignUpEndpoints(self._project).routes,
                *TokenEndpoints(self._project).routes,
                *VerifyEndpoints(self._project).routes,
                *SendingEndpoints(self._project).routes,
                *AccountEndpoints(self._project).routes,
                *AdminEndpoints(self._project).routes,
                Route("/settings", self.settings, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
                Route("/.well-known/jwks.json", self.signing_keys, methods=["GET"]),
                *refusals.routes(self._project),
            ],
            exception_handlers=EXCEPTION_HANDLERS,
        )

    async def start(self) -> None:
        """Connects to the database. Raises psycopg_pool.PoolTimeout after 10 s without."""
        await self._project.pool.open(wait=True, timeout=10)

    async def stop(self) -> None:
        await self._project.pool.close()

    async def settings(self, _: Request) -> Response:
        """The settings that pages may know."""
        settings = self._project.settings
        return JSONResponse(
            {
                "external": {
                    **dict.fromkeys(PROVIDERS, False),
                    "anonymous_users": settings.enable_anonymous_sign_ins,
                    "email": settings.email.enable_signup,
                    "phone": settings.sms.enable_signup,
                },
                "disable_signup": not settings.enable_signup,
                "mailer_autoconfirm": not settings.email.enable_confirmations,
                "phone_autoconfirm": not settings.sms.enable_confirmations,
                "sms_provider": "",
                "saml_enabled": False,
                "passkeys_enabled": False,
            }
        )

    async def health(self, _: Request) -> Response:
        return JSONResponse({"name": "GoTrue", "description": "Rapport's local stand-in"})

    async def signing_keys(self, _: Request) -> Response:
        """The keys by which everybody can verify access tokens, without asking us."""
        return JSONResponse(
            published_keys(self._signing_key),
            headers={"Cache-Control": f"public, max-age={KEYS_SECONDS}"},
        )
