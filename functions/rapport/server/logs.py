"""One form for all lines of the process: JSON, also of the libraries."""

from __future__ import annotations

import logging
import sys

from rapport.log import logger


def _is_a_librarys(record: logging.LogRecord) -> bool:
    # our own have been written
    return record.name.partition(".")[0] != "rapport"


def as_json() -> None:
    """Writes what libraries warn of in the form of our own lines: without an exception's words,
    which may be somebody's.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logger.registered_formatter)
    handler.addFilter(_is_a_librarys)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
