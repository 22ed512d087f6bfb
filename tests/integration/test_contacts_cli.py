"""`rapport contacts import` and `export` as people run them, against PostgREST and Postgres."""

from __future__ import annotations

import csv
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.commands import rapport
from tests.workbooks import number, text, write

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack

HEADER = "name;phone;email;tags;notes;conversation_status"
NOVAK = "Cilka Novak;040 111 222;cilka@example.si;vip;Rings twice.;pending"
NOTHING = "0 rows: 0 created, 0 updated, 0 unchanged, 0 refused, 0 ambiguous.\n"
KRANJC = "Jan Kranjc;040 111 333;;boat;;"


@contextmanager
def interruptible() -> Iterator[None]:
    """Commands that are started here heed SIGINT.

    A shell has its background jobs ignore it, the tests among them, and a process inherits that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Project:
    """A project with two accounts, and the command line pointed at it."""

    def __init__(self, stack: Stack, folder: Path, owner: psycopg.Connection[dict[str, Any]]):
        self._environment = {
            **os.environ,
            "SUPABASE_URL": stack.url,
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "no_proxy": stack.host,
        }
        self._owner = owner
        self.folder = folder

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        with interruptible():
            return subprocess.Popen(
                [sys.executable, "-m", "rapport", "contacts", *map(str, arguments)],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """The command's status, stdout and stderr."""
        done = rapport(("contacts", *map(str, arguments)), self._environment)
        return done.returncode, done.stdout, done.stderr

    def import_(self, file: Path, *options: str) -> tuple[int, str]:
        status, output, _ = self.run("import", file, "--account", "alpine", *options)
        return status, output

    def file(self, *lines: str, name: str = "contacts.csv") -> Path:
        file = self.folder / name
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self._owner.execute(query.encode()).fetchall()

    @contextmanager
    def holding(self, query: str) -> Iterator[None]:
        """While somebody else is in a transaction."""
        with self._owner.transaction():
            self._owner.execute(query.encode())
            yield

    def log(self) -> list[dict[str, Any]]:
        return self.rows("select * from private.changes order by seq")


@pytest.fixture
def project(gateway: Stack, database: Database, tmp_path: Path) -> Iterator[Project]:
    with psycopg.connect(database.url("postgres"), autocommit=True, row_factory=dict_row) as owner:
        owner.execute(
            "insert into public.accounts (external_id, name) values"
            " ('alpine', 'Alpine'), ('bay', 'Bay')"
        )
        yield Project(gateway, tmp_path, owner)


def test_a_file_is_imported_once_however_often_it_is_given(project: Project) -> None:
    file = project.file(HEADER, NOVAK, KRANJC)

    assert project.import_(file, "--region", "SI") == (
        0,
        "2 rows: 2 created, 0 updated, 0 unchanged, 0 refused, 0 ambiguous.\n",
    )
    contacts = project.rows("select * from public.contacts order by phone")
    assert [(row["name"], row["phone"], row["tags"]) for row in contacts] == [
        ("Cilka Novak", "+38640111222", ["vip"]),
        ("Jan Kranjc", "+38640111333", ["boat"]),
    ]
    before = project.log()

    status, output = project.import_(file, "--region", "SI")

    assert (status, output.split(", ")[2]) == (0, "2 unchanged")
    assert project.log() == before
    assert project.rows("select * from public.contacts order by phone") == contacts


def test_rows_that_are_left_out_are_told_and_the_others_go_in(project: Project) -> None:
    file = project.file(
        HEADER,
        NOVAK,
        "Ana;12;;;;",
        "Bor;040 111 444;;;;Open",
        "Cilka;+386 40 111 222;;;;",
        KRANJC,
    )

    status, output = project.import_(file, "--region", "SI")

    unknown = "'Open' is not a status of this face. Known: open, pending, closed."
    assert status == 1
    assert output.splitlines() == [
        "row 3  refused  phone  The number is too short.",
        f"row 4  refused  conversation_status  {unknown}",
        "row 5  refused  phone  Row 2 has the same phone.",
        "5 rows: 2 created, 0 updated, 0 unchanged, 3 refused, 0 ambiguous.",
    ]
    assert len(project.rows("select from public.contacts")) == 2


