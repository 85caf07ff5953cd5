"""Claiming: leasing ready steps to a worker, in fair order.

The claim commits the attempt before the work starts, so an attempt that kills its worker counts.
The fence tells a worker that lost its lease from the one that holds it now.

A claim looks at the first few lanes (``db.models.Lane``), however many jobs wait. It passes over what another
claim holds locked, and waits for that only where there is nothing else.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from psycopg.errors import LockNotAvailable
from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import Job, Json, Step, StepKind
from db.session import Sessions, autocommit
from db.settings import Settings

SPARE_LANES = 8
"""Lanes looked at beyond those that are needed, as other claims may hold the first ones."""

FRONT_LANES = (64, 1024)
"""Lanes among which tenants that have room are looked for, before all tenants are asked."""

FOUND_TENANTS = 32
"""That have room, after which no more of all tenants are asked; the next time it goes on behind them."""

_asked_until: defaultdict[str, str] = defaultdict(str)
"""The last tenant that was found so, by kind."""

MOST_ROUNDS = 6
"""Tries of one claim where lanes turn out to have nothing to claim; each looks at four times as many lanes."""

HAS_SHARES = "SELECT EXISTS (SELECT FROM tenants WHERE steps_at_once IS NOT NULL)"


def first_lanes(of: str, where: str, limit: int | str, kind: str = ":kind") -> str:
    """By their place in the order: of those that are awake, and of those whose time to wake up has come."""
    return f"""
    SELECT c.* FROM (VALUES (false, false), (false, true), (true, false), (true, true)) b (tried, asleep)
    {of}
    CROSS JOIN LATERAL (
        SELECT l.job_id, l.tried, l.tenant, l.served_at + l.pace * (1 + l.leased) AS turn FROM lanes l
        WHERE l.kind = {kind} AND l.ready > 0 AND l.tried = b.tried AND l.asleep = b.asleep
          AND l.next_at <= CASE WHEN b.asleep THEN now() ELSE 'infinity' END AND {where}
        ORDER BY l.next_at LIMIT {limit}
    ) c
    WHERE NOT b.tried OR :retries
    """  # noqa: S608


OF_ALL = "", f"NOT ({HAS_SHARES})"

# A tenant gets no more than its row or the settings say, counted over its leased steps.
ROOMS = """
    shares AS (
        -- no join: tenants are to come in their order, and no more than are asked for
        SELECT w.tenant, coalesce((SELECT t.steps_at_once FROM tenants t WHERE t.name = w.tenant),
                                  (CAST(:limits AS jsonb) ->> w.tenant)::int,
                                  (CAST(:limits AS jsonb) ->> '*')::int) AS most
        FROM waiting w WHERE w.tenant IS NOT NULL
    ), rooms AS MATERIALIZED (
        SELECT s.tenant, CASE WHEN s.most IS NOT NULL THEN s.most - (
            SELECT coalesce(sum(l.leased), 0) FROM lanes l
            WHERE l.kind = :kind AND l.tenant = s.tenant AND l.leased > 0) END AS room
        FROM shares s
    )
"""

WITH_ROOM = "CROSS JOIN (SELECT tenant FROM rooms WHERE coalesce(room, 1) > 0) r", "l.tenant = r.tenant"
GIVEN_TENANTS = f"waiting (tenant) AS (SELECT unnest(CAST(:tenants AS text[]))), {ROOMS},"

# They are locked where they have a share, since of two workers that count at once both would take its last place.
LOCK_TENANTS = """
    SELECT tenant, {until} AS until FROM next
    WHERE CASE WHEN room IS NULL THEN true WHEN :patient THEN pg_advisory_xact_lock(lock)::text IS NOT NULL
          ELSE pg_try_advisory_xact_lock(lock) END
    LIMIT :tenants_at_once
