"""Posts webhooks to the function, as Meta's servers do and as the behaviour says."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from rapport.local.fakes.whatsapp.behaviour import WhatsAppBehaviour
from rapport.local.fakes.whatsapp.errors import problem
from rapport.local.fakes.whatsapp.payloads import Payload, StatusWord, encode, status_update
from rapport.local.fakes.whatsapp.state import Sent, State
from rapport.whatsapp import webhook as signature

# seconds before each try, ever longer; Meta repeats for seven days
RETRIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
HELD = 5_000


@dataclass(frozen=True)
class Step:
    """A status of a message, and when it comes."""

    word: StatusWord
    at: datetime
    # the Graph API's code, if it failed
    error_code: int | None


class Meta:
    """Posts webhooks as Meta's servers do: signed over the bytes, with their user agent."""

    def __init__(self, client: httpx.AsyncClient, url: str, app_secret: str) -> None:
        self._client = client
        self._url = url
        self._app_secret = app_secret

    async def post(self, payload: Payload) -> httpx.Response:
        """Signs and posts one webhook.

        Raises:
            httpx.TransportError: The function can't be reached.
        """
        body = encode(payload)
        return await self._client.post(
            self._url,
            content=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "facebookexternalua",
                signature.HEADER: signature.sign(body, self._app_secret),
            },
        )


class Courier:
    """Posts webhooks now or later, once or several times, or never."""

    def __init__(self, meta: Meta, state: State) -> None:
        self._meta = meta
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self.held: deque[Payload] = deque(maxlen=HELD)

    @property
    def _behaviour(self) -> WhatsAppBehaviour:
        return self._state.behaviour

    async def deliver(self, payload: Payload) -> httpx.Response | None:
        """Posts a webhook; returns the answer to its last copy, or None if it is held or dropped.

        Raises:
            httpx.TransportError: The function can't be reached.
        """
        webhooks = self._behaviour.webhooks
        if webhooks.mode == "hold":
            self.held.append(payload)
        if webhooks.mode != "post":
            return None
        await asyncio.sleep(webhooks.delay_ms / 1000)
        answer = await self._meta.post(payload)
        for _ in range(webhooks.copies - 1):
            answer = await self._meta.post(payload)
        return answer

    async def bring(self, payload: Payload) -> httpx.Response | None:
        """Posts a webhook, and repeats it in the background if the function does not accept it.

        Raises:
            httpx.TransportError: The function can't be reached yet.
        """
        try:
            answer = await self.deliver(payload)
        except httpx.TransportError:
            self._start(self._insist(payload))
            raise
        if answer is not None and not answer.is_success:
            self._start(self._insist(payload))
        return answer

    async def release(self, *, reverse: bool) -> int:
        """Posts the held webhooks, in their order or in reverse, and returns their number.

        A webhook that the function does not accept is repeated.

        Raises:
            httpx.TransportError: The function can't be reached; the rest is still held.
        """
        count = 0
        while self.held:
            payload = self.held.pop() if reverse else self.held.popleft()
            try:
                answer = await self._meta.post(payload)
            except httpx.TransportError:
                (self.held.append if reverse else self.held.appendleft)(payload)
                raise
            if not answer.is_success:
                self._start(self._insist(payload))
            count += 1
        return count

    def report(self, sent: Sent, *, error_code: int | None = None) -> None:
        """Starts to post the statuses of a message; with an error code, that it failed."""
        webhooks = self._behaviour.webhooks
        words: tuple[StatusWord, ...] = ("failed",) if error_code else webhooks.statuses
        pace = timedelta(milliseconds=webhooks.pace_ms)
        now = datetime.now(UTC)
        # statuses happen in this order; their webhooks may come in another
        steps = [
            Step(
                word,
                at=now + place * pace,
                error_code=(error_code or webhooks.error_code) if word == "failed" else None,
            )
            for place, word in enumerate(words, 1)
        ]
        if webhooks.reverse:
            steps.reverse()
        self._start(self._report(sent, steps, pace.total_seconds()))

    async def _report(self, sent: Sent, steps: list[Step], pace: float) -> None:
        for step in steps:
            await asyncio.sleep(pace)
            self._state.note_status(sent, step.word)
            await self._insist(
                status_update(
                    phone_number_id=sent.phone_number_id,
                    recipient=sent.to.wa_id,
                    user_id=sent.to.user_id,
                    group_id=sent.to.group_id,
                    provider_id=sent.id,
                    status=step.word,
                    at=step.at,
                    error=problem(step.error_code) if step.error_code is not None else None,
                    callback_data=sent.callback_data,
                )
            )

    async def _insist(self, payload: Payload) -> None:
        for wait in RETRIES:
            await asyncio.sleep(wait)
            with contextlib.suppress(httpx.TransportError):
                answer = await self.deliver(payload)
                if answer is None or answer.is_success:
                    return

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stops all posting and drops the held webhooks."""
        self.held.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