def test_a_report_is_a_table_of_its_own(project: Project) -> None:
    report = project.folder / "report.csv"
    file = project.file("phone;tags", "12;", '+38640111222;"""vip"')

    status, output = project.import_(file, "--report", str(report))

    assert status == 1
    assert output == "2 rows: 0 created, 0 updated, 0 unchanged, 2 refused, 0 ambiguous.\n"
    with report.open(encoding="utf-8-sig", newline="") as lines:
        assert list(csv.reader(lines)) == [
            ["row", "outcome", "field", "old", "new", "reason"],
            [
                "2",
                "refused",
                "phone",
                "",
                "",
                "The number has no country code, and no region is given.",
            ],
            ["3", "refused", "tags", "", "", "A quote is not closed."],
        ]


def test_a_dry_run_tells_the_same_and_writes_nothing(project: Project) -> None:
    file = project.file(HEADER, NOVAK, "Ana;12;;;;", KRANJC)
    status, output = project.import_(file, "--region", "SI", "--dry-run")

    assert status == 1
    assert project.log() == []
    assert project.rows("select from public.contacts") == []
    trial = output.replace(" Nothing was written: this was a dry run.", "")
    assert trial != output
    created = "row 2  created  name 'Cilka Novak', tags 'vip', email 'cilka@example.si'"
    assert created in trial
    told = "".join(line for line in trial.splitlines(keepends=True) if "  created  " not in line)
    assert project.import_(file, "--region", "SI") == (1, told)


def test_a_dry_run_tells_which_contacts_would_change_and_how(project: Project) -> None:
    project.import_(project.file(HEADER, NOVAK, KRANJC), "--region", "SI")
    changed = project.file(
        HEADER,
        f"Cilka K.;040 111 222;;vip;{'Rings three times. ' * 5};closed",
        KRANJC,
    )

    status, output = project.import_(changed, "--region", "SI", "--dry-run")

    assert status == 0
    shown = f"{('Rings three times. ' * 5)[:59]}…"
    assert sorted(output.splitlines()[:-1]) == [
        "row 2  updated  conversation_status  'pending' → 'closed'",
        "row 2  updated  name  'Cilka Novak' → 'Cilka K.'",
        f"row 2  updated  notes  'Rings twice.' → '{shown}'",
    ]
    assert output.splitlines()[-1].startswith("2 rows: 0 created, 1 updated, 1 unchanged")

    report = project.folder / "report.csv"
    project.import_(changed, "--region", "SI", "--dry-run", "--report", str(report))
    with report.open(encoding="utf-8-sig", newline="") as lines:
        told = sorted(list(csv.reader(lines))[1:])
    assert told[1] == ["2", "updated", "name", "Cilka Novak", "Cilka K.", ""]
    # whole, where the terminal shows the beginning
    assert told[2][4] == ("Rings three times. " * 5).strip()


def test_many_rows_that_are_told_are_cut_off_where_a_report_has_them(project: Project) -> None:
    file = project.file("phone,name", *(f"+38640{n:06},Name {n}" for n in range(250)))
    _, output = project.import_(file, "--dry-run")
    lines = output.splitlines()
    assert len(lines) == 102
    assert lines[100] == "… and 150 more rows: --report FILE has all of them."

    report = project.folder / "report.csv"
    project.import_(file, "--dry-run", "--report", str(report))
    assert len(report.read_text().splitlines()) == 501


def test_an_export_is_unchanged_when_it_is_imported(project: Project) -> None:
    project.import_(project.file(HEADER, NOVAK, KRANJC), "--region", "SI")
    project.rows(
        """
        insert into public.contacts (account_id, name, profile_name, profile_named_at, tags, notes)
        select
            id, '=HYPERLINK("x")', '''=1', now(), '{a;b,"q\\"q","-1",''t}',
            E'''quoted''\\r\\nand "more",\\n\\u2028 '
        from public.accounts
        returning id
        """
    )
    exported = project.folder / "out" / "contacts.csv"
    exported.parent.mkdir()

    status, _, errors = project.run("export", exported, "--account", "alpine")

    assert (status, errors) == (0, f"3 contacts in {exported}\n")
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert [file.name for file in exported.parent.iterdir()] == ["contacts.csv"]
    assert "'=HYPERLINK" in exported.read_text(encoding="utf-8-sig")
    before = project.log()
    assert project.import_(exported)[1].split(", ")[2] == "3 unchanged"
    assert project.log() == before

    # what stdout has is the same, without the byte order mark
    _, output, _ = project.run("export", "--account", "alpine")
    assert output == exported.read_text(encoding="utf-8-sig")


def as_excel_saves(exported: Path, saved: Path, encoding: str) -> None:
    """What Excel makes of an export that is opened by a double click and saved again."""
    with exported.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    with saved.open("w", encoding=encoding, errors="replace", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        for row in rows:
            writer.writerow([as_excel_shows(cell) for cell in row])


def as_excel_shows(cell: str) -> str:
    if cell.lstrip("+").isdigit():
        number = int(cell)
        return f"{number:.5E}".replace(".", ",") if number >= 10**11 else str(number)
    return {"1-2": "01.feb", "true": "RESNIČNO"}.get(cell, cell.replace("\r\n", "\n"))


@pytest.mark.parametrize("encoding", ["cp1250", "utf-8-sig", "utf-16"])
def test_an_export_that_went_through_excel_is_unchanged(project: Project, encoding: str) -> None:
    project.import_(
        project.file(
            "phone;name;tags;notes;username",
            "+38640111222;Žiga Šmid;007;1-2;007",
            '+436641234567;Ana 😀;vip;"Two\r\nlines";ana',
            "+4915123456789;true;1-2;0401;",
        )
    )
    # of one phone that two contacts show, one is known by it
    project.rows(
        "insert into public.contacts (account_id, name, phone)"
        " select id, 'Bor', '+38640111222' from public.accounts where external_id = 'alpine'"
        " returning id"
    )
    exported, saved = project.folder / "exported.csv", project.folder / "saved.csv"
    project.run("export", exported, "--account", "alpine")
    as_excel_saves(exported, saved, encoding)
    assert "E+11" in saved.read_text(encoding=encoding)
    before = project.log()

    options = ("--encoding", encoding) if encoding == "cp1250" else ()
    status, output = project.import_(saved, *options)

    assert (status, output) == (
        0,
        "4 rows: 0 created, 0 updated, 4 unchanged, 0 refused, 0 ambiguous.\n",
    )
    assert project.log() == before

    # an edit of it is one, and another number that is damaged is told
    lines = saved.read_text(encoding=encoding).replace("ana", "anna").replace("4,36641E", "4,5E")
    saved.write_text(lines, encoding=encoding, newline="")
    status, output = project.import_(saved, *options, "--dry-run")
    assert status == 1
    assert "A spreadsheet has shortened the number to 4,5E+11" in output
    assert "3 unchanged, 1 refused" in output


def test_a_workbook_and_another_s_export_are_imported(project: Project) -> None:
    book = write(
        project.folder / "contacts.xlsx",
        Other=[text("A1", "nothing")],
        Contacts=[
            text("A1", "Stranka") + text("B1", "Mobile Phone") + text("C1", "Rojen"),
            text("A2", "Ana") + number("B2", "40111222") + number("C2", "46356", style=1),
        ],
    )
    options = ("--sheet", "Contacts", "--map", "Stranka=name", "--map", "Rojen=notes")

    assert project.import_(book, *options, "--region", "SI")[1].startswith("1 rows: 1 created")

    [contact] = project.rows("select name, phone, notes from public.contacts")
    assert contact == {"name": "Ana", "phone": "+38640111222", "notes": "2026-11-30"}

    wati = project.file(
        "Name,CountryCode,Phone,AllowCampaign,AllowSMS", "Ana,386,40111222,TRUE,TRUE"
    )
    assert project.import_(wati)[1].splitlines() == [
        "An export of WATI. Columns left out: AllowCampaign, AllowSMS.",
        "1 rows: 0 created, 0 updated, 1 unchanged, 0 refused, 0 ambiguous.",
    ]


def test_pages_and_calls_join_without_a_gap(project: Project) -> None:
    lines = (f"+38640{number:06},Name {number}" for number in range(403))
    status, output = project.import_(project.file("phone,name", *lines))
    assert (status, output.split(", ")[0]) == (0, "403 rows: 403 created")
    project.rows(
        "insert into public.contacts (account_id, name, phone)"
        " select a.id, 'Name ' || n, '+38640' || lpad(n::text, 6, '0')"
        " from public.accounts a, generate_series(403, 1202) n where a.external_id = 'alpine'"
        " returning contacts.id"
    )

    _, output, _ = project.run("export", "--account", "alpine")

    rows = list(csv.DictReader(output.splitlines()))
    assert {row["phone"] for row in rows} == {f"+38640{number:06}" for number in range(1203)}
    assert len(rows) == 1203


def test_one_account_s_files_hold_nothing_of_another_s(project: Project) -> None:
    project.import_(project.file(HEADER, NOVAK), "--region", "si")

    _, output, _ = project.run("export", "--account", "bay")

    assert output.splitlines() == ["id,name,phone,email,username,tags,notes,conversation_status"]


def settled(project: Project) -> int:
    """How many contacts there are once the database has ended the call that was cut off."""
    before = -1
    while (count := len(project.rows("select from public.contacts"))) != before or project.rows(
        "select from pg_stat_activity where datname = current_database()"
        " and backend_type = 'client backend' and pid <> pg_backend_pid() and state <> 'idle'"
    ):
        before = count
        time.sleep(0.2)
    return count


def test_an_import_that_is_interrupted_goes_on_when_it_is_repeated(project: Project) -> None:
    lines = [f"+38640{number:06},Name {number}" for number in range(2000)]
    file = project.file("phone,name", *lines)
    with project.start("import", file, "--account", "alpine") as process:
        while not project.rows("select from public.contacts limit 1"):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in output
    assert "Traceback" not in errors
    done = settled(project)
    assert 0 < done < 2000

    status, output = project.import_(file)

    assert status == 0
    assert output == (
        f"2,000 rows: {2000 - done:,} created, 0 updated, {done:,} unchanged,"
        " 0 refused, 0 ambiguous.\n"
    )


def test_a_long_file_is_told_once_to_those_who_follow(project: Project) -> None:
    file = project.file("phone,name", *(f"+38640{n:06},Name {n}" for n in range(450)))
    assert project.import_(file)[0] == 0
    told = "select topic, event from realtime.messages"
    [event] = project.rows(told)
    assert event["topic"].startswith("account:")
    assert event["event"] == "resync"

    assert project.import_(file)[0] == 0
    assert project.rows(told) == [event]


def test_what_the_database_refuses_is_told_in_its_words_with_what_to_do(project: Project) -> None:
    project.import_(project.file(HEADER, KRANJC), "--region", "SI")
    both = project.file(HEADER, "Ana;;ana@example.si;;;", KRANJC.replace("boat", "car"))

    with project.holding("select from public.contacts where name = 'Jan Kranjc' for update"):
        refused = project.run("import", both, "--account", "alpine", "--region", "SI")

    assert (refused[0], refused[2].splitlines()[-1]) == (
        1,
        "rapport: Others are writing some of these contacts. Try again.",
    )
    assert project.rows("select name from public.contacts") == [{"name": "Jan Kranjc"}]


def test_an_account_may_be_named_by_its_id(project: Project) -> None:
    (account,) = project.rows("select id::text from public.accounts where external_id = 'bay'")
    file = project.file(HEADER, NOVAK)

    for name in (account["id"], account["id"].upper(), "bay"):
        status, output, _ = project.run("import", file, "--account", name, "--region", "SI")
        assert status == 0, output
    told = "select a.external_id from public.contacts c join public.accounts a on a.id = account_id"
    assert project.rows(told) == [{"external_id": "bay"}]


def test_an_account_that_is_not_there_is_named(project: Project) -> None:
    contacts = project.file("phone", "+38640111222")
    report, exported = project.folder / "report.csv", project.folder / "exported.csv"
    for command in (("import", contacts, "--report", report), ("export", exported)):
        status, output, errors = project.run(*command, "--account", "nobody")

        assert (status, output) == (1, "")
        assert "There is no account 'nobody'" in errors
    # what is not whole is not there
    assert not exported.exists()
    assert {file.name for file in project.folder.iterdir()} == {contacts.name, report.name}


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("SUPABASE_URL", "SUPABASE_SECRET_KEY"),
        ("SUPABASE_SECRET_KEY", "SUPABASE_URL"),
    ],
)
def test_half_a_project_is_told_to_who_runs_the_command(
    tmp_path: Path, given: str, missing: str
) -> None:
    result = run_alone(tmp_path, command="export", **{given: "http://127.0.0.1:9", missing: ""})

    assert result.returncode == 1
    assert result.stderr.startswith(f"rapport: {given} is set, but {missing} is not. Set both")
    assert f"unset {given}" in " ".join(result.stderr.split())
    assert "function" not in result.stderr


