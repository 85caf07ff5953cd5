"""SenseVoice-Small (github.com/FunAudioLLM/SenseVoice): the front end, ONNX Runtime, and greedy CTC.

The exported network is the one that sherpa-onnx defines: inputs ``x, x_length, language, text_norm``, and the
constants of the front end in its metadata. ``speech/conversion/export/sensevoice.py`` writes it from the PyTorch
original.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.audio.filterbank import Features, fbank, stack
from speech.engines import SAMPLE_RATE, EngineInfo, EngineUnavailable, Utterance
from speech.models.onnx import metadata, open_session
from speech.models.streams import Streams
from speech.text.languages import SENSEVOICE_LANGUAGES
from speech.text.script import ends_sentence, is_cjk, join_words, split_characters
from speech.text.words import Hypothesis, Phrase, Word

QUERIES = 4
"""Outputs ahead of the first frame: the language, the emotion, the event, and whether numbers are written out."""

FRAME_SECONDS = 0.06
"""Six frames of 10 ms make one of the encoder's."""

TOKEN_SECONDS = 0.24
"""Time given to a word's last token: CTC says when a token begins, not when it ends."""

LANGUAGE_IDS = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
ITN_IDS = {True: 14, False: 15}
BATCH = 4
"""Utterances in one run; the posteriors of each take 50 MB at 30 s."""

TAG = re.compile(r"<\|(.*?)\|>")
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SILENT_TOKENS = {"<s>", "</s>"}
"""Pieces that sentencepiece does not write."""
UNKNOWN = {"<unk>": " \u2047 "}
WORD_BEGINS = "\N{LOWER ONE EIGHTH BLOCK}"
"""How sentencepiece marks the space before a piece."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the vocabulary as it was heard: when it began, and the network's posterior for it."""

    piece: str
    start: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Tags:
    """What the network says of an utterance as a whole."""

    language: str | None = None
    language_probability: float = 0.0
    emotion: str | None = None
    event: str | None = None
    itn: bool | None = None


@dataclass(frozen=True, slots=True)
class Posteriors:
    """The best class of each output and its probability, both of shape (4 queries + frames,)."""

    ids: NDArray[np.int64]
    probabilities: NDArray[np.float32]


class SenseVoice(ABC):
    """What the ONNX and the PyTorch engine share: everything but the network itself."""

    languages = SENSEVOICE_LANGUAGES
    info: EngineInfo
    batch = BATCH

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
        batches = [utterances[at : at + self.batch] for at in range(0, len(utterances), self.batch)]
        return [heard for batch in self._streams.map(self._transcribe, batches) for heard in batch]

    def _transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        outputs = self.posteriors(
            [self.features(utterance) for utterance in batch],
            [u.language if u.language in LANGUAGE_IDS else "auto" for u in batch],
            self._itn,
        )
        heard = []
        for utterance, output in zip(batch, outputs, strict=True):
            tags, tokens = self.read(output)
            heard.append(hypothesis(tokens, tags, duration=len(utterance.samples) / SAMPLE_RATE))
        return heard

    def read(self, output: Posteriors) -> tuple[Tags, list[Token]]:
        """The tags of the four queries, and the tokens that greedy CTC finds in the frames after them."""
        named = [TAG.fullmatch(self.pieces[i]) for i in output.ids[:QUERIES]]
        language, emotion, event, itn = (match[1] if match else None for match in named)
        tags = Tags(
            None if language == "nospeech" else language,
            float(output.probabilities[0]),
            None if emotion in (None, "EMO_UNKNOWN") else emotion.lower(),
            None if event is None else event.lower(),
            None if itn is None else itn == "withitn",
        )
        tokens = [
            Token(self.pieces[i], max(0.0, (frames[0] - 0.5) * FRAME_SECONDS), confidence)
            for i, frames, confidence in self._runs(output)
        ]
        return tags, tokens

    def _runs(self, output: Posteriors) -> Iterator[tuple[int, list[int], float]]:
        """Runs of one class over frames, blanks left out: (class, its frames, its highest probability)."""
        ids, probabilities = output.ids[QUERIES:], output.probabilities[QUERIES:]
        for i, run in groupby(range(len(ids)), key=lambda frame: int(ids[frame])):
            frames = list(run)
            if i != self._blank:
                yield i, frames, float(probabilities[frames].max())

    def text(self, output: Posteriors) -> str:
        """The raw text with its tags, as the original's own decoder writes it."""
        collapsed = [int(i) for i, _ in groupby(output.ids)]
        return detokenize(self.pieces[i] for i in collapsed if i != self._blank)


