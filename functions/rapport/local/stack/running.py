"""The settings of a running stack: its folder, ports, keys and secrets, shared by its processes."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rapport.api_keys import new_api_key
from rapport.graph_version import GRAPH_VERSION
from rapport.local.stack.files import write_whole
from rapport.local.supabase.signing_key import SigningKey, new_signing_key

STACK_VARIABLE = "RAPPORT_STACK"
WEBHOOK_PATH = "/api/webhooks/whatsapp"
WAKE_PATH = "/internal/wake"
METAKOCKA_PATH = "/rest/eshop/v1"
# moto's own account, for credentials that it does not know
AWS_ACCOUNT = "123456789012"
AWS_KEY_ID = "local"
AWS_REGION = "eu-central-1"
MEDIA_BUCKET = "rapport-media"


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _publishable_key() -> str:
    return new_api_key("publishable")


def _secret_keys() -> dict[str, str]:
    return {"default": new_api_key("secret")}


def _vapid_key() -> str:
    # not above: every process of a stack reads the key, and few need the cryptography
    from rapport.push.vapid import new_private_key

    return new_private_key()


class Stack(BaseModel):
    """One stack's settings, written to `stack.json` (mode 600) for its child processes.

    Ports are TCP ports on `host`. Users' tokens are signed with `signing_key` (ES256). The two keys
    of the legacy kind are tokens signed with `jwt_secret` (HS256), and good as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    host: str = "127.0.0.1"
    # the address at which pages and clients find the gateway, the functions and the files; 0.0.0.0
    # is all of this machine's
    listen: Literal["127.0.0.1", "0.0.0.0"] = "127.0.0.1"  # noqa: S104 - only where it is asked for
    database: str = "postgres"
    gateway_port: int
    db_port: int
    postgrest_port: int
    functions_port: int
    whatsapp_port: int
    # defaults for a folder that an older version wrote
    moto_port: int = 24326
    metakocka_port: int = 24327
    push_port: int = 24328
    # secrets stay out of tracebacks and logs
    db_password: str = Field(repr=False)
    publishable_key: str = Field(default_factory=_publishable_key)
    # by name; all are good at the same time, and the functions take the first
    secret_keys: dict[str, str] = Field(default_factory=_secret_keys, min_length=1, repr=False)
    signing_key: SigningKey = Field(default_factory=new_signing_key, repr=False)
    jwt_secret: str = Field(repr=False)
    anon_key: str
    service_role_key: str = Field(repr=False)
    whatsapp_app_secret: str = Field(repr=False)
    whatsapp_verify_token: str = Field(repr=False)
    # created here for a folder that an older version wrote
    whatsapp_token: str = Field(default_factory=_secret, repr=False)
    wake_secret: str = Field(default_factory=_secret, repr=False)
    metakocka_secret_key: str = Field(default_factory=_secret, repr=False)
    vapid_private_key: str = Field(default_factory=_vapid_key, repr=False)
    aws_secret: str = Field(default_factory=_secret, repr=False)
    # the Supabase CLI's config.toml with Auth's settings; by default the project's
    supabase_config: Path | None = None

    @property
    def secret_key(self) -> str:
        """The secret key of the functions; clients know it as SUPABASE_SECRET_KEY."""
        return next(iter(self.secret_keys.values()))

    @property
    def is_open(self) -> bool:
        """Whether others in the network may ask."""
        return self.listen != self.host

    @property
    def url(self) -> str:
        """The project's URL; clients know it as SUPABASE_URL."""
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def postgrest_url(self) -> str:
        return f"http://{self.host}:{self.postgrest_port}"

    @property
    def functions_url(self) -> str:
        return f"http://{self.host}:{self.functions_port}"

    @property
    def webhook_url(self) -> str:
        """The address for WhatsApp's webhooks."""
        return self.functions_url + WEBHOOK_PATH

    @property
    def wake_url(self) -> str:
        """The address that the database calls when there is work."""
        return self.functions_url + WAKE_PATH

    @property
    def graph_url(self) -> str:
        """The Graph API's base URL, with its version."""
        return f"{self.whatsapp_url}/{GRAPH_VERSION}"

    @property
    def whatsapp_url(self) -> str:
        """The base URL of the Graph API's stand-in."""
        return f"http://{self.host}:{self.whatsapp_port}"

    @property
    def metakocka_url(self) -> str:
        """The base URL of Metakocka's API."""
        return f"{self.metakocka_fake_url}{METAKOCKA_PATH}"

    @property
    def metakocka_fake_url(self) -> str:
        """The base URL of Metakocka's stand-in."""
        return f"http://{self.host}:{self.metakocka_port}"

    @property
    def push_url(self) -> str:
        """The base URL of the push service's stand-in."""
        return f"http://{self.host}:{self.push_port}"

    @property
    def aws_url(self) -> str:
        """The base URL of the stand-in for AWS."""
        return f"http://{self.host}:{self.moto_port}"

    @property
    def inbox_url(self) -> str:
        """The page with the mails and SMS that Auth has sent."""
        return f"{self.url}/_mail"

    def queue_url(self, logical_id: str) -> str:
        """The URL of one of serverless.yml's queues."""
        return f"{self.aws_url}/{AWS_ACCOUNT}/{logical_id}"

    def db_url(self, role: str = "postgres") -> str:
        """A libpq URL for one of the login roles, which share one password here."""
        return f"postgresql://{role}:{self.db_password}@{self.host}:{self.db_port}/{self.database}"

    def save(self, file: Path) -> None:
        """Writes the settings, readable only by their owner; a kill leaves the old ones."""
        write_whole(file, self.model_dump_json(indent=2).encode())

    @classmethod
    def load(cls, file: Path) -> Stack:
        """Reads what `save` wrote."""
        return cls.model_validate_json(file.read_text())
