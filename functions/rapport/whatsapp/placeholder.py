"""The text that a person reads for a message that is not plain text."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

_Path = tuple[str | int, ...]

# For each type its name, and where the sender's words may be found in the message. Source:
# developers.facebook.com, webhooks reference, "messages".
_TYPES: dict[str, tuple[str, tuple[_Path, ...]]] = {
    "audio": ("audio", ()),
    "button": ("button", (("button", "text"),)),
    "contacts": ("contact", (("contacts", 0, "name", "formatted_name"),)),
    "document": ("document", (("document", "caption"), ("document", "filename"))),
    "edit": ("edited message", ()),
    "image": ("image", (("image", "caption"),)),
    "interactive": (
        "reply",
        (
            ("interactive", "button_reply", "title"),
            ("interactive", "list_reply", "title"),
            ("interactive", "nfm_reply", "body"),
        ),
    ),
    "media_placeholder": ("file", ()),
    "location": ("location", (("location", "name"), ("location", "address"))),
    "order": ("order", (("order", "text"),)),
    "reaction": ("reaction", (("reaction", "emoji"),)),
    "request_welcome": ("conversation started", ()),
    "revoke": ("deleted message", ()),
    "sticker": ("sticker", ()),
    "video": ("video", (("video", "caption"),)),
}


# the text where the sender's words are missing, if it differs from the type's name
_WORDLESS = {"reaction": "reaction removed"}


def placeholder(type_: str, message: Mapping[str, JsonValue]) -> str:
    """A line such as `[image] In the hall`; an unknown type is `[unsupported message]`."""
    label, paths = _TYPES.get(type_, ("unsupported message", ()))
    if type_ == "audio" and _at(message, ("audio", "voice")) is True:
        label = "voice message"
    words = next((found for path in paths if (found := _text_at(message, path))), None)
    return f"[{label}] {words}" if words else f"[{_WORDLESS.get(type_, label)}]"


def notice(
    body: str | None, wa_id: str | None, new_wa_id: str | None, new_user_id: str | None
) -> str:
    """The sentence of a notice by WhatsApp: its `body`, or else the change that it reports."""
    # WhatsApp puts direction marks around numbers
    words = "".join(character for character in body or "" if character.isprintable()).strip()
    if words:
        return words
    if new_wa_id and wa_id:
        return f"The number changed from {wa_id} to {new_wa_id}."
    if new_wa_id:
        return f"The number changed to {new_wa_id}."
    if new_user_id:
        return "WhatsApp now knows this customer by another user id."
    return "[system message]"


def _text_at(message: Mapping[str, JsonValue], path: _Path) -> str | None:
    found = _at(message, path)
    return found if isinstance(found, str) else None


def _at(message: Mapping[str, JsonValue], path: _Path) -> object:
    place: object = message
    for step in path:
        if isinstance(step, str) and isinstance(place, Mapping):
            place = place.get(step)
        elif isinstance(step, int) and isinstance(place, list) and len(place) > step:
            place = place[step]
        else:
            return None
    return place
