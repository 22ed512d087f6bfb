"""The description of the HTTP API (OpenAPI 3.1): its endpoints, their models and their errors.

`uv run python -m rapport.commands.openapi` writes handlers/openapi.json, which is deployed. What is
asked is told by the models that the handlers read with, and what is answered by the types that they
answer with; rows in answers by the models that are made from the schema. Names are the API's:
camelCase.

Source: spec.openapis.org/oas/v3.1.1.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter
from pydantic.alias_generators import to_camel

from rapport import errors
from rapport.api_json import AS_THEY_ARE, camel_field
from rapport.chat import answers
from rapport.chat import requests as chat
from rapport.client import database
from rapport.client.database import Message, MetakockaMappingsAnswer, MetakockaMappingsAnswerMapping
from rapport.errors import RapportError
from rapport.handlers import media_api, messages_api, metakocka_api, wake, whatsapp_webhook
from rapport.handlers.api_document import DOCUMENT
from rapport.handlers.http import Problem
from rapport.metakocka import endpoints as metakocka
from rapport.release import VERSION
from rapport.storage import LINK_SECONDS
from rapport.store.chat import ReplyWindow
from rapport.whatsapp import intake
from rapport.whatsapp.webhook import HEADER, Webhook

Json = dict[str, JsonValue]
Mode = Literal["validation", "serialization"]
_REFERENCE = "#/components/schemas/{model}"


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class MessagesBefore(_Answer):
    """A page of messages, the latest first; `nextBefore` asks for the next one."""

    messages: list[Message]
    next_before: int | None


class MessagesAfter(_Answer):
    """A page of messages after a seq, the earliest first; `nextAfter` asks for the next one."""

    messages: list[Message]
    next_after: int | None


class OneMapping(_Answer):
    """The partner of the contact that was asked for."""

    mapping: MetakockaMappingsAnswerMapping


class Document(_Answer):
    """An OpenAPI document."""

    openapi: str


class _Verification(BaseModel):
    """Meta's check of the address."""

    mode: Annotated[Literal["subscribe"], Field(alias="hub.mode")]
    verify_token: Annotated[str, Field(alias="hub.verify_token")]
    challenge: Annotated[
        str,
        Field(alias="hub.challenge", min_length=1, max_length=whatsapp_webhook.CHALLENGE_LIMIT),
    ]


# what a call as a user of the project can be refused with
_USER = (
    errors.NotSignedIn,
    errors.NotAllowed,
    errors.NotFound,
    errors.Unprocessable,
    errors.TooManyRequests,
    errors.StoreError,
    errors.StoreUnavailable,
    errors.StoreBusy,
    errors.StoreClosed,
    errors.ConfigError,
    errors.UpstreamUnavailable,
)
_BODY = (errors.MalformedPayload, errors.PayloadTooLarge)
_METAKOCKA = (
    errors.Conflict,
    errors.SyncBusy,
    errors.LeaseLost,
    errors.MetakockaError,
    errors.MetakockaRefused,
    errors.MetakockaOutcomeUnknown,
    errors.MetakockaUnavailable,
    errors.MetakockaClosed,
)
# answers of the host itself, which have a message and no code
_HOST = {
    408: "The body comes too slowly.",
    413: "The body is larger than 10 MB.",
    429: "More requests come than the host lets in.",
    500: "The function has failed.",
    503: "Too many requests are being served.",
}
_TAGS = {
    "messages": "Conversations as the signed-in user may see them.",
    "files": "Files of messages.",
    "Metakocka": "Contacts and partners, for owners and admins.",
    "machines": "What Meta and the database call.",
}


@dataclass(frozen=True)
class Endpoint:
    """One route; `answers` are models by status, several for one status."""

    route: str
    summary: str
    tag: str
    answers: Mapping[int, Sequence[type]]
    refusals: Sequence[type[RapportError]] = _USER
    path: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: Sequence[type[BaseModel]] = ()
    body_limit: int = 0
    security: str | None = "user"
    example: JsonValue = None
    details: str = ""
    # of an answer that is not JSON
    text: bool = False

    @property
    def models(self) -> Iterator[tuple[type, Mode]]:
        """The models of its bodies."""
        for model in self.body:
            yield model, "validation"
        for models in self.answers.values():
            for model in models:
                yield model, "serialization"


_SYNC = "/api/integrations/metakocka/contacts"
_MESSAGE = "5f0c6c3e-0a55-4d2f-8a3b-8a1c4f6f0b11"

