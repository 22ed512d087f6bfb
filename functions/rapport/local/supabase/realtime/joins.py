"""A client's request to join a topic: every option is read, or the join is refused."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from rapport.api_keys import is_opaque

MAX_KEY_LENGTH = 256
# Source: Realtime replays at most 25 messages
MAX_REPLAYED = 25
# the last moment that has four digits for its year, in ms since 1970
MAX_SINCE = 253_402_300_799_999
# ms, Source: Realtime's own default and cap of `postgres_changes_options.timeout`
WAIT_MS = 15_000
MAX_WAIT_MS = 20_000

# the fields of a binding; `id` is the server's own answer, which some clients send back
BINDING_KEYS = frozenset({"event", "schema", "table", "filter", "select", "id"})


class InvalidJoinError(ValueError):
    """The payload has an option that is not known or can't be read; the message names it."""


def _boolean(value: object) -> object:
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError("unable to parse, expected boolean")


# true, false, or either as a text
Flag = Annotated[bool, BeforeValidator(_boolean)]


class _Options(BaseModel):
    """Options: null means left out, and an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError("unable to parse, expected a map")  # noqa: TRY004 - pydantic's own kind
        return {key: item for key, item in value.items() if item is not None}


class ReplayConfig(_Options):
    """Stored broadcasts to send after the join: `since` in ms since 1970, the newest `limit`."""

    since: StrictInt = Field(ge=0, le=MAX_SINCE)
    limit: StrictInt = MAX_REPLAYED

    @property
    def count(self) -> int:
        """The limit, within what Realtime allows."""
        return max(1, min(self.limit, MAX_REPLAYED))


class BroadcastConfig(_Options):
    """`self`: also receive own broadcasts; `ack`: get an answer to each.

    `replication_ready`: be told once broadcasts from the database are heard.
    """

    self_: Flag = Field(default=False, alias="self")
    ack: Flag = False
    replication_ready: Flag = False
    replay: ReplayConfig | None = None


class PresenceConfig(_Options):
    """`enabled`: receive presence; `key`: the key of the own presence, if given."""

    enabled: Flag = False
    key: str = Field(default="", max_length=MAX_KEY_LENGTH, coerce_numbers_to_str=True)


class ChangesOptions(_Options):
    """`wait`: answer the join once changes are followed, or refuse it after `timeout` ms."""

    wait: Flag = False
    timeout: StrictInt = Field(default=WAIT_MS, ge=1)

    @property
    def wait_ms(self) -> int:
        return min(self.timeout, MAX_WAIT_MS)


class JoinConfig(_Options):
    """The options of a channel; the bindings stay as the client wrote them."""

    broadcast: BroadcastConfig = BroadcastConfig()
    presence: PresenceConfig = PresenceConfig()
    private: Flag = False
    postgres_changes: tuple[dict[str, JsonValue], ...] = ()
    postgres_changes_options: ChangesOptions = ChangesOptions()

    @field_validator("postgres_changes", mode="before")
    @classmethod
    def _known_bindings(cls, value: object) -> object:
        kept = [each for each in value if each is not None] if isinstance(value, list) else None
        if kept is None or not all(isinstance(each, dict) for each in kept):
            raise ValueError("unable to parse, expected an array of maps")
        for name in (name for binding in kept for name in binding if name not in BINDING_KEYS):
            raise ValueError(f"unknown option {name}")
        return kept


class Join(BaseModel):
    """The payload of `phx_join`."""

    model_config = ConfigDict(frozen=True)

    config: JoinConfig = JoinConfig()
    access_token: StrictStr | None = None
    user_token: StrictStr | None = None

    @classmethod
    def parse(cls, payload: JsonValue) -> Self:
        """Reads a payload. Raises InvalidJoinError.

        Realtime logs an option that it can't read and goes on without it; here the client is told.
        """
        given = {} if payload is None else payload
        if isinstance(given, dict) and given.get("config", {}) is None:
            given = {**given, "config": {}}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidJoinError(_sentence(error)) from error

    def token(self, connection_token: str) -> str:
        """The token to use: the user's own, unless that is a key of the newer kind."""
        token = self.user_token or self.access_token
        return connection_token if token is None or is_opaque(token) else token


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = tuple(str(part) for part in first["loc"])
    problem = _PROBLEMS.get(first["type"], first["msg"].removeprefix("Value error, "))
    if place[:3] == ("config", "broadcast", "replay"):
        name = ".".join(place[3:]) or "replay"
        return f"UnableToReplayMessages: Replay params are not valid ({name}: {problem})"
    return f"InvalidJoinPayload: {'.'.join(place) or 'payload'}: {problem}"


_PROBLEMS = {
    "extra_forbidden": "unknown option",
    "missing": "is missing",
    "model_type": "unable to parse, expected a map",
    "string_type": "unable to parse, expected string",
    "int_type": "unable to parse, expected integer",
}