class SenseVoiceEngine(SenseVoice):
    """A loaded ONNX export. Thread-safe."""

    batch = 1
    """An int8 export's scales follow the largest activation of a batch: alone, nobody's neighbours matter."""

    def __init__(self, folder: Path, *, threads: int = 1, itn: bool = True, quantised: bool | None = None) -> None:
        """``folder`` holds ``tokens.txt`` and ``model.int8.onnx``, which is preferred, or ``model.onnx``.

        Raises EngineUnavailable.
        """
        if quantised is None:
            quantised = (folder / "model.int8.onnx").is_file()
        streams = Streams(threads)
        name = "model.int8.onnx" if quantised else "model.onnx"
        self._session = open_session(folder / name, threads=streams.threads)
        said = metadata(self._session)
        try:
            self._mean = _numbers(said["neg_mean"])
            self._scale = _numbers(said["inv_stddev"])
            self._window = int(said["lfr_window_size"])
            self._step = int(said["lfr_window_shift"])
            self._language_ids = {name: int(said[f"lang_{name}"]) for name in LANGUAGE_IDS}
            self._itn_ids = {True: int(said["with_itn"]), False: int(said["without_itn"])}
            pieces, blank = read_tokens(folder / "tokens.txt"), int(said.get("blank_id", 0))
            super().__init__(pieces, blank=blank, itn=itn, streams=streams)
        except (KeyError, ValueError, OSError) as error:
            raise EngineUnavailable(
                f"SenseVoice cannot load from {folder}: its metadata or tokens.txt is not complete ({error})."
            ) from error
        self.info = EngineInfo("sensevoice-onnx", folder.name, "cpu", "int8" if quantised else "float32")

    def features(self, utterance: Utterance) -> Features:
        stacked = stack(
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
        return [best_path(row[: length + QUERIES]) for row, length in zip(logits, lengths, strict=True)]


def best_path(logits: NDArray[np.float32]) -> Posteriors:
    """(outputs, classes) to the best class of each output, with its softmax."""
    ids = logits.argmax(axis=1)
    highest = logits[np.arange(len(ids)), ids]
    # the sum holds the winner's own exp(0) = 1, so it is never zero
    return Posteriors(ids, 1.0 / np.exp(logits - highest[:, None]).sum(axis=1))


def read_tokens(path: Path) -> list[str]:
    """The vocabulary by id, from lines of ``piece id``."""
    pairs = [line.rsplit(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    pieces = {int(pair[-1]): pair[0] if len(pair) == 2 else " " for pair in pairs}
    return [pieces[i] for i in range(len(pieces))]


def _numbers(text: str) -> NDArray[np.float32]:
    return np.array(text.split(","), np.float32)


def detokenize(pieces: Iterable[str]) -> str:
    """Running text of sentencepiece's pieces, those for single bytes included."""
    data = bytearray()
    for piece in pieces:
        byte = BYTE.fullmatch(piece)
        if byte:
            data.append(int(byte[1], 16))
        elif piece not in SILENT_TOKENS:
            data += UNKNOWN.get(piece, piece).replace(WORD_BEGINS, " ").encode()
    return data.decode(errors="replace").removeprefix(" ")


def hypothesis(tokens: Sequence[Token], tags: Tags, *, duration: float) -> Hypothesis:
    """Tokens become words, and words phrases, up to ``duration`` seconds."""
    spoken = [t for t in tokens if t.piece not in SILENT_TOKENS and not TAG.fullmatch(t.piece)]
    words = tuple(_words(spoken, duration))
    signals = {"language_probability": tags.language_probability}
    if tokens:
        signals["avg_logprob"] = float(np.mean(np.log([max(t.confidence, 1e-9) for t in tokens])))
    return Hypothesis(
        tags.language, tuple(_phrases(words)), signals, emotion=tags.emotion, event=tags.event, itn=tags.itn
    )


def _words(tokens: Sequence[Token], duration: float) -> Iterator[Word]:
    groups = _group(tokens)
    for place, group in enumerate(groups):
        text = detokenize(token.piece for token in group).strip()
        if not text:
            continue
        start = min(group[0].start, duration)
        following = groups[place + 1][0].start if place + 1 < len(groups) else duration
        end = min(max(start, group[-1].start + TOKEN_SECONDS), max(following, start), duration)
        confidence = sum(token.confidence for token in group) / len(group)
        glued = not group[0].piece.startswith(WORD_BEGINS)
        yield from split_characters(Word(text, start, end, confidence, glued))


def _group(tokens: Sequence[Token]) -> list[list[Token]]:
    """Pieces of one word together, punctuation and single bytes with what they follow."""
    groups: list[list[Token]] = []
    for token in tokens:
        bare = token.piece.lstrip(WORD_BEGINS)
        continues = bool(BYTE.fullmatch(bare)) or (bool(bare) and not any(map(str.isalnum, bare)))
        begins = token.piece.startswith(WORD_BEGINS) or is_cjk(bare[:1] or " ")
        after_cjk = bool(groups) and is_cjk(groups[-1][-1].piece[-1:] or " ")
        if groups and (continues or not (begins or after_cjk)):
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _phrases(words: Sequence[Word]) -> Iterator[Phrase]:
    group: list[Word] = []
    for word in words:
        group.append(word)
        if ends_sentence(word.text) or word is words[-1]:
            confidence = sum(w.confidence for w in group) / len(group)
            yield Phrase(group[0].start, group[-1].end, join_words(group), tuple(group), confidence)
            group = []
