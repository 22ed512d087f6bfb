from __future__ import annotations

import json

import pytest

from rapport.local.supabase.realtime.frames import (
    SERIALIZERS,
    Broadcast,
    ClientBroadcast,
    ClientMessage,
    MalformedFrameError,
    encode,
)

V1 = SERIALIZERS["1.0.0"]
V2 = SERIALIZERS["2.0.0"]


def test_version_1_reads_objects() -> None:
    frame = json.dumps({"topic": "realtime:a", "event": "phx_join", "payload": {}, "ref": "1"})

    assert V1.decode(frame) == ClientMessage(
        topic="realtime:a", event="phx_join", payload={}, ref="1"
    )


def test_version_2_reads_arrays() -> None:
    assert V2.decode('["1","2","realtime:a","phx_join",{}]') == ClientMessage(
        topic="realtime:a", event="phx_join", payload={}, ref="2", join_ref="1"
    )


def test_version_1_pushes_keep_a_null_ref() -> None:
    frame = V1.push("realtime:a", "system", encode({"ok": True}), ref=None, join_ref="1")

    assert isinstance(frame, str)
    assert json.loads(frame) == {
        "topic": "realtime:a",
        "event": "system",
        "payload": {"ok": True},
        "ref": None,
    }


def test_version_2_pushes_carry_the_join_ref() -> None:
    frame = V2.push("realtime:a", "system", "{}", ref=None, join_ref="1")

    assert isinstance(frame, str)
    assert json.loads(frame) == ["1", None, "realtime:a", "system", {}]


@pytest.mark.parametrize(
    ("encoding", "payload", "broadcast"),
    [
        (1, b'{"x": 1}', Broadcast(event="hi", payload=b'{"x":1}')),
        (0, b"\x00\xff", Broadcast(event="hi", payload=b"\x00\xff", is_binary=True)),
    ],
)
def test_version_2_reads_broadcasts_in_bytes(
    encoding: int, payload: bytes, broadcast: Broadcast
) -> None:
    frame = bytes([3, 1, 2, 10, 2, 2, encoding]) + b"1" + b"23" + b"realtime:a" + b"hi{}" + payload

    assert V2.decode(frame) == ClientBroadcast("realtime:a", broadcast, ref="23", join_ref="1")


def test_version_2_writes_broadcasts_in_bytes() -> None:
    message = Broadcast(event="hi", payload=b'{"x":1}', meta=b'{"id":"7"}')

    assert V2.broadcast("realtime:a", message) == (
        bytes([4, 10, 2, 10, 1]) + b"realtime:a" + b"hi" + b'{"id":"7"}' + b'{"x":1}'
    )


@pytest.mark.parametrize("topic", ["realtime:" + "a" * 247, "realtime:" + "ž" * 124])
def test_a_topic_too_long_for_bytes_is_written_as_text(topic: str) -> None:
    frame = V2.broadcast(topic, Broadcast(event="hi", payload=b"1"))

    assert isinstance(frame, str)
    assert json.loads(frame) == [
        None,
        None,
        topic,
        "broadcast",
        {"type": "broadcast", "event": "hi", "payload": 1},
    ]


def test_version_1_gets_broadcasts_as_text() -> None:
    frame = V1.broadcast("realtime:a", Broadcast(event="hi", payload=b"1e400", meta=b'{"id":"7"}'))

    assert frame == (
        '{"topic":"realtime:a","event":"broadcast","payload":'
        '{"type":"broadcast","event":"hi","payload":1e400,"meta":{"id":"7"}},"ref":null}'
    )


def test_version_1_has_no_way_to_carry_bytes() -> None:
    message = Broadcast(event="hi", payload=b"\xff", is_binary=True)

    assert V1.broadcast("realtime:a", message) is None


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "[]",
        "{",
        "1",
        '{"topic": "realtime:a", "payload": {}}',
        '{"topic": 1, "event": "phx_join", "payload": {}}',
        '{"topic": "realtime:a", "event": "phx_join", "payload": NaN}',
        '{"topic": "\\ud800", "event": "phx_join", "payload": {}}',
        "[" * 100_000,
        b"\x03",
    ],
)
def test_version_1_refuses_what_is_no_message(frame: str | bytes) -> None:
    with pytest.raises(MalformedFrameError):
        V1.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "[1,2,3,4]",
        '[null,null,"realtime:a",null,{}]',
        b"",
        b"\x03\x00\x00\x00\x00\x00",
        bytes([4, 0, 0, 0, 0, 0, 0]),
        bytes([3, 255, 0, 0, 0, 0, 0]) + b"short",
        bytes([3, 0, 0, 1, 0, 0, 0]) + b"\xff",
        bytes([3, 0, 0, 1, 1, 0, 1]) + b"te" + b"not json",
        bytes([3, 0, 0, 1, 1, 0, 1]) + b"te" + b"\xff",
    ],
)
def test_version_2_refuses_what_is_no_message(frame: str | bytes) -> None:
    with pytest.raises(MalformedFrameError):
        V2.decode(frame)
