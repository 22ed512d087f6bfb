"""What no answer, no log and no process may show after hostile input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import psutil

# planted in every row of the second business, of the first, and of the first one's desk
BAY_MARK = "zqbaymarkzq"
ALPINE_MARK = "zqalpinemarkzq"
DESK_MARK = "zqdeskmarkzq"
MARKS = (BAY_MARK, ALPINE_MARK, DESK_MARK)
# by who asks; all others belong to the first business
HIDDEN_FROM = {
    "cilka": (BAY_MARK, DESK_MARK),
    "stranger": MARKS,
    "anonymous": MARKS,
    "forged": MARKS,
}
# of Postgres' own sentences, of our inside, and of Python
RAW_WORDS = ("violates", 'relation "', "pg_", "private.", "Traceback", "psycopg", 'File "/')
# bytes that a process of ours may have; it starts with a fifth of it
MEMORY = 600 * 1024 * 1024


def fault_of(answer: httpx.Response, actor: str, sent: str) -> str | None:
    """What is wrong with an answer, if anything."""
    if answer.status_code >= 500 and not _is_documented(answer):
        return "an error of ours"
    told = answer.text + "\n" + "\n".join(map(": ".join, answer.headers.multi_items()))
    return leak_in(told, actor) or raw_words_in(told, sent)


def leak_in(told: str, actor: str) -> str | None:
    """Words of somebody else's rows."""
    for mark in HIDDEN_FROM.get(actor.partition(":")[0], (BAY_MARK,)):
        if mark in told:
            return f"a leak: {mark}"
    return None


def raw_words_in(told: str, sent: str) -> str | None:
    """Words from the inside of the database or of the program, unless the caller has sent them."""
    for word in RAW_WORDS:
        if word in told and word not in sent and word not in unquote(sent):
            return f"a word from the inside: {word}"
    return None


def fault_of_function(answer: httpx.Response) -> str | None:
    """What is wrong with the shape of a refusal of /api, if anything."""
    if answer.status_code < 400:
        return None
    try:
        told = answer.json()
    except ValueError:
        return "a refusal that is no JSON"
    if not {"code", "message"} <= set(told) <= {"code", "message", "field", "hint"}:
        # what no function has seen is answered by API Gateway
        return None if set(told) == {"message"} else "a refusal of another shape"
    return None if told["message"].endswith(".") else "a refusal without a sentence"


def _is_documented(answer: httpx.Response) -> bool:
    if answer.status_code == 503:
        return "retry-after" in answer.headers
    if answer.status_code == 501:
        # parts of a hosted project that are not there, with a sentence
        told = json.loads(answer.text)
        return bool(told.get("message") or told.get("msg"))
    return False


def words_in_logs(folder: Path, words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The files and words, of those that must stand in none."""
    files = sorted(folder.glob("*.log"))
    assert files
    for file in files:
        content = file.read_text(errors="replace")
        for word in words:
            if word in content:
                line = next(line for line in content.splitlines() if word in line)
                yield file.name, line[:500]


def swollen(processes: Iterable[psutil.Process]) -> list[str]:
    """The processes that hold more memory than they may."""
    return [
        f"{process.name()} {memory:,}"
        for process in processes
        if (memory := process.memory_info().rss) > MEMORY
    ]
