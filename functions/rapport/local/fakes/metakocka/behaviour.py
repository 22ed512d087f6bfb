"""How the stand-in misbehaves: set over POST /_fake/behaviour, forgotten with an empty body."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Milliseconds = Annotated[int, Field(ge=0, le=120_000)]
Operation = Literal["add_partner", "get_partner", "update_partner", "search"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Fault(_Model):
    """What happens to the next `times` requests for an operation.

    One of: `drop` (the connection is closed without an answer), `opr_code` (an error of
    Metakocka's, with HTTP 200), `status` alone (a proxy's page of HTML, with 200 as well), or
    none, when only `delay_ms` and `twice` count.
    """

    on: Operation | Literal["any"] = "any"
    times: Annotated[int, Field(ge=1, le=100_000)] = 1
    # so many requests for the operation pass before it begins
    after: Annotated[int, Field(ge=0, le=100_000)] = 0
    # the request is carried out, whatever its client is told
    after_accepting: bool = False
    # the request is carried out once more: a partner or an entry is there twice
    twice: bool = False
    # the answer comes late by this
    delay_ms: Milliseconds = 0
    drop: bool = False
    opr_code: str | None = None
    opr_desc: str = "Set by POST /_fake/behaviour."
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    # seconds
    retry_after: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_one_fault(self) -> Self:
        if self.drop + (self.opr_code is not None) + (self.status is not None) > 1:
            raise ValueError("a request fails in one way: drop, opr_code or status")
        return self

    @property
    def answers_otherwise(self) -> bool:
        return self.drop or self.opr_code is not None or self.status is not None


class Behaviour(_Model):
    """All of it. What is left out is as it should be."""

    # in turn: the first that is about the operation and has some `times` left
    faults: list[Fault] = Field(default_factory=list)
    # every answer takes as long
    latency_ms: Milliseconds = 0
    # Metakocka is being updated: until this is taken back every request gets a page and a 503
    updating: bool = False
    # a list of one comes as its element
    bare_lists: bool = False
    # add_partner makes nothing and answers the mk_id of this partner, as if it had made it
    same_partner: str | None = None

    def take(self, operation: str) -> Fault | None:
        """The fault that this request meets, which is then one fewer."""
        for fault in self.faults:
            if fault.on not in (operation, "any"):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times == 0:
                self.faults.remove(fault)
            return fault
        return None
