"""``/v1/templates``: how a tenant wants its summaries."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import delete

from api.dependencies import ServicesDep, SessionDep, Tenant, needs
from api.problems import too_many
from api.text import CONTROLS
from db import readings
from db.models import Scope, Template

router = APIRouter(prefix="/v1/templates", tags=["readings"])

MOST_TEMPLATES = 100

TemplateName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Part = Literal["title", "summary", "chapters", "actions"]


def _clean(text: str) -> str:
    if CONTROLS.search(text):
        raise ValueError("control characters are not allowed")
    return text


class TemplateRequest(BaseModel):
    """What is asked of the language model, beside the rules that hold for every summary."""

    model_config = ConfigDict(extra="forbid")

    instructions: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=2000), AfterValidator(_clean)
    ] = Field("", description="In words: what it is about, what matters, for whom, in which tone.")
    parts: list[Part] = Field(
        ["title", "summary", "chapters", "actions"], min_length=1, max_length=4, description="What it has."
    )
    sentences: int = Field(8, ge=1, le=40, description="Most that the summary has.")


class TemplateView(TemplateRequest):
    name: str

    @classmethod
    def of(cls, row: Template) -> TemplateView:
        return cls.model_validate(row, from_attributes=True)


class TemplateList(BaseModel):
    data: list[TemplateView]


@router.get("", response_model=TemplateList, dependencies=[needs(Scope.JOBS_READ)])
def list_templates(session: SessionDep, tenant: Tenant) -> TemplateList:
    """The tenant's templates, by name."""
    return TemplateList(data=[TemplateView.of(row) for row in readings.templates(session, tenant)])


@router.put("/{template}", response_model=TemplateView, dependencies=[needs(Scope.JOBS_WRITE)])
def put_template(
    template: TemplateName, request: TemplateRequest, services: ServicesDep, tenant: Tenant
) -> TemplateView:
    """Make a template, or replace it; summaries that are made already stay as they are."""
    with services.for_tenant(tenant).begin() as session:
        if session.get(Template, (tenant, template)) is None:
            _check_room(len(readings.templates(session, tenant)))
        row = session.merge(Template(tenant=tenant, name=template, **request.model_dump()))
        session.flush()
        return TemplateView.of(row)


def _check_room(count: int) -> None:
    if count >= MOST_TEMPLATES:
        raise too_many("templates", count)


@router.delete("/{template}", status_code=204, dependencies=[needs(Scope.JOBS_WRITE)])
def delete_template(template: TemplateName, services: ServicesDep, tenant: Tenant) -> None:
    """Remove a template, if it is there. A summary that is yet to be made by it fails, and says so."""
    with services.for_tenant(tenant).begin() as session:
        session.execute(delete(Template).where(Template.tenant == tenant, Template.name == template))
