"""Media: uploads, short-lived addresses, downloads and deletion."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from hashlib import sha256

from rapport.local.fakes.whatsapp.errors import GraphError, unknown_object
from rapport.local.fakes.whatsapp.payloads import Payload
from rapport.local.fakes.whatsapp.state import State, StoredMedia

URL_LIVES = timedelta(minutes=5)
SIZE_LIMIT = 16 * 1024 * 1024  # bytes; WhatsApp accepts documents of 100 MB


def store(
    state: State,
    content: bytes,
    mime_type: str,
    filename: str | None = None,
    phone_number_id: str | None = None,
) -> StoredMedia:
    """Stores a number's file under a new id."""
    media = StoredMedia(
        id=str(secrets.randbelow(9 * 10**15) + 10**15),
        mime_type=mime_type,
        sha256=sha256(content).hexdigest(),
        content=content,
        filename=filename,
        phone_number_id=phone_number_id,
    )
    state.keep_media(media)
    return media


def upload(state: State, phone_number_id: str, content_type: str, body: bytes) -> Payload:
    """Stores the file of a form (multipart/form-data: messaging_product, file, optionally type).

    Raises:
        GraphError: The form is wrong, or the file is too large.
    """
    fields = _form(content_type, body)
    file = fields.get("file")
    if file is None:
        raise GraphError(100, "The parameter file is required.")
    if _text(fields.get("messaging_product")) != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    content = file.get_payload(decode=True)
    if not isinstance(content, bytes) or not content:
        raise GraphError(131053, "The file is empty.")
    if len(content) > SIZE_LIMIT:
        raise GraphError(131053, f"The file is larger than {SIZE_LIMIT} bytes.")
    mime_type = _text(fields.get("type")) or file.get_content_type()
    return {"id": store(state, content, mime_type, file.get_filename(), phone_number_id).id}


def describe(state: State, media: StoredMedia, base_url: str) -> Payload:
    """A file's properties, with an address that is valid for five minutes."""
    path = secrets.token_urlsafe(24)
    state.keep(state.downloads, path, (media.id, datetime.now(UTC) + URL_LIVES))
    return {
        "messaging_product": "whatsapp",
        "url": f"{base_url}/whatsapp_business/attachments/{path}",
        "mime_type": media.mime_type,
        "sha256": media.sha256,
        "file_size": len(media.content),
        "id": media.id,
    }


def download(state: State, path: str) -> StoredMedia:
    """The file at an address.

    Raises:
        GraphError: The address is unknown or has expired.
    """
    media_id, good_until = state.downloads.get(path, ("", datetime.min.replace(tzinfo=UTC)))
    media = state.media.get(media_id)
    if media is None or good_until < datetime.now(UTC):
        raise GraphError(100, "The address has expired: ask for the media's anew.", status=404)
    return media


def remove(state: State, id_: str) -> Payload:
    """Deletes a file.

    Raises:
        GraphError: There is none with this id.
    """
    if state.media.pop(id_, None) is None:
        raise unknown_object(id_)
    return {"success": True}


def _form(content_type: str, body: bytes) -> dict[str, EmailMessage]:
    """The parts of multipart/form-data by name, parsed as a MIME message (RFC 7578)."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    form = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    if form.get_content_type() != "multipart/form-data" or not form.is_multipart():
        raise GraphError(100, "A form (multipart/form-data) is needed.")
    return {
        str(part.get_param("name", header="content-disposition")): part
        for part in form.iter_parts()
        if isinstance(part, EmailMessage)
    }


def _text(part: EmailMessage | None) -> str | None:
    content = part.get_payload(decode=True) if part else None
    return content.decode(errors="replace").strip() if isinstance(content, bytes) else None
