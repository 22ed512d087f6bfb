"""How the stand-in misbehaves: set over POST /_fake/behaviour, forgotten with an empty body."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from rapport.local.fakes.faults import Fault, FaultyBehaviour, Milliseconds

Operation = Literal["add_partner", "get_partner", "update_partner", "search"]


class MetakockaRequestFault(Fault):
    """What happens to the next `times` requests for an operation.

    One of: `drop`, `opr_code` (an error of Metakocka's, with HTTP 200), `status` alone (a
    proxy's page of HTML, with 200 as well), or none, when only `delay_ms` and `twice` count.
    """

    on: Operation | Literal["any"] = "any"
    # the request is carried out once more: a partner or an entry is there twice
    twice: bool = False
    opr_code: str | None = None
    opr_desc: str = "Set by POST /_fake/behaviour."

    @model_validator(mode="after")
    def _is_one_fault(self) -> Self:
        if self.drop + (self.opr_code is not None) + (self.status is not None) > 1:
            raise ValueError("a request fails in one way: drop, opr_code or status")
        return self

    @property
    def answers_otherwise(self) -> bool:
        return super().answers_otherwise or self.opr_code is not None


class MetakockaBehaviour(FaultyBehaviour[MetakockaRequestFault]):
    """All of the behaviour. What is left out is as it should be."""

    # every answer takes as long
    latency_ms: Milliseconds = 0
    # Metakocka is being updated: until this is taken back every request gets a page and a 503
    updating: bool = False
    # a list of one comes as its element
    bare_lists: bool = False
    # add_partner makes nothing and answers the mk_id of this partner, as if it had made it
    same_partner: str | None = None
