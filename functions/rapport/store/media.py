"""The database's part in files: jobs for the functions, rows for users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from rapport.store.postgrest import Store, UserStore, understood


class _Row(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


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
    """The outcome of a try to fetch a file."""

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


class MediaStore(Store):
    """The functions' calls about files; each raises as `Store` says."""

    def claim_media(self, worker: str, batch: int) -> list[FetchJob]:
        """Leases up to `batch` files to be fetched, for five minutes."""
        answer = self._call("claim_media", {"worker": worker, "batch": batch})
        return understood(list[FetchJob], answer)

    def settle_media(self, job: FetchJob, worker: str, outcome: MediaOutcome) -> str:
        """Notes the outcome of a try; answers the file's state, or "settled already"."""
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
        answer = self._call("media_to_send", {"message_id": str(message_id)})
        return None if answer is None else understood(FileToSend, answer)


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


class UserMedia(UserStore):
    """A user's calls about files; each raises as `UserStore` says."""

    def find(self, message_id: UUID) -> MediaRow | None:
        """The file of a message, or None where there is none that this user sees."""
        rows = self._rows(
            "message_media",
            "state,mime_type,file_name,size,object_key,error",
            message_id=message_id,
        )
        return understood(MediaRow, rows[0]) if rows else None

    def begin_upload(self, announced: dict[str, JsonValue]) -> Upload:
        """Announces a file: conversation_id, type, mime_type, size and file_name.

        If the first answer was lost, the file is announced twice, and the first place stays empty.
        """
        return understood(Upload, self._call("begin_upload", announced))
