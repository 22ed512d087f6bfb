"""How the stand-in misbehaves: set over POST /_fake/behaviour, reset with an empty body."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rapport.local.fakes.faults import FaultyBehaviour, Milliseconds, OrderedFault, Orders
from rapport.local.fakes.whatsapp.payloads import StatusWord

Endpoint = Literal["messages", "read", "media", "download", "templates", "numbers", "registration"]


class WhatsAppFault(OrderedFault):
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
    """How webhooks are posted, both of statuses and of POST /_fake/inbound."""

    # hold: wait for POST /_fake/release; drop: never post
    mode: Literal["post", "hold", "drop"] = "post"
    # of each webhook, posted one after the other
    copies: Annotated[int, Field(ge=1, le=10)] = 1
    delay_ms: Milliseconds = 0
    # the statuses of each sent message, in this order and with this pause
    statuses: tuple[StatusWord, ...] = ("sent", "delivered", "read")
    pace_ms: Milliseconds = 30
    # the last status comes first
    reverse: bool = False
    # for the status "failed"
    error_code: int = 131026


class Limits(Orders):
    """How fast messages may be sent; without limits at any speed.

    WhatsApp's own limits are 80 a second from a number. To one person it is one message every 6
    seconds after a burst of 45.
    """

    # from one number; messages beyond it are refused with 130429
    per_second: Annotated[int, Field(ge=1)] | None = None
    # from one number to one person; messages beyond it are refused with 131056
    pair_burst: Annotated[int, Field(ge=1)] | None = None
    # after each, one more message is allowed
    pair_ms: Annotated[int, Field(ge=1, le=120_000)] = 6000


class WhatsAppBehaviour(FaultyBehaviour[WhatsAppFault]):
    """All settings. A setting that is left out has its normal value."""

    # tokens of single numbers; all other numbers use the stack's
    tokens: dict[str, str] = Field(default_factory=dict)
    # the numbers of each WhatsApp Business account; the token of any of them opens its templates
    numbers: dict[str, list[str]] = Field(default_factory=dict)

    webhooks: Webhooks = Field(default_factory=Webhooks)
    limits: Limits = Field(default_factory=Limits)
    # for free text later than 24 hours after the person wrote: ignore accepts it, refuse answers
    # 131047, fail accepts it and then reports 131047
    closed_window: Literal["ignore", "refuse", "fail"] = "ignore"
