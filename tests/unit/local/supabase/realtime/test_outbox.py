from __future__ import annotations

import pytest

from rapport.local.supabase.realtime.outbox import (
    MAX_BYTES,
    MAX_FRAMES,
    FrameQueue,
    SlowClientError,
)


@pytest.mark.parametrize(("frames", "size"), [(MAX_FRAMES + 1, 1), (2, MAX_BYTES)])
async def test_a_client_that_falls_far_behind_is_cut_off(frames: int, size: int) -> None:
    outbox = FrameQueue()
    frame = "x" * size

    for _ in range(frames):
        outbox.put(frame)

    with pytest.raises(SlowClientError):
        await outbox.watch()
