"""Lanes: a row for each job's open steps of a kind, in the order in which they are served; one healer a round"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

COUNT_LANE = """
    CREATE FUNCTION count_lane(
        job uuid, of_kind step_kind, of_tried boolean,
        more_ready bigint, more_leased bigint, due timestamptz, due_steps bigint
    ) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        lane lanes;
    BEGIN
        LOOP
            SELECT * INTO lane FROM lanes
            WHERE job_id = job AND kind = of_kind AND tried = of_tried FOR UPDATE;
            EXIT WHEN FOUND;
            IF more_ready <= 0 AND more_leased <= 0 THEN
                RETURN;
            END IF;
            INSERT INTO lanes (job_id, kind, tried, tenant, pace, ready, leased, served_at, asleep, next_at)
            SELECT id, of_kind, of_tried, tenant, lane_pace(priority), 0, 0,
                   coalesce((SELECT max(claimed_at) FROM steps WHERE job_id = job AND kind = of_kind), created_at),
                   true, 'infinity'
            FROM jobs WHERE id = job
            ON CONFLICT DO NOTHING;
            IF NOT FOUND AND NOT EXISTS (SELECT FROM jobs WHERE id = job) THEN
                RETURN;
            END IF;
        END LOOP;

        lane.ready := greatest(lane.ready + more_ready, 0);
        lane.leased := greatest(lane.leased + more_leased, 0);
        IF lane.ready + lane.leased = 0 THEN
            DELETE FROM lanes WHERE job_id = job AND kind = of_kind AND tried = of_tried;
            RETURN;
        END IF;
        IF more_leased > 0 THEN
            lane.served_at := clock_timestamp();
        END IF;
        IF due <= clock_timestamp() OR more_leased > 0 THEN
            lane.asleep := false;
        ELSIF due_steps >= lane.ready THEN
            lane.asleep := true;
            lane.next_at := coalesce(due, 'infinity');
        ELSIF lane.asleep THEN
            lane.next_at := least(lane.next_at, due);
        END IF;
        IF NOT lane.asleep THEN
            lane.next_at := lane.served_at + lane.pace * (1 + lane.leased);
        END IF;
        UPDATE lanes SET ready = lane.ready, leased = lane.leased, served_at = lane.served_at,
                         asleep = lane.asleep, next_at = lane.next_at
        WHERE job_id = job AND kind = of_kind AND tried = of_tried;
    END $$
"""
"""``due``: when the first of the steps that a statement has made ready may run; ``due_steps``: how many they are.
"""

LANE_PACE = """
    CREATE FUNCTION lane_pace(priority priority) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
        SELECT interval '30 seconds' / CASE priority WHEN 'high' THEN 4 WHEN 'normal' THEN 2 ELSE 1 END
    $$
"""

# a step that is leased for its second attempt counts in the lane that it was claimed from
GAINED = """
    SELECT job_id, kind, attempt > 0 AS tried, 1 AS ready, 0 AS leased, coalesce(run_after, 'infinity') AS due
    FROM new_steps WHERE state = 'ready'
    UNION ALL
    SELECT job_id, kind, attempt > 1, 0, 1, NULL FROM new_steps WHERE state = 'leased'
"""
LOST = """
    SELECT job_id, kind, attempt > 0 AS tried, -1 AS ready, 0 AS leased, CAST(NULL AS timestamptz) AS due
    FROM old_steps WHERE state = 'ready'
    UNION ALL
    SELECT job_id, kind, attempt > 1, 0, -1, NULL FROM old_steps WHERE state = 'leased'
"""

COUNT_LANES = """
    CREATE FUNCTION count_lanes_{event}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        PERFORM count_lane(job_id, kind, tried, ready, leased, due, due_steps)
        FROM (
            SELECT job_id, kind, tried, sum(ready) AS ready, sum(leased) AS leased, min(due) AS due,
                   count(due) AS due_steps
            FROM ({changes}) changes
            GROUP BY job_id, kind, tried
            HAVING sum(ready) <> 0 OR sum(leased) <> 0 OR count(due) > 0
            -- always in the same order, so that nobody waits for who waits for them
            ORDER BY job_id, kind, tried
        ) lanes;
        RETURN NULL;
    END $$