"""

# Most often some of those who have room are among the first lanes of all.
LOCK_FIRST_TENANTS_QUERIES = [
    text(
        f"""
        WITH front AS MATERIALIZED ({first_lanes("", "true", lanes)}), waiting AS (
            SELECT tenant, min(turn) AS turn FROM front GROUP BY tenant
        ), {ROOMS}, next AS MATERIALIZED (
            SELECT w.tenant, r.room, hashtext(:lock || w.tenant) AS lock
            FROM waiting w JOIN rooms r ON r.tenant = w.tenant
            WHERE coalesce(r.room, 1) > 0 ORDER BY w.turn
        ) {LOCK_TENANTS.format(until="''")}
        """  # noqa: S608
    )
    for lanes in FRONT_LANES
]

# Where others are in their way, they are found one by one in the index, some at a time: a tenant with a hundred
# thousand jobs costs no more than one with one.
LOCK_TENANTS_QUERY = text(
    f"""
    WITH RECURSIVE waiting (tenant) AS (
        (SELECT tenant FROM lanes WHERE kind = :kind AND ready > 0 AND tenant > :after ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT l.tenant FROM lanes l WHERE l.kind = :kind AND l.ready > 0 AND l.tenant > w.tenant
                ORDER BY l.tenant LIMIT 1)
        FROM waiting w WHERE w.tenant IS NOT NULL
    ), {ROOMS}, free AS MATERIALIZED (
        SELECT r.tenant, r.room, c.turn
        FROM rooms r CROSS JOIN LATERAL (
            SELECT min(f.turn) AS turn FROM ({first_lanes("", "l.tenant = r.tenant", limit=1)}) f) c
        -- others may only sleep, and would be found again and again
        WHERE coalesce(r.room, 1) > 0 AND c.turn IS NOT NULL LIMIT {FOUND_TENANTS}
    ), next AS MATERIALIZED (
        SELECT tenant, room, hashtext(:lock || tenant) AS lock FROM free ORDER BY turn
    ) {LOCK_TENANTS.format(until=f"(SELECT max(tenant) FROM free HAVING count(*) = {FOUND_TENANTS})")}
    """  # noqa: S608
)

LANE = """
    SELECT l.job_id, l.tried, l.tenant, l.pace, l.served_at + l.pace * (1 + l.leased) AS turn FROM lanes l
    WHERE l.job_id = f.job_id AND l.kind = :kind AND l.tried = f.tried AND l.ready > 0 FOR UPDATE
"""

# A step's turn is that of its lane, and later by its place in there: ten hours of audio never starve one minute.
# Rows are locked one by one in their order, until there are enough.
CLAIM = """
    WITH {tenants} first AS ({first}), locked AS MATERIALIZED (
        SELECT l.* FROM (SELECT * FROM first ORDER BY turn) f CROSS JOIN LATERAL ({lane} SKIP LOCKED) l
        LIMIT {lanes}
    ), ranked AS (
        SELECT s.id, l.tried, l.tenant, l.turn + l.pace * (s.place - 1) AS turn
        FROM locked l CROSS JOIN LATERAL (
            SELECT q.id, row_number() OVER (ORDER BY q.chunk) AS place FROM (
                SELECT r.id, r.chunk FROM steps r
                WHERE r.job_id = l.job_id AND r.kind = :kind AND r.state = 'ready' AND r.run_after <= now()
                  AND (r.attempt > 0) = l.tried
                ORDER BY r.chunk LIMIT {depth}) q) s
    ), allowed AS ({allowed}), chosen AS MATERIALIZED (
        SELECT s.id, a.tried, a.turn FROM (SELECT * FROM allowed ORDER BY turn) a CROSS JOIN LATERAL (
            SELECT r.id FROM steps r
            WHERE r.id = a.id AND r.state = 'ready' AND r.run_after <= now() FOR UPDATE SKIP LOCKED) s
        LIMIT {limit}
    ), leased AS (
        UPDATE steps SET
            state = 'leased', attempt = attempt + 1, fence = nextval('step_fence'), worker = :worker,
            claimed_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => :lease)
        FROM chosen c
        WHERE steps.id = c.id
          -- one that has failed before is claimed alone
          AND CASE WHEN (SELECT tried FROM chosen ORDER BY turn LIMIT 1)
              THEN c.id = (SELECT id FROM chosen ORDER BY turn LIMIT 1) ELSE NOT c.tried END
        RETURNING steps.id, steps.job_id, steps.chunk, steps.attempt, steps.fence, steps.outages, c.tried, c.turn
    )
    SELECT s.shared, EXISTS (SELECT FROM first) AS waiting,
           l.job_id, l.tried, l.tenant, c.id, c.chunk, c.attempt, c.fence, c.outages, j.trace
    FROM ({shared}) s (shared) LEFT JOIN locked l ON true
    LEFT JOIN leased c ON c.job_id = l.job_id AND c.tried = l.tried
    LEFT JOIN jobs j ON j.id = c.job_id
    ORDER BY c.turn
