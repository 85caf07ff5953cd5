"""How fast the queue goes, and what work costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

LATEST_STEPS = 20_000
"""How many of the newest steps tell how fast the queue goes: reading these takes some 20 ms."""

LATEST_JOBS = 200
"""How many of the latest recordings tell what work costs."""

PACE = timedelta(minutes=5)
"""Over which the pace is measured."""

PACES = text("""
    SELECT CAST(kind AS text), count(*) / extract(epoch FROM now() - min(claimed_at))
    FROM (SELECT kind, state, claimed_at, finished_at FROM steps ORDER BY id DESC LIMIT :latest) newest
    WHERE state = 'done' AND finished_at > now() - CAST(:pace AS interval) AND claimed_at < now()
    GROUP BY kind
""")

# Steps that a worker has run side by side, or in one batch, cost it their time once.
WORK = text("""
    WITH recorded AS (
        SELECT id, duration FROM jobs
        WHERE status = 'completed' AND purpose = 'recording' AND duration > 0 AND deleted_at IS NULL
          AND id IN (SELECT job_id FROM (SELECT job_id, kind FROM steps ORDER BY id DESC LIMIT :latest) newest
                     WHERE kind = 'finalize')
        ORDER BY completed_at DESC LIMIT :jobs
    ), spans AS (
        SELECT queue, worker, range_agg(tstzrange(claimed_at, finished_at)) AS busy
        FROM recorded JOIN steps ON job_id = recorded.id
        JOIN unnest(CAST(:kinds AS text[]), CAST(:queues AS text[])) AS of (kind, queue)
          ON of.kind = CAST(steps.kind AS text)
        WHERE steps.state = 'done' AND finished_at >= claimed_at
        GROUP BY queue, worker
    )
    SELECT queue, sum(extract(epoch FROM upper(span) - lower(span))), (SELECT sum(duration) FROM recorded)
    FROM spans, unnest(busy) AS span GROUP BY queue
""")


@dataclass(frozen=True, slots=True)
class Work:
    """What the latest recordings have cost."""

    audio_seconds: float
    """Of these recordings; 0 where there is none yet."""
    of_queue: Mapping[str, float]
    """Seconds of one worker for a second of audio, by queue."""


def paces(session: Session) -> dict[str, float]:
    """Steps a second, by kind, since the first of those began that ended in the last minutes."""
    rows = session.execute(PACES, {"latest": LATEST_STEPS, "pace": PACE})
    return {kind: float(pace) for kind, pace in rows}


def work(session: Session, queues: Mapping[str, str]) -> Work:
    """What the latest recordings have cost workers of each queue. ``queues``: of each kind of step."""
    parameters = {
        "latest": LATEST_STEPS,
        "jobs": LATEST_JOBS,
        "kinds": [*map(str, queues)],
        "queues": [*queues.values()],
    }
    audio, of_queue = 0.0, {}
    for queue, busy, audio in session.execute(WORK, parameters):
        of_queue[queue] = float(busy) / float(audio)
    return Work(float(audio), of_queue)
