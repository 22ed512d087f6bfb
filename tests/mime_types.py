"""Media types as others write them, and their one spelling; for the readers in Python and SQL."""

from __future__ import annotations

CASES: tuple[tuple[str, str | None], ...] = (
    ("image/jpeg", "image/jpeg"),
    ("APPLICATION/PDF", "application/pdf"),
    ("Audio/OGG", "audio/ogg"),
    ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
    ("audio/ogg;codecs=opus", "audio/ogg; codecs=opus"),
    ("audio/ogg ;\tCODECS=opus ", "audio/ogg; codecs=opus"),
    ('audio/ogg; codecs="opus"', "audio/ogg; codecs=opus"),
    ('video/mp4; codecs="avc1.42E01E, mp4a.40.2"', 'video/mp4; codecs="avc1.42E01E, mp4a.40.2"'),
    ('text/plain; x="a;b"; charset=UTF-8', 'text/plain; x="a;b"; charset=UTF-8'),
    ("text/plain;charset=utf-8;;", "text/plain; charset=utf-8"),
    ("text/plain;", "text/plain"),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("image/svg+xml", "image/svg+xml"),
    ("", None),
    ("audio", None),
    ("audio/", None),
    ("/ogg", None),
    ("audio/ogg, text/html", None),
    ("audio/ogg codecs=opus", None),
    ("audio/ogg; codecs", None),
    ("audio/ogg; codecs = opus", None),
    ('audio/ogg; codecs="opus', None),
    ("audio /ogg", None),
    ("audio/ogg\n", None),
    ("audio/ogg; codecs=opus\r\nx: y", None),
    ('audio/ogg; x="\n"', None),
    ("*/ *", None),
    ("zvok/čuden", None),
)
