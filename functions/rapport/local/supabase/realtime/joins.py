"""A client's request to join a topic."""

from __future__ import annotations

from pydantic import BaseModel, Field, JsonValue, ValidationError

from rapport.api_keys import is_opaque

MAX_KEY_LENGTH = 256


class BroadcastConfig(BaseModel):
    """`self`: also receive own broadcasts; `ack`: get an answer to each."""

    self_: bool = Field(default=False, alias="self")
    ack: bool = False


class PresenceConfig(BaseModel):
    """`enabled`: receive presence; `key`: the key of the own presence, if given."""

    enabled: bool = False
    key: str = Field(default="", max_length=MAX_KEY_LENGTH, coerce_numbers_to_str=True)


class JoinConfig(BaseModel):
    """The options of a channel; the bindings stay as the client wrote them."""

    broadcast: BroadcastConfig | None = None
    presence: PresenceConfig | None = None
    private: bool = False
    postgres_changes: list[dict[str, JsonValue]] | None = None


class Join(BaseModel):
    """The payload of `phx_join`."""

    config: JoinConfig = JoinConfig()
    access_token: str | None = None
    user_token: str | None = None

    @classmethod
    def parse(cls, payload: JsonValue) -> Join:
        """Reads a payload; a malformed part counts as left out.

        Source: Realtime logs such a join and goes on.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            if not isinstance(payload, dict):
                return cls()
            return cls.parse(_without(payload, {entry["loc"] for entry in error.errors()}))

    def token(self, connection_token: str) -> str:
        """The token to use: the user's own, unless that is a key of the newer kind."""
        token = self.user_token or self.access_token
        return connection_token if token is None or is_opaque(token) else token


def _without(
    value: dict[str, JsonValue], locations: set[tuple[int | str, ...]]
) -> dict[str, JsonValue]:
    kept: dict[str, JsonValue] = {}
    for key, item in value.items():
        inner = {location[1:] for location in locations if location[0] == key}
        if not inner:
            kept[key] = item
        elif isinstance(item, dict) and () not in inner:
            kept[key] = _without(item, inner)
    return kept
