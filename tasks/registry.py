"""The Celery tasks: of each kind of step, and of deliveries. Only workers import this: it imports the engines."""

from __future__ import annotations

import time

from db.models import StepKind
from db.queue.claims import Claim
from db.webhooks.outbox import DELIVER
from tasks.handler import Handler
from tasks.maintenance import sweep
from tasks.queue import NIGHTLY_TASK, SWEEP_TASK, app, send_hints, task_name
from tasks.readings import answer, summarise, translate
from tasks.runtime import Runtime, get_runtime
from tasks.slots import SLOTS
from tasks.step import run
from tasks.steps import align, diarize, draft, embed, erase, fetch, finalize, index, ingest, purge, refine
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
        index.handler,
    )
}


class LastHint:
    """When this process last received a hint, in monotonic seconds."""

    def __init__(self) -> None:
        self.at = time.monotonic()


last_hint = LastHint()


NAMED_CLAIMS = 50
"""That a task tells of at most: one goes on for as long as there is work."""


def claim_and_run(kind: str, runtime: Runtime) -> str:
    """If a slot is free, claim steps of a kind, or deliveries, and run them, for as long as there are any.

    Returns what was claimed first, for people: the job of each step with its chunk, or how many deliveries.
    """
    slots = SLOTS[kind]
    if not slots.acquire(kind):
        return ""
    claimed: list[str] = []
    following: str | None = kind
    while following is not None:
        try:
            names = _run(following, runtime)
        except BaseException:
            send_hints(slots.release())
            raise
        claimed += names[: NAMED_CLAIMS - len(claimed)]
        following = slots.go_on(following, found=bool(names))
    return " ".join(claimed)


def _run(kind: str, runtime: Runtime) -> list[str]:
    if kind == DELIVER:
        count = deliver.run(runtime)
        return [f"{count} deliveries"] if count else []
    return list(map(_name, run(HANDLERS[StepKind(kind)], runtime)))


def _name(claim: Claim) -> str:
    return str(claim.job_id) if claim.chunk is None else f"{claim.job_id}/{claim.chunk}"


def _register(kind: str) -> None:
    def task() -> str:
        last_hint.at = time.monotonic()
        # kept nowhere, but in the event that Flower shows
        return claim_and_run(kind, get_runtime())

    app.task(name=task_name(kind))(task)


for _kind in (*HANDLERS, DELIVER):
    _register(_kind)


@app.task(name=SWEEP_TASK)
def sweep_task() -> None:
    sweep.sweep_next(get_runtime())


@app.task(name=NIGHTLY_TASK)
def nightly_task() -> None:
    nightly.start_nightly_exports(get_runtime())
