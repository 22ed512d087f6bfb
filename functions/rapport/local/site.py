"""The pages as files that any host serves as they are.

esbuild joins each page's modules with the libraries that they import, makes them small, and names
every file by its content, so that browsers may keep it for ever. The portal's 67 modules would be
167 KB one by one, without the texts; joined they are 98 KB in 7 files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path

from pydantic import BaseModel, Field

from rapport.local.errors import StackError
from rapport.local.stack import npm

WEB = Path(__file__).parents[1] / "web"
PAGES = WEB / "pages"
# the first page is above the others
START = ""
# what hosts show for an address that has no page
MISSING = "missing"
MISSING_FILE = "404.html"
# the phone, the mails and the description of the HTTP API are this machine's
HOSTED = (START, "dashboard", "portal", MISSING)
LOCAL = (*HOSTED, "phone", "mail", "api")
# those that tell their users of news on the device
TOLD = ("dashboard", "portal")
ASSETS = "assets"
CONFIG = "config.json"
# browsers look for it beside the page that it works for
WORKER = "worker.js"
# what stands for parts of the official client's sign-in that no page uses
_UNUSED = {"lib/webauthn.js": "no_passkeys.js", "lib/web3/ethereum.js": "no_wallets.js"}
# smaller ones gain nothing
COMPRESSED_FROM = 300  # bytes

_LINKED = re.compile(r'(?<= )(href|src)="([^":#]+\.(?:css|js|svg))"')


class Origins(BaseModel):
    """What a page may reach beside its own files; each is an origin, such as https://a.example."""

    # rows, sign-in and live changes
    connect: tuple[str, ...] = ()
    # files of messages
    media: tuple[str, ...] = ()


def policy(origins: Origins, *, in_page: bool = False) -> str:
    """The Content-Security-Policy of every page: its own files, the project, nothing inline, and no
    HTML that is made of texts except by the library that renders.

    `in_page`: without the parts that a browser takes from a header alone.
    """
    sockets = tuple(re.sub("^http", "ws", origin) for origin in origins.connect)
    parts = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        _sources("img-src", "'self'", "blob:", *origins.media),
        _sources("media-src", "'self'", "blob:", *origins.media),
        _sources("connect-src", "'self'", *origins.connect, *sockets, *origins.media),
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html rapport",
    )
    return "; ".join(parts if in_page else (*parts, "frame-ancestors 'none'"))


