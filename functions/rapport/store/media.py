"""The database's part in files and templates: jobs for the functions, rows for users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from rapport.errors import (
    NotSignedIn,
    RapportError,
    StoreUnavailable,
    from_postgrest,
    from_users_postgrest,
)
from rapport.settings import UserStoreSettings
from rapport.store.base import Store, code_of, understood

T = TypeVar("T")
_TIMEOUT = httpx.Timeout(9, connect=2)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FetchJob(_Row):
    """A file that this worker is to fetch from WhatsApp."""

    media_id: UUID
    account_id: UUID
    conversation_id: UUID
    message_id: UUID
    # of ours, to which it was sent: whose token opens the file
    phone_number_id: str
    provider_id: str
    mime_type: str | None
    # in hex, as the webhook said
    sha256: str | None
    object_key: str


@dataclass(frozen=True)
class MediaOutcome:
    """What became of a try to fetch a file."""

    outcome: Literal["stored", "retry", "failed"]
    size: int | None = None
    sha256: str | None = None
    mime_type: str | None = None
    error: str | None = None


class FileToSend(_Row):
    """A file of ours that a message is to carry."""

    object_key: str
    mime_type: str | None
    file_name: str | None
    # in bytes
    size: int


class Template(_Row):
    """A template as WhatsApp lists it, with the names of what is to be filled."""

    name: str
    language: str
    category: str
    status: str
    components: list[dict[str, JsonValue]]
    variables: dict[str, list[str]]


class TemplateOwner(_Row):
    """A WhatsApp Business account, and our numbers in it: any one's token may list templates."""

    waba_id: str
    phone_number_ids: list[str]


class TemplateSync(_Row):
    """How many templates were listed and how many are gone, counted once for each account."""

    listed: int
    gone: int


class MediaStore(Store):
    """What the functions ask of the database about files and templates.

    Every call raises StoreUnavailable or StoreError, as `Store`'s do.
    """

    def claim_media(self, worker: str, batch: int) -> list[FetchJob]:
        """Leases up to `batch` files to be fetched, for five minutes."""
        answer = self._call("claim_media", {"worker": worker, "batch": batch})
        return understood(list[FetchJob], answer)

    def settle_media(self, job: FetchJob, worker: str, outcome: MediaOutcome) -> str:
        """Notes what became of a try; answers the file's state, or "settled already"."""
        answer = self._call(
            "settle_media",
            {
                "media_id": str(job.media_id),
                "worker": worker,
                "outcome": outcome.outcome,
                "size": outcome.size,
                "sha256": outcome.sha256,
                "mime_type": outcome.mime_type,
                "error": outcome.error,
            },
        )
        return understood(str, answer)

    def media_to_send(self, message_id: UUID) -> FileToSend | None:
        """The file of ours that a message carries, if it carries one."""
        return understood(
            # a union is no type to the type checker, and is one to pydantic
            FileToSend | None,  # type: ignore[arg-type]
            self._call("media_to_send", {"message_id": str(message_id)}),
        )

    def template_owners(self) -> list[TemplateOwner]:
        """The WhatsApp Business accounts whose templates are to be read."""
        return understood(list[TemplateOwner], self._call("template_owners", {}))

    def apply_templates(
        self, waba_id: str, templates: Sequence[Template], read_at: datetime
    ) -> TemplateSync:
        """Writes all templates of a WhatsApp Business account; those not given are gone.

        They are as WhatsApp had them at `read_at`: what a webhook has said since then stands.
        """
        answer = self._call(
            "apply_templates",
            {
                "waba_id": waba_id,
                "templates": [template.model_dump(mode="json") for template in templates],
                "read_at": read_at.isoformat(),
            },
        )
        return understood(TemplateSync, answer)


class MediaRow(_Row):
    """The file of a message as a user sees it."""

    state: Literal["pending", "stored", "failed", "expired"]
    mime_type: str | None
    file_name: str | None
    size: int | None
    object_key: str
    error: str | None


class Upload(_Row):
    """Where a user's file is to go."""

    upload_id: UUID
    object_key: str
    mime_type: str
    size: int


class UserMedia:
    """What users ask about files, each with their own token: row level security decides.

    Every call raises:
        NotSignedIn: The token is no good.
        NotAllowed, NotFound, Unprocessable: The database says no, in its words.
        StoreUnavailable, StoreError: As `Store`'s calls.
    """

    def __init__(
        self, settings: UserStoreSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(
            base_url=f"{str(settings.supabase_url).rstrip('/')}/rest/v1/",
            headers={"apikey": settings.supabase_anon_key.get_secret_value()},
            timeout=_TIMEOUT,
            transport=transport,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def find(self, token: str, message_id: UUID) -> MediaRow | None:
        """The file of a message, or None where there is none that this user sees."""
        query = {
            "message_id": f"eq.{message_id}",
            "select": "state,mime_type,file_name,size,object_key,error",
        }
        rows = understood(list[MediaRow], self._ask("GET", "message_media", token, params=query))
        return rows[0] if rows else None

    def begin_upload(self, token: str, announced: dict[str, JsonValue]) -> Upload:
        """Announces a file: conversation_id, type, mime_type, size and file_name."""
        return understood(Upload, self._ask("POST", "rpc/begin_upload", token, json=announced))

    def _ask(
        self,
        method: str,
        path: str,
        token: str,
        *,
        params: dict[str, str] | None = None,
        json: dict[str, JsonValue] | None = None,
    ) -> object:
        try:
            response = self._http.request(
                method, path, params=params, json=json, headers={"Authorization": f"Bearer {token}"}
            )
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from None
        if response.is_success:
            return response.json()
        raise _refusal(response)


class _Problem(_Row):
    code: str
    message: str
    details: str | None = None
    hint: str | None = None


def _refusal(response: httpx.Response) -> RapportError:
    # without PostgREST's code it is the gateway that answers, and what it checks is our key
    if response.status_code == 401 and code_of(response) is not None:
        return NotSignedIn()
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:
        return from_postgrest(str(response.status_code))
    return from_users_postgrest(problem.code, problem.message, problem.details, problem.hint)
