"""What the ONNX and the PyTorch engine share: everything but the network itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from speech.asr.sensevoice.ctc import Posteriors, Tags, decode_tags, decode_text, decode_tokens
from speech.asr.sensevoice.hypothesis import build_hypothesis
from speech.asr.sensevoice.tokens import Token
from speech.audio.filterbank import Features
from speech.engines import SAMPLE_RATE, EngineInfo, Utterance
from speech.models.streams import Streams
from speech.text.languages import SENSEVOICE_LANGUAGES
from speech.text.words import Hypothesis

LANGUAGE_IDS = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
ITN_IDS = {True: 14, False: 15}
BATCH_SIZE = 4
"""Utterances in one run; the posteriors of each take 50 MB at 30 s."""


class SenseVoice(ABC):
    """A transcriber; subclasses run the network."""

    languages = SENSEVOICE_LANGUAGES
    translates = takes_hotwords = False
    info: EngineInfo
    batch_size = BATCH_SIZE

    def __init__(
        self, pieces: Sequence[str], *, blank: int = 0, itn: bool = True, streams: Streams | None = None
    ) -> None:
        self.pieces = pieces
        self._streams = streams or Streams(1)
        self._blank = blank
        self._itn = itn

    @abstractmethod
    def features(self, utterance: Utterance) -> Features:
        """(frames, 560): filter banks, seven at a time, normalised."""

    @abstractmethod
    def posteriors(self, features: Sequence[Features], languages: Sequence[str], itn: bool) -> list[Posteriors]:
        """For each utterance the best class at every output."""

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance; a language that the model does not know is detected."""
        batches = [utterances[at : at + self.batch_size] for at in range(0, len(utterances), self.batch_size)]
        results = self._streams.map(self._transcribe_batch, batches)
        return [hypothesis for batch in results for hypothesis in batch]

    def _transcribe_batch(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        outputs = self.posteriors(
            [self.features(utterance) for utterance in batch],
            [u.language if u.language in LANGUAGE_IDS else "auto" for u in batch],
            self._itn,
        )
        hypotheses = []
        for utterance, output in zip(batch, outputs, strict=True):
            tags, tokens = self.decode(output)
            hypotheses.append(build_hypothesis(tokens, tags, duration=len(utterance.samples) / SAMPLE_RATE))
        return hypotheses

    def decode(self, output: Posteriors) -> tuple[Tags, list[Token]]:
        """The tags of the four queries, and the tokens that greedy CTC gives for the frames after them."""
        return decode_tags(output, self.pieces), decode_tokens(output, self.pieces, blank=self._blank)

    def raw_text(self, output: Posteriors) -> str:
        """The text with its tags, as FunASR's own decoder writes it."""
        return decode_text(output, self.pieces, blank=self._blank)
