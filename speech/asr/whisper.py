"""Whisper through CTranslate2, many chunks of any jobs at once, as accurate as one window at a time.

On a CPU each is a stream of its own, on a GPU they are batched. Plain batching decodes each window once and keeps
what came. Whisper often stops early, though: it is meant to be asked again from its last timestamp on. So every
chunk keeps a seek position, and each round batches the windows that still have audio left; members of a batch that
look wrong are decoded again at a higher temperature.
(The sequential algorithm is that of "Robust Speech Recognition via Large-Scale Weak Supervision", section 4.5.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from numpy.typing import NDArray

from speech.asr.language_spans import Listener, members, on_cpu
from speech.engines import SAMPLE_RATE, EngineInfo, EngineUnavailable, Utterance
from speech.models.streams import Streams
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Phrase, Word

PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"

CLEARLY = 50.0
"""So many times as probable as the one expected, a language is believed at once. Chinese was 20 times as probable
as English in an accent, at most; languages that were really spoken were 140 times or more."""

LIKELIER = 0.1
"""By so much the reading in another language has to be likelier, in log probability a token. Chinese was so by 1.0
and more, English in an accent less likely as anything else by 0.1 to 0.8."""

ENOUGH = 32
"""Tokens that show which of two languages makes more sense."""

APART = 1_000_000
"""Frames between the windows of one alignment call, which wants times that rise through the batch."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to decode. The limits are those of the Whisper paper."""

    beam_size: int = 1
    """A wider beam gained nothing on hesitant speech, at half the speed (``benchmarks/engines.py``)."""
    temperatures: tuple[float, ...] = (0.0, 0.6)
    """What is suspicious is decoded again, once each. More steps, or five samples at each as the paper has them,
    cost time and gained nothing: what repeats itself still does so at the fifth."""
    word_timestamps: bool = True
    """Times of words from cross-attention; otherwise spread over their phrase."""
    compression_limit: float = 2.4
    logprob_limit: float = -1.0
    no_speech_limit: float = 0.6
    shortest_rest: float = 1.0
    """Seconds left of a chunk that are not worth another window."""
    history_temperature: float = 0.5
    """Text decoded at a higher temperature is no ground for what follows."""
    batch_size: int = 16
    """Most windows decoded at once; a longer list of utterances is worked off in parts."""


REFINE = Decoding()
DRAFT = Decoding(word_timestamps=False, logprob_limit=-2.0, history_temperature=-1)


@dataclass(slots=True)
class _Chunk:
    """A chunk on its way: what is left of it, and what was heard so far."""

    features: NDArray[np.float32]
    language: str | None
    expected: str | None
    hotwords: list[int]
    before: Sequence[Phrase]
    history: list[int] = field(default_factory=list)
    """Tokens of the text before, timestamps among them."""
    seek: int = 0
    phrases: list[Phrase] = field(default_factory=list)
    windows: list[_Decoded] = field(default_factory=list)
    likely: Mapping[str, float] = field(default_factory=dict)
    """Probabilities of languages, where they were listened for."""
    rival: str | None = None
    """What it may be in just as well."""
    pieces: list[_Chunk] = field(default_factory=list)
    """Where the language changes the chunk is divided, and its pieces are decoded in its stead."""
    first: int | None = None
    """Where a piece begins in its chunk, in frames."""

    @property
    def frames(self) -> int:
        return int(self.features.shape[-1])

    @property
    def spoken(self) -> str:
        """The language, once it is known."""
        return self.language or "en"