"""

TRIGGERS = {
    "insert": (GAINED, "NEW TABLE AS new_steps"),
    "update": (f"{GAINED} UNION ALL {LOST}", "OLD TABLE AS old_steps NEW TABLE AS new_steps"),
    "delete": (LOST, "OLD TABLE AS old_steps"),
}

FILL = """
    INSERT INTO lanes (job_id, kind, tried, tenant, pace, ready, leased, served_at, asleep, next_at)
    SELECT o.job_id, o.kind, o.tried, j.tenant, lane_pace(j.priority), o.ready, o.leased, s.served_at,
           coalesce(o.due > now(), true),
           CASE WHEN o.due <= now() THEN s.served_at + lane_pace(j.priority) * (1 + o.leased)
                ELSE coalesce(o.due, 'infinity') END
    FROM (
        SELECT job_id, kind, attempt > CAST(state = 'leased' AS int) AS tried,
               count(*) FILTER (WHERE state = 'ready') AS ready,
               count(*) FILTER (WHERE state = 'leased') AS leased,
               min(coalesce(run_after, 'infinity')) FILTER (WHERE state = 'ready') AS due
        FROM steps WHERE state IN ('ready', 'leased') GROUP BY 1, 2, 3
    ) o
    JOIN jobs j ON j.id = o.job_id
    CROSS JOIN LATERAL (
        SELECT coalesce(max(c.claimed_at), j.created_at) AS served_at FROM steps c
        WHERE c.job_id = o.job_id AND c.kind = o.kind
    ) s
"""


def upgrade() -> None:
    op.create_table(
        "lanes",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("kind", postgresql.ENUM(name="step_kind", create_type=False), nullable=False),
        sa.Column("tried", sa.Boolean(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("pace", sa.Interval(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("leased", sa.Integer(), nullable=False),
        sa.Column("served_at", TIME, nullable=False),
        sa.Column("asleep", sa.Boolean(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_lanes_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "kind", "tried", name=op.f("pk_lanes")),
    )
    # its rows change with every claim: dead ones are cleared away by the hundred, not by the fifth of the table
    op.execute(
        "ALTER TABLE lanes SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, "
        "autovacuum_vacuum_threshold = 500, autovacuum_analyze_scale_factor = 0.05)"
    )
    waiting = sa.text("ready > 0")
    op.create_index("ix_lanes_next", "lanes", ["kind", "tried", "asleep", "next_at"], postgresql_where=waiting)
    op.create_index(
        "ix_lanes_tenant_next",
        "lanes",
        ["kind", "tenant", "tried", "asleep", "next_at"],
        postgresql_where=waiting,
    )
    op.create_index("ix_lanes_leased", "lanes", ["kind", "tenant"], postgresql_where=sa.text("leased > 0"))
    op.execute("ALTER TABLE lanes ENABLE ROW LEVEL SECURITY")
    op.create_table(
        "healing",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("healed_at", TIME, nullable=False),
        sa.Column("checked", sa.Uuid(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_healing_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_healing")),
    )
    op.execute("ALTER TABLE healing ENABLE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO healing (id, healed_at, checked) VALUES (1, 'epoch', '00000000-0000-0000-0000-000000000000')"
    )

    # claims look into lanes, and from there into jobs
    op.drop_index("ix_steps_ready", "steps")
    op.create_index(
        "ix_steps_ready", "steps", ["job_id", "kind", "chunk"], postgresql_where=sa.text("state = 'ready'")
    )
    op.create_index(
        "ix_steps_refinable",
        "steps",
        ["created_at"],
        postgresql_where=sa.text("kind = 'refine' AND state = 'ready'"),
    )
    op.create_index(
        "ix_steps_blocked",
        "steps",
        ["kind"],
        postgresql_where=sa.text("state = 'ready' AND run_after IS NULL"),
    )
    op.create_index(
        "ix_jobs_impatient",
        "jobs",
        ["id"],
        postgresql_where=sa.text("status = 'processing' AND options ? 'degrade_after'"),
    )

    op.execute(LANE_PACE)
    op.execute(COUNT_LANE)
    op.execute("REVOKE ALL ON FUNCTION count_lane FROM PUBLIC")
    for event, (changes, transitions) in TRIGGERS.items():
        op.execute(COUNT_LANES.format(event=event, changes=changes))
        # locks out writers, so that the lanes are filled with all that the trigger has not seen
        op.execute(
            f"CREATE TRIGGER count_lanes_{event} AFTER {event} ON steps REFERENCING {transitions} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION count_lanes_{event}()"
        )
    op.execute(FILL)


def downgrade() -> None:
    for event in TRIGGERS:
        op.execute(f"DROP TRIGGER count_lanes_{event} ON steps")
        op.execute(f"DROP FUNCTION count_lanes_{event}")
    op.execute("DROP FUNCTION count_lane")
    op.drop_index("ix_jobs_impatient", "jobs")
    op.drop_index("ix_steps_blocked", "steps")
    op.drop_index("ix_steps_refinable", "steps")
    op.drop_index("ix_steps_ready", "steps")
    op.create_index(
        "ix_steps_ready", "steps", ["kind", "job_id", "chunk"], postgresql_where=sa.text("state = 'ready'")
    )
    op.drop_table("healing")
    op.drop_table("lanes")
    op.execute("DROP FUNCTION lane_pace")
