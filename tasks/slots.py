"""How many steps, and deliveries, a worker process runs at once."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial

from db.models import StepKind
from db.telemetry import metrics
from db.webhooks.outbox import DELIVER
from tasks.queue import QUEUES


class Slots:
    """Limits how many batches of some kinds run at once. A release names the kinds that found no slot free."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._waiting_kinds: Counter[str] = Counter()
        self.count = self.free = count

    @property
    def busy(self) -> bool:
        return self.free < self.count

    def acquire(self, kind: str) -> bool:
        with self._lock:
            if not self.free:
                self._waiting_kinds[kind] = min(self._waiting_kinds[kind] + 1, self.count)
                return False
            self.free -= 1
            return True

    def release(self) -> list[str]:
        """Returns the kinds that found no slot meanwhile, each as often as it may try again."""
        with self._lock:
            self.free += 1
            waiting = list(self._waiting_kinds.elements())
            self._waiting_kinds.clear()
            return waiting


# Several ingests at once, so that a short recording does not wait for a long one; drafts have slots of their own.
# The second draft batch loads its audio while the first computes. A GPU does one thing at a time.
SLOTS: dict[str, Slots] = {StepKind.INGEST: Slots(4), StepKind.DRAFT: Slots(2), StepKind.EMBED: Slots(1)}
SLOTS |= dict.fromkeys((StepKind.REFINE, StepKind.DIARIZE), Slots(1))
SLOTS |= dict.fromkeys((StepKind.ALIGN, StepKind.FINALIZE, StepKind.PURGE), Slots(4))

# Fetching waits for servers of others: slow ones keep nothing else from its slot.
SLOTS |= {StepKind.FETCH: Slots(8)}

# The same with receivers of webhooks.
SLOTS |= {DELIVER: Slots(8)}

# One at a time and on slots of their own, so that no transcript waits for them.
SLOTS |= {StepKind.EXPORT: Slots(1), StepKind.FINETUNE: Slots(1), StepKind.ERASE: Slots(1)}


def concurrency_of(queue: str) -> int:
    """Threads that a worker of the queue needs, over all kinds of step."""
    return sum(slots.count for slots in {SLOTS[kind] for kind, its_queue in QUEUES.items() if its_queue == queue})


def tell_of_slots(queue: str) -> None:
    """Have metrics tell that this process takes the kinds of the queue, and how many of its slots are busy."""
    for kind, its_queue in QUEUES.items():
        if its_queue == queue:
            slots = SLOTS[kind]
            metrics.workers.labels(kind).set(1)
            metrics.worker_slots.labels(kind).set(slots.count)
            metrics.worker_busy_slots.labels(kind).set_function(partial(_busy, slots))
    # from zero, so that the first of each is an increase; healing ends steps of any kind
    for kind in QUEUES:
        for counter in metrics.COUNTED_BY_KIND:
            counter.labels(kind)
    for outcome in ("done", "failed"):
        metrics.healing_rounds.labels(outcome)


def _busy(slots: Slots) -> int:
    return slots.count - slots.free
