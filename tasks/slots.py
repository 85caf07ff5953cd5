"""How many steps, and deliveries, a worker process runs at once."""

from __future__ import annotations

import threading
from functools import partial

from db.models import StepKind
from db.telemetry import metrics
from db.webhooks.outbox import DELIVER
from tasks.queue import QUEUES


class Slots:
    """Limits how many batches of some kinds run at once.

    Whoever has a slot goes on while there is work: first for the kinds that found no slot free, each in its turn.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._turned_away: dict[str, None] = {}
        """In the order in which they came."""
        self.count = self.free = count

    @property
    def busy(self) -> bool:
        return self.free < self.count

    def acquire(self, kind: str) -> bool:
        """Whether there is a slot. Where there is none, whoever gets one free looks for steps of the kind."""
        with self._lock:
            if not self.free:
                self._turned_away[kind] = None
                return False
            self.free -= 1
            return True

    def go_on(self, kind: str, *, found: bool) -> str | None:
        """What to claim next with the slot, after a claim of ``kind``, which found something or not.

        None where there is nothing: the slot is free from then on.
        """
        with self._lock:
            if found:
                self._turned_away[kind] = None
            for following in self._turned_away:
                del self._turned_away[following]
                return following
            self.free += 1
            return None

    def release(self) -> list[str]:
        """Returns the kinds that found no slot free."""
        with self._lock:
            self.free += 1
            kinds = list(self._turned_away)
            self._turned_away.clear()
            return kinds


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
SLOTS |= {kind: Slots(1) for kind in (StepKind.EXPORT, StepKind.FINETUNE, StepKind.ERASE, StepKind.INDEX)}

# Language models take minutes, and a question does not wait for a summary.
SLOTS |= {StepKind.SUMMARISE: Slots(2), StepKind.TRANSLATE: Slots(2), StepKind.ANSWER: Slots(4)}


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
