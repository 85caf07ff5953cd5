"""Sentences as vectors: what means much the same lies close together, whatever the words.

all-MiniLM-L6-v2 (huggingface.co/sentence-transformers/all-MiniLM-L6-v2): the mean over the tokens of a text,
brought to length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from speech.engines import EngineUnavailable
from speech.models.catalogue import Catalogue
from speech.models.names import MEANING_MODEL
from speech.models.onnx import open_session

MOST_TOKENS = 256
"""Of a text; the model was trained on beginnings of that length."""

UNKNOWN = "[UNK]"
"""The token of what is not in the vocabulary."""

TEXTS_AT_ONCE = 16
"""In a run of the network: those of about one length, as the shorter ones are filled up."""


class MeaningModel:
    """A loaded model, on one thread. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Raises EngineUnavailable."""
        self._session = open_session(folder / "model.onnx", threads=1)
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise EngineUnavailable(f"The tokenizer of {MEANING_MODEL} cannot be loaded: {error}") from error
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, 384), each of length 1."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors = np.zeros((len(texts), 384), np.float32)
        for at in range(0, len(order), TEXTS_AT_ONCE):
            part = order[at : at + TEXTS_AT_ONCE]
            vectors[part] = self._run([texts[place] for place in part])
        return vectors

    def understands(self, texts: Sequence[str]) -> list[bool]:
        """Of each, whether the model knows most of what it consists of: of other scripts it does not."""
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        # filled up to the longest of them
        tokens = [list(compress(each.tokens, each.attention_mask)) for each in encoded]
        return [2 * each.count(UNKNOWN) < len(each) for each in tokens]

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer.encode_batch(texts)
        mask = np.array([each.attention_mask for each in tokens], np.int64)
        ids = np.array([each.ids for each in tokens], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = self._session.run(None, given)
        weights = mask[..., None].astype(np.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def load_meaning(models: Path) -> MeaningModel:
    """The model, of a folder of models. Raises EngineUnavailable."""
    return MeaningModel(Catalogue(models).locate(MEANING_MODEL))
