"""``python -m workers.diagnosis`` prints what it finds as JSON; ``longhand doctor`` runs it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from db.settings import Settings, get_settings
from workers.diagnosis.configuration import check_settings
from workers.diagnosis.endpoints import check_endpoints
from workers.diagnosis.finding import Finding, State
from workers.diagnosis.machine import check_disk, check_gpu, check_models
from workers.diagnosis.processes import check_workers
from workers.diagnosis.servers import check_postgres, check_redis, check_s3

Check = Callable[[Settings], Iterable[Finding]]
BESIDE: tuple[Check, ...] = (check_postgres, check_s3, check_models, check_endpoints)
"""Those that may take a while."""


def diagnose(settings: Settings) -> list[Finding]:
    """Everything, in the order in which it is mended."""
    with ThreadPoolExecutor(len(BESIDE)) as pool:
        postgres, s3, models, endpoints = (pool.submit(_all, check, settings) for check in BESIDE)
        redis = _all(check_redis, settings)
        # the broker's client would wait for Redis for ever
        workers = [] if any(found.state == State.BROKEN for found in redis) else _all(check_workers, settings)
        here = [found for check in (check_gpu, check_disk) for found in check(settings)]
        return [
            *_all(check_settings, settings),
            *postgres.result(),
            *redis,
            *s3.result(),
            *models.result(),
            *endpoints.result(),
            *here,
            *workers,
        ]


def _all(check: Check, settings: Settings) -> list[Finding]:
    return list(check(settings))


if __name__ == "__main__":
    logging.disable()
    json.dump([asdict(found) for found in diagnose(get_settings())], sys.stdout)
