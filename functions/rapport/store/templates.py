"""WhatsApp's templates as they are kept in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, JsonValue

from rapport.store.postgrest import Store, understood


class _Row(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class Template(_Row):
    """A template as WhatsApp lists it, with the names of its variables."""

    name: str
    language: str
    category: str
    status: str
    components: list[dict[str, JsonValue]]
    variables: dict[str, list[str]]


class TemplateOwner(_Row):
    """A WhatsApp Business account, and our numbers in it: any one's token may list templates."""

    waba_id: str
    phone_number_ids: list[str]


class TemplateSync(_Row):
    """How many templates were listed and how many are gone, counted once for each account."""

    listed: int
    gone: int


class TemplateStore(Store):
    """The accounts whose templates are read, and the result; each call raises as `Store` says."""

    def template_owners(self) -> list[TemplateOwner]:
        """The WhatsApp Business accounts whose templates are to be read."""
        return understood(list[TemplateOwner], self._call("template_owners", {}))

    def apply_templates(
        self, waba_id: str, templates: Sequence[Template], read_at: datetime
    ) -> TemplateSync:
        """Writes all templates of a WhatsApp Business account; those not given are gone.

        They are as WhatsApp had them at `read_at`: news from webhooks since then stays.
        """
        answer = self._call(
            "apply_templates",
            {
                "waba_id": waba_id,
                "templates": [template.model_dump(mode="json") for template in templates],
                "read_at": read_at.isoformat(),
            },
        )
        return understood(TemplateSync, answer)
