"""Files for users: the address of a message's file, and an address to upload a file to."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from rapport.api_json import ApiRequest, Id
from rapport.errors import Gone, MethodNotAllowed, NotFetched, NotFound
from rapport.handlers.http import (
    HttpRequest,
    Response,
    bearer,
    http_function,
    json_,
    read_json,
    read_path,
)
from rapport.log import about
from rapport.settings import MediaSettings, UserStoreSettings
from rapport.storage import LINK_SECONDS, Storage
from rapport.store.media import UserMedia
from rapport.store.postgrest import UserStores
from rapport.whatsapp.file_names import disposition, file_name_of, shown_type

BODY_LIMIT = 4096  # bytes
_NOTHING = "There is no file here that you may see."


class MessagePath(ApiRequest):
    id: UUID


class Announced(ApiRequest):
    """A file that the user is about to upload."""

    conversation_id: UUID
    type: Annotated[str, StringConstraints(max_length=64)]
    mime_type: Annotated[str, StringConstraints(max_length=255)]
    size: Annotated[int, Field(ge=0, lt=2**53)]
    file_name: Annotated[str, StringConstraints(max_length=255)] | None = None


class PendingFile(TypedDict):
    """The file is still to be fetched from WhatsApp."""

    state: Literal["pending"]


class StoredFile(TypedDict):
    """Where the file is: `url` opens it, for `expiresIn` seconds, for all who have the address."""

    state: Literal["stored"]
    url: str
    expires_in: int
    file_name: str
    mime_type: str
    size: Annotated[int | None, Field(description="Bytes, where they are known.")]


class UploadPlace(TypedDict):
    """Where to PUT the file, with exactly these headers, for `expiresIn` seconds. A message sends
    it with `content: {"uploadId": …}`.
    """

    upload_id: Id
    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_in: int


@cache
def _users() -> UserStores[UserMedia]:
    return UserStores(UserStoreSettings.load(), UserMedia)


@cache
def _storage() -> Storage:
    return Storage(MediaSettings.load())


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers one request of a signed-in user."""
    match request.route_key:
        case "GET /api/messages/{id}/media":
            user = _users().of(bearer(request))
            return _give(user, read_path(MessagePath, request).id)
        case "POST /api/media":
            user = _users().of(bearer(request))
            return _take(user, read_json(Announced, request, BODY_LIMIT))
        case _:
            raise MethodNotAllowed


def _give(user: UserMedia, message_id: UUID) -> Response:
    about(message_id=message_id)
    media = user.find(message_id)
    if media is None:
        raise NotFound(_NOTHING)
    match media.state:
        case "pending":
            return _private(202, PendingFile(state="pending"))
        case "failed":
            raise NotFetched(media.error)
        case "expired":
            raise Gone(media.error)
        case "stored":
            url = _storage().link(
                media.object_key,
                disposition=disposition(media.file_name, media.mime_type),
                content_type=shown_type(media.mime_type),
            )
            return _private(
                200,
                StoredFile(
                    state="stored",
                    url=url,
                    expires_in=LINK_SECONDS,
                    file_name=file_name_of(media.file_name, media.mime_type),
                    mime_type=shown_type(media.mime_type),
                    size=media.size,
                ),
            )


def _take(user: UserMedia, announced: Announced) -> Response:
    about(conversation_id=announced.conversation_id)
    upload = user.begin_upload(announced.model_dump(mode="json"))
    return _private(
        201,
        UploadPlace(
            upload_id=str(upload.upload_id),
            method="PUT",
            url=_storage().upload_link(
                upload.object_key, content_type=upload.mime_type, size=upload.size
            ),
            # part of the signature: the storage refuses a PUT without exactly these headers
            headers={
                "content-type": upload.mime_type,
                "content-length": str(upload.size),
            },
            expires_in=LINK_SECONDS,
        ),
    )


def _private(status: int, value: PendingFile | StoredFile | UploadPlace) -> Response:
    response = json_(status, value)
    # the address opens the file, so it is only for this user
    response["headers"]["cache-control"] = "no-store"
    return response
