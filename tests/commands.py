"""`rapport` in this process: most of a short command is the start of another interpreter."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from typing import IO

from rapport.commands import main


def rapport(arguments: tuple[str, ...], environment: Mapping[str, str]) -> CompletedProcess[str]:
    """A command that is run to its end with these variables and no others."""
    status: str | int | None = 0
    with (
        _file() as output,
        _file() as errors,
        _variables(environment),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        before, sys.argv = sys.argv, ["rapport", *arguments]
        log = logging.getLogger("rapport")
        level = log.level
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.argv = before
            # some commands write less
            log.setLevel(level)
        # as an interpreter ends with it
        status = status if isinstance(status, int) else int(bool(status))
        return CompletedProcess(arguments, status, _text(output), _text(errors))


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _file() -> IO[str]:
    """A stream with a descriptor, to which some write."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="")


def _text(stream: IO[str]) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read().replace("\r\n", "\n")
