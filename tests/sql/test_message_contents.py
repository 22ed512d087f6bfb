"""What WhatsApp would refuse is refused when it is written, with its field and a remedy."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from rapport.whatsapp.outgoing import check_content
from tests.sql.outbound import accept, begin, claim, conversation, post, refuse, send_to
from tests.world import ALPINE, ALPINE_NUMBER, BAY_NUMBER, World

BUTTON = {"type": "reply", "reply": {"id": "1", "title": "Monday"}}
ROW = {"id": "1", "title": "Monday"}
LINK = "https://files.example/a"


def buttons(*given: object, **more: object) -> dict[str, object]:
    return {
        "type": "button",
        "body": {"text": "Which day?"},
        "action": {"buttons": list(given)},
    } | more


def reply(**changes: object) -> dict[str, object]:
    return {"type": "reply", "reply": {"id": "1", "title": "Monday"} | changes}


def sections(*given: object, button: object = "Days") -> dict[str, object]:
    return {
        "type": "list",
        "body": {"text": "Which day?"},
        "action": {"button": button, "sections": list(given)},
    }


def link(url: str, text: str = "Open") -> dict[str, object]:
    parameters = {"display_text": text, "url": url}
    return {
        "type": "cta_url",
        "body": {"text": "Our site"},
        "action": {"name": "cta_url", "parameters": parameters},
    }


def template(*components: object, **changes: object) -> dict[str, object]:
    return {"name": "hello", "language": "en", "components": list(components)} | changes


def body_of(*words: str, **more: str) -> dict[str, object]:
    return {
        "type": "body",
        "parameters": [{"type": "text", "text": text} | more for text in words],
    }


@pytest.fixture
def thread(world: World) -> UUID:
    return conversation(world)


TAKEN: list[tuple[str, Any, str]] = [
    ("image", {"id": "123"}, "[image]"),
    ("image", {"link": LINK, "caption": "The hall"}, "[image] The hall"),
    ("audio", {"id": "123", "voice": True}, "[voice message]"),
    ("document", {"id": "123", "filename": "a.pdf", "caption": None}, "[document] a.pdf"),
    ("sticker", {"id": "123"}, "[sticker]"),
    ("location", {"latitude": 46.05, "longitude": -14, "name": "Office"}, "[location] Office"),
    ("contacts", [{"name": {"formatted_name": "Ana", "first_name": "A"}}], "[contact] Ana"),
    ("interactive", buttons(BUTTON, reply(id="2")), "Which day?"),
    ("interactive", buttons(BUTTON, header={"type": "text", "text": "x" * 60}), "Which day?"),
    ("interactive", sections({"rows": [ROW]}), "Which day?"),
    ("interactive", link(LINK), "Our site"),
    ("interactive", {"type": "flow", "body": {"text": "x"}, "action": {"name": "flow"}}, "x"),
    ("template", template(), "[template] hello"),
    ("template", template(body_of("Ana"), language={"code": "en_US"}), "[template] hello"),
]


@pytest.mark.parametrize(("type_", "content", "words"), TAKEN)
def test_what_whatsapp_takes_is_queued_with_words_for_people(
    world: World, thread: UUID, type_: str, content: Any, words: str
) -> None:
    with world.acting_as("andrej") as connection:
        row = connection.execute(
            "insert into public.messages (conversation_id, type, content) values (%s, %s, %s)"
            " returning message, status",
            [thread, type_, Jsonb(content)],
        ).fetchone()
    assert row == (words, "queued")
    # and the worker makes a request of it
    (job,) = claim(world)
    check_content(job["type"], job["text"], job["content"])


MISTAKES: list[tuple[str, Any, str]] = [
    ("image", {}, "content"),
    ("image", [], "content"),
    ("image", {"id": "1", "link": LINK}, "content"),
    ("image", {"id": "1", "upload_id": str(uuid4())}, "content"),
    ("image", {"upload_id": "x"}, "content.upload_id"),
    ("image", {"id": ["1"]}, "content.id"),
    ("image", {"id": "1", "capton": "x"}, "content.capton"),
    ("image", {"id": "1", "caption": "x" * 1025}, "content.caption"),
    ("image", {"link": "file:///etc/passwd"}, "content.link"),
    ("image", {"link": "https://a.example/a b"}, "content.link"),
    ("sticker", {"id": "1", "caption": "x"}, "content.caption"),
    ("audio", {"id": "1", "voice": "yes"}, "content.voice"),
    ("location", {"latitude": 91, "longitude": 0}, "content.latitude"),
    ("location", {"latitude": "46", "longitude": 0}, "content.latitude"),
    ("location", {"latitude": 46}, "content.longitude"),
    ("contacts", [], "content"),
    ("contacts", {"name": "Ana"}, "content"),
    (
        "contacts",
        [{"name": {"formatted_name": "Ana"}}, {"name": {}}],
        "content.1.name.formatted_name",
    ),
    ("reaction", {"message_id": "wamid.1", "emoji": "x"}, "content.message_id"),
    ("reaction", {"message_id": str(uuid4()), "emoji": "x"}, "content.message_id"),
    ("interactive", {"type": "list", "body": {"text": "x"}}, "content.action"),
    ("interactive", {"type": "button", "action": {"buttons": [BUTTON]}}, "content.body"),
    ("interactive", buttons(), "content.action.buttons"),
    ("interactive", buttons(*[reply(id=str(n)) for n in range(4)]), "content.action.buttons"),
    ("interactive", buttons(BUTTON, BUTTON), "content.action.buttons"),
    ("interactive", buttons({"type": "url"}), "content.action.buttons.0.type"),
    ("interactive", buttons({"type": "reply"}), "content.action.buttons.0.reply.id"),
    ("interactive", buttons(reply(title="x" * 21)), "content.action.buttons.0.reply.title"),
    ("interactive", buttons(BUTTON, body={"text": "x" * 1025}), "content.body.text"),
    ("interactive", buttons(BUTTON, header={"text": "x" * 61}), "content.header.text"),
    ("interactive", buttons(BUTTON, footer={"text": "x" * 61}), "content.footer.text"),
    ("interactive", buttons(BUTTON, foot={"text": "x"}), "content.foot"),
    ("interactive", sections({"rows": [ROW]}, button="x" * 21), "content.action.button"),
    ("interactive", sections(), "content.action.sections"),
    ("interactive", sections({"rows": []}), "content.action.sections.0.rows"),
    ("interactive", sections({"rows": [{"id": "1"}]}), "content.action.sections.0.rows.0.title"),
    ("interactive", sections({"rows": [ROW]}, {"rows": [ROW]}), "content.action.sections.0.title"),
    (
        "interactive",
        sections(
            *(
                {"title": f"{part}", "rows": [ROW | {"id": f"{part}.{n}"} for n in range(6)]}
                for part in range(2)
            )
        ),
        "content.action.sections",
    ),
    ("interactive", link("example.com"), "content.action.parameters.url"),
    ("interactive", link(LINK, "x" * 21), "content.action.parameters.display_text"),
    ("template", template(name="Hello!"), "content.name"),
    ("template", {"name": "hello"}, "content.language"),
    ("template", template(language="english"), "content.language.code"),
    ("template", template("Ana"), "content.components.0"),
    ("template", template(body_of("")), "content.components.0.parameters.0.text"),
    ("template", template(body_of("a", "b\nc")), "content.components.0.parameters.1.text"),
    ("template", template(body_of("x" * 1025)), "content.components.0.parameters.0.text"),
    ("template", template(body_of("a"), variables={"body.1": "a"}), "content.variables"),
]


@pytest.mark.parametrize(("type_", "content", "field"), MISTAKES)
def test_mistake_is_refused_at_once_with_its_field_and_a_remedy(
    world: World, thread: UUID, type_: str, content: Any, field: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        post(world, "andrej", thread, "x", type=type_, content=Jsonb(content))
    diagnosis = refused.value.diag
    assert (refused.value.sqlstate, diagnosis.message_detail) == ("PT422", f"field: {field}")
    assert diagnosis.message_primary
    assert diagnosis.message_hint
    assert world.value("select count(*) from private.outbound_queue") == 0


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003\u2029", "\u3000\t", "\x0b"])
def test_text_of_which_nothing_can_be_seen_is_empty(world: World, thread: UUID, blank: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        post(world, "andrej", thread, blank)
    assert refused.value.diag.message_detail == "field: message"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"type": "flow", "body": {"text": "x"}, "action": {"a": "deep"}}).replace(
            '"deep"', "[" * 3000 + "]" * 3000
        ),
        '{"latitude": 1, "longitude": 1e5000}',
        '{"type": "flow", "body": {"text": "x"}, "action": {"a": [{"n": 1e5000}]}}',
    ],
)
def test_content_that_programs_can_not_read_stops_no_worker(
    world: World, thread: UUID, content: str
) -> None:
    type_ = "location" if "latitude" in content else "interactive"
    with pytest.raises(psycopg.Error) as refused:
        post(world, "andrej", thread, "x", type=type_, content=content)
    assert (refused.value.sqlstate, refused.value.diag.message_detail) == (
        "PT422",
        "field: content",
    )


def test_reaction_is_to_what_was_sent_or_will_be(world: World, thread: UUID) -> None:
    def react(message_id: object) -> str:
        content = Jsonb({"message_id": str(message_id), "emoji": "👍"})
        status: str = post(world, "andrej", thread, "x", type="reaction", content=content)["status"]
        return status

    inbound = world.value("select id from public.messages")
    assert react(inbound) == "queued"
    waiting = post(world, "andrej", thread, "first")["id"]
    assert react(waiting) == "queued"

    world.owner.execute("delete from private.outbound_queue")
    failed = send_to(world, thread)
    refuse(world, failed, 131026)
    with pytest.raises(psycopg.Error) as refused:
        react(failed)
    assert refused.value.diag.message_detail == "field: content.message_id"


COMPONENTS = [
    {"type": "HEADER", "format": "IMAGE"},
    {"type": "BODY", "text": "Hello {{1}}, until {{2}}"},
    {"type": "BUTTONS", "buttons": [{"type": "URL", "url": "https://a.example/{{1}}"}]},
]
VARIABLES = {
    "header": ["header.image"],
    "body": ["body.1", "body.2"],
    "buttons": ["buttons.0.1"],
}
HEADER = {"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]}
BODY = body_of("Ana", "Friday")
URL = {
    "type": "button",
    "sub_type": "url",
    "index": "0",
    "parameters": [{"type": "text", "text": "7"}],
}


@pytest.fixture
def templates(world: World) -> World:
    """Alpine's number, whose templates have been read."""
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '9' where phone_number_id = %s",
        [ALPINE_NUMBER],
    )
    world.owner.cursor().executemany(
        "insert into public.whatsapp_templates"
        " (account_id, waba_id, name, language, category, status, components, variables, gone_at)"
        " values (%s, '9', %s, %s, '', %s, %s, %s, %s)",
        [
            (ALPINE, name, language, status, Jsonb(COMPONENTS), Jsonb(variables), gone_at)
            for name, language, status, variables, gone_at in (
                ("visit", "en", "APPROVED", VARIABLES, None),
                ("visit", "sl", "APPROVED", VARIABLES, None),
                ("visit", "de", "REJECTED", VARIABLES, None),
                ("paused", "en", "PAUSED", {}, None),
                ("deleted", "en", "APPROVED", {}, "2026-01-01"),
                ("plain", "en", "APPROVED", {"header": [], "body": [], "buttons": []}, None),
                ("named", "en", "APPROVED", {"body": ["body.first_name"]}, None),
            )
        ],
    )
    return world


