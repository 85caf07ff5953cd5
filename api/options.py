"""Models behind HTTP, as jobs may name them."""

from __future__ import annotations

from api.access.caller import Caller
from api.problems import Problem
from api.schemas import JobOptions
from http_engines.endpoints import Endpoints, EndpointsFile


def check_options(file: EndpointsFile, caller: Caller, options: JobOptions) -> None:
    """Raises Problem for what the caller may not ask for, or this server does not have."""
    caller.require_priority(options.priority)
    endpoints = file.current
    _check_model(endpoints, "draft", options.draft_model, options.language)
    _check_model(endpoints, "refine", options.refine_model, options.language)
    if options.summarise is not None:
        check_reader(file, options.summarise.model)


def check_reader(file: EndpointsFile, name: str | None) -> None:
    """Raises Problem where the server has no such language model."""
    known = [model.name for model in file.current.language_model]
    if file.current.reader(name) is None:
        there = f"there are: {', '.join(known)}" if known else "this server has none"
        which = "" if name is None else f" {name!r}"
        detail = f"There is no language model{which}; {there}."
        raise Problem(422, "model_not_found", "Model not found", detail, param="model", models=known)


def _check_model(endpoints: Endpoints, role: str, name: str | None, language: str | None) -> None:
    if name is None:
        return
    known = [model.name for model in endpoints.serving(role)]
    model = endpoints.find(name) if name in known else None
    if model is None:
        there = f"there are: {', '.join(known)}" if known else "there is none"
        detail = f"No model behind HTTP that can {role} is called {name!r}; {there}."
        raise Problem(422, "model_not_found", "Model not found", detail, param=f"{role}_model", models=known)
    if language is not None and language not in model.known_languages:
        detail = f"{name} does not know the language {language!r}; leave {role}_model or the language out."
        raise Problem(422, "invalid_options", "Invalid options", detail, param=f"{role}_model")
