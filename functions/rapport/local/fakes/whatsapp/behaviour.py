"""How the stand-in misbehaves: set over POST /_fake/behaviour, forgotten with an empty body."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rapport.local.fakes.faults import Fault, FaultyBehaviour, Milliseconds, Orders
from rapport.local.fakes.whatsapp.payloads import StatusWord

Endpoint = Literal["messages", "read", "media", "download", "templates", "numbers"]


class WhatsAppFault(Fault):
    """What happens to the next `times` requests to an endpoint.

    One of: `drop`, `code` (an error in Graph's shape), `status` alone (a proxy's page of HTML),
    or none, when only `delay_ms` counts.
    """

    on: Endpoint = "messages"
    code: int | None = None
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    details: str = "Set by POST /_fake/behaviour."

    @model_validator(mode="after")
    def _is_one_fault(self) -> Self:
        if self.drop and (self.code is not None or self.status is not None):
            raise ValueError("a dropped connection carries no error")
        return self

    @property
    def answers_otherwise(self) -> bool:
        return super().answers_otherwise or self.code is not None


class Webhooks(Orders):
    """How webhooks come: those of statuses and those of POST /_fake/inbound."""

    # hold: until POST /_fake/release; drop: never
    mode: Literal["post", "hold", "drop"] = "post"
    # of each webhook
    copies: Annotated[int, Field(ge=1, le=10)] = 1
    delay_ms: Milliseconds = 0
    # what becomes of each message that is sent, in this order and at this pace
    statuses: tuple[StatusWord, ...] = ("sent", "delivered", "read")
    pace_ms: Milliseconds = 30
    # the last status comes first
    reverse: bool = False
    # of a status "failed"
    error_code: int = 131026


class Limits(Orders):
    """How fast messages may be sent; without a limit as fast as they come.

    WhatsApp's own are 80 a second from a number, and to one person one every 6 seconds after a
    burst of 45.
    """

    # from one number; what is too much is refused with 130429
    per_second: Annotated[int, Field(ge=1)] | None = None
    # from one number to one person; what is too much is refused with 131056
    pair_burst: Annotated[int, Field(ge=1)] | None = None
    # one more of a burst after each
    pair_ms: Annotated[int, Field(ge=1, le=120_000)] = 6000


class WhatsAppBehaviour(FaultyBehaviour[WhatsAppFault]):
    """All of the behaviour. What is left out is as it should be."""

    # of numbers with a token of their own; all others take the stack's
    tokens: dict[str, str] = Field(default_factory=dict)
    # which numbers a WhatsApp Business account has: the token of any opens its templates
    numbers: dict[str, list[str]] = Field(default_factory=dict)

    webhooks: Webhooks = Field(default_factory=Webhooks)
    limits: Limits = Field(default_factory=Limits)
    # free words 24 hours after the person last wrote: taken all the same, refused with 131047,
    # or taken and then reported as failed with it
    closed_window: Literal["ignore", "refuse", "fail"] = "ignore"
