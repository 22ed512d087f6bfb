"""Reads media types (RFC 9110, section 8.3.1).

Postgres reads them by the same rules when a file is announced: private.mime_type_of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\uffff]|\\[\t -~\x80-\uffff])*"'
_TYPE = re.compile(rf"[ \t]*({_WORD}/{_WORD})[ \t]*")
# a parameter may be empty
_PARAMETER = re.compile(rf";[ \t]*(?:({_WORD})=({_WORD}|{_QUOTED}))?[ \t]*")


@dataclass(frozen=True)
class MimeType:
    """A media type; its name and the names of its parameters are in lower case."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def sent(self) -> str:
        """The form for WhatsApp, which accepts only one parameter: the codec of a sound file."""
        codecs = dict(self.parameters).get("codecs")
        if self.name.startswith("audio/") and codecs and re.fullmatch(_WORD, codecs):
            return f"{self.name}; codecs={codecs}"
        return self.name


def read_mime_type(text: str | None) -> MimeType | None:
    """The media type in a text; None if it is none."""
    found = _TYPE.match(text or "")
    if text is None or found is None:
        return None
    parameters: dict[str, str] = {}
    place = found.end()
    while place < len(text):
        parameter = _PARAMETER.match(text, place)
        if parameter is None:
            return None
        place = parameter.end()
        if parameter[1]:
            value = parameter[2]
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            # of two parameters with one name the first counts
            parameters.setdefault(parameter[1].lower(), value)
    return MimeType(found[1].lower(), tuple(parameters.items()))
