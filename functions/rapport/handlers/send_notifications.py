"""Tells users on their devices: woken by the database, and every minute by schedule."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache

from rapport.errors import ConfigError, RapportError
from rapport.log import WorkerContext, about, correlated, described, logger, worker
from rapport.push.sender import EXCHANGE, PushSender
from rapport.push.vapid import Vapid
from rapport.settings import PushSettings, StoreSettings
from rapport.store.notifications import PushJob, PushStore

BATCH = 20
AT_ONCE = 10
# seconds: a notification that is due so soon is waited for
PATIENCE = 10.0
# seconds to leave: for the slowest exchanges of a batch, and to note what became of them
RESERVE = EXCHANGE * (BATCH / AT_ONCE) + 10


@cache
def _store() -> PushStore:
    return PushStore(StoreSettings.load())


@cache
def _settings() -> PushSettings:
    return PushSettings.load()


@cache
def _vapid() -> Vapid | None:
    """Who we are to push services; None where no key is set."""
    settings = _settings()
    if settings.vapid_private_key is None:
        return None
    if settings.vapid_contact is None:
        raise ConfigError(
            "VAPID_CONTACT is not set: give the address at which push services reach the people"
            " who run this, as mailto:… or https://…, in the function's environment."
        )
    try:
        return Vapid(settings.vapid_private_key.get_secret_value(), settings.vapid_contact)
    except ValueError:
        # not chained: the error may quote the key
        raise ConfigError(
            "VAPID_PRIVATE_KEY: it is no private key of 32 bytes in base64url. Make one as the"
            " README says, and set it in the function's environment."
        ) from None


@cache
def _sender(vapid: Vapid) -> PushSender:
    return PushSender(vapid, allows_loopback=_settings().push_allows_loopback)


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Pushes until nothing is due soon or the time is up; returns the number by what followed."""
    vapid = _vapid()
    if vapid is None:
        return {}
    # created here, otherwise each thread would create its own
    store, sender, name = _store(), _sender(vapid), context.aws_request_id
    # for browsers that subscribe; in each run, since a database may have been restored
    store.set_push_key(vapid.public_key, allows_loopback=_settings().push_allows_loopback)
    ends: Counter[str] = Counter()

    def push(job: PushJob) -> str:
        with correlated(str(job.push_id)):
            # the subject of a message is its conversation
            about(push_id=job.push_id, account_id=job.account_id, subject_id=job.subject_id)
            about(kind=job.kind, attempt=name)
            outcome = sender.send(job)
            try:
                end = store.settle_push(job.push_id, name, outcome.outcome, outcome.retry_after)
            except RapportError as error:
                # when its lease ends it is sent again, which does no harm
                logger.error("not settled", extra=described(error))
                return "not settled"
            if outcome.outcome != "sent":
                logger.warning("not pushed", reason=outcome.reason, follows=end)
        return end

    with ThreadPoolExecutor(AT_ONCE) as pool:
        while context.get_remaining_time_in_millis() / 1000 > RESERVE:
            claim = store.claim_pushes(name, BATCH)
            ends.update(pool.map(push, claim.claimed))
            if not claim.claimed:
                pause = _pause(claim.next_at)
                if pause is None:
                    break
                time.sleep(pause)
    if ends:
        logger.info("pushed", ends=dict(ends))
    return dict(ends)


def _pause(next_at: datetime | None) -> float | None:
    """How long to wait for the next one; None where the schedule is soon enough."""
    if next_at is None:
        return None
    ahead = (next_at - datetime.now(UTC)).total_seconds()
    return max(ahead, 0.1) if ahead <= PATIENCE else None
