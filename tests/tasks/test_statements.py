"""How often a chunk asks Postgres: what a batch holds of one job is read, written and committed together."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import event

from db.models import StepKind
from db.queue.transaction import job_transaction
from tasks.step import run
from tasks.steps import align, draft, refine
from tests.jobs import add_chunks, make_job
from tests.tasks.pipeline import MakeRuntime, recording

CHUNKS = 16


def test_a_chunk_takes_few_statements(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(draft_batch=2, refine_batch=2, lease_seconds=600, lease_renew_seconds=60)
    job_id = make_job(runtime.sessions, options={"language": "en"})
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.skip_open_steps()
    add_chunks(runtime.sessions, job_id, CHUNKS, StepKind.DRAFT)
    for index in range(CHUNKS):
        runtime.storage.put(f"c{index}", recording("jfk.flac"), "audio/flac")
    counts: Counter[StepKind] = Counter()
    for handler in (draft.handler, refine.handler, align.handler):

        def count(*_: object, kind: StepKind = handler.kind) -> None:
            counts[kind] += 1

        engine = runtime.sessions.kw["bind"]
        event.listen(engine, "before_cursor_execute", count)
        while run(handler, runtime):
            pass
        event.remove(engine, "before_cursor_execute", count)
    # and one for the look that finds nothing
    assert counts[StepKind.DRAFT] <= 5 * CHUNKS + 1
    assert counts[StepKind.REFINE] <= 4.5 * CHUNKS + 1
    assert counts[StepKind.ALIGN] <= 1.5 * CHUNKS + 1
