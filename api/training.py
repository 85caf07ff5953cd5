"""What the endpoints of exports and fine-tunings have in common."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from api.dependencies import Services
from api.problems import Problem
from api.schemas import JobError
from db.models import Job, JobStatus
from db.training import exports

Limit = Annotated[int, Query(ge=1, le=100)]


class TrainingJobView(BaseModel):
    """The state of an export or a fine-tuning."""

    id: uuid.UUID
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error: JobError | None

    @staticmethod
    def job_fields(job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "status": job.status,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
            "error": JobError.of(job),
        }


def require_opt_in(services: Services, tenant: str) -> None:
    """Raises Problem if the tenant has not opted in to training."""
    if not exports.has_opted_in(services.settings, tenant):
        detail = f"The tenant {tenant!r} has not opted in to training: add it to LONGHAND_TRAINING_TENANTS."
        raise Problem(403, "training_not_allowed", "Training not allowed", detail)
