"""GET and POST /{account}/message_templates, and how a message uses a template."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from rapport.local.fakes.whatsapp.errors import GraphError
from rapport.local.fakes.whatsapp.payloads import Payload
from rapport.local.fakes.whatsapp.sends import SentTemplate
from rapport.local.fakes.whatsapp.state import State

PAGE = 25
PAGE_LIMIT = 1000
# the formats of a header without text
FILES = ("IMAGE", "VIDEO", "DOCUMENT", "LOCATION")
VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class TemplateButton(BaseModel):
    """A button; an address may end with a variable."""

    model_config = ConfigDict(extra="allow")

    type: str
    url: str = ""

    @property
    def wants_parameter(self) -> bool:
        kind = self.type.upper()
        return kind in ("COPY_CODE", "OTP") or (kind == "URL" and bool(VARIABLE.search(self.url)))


class TemplateComponent(BaseModel):
    """A part of a template; its `text` has {{1}} or {{name}} for variables."""

    model_config = ConfigDict(extra="allow")

    type: str
    format: str | None = None
    text: str | None = None
    buttons: list[TemplateButton] | None = None


class NewTemplate(BaseModel):
    """A new template; the stand-in approves it at once, unless `status` is given."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,512}$")]
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$")]
    category: Literal["AUTHENTICATION", "MARKETING", "UTILITY"]
    status: Literal["APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"] = "APPROVED"
    components: Annotated[list[TemplateComponent], Field(min_length=1)]


# the templates of a new account; the demo sends them
EXAMPLES = (
    NewTemplate(
        name="hello_world",
        language="en_US",
        category="UTILITY",
        components=[
            TemplateComponent(type="HEADER", text="Hello World"),
            TemplateComponent(type="BODY", text="Welcome and congratulations!!"),
        ],
    ),
    NewTemplate(
        name="appointment_reminder",
        language="en",
        category="UTILITY",
        components=[TemplateComponent(type="BODY", text="Hello {{1}}, we see you on {{2}}.")],
    ),
    NewTemplate(
        name="appointment_reminder",
        language="sl",
        category="UTILITY",
        components=[TemplateComponent(type="BODY", text="Pozdravljeni, {{1}}. Vidimo se {{2}}.")],
    ),
)


def list_templates(
    state: State,
    account: str,
    *,
    limit: int = PAGE,
    after: str | None = None,
    name: str | None = None,
    base_url: str,
) -> Payload:
    """A page of an account's templates, with the cursor of the next page.

    Raises:
        GraphError: The cursor is unknown.
    """
    known = [
        template
        for template in _templates_of(state, account).values()
        if name is None or template["name"] == name
    ]
    start = _position(after) if after else 0
    end = start + max(1, min(limit, PAGE_LIMIT))
    page: list[JsonValue] = [dict(template) for template in known[start:end]]
    answer: Payload = {"data": page}
    if page:
        cursors: Payload = {"before": _cursor(start), "after": _cursor(start + len(page))}
        paging: Payload = {"cursors": cursors}
        if end < len(known):
            paging["next"] = f"{base_url}?limit={limit}&after={cursors['after']}"
        answer["paging"] = paging
    return answer


def create_template(state: State, account: str, body: JsonValue) -> Payload:
    """Adds a template.

    Raises:
        GraphError: It is malformed, or its name and language exist already.
    """
    try:
        template = NewTemplate.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in fault["loc"]) or "body"
        raise GraphError(100, f"Parameter {place}: {fault['msg']}.") from None
    templates = _templates_of(state, account)
    if any(_is(one, template.name, template.language) for one in templates.values()):
        raise GraphError(
            100, "There is a template of this name and language already.", subcode=2388024
        )
    added = _add(templates, template)
    state.templates[account] = templates
    return {name: added[name] for name in ("id", "status", "category")}


def check_template(state: State, used: SentTemplate) -> None:
    """Checks that a message uses a template correctly.

    Raises:
        GraphError: 132001, 132015 or 132016; 132000 for a wrong number of variables; 132012 for a
            header without its file.
    """
    template = _find(state, used)
    if template is None or template["status"] in ("PENDING", "REJECTED"):
        raise GraphError(
            132001,
            f"template name ({used.name[:64]}) does not exist in {used.language.code[:16]}",
        )
    if template["status"] != "APPROVED":
        raise GraphError(
            132015 if template["status"] == "PAUSED" else 132016,
            f"template name ({used.name[:64]}) is {str(template['status']).lower()}",
        )
    for component in NewTemplate.model_validate(template).components:
        _check_part(component, used)


def _check_part(component: TemplateComponent, used: SentTemplate) -> None:
    """Checks one part of the template."""
    part = component.type.lower()
    if part == "buttons":
        for index, button in enumerate(component.buttons or ()):
            if button.wants_parameter and not _parameters(used, "button", str(index)):
                raise GraphError(132000, f"buttons: the one at index {index} wants a parameter")
        return
    given = len(_parameters(used, part))
    if (component.format or "").upper() in FILES:
        if given != 1:
            raise GraphError(132012, f"{part}: format mismatch, expected {component.format}")
        return
    wanted = len(set(VARIABLE.findall(component.text or "")))
    if given != wanted:
        raise GraphError(
            132000,
            f"{part}: number of localizable_params ({given}) does not match the expected number"
            f" of params ({wanted})",
        )


def shown_template(state: State, used: SentTemplate) -> str:
    """The template's text with its variables, as the customer reads it."""
    template = _find(state, used)
    parameters = _parameters(used, "body")
    values = {
        str(parameter.get("parameter_name", place)): str(parameter.get("text", ""))
        for place, parameter in enumerate(parameters, 1)
    }
    text = _body_text(template) if template else ""
    return VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)


def _parameters(
    used: SentTemplate, part: str, index: str | None = None
) -> list[dict[str, JsonValue]]:
    return [
        parameter
        for component in used.components
        if component.type.lower() == part and (index is None or component.index == index)
        for parameter in component.parameters
    ]


def _find(state: State, used: SentTemplate) -> Payload | None:
    """The template in any account, since the number's account is unknown here."""
    accounts = list(state.templates.values()) or [_templates_of(state, "0")]
    found = [
        template
        for templates in accounts
        for template in templates.values()
        if _is(template, used.name, used.language.code)
    ]
    return next((one for one in found if one["status"] == "APPROVED"), found[0] if found else None)


def _is(template: Payload, name: str, language: str) -> bool:
    return template["name"] == name and template["language"] == language


def _body_text(template: Payload) -> str:
    components = NewTemplate.model_validate(template).components
    return next((one.text or "" for one in components if one.type.upper() == "BODY"), "")


def _templates_of(state: State, account: str) -> dict[str, Payload]:
    if account not in state.templates:
        templates: dict[str, Payload] = {}
        for example in EXAMPLES:
            _add(templates, example)
        state.templates[account] = templates
    return state.templates[account]


def _add(templates: dict[str, Payload], new: NewTemplate) -> Payload:
    template: Payload = {
        "id": str(secrets.randbelow(9 * 10**14) + 10**14),
        **new.model_dump(mode="json", exclude_none=True),
    }
    templates[str(template["id"])] = template
    return template


def _cursor(position: int) -> str:
    return urlsafe_b64encode(str(position).encode()).decode()


def _position(cursor: str) -> int:
    try:
        position = int(urlsafe_b64decode(cursor))
    except ValueError:
        raise GraphError(100, "Parameter after: this is no cursor.") from None
    return max(0, position)
