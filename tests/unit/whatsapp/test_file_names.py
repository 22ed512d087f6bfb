"""Names and types of files from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.whatsapp.file_names import disposition, file_name_of, shown_type


@pytest.mark.parametrize(
    ("name", "mime_type", "clean"),
    [
        ("plan.pdf", None, "plan.pdf"),
        ("Načrt hiše 🧽.pdf", None, "Načrt hiše 🧽.pdf"),
        ("../../etc/passwd", None, "passwd"),
        (r"C:\Users\ana\plan.pdf", None, "plan.pdf"),
        ("a\r\nSet-Cookie: b=1", None, "a Set-Cookie_ b=1"),
        ("invoice\u202efdp.exe", None, "invoice fdp.exe"),
        ('a"b;c.pdf', None, "a_b;c.pdf"),
        ("...", "image/jpeg", "file.jpg"),
        (None, "application/pdf", "file.pdf"),
        ("", "audio/ogg; codecs=opus", "file.ogg"),
        (None, "no/such-type", "file"),
        (None, None, "file"),
        ("x" * 300 + ".pdf", None, "x" * 146 + ".pdf"),
        ("x" * 300, None, "x" * 150),
    ],
)
def test_a_name_is_kept_without_its_tricks(
    name: str | None, mime_type: str | None, clean: str
) -> None:
    assert file_name_of(name, mime_type) == clean


@given(st.text(max_size=400))
def test_no_name_leaves_its_header(name: str) -> None:
    header = disposition(name, None)
    assert header.startswith('attachment; filename="')
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    clean = file_name_of(name, None)
    assert 0 < len(clean) <= 150
    assert not set(clean) & set('/\\"\r\n\0')


def test_a_name_in_other_letters_is_given_in_both_forms() -> None:
    assert disposition("Načrt.pdf", None) == (
        "attachment; filename=\"Na_rt.pdf\"; filename*=UTF-8''Na%C4%8Drt.pdf"
    )


@pytest.mark.parametrize(
    ("mime_type", "shown"),
    [
        ("image/jpeg", "image/jpeg"),
        ("Audio/OGG; codecs=opus", "audio/ogg"),
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("image/jpeg\r\nx: y", "application/octet-stream"),
        ("", "application/octet-stream"),
        (None, "application/octet-stream"),
    ],
)
def test_only_types_that_run_nothing_are_named(mime_type: str | None, shown: str) -> None:
    assert shown_type(mime_type) == shown
