"""How the stand-in misbehaves: set over POST /_fake/behaviour, reset with an empty body."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from rapport.local.fakes.faults import FaultyBehaviour, Milliseconds, OrderedFault

Operation = Literal["add_partner", "get_partner", "update_partner", "search"]


class MetakockaRequestFault(OrderedFault):
    """What happens to the next `times` requests for an operation.

    One of: `drop`, `opr_code` (an error of Metakocka's, with HTTP 200), `status` alone (a
    proxy's page of HTML, with 200 as well), or none, when only `delay_ms` and `twice` count.
    """

    on: Operation | Literal["any"] = "any"
    # the request is carried out twice: a partner or an entry exists twice
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
    """All settings. A setting that is left out has its normal value."""

    # every answer comes late by this
    latency_ms: Milliseconds = 0
    # Metakocka is being updated: every request gets an HTML page with status 503 until this is
    # reset
    updating: bool = False
    # a list of one element is sent as the element
    bare_lists: bool = False
    # add_partner creates nothing and returns the mk_id of this partner, as if it had created it
    same_partner: str | None = None
