"""Round trips through the living deployment: a broadcast that is heard, a ring that is answered.

Neither leaves anything behind: the broadcast's row is deleted, on a topic that no user can join,
and the worker that is woken finds nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

from pydantic import JsonValue

from rapport.client.connection import RealtimeConnection
from rapport.client.timing import Timing
from rapport.commands.check.findings import Finding, fine, wrong
from rapport.errors import RapportError
from rapport.settings import StoreSettings
from rapport.store.deployment import DeploymentStore

# seconds: a project that was asleep connects to its database first
_HEARD_WITHIN = 4.0
_TRIES = 3
_ANSWERED_WITHIN = 8.0
_INTERVAL = 0.1


async def examine_live(settings: StoreSettings, store: DeploymentStore) -> AsyncIterator[Finding]:
    """Both round trips."""
    yield await _broadcast(settings, store)
    yield await _ring(store)


async def _broadcast(settings: StoreSettings, store: DeploymentStore) -> Finding:
    check = "Realtime, live"
    nonce = uuid4()
    topic = f"check:{nonce}"
    heard = asyncio.Event()

    def hear(_topic: str, _event: str, payload: dict[str, JsonValue]) -> None:
        if payload.get("nonce") == str(nonce):
            heard.set()

    key = settings.supabase_secret_key.get_secret_value()
    url = f"{str(settings.supabase_url).rstrip('/')}/realtime/v1"
    connection = RealtimeConnection(url, key, key, Timing(), hear, lambda: None)
    try:
        await connection.open()
        await connection.join(topic)
        for _ in range(_TRIES):
            begun = time.monotonic()
            await asyncio.to_thread(store.try_broadcast, nonce)
            try:
                async with asyncio.timeout(_HEARD_WITHIN):
                    await heard.wait()
            except TimeoutError:
                continue
            took = (time.monotonic() - begun) * 1000
            return fine(check, f"A private broadcast of the database was heard, in {took:.0f} ms.")
    except RapportError as error:
        return wrong(
            check,
            str(error),
            "Look at Realtime in the project's dashboard: its settings must allow channels.",
        )
    finally:
        await connection.close()
        await asyncio.to_thread(store.forget_broadcast, nonce)
    return wrong(
        check,
        f"{_TRIES} broadcasts of the database were not heard within {_HEARD_WITHIN:.0f} s each.",
        "Realtime does not read the database's log: look at replication slots above, and restart"
        " the project.",
    )


async def _ring(store: DeploymentStore) -> Finding:
    check = "Doorbell, live"
    begun = time.monotonic()
    request_id = await asyncio.to_thread(store.try_doorbell)
    if request_id is None:
        return wrong(
            check,
            "There is no doorbell, so workers start by their schedule alone.",
            "create extension pg_net with schema extensions; and `rapport connect functions`."
            if (await asyncio.to_thread(store.deployment)).net is None
            else "rapport connect functions --url …",
        )
    answer = None
    while answer is None and time.monotonic() - begun < _ANSWERED_WITHIN:
        await asyncio.sleep(_INTERVAL)
        answer = await asyncio.to_thread(store.doorbell_answer, request_id)
    took = (time.monotonic() - begun) * 1000
    if answer is None:
        return wrong(
            check,
            f"The database has not made the request within {_ANSWERED_WITHIN:.0f} s.",
            "pg_net's worker does not run: select net.worker_restart();",
        )
    if answer.status == 202:
        return fine(check, f"The database has woken a worker, in {took:.0f} ms.")
    if answer.status in (401, 403):
        return wrong(
            check,
            f"The function wake does not take the database's secret (status {answer.status}).",
            "Run `rapport connect functions` with the secret that the function has.",
        )
    if answer.status is None:
        why = "did not answer in time" if answer.is_late else f"can't be reached: {answer.error}"
        return wrong(
            check,
            f"The doorbell's address {why}.",
            "Run `rapport connect functions` with the functions' present address, which the"
            " database has to reach from where it is.",
        )
    return wrong(
        check,
        f"The doorbell's address answers with status {answer.status}, where 202 is right.",
        "Run `rapport connect functions` with the functions' address; look at the log of wake.",
    )
