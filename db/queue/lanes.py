"""Comparing lanes with the steps that they count. Triggers keep them right; this is for what nobody thought of."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.models import Job

OPEN_STEPS = """
    SELECT s.job_id, s.kind, s.attempt > CAST(s.state = 'leased' AS int) AS tried,
           count(*) FILTER (WHERE s.state = 'ready') AS ready,
           count(*) FILTER (WHERE s.state = 'leased') AS leased,
           min(coalesce(s.run_after, 'infinity')) FILTER (WHERE s.state = 'ready') AS due
    FROM (
        SELECT * FROM steps WHERE job_id = ANY(CAST(:jobs AS uuid[])) AND state = 'ready'
        UNION ALL SELECT * FROM steps WHERE job_id = ANY(CAST(:jobs AS uuid[])) AND state = 'leased'
    ) s
    GROUP BY 1, 2, 3
"""

WRONG_QUERY = text(f"""
    SELECT DISTINCT job_id
    FROM ({OPEN_STEPS}) o
    FULL JOIN (
        SELECT * FROM lanes
        -- jobs that follow each other lie side by side in the index
        WHERE job_id BETWEEN :first AND :last AND job_id = ANY(CAST(:jobs AS uuid[]))
    ) l USING (job_id, kind, tried)
    WHERE (o.ready, o.leased) IS DISTINCT FROM (l.ready, l.leased)
       -- it would sleep on beside a step that may run
       OR (l.asleep AND o.due < l.next_at)
""")  # noqa: S608

SOME_JOBS_QUERY = text("""
    SELECT id FROM (
        (SELECT id FROM jobs
         WHERE (status IN ('queued', 'processing') OR deleted_at IS NOT NULL) AND id > :after
         ORDER BY id LIMIT :count)
        UNION
        (SELECT DISTINCT job_id FROM lanes WHERE job_id > :after ORDER BY job_id LIMIT :count)
        UNION
        (SELECT DISTINCT job_id FROM steps WHERE state = 'ready' AND job_id > :after ORDER BY job_id LIMIT :count)
    ) either ORDER BY id LIMIT :count
""")

REMOVE_QUERY = text("DELETE FROM lanes WHERE job_id = ANY(CAST(:jobs AS uuid[]))")

FILL_QUERY = text(f"""
    INSERT INTO lanes (job_id, kind, tried, tenant, pace, ready, leased, served_at, asleep, next_at)
    SELECT o.job_id, o.kind, o.tried, j.tenant, lane_pace(j.priority), o.ready, o.leased, s.served_at,
           coalesce(o.due > now(), true),
           CASE WHEN o.due <= now() THEN s.served_at + lane_pace(j.priority) * (1 + o.leased)
                ELSE coalesce(o.due, 'infinity') END
    FROM ({OPEN_STEPS}) o JOIN jobs j ON j.id = o.job_id
    CROSS JOIN LATERAL (
        SELECT coalesce(max(c.claimed_at), j.created_at) AS served_at FROM steps c
        WHERE c.job_id = o.job_id AND c.kind = o.kind) s
""")  # noqa: S608


def some_jobs(session: Session, count: int) -> Sequence[uuid.UUID]:
    """Jobs to compare: up to ``count`` of those that are active or have lanes, others each time."""
    # ids are random, so that those behind a random one are a fair choice; behind the last comes the first
    found = set(session.scalars(SOME_JOBS_QUERY, {"after": uuid.uuid4(), "count": count}))
    if missing := count - len(found):
        found.update(session.scalars(SOME_JOBS_QUERY, {"after": uuid.UUID(int=0), "count": missing}))
    return list(found)


def wrong(session: Session, jobs: Sequence[uuid.UUID]) -> Sequence[uuid.UUID]:
    """Those of the jobs whose lanes differ from their open steps."""
    if not jobs:
        return []
    return session.scalars(WRONG_QUERY, {"jobs": list(jobs), "first": min(jobs), "last": max(jobs)}).all()


def repair(session: Session, job_id: uuid.UUID) -> bool:
    """Make the lanes of a job anew if they are wrong, under its lock. Returns whether they were."""
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update(key_share=True))
    # claims lock lanes, and not the job: no step is claimed meanwhile
    session.execute(
        text("SELECT kind FROM lanes WHERE job_id = :job ORDER BY kind, tried FOR UPDATE"), {"job": job_id}
    )
    if not wrong(session, [job_id]):
        return False
    session.execute(REMOVE_QUERY, {"jobs": [job_id]})
    session.execute(FILL_QUERY, {"jobs": [job_id]})
    return True
