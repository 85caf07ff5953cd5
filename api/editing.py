"""A change that a person makes to a transcript: under the lock of its job, and announced once it is answered."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import BackgroundTasks, Depends
from sqlalchemy import func

from api.dependencies import Services, ServicesDep, Tenant, announce, find_job
from api.problems import job_not_found
from db.models import Job, JobStatus
from db.objects.storage import transcript_prefix
from db.queue.transaction import JobGone, JobTransaction, job_transaction


@dataclass(frozen=True)
class Editor:
    """Changes the transcript of one job of a tenant."""

    services: Services
    tenant: str
    background: BackgroundTasks

    @contextmanager
    def change(self, job_id: str) -> Iterator[JobTransaction]:
        """The job under its lock. What is emitted outdates the files of a finished transcript. Raises Problem."""
        with self.lock(job_id) as transaction:
            yield transaction
            if transaction.emitted:
                _outdate_files(transaction.job)

    @contextmanager
    def lock(self, job_id: str) -> Iterator[JobTransaction]:
        """The job under its lock, whose transcript stays as it is. Raises Problem."""
        sessions = self.services.for_tenant(self.tenant)
        with sessions() as session:
            found = find_job(session, self.tenant, job_id).id
        try:
            with job_transaction(sessions, found) as transaction:
                if transaction.job.deleted_at is not None:
                    raise job_not_found(job_id)
                yield transaction
        except JobGone as error:
            raise job_not_found(job_id) from error
        self.background.add_task(announce, self.services, transaction)


def _editor(services: ServicesDep, tenant: Tenant, background: BackgroundTasks) -> Editor:
    return Editor(services, tenant, background)


EditorDep = Annotated[Editor, Depends(_editor)]


def _outdate_files(job: Job) -> None:
    """Give a finished transcript a prefix without files: from then on it is rendered from the rows."""
    if job.status == JobStatus.COMPLETED:
        job.transcript_prefix = f"{transcript_prefix(job.id)}changed-{job.event_seq}-{uuid.uuid4().hex[:8]}/"
        job.corrected_at = func.now()