@dataclass(slots=True)
class _Decoded:
    """One window's winning tokens, and the model's doubts about them."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


class WhisperEngine:
    """A loaded Whisper model. Thread-safe: CTranslate2 queues concurrent calls."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        decoding: Decoding = REFINE,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 1,
        instead_of: str | None = None,
    ) -> None:
        """Raises EngineUnavailable when the model or the device cannot be used."""
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        self._streams = Streams(threads) if device == "cpu" else None
        try:
            self._whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=self._streams.threads if self._streams else threads,
                num_workers=self._streams.count if self._streams else 1,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"Whisper {name} cannot load on {device}: {error}") from error
        self._model = self._whisper.model
        self._listener = Listener(self._model, self._fps)
        self._decoding = decoding
        self._tokenizers: dict[str, Any] = {}
        self._suppressed = get_suppressed_tokens(self._tokenizer("en"), [-1])
        self.info = EngineInfo("whisper", name, device, compute_type, instead_of)

    @property
    def multilingual(self) -> bool:
        return bool(self._model.is_multilingual)

    @property
    def languages(self) -> frozenset[str]:
        return LANGUAGES if self.multilingual else frozenset({"en"})

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance of at most 30 s, in order."""
        if self._streams:
            return self._streams.map(lambda utterance: self.transcribe_batch([utterance])[0], utterances)
        return self.transcribe_batch(utterances)

    def transcribe_batch(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """The same in one stream, as a GPU wants it."""
        chunks = [self._begin(utterance) for utterance in utterances]
        rest = round(self._decoding.shortest_rest * self._fps)
        while pending := [
            c for chunk in chunks for c in chunk.pieces or [chunk] if c.seek == 0 or c.frames - c.seek > rest
        ]:
            for start in range(0, len(pending), self._decoding.batch_size):
                self._round(pending[start : start + self._decoding.batch_size])
        return [self._hypothesis(chunk) for chunk in chunks]

    def detect_language(self, utterance: Utterance) -> str:
        """The language that most of the utterance is in, or the expected one if no other is clear."""
        chunk = self._begin(utterance)
        self._detect([chunk], self._encode([chunk]))
        frames: Counter[str] = Counter()
        for piece in chunk.pieces or [chunk]:
            frames[piece.spoken] += piece.frames
        return frames.most_common(1)[0][0]

    @property
    def _fps(self) -> int:
        return int(self._whisper.frames_per_second)

    def _hypothesis(self, chunk: _Chunk) -> Hypothesis:
        pieces = chunk.pieces or [chunk]
        windows = [window for piece in pieces for window in piece.windows]
        heard = [window for window in windows if window.tokens] or windows
        weights = [max(1, len(window.tokens)) for window in heard]
        signals = {
            "avg_logprob": float(np.average([w.avg_logprob for w in heard], weights=weights)),
            "no_speech_prob": float(min(w.no_speech_prob for w in heard)),
            "compression_ratio": float(max(w.compression_ratio for w in heard)),
            "temperature": float(max(w.temperature for w in heard)),
        }
        if probabilities := [p.likely.get(self._known(p.spoken), 0.0) for p in pieces if p.likely]:
            signals["language_probability"] = min(probabilities)
        tokens: Counter[str] = Counter()
        for piece in pieces:
            tokens[piece.spoken] += sum(len(window.tokens) for window in piece.windows)
        main = tokens.most_common(1)[0][0]
        phrases = [
            replace(
                phrase.shifted((piece.first or 0) / self._fps),
                language=piece.spoken if piece.spoken != main else None,
            )
            for piece in pieces
            for phrase in piece.phrases
        ]
        return Hypothesis(main, tuple(phrases), signals)

    def _begin(self, utterance: Utterance) -> _Chunk:
        language = utterance.language if self.multilingual else "en"
        features = self._whisper.feature_extractor(utterance.samples)[..., :-1]
        frames = round(len(utterance.samples) / SAMPLE_RATE * self._fps)
        return _Chunk(
            features=features[:, : max(frames, 1)],
            language=language,
            expected=utterance.expected,
            hotwords=self._text(", ".join(utterance.hotwords)),
            before=utterance.history,
        )

    def _text(self, text: str) -> list[int]:
        return list(self._tokenizer("en").encode(" " + text)) if text else []

    def _timed(self, phrase: Phrase) -> list[int]:
        """A phrase between its timestamps, as the model writes it: without them it stops writing any itself."""
        zero, precision = self._tokenizer("en").timestamp_begin, self._whisper.time_precision
        start, end = (zero + round(min(max(t, 0.0), 30.0) / precision) for t in (phrase.start, phrase.end))
        return [start, *self._text(phrase.text), end]

    def _remembered(self, chunk: _Chunk) -> list[int]:
        """What was said before in the chunk's own language."""
        spoken = [phrase for phrase in chunk.before if phrase.language in (None, chunk.language)]
        return [token for phrase in spoken for token in self._timed(phrase)]

    def _prompt(self, chunk: _Chunk) -> list[int]:
        """Hotwords and what was said before; half the decoder's room stays free for what is heard."""
        room = self._whisper.max_length // 2 - 1
        hotwords = chunk.hotwords[-room:]
        length = min(len(chunk.history), room - len(hotwords))
        return hotwords + chunk.history[len(chunk.history) - length :]

    def _tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            self._tokenizers[language] = Tokenizer(
                self._whisper.hf_tokenizer, self.multilingual, task="transcribe", language=self._known(language)
            )
        return self._tokenizers[language]

    def _known(self, language: str) -> str:
        """The vocabularies before large-v3 know Cantonese as Chinese."""
        known = self._whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is not None
        return "zh" if language == "yue" and not known else language

    def _encode(self, chunks: Sequence[_Chunk], frames: int | None = None) -> Any:
        """A whole window of each, as the model was trained on, or so many frames if that is less."""
        whole = int(self._whisper.feature_extractor.nb_max_frames)
        length = min(frames or whole, whole)
        windows = [pad_or_trim(chunk.features[:, chunk.seek :], length) for chunk in chunks]
        return self._whisper.encode(np.stack(windows))

    def _round(self, chunks: Sequence[_Chunk]) -> None:
        """Decode one window of each chunk, and move its seek on."""
        encoded = self._encode(chunks)
        self._detect(chunks, encoded)
        if whole := [i for i, chunk in enumerate(chunks) if not chunk.pieces]:
            self._read([chunks[i] for i in whole], members(encoded, whole, len(chunks)))

    def _read(self, chunks: Sequence[_Chunk], encoded: Any) -> None:
        for chunk in chunks:
            if not chunk.windows:
                chunk.history = self._remembered(chunk)
        decoded = self._decode(chunks, encoded)
        by_language: dict[str, list[int]] = defaultdict(list)
        for position, (chunk, result) in enumerate(zip(chunks, decoded, strict=True)):
            chunk.windows.append(result)
            certain = result.temperature <= self._decoding.history_temperature
            chunk.history = chunk.history + result.tokens if certain else []
            if self._silent(result):
                chunk.seek = chunk.frames
            else:
                by_language[chunk.spoken].append(position)
        for language, positions in by_language.items():
            self._place(
                self._tokenizer(language),
                [chunks[i] for i in positions],
                [decoded[i] for i in positions],
                members(encoded, positions, len(chunks)),
            )

    def _silent(self, result: _Decoded) -> bool:
        limits = self._decoding
        return result.no_speech_prob > limits.no_speech_limit and result.avg_logprob < limits.logprob_limit

    def _detect(self, chunks: Sequence[_Chunk], encoded: Any) -> None:
        """Listen for the language of chunks that name none."""
        unknown = [i for i, chunk in enumerate(chunks) if chunk.language is None]
        if not unknown:
            return
        encoded = members(encoded, unknown, len(chunks))
        chunks = [chunks[i] for i in unknown]
        for chunk, likely in zip(chunks, self._listener.languages(encoded), strict=True):
            self._believe(chunk, likely)
        if doubtful := [i for i, chunk in enumerate(chunks) if chunk.rival]:
            self._try_rivals([chunks[i] for i in doubtful], members(encoded, doubtful, len(chunks)))
        if any(chunk.first is None for chunk in chunks):
            for chunk, positions in zip(chunks, on_cpu(encoded), strict=True):
                self._divide(chunk, encoded, positions)

    def _believe(self, chunk: _Chunk, likely: Mapping[str, float]) -> None:
        best, second = sorted(likely, key=lambda language: -likely[language])[:2]
        expected = chunk.expected or best
        known = self._known(expected)
        chunk.language, chunk.likely = expected, likely
        if best != known:
            if likely[best] > CLEARLY * likely.get(known, 0.0):
                chunk.language = best
            else:
                chunk.rival = best
        elif chunk.expected is None and likely[best] <= CLEARLY * likely[second]:
            chunk.rival = second

    def _try_rivals(self, chunks: Sequence[_Chunk], encoded: Any) -> None:
        """An accent sounds like another language; read in one, though, it makes less sense."""
        unprompted: list[list[int]] = [[] for _ in chunks]
        others = [replace(chunk, language=chunk.rival) for chunk in chunks]
        one, other = (self._generate(asked, unprompted, encoded, 0.0, tokens=ENOUGH) for asked in (chunks, others))
        for chunk, ours, theirs in zip(chunks, one, other, strict=True):
            if self._sense(theirs) > self._sense(ours) + (LIKELIER if chunk.expected else 0.0):
                chunk.language = chunk.rival

    def _sense(self, reading: _Decoded) -> float:
        """Its likelihood; what is empty or repeats itself makes none."""
        empty = reading.compression_ratio == 0
        return -np.inf if empty or self._repeats(reading) else reading.avg_logprob

    def _divide(self, chunk: _Chunk, encoded: Any, positions: NDArray[Any]) -> None:
        """Hear by itself what sounds like another language: read as a whole in one, its words would be lost."""
        spans = self._listener.spans(encoded, positions, chunk.features, self._known(chunk.spoken))
        if not any(span.strange for span in spans):
            return
        pieces = [
            _Chunk(
                features=chunk.features[:, span.first : span.end],
                language=None if span.strange else chunk.spoken,
                expected=chunk.spoken,
                hotwords=chunk.hotwords,
                before=chunk.before if span.first == 0 else (),
                first=span.first,
            )
            for span in spans
        ]
        strange = [piece for piece in pieces if piece.language is None]
        # as much of a window as they fill, and a second of silence, is enough to tell languages apart
        self._detect(strange, self._encode(strange, max(piece.frames for piece in strange) + self._fps))
        if any(piece.spoken != chunk.spoken for piece in strange):
            chunk.pieces = pieces

    def _decode(self, chunks: Sequence[_Chunk], encoded: Any) -> list[_Decoded]:
        """Decode all windows, then those that look wrong again at the next temperature, and so on."""
        prompts = [self._prompt(chunk) for chunk in chunks]
        tries: list[list[_Decoded]] = [[] for _ in chunks]
        pending = list(range(len(chunks)))
        for temperature in self._decoding.temperatures:
            for positions in _by_length(pending, prompts):
                batch = [chunks[i] for i in positions]
                group = members(encoded, positions, len(chunks))
                results = self._generate(batch, [prompts[i] for i in positions], group, temperature)
                for position, result in zip(positions, results, strict=True):
                    tries[position].append(result)
            pending = [i for i in pending if self._suspicious(tries[i][-1])]
            if not pending:
                break
        return [self._best(attempts) if self._suspicious(attempts[-1]) else attempts[-1] for attempts in tries]

    def _suspicious(self, result: _Decoded) -> bool:
        limits = self._decoding
        if self._silent(result):
            return False
        return self._repeats(result) or result.avg_logprob < limits.logprob_limit

    def _repeats(self, result: _Decoded) -> bool:
        return result.compression_ratio > self._decoding.compression_limit

    def _best(self, attempts: list[_Decoded]) -> _Decoded:
        """No attempt convinced: the likeliest among those that do not repeat themselves."""
        sound = [attempt for attempt in attempts if not self._repeats(attempt)]
        return max(sound or attempts, key=lambda attempt: attempt.avg_logprob)

    def _generate(
        self,
        chunks: Sequence[_Chunk],
        before: Sequence[list[int]],
        encoded: Any,
        temperature: float,
        tokens: int | None = None,
    ) -> list[_Decoded]:
        decoding = self._decoding
        search = {"beam_size": 1, "sampling_topk": 0} if temperature > 0 else {"beam_size": decoding.beam_size}
        prompts = [
            self._whisper.get_prompt(self._tokenizer(chunk.spoken), prompt)
            for chunk, prompt in zip(chunks, before, strict=True)
        ]
        results = self._model.generate(
            encoded,
            prompts,
            sampling_temperature=temperature,
            # the half of it is for what was said before
            max_length=2 * tokens if tokens else self._whisper.max_length,
            max_initial_timestamp_index=round(1.0 / self._whisper.time_precision),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            **search,
        )
        return [self._judge(chunk, result, temperature) for chunk, result in zip(chunks, results, strict=True)]

    def _judge(self, chunk: _Chunk, result: Any, temperature: float) -> _Decoded:
        tokens = list(result.sequences_ids[0])
        text = self._tokenizer(chunk.spoken).decode(tokens).strip()
        return _Decoded(
            tokens=tokens,
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            no_speech_prob=result.no_speech_prob,
            compression_ratio=get_compression_ratio(text) if text else 0.0,
            temperature=temperature,
        )

    def _place(self, tokenizer: Any, chunks: Sequence[_Chunk], decoded: Sequence[_Decoded], encoded: Any) -> None:
        """Turn tokens into timed phrases, and seek to the last timestamp that can be trusted."""
        fps = self._fps
        parts, sizes, single_endings = [], [], []
        for place, (chunk, result) in enumerate(zip(chunks, decoded, strict=True)):
            size = min(self._whisper.feature_extractor.nb_max_frames, chunk.frames - chunk.seek)
            base = place * APART + chunk.seek
            segments, seek, single = self._whisper._split_segments_by_timestamps(
                tokenizer, result.tokens, base / fps, size, size / fps, base
            )
            for segment in segments:
                segment["seek"] = base
            parts.append(segments)
            sizes.append(size)
            single_endings.append(single)
            moved = seek - place * APART
            chunk.seek = moved if moved > chunk.seek else chunk.frames
        if self._decoding.word_timestamps:
            self._whisper.add_word_timestamps(parts, tokenizer, encoded, sizes, PREPENDED, APPENDED, 0.0)
        for place, (chunk, result, segments) in enumerate(zip(chunks, decoded, parts, strict=True)):
            offset = place * APART / fps
            for segment in segments:
                phrase = _phrase(tokenizer, segment, offset, chunk.frames / fps, result)
                if phrase is not None:
                    chunk.phrases.append(phrase)
            last = chunk.phrases[-1].end * fps if chunk.phrases else 0
            if self._decoding.word_timestamps and not single_endings[place] and last > chunk.frames - sizes[place]:
                # the last word's end is the better place to go on from
                chunk.seek = round(last)