ENDPOINTS = (
    *(
        endpoint
        for base, who in (
            ("/api/messages", "A customer's or a member's view."),
            ("/api/operator/messages", "For members of the account alone: others get 403."),
        )
        for endpoint in (
            Endpoint(
                f"GET {base}",
                "A page of messages",
                "messages",
                {200: (MessagesBefore, MessagesAfter)},
                query=chat.MessagePage,
                details=f"{who} Name exactly one of bookingId, conversationId and customerId.",
            ),
            Endpoint(
                f"POST {base}",
                "Write a message",
                "messages",
                {201: (Message,)},
                (*_USER, *_BODY, errors.Conflict),
                query=chat.Where,
                body=(chat.NewMessage,),
                body_limit=messages_api.BODY_LIMIT,
                details=(
                    f"{who} The chat is named in the query or in the body. A repetition with the"
                    " same clientRef answers the message that is there."
                ),
                example={
                    "conversationId": _MESSAGE,
                    "message": "We come at nine.",
                    "clientRef": "9c1c",
                },
            ),
        )
    ),
    Endpoint(
        "POST /api/conversations/{id}/read",
        "Say how far the user has read",
        "messages",
        {200: (answers.ReadAnswer,)},
        (*_USER, *_BODY),
        path=chat.ConversationPath,
        body=(chat.ReadUpTo,),
        body_limit=messages_api.BODY_LIMIT,
        details="Without a seq all messages are read. Staff's reading is shown on WhatsApp.",
        example={"upToSeq": 12},
    ),
    Endpoint(
        "POST /api/conversations/{id}/typing",
        "Show the customer on WhatsApp that staff are typing",
        "messages",
        {200: (answers.TypingAnswer,)},
        path=chat.ConversationPath,
    ),
    Endpoint(
        "GET /api/conversations/{id}/window",
        "Whether free text may be sent, and until when",
        "messages",
        {200: (ReplyWindow,)},
        path=chat.ConversationPath,
        details="After the window closes, only templates may be sent on WhatsApp.",
    ),
    Endpoint(
        "POST /api/messages/{id}/resend",
        "Send a failed or unknown message again",
        "messages",
        {202: (answers.ResendAnswer,)},
        (*_USER, errors.Conflict),
        path=chat.MessagePath,
    ),
    Endpoint(
        "POST /api/messages/{id}/drop",
        "Withdraw a message that was not sent",
        "messages",
        {200: (answers.DropAnswer,)},
        (*_USER, errors.Conflict),
        path=chat.MessagePath,
    ),
    Endpoint(
        "POST /api/phone",
        "Read a phone number as a person has written it",
        "messages",
        {200: (answers.PhoneAnswer,)},
        (*_USER, *_BODY, errors.NotAPhoneNumber),
        body=(chat.WrittenPhone,),
        body_limit=messages_api.BODY_LIMIT,
        example={"phone": "040 111 222"},
    ),
    Endpoint(
        "GET /api/messages/{id}/media",
        "The address of a message's file",
        "files",
        {200: (media_api.StoredFile,), 202: (media_api.PendingFile,)},
        (*_USER, errors.NotFetched, errors.Gone),
        path=media_api.MessagePath,
        details=f"The address is good for {LINK_SECONDS} seconds.",
    ),
    Endpoint(
        "POST /api/media",
        "Announce a file, for an address to upload it to",
        "files",
        {201: (media_api.UploadPlace,)},
        (*_USER, *_BODY, errors.Conflict),
        body=(media_api.Announced,),
        body_limit=media_api.BODY_LIMIT,
        example={
            "conversationId": _MESSAGE,
            "type": "image",
            "mimeType": "image/jpeg",
            "size": 120000,
        },
    ),
    Endpoint(
        f"POST {_SYNC}/sync-to-metakocka",
        "Send contacts to Metakocka",
        "Metakocka",
        {
            200: (metakocka.SyncOutcome, metakocka.SyncOutcomes),
            202: (metakocka.SyncOutcome, metakocka.SyncQueued, metakocka.SyncBegun),
        },
        (*_USER, *_BODY, *_METAKOCKA),
        query=metakocka.WhichWay,
        body=(metakocka.OneContact, metakocka.Contacts),
        body_limit=metakocka_api.BODY_LIMIT,
        details="With `bulk=true` contactIds, else one contactId. More than 50 become a run.",
        example={"contactId": _MESSAGE},
    ),
    Endpoint(
        f"POST {_SYNC}/sync-from-metakocka",
        "Read a partner from Metakocka",
        "Metakocka",
        {200: (metakocka.SyncOutcome,), 202: (metakocka.SyncOutcome, metakocka.SyncQueued)},
        (*_USER, *_BODY, *_METAKOCKA),
        body=(metakocka.OnePartner,),
        body_limit=metakocka_api.BODY_LIMIT,
        example={"metakockaId": "1600000001"},
    ),
    Endpoint(
        f"GET {_SYNC}/sync-from-metakocka",
        "A page of the partners that no contact has",
        "Metakocka",
        {200: (metakocka.UnsyncedPartners,)},
        (*_USER, *_METAKOCKA),
        query=metakocka.Unsynced,
    ),
    Endpoint(
        f"POST {_SYNC}/sync-all-from-metakocka",
        "Read several partners, or all",
        "Metakocka",
        {200: (metakocka.SyncOutcomes,), 202: (metakocka.SyncBegun,)},
        (*_USER, *_BODY, *_METAKOCKA),
        body=(metakocka.Partners,),
        body_limit=metakocka_api.BODY_LIMIT,
        details="Without ids all partners. All, and more than 50, become a run.",
        example={"metakockaIds": ["1600000001"]},
    ),
    Endpoint(
        f"GET {_SYNC}/mappings",
        "The partner of a contact, or a page of all",
        "Metakocka",
        {200: (MetakockaMappingsAnswer, OneMapping)},
        query=metakocka.WhichMappings,
        details="With contactId {mapping}, else {mappings, cursor}.",
    ),
    Endpoint(
        "GET /api/webhooks/whatsapp",
        "Meta checks the address",
        "machines",
        {200: ()},
        (errors.NotAllowed, errors.ConfigError, errors.UpstreamUnavailable),
        query=_Verification,
        security=None,
        text=True,
        details="Answers the challenge as a text.",
    ),
    Endpoint(
        "POST /api/webhooks/whatsapp",
        "Meta delivers a webhook",
        "machines",
        {200: (intake.TakenIn, intake.Queued)},
        (
            errors.BadSignature,
            *_BODY,
            errors.StoreError,
            errors.StoreUnavailable,
            errors.StoreBusy,
            errors.StoreClosed,
            errors.QueueUnavailable,
            errors.ConfigError,
            errors.UpstreamUnavailable,
        ),
        body=(Webhook,),
        body_limit=whatsapp_webhook.BODY_LIMIT,
        security="signature",
        details="A repeated webhook changes nothing. What can't be applied is kept, and counted.",
        example={"object": "whatsapp_business_account", "entry": []},
    ),
    Endpoint(
        "POST /internal/wake",
        "The database wakes a worker",
        "machines",
        {202: (wake.Woken,)},
        (
            errors.NotSignedIn,
            errors.NotAllowed,
            errors.Unprocessable,
            *_BODY,
            errors.ConfigError,
            errors.UpstreamUnavailable,
        ),
        body=(wake.Wake,),
        body_limit=wake.BODY_LIMIT,
        security="wake",
        example={"worker": "deliver_outbound"},
    ),
    Endpoint(
        "GET /api/openapi.json",
        "This document",
        "machines",
        {200: (Document,)},
        (),
        security=None,
    ),
)


