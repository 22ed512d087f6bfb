"""Copies the files of messages from WhatsApp to the storage. The database wakes it, and a schedule
runs it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from rapport.errors import RapportError
from rapport.log import WorkerContext, about, correlated, described, logger, worker
from rapport.settings import GraphSettings, MediaSettings, StoreSettings
from rapport.storage import Storage
from rapport.store.media import FetchJob, MediaStore
from rapport.whatsapp.graph import GraphMedia
from rapport.whatsapp.media import fetch

BATCH = 4  # files at once
SETTLE_SECONDS = 20  # reserved for storing the outcomes, with retries
FETCH_SECONDS = 20  # with less time left than this no download starts


@cache
def _store() -> MediaStore:
    return MediaStore(StoreSettings.load())


@cache
def _graph() -> GraphMedia:
    return GraphMedia(GraphSettings.load())


@cache
def _storage() -> Storage:
    return Storage(MediaSettings.load())


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Fetches files until none is due or the time is up."""
    name = context.aws_request_id
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SETTLE_SECONDS
    # created here, otherwise each thread would create its own
    store, graph, storage = _store(), _graph(), _storage()
    counts: dict[str, int] = {}

    def fetch_one(job: FetchJob) -> str:
        # as the log lines of a delivery: found by the message's id
        with correlated(str(job.message_id)):
            about(media_id=job.media_id, message_id=job.message_id)
            about(conversation_id=job.conversation_id, account_id=job.account_id, attempt=name)
            outcome = fetch(job, graph, storage, deadline)
            try:
                state = store.settle_media(job, name, outcome)
                if state == "gone":
                    # erased while it was copied: nothing refers to the file, nobody would find it
                    storage.delete(job.object_key)
            except RapportError as error:
                # when its lease ends it is fetched again, which does no harm
                logger.error("not settled", extra=described(error))
                return "not settled"
            logger.info("fetched", state=state, reason=outcome.error)
            return state

    with ThreadPoolExecutor(BATCH) as pool:
        while time.monotonic() + FETCH_SECONDS < deadline:
            jobs = store.claim_media(name, BATCH)
            if not jobs:
                break
            for state in pool.map(fetch_one, jobs):
                counts[state] = counts.get(state, 0) + 1
    return counts