"""

WITHIN_ROOM = """
    SELECT p.id, p.tried, p.turn
    FROM (SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY turn) AS place FROM ranked) p
    JOIN rooms r ON r.tenant = p.tenant WHERE r.room IS NULL OR p.place <= r.room
"""


@cache
def claim_query(limit: int, lanes: int, *, shared: bool) -> TextClause:
    """Claims from so many lanes at most. The numbers are in its text, so that Postgres can keep one plan.

    ``shared``: of ``:tenants`` that are locked. It is a statement of its own, so that it sees all that was claimed
    before. Else it is for when no tenant has a share: where one has, it claims nothing and says so.
    """
    candidates = lanes + SPARE_LANES
    return text(
        CLAIM.format(
            tenants=GIVEN_TENANTS if shared else "",
            first=first_lanes(*(WITH_ROOM if shared else OF_ALL), limit=candidates),
            lane=LANE,
            allowed=WITHIN_ROOM if shared else "SELECT id, tried, turn FROM ranked",
            shared="SELECT true" if shared else HAS_SHARES,
            limit=limit,
            lanes=lanes,
            # more than the limit, since the first ones may just have been taken
            depth=4 * limit + 8,
        )
    )


WAIT = """
    WITH {tenants} first AS ({first})
    SELECT l.job_id FROM (SELECT * FROM first ORDER BY turn LIMIT 1) f CROSS JOIN LATERAL ({lane}) l
"""
WAIT_QUERY = text(WAIT.format(tenants="", first=first_lanes(*OF_ALL, limit=1), lane=LANE))
WAIT_SHARES_QUERY = text(WAIT.format(tenants=GIVEN_TENANTS, first=first_lanes(*WITH_ROOM, limit=1), lane=LANE))
"""Wait until nobody else holds the first lane, if there is any."""

LOCK_QUERY = text("""
    SELECT l.job_id, l.tried
    FROM unnest(CAST(:jobs AS uuid[]), CAST(:tries AS boolean[])) e (job_id, tried)
    JOIN lanes l ON l.job_id = e.job_id AND l.kind = :kind AND l.tried = e.tried
    FOR UPDATE OF l SKIP LOCKED
""")
LOCK_TIMEOUT_QUERY = text("SET LOCAL lock_timeout = '1s'")

SLEEP_QUERY = text("""
    UPDATE lanes l SET asleep = true, next_at = coalesce(d.due, 'infinity')
    FROM unnest(CAST(:jobs AS uuid[]), CAST(:tries AS boolean[])) e (job_id, tried)
    CROSS JOIN LATERAL (
        SELECT min(coalesce(r.run_after, 'infinity')) AS due FROM steps r
        WHERE r.job_id = e.job_id AND r.kind = :kind AND r.state = 'ready' AND (r.attempt > 0) = e.tried) d
    WHERE l.job_id = e.job_id AND l.kind = :kind AND l.tried = e.tried AND coalesce(d.due > now(), true)
""")
"""Under the locks of these lanes, and with a view from after they were taken: no step becomes ready meanwhile."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased step: the right to commit its result while the row still has this fence."""

    id: int
    job_id: uuid.UUID
    kind: StepKind
    chunk: int | None
    attempt: int
    fence: int | None
    outages: int = 0
    tenant: str = ""
    trace: str | None = None
    """The ``traceparent`` of the job."""

    @property
    def chunk_index(self) -> int:
        if self.chunk is None:
            raise ValueError(f"{self.kind} step {self.id} belongs to no chunk")
        return self.chunk


CLAIM_COLUMNS = (
    *(Step.id, Step.job_id, Step.kind, Step.chunk, Step.attempt, Step.fence, Step.outages),
    *(Job.tenant, Job.trace),
)
"""Of a step and its job."""


