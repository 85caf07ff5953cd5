"""What a search means, where semantic search is wanted."""

from __future__ import annotations

import importlib
from functools import cached_property
from threading import Lock
from typing import Any

from api.problems import Problem
from db.settings import Settings
from speech.models.names import MEANING_MODEL


class QueryReader:
    """Loads the model when a meaning is first looked for: it is the only one that runs in the API. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading = Lock()

    @property
    def is_there(self) -> bool:
        """Whether operators want it, and have fetched the model."""
        settings = self._settings
        return settings.semantic_search and (settings.models_path / MEANING_MODEL / "model.onnx").is_file()

    def read(self, query: str) -> list[float]:
        """The vector of what is looked for. Raises Problem."""
        if not self._settings.semantic_search:
            raise unavailable("This server does not search by meaning; LONGHAND_SEMANTIC_SEARCH=true lets it.")
        with self._loading:
            model = self._model
        if not model.understands([query])[0]:
            detail = "The model reads English, and hardly anything of this: search by words instead."
            raise Problem(422, "invalid_query", "Invalid query", detail)
        return list(map(float, model.embed([query])[0]))

    @cached_property
    def _model(self) -> Any:
        """Tried again until it is there. Raises Problem."""
        # brings ONNX Runtime, which nobody else here needs
        meaning = importlib.import_module("speech.meaning")
        try:
            return meaning.load_meaning(self._settings.models_path)
        except meaning.EngineUnavailable as error:
            raise unavailable(str(error)) from error


def unavailable(detail: str) -> Problem:
    return Problem(409, "semantic_search_unavailable", "Semantic search unavailable", detail)
