"""What several endpoints ask of webhooks."""

from __future__ import annotations

from api.dependencies import Services
from api.problems import Problem
from db.models import Job
from db.webhooks import signing


def require_secret(services: Services, job: Job) -> None:
    """Raises Problem if the job names an address, and its tenant has no secret to sign what is sent there."""
    if job.options.get("webhook") is None:
        return
    with services.for_tenant(job.tenant)() as session:
        if not signing.exists(session, job.tenant):
            detail = (
                "What is sent to the `webhook` of a job is signed with the tenant's secret, and there is none; an "
                "admin makes it with POST /v1/webhooks/secret."
            )
            raise Problem(409, "webhook_secret_missing", "Webhook secret missing", detail)
