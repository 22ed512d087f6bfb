"""Writes all that is known of one person to a zip: JSON, files, and a list of both."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO
from uuid import UUID

from rapport.errors import NotFound
from rapport.storage import Storage
from rapport.store.postgrest import Row
from rapport.store.privacy import PrivacyStore

_MEDIA = "public.message_media"
_NOTE = """\
What {account} holds about one person, as of {at}.

manifest.json  names every file here, and what it is
data/          one file for each table, as JSON; times are UTC
files/         files of messages, in a folder for each message

messages.json has the conversations' messages in their order. Raw webhooks hold the same messages
as WhatsApp delivered them. Where the person belonged to a group, only the person's own messages
are here.

Before you hand it out: notes of staff, and messages that name other people, are in it.
"""
# a file name that no system takes for something else
_UNSAFE = re.compile(r"[^\w.() -]")
_NAME_LIMIT = 120


@dataclass
class Exported:
    """The counts of an export; files that are left out are listed with the reason."""

    tables: int = 0
    rows: int = 0
    files: int = 0
    left_out: int = 0


def export(
    store: PrivacyStore, storage: Storage | None, contact_id: UUID, target: IO[bytes]
) -> Exported:
    """Writes the zip, table by table. The export is recorded.

    Without a storage the files of messages are listed and left out.

    Raises:
        NotFound: There is no such contact.
        StoreError: The database refused.
        StorageError: The storage refused.
    """
    overview = store.overview(contact_id, is_logged=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    exported = Exported()
    tables: list[dict[str, object]] = []
    files: list[dict[str, object]] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _NOTE.format(account=overview.account_name, at=at))
        for table in overview.tables:
            name = f"data/{table.table.partition('.')[2]}.json"
            if not table.table.startswith("public."):
                name = f"data/{table.table}.json"
            count = 0
            # of few tables is there anything
            if table.rows != 0:
                with archive.open(name, "w", force_zip64=True) as entry:
                    for row in store.rows(contact_id, table.table):
                        entry.write(b",\n" if count else b"[\n")
                        entry.write(json.dumps(row, ensure_ascii=False, indent=2).encode())
                        count += 1
                        if table.table == _MEDIA and row.get("state") == "stored":
                            files.append(_file_of(row))
                    entry.write(b"\n]\n" if count else b"[]\n")
                tables.append({"file": name, "rows": count, "about": table.about})
                exported.rows += count
        for file in files:
            _add(archive, storage, file)
        left_out = sum("left_out" in file for file in files)
        manifest: dict[str, object] = {
            "account_id": str(overview.account_id),
            "account_name": overview.account_name,
            "contact_ids": [str(one) for one in overview.contact_ids],
            "exported_at": at,
            "tables": tables,
            "files": [{k: v for k, v in file.items() if k != "object_key"} for file in files],
        }
        archive.writestr("manifest.json", json.dumps(manifest, ensure_ascii=False, indent=2))
    exported.tables = len(tables)
    exported.left_out = left_out
    exported.files = len(files) - left_out
    return exported


def _file_of(row: Row) -> dict[str, object]:
    key = PurePosixPath(str(row["object_key"]))
    # the name comes from the sender
    given = _UNSAFE.sub("_", str(row.get("file_name") or "")).strip(". ")[-_NAME_LIMIT:]
    return {
        "file": f"files/{row['message_id']}/{given or key.name}",
        "message_id": row["message_id"],
        "mime_type": row["mime_type"],
        "size": row["size"],
        "sha256": row["sha256"],
        "object_key": str(key),
    }


def _add(archive: zipfile.ZipFile, storage: Storage | None, file: dict[str, object]) -> None:
    if storage is None:
        file["left_out"] = "The command was not told where the files are."
        return
    try:
        with (
            storage.open(str(file["object_key"])) as stored,
            archive.open(str(file["file"]), "w", force_zip64=True) as entry,
        ):
            shutil.copyfileobj(stored.body, entry)
    except NotFound:
        file["left_out"] = "The bucket does not have it."
