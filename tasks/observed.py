"""What is told of steps: their spans, metrics and log lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from db.logs import about, log_event
from db.queue.claims import Claim
from db.telemetry import metrics, tracing


class Outcome(StrEnum):
    """How an attempt at a step ended."""

    DONE = "done"
    RETRIED = "retried"
    """It failed, and is tried again."""
    OUTAGE = "outage"
    """The same, as a server below was away."""
    HANDED_BACK = "handed_back"
    """It was not at fault, and runs again."""
    DEAD = "dead"
    """No attempt is left."""
    REFUSED = "refused"
    """What was asked for is at fault, which no attempt changes: who asked is told by a code."""
    LOST = "lost"
    """Another worker has the step, or nobody needs it."""
    LEFT = "left"
    """What became of it could not be noted: its lease runs out."""


@dataclass(slots=True)
class Attempt:
    """One claim under way."""

    claim: Claim
    span: Span
    began: float
    """In monotonic seconds."""


@dataclass(slots=True)
class Ending:
    """What an attempt came to."""

    outcome: Outcome = Outcome.LEFT
    error: str | None = None
    """The kind of what failed."""
    audio: Mapping[str, Any] | None = None
    """What it has processed (``db.access.usage``)."""


@contextmanager
def observed(claims: Sequence[Claim], most: int) -> Iterator[list[Attempt]]:
    """The attempts at claimed steps, of which there could have been ``most``.

    Each has a span in the trace of its job. What the work asks of servers is below the first one, and the others
    link to it.
    """
    first, *_ = claims
    if most > 1:
        metrics.batch_chunks.labels(first.kind).observe(len(claims))
        metrics.batch_fill.labels(first.kind).observe(min(1.0, len(claims) / most))
    attempts: list[Attempt] = []
    links: list[Link] = []
    for claim in claims:
        span = tracing.tracer.start_span(
            f"{claim.kind} step",
            tracing.context_of(claim.trace),
            SpanKind.CONSUMER,
            _described(claim),
            links,
        )
        links = links or tracing.link_to(span)
        attempts.append(Attempt(claim, span, time.monotonic()))
    alone = _own(first) if len(claims) == 1 else {}
    with trace.use_span(attempts[0].span), about(step=first.kind, **alone):
        yield attempts


def _described(claim: Claim) -> dict[str, str | int]:
    """The attributes of its spans."""
    found: dict[str, str | int] = {"job_id": str(claim.job_id), "step": claim.id, "attempt": claim.attempt}
    return found if claim.chunk is None else found | {"chunk": claim.chunk}


def _own(claim: Claim) -> dict[str, Any]:
    return {"job_id": str(claim.job_id), "tenant": claim.tenant, "attempt": claim.attempt}


@contextmanager
def ending(attempt: Attempt) -> Iterator[None]:
    """What is done in the block is the end of the attempt, and so are its log lines about that step alone."""
    with trace.use_span(attempt.span, end_on_exit=True), about(**_own(attempt.claim)):
        yield


def tell(attempt: Attempt, end: Ending) -> None:
    """Tell of the attempt what it came to."""
    claim, seconds = attempt.claim, time.monotonic() - attempt.began
    engine = (end.audio or {}).get("engine") or ""
    metrics.observe(metrics.step_seconds.labels(claim.kind, engine), seconds)
    _count(claim, end.outcome)
    if end.audio:
        metrics.audio_seconds.labels(claim.kind, engine).inc(end.audio.get("seconds", 0.0))
    attempt.span.set_attribute("outcome", end.outcome)
    if end.outcome != Outcome.DONE:
        attempt.span.add_event(end.outcome, {"error": end.error} if end.error else None)
    if end.outcome in (Outcome.RETRIED, Outcome.OUTAGE, Outcome.DEAD):
        attempt.span.set_status(StatusCode.ERROR)
    log_event(f"{claim.kind} step {claim.id}: {end.outcome}", seconds, outcome=end.outcome, chunk=claim.chunk)


def expired(claim: Claim, outcome: Outcome) -> None:
    """Tell of an attempt whose worker cannot, as it went silent."""
    metrics.leases_expired.labels(claim.kind).inc()
    _count(claim, outcome)
    tracing.tracer.start_span(
        f"{claim.kind} lease expired",
        tracing.context_of(claim.trace),
        SpanKind.CONSUMER,
        _described(claim) | {"outcome": outcome},
    ).end()


def _count(claim: Claim, outcome: Outcome) -> None:
    metrics.steps.labels(claim.kind, outcome).inc()
    counter = {
        Outcome.RETRIED: metrics.step_retries,
        Outcome.OUTAGE: metrics.outage_attempts,
        Outcome.DEAD: metrics.dead_steps,
        Outcome.LOST: metrics.leases_lost,
    }.get(outcome)
    if counter is not None:
        counter.labels(claim.kind).inc()
