"""How a deployment is set up, as the database tells it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from rapport.store.postgrest import Store, understood


class _Row(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class Migration(_Row):
    """A migration that was applied; the digest is of its text without spaces and semicolons."""

    version: str
    name: str | None = None
    digest: str | None = None


class Slot(_Row):
    """A replication slot of the database."""

    name: str
    plugin: str | None
    is_active: bool
    # reserved and extended are good, unreserved and lost are not
    wal_status: str | None
    lag_bytes: int | None


class Policy(_Row):
    """A policy on realtime.messages."""

    name: str
    is_permissive: bool


class Publication(_Row):
    """What a publication tells of."""

    operations: list[str]


class RealtimeState(_Row):
    """What Realtime needs in the database."""

    publication: Publication | None
    unpublished: list[str]
    policies: list[Policy]
    is_guarded: bool | None
    has_todays_partition: bool
    slots: list[Slot]


class Guards(_Row):
    """What protects the tables."""

    pre_request: str | None
    disabled_triggers: list[str]
    unguarded: list[str]
    open_to_anon: list[str]


class Answers(_Row):
    """Requests of the last hour that ended alike: with a status, or without an answer."""

    result: str
    count: int
    latest_at: datetime


class Requests(_Row):
    """What pg_net has to do and has done."""

    # null: the extension is not there, and something else makes the requests
    version: str | None
    waiting: int
    answers: list[Answers]


class RegisteredNumber(_Row):
    """A WhatsApp number of an account."""

    account: str
    phone_number_id: str
    waba_id: str | None
    display_phone_number: str
    stopped_reason: str | None
    templates: int
    templates_read_at: datetime | None


class ConnectedCompany(_Row):
    """A company at Metakocka with which an account is synchronized."""

    account_id: UUID
    account: str
    company_id: str
    pause_reason: str | None


class Queue(_Row):
    """What of a queue is due, and for how long the oldest has been."""

    count: int
    oldest_seconds: int


class Webhooks(_Row):
    """Webhooks of the last day; `latest_at` is of all."""

    latest_at: datetime | None
    rejected: int
    refused_signatures: int
    # whether one with a good signature has come since the first of those
    taken_since_refused: bool


class Deployment(_Row):
    """All that the database knows about the deployment."""

    now: datetime
    # the schema's version
    release: str
    postgres: str
    migrations: list[Migration] | None
    realtime: RealtimeState
    guards: Guards
    net: Requests | None
    cron: str | None
    doorbell_url: str | None
    push_key: str | None
    push_subscriptions: int
    accounts: int
    accounts_without_owner: list[str]
    numbers: list[RegisteredNumber]
    companies: list[ConnectedCompany]
    queues: dict[str, Queue]
    webhooks: Webhooks


class DoorbellAnswer(_Row):
    """What became of a ring."""

    status: int | None
    is_late: bool
    error: str | None


class DeploymentStore(Store):
    """Each call may be repeated, and raises as `Store` says."""

    def deployment(self) -> Deployment:
        """How this deployment is set up and what waits in it."""
        return understood(Deployment, self._call("deployment", {}))

    def try_doorbell(self) -> int | None:
        """Rings; returns the request's id, or None without a doorbell or pg_net."""
        answer = self._call("try_doorbell", {})
        return None if answer is None else understood(int, answer)

    def doorbell_answer(self, request_id: int) -> DoorbellAnswer | None:
        """What became of a ring; None as long as that is not known."""
        answer = self._call("doorbell_answer", {"request_id": request_id})
        return None if answer is None else understood(DoorbellAnswer, answer)

    def try_broadcast(self, nonce: UUID) -> None:
        """Broadcasts once to the private topic check:<nonce>."""
        self._call("try_broadcast", {"nonce": str(nonce)})

    def forget_broadcast(self, nonce: UUID) -> None:
        """Deletes what try_broadcast has stored."""
        self._call("forget_broadcast", {"nonce": str(nonce)})
