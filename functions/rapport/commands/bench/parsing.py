"""Reading a webhook: into our items, beside pywa (PyPI) and beside the bare reading of its JSON.

pywa is no dependency: `uv run --with pywa rapport bench ingest.parse` has it.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from rapport.local.fakes.whatsapp.payloads import encode, inbound_text
from rapport.store.webhooks import json_of
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

ROUNDS = 9
WEBHOOKS = 500


class ParsingFigures(NamedTuple):
    """Milliseconds for each webhook, round by round; of pywa none where it is not installed."""

    ours: tuple[float, ...]
    pywa: tuple[float, ...]
    json: tuple[float, ...]


def measure(rounds: int = ROUNDS, webhooks: int = WEBHOOKS) -> ParsingFigures:
    """Reads text messages, in turn with each."""
    bodies = [
        encode(
            inbound_text(
                phone_number_id="106540352242922",
                sender=str(38_640_000_000 + number),
                name="Somebody",
                text=f"Message {number}",
                # pywa reads no webhook without one
                user_id=f"SI.{number:016}",
            )
        ).decode()
        for number in range(webhooks)
    ]
    ways: dict[str, Callable[[str], object]] = {
        "ours": lambda body: [json_of(item) for item in items_of(parse(body))],
        "json": json.loads,
    }
    if importlib.util.find_spec("pywa"):
        ways["pywa"] = _pywa()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    # the first round builds what is kept
    for number in range(rounds + 1):
        for name, read in ways.items():
            begun = time.perf_counter()
            for body in bodies:
                read(body)
            if number:
                taken[name].append((time.perf_counter() - begun) * 1000 / webhooks)
    return ParsingFigures(tuple(taken["ours"]), tuple(taken.get("pywa", ())), tuple(taken["json"]))


def _pywa() -> Callable[[str], object]:
    # not installed with the tool
    types = importlib.import_module("pywa.types")
    make = importlib.import_module("pywa").WhatsApp
    client = make(phone_id="none", token="none")  # noqa: S106 - no key: nothing is called
    return lambda body: types.Message.from_update(client=client, update=json.loads(body))
