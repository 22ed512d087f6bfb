"""Statements as somebody: what they answer, how they are refused, and while others write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.world import World

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Refusal:
    """What a client is told of an error."""

    code: str | None
    message: str | None
    detail: str | None
    hint: str | None

    @classmethod
    def of(cls, error: psycopg.Error) -> Refusal:
        diag = error.diag
        return cls(error.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint)


Answer = list[Row] | Refusal


def ask(world: World, user: str, query: str, *parameters: Any) -> list[Row]:
    """The rows of a statement, as somebody who is signed in."""
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def refusal(world: World, user: str, query: str, *parameters: Any) -> Refusal:
    """How a statement is refused, which it must be."""
    with pytest.raises(psycopg.Error) as refused:
        ask(world, user, query, *parameters)
    return Refusal.of(refused.value)


def start_blocked(world: World, user: str | None, query: str, *parameters: Any) -> Future[Answer]:
    """Starts a statement that has to wait for a lock of the caller's, and returns once it waits.

    Without a user it is the schema's owner's.
    """
    sessions: Queue[int] = Queue()

    def run() -> Answer:
        try:
            with (
                world.acting_as(user) if user else world.connect() as connection,
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                sessions.put(connection.info.backend_pid)
                cursor.execute(query.encode(), parameters)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            return Refusal.of(error)

    pool = ThreadPoolExecutor(1)
    answer = pool.submit(run)
    pool.shutdown(wait=False)
    session = sessions.get(timeout=10)
    while not world.value("select cardinality(pg_blocking_pids(%s)) > 0", [session]):
        assert not answer.done(), answer.result()
    return answer


def at_once(*calls: Callable[[], T]) -> list[T | Refusal]:
    """What calls answer that start at the same moment, each in a thread."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Refusal:
        start.wait(10)
        try:
            return call()
        except psycopg.Error as error:
            return Refusal.of(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
