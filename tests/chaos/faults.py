"""What can go wrong, each as one function that makes it go wrong at a moment of the world's choosing."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from db.models import Step, StepKind
from tasks.queue import QUEUES, task_name
from tests.chaos.world import World, until
from tests.media import DATA

Fault = Callable[[World, random.Random], None]

PATIENCE = 6.0
"""Seconds to wait for the right moment; without one the fault comes anyway."""


def _when_busy(world: World, queue: str) -> int | None:
    try:
        return until(lambda: world.busy(queue), seconds=PATIENCE)
    except AssertionError:
        return None


def kill_worker(queue: str, world: World, chance: random.Random) -> None:
    _when_busy(world, queue)
    world.kill(queue)


def kill_beat(world: World, chance: random.Random) -> None:
    world.kill("beat")


def kill_api_amid_upload(world: World, chance: random.Random) -> None:
    recording = DATA / chance.choice(["jfk.flac", "librivox_0890.flac"])
    world.submit_slowly(recording, lambda: world.kill("api"))


def kill_api_amid_streams(world: World, chance: random.Random) -> None:
    world.kill("api")


def empty_redis(world: World, chance: random.Random) -> None:
    world.redis.flushall()
    world.kill("redis")


def reset_redis(world: World, chance: random.Random) -> None:
    world.redis_proxy.reset_within(chance.randrange(1, 200))


def hang_redis(world: World, chance: random.Random) -> None:
    """For a while nothing passes and nothing is closed; the connections of that time never recover."""
    world.redis_proxy.hang(on=True)
    _later(chance.uniform(2, 8), lambda: world.redis_proxy.hang(on=False))


def restart_postgres(world: World, chance: random.Random) -> None:
    world.kill("postgres", chance.choice([signal.SIGINT, signal.SIGQUIT]))


def s3_down(world: World, chance: random.Random) -> None:
    world.s3_proxy.refuse(on=True)
    _later(10, lambda: world.s3_proxy.refuse(on=False))


def zombie(world: World, chance: random.Random) -> None:
    """A worker sleeps until its lease has run out and its step was handed back; then it wakes and goes on."""
    queue = chance.choice(["cpu", "gpu"])
    fence = _when_busy(world, queue)
    pid = world.pid(queue)
    os.kill(pid, signal.SIGSTOP)
    try:
        if fence is not None:
            until(lambda: not _holds(world, fence), "a sleeping worker loses its step")
    finally:
        os.kill(pid, signal.SIGCONT)


def _holds(world: World, fence: int) -> bool:
    with world.sessions() as session:
        step = session.query(Step).filter(Step.fence == fence).one_or_none()
        return step is not None and step.lease_until is not None


def double_hint(world: World, chance: random.Random) -> None:
    """The very same message, three times."""
    kind = chance.choice([StepKind.DRAFT, StepKind.REFINE, StepKind.ALIGN])
    task_id = str(chance.getrandbits(64))
    for _ in range(3):
        world.celery.send_task(task_name(kind), task_id=task_id, queue=QUEUES[kind])


def stop_gently(world: World, chance: random.Random) -> None:
    """As a rolling restart does: the worker hands back what it cannot finish."""
    queue = chance.choice(["cpu", "gpu", "io"])
    _when_busy(world, queue)
    world.kill(queue, signal.SIGTERM)


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
        restart_postgres,
        s3_down,
        zombie,
        double_hint,
        stop_gently,
    )
}


def _later(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def recordings() -> list[Path]:
    """Real recordings, but for one whose decoding involves chance, and one that is much like another."""
    left_out = {"zh_asr_example.flac", "ocean_0001.flac"}
    return [path for path in sorted(DATA.glob("*.flac")) if path.name not in left_out] + [
        DATA / "two_voices_stereo.wav"
    ]
