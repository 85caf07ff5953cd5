"""Deliveries: claim one, send it with no transaction open, commit what became of it.

Whoever dies between sending and committing leaves a lease that runs out: the same message is sent once more, under
the same id.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func

from db.access import audit
from db.logs import log_event
from db.models import DeliveryState, Webhook, WebhookEvent
from db.secrets import SecretsLocked
from db.telemetry import metrics
from db.webhooks import deliveries, signing, subscriptions
from db.webhooks.deliveries import DeliveryClaim
from db.webhooks.outbox import DELIVER
from tasks.errors import INFRASTRUCTURE
from tasks.runtime import Runtime
from tasks.webhooks.request import Answer, send

logger = logging.getLogger(__name__)

DELAYS = (5.0, 300.0, 1800.0, 2 * 3600.0, 5 * 3600.0, 10 * 3600.0, 10 * 3600.0)
"""Seconds after an attempt until the next: eight attempts in 28 hours."""

JITTER = 0.1
"""Part of a delay by which it is longer or shorter, so that what failed together does not come back together."""

LONGEST_DELAY = 24 * 3600.0
"""However much later a receiver asks to be tried again."""

LEASE_MARGIN_SECONDS = 30.0
"""Of a lease beyond the time of a request: for looking up its host, and to commit."""

GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt means for the delivery, and for its webhook."""

    answer: Answer
    state: DeliveryState
    delay: float | None = None
    """Seconds until the next attempt, if there is one."""
    is_receivers_fault: bool = True


def run(runtime: Runtime) -> int:
    """Deliver what is due, one by one, until nothing is or the process is told to stop. Returns how many."""
    count = 0
    while not runtime.claims.is_stopped:
        claim = deliveries.claim(runtime.sessions, runtime.settings.webhook_seconds + LEASE_MARGIN_SECONDS)
        if claim is None:
            break
        deliver(runtime, claim)
        count += 1
    return count


def deliver(runtime: Runtime, claim: DeliveryClaim) -> None:
    """Make one attempt, and commit what became of it."""
    at, started = datetime.now(UTC), time.monotonic()
    outcome = attempt(runtime, claim)
    seconds = time.monotonic() - started
    metrics.delivery_seconds.observe(seconds)
    metrics.deliveries.labels("retried" if outcome.state == DeliveryState.WAITING else outcome.state).inc()
    log_event(
        f"delivery {claim.id}: {outcome.state}",
        seconds,
        tenant=claim.tenant,
        step=DELIVER,
        attempt=claim.attempt,
        outcome=outcome.state,
        status=outcome.answer.status,
    )
    try:
        _commit(runtime, claim, outcome, at, seconds)
    except INFRASTRUCTURE as error:
        logger.warning("delivery %s will be sent again, as what became of it is not noted: %s", claim.id, error)


def attempt(runtime: Runtime, claim: DeliveryClaim) -> Outcome:
    if claim.is_disabled:
        return Outcome(Answer(error="the webhook is disabled"), DeliveryState.FAILED, is_receivers_fault=False)
    if claim.attempt > len(DELAYS) + 1:
        return Outcome(Answer(error="its workers died"), DeliveryState.FAILED, is_receivers_fault=False)
    with runtime.sessions() as session:
        sealed = signing.sealed(session, claim.tenant, claim.webhook_id)
    try:
        secrets = [runtime.secrets.open(secret).decode() for secret in sealed]
    except SecretsLocked:
        logger.error("delivery %s: LONGHAND_SECRET_KEY of this worker does not open its secret", claim.id)
        secrets = []
    if not secrets:
        return _outcome(claim, Answer(error="this server has no secret to sign with"), is_receivers_fault=False)
    return _outcome(claim, send(claim.url, claim.id, claim.body, secrets, runtime.settings))


def _outcome(claim: DeliveryClaim, answer: Answer, *, is_receivers_fault: bool = True) -> Outcome:
    if answer.is_success:
        return Outcome(answer, DeliveryState.DELIVERED)
    is_final = answer.status == GONE or answer.is_refused or claim.type == WebhookEvent.TEST
    if is_final or claim.attempt > len(DELAYS):
        return Outcome(answer, DeliveryState.FAILED, is_receivers_fault=is_receivers_fault)
    delay = DELAYS[claim.attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  (jitter)
    delay = min(max(delay, answer.retry_after or 0.0), LONGEST_DELAY)
    return Outcome(answer, DeliveryState.WAITING, delay, is_receivers_fault=is_receivers_fault)


def _commit(runtime: Runtime, claim: DeliveryClaim, outcome: Outcome, at: datetime, seconds: float) -> None:
    answer = outcome.answer
    noted = {
        "at": at.isoformat(),
        "status": answer.status,
        "error": answer.error,
        "seconds": round(seconds, 3),
        "answer": answer.text,
    }
    with runtime.sessions.begin() as session:
        webhook = None
        if claim.webhook_id is not None:
            # before the delivery, as who deletes it locks them in this order
            webhook = subscriptions.get(session, claim.tenant, claim.webhook_id, lock=True)
        if not deliveries.finish(session, claim, noted, outcome.state, outcome.delay):
            logger.info("discarded: delivery %s is no longer ours", claim.id)
            return
        reason = (
            None if webhook is None else _judge(webhook, claim, outcome, runtime.settings.webhook_failing_days)
        )
        if reason is not None:
            audit.note(session, claim.tenant, "webhooks", f"disable webhook: {reason}", claim.webhook_id)
    if reason is not None:
        logger.warning("webhook %s is disabled: %s", claim.webhook_id, reason)
    logger.info("delivery %s, attempt %d: %s", claim.id, claim.attempt, answer.status or answer.error)


def _judge(webhook: Webhook, claim: DeliveryClaim, outcome: Outcome, failing_days: float) -> str | None:
    """Note how the receiver is, and disable what is of no use any more. Returns the reason, if it is."""
    if outcome.state == DeliveryState.DELIVERED:
        webhook.failing_since = None
        return None
    if webhook.disabled_at is not None or not outcome.is_receivers_fault:
        return None
    if outcome.answer.status == GONE:
        subscriptions.disable(webhook, "gone")
        return "gone"
    if claim.type == WebhookEvent.TEST:
        return None
    if webhook.failing_since is None:
        webhook.failing_since = func.now()
        return None
    # one that came back in between and hiccups once is not given up: it takes a delivery that spent its attempts
    is_old = webhook.failing_since < datetime.now(UTC) - timedelta(days=failing_days)
    if is_old and outcome.state == DeliveryState.FAILED:
        subscriptions.disable(webhook, "failing")
        return "failing"
    return None
