"""The Celery application. Its messages are only hints that a step of some kind, or a delivery, may be ready."""

from __future__ import annotations

import logging
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.url import parse_url
from redis.exceptions import RedisError

from db.models import StepKind
from db.settings import Settings, get_settings
from db.webhooks.outbox import DELIVER

logger = logging.getLogger(__name__)

QUEUES: dict[str, str] = {
    StepKind.FETCH: "io",
    StepKind.INGEST: "cpu",
    StepKind.DRAFT: "cpu",
    StepKind.REFINE: "gpu",
    StepKind.DIARIZE: "gpu",
    StepKind.EMBED: "cpu",
    StepKind.ALIGN: "io",
    StepKind.FINALIZE: "io",
    StepKind.PURGE: "io",
    StepKind.EXPORT: "io",
    StepKind.FINETUNE: "gpu",
    StepKind.ERASE: "io",
    StepKind.SUMMARISE: "io",
    StepKind.ANSWER: "io",
    StepKind.TRANSLATE: "io",
    StepKind.INDEX: "cpu",
    DELIVER: "io",
}
"""Of each kind of step, and of deliveries."""

SWEEP_TASK = "longhand.sweep"
NIGHTLY_TASK = "longhand.nightly"


def task_name(kind: str) -> str:
    return f"longhand.{kind}"


def broker_tls(url: str) -> dict[str, Any] | None:
    """What ``broker_use_ssl`` must say for a ``rediss://`` URL; None for others.

    Kombu takes any certificate where nothing is said. Here the server's is checked, with its name, against the
    authorities of the system or ``ssl_ca_certs``, unless the URL itself asks for less.
    """
    parts = parse_url(url)
    if parts["transport"] != "rediss":
        return None
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **parts.get("ssl", {})}


def make_app(settings: Settings) -> Celery:
    app = Celery("longhand", broker=settings.redis_url, include=["tasks.registry"])
    app.conf.update(
        broker_use_ssl=broker_tls(settings.redis_url),
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_routes={
            **{task_name(kind): {"queue": queue} for kind, queue in QUEUES.items()},
            SWEEP_TASK: {"queue": "io"},
            NIGHTLY_TASK: {"queue": "io"},
        },
        # messages are hints: a lost one costs a round of healing, a repeated one finds nothing to claim
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        task_send_sent_event=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "queue_order_strategy": "priority",
        },
        beat_schedule={
            "sweep": {"task": SWEEP_TASK, "schedule": 3600.0, "options": {"expires": 3600.0}},
            # hourly, though exports are nightly: the next run makes up for a missed one
            "nightly": {"task": NIGHTLY_TASK, "schedule": 3600.0, "options": {"expires": 3600.0}},
        },
        timezone="UTC",
    )
    return app


app = make_app(get_settings())


BACKOFF_SECONDS = 10.0
"""Pause in sending after a failure, since every hint would wait for its timeout."""

_paused_until = 0.0


MOST_HINTS = 64
"""Of one kind at once. Whoever hears one goes on while there is work, so that more would ring for nobody."""


def send_hints(kinds: Iterable[str]) -> None:
    """Send a hint for each ready step or delivery. While the broker is down, watchdogs of workers find them."""
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    for kind, count in Counter(kinds).items():
        try:
            for _ in range(min(count, MOST_HINTS)):
                app.send_task(task_name(kind), retry=False)
        except (OperationalError, RedisError, OSError) as error:
            logger.warning("could not send %d %s hints: %s", count, kind, error)
            _paused_until = time.monotonic() + BACKOFF_SECONDS
            return
