"""A streaming connection to the write-ahead log, opened again after every break."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import struct
import time
from collections.abc import Callable

import psycopg
from psycopg import pq, sql

PUBLICATIONS = ("supabase_realtime", "supabase_realtime_messages_publication")
# Postgres ends a connection that is silent for 60 s (wal_sender_timeout)
FEEDBACK_SECONDS = 10.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
# for closing in order, with a server that may be gone
END_SECONDS = 2.0

POSTGRES_EPOCH = 946_684_800  # 2000-01-01 in seconds since 1970
# Formats of the streaming replication protocol (PostgreSQL 17, section 53.4)
_DATA = struct.Struct("!cQQq")
_KEEPALIVE = struct.Struct("!cQqB")
_STATUS = struct.Struct("!cQQQqB")

logger = logging.getLogger(__name__)


class ReplicationError(Exception):
    """The stream ended or was refused."""


class ReplicationStream:
    """Passes every message of pgoutput to `on_message`, in commit order.

    A transaction is sent after its commit. Commits during a break are not sent later: the slot is
    temporary, so that an absent reader never fills the disk. `on_start` is called each time the
    stream begins, `on_break` each time it ends or can't begin. No callback may block; an exception
    in one ends this connection.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        on_start: Callable[[], None],
        on_break: Callable[[], None],
        on_message: Callable[[bytes], None],
    ) -> None:
        self._conninfo = conninfo
        self._on_start = on_start
        self._on_break = on_break
        self._on_message = on_message

    async def run(self) -> None:
        """Streams until it is cancelled; a broken connection is logged and opened again."""
        wait = FIRST_RETRY_SECONDS

        def on_start() -> None:
            nonlocal wait
            wait = FIRST_RETRY_SECONDS
            self._on_start()

        while True:
            try:
                await self._stream(on_start)
            except (psycopg.Error, ReplicationError) as error:
                logger.warning("replication stopped: %s", error)
            except Exception:
                logger.exception("replication stopped")
            self._on_break()
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY_SECONDS)

    async def _stream(self, on_start: Callable[[], None]) -> None:
        slot = sql.Identifier(f"rapport_{secrets.token_hex(8)}")
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            replication="database",
            application_name="realtime",
        )
        try:
            # replication commands must be in capitals
            await connection.execute(
                sql.SQL(
                    "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')"
                ).format(slot)
            )
            copy = _Copy(connection.pgconn)
            try:
                await copy.begin(_start_command(slot).as_bytes(connection))
                on_start()
                await copy.receive(self._on_message)
            finally:
                await asyncio.shield(_take_leave(connection, copy, slot))
        finally:
            await connection.close()


class _Copy:
    """A COPY in both directions; psycopg has only libpq's calls for it."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        # how far we have read; the server may discard the log before it
        self._position = 0
        self._report_at = 0.0

    async def begin(self, command: bytes) -> None:
        """Sends the command that starts the copy."""
        self._pgconn.send_query(command)
        with _Readable(self._pgconn.socket) as readable:
            while self._pgconn.is_busy():
                await readable.wait(None)
                self._pgconn.consume_input()
        self._expect(pq.ExecStatus.COPY_BOTH)

    async def receive(self, on_message: Callable[[bytes], None]) -> None:
        """Reads until the server ends the stream, which is an error."""
        with _Readable(self._pgconn.socket) as readable:
            while True:
                size, data = self._pgconn.get_copy_data(1)
                if size > 0:
                    self._take(bytes(data), on_message)
                elif size == 0:
                    self._report_if_due()
                    # lets the event loop run between two reads of a large transaction
                    await readable.wait(self._report_at - time.monotonic())
                    self._pgconn.consume_input()
                else:
                    self._expect(pq.ExecStatus.COMMAND_OK)
                    raise ReplicationError("the server ended the stream")

    async def end(self) -> None:
        """Ends the copy from our side, so that the connection accepts commands again."""
        self._pgconn.put_copy_end()
        with _Readable(self._pgconn.socket) as readable:
            while True:
                self._pgconn.flush()
                size, _ = self._pgconn.get_copy_data(1)
                if size < 0:
                    break
                if size == 0:
                    await readable.wait(None)
                    self._pgconn.consume_input()
            while True:
                while self._pgconn.is_busy():
                    await readable.wait(None)
                    self._pgconn.consume_input()
                if self._pgconn.get_result() is None:
                    return

    def _take(self, data: bytes, on_message: Callable[[bytes], None]) -> None:
        if data[:1] == b"w":
            _, start, _, _ = _DATA.unpack_from(data)
            on_message(data[_DATA.size :])
            self._position = max(self._position, start)
        elif data[:1] == b"k":
            _, end, _, reply_requested = _KEEPALIVE.unpack_from(data)
            # everything before it was sent and read
            self._position = max(self._position, end)
            if reply_requested:
                self._report()

    def _report_if_due(self) -> None:
        if time.monotonic() >= self._report_at:
            self._report()

    def _report(self) -> None:
        now = int((time.time() - POSTGRES_EPOCH) * 1_000_000)
        position = self._position
        self._pgconn.put_copy_data(_STATUS.pack(b"r", position, position, position, now, 0))
        self._pgconn.flush()
        self._report_at = time.monotonic() + FEEDBACK_SECONDS

    def _expect(self, status: pq.ExecStatus) -> None:
        result = self._pgconn.get_result()
        if result is None or result.status != status:
            reason = result.get_error_message() if result else "no answer"
            raise ReplicationError(reason.strip() or "unexpected answer")


class _Readable:
    """Waits until a socket is readable."""

    def __init__(self, socket: int) -> None:
        self._socket = socket
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> _Readable:
        self._loop.add_reader(self._socket, self._event.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._socket)

    async def wait(self, seconds: float | None) -> None:
        """Returns when the socket is readable or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


def _start_command(slot: sql.Identifier) -> sql.Composed:
    names = ",".join(f'"{name}"' for name in PUBLICATIONS)
    return sql.SQL(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})"
    ).format(slot, sql.Literal(names))


async def _take_leave(
    connection: psycopg.AsyncConnection, copy: _Copy, slot: sql.Identifier
) -> None:
    """Drops the slot at once, since a database with a slot in use can't be dropped."""
    if connection.pgconn.status != pq.ConnStatus.OK:
        return
    with contextlib.suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await copy.end()
            await connection.execute(sql.SQL("DROP_REPLICATION_SLOT {}").format(slot))
