"""The names of models, ours and OpenAI's, and what each has a job do."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from api.problems import Problem
from http_engines.endpoints import EndpointsFile

CREATED = 1_767_225_600
"""Clients want a Unix time of every model: the beginning of 2026."""

REFINED: dict[str, object] = {"refine": "only", "diarize": False}
DRAFTED: Mapping[str, object] = {"refine": "never", "diarize": False}
DIARIZED: Mapping[str, object] = {"refine": "only", "diarize": True}

MODELS: Mapping[str, Mapping[str, object]] = {
    "longhand": REFINED,
    "longhand-draft": DRAFTED,
    "longhand-diarize": DIARIZED,
    "whisper-1": REFINED,
    "gpt-transcribe": REFINED,
    "gpt-4o-transcribe": REFINED,
    "gpt-4o-mini-transcribe": REFINED,
    "gpt-4o-mini-transcribe-2025-12-15": REFINED,
    "gpt-4o-transcribe-diarize": DIARIZED,
}
"""Options of the jobs."""

DEFAULT = "longhand"


def names(endpoints: EndpointsFile) -> list[str]:
    """Of the models behind HTTP that refine."""
    return [model.name for model in endpoints.current.serving("refine")]


def options_of(model: str, behind_http: Collection[str]) -> Mapping[str, object]:
    """Raises Problem."""
    if model in behind_http:
        return REFINED | {"refine_model": model}
    if model not in MODELS:
        detail = f"There is no model {model!r}; this server has: {', '.join((*MODELS, *behind_http))}."
        raise Problem(404, "model_not_found", "Model not found", detail, param="model")
    return MODELS[model]
