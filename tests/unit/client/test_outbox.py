"""Messages that wait on disk: in order, of one user, each claimed by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from rapport.client import outbox as outboxes
from rapport.client.outbox import Outbox, PendingMessage

CILKA, CARLOS = UUID(int=1), UUID(int=2)
FIRST, SECOND = UUID(int=11), UUID(int=12)


def message(name: str, conversation: UUID = FIRST) -> PendingMessage:
    return PendingMessage(
        client_ref=name, conversation_id=conversation, message=f"text of {name}", written_at=1.5
    )


def names(messages: list[PendingMessage]) -> list[str]:
    return [message.client_ref for message in messages]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    outbox = Outbox(path, CILKA)
    yield outbox
    outbox.close()


@pytest.fixture
def another_process(path: Path) -> Iterator[Outbox]:
    outbox = Outbox(path, CILKA)
    yield outbox
    outbox.close()


def test_messages_are_as_they_were_when_the_file_is_opened_again(path: Path) -> None:
    first = Outbox(path, CILKA)
    kept = PendingMessage(
        client_ref="a",
        conversation_id=FIRST,
        message="Is Tuesday free?",
        type="image",
        content={"id": "1"},
        reply_to=SECOND,
        written_at=1.5,
    )
    first.put(kept)
    first.close()

    again = Outbox(path, CILKA)
    assert again.all() == [kept]
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_beside_the_file_is_for_others_to_read(path: Path) -> None:
    outbox = Outbox(path, CILKA)
    outbox.put(message("a"))

    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    outbox.close()


def test_a_clock_that_was_put_back_holds_nothing_up(
    outbox: Outbox, another_process: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(message("a"))
    tomorrow = time.time() + 86400
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: tomorrow)
        outbox.claim()

    assert names(another_process.claim()) == ["a"]


def test_chats_that_wait_are_left_alone(outbox: Outbox) -> None:
    outbox.put(message("a"))
    outbox.put(message("b", SECOND))

    assert names(outbox.claim(but=[FIRST])) == ["b"]


def test_earliest_of_each_conversation_is_sent_first(outbox: Outbox) -> None:
    for pending in (message("a"), message("b"), message("c", SECOND)):
        outbox.put(pending)

    assert names(outbox.claim()) == ["a", "c"]
    # nothing overtakes what is on its way
    assert outbox.claim() == []
    outbox.remove("a")
    assert names(outbox.claim()) == ["b"]


def test_two_processes_never_have_one_message(outbox: Outbox, another_process: Outbox) -> None:
    outbox.put(message("a"))
    outbox.put(message("b"))

    assert names(outbox.claim()) == ["a"]
    assert another_process.claim() == []
    another_process.release("a")
    assert another_process.claim() == []
    outbox.release("a")
    assert names(another_process.claim()) == ["a"]
    another_process.release_all()
    assert names(outbox.claim()) == ["a"]


def test_message_of_a_process_that_died_is_sent_by_another(
    outbox: Outbox, another_process: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(message("a"))
    monkeypatch.setattr(outboxes, "CLAIM_SECONDS", -1.0)
    outbox.claim()

    assert names(another_process.claim()) == ["a"]


def test_refused_message_stays_to_be_seen_and_holds_nobody_up(outbox: Outbox) -> None:
    outbox.put(message("a"))
    outbox.put(message("b"))
    outbox.claim()

    outbox.refuse("a", "The message is too long.")

    assert [(kept.state, kept.refusal) for kept in outbox.all()] == [
        ("refused", "The message is too long."),
        ("pending", None),
    ]
    assert names(outbox.claim()) == ["b"]


def test_another_users_messages_are_neither_shown_nor_sent(outbox: Outbox, path: Path) -> None:
    outbox.put(message("a"))

    other = Outbox(path, CARLOS)
    assert other.all() == []
    assert other.claim() == []
    other.remove("a")
    other.close()
    assert names(outbox.all()) == ["a"]
