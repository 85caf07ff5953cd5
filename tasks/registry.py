"""The Celery tasks, one for each kind of step: imported by workers alone, for it brings the engines along."""

from __future__ import annotations

import threading
import time
from collections import Counter

from db.models import StepKind
from tasks.maintenance import sweep
from tasks.queue import NIGHTLY_TASK, QUEUES, SWEEP_TASK, app, send_hints, task_name
from tasks.runtime import Runtime, get_runtime
from tasks.step import Handler, run
from tasks.steps import align, diarize, draft, embed, finalize, ingest, purge, refine
from tasks.training import nightly
from tasks.training.export import step as export
from tasks.training.finetune import step as finetune

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
        purge.handler,
        export.handler,
        finetune.handler,
    )
}


class Slots:
    """How many steps of some kinds a process does at once. Who finds none free is called when one is."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._waiting_kinds: Counter[StepKind] = Counter()
        self.count = self.free = count

    def acquire(self, kind: StepKind) -> bool:
        with self._lock:
            if not self.free:
                self._waiting_kinds[kind] = min(self._waiting_kinds[kind] + 1, self.count)
                return False
            self.free -= 1
            return True

    def release(self) -> list[StepKind]:
        """The kinds that found no seat meanwhile, as often as they may try again."""
        with self._lock:
            self.free += 1
            waiting = list(self._waiting_kinds.elements())
            self._waiting_kinds.clear()
            return waiting


# Long recordings are cut side by side, so that a short one waits for none, and never take the slots of drafts.
# The second draft loads its audio while the first computes; a GPU does one thing at a time.
SLOTS: dict[StepKind, Slots] = {StepKind.INGEST: Slots(4), StepKind.DRAFT: Slots(2), StepKind.EMBED: Slots(1)}
SLOTS |= dict.fromkeys((StepKind.REFINE, StepKind.DIARIZE), Slots(1))
SLOTS |= dict.fromkeys((StepKind.ALIGN, StepKind.FINALIZE, StepKind.PURGE), Slots(4))

# One of them at a time and on slots of their own: the night's work keeps no transcript waiting.
SLOTS |= {StepKind.EXPORT: Slots(1), StepKind.FINETUNE: Slots(1)}


def concurrency_of(queue: str) -> int:
    """How many steps a worker of the queue does at once, whatever their kinds."""
    return sum(slots.count for slots in {SLOTS[kind] for kind, its_queue in QUEUES.items() if its_queue == queue})


class LastHint:
    """When this process last heard a hint."""

    def __init__(self) -> None:
        self.at = time.monotonic()


last_hint = LastHint()


def claim_and_run(kind: StepKind, runtime: Runtime) -> int:
    """Claim and do steps of a kind, if this process has a seat for them. Returns how many were claimed."""
    slots = SLOTS[kind]
    if not slots.acquire(kind):
        return 0
    try:
        return run(HANDLERS[kind], runtime)
    finally:
        send_hints(slots.release())


def _register(kind: StepKind) -> None:
    def task() -> int:
        last_hint.at = time.monotonic()
        return claim_and_run(kind, get_runtime())

    app.task(name=task_name(kind))(task)


for _kind in HANDLERS:
    _register(_kind)


@app.task(name=SWEEP_TASK)
def sweep_task() -> None:
    sweep.sweep(get_runtime())


@app.task(name=NIGHTLY_TASK)
def nightly_task() -> None:
    nightly.start_nightly_exports(get_runtime())
