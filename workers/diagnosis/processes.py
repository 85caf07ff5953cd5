"""Which workers answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from db.settings import Settings
from tasks.queue import QUEUES, app
from workers.diagnosis.finding import Finding, broken, ok

ANSWER_SECONDS = 2.0


def check_workers(settings: Settings) -> Iterator[Finding]:
    """Asked through Redis, which has to answer."""
    try:
        answers = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    except (OperationalError, RedisError, OSError) as error:
        yield broken("workers", f"cannot be asked: {error}", "Start Redis first.")
        return
    alive = Counter(queue["name"] for queues in answers.values() for queue in queues)
    for queue in sorted(set(QUEUES.values())):
        if alive[queue]:
            yield ok("workers", f"{alive[queue]} of the queue {queue}")
        else:
            advice = f"Start one with `longhand up`, or `python -m workers {queue}`; its log says why it ended."
            yield broken("workers", f"none of the queue {queue} answers", advice)
