"""Safe names and types for files from outside."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from urllib.parse import quote

from rapport.whatsapp.mime_types import read_mime_type

FALLBACK_TYPE = "application/octet-stream"
_NAME_LIMIT = 150
# types that a browser shows without running code; all others are sent as plain bytes
_SHOWN = {
    "application/pdf",
    "audio/aac",
    "audio/amr",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/3gpp",
    "video/mp4",
}
_EXTENSIONS = {
    "audio/aac": ".aac",
    "audio/amr": ".amr",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".opus",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "video/3gpp": ".3gp",
}


def _bare(mime_type: str | None) -> str:
    read = read_mime_type(mime_type)
    return read.name if read else ""


def shown_type(mime_type: str | None) -> str:
    """The type under which a file is served: its own if that is harmless."""
    bare = _bare(mime_type)
    return bare if bare in _SHOWN else FALLBACK_TYPE


def file_name_of(name: str | None, mime_type: str | None) -> str:
    """The sender's file name without paths, control characters and direction marks."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter
        for letter in last
    )
    clean = re.sub(r'[<>:"|?*]+', "_", " ".join(printable.split())).strip(". ")
    if not clean:
        bare = _bare(mime_type)
        return "file" + (_EXTENSIONS.get(bare) or mimetypes.guess_extension(bare) or "")
    if len(clean) > _NAME_LIMIT:
        stem, dot, ending = clean.rpartition(".")
        keep = f"{dot}{ending}" if dot and len(ending) <= 10 else ""
        clean = (stem if keep else clean)[: _NAME_LIMIT - len(keep)] + keep
    return clean


def disposition(name: str | None, mime_type: str | None) -> str:
    """A Content-Disposition header with which browsers save the file unopened (RFC 6266)."""
    clean = file_name_of(name, mime_type)
    plain = clean.encode("ascii", "replace").decode().replace("?", "_").replace("\\", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"
