"""Templates that are filled by the names that sendable_templates lists."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from rapport.whatsapp.outgoing import check_content
from rapport.whatsapp.templates import variables_of
from tests.sql.outbound import ago, claim, conversation, post
from tests.world import ALPINE, ALPINE_NUMBER, World

BODY = {"type": "BODY", "text": "Hello {{1}}, we come on {{ 2 }}. See you, {{1}}!"}
WHOLE = [
    {"type": "HEADER", "format": "TEXT", "text": "For {{1}}"},
    BODY,
    {"type": "FOOTER", "text": "Alpine"},
    {
        "type": "BUTTONS",
        "buttons": [
            {"type": "QUICK_REPLY", "text": "Yes"},
            {"type": "URL", "text": "Open", "url": "https://alpine.example/{{1}}"},
            {"type": "COPY_CODE"},
        ],
    },
]
TEMPLATES: dict[str, list[dict[str, Any]]] = {
    "whole": WHOLE,
    "body": [BODY],
    "named": [{"type": "BODY", "text": "Hello {{first_name}}"}],
    "photo": [{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Look!"}],
    "plain": [{"type": "BODY", "text": "We are open."}],
}
FILLED = {
    "header.1": "you",
    "body.1": "Ana {{2}}",
    "body.2": r"Friday \1",
    "buttons.1.1": "x/7",
    "buttons.2.code": "SAVE",
}


@pytest.fixture
def thread(world: World) -> UUID:
    """Of somebody who has not written for long, with a number whose templates have been read."""
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '9' where phone_number_id = %s",
        [ALPINE_NUMBER],
    )
    world.owner.cursor().executemany(
        "insert into public.whatsapp_templates"
        " (account_id, waba_id, name, language, category, status, components, variables)"
        " values (%s, '9', %s, 'en', '', 'APPROVED', %s, %s)",
        [
            (ALPINE, name, Jsonb(components), Jsonb(variables_of(components)))
            for name, components in TEMPLATES.items()
        ],
    )
    return conversation(world, written=ago(days=9))


def use(
    world: World, thread: UUID, name: str, variables: object, user: str = "andrej", **more: object
) -> dict[str, Any]:
    content = Jsonb({"name": name, "language": "en", "variables": variables})
    return post(world, user, thread, None, type="template", content=content, **more)


def sent(world: World) -> Any:
    """What WhatsApp is sent under the name of the type."""
    (job,) = claim(world)
    return check_content(job["type"], job["text"], job["content"])


def test_filling_gives_what_whatsapp_takes_and_what_people_read(world: World, thread: UUID) -> None:
    posted = use(world, thread, "whole", FILLED)
    assert posted["message"] == (
        "For you\n\nHello Ana {{2}}, we come on Friday \\1. See you, Ana {{2}}!\n\nAlpine"
    )
    assert sent(world) == {
        "name": "whole",
        "language": {"code": "en"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "text": "you"}]},
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "text": "Ana {{2}}"},
                    {"type": "text", "text": r"Friday \1"},
                ],
            },
            {
                "type": "button",
                "sub_type": "url",
                "index": "1",
                "parameters": [{"type": "text", "text": "x/7"}],
            },
            {
                "type": "button",
                "sub_type": "copy_code",
                "index": "2",
                "parameters": [{"type": "coupon_code", "coupon_code": "SAVE"}],
            },
        ],
    }


@pytest.mark.parametrize(
    ("name", "variables", "components"),
    [
        (
            "named",
            {"body.first_name": "Ana"},
            [
                {
                    "type": "body",
                    "parameters": [{"type": "text", "parameter_name": "first_name", "text": "Ana"}],
                }
            ],
        ),
        (
            "photo",
            {"header.image": {"id": "7"}},
            [{"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]}],
        ),
        ("plain", {}, []),
    ],
)
def test_each_kind_of_variable_goes_in_its_place(
    world: World, thread: UUID, name: str, variables: object, components: object
) -> None:
    use(world, thread, name, variables)
    assert sent(world)["components"] == components


@pytest.mark.parametrize(
    ("name", "variables", "field"),
    [
        ("body", {"body.1": "Ana"}, "variables.body.2"),
        ("body", {"body.1": "a", "body.2": "b", "body.3": "c"}, "variables.body.3"),
        ("body", {"body.1": "a", "body.2": " "}, "variables.body.2"),
        ("body", {"body.1": "a", "body.2": 7}, "variables.body.2"),
        ("body", {"body.1": "a", "body.2": "x" * 1025}, "variables.body.2"),
        ("body", {"body.1": "a\nb", "body.2": "b"}, "variables.body.1"),
        ("body", {"body.1": "a     b", "body.2": "b"}, "variables.body.1"),
        ("body", ["Ana"], "variables"),
        ("body", None, "variables"),
        ("photo", {"header.image": "https://x.example/a.png"}, "variables.header.image"),
        ("nobodys", {}, "name"),
    ],
)
def test_what_is_missing_too_much_or_wrong_is_named(
    world: World, thread: UUID, name: str, variables: object, field: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        use(world, thread, name, variables)
    assert (refused.value.sqlstate, refused.value.diag.message_detail) == (
        "PT422",
        f"field: content.{field}",
    )
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_variables_need_a_template_that_is_known(world: World, thread: UUID) -> None:
    world.owner.execute("delete from public.whatsapp_templates")
    with pytest.raises(psycopg.Error) as refused:
        use(world, thread, "body", FILLED)
    assert refused.value.diag.message_detail == "field: content.variables"


def test_customer_learns_nothing_of_templates(world: World, thread: UUID) -> None:
    with pytest.raises(psycopg.Error) as refused:
        use(world, thread, "nobodys", {}, user="cilka")
    assert refused.value.diag.message_detail == "field: conversation_id"


def test_repeated_template_is_one_and_another_one_is_refused(world: World, thread: UUID) -> None:
    first = use(world, thread, "named", {"body.first_name": "Ana"}, client_ref="1")
    again = use(world, thread, "named", {"body.first_name": "Ana"}, client_ref="1")
    assert again == first
    with pytest.raises(psycopg.Error) as refused:
        use(world, thread, "named", {"body.first_name": "Eva"}, client_ref="1")
    assert refused.value.sqlstate == "PT409"
