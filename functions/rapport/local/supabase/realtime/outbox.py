"""Frames that wait for one client, up to a limit."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.websockets import WebSocket

from rapport.local.supabase.realtime.frames import Frame

MAX_BYTES = 16 * 1024 * 1024
MAX_FRAMES = 10_000


class SlowClientError(Exception):
    """The client reads more slowly than frames come."""


class FrameQueue:
    """A queue whose writers never wait; a client that falls too far behind is cut off."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._overflowed = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Queues a frame; ignored after an overflow."""
        if self._overflowed.is_set():
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._filled.set()
        if self._size > MAX_BYTES or len(self._frames) > MAX_FRAMES:
            self._frames.clear()
            self._overflowed.set()

    async def send_to(self, websocket: WebSocket) -> None:
        """Sends the queued frames in order, until it is cancelled."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._size -= len(frame)
                if isinstance(frame, str):
                    await websocket.send_text(frame)
                else:
                    await websocket.send_bytes(frame)
            self._filled.clear()
            await self._filled.wait()

    async def watch(self) -> None:
        """Raises SlowClientError once the queue has overflowed."""
        await self._overflowed.wait()
        raise SlowClientError
