"""The settings by which SQL functions of one transaction tell each other stand in one list."""

from __future__ import annotations

import re

from tests.migrations.baseline import schema_files

from rapport.local.stack.state import PROJECT

[LIST] = (PROJECT / "sql" / "0_foundation").glob("*_settings.sql")
# in quotes as in set_config('rapport.quiet', …), or the beginning of a name that is put together
USED = re.compile(r"'(rapport\.[a-z_]+)'")
LISTED = re.compile(r"^    (rapport\.[a-z_]+)(?:<\w+>)? +(\S.*?)  ", re.MULTILINE)
OF_YES_AND_NO = re.compile(r"set_config\(\s*'(rapport\.[a-z_]+)',\s*'([^']*)'")


def _listed() -> dict[str, str]:
    return dict(LISTED.findall(LIST.read_text()))


def test_every_setting_is_listed_and_every_listed_one_is_used() -> None:
    used = {
        name for file in schema_files() if file != LIST for name in USED.findall(file.read_text())
    }

    assert used
    assert used == set(_listed())


def test_what_is_yes_or_no_is_on_or_off() -> None:
    flags = {name for name, values in _listed().items() if values in ("on, off", "on")}
    sql = "\n".join(file.read_text() for file in schema_files())

    spelled = {(name, value) for name, value in OF_YES_AND_NO.findall(sql) if name in flags}
    assert {value for _, value in spelled} == {"on", "off"}
    for name in flags:
        compared = re.findall(
            rf"current_setting\('{re.escape(name)}'(?:, true)?\)"
            r"\s*(?:=|<>|is distinct from)\s*'(\w*)'",
            sql,
        )
        assert set(compared) <= {"on"}, name
