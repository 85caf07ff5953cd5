"""``/v1/queues``: what waits and who works, for scaling by itself and for who runs the server."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from api.dependencies import CallerDep, Services, ServicesDep, needs
from db.models import Scope
from db.queue.backlog import Depth, depths
from db.queue.pace import paces, work
from tasks.queue import QUEUES

router = APIRouter(prefix="/v1/queues", dependencies=[needs(Scope.ADMIN)], tags=["queues"])

NAMES = sorted(set(QUEUES.values()))


class Open(BaseModel):
    """What is open."""

    waiting: int = Field(description="Steps that could run now.")
    delayed: int = Field(description="Steps that wait for their time.")
    running: int
    oldest_seconds: float = Field(description="So long the first of those waiting has waited; 0 where none waits.")


class KindView(Open):
    """One kind of step, or `deliver`, the deliveries of webhooks."""

    queue: str = Field(description="Whose workers run it.")
    steps_per_second: float | None = Field(description="Its pace in the last five minutes.")
    drain_seconds: float | None = Field(
        description="Until nothing waits at this pace, if nothing is added; null where none has run."
    )


class QueueView(Open):
    """One queue: a kind of worker."""

    workers: int | None = Field(
        description="Processes that said in the last half minute that they work; null where Redis does not answer."
    )
    drain_seconds: float | None = Field(description="Of the kind that takes longest; null where one is unknown.")
    work_per_audio_second: float | None = Field(
        None, description="Seconds of a worker for a second of audio, with `measure`; null where nothing has run."
    )


class QueuesView(BaseModel):
    queues: dict[str, QueueView]
    kinds: dict[str, KindView]
    measured_audio_seconds: float | None = Field(
        None, description="With `measure`: of the latest recordings, from which the work is known."
    )


@router.get("", response_model=QueuesView)
def show_queues(
    services: ServicesDep,
    caller: CallerDep,
    measure: Annotated[bool, Query(description="Whether to add up what the latest recordings have cost.")] = False,
) -> QueuesView:
    """Depth, age, workers and drain, by queue and by kind.

    Who runs the server sees the whole queue, another admin that of its tenant.
    """
    sessions = services.across_tenants if caller.operator else services.for_tenant(caller.tenant)
    with sessions() as session:
        found, pace = depths(session), paces(session)
        measured = work(session, QUEUES) if measure else None
    kinds = {str(kind): _kind(queue, found[kind], pace.get(kind)) for kind, queue in QUEUES.items()}
    workers = _workers(services)
    costs = measured.of_queue if measured else {}
    return QueuesView(
        queues={
            name: _queue(
                [view for view in kinds.values() if view.queue == name],
                None if workers is None else workers.get(name, 0),
                costs.get(name),
            )
            for name in NAMES
        },
        kinds=kinds,
        measured_audio_seconds=measured.audio_seconds if measured else None,
    )


def _kind(queue: str, depth: Depth, pace: float | None) -> KindView:
    drain = 0.0 if not depth.waiting else depth.waiting / pace if pace else None
    return KindView(
        queue=queue,
        waiting=depth.waiting,
        delayed=depth.delayed,
        running=depth.running,
        oldest_seconds=depth.oldest_seconds,
        steps_per_second=pace,
        drain_seconds=drain,
    )


def _queue(kinds: list[KindView], workers: int | None, cost: float | None) -> QueueView:
    drains = [kind.drain_seconds for kind in kinds]
    return QueueView(
        waiting=sum(kind.waiting for kind in kinds),
        delayed=sum(kind.delayed for kind in kinds),
        running=sum(kind.running for kind in kinds),
        oldest_seconds=max(kind.oldest_seconds for kind in kinds),
        workers=workers,
        drain_seconds=None if None in drains else max(filter(None, drains), default=0.0),
        work_per_audio_second=cost,
    )


def _workers(services: Services) -> dict[str, int] | None:
    try:
        return services.bus.count_workers()
    except RedisError:
        return None
