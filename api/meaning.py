"""What a search means, where semantic search is wanted."""

from __future__ import annotations

import importlib
from threading import Lock
from typing import Any

from api.problems import Problem
from db.settings import Settings


class QueryReader:
    """Loads the model when a meaning is first looked for: it is the only one that runs in the API. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading = Lock()
        self._model: Any = None

    def read(self, query: str) -> list[float]:
        """The vector of what is looked for. Raises Problem."""
        if not self._settings.semantic_search:
            raise unavailable("This server does not search by meaning; LONGHAND_SEMANTIC_SEARCH=true lets it.")
        with self._loading:
            self._model = self._model or self._load()
        return list(map(float, self._model.embed([query])[0]))

    def _load(self) -> Any:
        # brings ONNX Runtime, which nobody else here needs
        meaning = importlib.import_module("speech.meaning")
        try:
            return meaning.load_meaning(self._settings.models_path)
        except meaning.EngineUnavailable as error:
            raise unavailable(str(error)) from error


def unavailable(detail: str) -> Problem:
    return Problem(409, "semantic_search_unavailable", "Semantic search unavailable", detail)
