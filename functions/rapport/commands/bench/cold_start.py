"""How long a function takes to start: its imports and its clients, beside supabase-py's.

Functions start from their zip. Each is measured in a process of its own, with compiled modules, in
turn; the figures are medians.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import supabase

from rapport.commands.package.bundle import build
from rapport.server.serverless import SERVERLESS_FILE, Service

ROUNDS = 9
_BESIDE = "supabase"
_RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"

# what the functions' clients are made of; nothing is called
_ENVIRONMENT = {
    "SUPABASE_URL": "https://project.example",
    "SUPABASE_SECRET_KEY": "sb_secret_none",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_none",
    "WHATSAPP_APP_SECRET": "none",
    "WHATSAPP_VERIFY_TOKEN": "none",
    "WHATSAPP_TOKEN": "none",
    "METAKOCKA_SECRET_KEY": "none",
    "METAKOCKA_COMPANIES": "any",
    "MEDIA_BUCKET": "none",
    "WAKE_SECRET": "none",
    "WORKER_FUNCTION_PREFIX": "none-",
    "WEBHOOK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/none",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
}
# both without what only a developer's machine has; the processor's time, which others' work
# disturbs least
_BEGIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
sys.modules["click"] = sys.modules["rich"] = None
began = time.process_time()
"""
_END = """
print(time.process_time() - began)
"""
_SUPABASE = (
    _BEGIN
    + """
from supabase import create_client
create_client("https://project.example", "sb_secret_none")
"""
    + _END
)
# all that a handler keeps for its process is a cached function without arguments
_HANDLER = (
    _BEGIN
    + """
import importlib, inspect
module = importlib.import_module(sys.argv[2])
for made in list(vars(module).values()):
    if hasattr(made, "cache_info") and not inspect.signature(made).parameters:
        made()
"""
    + _END
)


class ColdStarts(NamedTuple):
    """Seconds: of supabase-py, and of each function."""

    supabase: float
    functions: dict[str, float]

    def times(self, function: str) -> float:
        """How long a function takes beside supabase-py."""
        return self.functions[function] / self.supabase


def measure(rounds: int = ROUNDS, functions: Sequence[str] = ()) -> ColdStarts:
    """Starts each function, or those that are named, and supabase-py in turn."""
    names = list(functions or Service.read(SERVERLESS_FILE).functions)
    taken: dict[str, list[float]] = {name: [] for name in (_BESIDE, *names)}
    with tempfile.TemporaryDirectory() as name:
        zipped = build(Path(name, "functions.zip"), architecture=_machine(), runtime=_RUNTIME)
        folder = Path(name, "task")
        with zipfile.ZipFile(zipped.file) as opened:
            opened.extractall(folder)
        # the first round reads the files, and compiles what supabase-py's are not compiled yet
        for number in range(rounds + 1):
            for one, times in taken.items():
                seconds = _start(one, folder)
                if number:
                    times.append(seconds)
    medians = {one: median(times) for one, times in taken.items()}
    return ColdStarts(medians.pop(_BESIDE), medians)


def _start(name: str, folder: Path) -> float:
    if name == _BESIDE:
        installed = Path(supabase.__file__).parents[1]
        script, arguments = _SUPABASE, [str(installed)]
    else:
        script, arguments = _HANDLER, [str(folder), f"rapport.handlers.{name}"]
    done = subprocess.run(
        # without the packages of this machine
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _machine() -> str:
    return "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
