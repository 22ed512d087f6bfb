"""Carries out an erasure: rows in the database, files in the bucket.

Every step may be cut off and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from rapport.errors import StorageError
from rapport.storage import Storage
from rapport.store.privacy import PrivacyAction, PrivacyStore


def carry_out(
    store: PrivacyStore,
    storage: Storage | None,
    action_id: UUID,
    goes_on: Callable[[PrivacyAction], bool],
) -> PrivacyAction:
    """Goes on with an erasure as long as `goes_on` says; returns how far it is.

    Without a storage it stops at the files, and another worker removes them. It also stops where
    the sync has yet to find out whether a call to Metakocka has made a partner of the person.

    Raises:
        Conflict: The contact is under a legal hold.
        StoreError: The database refused.
        StorageError: The storage refused, or a file is still there.
    """
    action = store.erase_some(action_id)
    while action.state == "running" and goes_on(action):
        if action.step == "partners":
            break
        if action.step == "files" and action.files:
            if storage is None:
                break
            remove(storage, action.files)
            store.note_erased_files(action_id, action.files)
        action = store.erase_some(action_id)
    return action


def remove(storage: Storage, keys: Sequence[str]) -> None:
    """Removes files from the bucket, with all that stands beside them in their messages' folders.

    Raises:
        StorageError: The storage refused, or a file is still there.
    """
    for key in keys:
        folder = key.rpartition("/")[0]
        # uploads stand together in one folder
        prefix = key if folder.endswith("/uploads") else f"{folder}/"
        for one in {key, *storage.keys(prefix)}:
            storage.delete(one)
        if storage.keys(prefix):
            raise StorageError("The storage still has a file that was deleted.")