def _phrase(
    tokenizer: Any, segment: dict[str, Any], offset: float, duration: float, result: _Decoded
) -> Phrase | None:
    """A phrase within its chunk, or None when nothing was said."""
    text = tokenizer.decode([t for t in segment["tokens"] if t < tokenizer.eot]).strip()
    start = min(max(float(segment["start"]) - offset, 0.0), duration)
    end = min(max(float(segment["end"]) - offset, start), duration)
    if not text or end <= start:
        return None
    confidence = float(np.clip(np.exp(result.avg_logprob), 0, 1))
    if "words" in segment:
        words = tuple(_words(segment["words"], offset, duration))
    else:
        words = tuple(spread(text, start, end, confidence))
    if words and "words" in segment:
        confidence = float(np.mean([word.confidence for word in words]))
    return Phrase(start, end, text, words, confidence)


def _words(timings: Iterable[dict[str, Any]], offset: float, duration: float) -> Iterable[Word]:
    """Words in order, none before the one ahead of it, none outside the chunk."""
    earliest = 0.0
    for timing in timings:
        text = timing["word"].strip()
        if not text:
            continue
        start = min(max(float(timing["start"]) - offset, earliest), duration)
        end = min(max(float(timing["end"]) - offset, start), duration)
        earliest = start
        yield Word(text, start, end, float(timing["probability"]), glued=not timing["word"].startswith(" "))


def spread(text: str, start: float, end: float, confidence: float) -> Iterable[Word]:
    """The words of a phrase, its time shared out by their lengths."""
    pieces = text.split()
    total = sum(len(piece) + 1 for piece in pieces)
    said = 0
    for piece in pieces:
        begin = start + (end - start) * said / total
        said += len(piece) + 1
        yield Word(piece, begin, start + (end - start) * said / total, confidence)


def _by_length(positions: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups with prompts of one length: a batch wants its start token at one position."""
    groups: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        groups[len(prompts[position])].append(position)
    return list(groups.values())
