"""Input that reaches us on other ways than over HTTP: files that staff import, and answers of
Metakocka.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr

from rapport.commands.workbook import as_table
from rapport.contacts.rows import RefusedRow, Said, read_row
from rapport.contacts.table import Table
from rapport.errors import MalformedTable, RapportError, StoreError
from rapport.local.stack.running import Stack
from rapport.metakocka.sync.run import Sync
from rapport.parameters import OneSecret
from rapport.settings import MetakockaSettings, StoreSettings
from rapport.store.metakocka import MetakockaStore
from tests import workbooks
from tests.hostile import values
from tests.sql.syncing import AT_ONCE
from tests.unit.metakocka.documented import DOCUMENTS, FOUND
from tests.world import World

TITLES = ("name", "phone", "email", "username", "tags", "notes", "conversation_status", "id", "x")
LINES = (
    *("sep=;", 'sep="', "\ufeff", "\x00", "a" * 70_000, '"', '""', '"a\nb"', ",,,,", ";;", "\t"),
    *("=1+1", '="0401"', "'0401", "4.36512E+11", "436641234567.0", "\x1a", "\x85", "\u2028"),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1250", "latin-1")


@dataclass(frozen=True)
class File:
    """A file of contacts, one character a byte; or a workbook by what stands in its cells."""

    content: str
    kind: Literal["file"] = "file"


@dataclass(frozen=True)
class Erp:
    """What Metakocka answers to every call, one character a byte, and how partners are found."""

    content: str
    status: int = 200
    listing: str = "all"
    kind: Literal["erp"] = "erp"


def read_file(given: File) -> str | None:
    """What is wrong with how a file is read, if anything."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "contacts"
        file.write_bytes(given.content.encode("latin-1"))
        try:
            with as_table(file, None) as path:
                table = Table.open(path)
                for record in table.records():
                    try:
                        read_row(Said.of(record, table.columns), "SI")
                    except RefusedRow:
                        continue
        except MalformedTable:
            return None
        except Exception as error:  # noqa: BLE001 - any other is the fault that is looked for
            return f"{type(error).__name__}: {error}"
    return None


def answer_sync(given: Erp, world: World, stack: Stack) -> str | None:
    """What is wrong with a run of the sync that is answered so, if anything."""
    account = uuid4()
    world.owner.execute(
        "insert into public.accounts (id, external_id, name) values (%s, %s, 'One')",
        [account, str(account)],
    )
    world.owner.execute(
        "insert into public.metakocka_connections (account_id, company_id, listing)"
        " values (%s, %s, %s)",
        [account, account.hex, given.listing],
    )
    content = given.content.encode("latin-1")
    store = MetakockaStore(
        StoreSettings(
            supabase_url=HttpUrl(stack.url), supabase_secret_key=SecretStr(stack.secret_key)
        )
    )
    try:
        report = Sync(
            store,
            OneSecret(SecretStr("the key of every company")),
            MetakockaSettings(metakocka_url=HttpUrl(f"http://{uuid4()}.invalid")),
            worker=f"worker {uuid4()}",
            remaining=lambda: 600,
            policies=AT_ONCE,
            transport=httpx.MockTransport(
                lambda _request: httpx.Response(given.status, content=content)
            ),
        ).run(account, "from_metakocka", "cli")
    except StoreError as error:
        return f"the database refused: {error}"
    except RapportError:
        return None
    except Exception as error:  # noqa: BLE001 - any other is the fault that is looked for
        return f"{type(error).__name__}: {error}"
    finally:
        store.close()
    if report is not None and isinstance(report.error, StoreError):
        return f"the database refused: {report.error}"
    return None


@st.composite
def files(draw: st.DrawFn) -> File:
    cell = st.one_of(values.texts, st.sampled_from(LINES), st.sampled_from(TITLES))
    titles = draw(st.lists(st.sampled_from(TITLES), min_size=1, max_size=6))
    rows = draw(st.lists(st.lists(cell, max_size=7), max_size=4))
    delimiter = draw(st.sampled_from((",", ";", "\t", "|", '"', "\x00")))
    ending = draw(st.sampled_from(("\n", "\r\n", "\r", "\n\r", "\x0b")))
    quoted = draw(st.booleans())
    lines = [
        delimiter.join('"' + one.replace('"', '""') + '"' if quoted else one for one in row)
        for row in (titles, *rows)
    ]
    if draw(st.integers(0, 5)) == 0:
        lines.insert(0, draw(st.sampled_from(LINES)))
    encoding = draw(st.sampled_from(ENCODINGS))
    content = ending.join(lines).encode(encoding, "replace")
    if draw(st.integers(0, 5)) == 0:
        place = draw(st.integers(0, max(0, len(content) - 1)))
        content = content[:place] + draw(st.binary(max_size=6)) + content[place + 1 :]
    return File(content.decode("latin-1"))