@pytest.mark.parametrize(
    ("name", "language", "components"),
    [
        ("visit", "en", [HEADER, BODY, URL]),
        ("visit", {"code": "sl"}, [URL, BODY, HEADER]),
        ("plain", "en", []),
        # a button's answer is no variable
        (
            "plain",
            "en",
            [{"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{}]}],
        ),
        ("named", "en", [body_of("Ana", parameter_name="first_name")]),
    ],
)
def test_known_template_goes_with_its_variables(
    templates: World, thread: UUID, name: str, language: Any, components: list[object]
) -> None:
    content = {"name": name, "language": language, "components": components}
    posted = post(templates, "andrej", thread, "x", type="template", content=Jsonb(content))
    assert posted["status"] == "queued"


@pytest.mark.parametrize(
    ("name", "language", "components", "field", "hint"),
    [
        ("visit", "en", [], "components", "header.image"),
        ("visit", "en", [HEADER, body_of("Ana"), URL], "components", "body.1, body.2"),
        ("visit", "en", [HEADER, BODY], "components", "buttons.0.1"),
        ("visit", "en", [HEADER, BODY, URL | {"index": "1"}], "components", "buttons.0.1"),
        ("plain", "en", [BODY], "components", "none"),
        ("named", "en", [body_of("Ana")], "components", "body.first_name"),
        ("named", "en", [body_of("Ana", parameter_name="name")], "components", "body.first_name"),
        ("visit", "fr", [], "language", "en, sl"),
        ("visit", "de", [], "name", "15 minutes"),
        ("paused", "en", [], "name", "15 minutes"),
        ("deleted", "en", [], "name", "15 minutes"),
        ("unknown", "en", [], "name", "15 minutes"),
    ],
)
def test_template_that_whatsapp_would_refuse_is_refused_here(
    templates: World,
    thread: UUID,
    name: str,
    language: str,
    components: list[object],
    field: str,
    hint: str,
) -> None:
    content = {"name": name, "language": language, "components": components}
    with pytest.raises(psycopg.Error) as refused:
        post(templates, "andrej", thread, "x", type="template", content=Jsonb(content))
    diagnosis = refused.value.diag
    assert (refused.value.sqlstate, diagnosis.message_detail) == (
        "PT422",
        f"field: content.{field}",
    )
    assert hint in (diagnosis.message_hint or "")


@pytest.mark.parametrize(
    ("name", "components", "message"),
    [
        (
            "visit",
            [HEADER, body_of("Ana"), URL],
            "This template takes 2 variables in its body; 1 were given.",
        ),
        ("plain", [BODY], "This template takes 0 variables in its body; 2 were given."),
        ("named", [body_of("Ana")], "This template takes other variables in its body."),
    ],
)
def test_refusal_says_how_many_variables_a_template_takes(
    templates: World, thread: UUID, name: str, components: list[object], message: str
) -> None:
    content = {"name": name, "language": "en", "components": components}
    with pytest.raises(psycopg.Error) as refused:
        post(templates, "andrej", thread, "x", type="template", content=Jsonb(content))
    assert refused.value.diag.message_primary == message


def test_templates_of_another_business_are_not_known_here(templates: World) -> None:
    theirs = conversation(templates, number=BAY_NUMBER)
    templates.owner.execute(
        "update public.whatsapp_channels set waba_id = '9' where phone_number_id = %s",
        [BAY_NUMBER],
    )
    content = Jsonb({"name": "paused", "language": "en"})
    # nothing was read for Bay: WhatsApp decides
    posted = post(templates, "ana", theirs, "x", type="template", content=content)
    assert posted["status"] == "queued"
    (job,) = claim(templates)
    assert begin(templates, job["message_id"])
    assert accept(templates, job["message_id"], "wamid.t") == "sent"


def test_templates_that_were_not_read_of_late_are_whatsapps_to_judge(
    templates: World, thread: UUID
) -> None:
    templates.owner.execute(
        "update public.whatsapp_templates set synced_at = now() - interval '2 hours'"
    )
    content = Jsonb({"name": "new", "language": "en"})
    posted = post(templates, "andrej", thread, "x", type="template", content=content)
    assert posted["status"] == "queued"
