"""Auth's endpoints for administrators: users, invitations, and links to send oneself."""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg.errors import UniqueViolation
from pydantic import BaseModel, SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.supabase.auth import (
    callers,
    codes,
    messages,
    passwords,
    redirects,
    sessions,
    users,
)
from rapport.local.supabase.auth.errors import AuthError, taken, user_not_found, validation_failed
from rapport.local.supabase.auth.http import answer, query, read
from rapport.local.supabase.auth.models import (
    AdminAttributes,
    Deletion,
    Invitation,
    LinkRequest,
    Metadata,
    UserPage,
)
from rapport.local.supabase.auth.project import Project

# the mail of each kind of link
_LINKS = {
    "signup": messages.SIGN_UP,
    "invite": messages.INVITATION,
    "magiclink": messages.MAGIC_LINK,
    "recovery": messages.RECOVERY,
    "email_change_current": messages.OLD_ADDRESS,
    "email_change_new": messages.NEW_ADDRESS,
}


class Link(users.User):
    """A user, and a link that nobody has sent yet."""

    action_link: str
    email_otp: str
    hashed_token: str
    verification_type: str
    redirect_to: str


class UserList(BaseModel):
    """One page of a project's users."""

    users: list[users.User]
    aud: str = "authenticated"


class AdminEndpoints:
    """The endpoints for the service key; every endpoint raises AuthError for any other token."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._pool = project.pool
        self.routes = [
            Route("/invite", self.invite, methods=["POST"]),
            Route("/admin/generate_link", self.generate_link, methods=["POST"]),
            Route("/admin/users", self.create_user, methods=["POST"]),
            Route("/admin/users", self.list_users, methods=["GET"]),
            Route("/admin/users/{id}", self.get_user, methods=["GET"]),
            Route("/admin/users/{id}", self.update_user, methods=["PUT"]),
            Route("/admin/users/{id}", self.delete_user, methods=["DELETE"]),
        ]

    async def create_user(self, request: Request) -> Response:
        """Creates a user, who can sign in once `email_confirm` was given."""
        callers.require_admin(request, self._project)
        body = await read(request, AdminAttributes)
        if not body.email and not body.phone:
            raise validation_failed("Cannot create a user without either an email or phone")
        providers = [
            name for name, value in (("email", body.email), ("phone", body.phone)) if value
        ]
        verified: Metadata = {"email_verified": True} if body.email_confirm else {}
        new = users.NewUser(
            id=body.id or uuid4(),
            email=body.email,
            phone=body.phone,
            encrypted_password=await self._hashed(body),
            role=body.role or "authenticated",
            email_confirmed=body.email_confirm,
            phone_confirmed=body.phone_confirm,
            banned_for=body.ban,
            user_metadata={**(body.user_metadata or {}), **verified},
            app_metadata={
                **(body.app_metadata or {}),
                "provider": providers[0],
                "providers": [*providers],
            },
        )
        try:
            async with self._pool.connection() as conn:
                return answer(await users.create(conn, new))
        except UniqueViolation as error:
            raise taken(error) from error

    async def list_users(self, request: Request) -> Response:
        callers.require_admin(request, self._project)
        page = query(request, UserPage)
        async with self._pool.connection() as conn:
            found = await users.page(conn, page.page, page.per_page)
            total = await users.count(conn)
        return answer(UserList(users=found), headers=_paging(request, page, total))

    async def get_user(self, request: Request) -> Response:
        callers.require_admin(request, self._project)
        user_id = _user_id(request)
        async with self._pool.connection() as conn:
            return answer(await users.get(conn, user_id))

    async def update_user(self, request: Request) -> Response:
        """Changes a user; a new password ends all of the user's sessions."""
        callers.require_admin(request, self._project)
        user_id = _user_id(request)
        body = await read(request, AdminAttributes)
        change = users.Update(
            email=body.email,
            phone=body.phone,
            encrypted_password=await self._hashed(body),
            role=body.role,
            email_confirmed=body.email_confirm,
            phone_confirmed=body.phone_confirm,
            unban=body.ban_duration == "none",
            banned_for=body.ban,
            user_metadata=body.user_metadata,
            app_metadata=body.app_metadata,
        )
        async with self._pool.connection() as conn:
            user = await users.update(conn, user_id, change)
            if body.password:
                await sessions.end(conn, user_id, None, "global")
        return answer(user)

    async def delete_user(self, request: Request) -> Response:
        """Deletes a user for good; rows that refer to the user follow their foreign keys."""
        callers.require_admin(request, self._project)
        user_id = _user_id(request)
        if (await read(request, Deletion)).should_soft_delete:
            raise AuthError(
                501,
                "feature_disabled",
                "Soft deletion is not served here: delete the user for good, or ban it.",
            )
        async with self._pool.connection() as conn:
            await users.delete(conn, user_id)
        return JSONResponse({})

    async def invite(self, request: Request) -> Response:
        """Sends an invitation to an address, and creates its user if there is none."""
        project = self._project
        callers.require_admin(request, project)
        body = await read(request, Invitation)
        if not body.email:
            raise validation_failed("An email address is required")
        page = redirects.target(request, project.settings)
        async with self._pool.connection() as conn:
            user = await self._unconfirmed(conn, body.email, None, body.data)
            await messages.send_link(project, conn, user, messages.INVITATION, page, again=True)
            await users.note_invited(conn, user.id)
            return answer(await users.get(conn, user.id))

    async def generate_link(self, request: Request) -> Response:
        """Makes the link of a mail without sending it."""
        project = self._project
        callers.require_admin(request, project)
        body = await read(request, LinkRequest)
        if body.type not in _LINKS:
            raise validation_failed(f"Invalid email action link type requested: {body.type}")
        if not body.email:
            raise validation_failed("An email address is required")
        page = redirects.target(request, project.settings, body.redirect_to)
        hashed = None
        if body.password and body.password.get_secret_value():
            hashed = await passwords.hash_password(body.password, project.settings)
        async with self._pool.connection() as conn:
            user = await users.find_by_email(conn, body.email)
            kind = "signup" if body.type == "magiclink" and user is None else body.type
            purpose = _LINKS[kind]
            if kind in ("signup", "invite"):
                if kind == "signup" and user is None and body.type == "signup" and not hashed:
                    raise validation_failed("Signup requires a valid password")
                user = await self._unconfirmed(conn, body.email, hashed, body.data)
                if kind == "invite":
                    await users.note_invited(conn, user.id)
            elif user is None:
                raise user_not_found("User with this email not found")
            address = user.email
            if kind.startswith("email_change"):
                address = await self._begin_change(conn, user, body, kind)
            await codes.note_sent(conn, user.id, purpose.sent_at, None, "")
            code = await project.codes.issue(conn, user.id, purpose.kind, address)
            user = await users.get(conn, user.id)
        return answer(
            Link.model_construct(
                **{name: getattr(user, name) for name in users.User.model_fields},
                action_link=messages.link(project, purpose.verifies, code.token, page),
                email_otp=code.digits,
                hashed_token=code.token,
                verification_type=kind,
                redirect_to=page,
            )
        )

    async def _begin_change(
        self, conn: users.Connection, user: users.User, body: LinkRequest, kind: str
    ) -> str:
        """Notes the new address; returns the one whose owner the link is for."""
        if not body.new_email:
            raise validation_failed("A new email address is required: new_email")
        if kind == "email_change_current" and (
            not self._project.settings.email.double_confirm_changes
        ):
            raise validation_failed("Enable secure email change to generate link for current email")
        if body.new_email != user.email and await users.find_by_email(conn, body.new_email):
            raise _email_exists()
        if user.new_email != body.new_email:
            await users.begin_email_change(conn, user.id, body.new_email)
        return user.email if kind == "email_change_current" else body.new_email

    async def _unconfirmed(
        self,
        conn: users.Connection,
        email: str,
        password: SecretStr | None,
        data: Metadata | None,
    ) -> users.User:
        """The user of an address who has not confirmed it, or a new one. Raises AuthError."""
        user = await users.find_by_email(conn, email)
        if user and user.email_confirmed_at:
            raise _email_exists()
        if user:
            return await users.update(conn, user.id, users.Update(user_metadata=data))
        new = users.NewUser(
            email=email,
            encrypted_password=password,
            user_metadata=data or {},
            app_metadata={"provider": "email", "providers": ["email"]},
        )
        try:
            async with conn.transaction():
                return await users.create(conn, new)
        except UniqueViolation as error:
            raise taken(error) from error

    async def _hashed(self, body: AdminAttributes) -> SecretStr | None:
        if body.password and body.password_hash:
            raise validation_failed("Only a password or a password hash should be provided")
        if body.password_hash:
            return body.password_hash
        if not body.password or not body.password.get_secret_value():
            return None
        return await passwords.hash_password(body.password, self._project.settings)


def _email_exists() -> AuthError:
    return AuthError(
        422, "email_exists", "A user with this email address has already been registered"
    )


def _paging(request: Request, page: UserPage, total: int) -> dict[str, str]:
    """The headers by which clients find further pages."""
    last = max(1, -(-total // page.per_page))
    pages = {"next": page.page + 1, "last": last} if page.page < last else {"last": last}
    path = request.url.path
    links = [
        f'<{redirects.with_query(f"{path}?{request.url.query}", page=str(number))}>; rel="{name}"'
        for name, number in pages.items()
    ]
    return {"Link": ", ".join(links), "X-Total-Count": str(total)}


def _user_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError as error:
        raise AuthError(404, "validation_failed", "user_id must be an UUID") from error
