"""``/v1/server``: which server this is, and what the caller may do on it."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, ServicesDep, SessionDep, for_every_caller
from db.models import Priority, Scope
from db.search import meanings
from db.settings import Settings
from db.training.exports import has_opted_in
from speech.models.names import RefineEngine, has_learnt_to_translate

router = APIRouter(prefix="/v1/server", tags=["health"])


class ServerView(BaseModel):
    """What a client has to know before it asks for more."""

    version: str
    tenant: str = Field(description="The caller's.")
    actor: str = Field(description="The name of its credential, as the audit log has it.")
    scopes: list[Scope] = Field(description="What the credential may do, where `admin` stands for all.")
    operator: bool = Field(description="Whether the caller runs the server.")
    max_priority: Priority
    key_needed: bool = Field(
        description="False on a server that only its own machine reaches, and that has no key."
    )
    training: bool = Field(description="Whether the tenant's speech may be trained on.")
    language_models: list[str] = Field(description="Those that read transcripts, in their order of preference.")
    semantic_search: bool = Field(description="Whether transcripts can be searched by meaning.")
    translates: bool = Field(
        description="Whether the option `translate` of jobs has a model, as far as its name tells."
    )
    docs: bool = Field(description="Whether `/docs` is there.")
    flower_url: str | None = Field(
        description="Where workers and tasks are shown, if anywhere, to who runs the server."
    )
    live_url: str | None = Field(
        description="Where live sessions are served, as `ws://` or `wss://`; with the API where there is none."
    )


@router.get("", response_model=ServerView, dependencies=[for_every_caller()])
def show_server(services: ServicesDep, caller: CallerDep, session: SessionDep) -> ServerView:
    """The server, and the caller as the server sees it."""
    return ServerView(
        version=version("longhand"),
        tenant=caller.tenant,
        actor=caller.actor,
        scopes=sorted(caller.scopes),
        operator=caller.operator,
        max_priority=caller.max_priority,
        key_needed=not services.authenticator.is_open,
        training=has_opted_in(services.settings, caller.tenant),
        language_models=[model.name for model in services.endpoints.current.language_model],
        semantic_search=services.query_reader.is_there and meanings.are_kept(session),
        translates=_translates(services.settings),
        docs=services.settings.docs,
        flower_url=services.settings.flower_url if caller.operator else None,
        live_url=services.settings.live_url,
    )


def _translates(settings: Settings) -> bool:
    engines = [name.strip() for name in settings.refine_engine.split(",")]
    return RefineEngine.WHISPER in engines and has_learnt_to_translate(settings.refine_model)