def claim_steps(
    sessions: Sessions, kind: StepKind, limit: int, worker: str, settings: Settings, *, retries: bool = True
) -> list[Claim]:
    """Lease up to ``limit`` ready steps of a kind, in fair order across jobs.

    A step that has failed before is claimed alone, and not at all without ``retries``: if it kills its worker, no
    other step loses an attempt.
    """
    parameters = claim_parameters(kind, worker, settings, retries=retries)
    shared, patient, lane_count = bool(settings.tenant_limits), False, limit
    for _ in range(MOST_ROUNDS):
        try:
            rows = _look(sessions, limit, lane_count, parameters, shared=shared, patient=patient)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            return []  # healing rings again
        if not rows:
            return []
        if rows[0].shared and not shared:
            shared = True
            continue
        # of tenants that were found to have room, others may have taken the last of it meanwhile
        if not rows[0].waiting and not shared:
            return []
        lanes = [row for row in rows if row.job_id is not None]
        claims = [
            Claim(
                *(row.id, row.job_id, kind, row.chunk, row.attempt, row.fence, row.outages),
                *(row.tenant, row.trace),
            )
            for row in lanes
            if row.id is not None
        ]
        if len(claims) < limit and not any(claim.attempt > 1 for claim in claims):
            _put_to_sleep(sessions, kind, [row for row in lanes if row.id is None])
        if claims or (patient and not lanes):
            return claims
        patient = patient or not lanes
        lane_count *= 4
    return []


def _look(
    sessions: Sessions, limit: int, lane_count: int, parameters: Json, *, shared: bool, patient: bool
) -> Sequence[Row[Any]]:
    """The lanes found, with the steps that are claimed now, and whether there are lanes, be they locked. No rows
    where no tenant has room.

    ``patient``: once nobody else holds the first lane.
    """
    query = claim_query(limit, lane_count, shared=shared)
    if not shared and not patient:
        with autocommit(sessions) as session:
            return session.execute(query, parameters).all()
    with sessions.begin() as session:
        # other kinds of the process wait meanwhile
        session.execute(LOCK_TIMEOUT_QUERY)
        if shared:
            tenants = _lock_tenants(session, limit, parameters)
            if not tenants:
                return []
            parameters = parameters | {"tenants": tenants}
        if patient:
            # whoever held it may have taken its last step: the claim looks at the others
            session.execute(WAIT_SHARES_QUERY if shared else WAIT_QUERY, parameters)
        return session.execute(query, parameters).all()


def _lock_tenants(session: Session, limit: int, parameters: Json) -> Sequence[str]:
    """Those whose turn it is and who have room, one a step to claim at most, locked where they have a share.

    Who is locked by others is left out. If that is all who wait, the first one, once it is free. Where many that
    have their share stand before more than ``FOUND_TENANTS`` others, these are served some after some.
    """
    kind = parameters["kind"]
    free = parameters | {"patient": False, "tenants_at_once": limit, "after": _asked_until[kind]}
    first = parameters | {"patient": True, "tenants_at_once": 1, "after": ""}
    looks = [*((query, free) for query in LOCK_FIRST_TENANTS_QUERIES), (LOCK_TENANTS_QUERY, free)]
    if free["after"]:
        looks.append((LOCK_TENANTS_QUERY, free | {"after": ""}))
    for query, values in (*looks, (LOCK_TENANTS_QUERY, first)):
        if rows := session.execute(query, values).all():
            if query is LOCK_TENANTS_QUERY:
                _asked_until[kind] = rows[0].until or ""
            return [row.tenant for row in rows]
    return []


def _put_to_sleep(sessions: Sessions, kind: StepKind, lanes: Sequence[Row[Any]]) -> None:
    """Those of the lanes in which no step may run now."""
    if not lanes:
        return
    parameters = {"kind": kind, "jobs": [lane.job_id for lane in lanes], "tries": [lane.tried for lane in lanes]}
    with sessions.begin() as session:
        locked = session.execute(LOCK_QUERY, parameters).all()
        held = {"jobs": [lane.job_id for lane in locked], "tries": [lane.tried for lane in locked]}
        session.execute(SLEEP_QUERY, parameters | held)


def claim_parameters(kind: StepKind, worker: str, settings: Settings, *, retries: bool = True) -> Json:
    """The parameters of all queries here; some take ``tenants`` besides."""
    return {
        "kind": kind,
        "retries": retries,
        "worker": worker,
        "lease": settings.lease_seconds,
        "limits": json.dumps(settings.tenant_limits),
        "lock": f"claim {kind} ",
    }
