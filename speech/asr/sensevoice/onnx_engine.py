"""SenseVoice in ONNX Runtime.

The exported network is the one that sherpa-onnx defines: inputs ``x, x_length, language, text_norm``, and the
constants of the front end in its metadata. ``speech/conversion/export/sensevoice.py`` exports it from the PyTorch
original.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.asr.sensevoice.base import LANGUAGE_IDS, SenseVoice
from speech.asr.sensevoice.ctc import QUERY_COUNT, Posteriors, best_classes
from speech.asr.sensevoice.tokens import read_vocabulary
from speech.audio.filterbank import Features, fbank, stack_frames
from speech.engines import EngineInfo, EngineUnavailable, Utterance
from speech.models.onnx import open_session, read_metadata
from speech.models.streams import Streams


class SenseVoiceEngine(SenseVoice):
    """A loaded ONNX export. Thread-safe."""

    batch_size = 1
    """The scales of an int8 export depend on the largest activation in a batch, so each utterance runs alone."""

    def __init__(self, folder: Path, *, threads: int = 1, itn: bool = True, quantised: bool | None = None) -> None:
        """``folder`` holds ``tokens.txt`` and ``model.int8.onnx``, which is preferred, or ``model.onnx``.

        Raises EngineUnavailable.
        """
        if quantised is None:
            quantised = (folder / "model.int8.onnx").is_file()
        streams = Streams(threads)
        name = "model.int8.onnx" if quantised else "model.onnx"
        self._session = open_session(folder / name, threads=streams.threads)
        metadata = read_metadata(self._session)
        try:
            self._mean = _read_numbers(metadata["neg_mean"])
            self._scale = _read_numbers(metadata["inv_stddev"])
            self._window = int(metadata["lfr_window_size"])
            self._step = int(metadata["lfr_window_shift"])
            self._language_ids = {name: int(metadata[f"lang_{name}"]) for name in LANGUAGE_IDS}
            self._itn_ids = {True: int(metadata["with_itn"]), False: int(metadata["without_itn"])}
            pieces, blank = read_vocabulary(folder / "tokens.txt"), int(metadata.get("blank_id", 0))
            super().__init__(pieces, blank=blank, itn=itn, streams=streams)
        except (KeyError, ValueError, OSError) as error:
            raise EngineUnavailable(
                f"SenseVoice cannot load from {folder}: its metadata or tokens.txt is not complete ({error})."
            ) from error
        self.info = EngineInfo("sensevoice-onnx", folder.name, "cpu", "int8" if quantised else "float32")

    def features(self, utterance: Utterance) -> Features:
        stacked = stack_frames(
            fbank(utterance.samples, window="hamming", scale=32768), width=self._window, step=self._step
        )
        return (stacked + self._mean) * self._scale

    def posteriors(self, features: Sequence[Features], languages: Sequence[str], itn: bool) -> list[Posteriors]:
        lengths = np.array([len(f) for f in features], np.int32)
        padded = np.zeros((len(features), lengths.max(), features[0].shape[1]), np.float32)
        for row, f in zip(padded, features, strict=True):
            row[: len(f)] = f
        (logits,) = self._session.run(
            ["logits"],
            {
                "x": padded,
                "x_length": lengths,
                "language": np.array([self._language_ids[language] for language in languages], np.int32),
                "text_norm": np.full(len(features), self._itn_ids[itn], np.int32),
            },
        )
        return [best_classes(row[: length + QUERY_COUNT]) for row, length in zip(logits, lengths, strict=True)]


def _read_numbers(text: str) -> NDArray[np.float32]:
    return np.array(text.split(","), np.float32)
