"""The Celery tasks: of each kind of step, and of deliveries. Only workers import this: it imports the engines."""

from __future__ import annotations

import time

from db.models import StepKind
from db.webhooks.outbox import DELIVER
from tasks.handler import Handler
from tasks.maintenance import sweep
from tasks.queue import NIGHTLY_TASK, SWEEP_TASK, app, send_hints, task_name
from tasks.readings import answer, summarise, translate
from tasks.runtime import Runtime, get_runtime
from tasks.slots import SLOTS
from tasks.step import run
from tasks.steps import align, diarize, draft, embed, erase, fetch, finalize, ingest, purge, refine
from tasks.training import nightly
from tasks.training.export import step as export
from tasks.training.finetune import step as finetune
from tasks.webhooks import deliver

HANDLERS: dict[StepKind, Handler] = {
    handler.kind: handler
    for handler in (
        fetch.handler,
        ingest.handler,
        draft.handler,
        refine.handler,
        diarize.handler,
        embed.handler,
        align.handler,
        finalize.handler,
        purge.handler,
        export.handler,
        finetune.handler,
        erase.handler,
        summarise.handler,
        answer.handler,
        translate.handler,
    )
}


class LastHint:
    """When this process last received a hint, in monotonic seconds."""

    def __init__(self) -> None:
        self.at = time.monotonic()


last_hint = LastHint()


def claim_and_run(kind: str, runtime: Runtime) -> int:
    """Claim steps of a kind, or deliveries, and run them, if a slot is free. Returns how many were claimed."""
    slots = SLOTS[kind]
    if not slots.acquire(kind):
        return 0
    try:
        return deliver.run(runtime) if kind == DELIVER else run(HANDLERS[StepKind(kind)], runtime)
    finally:
        send_hints(slots.release())


def _register(kind: str) -> None:
    def task() -> int:
        last_hint.at = time.monotonic()
        return claim_and_run(kind, get_runtime())

    app.task(name=task_name(kind))(task)


for _kind in (*HANDLERS, DELIVER):
    _register(_kind)


@app.task(name=SWEEP_TASK)
def sweep_task() -> None:
    sweep.sweep(get_runtime())


@app.task(name=NIGHTLY_TASK)
def nightly_task() -> None:
    nightly.start_nightly_exports(get_runtime())
