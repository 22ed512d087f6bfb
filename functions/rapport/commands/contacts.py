"""The commands `rapport contacts import` and `export`, against the stack or a hosted project."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rapport.commands import workbook
from rapport.commands.project import no_account, store_settings
from rapport.contacts import table
from rapport.contacts.cells import guarded, join_tags
from rapport.contacts.exporting import export_contacts
from rapport.contacts.importing import Result, import_table
from rapport.contacts.table import DELIMITERS, ENCODINGS, Table
from rapport.errors import ConfigError, NotFound, StoreError
from rapport.phone import is_region
from rapport.store.contacts import ContactStore, ImportOutcome

INTERRUPTED = 130
# rows that the terminal shows; a report has all of them
SHOWN_ROWS = 100
SHOWN_CHARACTERS = 60  # characters of a value
SHOWN_TITLES = 12


def import_file(
    file: Path,
    account: str,
    *,
    dry_run: bool,
    region: str | None,
    delimiter: str,
    encoding: str,
    sheet: str | None,
    mapped: Sequence[str],
    report: Path | None,
) -> int:
    """Imports the file with a progress bar, a report of the rows and a summary.

    Returns the process's status: 0, 1 when rows were left out, 130 after Ctrl-C.

    Raises:
        RapportError: The file, an option or a setting is wrong, or the database is not there.
        OSError: A file can't be opened.
    """
    region = region and region.upper()
    if region is not None and not is_region(region):
        raise ConfigError(f"--region {region!r} is not a country: give two letters, such as SI.")
    if delimiter != "auto" and delimiter not in DELIMITERS:
        raise ConfigError(f"--delimiter is one of auto, {', '.join(DELIMITERS)}.")
    if report is not None and report.exists() and report.samefile(file):
        raise ConfigError("--report names the file to import. Give another file.")
    if encoding != "auto" and encoding not in ENCODINGS:
        raise ConfigError(f"--encoding is one of auto, {', '.join(ENCODINGS)}.")
    mapping = _mapping(mapped)
    with workbook.as_table(file, sheet) as path:
        contacts = Table.open(
            path,
            DELIMITERS.get(delimiter),
            encoding=None if encoding == "auto" else encoding,
            mapping=mapping,
        )
        return _import(contacts, account, dry_run=dry_run, region=region, report=report)


def _import(
    contacts: Table, account: str, *, dry_run: bool, region: str | None, report: Path | None
) -> int:
    output, status = Console(), 0
    outcomes: Counter[ImportOutcome] = Counter()
    if contacts.left_out:
        _print(output, _left_out(contacts))
    with (
        closing(ContactStore(store_settings())) as store,
        _reporting(report, output) as tell,
        _counting(output, contacts.rows) as count,
        closing(import_table(store, account, contacts, region=region, dry_run=dry_run)) as calls,
    ):
        try:
            for results in calls:
                for result in results:
                    outcomes[result.outcome] += 1
                    if result.reason or result.changes:
                        tell(result)
                count(len(results))
        except KeyboardInterrupt:
            status = INTERRUPTED
        except NotFound:
            raise no_account(account) from None
        except StoreError:
            _print_summary(output, outcomes, dry_run=dry_run)
            raise
    _print_summary(output, outcomes, dry_run=dry_run)
    if status == INTERRUPTED:
        _print(output, "Interrupted. The counted rows are imported; import again for the rest.")
    elif outcomes["refused"] or outcomes["ambiguous"]:
        status = 1
    return status


def export_file(file: Path | None, account: str) -> None:
    """Exports to the file, which only its owner may read, or to stdout.

    Raises:
        RapportError: A setting is wrong, or the database is not there.
        OSError: The file can't be written.
    """
    if file is not None and file.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise ConfigError(f"The export is a CSV file: name it {file.stem}.csv.")
    with closing(ContactStore(store_settings())) as store:
        contacts = export_contacts(store, account)
        try:
            if file is None:
                with open(
                    sys.stdout.fileno(), "w", encoding="utf-8", newline="", closefd=False
                ) as stdout:
                    table.write(stdout, contacts)
                return
            with _replacing(file) as unfinished:
                written = table.write(unfinished, contacts)
        except NotFound:
            raise no_account(account) from None
    _print(Console(stderr=True), f"{written:,} contacts in {file}")


@contextmanager
def _counting(output: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for rows; on stderr where a program reads stdout."""
    columns = (TextColumn("Rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = output if output.is_terminal else Console(stderr=True)
    with Progress(
        *columns, console=console, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task("rows", total=total)
        yield lambda rows: progress.advance(task, rows)


@contextmanager
def _reporting(report: Path | None, output: Console) -> Iterator[Callable[[Result], None]]:
    """Reports rows that were changed or left out: as lines, or in a CSV file."""
    if report is None:
        told = 0

        def show(result: Result) -> None:
            nonlocal told
            told += 1
            if told <= SHOWN_ROWS:
                for line in _lines(result):
                    _print(output, line)

        yield show
        if told > SHOWN_ROWS:
            _print(output, f"… and {told - SHOWN_ROWS:,} more rows: --report FILE has all of them.")
        return
    with report.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "outcome", "field", "old", "new", "reason"))

        def write(result: Result) -> None:
            told = [(name, change.old, change.new) for name, change in result.changes.items()]
            if result.reason:
                told.insert(0, (result.field or "", None, None))
            for place, (name, old, new) in enumerate(told):
                # a row's reason is written once
                reason = result.reason if place == 0 else None
                cells = (name, _cell(old), _cell(new), reason or "")
                writer.writerow((result.row, result.outcome, *map(guarded, cells)))

        yield write


def _lines(result: Result) -> Iterator[str]:
    begin = f"row {result.row}  {result.outcome}"
    if result.reason:
        yield f"{begin}  {result.field or '-'}  {result.reason}"
    if result.outcome == "created" and result.changes:
        said = ", ".join(f"{name} {_shown(one.new)}" for name, one in result.changes.items())
        yield f"{begin}  {said}"
        return
    for name, change in result.changes.items():
        yield f"{begin}  {name}  {_shown(change.old)} → {_shown(change.new)}"


def _shown(value: str | list[str] | None) -> str:
    text = _cell(value)
    if not text:
        return "(empty)"
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…")


def _cell(value: str | list[str] | None) -> str:
    return join_tags(value) if isinstance(value, list) else value or ""


def _mapping(mapped: Sequence[str]) -> dict[str, str]:
    mapping = {}
    for one in mapped:
        # a title may contain an equals sign, a field can't
        theirs, sign, ours = one.rpartition("=")
        if not sign or not theirs.strip():
            raise ConfigError(f"--map {one!r} is not THEIRS=OURS, such as --map Handy=phone.")
        mapping[theirs.strip()] = ours.strip()
    return mapping


def _left_out(contacts: Table) -> str:
    titles = contacts.left_out
    named = ", ".join(title[:40] for title in titles[:SHOWN_TITLES])
    more = f" and {len(titles) - SHOWN_TITLES} more" if len(titles) > SHOWN_TITLES else ""
    whose = f"An export of {contacts.system}. " if contacts.system else ""
    return f"{whose}Columns left out: {named}{more}."


def _print_summary(output: Console, outcomes: Counter[ImportOutcome], *, dry_run: bool) -> None:
    counts = ", ".join(f"{outcomes[outcome]:,} {outcome}" for outcome in get_args(ImportOutcome))
    trial = " Nothing was written: this was a dry run." if dry_run else ""
    _print(output, f"{outcomes.total():,} rows: {counts}.{trial}")


@contextmanager
def _replacing(file: Path) -> Iterator[IO[str]]:
    """A file that replaces the other one when it is complete; only its owner may read it."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    path = Path(name)
    try:
        # Excel needs the byte order mark to recognize the encoding
        with os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="") as unfinished:
            yield unfinished
        path.replace(file)
    except BaseException:
        path.unlink()
        raise


def _print(console: Console, text: str) -> None:
    # quoted cells must not send control characters to the terminal
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    console.print(shown, highlight=False, markup=False, emoji=False, soft_wrap=True)
