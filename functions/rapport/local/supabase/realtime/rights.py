"""The rights of one caller on one topic; each is asked of the database once."""

from __future__ import annotations

import logging
from collections.abc import Collection

import psycopg

from rapport.local.supabase.realtime.authorization import Authorizer, Extension
from rapport.local.supabase.realtime.callers import TokenCaller

logger = logging.getLogger(__name__)


class Rights:
    """The rights of one token; a new token gets new ones. On a public topic everybody has all
    rights.

    Source: Realtime asks about reading at the join, and about writing at the first write.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        caller: TokenCaller,
        headers: str,
        topic: str,
        *,
        private: bool,
    ) -> None:
        self.caller = caller
        self._authorizer = authorizer
        self._headers = headers
        self._topic = topic
        self._private = private
        self._read: dict[Extension, bool] = {}
        self._write: dict[Extension, bool] = {}

    async def ask_to_read(self, extensions: Collection[Extension]) -> None:
        """Asks whether the caller may read these. Raises psycopg.Error as the authorizer does."""
        unknown = [extension for extension in extensions if extension not in self._read]
        if not self._private or not unknown:
            return
        readable = await self._authorizer.readable(self.caller, self._headers, self._topic, unknown)
        self._read |= {extension: extension in readable for extension in unknown}

    def may_read(self, extension: Extension) -> bool:
        """Whether the caller may read it; False before `ask_to_read`."""
        return not self._private or self._read.get(extension, False)

    @property
    def may_read_any(self) -> bool:
        return not self._private or any(self._read.values())

    def has_lost(self, earlier: Rights) -> bool:
        """Whether a right to read that the earlier token had is gone."""
        return any(
            earlier.may_read(extension) and not self.may_read(extension) for extension in self._read
        )

    async def may_write(self, extension: Extension) -> bool:
        """Whether the caller may write; False when the database can't answer, and then it is asked
        again.
        """
        if not self._private:
            return True
        if extension not in self._write:
            try:
                self._write[extension] = await self._authorizer.may_write(
                    self.caller, self._headers, self._topic, extension
                )
            except psycopg.Error as error:
                logger.warning("could not ask who may write: %s", error)
                return False
        return self._write[extension]
