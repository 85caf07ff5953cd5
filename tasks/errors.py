"""How a step can fail.

    StepError
    ├── Transient     try again later, with backoff
    ├── Permanent     the recording or its options are at fault: the job fails with a code the user can act on
    └── LeaseLost     somebody else owns the step now: drop everything

Anything else is a bug: logged with its traceback, and the step is tried again until its attempts are spent.
"""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.storage import StorageError

INFRASTRUCTURE = (OperationalError, InterfaceError, InternalError, PoolTimeout, *StorageError)
"""Failures of Postgres or S3, which pass: retrying later helps."""


class StepError(Exception):
    """A step did not come to its end."""


class Transient(StepError):
    """A service was away or busy."""


class Permanent(StepError):
    """Trying again cannot help. ``code`` is stable; the message tells the user what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LeaseLost(StepError):
    """The job was cancelled or deleted, or the lease ran out and another worker took over."""
