"""The Celery tasks, one for each kind of step: imported by workers alone, for it brings the engines along."""

from __future__ import annotations

import threading

from db import steps
from db.models import StepKind
from tasks import align, diarize, draft, embed, finalize, ingest, refine, upkeep
from tasks.queue import HEAL_TASK, SWEEP_TASK, app, ring, task_name
from tasks.runtime import get_runtime
from tasks.step import Handler, run

HANDLERS: dict[StepKind, Handler] = {
    handler.kind: handler
    for handler in (
        ingest.handler,
        draft.handler,
        refine.handler,
        diarize.handler,
        embed.handler,
        align.handler,
        finalize.handler,
        upkeep.purge_handler,
    )
}

# Cutting a long recording takes minutes; one thread of a worker is always left to draft.
ingest_slots = threading.BoundedSemaphore(2)


def run_ingest() -> int:
    """Ingest unless this process already ingests all it may; what was left is rung for at the end."""
    runtime = get_runtime()
    if not ingest_slots.acquire(blocking=False):
        return 0
    try:
        return run(ingest.handler, runtime)
    finally:
        ingest_slots.release()
        with runtime.sessions() as session:
            ring([StepKind.INGEST] * steps.waiting(session, StepKind.INGEST, cap=1))


def _register(handler: Handler) -> None:
    def task() -> int:
        return run(handler, get_runtime())

    app.task(name=task_name(handler.kind))(run_ingest if handler.kind == StepKind.INGEST else task)


for _handler in HANDLERS.values():
    _register(_handler)


@app.task(name=HEAL_TASK)
def heal() -> None:
    upkeep.heal(get_runtime())


@app.task(name=SWEEP_TASK)
def sweep() -> None:
    upkeep.sweep(get_runtime())
