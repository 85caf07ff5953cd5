"""Transcribing and aligning with a model behind HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from http_engines.background import Background
from http_engines.endpoints import RemoteAligner, RemoteModel, Shape
from http_engines.pool import Pool
from http_engines.wire import alignments, chat, transcriptions
from speech.asr import qwen
from speech.asr.echo import is_echo
from speech.asr.loops import halve, is_loop, join, without_repeats
from speech.asr.untimed import Heard, build_hypothesis
from speech.engines import SAMPLE_RATE, Aligner, EngineInfo, Samples, SomeFailed, Utterance
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Word

SHAPES = {Shape.CHAT: chat.question, Shape.TRANSCRIPTIONS: transcriptions.question}


class HttpEngine:
    """A batch is so many requests under way. Thread-safe."""

    translates = False

    def __init__(
        self,
        model: RemoteModel,
        pool: Pool,
        aligners: Sequence[Callable[[], Aligner]],
        background: Background,
        threads: Executor,
    ) -> None:
        """``aligners`` load those for answers without times, best first; they and the encoding of audio use the
        threads.
        """
        self._model, self._pool, self._aligners = model, pool, aligners
        self._background, self._threads = background, threads
        self.languages = model.known_languages
        self.takes_hotwords = "hotwords" in model.context
        self.capacity = model.concurrency * len(model.hosts)
        self.info = EngineInfo(
            "http", model.name, "http", model.shape.value, price_per_minute=model.price_per_minute
        )

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order. Raises SomeFailed."""
        heard = self._background.run(self._hear_all(utterances))
        hypotheses = [output for output in heard if isinstance(output, Hypothesis)]
        if len(hypotheses) < len(heard):
            raise SomeFailed(heard)
        return hypotheses

    async def _hear_all(self, utterances: Sequence[Utterance]) -> list[Hypothesis | Exception]:
        outputs = await asyncio.gather(*map(self._hear_one, utterances), return_exceptions=True)
        for output in outputs:
            if isinstance(output, BaseException) and not isinstance(output, Exception):
                raise output
        return [output for output in outputs if isinstance(output, Hypothesis | Exception)]

    async def _hear_one(self, utterance: Utterance) -> Hypothesis:
        hypothesis = await self._hear_once(utterance)
        if not is_loop(hypothesis):
            return hypothesis
        loop = asyncio.get_running_loop()
        halves = await loop.run_in_executor(self._threads, halve, utterance, hypothesis)
        if not halves:
            return without_repeats(hypothesis)
        return join(halves, await asyncio.gather(*map(self._hear_one, halves)))

    async def _hear_once(self, utterance: Utterance) -> Hypothesis:
        hotwords = utterance.hotwords if "hotwords" in self._model.context else ()
        preceding = utterance.preceding if "text" in self._model.context else ""
        context = qwen.context(hotwords, preceding)
        heard = await self._ask(utterance, context)
        if context and is_echo(heard.text, hotwords, preceding):
            heard = await self._ask(utterance, "")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, build_hypothesis, utterance, heard, self._aligners)

    async def _ask(self, utterance: Utterance, context: str) -> Heard:
        loop = asyncio.get_running_loop()
        make = SHAPES[self._model.shape]
        question = await loop.run_in_executor(self._threads, make, self._model, utterance, context)
        return await self._pool.ask(question, len(utterance.samples) / SAMPLE_RATE, utterance.late_at)


class HttpAligner:
    """A forced aligner behind HTTP. Thread-safe."""

    def __init__(self, aligner: RemoteAligner, pool: Pool, background: Background) -> None:
        self._aligner, self._pool, self._background = aligner, pool, background
        self.name = aligner.name
        self.languages = frozenset(aligner.languages) or LANGUAGES

    def align(self, samples: Samples, text: str, language: str) -> list[Word]:
        """Raises EngineAway, Failed or Refused."""
        question = alignments.question(self._aligner, samples, text, language)
        return self._background.run(self._pool.ask(question, len(samples) / SAMPLE_RATE))
