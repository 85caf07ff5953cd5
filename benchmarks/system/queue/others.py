"""Tasks that do nothing in other queues, one worker process with one thread: ``python others.py NAME JSON``."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from redis import Redis

TASK_COUNT = 4000


def celery(redis_url: str, **_: Any) -> float:
    """Acknowledged late, over the Redis broker that also carries hints."""
    app = Celery("noop", broker=redis_url)
    app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=4)
    counter = Redis.from_url(redis_url)

    @app.task(name="noop")
    def noop() -> None:
        counter.incr("noop")

    for _number in range(TASK_COUNT):
        noop.delay()
    options = ["worker", "--pool=solo", "--loglevel=ERROR", "--without-mingle", "--without-gossip"]
    worker = multiprocessing.Process(target=app.worker_main, args=(options,))
    worker.start()
    # from the first to the last, so that nothing counts but the tasks
    while not int(counter.get("noop") or 0):
        time.sleep(0.001)
    first, started = int(counter.get("noop") or 0), time.perf_counter()
    while (done := int(counter.get("noop") or 0)) < TASK_COUNT:
        time.sleep(0.001)
    rate = (done - first) / (time.perf_counter() - started)
    worker.terminate()
    worker.join()
    return rate


def procrastinate(postgres_url: str, **_: Any) -> float:
    """A queue in PostgreSQL."""
    # it may be missing: nothing else here needs it
    library: Any = importlib.import_module("procrastinate")
    app = library.App(connector=library.SyncPsycopgConnector(conninfo=postgres_url))
    noop = app.task(name="noop")(lambda: None)
    with app.open():
        app.schema_manager.apply_schema()
        for _number in range(TASK_COUNT):
            noop.defer()
    serving = app.with_connector(library.PsycopgConnector(conninfo=postgres_url))
    started = time.perf_counter()
    serving.run_worker(wait=False, concurrency=1, install_signal_handlers=False, listen_notify=False)
    return TASK_COUNT / (time.perf_counter() - started)


if __name__ == "__main__":
    queues: dict[str, Callable[..., float]] = {"celery": celery, "procrastinate": procrastinate}
    print(json.dumps(queues[sys.argv[1]](**json.loads(sys.argv[2]))))
