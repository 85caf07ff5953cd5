"""The ways in which a step can fail.

    StepError
    ├── Transient     try again later, with backoff
    ├── Permanent     the recording or its options are at fault: the job fails with a code the user can act on
    │   └── Broken        this server is: whoever runs it has to look
    ├── Unserved      the model that it needs is away: the job goes on without, if it can
    ├── AtNoCost      run it again, without counting this attempt
    │   ├── Superseded    what it read has changed meanwhile
    │   ├── Awaited       a model is away, and may be back in seconds
    │   └── BackupUnderWay  what it would remove is being copied
    └── LeaseLost     another worker has the step, or it was cancelled: discard everything

Anything else is a bug: it is logged with its traceback, and the step is tried again until its attempts are spent.
"""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.objects.storage import StorageError

INFRASTRUCTURE = (OperationalError, InterfaceError, InternalError, PoolTimeout, *StorageError)
"""Outages of Postgres or S3: retrying later helps."""


class StepError(Exception):
    """A step failed."""


class Transient(StepError):
    """A service was unavailable or busy."""


class Unreachable(Transient):
    """A server of somebody else is away. Once all attempts are spent, the job fails with this code."""

    code = "url_unreachable"


class Permanent(StepError):
    """Retrying cannot help. ``code`` is stable; the message tells the user what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Broken(Permanent):
    """What this server should have is gone, or does not work here."""


class Unserved(StepError):
    """The model is away for longer than anybody waits, or refuses the chunk. A job without its output fails so."""

    code = "engine_away"


class AtNoCost(StepError):
    """The step was not at fault: it runs again after ``delay`` seconds."""

    def __init__(self, message: str, *, delay: float = 0.0) -> None:
        super().__init__(message)
        self.delay = delay


class Superseded(AtNoCost):
    """What the step has read was changed before it could commit, or will be."""


class Awaited(AtNoCost):
    """No host of the model that the step needs is there at the moment."""


class BackupUnderWay(AtNoCost):
    """Nothing that a backup may still have to copy is removed meanwhile."""

    def __init__(self) -> None:
        super().__init__("a backup is under way, which copies what was to be removed", delay=30.0)


class LeaseLost(StepError):
    """The job was cancelled or deleted, or the lease ran out and another worker took over."""
