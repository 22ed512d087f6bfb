"""The functions of another release, on the schema of this one, by the tests that they have brought.

    LAST_RELEASE=v0.1.0 uv run pytest -m last_release

The checkout needs that tag or commit.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rapport.local.stack.npm import Binaries
from rapport.local.stack.state import PROJECT, npm_folder

pytestmark = pytest.mark.last_release

# through HTTP to rows and back: webhooks, sending, messages, files, schedules, the sync
ITS_TESTS = (
    "tests/integration/test_whatsapp_webhook.py",
    "tests/integration/test_deliver_outbound.py",
    "tests/integration/test_messages_api.py",
    "tests/integration/test_media.py",
    "tests/integration/test_daily.py",
    "tests/integration/test_sync_store.py",
)


def test_functions_of_another_release_work_on_this_schema(
    session_folder: Path,
    binaries: Binaries,  # noqa: ARG001 - they are there
) -> None:
    release = os.environ.get("LAST_RELEASE")
    assert release, "LAST_RELEASE names a tag or a commit."
    folder = session_folder / "last-release"
    archive = subprocess.run(
        ["git", "archive", release], cwd=PROJECT, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    for name in ("sql", "supabase"):
        shutil.rmtree(folder / name)
        shutil.copytree(PROJECT / name, folder / name)
    lock = Path("functions", "rapport", "local", "stack", "package-lock.json")
    if (folder / lock).read_bytes() == (PROJECT / lock).read_bytes():
        # else it installs its own
        (folder / ".rapport").mkdir()
        (folder / ".rapport" / "npm").symlink_to(npm_folder())

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ITS_TESTS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "functions")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout
