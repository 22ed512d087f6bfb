"""The command line. A command imports its module when it runs, so that each starts fast."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
contacts = typer.Typer(no_args_is_help=True, help="Contacts from and to files.")
app.add_typer(contacts, name="contacts")
privacy = typer.Typer(no_args_is_help=True, help="All that is known of one person.")
app.add_typer(privacy, name="privacy")
web = typer.Typer(no_args_is_help=True, help="Dashboard and portal as files for any host.")
app.add_typer(web, name="web")
accounts = typer.Typer(no_args_is_help=True, help="Accounts: one for each business.")
app.add_typer(accounts, name="account")
members = typer.Typer(no_args_is_help=True, help="The people who work for an account.")
app.add_typer(members, name="member")
numbers = typer.Typer(no_args_is_help=True, help="The WhatsApp numbers of an account.")
app.add_typer(numbers, name="number")
connections = typer.Typer(
    no_args_is_help=True, help="Make the deployment and others know each other."
)
app.add_typer(connections, name="connect")

Account = Annotated[str, typer.Option(help="The account's external id or id.", show_default=False)]
Contact = Annotated[UUID, typer.Argument(help="The contact's id.", show_default=False)]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from rapport.release import VERSION

        typer.echo(f"rapport {VERSION}")
        raise typer.Exit


@app.callback()
def rapport(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Say which release this is; `rapport check` says that of a project's schema.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """One truth about a customer in Postgres on Supabase, shown live."""
    if os.name == "nt":
        typer.echo("rapport: Postgres' binaries are not for Windows. Use WSL 2.", err=True)
        raise typer.Exit(1)


@app.command()
def up(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when everything is ready.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the stack's data and secrets first.")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            help="0.0.0.0 lets everybody in your network open the pages, such as your telephone."
        ),
    ] = "127.0.0.1",
) -> None:
    """Start the whole system on this machine, until Ctrl-C."""
    from rapport.local.stack import fork_server

    # it imports at the same time as we do
    fork_server.prepare()
    from rapport.commands.up import up

    up(as_json=as_json, fresh=fresh, host=host)


@app.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            help="Where to listen, by default SERVE_HOST or 127.0.0.1; 0.0.0.0 is everywhere.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="By default PORT or 8080.", show_default=False)
    ] = None,
) -> None:
    """Serve the functions and their schedules for a Supabase project that the environment names."""
    from rapport.server.serve import run

    if host is not None:
        os.environ["SERVE_HOST"] = host
    if port is not None:
        os.environ["PORT"] = str(port)
    raise typer.Exit(run())


@app.command()
def demo() -> None:
    """Send one WhatsApp message through the system and watch it arrive."""
    from rapport.commands.demo import demo

    demo()


@app.command()
def notes() -> None:
    """Show what each release brings, and how to upgrade to it."""
    typer.echo((Path(__file__).parents[1] / "releases.md").read_text().strip())


@app.command()
def bench(
    rows: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROW]...", help="Names, or their beginnings: ingest, live.idle."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rows and rounds: about a minute.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows for a program.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows as a page with charts.")
    ] = None,
) -> None:
    """Measure speed and memory on stacks of its own, beside other ways and limits."""
    from rich.console import Console

    from rapport.commands.bench.command import bench

    bench(rows or (), is_quick=quick, as_json=json, as_html=html, console=Console())


@app.command()
def package(
    stage: Annotated[str, typer.Option(help="The deployment's name, part of all names.")] = "prod",
    architecture: Annotated[
        str, typer.Option(help="Lambda's processors: arm64, which costs less, or x86-64.")
    ] = "arm64",
    runtime: Annotated[
        str | None, typer.Option(help="Lambda's Python; by default that of serverless.yml.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("build"),
) -> None:
    """Build the zip of the functions, and the template that deploys it on AWS."""
    from rich.console import Console

    from rapport.commands.package.command import package

    package(
        stage=stage, architecture=architecture, runtime=runtime, folder=folder, console=Console()
    )


@app.command()
def replay(
    since: Annotated[
        datetime,
        typer.Option(help="Replay webhooks that arrived from this time on.", formats=TIMES),
    ],
    until: Annotated[
        datetime | None, typer.Option(help="… and before this time.", formats=TIMES)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    stage: Stage = None,
) -> None:
    """Parse stored WhatsApp webhooks again with the present parser. Times are UTC."""
    from rapport.commands.project import use_stage
    from rapport.commands.replay import replay

    use_stage(stage)
    if not replay(since=since, until=until, dry_run=dry_run):
        raise typer.Exit(1)


@app.command()
def redrive(
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that failed, of all accounts.")
    ] = False,
    account: Annotated[
        str | None, typer.Option(help="Only that of an account: its external id or id.")
    ] = None,
    one: Annotated[
        str | None,
        typer.Option("--id", help="Only one: a message's id, or the number of a stored webhook."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what failed since this time.", formats=TIMES)
    ] = None,
    uncertain: Annotated[
        bool,
        typer.Option("--uncertain", help="Send again what WhatsApp may have received already."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be put back, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stage: Stage = None,
) -> None:
    """Put back what failed: webhooks, dead letters, messages, notifications, files.

    Times are UTC.
    """
    from rapport.commands.project import use_stage
    from rapport.commands.redrive import redrive, which

    use_stage(stage)
    if not (everything or account or one or since):
        raise typer.BadParameter("Say which: --all, --account, --id or --since.")
    redrive(which(account, one, since, uncertain=uncertain), dry_run=dry_run, yes=yes)


@app.command()
def pause(
    named: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER|ACCOUNT", help="A number (or its phone_number_id), or an account."
        ),
    ],
    stage: Stage = None,
) -> None:
    """Have nothing sent from a number or an account. What comes in is stored and shown."""
    from rich.console import Console

    from rapport.commands.pause import pause
    from rapport.commands.project import use_stage

    use_stage(stage)
    pause(named, Console())


@app.command()
def resume(
    named: Annotated[str, typer.Argument(metavar="NUMBER|ACCOUNT", help="As of pause.")],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Withdraw what waits, and do not send it.")
    ] = False,
    stage: Stage = None,
) -> None:
    """End a pause: what waits is sent, or withdrawn."""
    from rich.console import Console

    from rapport.commands.pause import resume
    from rapport.commands.project import use_stage

    use_stage(stage)
    resume(named, withdraw=withdraw, console=Console())


@app.command("after-restore")
def after_restore(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stage: Stage = None,
) -> None:
    """Hold what a restored database would send a second time, and take its doorbell off."""
    from rich.console import Console

    from rapport.commands.after_restore import after_restore
    from rapport.commands.project import use_stage

    use_stage(stage)
    after_restore(dry_run=dry_run, yes=yes, console=Console())


@app.command()
def sync(
    account: Account,
    direction: Annotated[
        str, typer.Option(help="both, to (Metakocka) or from (Metakocka).")
    ] = "both",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    stage: Stage = None,
) -> None:
    """Synchronize an account's contacts with its partners at Metakocka."""
    from rapport.commands.project import use_stage
    from rapport.commands.sync import sync

    use_stage(stage)
    status = sync(account, direction, dry_run=dry_run)
    if status:
        raise typer.Exit(status)


@app.command()
def why(
    reference: Annotated[
        str,
        typer.Argument(
            help="An id of ours, a wamid, a telephone number, a phone number id, an email, a"
            " partner's id, or the older key of a conversation."
        ),
    ],
    account: Annotated[
        str | None,
        typer.Option(help="The account's external id or id; by default all.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="message, number, conversation, contact or partner, where an id may be several.",
            show_default=False,
        ),
    ] = None,
    login: Annotated[
        str | None,
        typer.Option(
            help="The email or user id of a login: whether it may see it.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    stage: Stage = None,
) -> None:
    """Say why something does not show: each step from the webhook to the people who see it."""
    from rich.console import Console

    from rapport.commands.project import use_stage
    from rapport.commands.why import why

    use_stage(stage)
    status = why(
        reference, account=account, kind=kind, login=login, as_json=as_json, console=Console()
    )
    if status:
        raise typer.Exit(status)


@app.command()
def doctor() -> None:
    """Check whether this machine can run the system."""
    from rich.console import Console

    from rapport.commands.doctor import examine, show

    findings = examine()
    show(findings, Console())
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)


@app.command()
def keys(
    add: Annotated[
        str | None, typer.Option(help="Make another secret key, under this name.")
    ] = None,
    drop: Annotated[str | None, typer.Option(help="Drop the secret key of this name.")] = None,
) -> None:
    """Show the API keys of the stack on this machine; add and drop secret keys."""
    from rich.console import Console

    from rapport.commands.keys import keys

    keys(add=add, drop=drop, console=Console())


Named = Annotated[str, typer.Argument(help="The account's external id or id.", show_default=False)]
Stage = Annotated[
    str | None,
    typer.Option(
        help="Read what the environment does not set from the SSM parameters of this stage.",
        show_default=False,
    ),
]
AsLink = Annotated[
    bool,
    typer.Option(
        "--link", help="Show the link, instead of sending a mail; a new one for who never came."
    ),
]
Page = Annotated[
    str | None,
    typer.Option(
        help="The page to which a login's link leads; by default the dashboard (DASHBOARD_URL).",
        show_default=False,
    ),
]
FunctionsUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Where the functions are; by default where the doorbell rings.",
        show_default=False,
    ),
]


@accounts.command("create")
def create_account(
    name: Annotated[str, typer.Argument(help="The name that customers see.")],
    owner: Annotated[
        list[str] | None, typer.Option(help="An owner's email address; may be repeated.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Two letters, such as SI: gives time zone and language.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Such as Europe/Ljubljana; by default the country's.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="en or sl: that of what the system writes.")
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(help="Its id in older systems; by default a new one.")
    ] = None,
    link: AsLink = False,
    page: Page = None,
    stage: Stage = None,
) -> None:
    """Make an account, with its owners. Run again, it says that it is there."""
    from rapport.commands.accounts import Invitation, create_account
    from rapport.commands.project import use_stage

    use_stage(stage)
    for line in create_account(
        name,
        owner or [],
        external_id=external_id,
        country=country,
        time_zone=time_zone,
        language=language,
        invitation=Invitation(as_link=link, page=page),
    ):
        typer.echo(line)


@accounts.command("list")
def list_accounts(stage: Stage = None) -> None:
    """Show all accounts: external id, name, id, members and numbers."""
    from rapport.commands.accounts import list_accounts
    from rapport.commands.project import use_stage

    use_stage(stage)
    for line in list_accounts():
        typer.echo(line)


@members.command("add")
def add_member(
    account: Named,
    email: Annotated[str, typer.Argument(help="Who signs in.", show_default=False)],
    role: Annotated[str, typer.Option(help="owner, admin, agent or viewer.")] = "agent",
    name: Annotated[
        str | None, typer.Option(help="The name that colleagues and customers see.")
    ] = None,
    link: AsLink = False,
    page: Page = None,
    stage: Stage = None,
) -> None:
    """Let somebody work for an account; invites who has no login. Run again to change the role."""
    from rapport.commands.accounts import Invitation, add_member
    from rapport.commands.project import use_stage

    use_stage(stage)
    for line in add_member(account, email, role, name, Invitation(as_link=link, page=page)):
        typer.echo(line)


@numbers.command("add")
def add_number(
    account: Named,
    number: Annotated[str, typer.Argument(help="With the country code: '+386 40 111 222'.")],
    phone_number_id: Annotated[
        str, typer.Option(help="Meta's id of it: WhatsApp, API setup.", show_default=False)
    ],
    waba_id: Annotated[
        str | None,
        typer.Option(
            help="The id of its WhatsApp Business account; by default Meta is asked.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for staff.")] = None,
    without_meta: Annotated[
        bool, typer.Option("--without-meta", help="Do not ask Meta whether the id is the number's.")
    ] = False,
    stage: Stage = None,
) -> None:
    """Make a WhatsApp number one of an account: its messages come there."""
    from rapport.commands.accounts import add_number
    from rapport.commands.project import use_stage

    use_stage(stage)
    for line in add_number(
        account,
        number,
        phone_number_id=phone_number_id,
        waba_id=waba_id,
        name=name,
        asks_meta=not without_meta,
    ):
        typer.echo(line)


@connections.command("functions")
def connect_functions(
    url: Annotated[
        str,
        typer.Option(help="Where the functions are, as the deployment says.", show_default=False),
    ],
    stage: Stage = None,
) -> None:
    """Tell the database where to wake workers, after the functions have taken the secret."""
    from rapport.commands.connect import connect_functions
    from rapport.commands.project import use_stage

    use_stage(stage)
    connect_functions(url, typer.echo)


@connections.command("whatsapp")
def connect_whatsapp(
    phone_number_id: Annotated[
        list[str] | None,
        typer.Argument(help="Meta's ids of numbers; by default all that were added."),
    ] = None,
    url: FunctionsUrl = None,
    pin: Annotated[
        str | None,
        typer.Option(help="Six digits: register the number with the Cloud API first."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Then send a template to this number: '+386 40 111 222'.")
    ] = None,
    template: Annotated[str, typer.Option(help="The template of --test.")] = "hello_world",
    language: Annotated[str, typer.Option(help="The language of the template.")] = "en_US",
    stage: Stage = None,
) -> None:
    """Check the tokens, and let Meta send webhooks here."""
    from rapport.commands.connect import WhatsAppOrder, connect_whatsapp
    from rapport.commands.project import use_stage

    use_stage(stage)
    order = WhatsAppOrder(tuple(phone_number_id or ()), url, pin, test, template, language)
    connect_whatsapp(order, typer.echo)


@connections.command("metakocka")
def connect_metakocka(
    account: Named,
    company_id: Annotated[
        str, typer.Option(help="The company's id, beside the key.", show_default=False)
    ],
    stage: Stage = None,
) -> None:
    """Try the company's key, and connect the account to the company."""
    from rapport.commands.connect import connect_metakocka
    from rapport.commands.project import use_stage

    use_stage(stage)
    connect_metakocka(account, company_id, typer.echo)


@app.command()
def check(
    url: FunctionsUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    stage: Stage = None,
) -> None:
    """Walk the whole deployment: what is wrong, and what to do. The status is 1 if something is."""
    from rich.console import Console

    from rapport.commands.check.command import check
    from rapport.commands.project import use_stage

    use_stage(stage)
    if not check(url, as_json=as_json, console=Console()):
        raise typer.Exit(1)


@web.command("build")
def build_web(
    folder: Annotated[
        Path, typer.Argument(help="Where to; what an earlier build left is replaced.")
    ],
    url: Annotated[
        str | None,
        typer.Option(help="The project's URL; by default SUPABASE_URL.", show_default=False),
    ] = None,
    publishable_key: Annotated[
        str | None,
        typer.Option(
            help="Its publishable key; by default SUPABASE_PUBLISHABLE_KEY.", show_default=False
        ),
    ] = None,
    functions_url: Annotated[
        str | None,
        typer.Option(help="The functions' URL, for files of messages.", show_default=False),
    ] = None,
    files_url: Annotated[
        str | None,
        typer.Option(help="Where files of messages are: the bucket's origin.", show_default=False),
    ] = None,
) -> None:
    """Write the dashboard and the portal of a project as files that any host serves as they are."""
    from rapport.commands.web import build

    build(folder, url, publishable_key, functions_url, files_url)


@contacts.command("import")
def import_contacts(
    file: Annotated[
        Path, typer.Argument(help="A table, .csv or .xlsx; its first row names the columns.")
    ],
    account: Account,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show which rows would change and how; write nothing."),
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(help="The country of phone numbers without a country code, such as SI."),
    ] = None,
    delimiter: Annotated[
        str, typer.Option(help="comma, semicolon or tab; auto looks at the first row.")
    ] = "auto",
    encoding: Annotated[
        str, typer.Option(help="utf-8, utf-16, cp1250 or cp1252; auto looks at the file.")
    ] = "auto",
    sheet: Annotated[
        str | None, typer.Option(help="The sheet of a workbook; by default the first.")
    ] = None,
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="THEIRS=OURS: the field of a column, or nothing to leave it out; may be repeated.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report of all rows to a CSV file.")
    ] = None,
    stage: Stage = None,
) -> None:
    """Create and change contacts from a table. Importing the same file again changes nothing.

    Columns, in any order: id, name, phone, email, username, tags (separated by semicolons), notes,
    conversation_status (open, pending or closed). An empty cell erases nothing. Exports of Google
    Contacts, Outlook, HubSpot, Chatwoot and WATI are recognized. For other files --map names the
    fields; these may also be first_name, middle_name, last_name, company or country_code.
    """
    from rapport.commands.contacts import import_file
    from rapport.commands.project import use_stage

    use_stage(stage)
    status = import_file(
        file,
        account,
        dry_run=dry_run,
        region=region,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        mapped=mapped or [],
        report=report,
    )
    if status:
        raise typer.Exit(status)


@contacts.command("export")
def export_contacts(
    account: Account,
    file: Annotated[
        Path | None,
        typer.Argument(help="The file to write; by default stdout.", show_default=False),
    ] = None,
    stage: Stage = None,
) -> None:
    """Write an account's contacts to a CSV file, which `import` takes back unchanged."""
    from rapport.commands.contacts import export_file
    from rapport.commands.project import use_stage

    use_stage(stage)
    export_file(file, account)


@privacy.command("export")
def export_person(
    contact: Contact,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; by default contact-<id>.zip here.", show_default=False
        ),
    ] = None,
    stage: Stage = None,
) -> None:
    """Write all that is known of a contact to a zip: JSON, files, and a list of both."""
    from rapport.commands.privacy import export_contact
    from rapport.commands.project import use_stage

    use_stage(stage)
    export_contact(contact, out)


@privacy.command("erase")
def erase_person(
    contact: Contact,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without a question.")] = False,
    stage: Stage = None,
) -> None:
    """Erase all that is known of a contact; then search the whole database for it.

    Invoices that were sent stay, with their figures alone. If the command is cut off, the schedule
    goes on with the erasure, and so does the same command.
    """
    from rapport.commands.privacy import erase_contact
    from rapport.commands.project import use_stage

    use_stage(stage)
    if not erase_contact(contact, yes=yes):
        raise typer.Exit(1)


@privacy.command("hold")
def hold_person(
    contact: Contact,
    reason: Annotated[str, typer.Option(help="Which claim or authority asks for it.")],
    stage: Stage = None,
) -> None:
    """Place a contact under a legal hold: until its release it is neither deleted nor erased."""
    from rapport.commands.privacy import hold_contact
    from rapport.commands.project import use_stage

    use_stage(stage)
    hold_contact(contact, reason)


@privacy.command("release")
def release_person(contact: Contact, stage: Stage = None) -> None:
    """End the legal hold of a contact."""
    from rapport.commands.privacy import release_contact
    from rapport.commands.project import use_stage

    use_stage(stage)
    release_contact(contact)


@privacy.command("log")
def show_privacy_log(
    account: Account,
    since: Annotated[
        datetime | None, typer.Option(help="From this time on; UTC.", formats=TIMES)
    ] = None,
    stage: Stage = None,
) -> None:
    """Show who exported, erased and held which contacts."""
    from rapport.commands.privacy import show_log
    from rapport.commands.project import use_stage

    use_stage(stage)
    show_log(account, since)


def main() -> None:
    """Runs a command. An expected error becomes one sentence on stderr and status 1."""
    from rapport.errors import RapportError
    from rapport.local.errors import StackError
    from rapport.local.proxy import without_proxy

    # a project on this machine is reached without a proxy, however it is named
    os.environ.update(without_proxy("127.0.0.1", "localhost"))

    try:
        app()
    except (RapportError, StackError, OSError) as error:
        told = f"rapport: {error}"
        if isinstance(error, OSError) and error.filename is not None:
            told = f"rapport: {error.filename}: {error.strerror}."
        elif isinstance(error, RapportError):
            # which field is wrong, and what to do about it
            told += f" ({error.field})" if error.field else ""
            told += f" {error.hint}" if error.hint else ""
        typer.echo(told, err=True)
        raise SystemExit(1) from None