def document() -> Json:
    """The whole document."""
    models: list[tuple[type, Mode]] = [(Problem, "serialization")]
    models += (pair for one in ENDPOINTS for pair in one.models)
    adapters: list[tuple[str, Mode, TypeAdapter[Any]]] = [
        (model.__name__, mode, TypeAdapter(model)) for model, mode in dict.fromkeys(models)
    ]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    meanings = _meanings()
    schemas: Json = {}
    for name, schema in found.get("$defs", {}).items():
        for column, property_ in schema.get("properties", {}).items():
            if meaning := meanings.get((name, column)):
                property_["description"] = meaning
        schemas[name] = _api_names(schema)
    paths: dict[str, JsonValue] = {}
    for one in ENDPOINTS:
        method, path = one.route.split(" ")
        entry = paths.setdefault(path, {})
        if isinstance(entry, dict):
            entry[method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rapport's HTTP API",
            "version": VERSION,
            "summary": "Messages, files and the sync with an ERP, as the signed-in user.",
            "description": (
                "Rows are read, and followed live, from Supabase itself; these endpoints do what a"
                " row can't. Names are in camelCase; snake_case is read as well. An error has a"
                " code for programs and a message for people."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": words} for name, words in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "examples": _examples(),
            "securitySchemes": {
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The access token of a user who is signed in at Supabase Auth.",
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": HEADER,
                    "description": "sha256= and the body's HMAC-SHA256 by the app secret, in hex.",
                },
                "wake": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The secret that the database and the functions share.",
                },
            },
        },
    }


def _meanings() -> dict[tuple[str, str], str]:
    """What each column means, as it stands beneath the field of a row's model."""
    found: dict[tuple[str, str], str] = {}
    for model in ast.parse(Path(database.__file__).read_text()).body:
        if not isinstance(model, ast.ClassDef):
            continue
        for one, after in pairwise(model.body):
            match one, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(meaning))),
                ):
                    found[model.name, name] = meaning
                case _:
                    pass
    return found


