"""No statement that a worker or a stream sends reads a growing table from end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from db.events import event_log
from db.models import StepKind
from db.queue.claims import claim_steps
from db.session import Sessions
from tasks.maintenance import healing
from tasks.runtime import Runtime
from tests.tasks.pipeline import MakeRuntime, recording, run_until_done, submit

JOBS = 3000

FILL = f"""
    INSERT INTO jobs (id, tenant, status, filename, bytes, sha256, options, source_key, ingested, chunks, drafted,
                      refined, final, transcript_prefix, completed_at)
    SELECT gen_random_uuid(), 'tenant ' || n % 50, (ARRAY['completed', 'processing'])[1 + n % 2]::job_status,
           'talk.flac', 1, '', '{{}}', '', true, 8, 0, 0, 0, 'x', CASE n % 2 WHEN 0 THEN now() END
    FROM generate_series(1, {JOBS}) n;
    INSERT INTO chunks (job_id, index, start, "end", key)
    SELECT id, n, n, n + 1, '' FROM jobs, generate_series(0, 7) n;
    INSERT INTO steps (job_id, kind, chunk, state, claimed_at, run_after)
    SELECT id, k, n, CASE WHEN status = 'completed' THEN 'done' ELSE s END, now(), now() + w
    FROM jobs, generate_series(0, 7) n,
         (VALUES ('draft'::step_kind, 'done'::step_state, interval '0'), ('align', 'done', '0'),
                 ('diarize', 'ready', '0'), ('refine', 'ready', '1 hour')) v (k, s, w);
    INSERT INTO events (job_id, seq, type, data)
    SELECT id, n, 'job.progress', '{{}}' FROM jobs, generate_series(1, 10) n;
    INSERT INTO hypotheses (job_id, chunk, role, engine, content)
    SELECT id, n, 'draft', '{{}}', '{{}}' FROM jobs, generate_series(0, 7) n;
    INSERT INTO segments (job_id, index, chunk, start, "end", text, confidence, source, words)
    SELECT id, n, n, n, n + 1, '', 0.5, 'draft', '[]' FROM jobs, generate_series(0, 7) n;
    INSERT INTO passages (job_id, index, chunk, tenant, recorded_at, start, "end", text, provisional, terms)
    SELECT job_id, index, chunk, '', now(), start, "end", text, false, '' FROM segments;
    INSERT INTO speakers (job_id, label, vector) SELECT id, n, '{{}}' FROM jobs, generate_series(1, 3) n;
    INSERT INTO turns (job_id, index, start, "end", speaker)
    SELECT id, n, n, n + 1, '1' FROM jobs, generate_series(1, 8) n;
    INSERT INTO usage (tenant, job_id, stage, audio_seconds)
    SELECT tenant, id, 'upload', 60 FROM jobs, generate_series(1, 3);
    ANALYZE;
"""  # noqa: S608

GROWING = "jobs|chunks|steps|events|hypotheses|segments|passages|usage|lanes|speakers|turns"
SCAN = re.compile(rf"Seq Scan on ({GROWING})\b")


@contextmanager
def recorded(sessions: Sessions, statements: dict[str, Any]) -> Iterator[None]:
    """The statements that are sent meanwhile, with the parameters of the first time."""

    def record(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            statements.setdefault(statement, parameters)

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", record)


def test_no_statement_reads_a_growing_table_from_end_to_end(make_runtime: MakeRuntime) -> None:
    statements: dict[str, Any] = {}
    for limits in ({}, {"*": 1000}):
        runtime = make_runtime(tenant_limits=limits)
        if not limits:
            with runtime.sessions.begin() as session:
                session.execute(text(FILL))
        with recorded(runtime.sessions, statements):
            _work(runtime)
    scans = []
    with runtime.sessions() as session:
        cursor = session.connection().connection.cursor()
        for statement, parameters in statements.items():
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            if SCAN.search(plan):
                scans.append(f"{statement}\n{plan}")
    assert len(statements) > 30
    assert not scans, "\n\n".join(scans)


def _work(runtime: Runtime) -> None:
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, tenants=["default"])
    assert claim_steps(runtime.sessions, StepKind.DIARIZE, 4, "tester", runtime.settings)
    healing.is_due(runtime)
    healing.heal(runtime)
    with runtime.sessions() as session:
        event_log.after(session, job_id, 0)
        event_log.count_after(session, job_id, 0)
        event_log.has_ended(session, job_id)
        event_log.newest_numbers(session, [job_id])
