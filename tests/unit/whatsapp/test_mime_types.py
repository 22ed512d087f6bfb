"""Media types, read as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mime_types import CASES

from rapport.whatsapp.mime_types import read_mime_type


@pytest.mark.parametrize(("text", "spelling"), CASES)
def test_a_type_is_read_whatever_its_spelling(text: str, spelling: str | None) -> None:
    read = read_mime_type(text)
    assert (read and read.name) == (spelling and spelling.partition(";")[0])
    # and its one spelling is read as the same
    assert spelling is None or read_mime_type(spelling) == read


def test_no_text_is_no_type() -> None:
    assert read_mime_type(None) is None


@given(st.text(max_size=60))
def test_any_text_is_a_type_or_none(text: str) -> None:
    read = read_mime_type(text)
    assert read is None or read.sent.isascii()


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
        ('Audio/Ogg; x=1; Codecs="opus"', "audio/ogg; codecs=opus"),
        ("text/plain; charset=utf-8", "text/plain"),
        ('video/mp4; codecs="avc1, mp4a"', "video/mp4"),
        ('audio/mp4; codecs="mp4a.40.2, x"', "audio/mp4"),
        ("image/jpeg; name=a.jpg", "image/jpeg"),
    ],
)
def test_whatsapp_is_told_the_codec_of_sound_and_nothing_else(text: str, sent: str) -> None:
    read = read_mime_type(text)
    assert read is not None
    assert read.sent == sent
