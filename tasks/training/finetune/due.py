"""When the next fine-tuning follows: after an export, and after a fine-tuning of the other role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.models import Role
from db.queue.transaction import JobTransaction
from db.settings import Settings
from db.training import finetunes


@dataclass(frozen=True, slots=True)
class Due:
    """The roles that are tuned, the seconds of new speech that start a fine-tuning, and how many one may have."""

    roles: Sequence[Role]
    min_seconds: float
    max_seconds: float

    @classmethod
    def by(cls, settings: Settings) -> Due:
        roles = [Role(role) for role in settings.finetune_roles]
        return cls(roles, settings.finetune_hours * 3600, settings.finetune_max_hours * 3600)

    def start_next(self, tx: JobTransaction) -> None:
        started = finetunes.start_next_if_due(
            tx.session, tx.job.tenant, self.roles, self.min_seconds, self.max_seconds
        )
        if started is not None:
            tx.events += started.events
            tx.ready += started.ready