@st.composite
def books(draw: st.DrawFn) -> File:
    """Workbooks with formulas, odd numbers and cells far out; damaged ones, and bombs."""
    refs = st.sampled_from(("A1", "B1", "A2", "XFD1048576", "ZZZZ1", "A0", "A99999999999", "", "1"))
    shown = st.one_of(
        st.sampled_from(("1e5000", "NaN", "-1", "9" * 400, "2958466", "1e308", "x", "")),
        values.chosen_texts.filter(lambda text: len(text) < 6000 and "\ud800" not in text),
    )
    cells = []
    for _ in range(draw(st.integers(0, 5))):
        ref, text = draw(refs), "".join(one for one in draw(shown) if one.isprintable())
        text = text.encode("utf-8", "ignore").decode()
        escaped = _escaped(text)
        cells.append(
            draw(
                st.sampled_from(
                    (
                        workbooks.text(ref, text),
                        workbooks.number(ref, escaped),
                        workbooks.number(ref, escaped, 1),
                        f'<c r="{ref}"><f>{escaped}</f><v>{escaped}</v></c>',
                        f'<c r="{ref}" t="s"><v>99999999</v></c>',
                    )
                )
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        file = workbooks.write(Path(folder) / "x.xlsx", one=["".join(cells)])
        content = file.read_bytes()
    how = draw(st.sampled_from(("whole", "whole", "cut", "changed", "bomb", "entity", "path")))
    if how == "cut":
        content = content[: draw(st.integers(4, len(content)))]
    elif how == "changed":
        place = draw(st.integers(4, len(content) - 1))
        content = content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place + 1 :]
    elif how in _REWRITTEN:
        content = _rewritten(content, how)
    return File(content.decode("latin-1"))


_ENTITY = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c SYSTEM "file:///etc/passwd">]>'
    f'<worksheet xmlns="{workbooks.MAIN}"><sheetData><row r="1">'
    '<c r="A1" t="inlineStr"><is><t>&b;&c;</t></is></c></row></sheetData></worksheet>'
)
_REWRITTEN = {
    # zeros, which pack well: far beyond what may be unpacked
    "bomb": ("xl/worksheets/sheet1.xml", None),
    "entity": ("xl/worksheets/sheet1.xml", _ENTITY),
    "path": ("../../../tmp/x", "x"),
}


def _rewritten(content: bytes, how: str) -> bytes:
    name, put = _REWRITTEN[how]
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            if entry.filename != name:
                new.writestr(entry, old.read(entry))
        if put is not None:
            new.writestr(name, put)
        else:
            new.writestr(name, "<worksheet>" + " " * 4_000_000 + "</worksheet>")
    packed = made.getvalue()
    if how == "bomb":
        # it says that it unpacks to more
        at = packed.rindex(b"PK\x01\x02")
        packed = packed[: at + 24] + (0xFFFFFF00).to_bytes(4, "little") + packed[at + 28 :]
    return packed


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(found for key, one in inner for found in _paths(one, (*path, key)))]


def changed(draw: st.DrawFn, value: Any, put: st.SearchStrategy[Any], times: int) -> Any:
    """A copy of JSON with other values in some places."""
    for _ in range(times):
        path = draw(st.sampled_from(_paths(value)))
        value = _put(value, path, draw(put))
        if not isinstance(value, dict | list):
            return value
    return value


def _put(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    if not path:
        return put
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = _put(copy[key], tuple(rest), put)
    return copy


@st.composite
def erps(draw: st.DrawFn) -> Erp:
    fields = ("mk_id", "customer", "email", "gsm", "country", "opr_code", "partner_list", "result")
    put = st.one_of(values.scalars, values.texts, values.values(fields))
    listing = draw(st.sampled_from(("all", "all", "documents")))
    answer = draw(st.sampled_from((FOUND, FOUND, FOUND, DOCUMENTS)))
    answer = changed(draw, answer, put, draw(st.integers(0, 4)))
    content = draw(
        st.one_of(*[st.just(values.text_of(answer))] * 8, values.raw_json).filter(
            # fewer than a page of documents, or the run would go on for ever
            lambda text: len(text) < 200_000
        )
    )
    status = draw(st.sampled_from((200, 200, 200, 200, 200, 500, 302, 404, 429)))
    return Erp(content, status, listing)