def _operation(one: Endpoint) -> Json:
    operation: Json = {
        "operationId": _operation_id(one.route),
        "summary": one.summary,
        "tags": [one.tag],
        "security": [{one.security: []}] if one.security else [],
        "responses": _responses(one),
    }
    if one.details:
        operation["description"] = one.details
    parameters: list[JsonValue] = [*_parameters(one.path, "path"), *_parameters(one.query, "query")]
    if parameters:
        operation["parameters"] = parameters
    if one.body:
        content: Json = {"schema": _one_of(one.body)}
        if one.example is not None:
            content["example"] = one.example
        operation["requestBody"] = {
            "description": f"At most {one.body_limit:,} bytes.",
            "required": True,
            "content": {"application/json": content},
        }
    return operation


def _operation_id(route: str) -> str:
    method, path = route.split(" ")
    words = [word.strip("{}") for word in path.replace("-", "/").replace(".", "/").split("/")]
    return to_camel("_".join([method.lower(), *(word for word in words if word)]))


def _parameters(model: type[BaseModel] | None, place: str) -> Iterator[Json]:
    if model is None:
        return
    schema = model.model_json_schema(ref_template=_REFERENCE)
    for name, given in schema["properties"].items():
        described = _api_names(given)
        told: Json = {
            "name": name,
            "in": place,
            "required": place == "path" or name in schema.get("required", ()),
            "schema": described,
        }
        yield told


def _responses(one: Endpoint) -> Json:
    responses: Json = {}
    for status, models in one.answers.items():
        said = " Or: ".join(" ".join((model.__doc__ or "").split()) for model in models)
        if one.text:
            content: Json = {"text/plain": {"schema": {"type": "string"}}}
        else:
            content = {"application/json": {"schema": _one_of(models)}}
        responses[str(status)] = {"description": said or "The challenge.", "content": content}
    refusals: dict[int, list[type[RapportError]]] = {}
    for refusal in dict.fromkeys(one.refusals):
        refusals.setdefault(refusal.http_status, []).append(refusal)
    for status in sorted({*refusals, *_HOST}):
        examples: Json = {}
        told: list[str] = []
        for refusal in refusals.get(status, ()):
            code, words = _told(refusal)
            examples[code] = {"$ref": f"#/components/examples/{code}"}
            told.append(f"`{code}`: {words}")
        if status in _HOST:
            told.append(_HOST[status])
            examples["host"] = {"$ref": f"#/components/examples/host_{status}"}
        response: Json = {
            "description": " ".join(told),
            "content": {
                "application/json": {
                    "schema": {"$ref": _REFERENCE.format(model=Problem.__name__)},
                    "examples": examples,
                }
            },
        }
        if status in (429, 503):
            response["headers"] = {
                "Retry-After": {
                    "description": "Seconds until another try makes sense, where that is known.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
        responses[str(status)] = response
    return responses


def _examples() -> Json:
    """Errors as they are answered, by code; those of the host by status."""
    refusals = dict.fromkeys(refusal for one in ENDPOINTS for refusal in one.refusals)
    examples: Json = {}
    for code, words in sorted(map(_told, refusals)):
        examples[code] = {"value": {"code": code, "message": words}}
    for status, words in _HOST.items():
        examples[f"host_{status}"] = {"value": {"message": words}}
    return examples


def _told(refusal: type[RapportError]) -> tuple[str, str]:
    """An error's code and its first sentence."""
    return refusal().code, (refusal.__doc__ or "").partition("\n")[0]


def _one_of(models: Sequence[type]) -> Json:
    references: list[JsonValue] = [
        {"$ref": _REFERENCE.format(model=model.__name__)} for model in models
    ]
    only = references[0]
    return only if len(references) == 1 and isinstance(only, dict) else {"anyOf": references}


def _api_names(schema: JsonValue) -> JsonValue:
    """A schema whose properties have the API's names; the titles of the library go."""
    if isinstance(schema, list):
        return [_api_names(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    named: Json = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            named[key] = {
                camel_field(name): inner if name in AS_THEY_ARE else _api_names(inner)
                for name, inner in value.items()
            }
        elif key == "required" and isinstance(value, list):
            named[key] = [camel_field(str(name)) for name in value]
        elif key == "description" and isinstance(value, str):
            named[key] = " ".join(value.split())
        elif not (key == "title" and isinstance(value, str)):
            named[key] = _api_names(value)
    return named


def text() -> str:
    """The file as it stands in the repository."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text())