def make(
    folder: Path,
    pages: Sequence[str],
    *,
    modules: Path,
    esbuild: Path,
    policy: str = "",
    missing_up: str = "",
) -> None:
    """Writes pages into an empty folder; a policy becomes a part of each.

    `modules` has the libraries. `missing_up` leads from the page for wrong addresses to the
    others: from any depth by "/", where the pages are at a host's root. Raises StackError where
    esbuild refuses.
    """
    for page in pages:
        source = PAGES / page / "index.html"
        linked = [
            (source.parent / link).resolve() for _, link in _LINKED.findall(source.read_text())
        ]
        # each for itself: what pages share would be cut into many pieces, which are larger together
        made = _join(linked, folder, modules=modules, esbuild=esbuild)
        target = folder / (MISSING_FILE if page == MISSING else f"{page}/index.html".lstrip("/"))
        target.parent.mkdir(exist_ok=True)
        up = missing_up if page == MISSING else "../" if page else ""
        target.write_text(_rewritten(source, made, up, policy))
        if page in TOLD:
            # beside its page, since it works for what is beneath it; it keeps its name
            shutil.copyfile(PAGES / "common" / WORKER, target.parent / WORKER)
    for file in [*folder.rglob("*.js"), *folder.rglob("*.css"), *folder.rglob("*.html")]:
        if (size := file.stat().st_size) >= COMPRESSED_FROM:
            # for hosts that serve what is compressed already; the same bytes from the same file
            packed = gzip.compress(file.read_bytes(), mtime=0)
            if len(packed) < size:
                file.with_name(f"{file.name}.gz").write_bytes(packed)


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` at the end, at once; an error leaves the old.

    Raises StackError where `target` is a file, or has files that no site of ours has.
    """
    target = target.absolute()
    if target.exists() and not _is_ours(target):
        raise StackError(
            f"{target} has other files. Name a folder that is not there, that is empty, or that"
            " `rapport web build` has written: all that is in it is replaced."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    made.chmod(0o755)
    old = made.with_name(f"{made.name}-old")
    try:
        yield made
        with suppress(FileNotFoundError):
            target.rename(old)
        made.rename(target)
    finally:
        for left in (made, old):
            shutil.rmtree(left, ignore_errors=True)


class _Import(BaseModel):
    path: str
    kind: str


class _Output(BaseModel):
    entry: str | None = Field(None, alias="entryPoint")
    imports: tuple[_Import, ...] = ()


class _Metafile(BaseModel):
    outputs: dict[str, _Output]


class _Made(BaseModel):
    """A file that a page links, and those that it needs at once."""

    name: str
    needs: tuple[str, ...]


def _join(
    files: Iterable[Path], folder: Path, *, modules: Path, esbuild: Path
) -> dict[Path, _Made]:
    """Joins the modules of each file; returns what became of it."""
    metafile = folder / "meta.json"
    joining = subprocess.run(
        [
            esbuild,
            *(file.relative_to(WEB) for file in files),
            "--bundle",
            "--splitting",
            "--format=esm",
            "--minify",
            "--target=es2022",
            "--charset=utf8",
            "--legal-comments=external",
            "--loader:.svg=copy",
            "--alias:@supabase/storage-js=./pages/common/no_storage.js",
            "--alias:@supabase/functions-js=./pages/common/no_functions.js",
            f"--alias:@supabase/auth-js={_sign_in(modules) / 'index.js'}",
            f"--entry-names={ASSETS}/[name]-[hash]",
            f"--chunk-names={ASSETS}/[name]-[hash]",
            f"--asset-names={ASSETS}/[name]-[hash]",
            f"--outdir={folder}",
            f"--metafile={metafile}",
            "--log-level=warning",
            "--log-limit=3",
        ],
        cwd=WEB,
        env={**os.environ, "NODE_PATH": str(modules)},
        check=False,
        capture_output=True,
        text=True,
    )
    if joining.returncode != 0:
        raise StackError(f"The pages can't be made. esbuild says:\n{joining.stderr.strip()}")
    outputs = _Metafile.model_validate_json(metafile.read_bytes()).outputs
    metafile.unlink()
    by_name = {Path(path).name: output for path, output in outputs.items()}
    return {
        WEB / output.entry: _Made(name=name, needs=tuple(_needed(name, by_name)))
        for name, output in by_name.items()
        if output.entry
    }


def _sign_in(modules: Path) -> Path:
    """The official client's sign-in without passkeys and wallets: a copy beside it, made once.

    Its place is always the same, since places are a part of what names the files that are made.
    """
    official = modules / "@supabase" / "auth-js"
    common = PAGES / "common"
    sources = (official / "package.json", *(common / instead for instead in _UNUSED.values()))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    target = modules / ".cache" / f"auth-js-{digest[:12]}"
    if target.exists():
        return target
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = shutil.copytree(official / "dist" / "module", Path(folder) / "made")
        for part, instead in _UNUSED.items():
            if not (made / part).exists():
                raise StackError(f"{official} has no {part} any more: see _UNUSED in {__name__}.")
            shutil.copyfile(common / instead, made / part)
        # unless another process was quicker
        with suppress(OSError):
            made.rename(target)
    return target


def _needed(name: str, outputs: dict[str, _Output]) -> list[str]:
    """The files that a module imports, and those that these import."""
    found: list[str] = []
    waiting = [name]
    while waiting:
        for one in outputs[waiting.pop()].imports:
            needed = Path(one.path).name
            if one.kind == "import-statement" and needed not in found:
                found.append(needed)
                waiting.append(needed)
    return found


def _rewritten(source: Path, made: dict[Path, _Made], up: str, policy: str) -> str:
    """A page that links the files that were made, and asks for all that they need at once."""
    needs: list[str] = []

    def link(found: re.Match[str]) -> str:
        one = made[(source.parent / found[2]).resolve()]
        needs.extend(one.needs)
        return f'{found[1]}="{up}{ASSETS}/{one.name}"'

    page = _LINKED.sub(link, source.read_text())
    early = [f'<link rel="modulepreload" href="{up}{ASSETS}/{name}" />' for name in needs]
    page = page.replace("  </head>", "".join(f"    {one}\n" for one in early) + "  </head>")
    if policy:
        # before anything that it is about
        meta = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}" />'
        page = page.replace('<meta charset="utf-8" />', f'<meta charset="utf-8" />\n    {meta}')
    return page


def _sources(directive: str, *sources: str) -> str:
    return " ".join(dict.fromkeys((directive, *sources)))


def _is_ours(folder: Path) -> bool:
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else {"a file"}
    # "its" alone: a project may have these three as well, beside what it would lose
    files = {f"{name}{end}" for name in ("index.html", MISSING_FILE) for end in ("", ".gz")}
    its = {*files, ASSETS, CONFIG, *HOSTED} - {START, MISSING}
    return not names or {"index.html", ASSETS, CONFIG} <= names <= its


def newest_source() -> int:
    """When a source of the pages was last changed, in ns."""
    folders = (PAGES, WEB / "elements", WEB / "live")
    return max(
        entry.stat().st_mtime_ns
        for folder in folders
        for parent, _, _ in os.walk(folder)
        for entry in os.scandir(parent)
    )


def installed() -> tuple[Path, Path]:
    """The libraries and esbuild, which `rapport up` has installed or which are installed now."""
    from rapport.local.stack.state import npm_folder

    folder = npm_folder()
    return folder / "node_modules", npm.install(folder).esbuild
