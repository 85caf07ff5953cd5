"""The caller of a request: tenant, scopes, and the credential that it came with."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from api.problems import Problem
from db.access.links import OpenLink
from db.models import Priority, Scope

PRIORITIES = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant, and what its credential allows."""

    tenant: str
    scopes: frozenset[Scope]
    max_priority: Priority
    actor: str
    """Name of the credential, for the audit log."""
    key_id: uuid.UUID | None = None
    """None for keys of the environment, and on a server without keys."""
    operator: bool = False
    """Whether it runs the server: it manages the keys and limits of every tenant."""
    credential: str | None = None
    """The key that tokens can be made with; None where the caller has none."""
    short_lived: bool = False
    """It came with a token of ours: what it makes is not to outlive that."""
    job_id: uuid.UUID | None = None
    """A token for one job opens nothing else."""
    link: OpenLink | None = None
    """A link opens one transcript, and nothing else."""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scopes: Collection[Scope]) -> None:
        """Raises Problem unless the caller has one of the scopes, where any is named."""
        if scopes and not any(self.may(scope) for scope in scopes):
            wanted = " or ".join(f"`{scope}`" for scope in scopes)
            raise Problem(
                403,
                "scope_missing",
                "Scope missing",
                f"This needs a credential with the scope {wanted}; make one with `longhand keys create --scopes`.",
            )

    def require_path(self, path: str) -> None:
        """Raises Problem if the credential is for one job, and the path is not one of that job's."""
        own = f"/v1/jobs/{self.job_id}"
        if self.link is not None and path not in (f"{own}/transcript", "/v1/shared"):
            detail = f"This link opens the transcript of job {self.job_id}, and nothing else."
            raise Problem(403, "link_of_one_transcript", "Link of one transcript", detail)
        if self.link is None and self.job_id is not None and path != own and not path.startswith(f"{own}/"):
            detail = f"This token opens job {self.job_id}, and nothing else."
            raise Problem(403, "token_of_one_job", "Token of one job", detail)

    def manages(self, tenant: str) -> bool:
        """Whether it may manage that tenant's keys and limits."""
        return self.may(Scope.ADMIN) and (self.operator or tenant == self.tenant)

    def require_priority(self, priority: Priority) -> None:
        """Raises Problem if the credential does not allow this priority."""
        if PRIORITIES.index(priority) > PRIORITIES.index(self.max_priority):
            raise Problem(
                403,
                "priority_not_allowed",
                "Priority not allowed",
                f"This API key may ask for priority {self.max_priority} at most, not {priority}; leave the option "
                "out, or have `max_priority` of the key raised.",
            )


def tenant_not_yours(tenant: str) -> Problem:
    detail = f"Only who runs the server may see or change {tenant!r}: use a key of LONGHAND_API_KEYS."
    return Problem(403, "tenant_not_yours", "Tenant not yours", detail)