def run_alone(
    home: Path, *options: str | Path, command: str = "import", **variables: str
) -> subprocess.CompletedProcess[str]:
    """An import or export where no database answers."""
    return rapport(
        ("contacts", command, *map(str, options), "--account", "alpine"),
        {**os.environ, "RAPPORT_HOME": str(home), **variables},
    )


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"phone,shoe\n", [], "unknown columns: 'shoe'. Known: id, name, phone"),
        (b"phone,name\n+38640111222,\xe8\n", [], "give --encoding cp1250 or --encoding cp1252"),
        (b"phone,city\n+38640111222,x\n", ["--map", "city"], "--map 'city' is not THEIRS=OURS"),
        (b"phone,city\n+38640111222,x\n", ["--map", "city=town"], "'town' is not a field"),
        (b"phone\n+38640111222\n", ["--encoding", "latin-1"], "auto, utf-8, utf-16, cp1250"),
        (b"phone\n+38640111222\n", ["--sheet", "One"], "The file is not a workbook"),
        (b"phone\n+38640111222\n", ["--region", "Slovenia"], "--region 'SLOVENIA'"),
        (b"phone\n+38640111222\n", ["--delimiter", "|"], "comma, semicolon, tab"),
        (b"phone\n+38640111222\n", [], "The database can't be reached"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, content: bytes, options: list[str], message: str
) -> None:
    """The file and the options are looked at before the database is."""
    file = tmp_path / "contacts.csv"
    file.write_bytes(content)

    result = run_alone(
        tmp_path,
        file,
        *options,
        SUPABASE_URL="http://127.0.0.1:9",
        SUPABASE_SECRET_KEY="key",
        no_proxy="127.0.0.1",
    )

    assert result.returncode == 1
    assert result.stdout in ("", NOTHING)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run_alone(tmp_path, tmp_path / "contacts.csv")

    assert result.returncode == 1
    assert f"rapport: {tmp_path / 'contacts.csv'}: No such file or directory." in result.stderr


def test_an_export_takes_no_workbook_s_name(tmp_path: Path) -> None:
    result = run_alone(tmp_path, tmp_path / "contacts.xlsx", command="export")

    assert result.returncode == 1
    assert "The export is a CSV file: name it contacts.csv." in result.stderr
    assert not (tmp_path / "contacts.xlsx").exists()


def test_a_report_does_not_overwrite_the_file(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("phone\n+38640111222\n")
    (tmp_path / "link.csv").symlink_to(file)

    for report in (file, tmp_path / "link.csv"):
        result = run_alone(
            tmp_path,
            file,
            "--report",
            report,
            SUPABASE_URL="http://127.0.0.1:9",
            SUPABASE_SECRET_KEY="key",
        )
        assert (result.returncode, "--report names the file to import" in result.stderr) == (
            1,
            True,
        )
        assert file.read_text() == "phone\n+38640111222\n"


def test_without_a_database_the_command_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("phone\n+38640111222\n")

    result = run_alone(tmp_path / "nothing", file)

    assert result.returncode == 1
    assert result.stderr.startswith("rapport: No stack runs on this machine")
