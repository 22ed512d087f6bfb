"""The command `rapport web`: the pages of a project, for any host."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import typer

from rapport.api_keys import KeyKind, kind_of
from rapport.errors import ConfigError
from rapport.local import site
from rapport.local.stack import state

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
# with its port; a policy would take a semicolon for the end of a part
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")


class _Project(NamedTuple):
    url: str
    publishable_key: str
    functions_url: str | None
    files_url: str | None


def build(
    folder: Path,
    url: str | None,
    publishable_key: str | None,
    functions_url: str | None,
    files_url: str | None,
) -> None:
    """Writes the dashboard and the portal, and says what the host has to be told.

    Raises:
        ConfigError: The project is not named, a URL is none, or the key is not for pages.
        StackError: The folder has other files, or the pages can't be made.
    """
    project = _project(url, publishable_key, functions_url, files_url)
    origins = site.Origins(
        connect=tuple(
            _origin(name, one)
            for name, one in (("url", project.url), ("functions-url", project.functions_url))
            if one
        ),
        media=(_origin("files-url", project.files_url),) if project.files_url else (),
    )
    modules, esbuild = site.installed()
    with site.replaced(folder) as made:
        site.make(
            made,
            site.HOSTED,
            modules=modules,
            esbuild=esbuild,
            policy=site.policy(origins, in_page=True),
        )
        config = {"url": project.url, "publishable_key": project.publishable_key} | (
            {"functions_url": project.functions_url} if project.functions_url else {}
        )
        (made / site.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    typer.echo(
        f"{folder} has the dashboard and the portal of {project.url}. Each page carries its policy;"
        f" if your host can send headers, let it send this one, which also keeps the pages out of"
        f" frames of other sites:\nContent-Security-Policy: {site.policy(origins)}"
    )


def _project(
    url: str | None,
    publishable_key: str | None,
    functions_url: str | None,
    files_url: str | None,
) -> _Project:
    """What the options name, else the environment, else the stack on this machine."""
    url = url or os.environ.get("SUPABASE_URL")
    key = publishable_key or os.environ.get("SUPABASE_PUBLISHABLE_KEY")
    if url is None and key is None and (stack := state.running_stack(state.folder())):
        return _Project(
            stack.url,
            stack.publishable_key,
            functions_url or stack.functions_url,
            files_url or stack.aws_url,
        )
    if not url:
        raise ConfigError(
            "No project is named. Give --url and --publishable-key, set SUPABASE_URL and"
            " SUPABASE_PUBLISHABLE_KEY, or start a stack with `rapport up`."
        )
    if not key:
        raise ConfigError(
            "The publishable key is missing. Give --publishable-key, or set"
            " SUPABASE_PUBLISHABLE_KEY. The project's settings show it."
        )
    kind = kind_of(key)
    if kind.is_secret:
        raise ConfigError(
            "This is a secret key, and everybody can read what a page carries. Give the project's"
            " publishable key (sb_publishable_…)."
        )
    if kind is KeyKind.UNKNOWN:
        raise ConfigError(
            "This is no key of a project. A publishable key begins with sb_publishable_."
        )
    return _Project(url.rstrip("/"), key, functions_url, files_url)


def _origin(name: str, url: str) -> str:
    """The origin of a URL, as a policy names it."""
    no_url = ConfigError(f"--{name}: {url!r} is no URL that begins with https://.")
    try:
        parts = urlsplit(url)
        is_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise no_url from None
    is_local = parts.hostname in LOCAL_HOSTS
    if not is_host or parts.scheme not in ("https", "http" if is_local else "https"):
        raise no_url
    # what a page carries everybody reads
    if not _HOST.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ConfigError(
            f"--{name}: A URL of pages has a host and a path, no user, password, query or fragment."
        )
    return f"{parts.scheme}://{parts.netloc}"
