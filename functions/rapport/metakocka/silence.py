"""Whether Metakocka answers nobody, or stumbles over one contact or partner."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.errors import MetakockaUnavailable

# so many in a row: whoever comes next would fare no better
LONGEST = 3


@dataclass
class Silence:
    """The calls of one run that nobody has answered."""

    # the last of those in a row
    error: MetakockaUnavailable | None = None
    _in_a_row: int = 0
    _is_heard: bool = False

    def add(self, error: MetakockaUnavailable) -> None:
        """Notes a call without an answer; raises it after too many, or where we are to wait."""
        self.error = error
        self._in_a_row += 1
        if self._in_a_row >= LONGEST or error.retry_after is not None:
            raise error

    def broken(self) -> None:
        """Notes that there was an answer."""
        self.error, self._in_a_row, self._is_heard = None, 0, True

    def end(self) -> None:
        """Raises the last of the calls where none at all was answered."""
        if self.error is not None and not self._is_heard:
            raise self.error
