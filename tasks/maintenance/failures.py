"""One job that cannot be maintained must not keep the jobs of others from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import LockNotAvailable, QueryCanceled
from sqlalchemy.exc import OperationalError

from tasks.errors import INFRASTRUCTURE, BackupUnderWay

logger = logging.getLogger(__name__)


@contextmanager
def logging_failures(what: str) -> Iterator[None]:
    """Log an exception of the block instead of raising it.

    Outages are raised, as they concern all jobs alike; a lock held too long concerns one job.
    """
    try:
        yield
    except INFRASTRUCTURE as error:
        if not (isinstance(error, OperationalError) and isinstance(error.orig, LockNotAvailable | QueryCanceled)):
            raise
        logger.warning("could not %s: %s", what, error)
    except BackupUnderWay as error:
        logger.info("could not %s yet: %s", what, error)
    except Exception as error:
        logger.error("could not %s", what, exc_info=error)
