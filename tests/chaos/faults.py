"""The faults, one function each. Faults of a worker wait until it has a step."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from db.models import Step, StepKind
from tasks.queue import QUEUES, task_name
from tests.chaos.cluster import Cluster, until
from tests.media import DATA

Fault = Callable[[Cluster, random.Random], None]

MAX_WAIT_SECONDS = 6.0
"""Wait for the worker to have a step; after that the fault comes anyway."""


def _wait_until_busy(cluster: Cluster, queue: str) -> int | None:
    try:
        return until(lambda: cluster.busy(queue), seconds=MAX_WAIT_SECONDS)
    except AssertionError:
        return None


def kill_worker(queue: str, cluster: Cluster, rng: random.Random) -> None:
    _wait_until_busy(cluster, queue)
    cluster.kill(queue, host=_any_host(cluster, rng))


def _any_host(cluster: Cluster, rng: random.Random) -> int:
    return rng.randrange(len(cluster.hosts))


def kill_beat(cluster: Cluster, rng: random.Random) -> None:
    cluster.kill("beat")


def kill_api_amid_upload(cluster: Cluster, rng: random.Random) -> None:
    recording = DATA / rng.choice(["jfk.flac", "librivox_0890.flac"])
    cluster.submit_slowly(recording, lambda: cluster.kill("api"))


def kill_api_amid_streams(cluster: Cluster, rng: random.Random) -> None:
    cluster.kill("api", host=_any_host(cluster, rng))


def empty_redis(cluster: Cluster, rng: random.Random) -> None:
    cluster.redis.flushall()
    cluster.kill("redis")


def reset_redis(cluster: Cluster, rng: random.Random) -> None:
    cluster.redis_proxy.reset_within(rng.randrange(1, 200))


def hang_redis(cluster: Cluster, rng: random.Random) -> None:
    """For some seconds nothing passes and nothing is closed. Connections of that time never recover."""
    cluster.redis_proxy.hang(on=True)
    _run_later(rng.uniform(2, 8), lambda: cluster.redis_proxy.hang(on=False))


def restart_postgres(cluster: Cluster, rng: random.Random) -> None:
    cluster.kill("postgres", rng.choice([signal.SIGINT, signal.SIGQUIT]))


def hang_postgres(cluster: Cluster, rng: random.Random) -> None:
    """No lease can be renewed for longer than it lasts, and every transaction stands still."""
    cluster.hang("postgres", on=True)
    _run_later(rng.uniform(2, 8), lambda: cluster.hang("postgres", on=False))


def hang_s3(cluster: Cluster, rng: random.Random) -> None:
    cluster.hang("s3", on=True)
    _run_later(rng.uniform(2, 8), lambda: cluster.hang("s3", on=False))


def step_clock(cluster: Cluster, rng: random.Random) -> None:
    """The clock of a host's workers is an hour off for some seconds."""
    host = _any_host(cluster, rng)
    cluster.set_clock(host, rng.choice([-3600, 3600]))
    _run_later(rng.uniform(2, 8), lambda: cluster.set_clock(host, 0))


def roll_out(cluster: Cluster, rng: random.Random) -> None:
    """Replace the API and then the workers one by one, as an upgrade does."""
    for host, name in product(range(len(cluster.hosts)), ("api", "cpu", "gpu", "io")):
        before = cluster.pid(name, host)
        cluster.kill(name, signal.SIGTERM, host)
        until(partial(_is_replaced, cluster, name, host, before), f"a new {name}")


def _is_replaced(cluster: Cluster, name: str, host: int, before: int) -> bool:
    return cluster.pid(name, host) != before


def s3_down(cluster: Cluster, rng: random.Random) -> None:
    cluster.s3_proxy.refuse(on=True)
    _run_later(10, lambda: cluster.s3_proxy.refuse(on=False))


def zombie(cluster: Cluster, rng: random.Random) -> None:
    """Suspend a worker until its lease has expired and its step was requeued, then resume it."""
    queue = rng.choice(["cpu", "gpu"])
    fence = _wait_until_busy(cluster, queue)
    pid = cluster.pid(queue, _any_host(cluster, rng))
    os.kill(pid, signal.SIGSTOP)
    try:
        if fence is not None:
            until(lambda: not _is_leased(cluster, fence), "a suspended worker loses its step")
    finally:
        os.kill(pid, signal.SIGCONT)


def _is_leased(cluster: Cluster, fence: int) -> bool:
    with cluster.sessions() as session:
        step = session.query(Step).filter(Step.fence == fence).one_or_none()
        return step is not None and step.lease_until is not None


def double_hint(cluster: Cluster, rng: random.Random) -> None:
    """Send the same message three times."""
    kind = rng.choice([StepKind.DRAFT, StepKind.REFINE, StepKind.ALIGN])
    task_id = str(rng.getrandbits(64))
    for _ in range(3):
        cluster.celery.send_task(task_name(kind), task_id=task_id, queue=QUEUES[kind])


def stop_gently(cluster: Cluster, rng: random.Random) -> None:
    """SIGTERM, as in a rolling restart: the worker requeues what it cannot finish."""
    queue = rng.choice(["cpu", "gpu", "io"])
    _wait_until_busy(cluster, queue)
    cluster.kill(queue, signal.SIGTERM, _any_host(cluster, rng))


FAULTS: dict[str, Fault] = {f"kill_{queue}": partial(kill_worker, queue) for queue in ("cpu", "gpu", "io")}
FAULTS |= {
    fault.__name__: fault
    for fault in (
        kill_beat,
        kill_api_amid_upload,
        kill_api_amid_streams,
        empty_redis,
        reset_redis,
        hang_redis,
        hang_postgres,
        hang_s3,
        restart_postgres,
        roll_out,
        step_clock,
        s3_down,
        zombie,
        double_hint,
        stop_gently,
    )
}


def _run_later(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def recordings() -> list[Path]:
    """Real recordings, except one whose decoding is not deterministic and one that is similar to another."""
    excluded = {"zh_asr_example.flac", "ocean_0001.flac"}
    return [path for path in sorted(DATA.glob("*.flac")) if path.name not in excluded] + [
        DATA / "two_voices_stereo.wav"
    ]
