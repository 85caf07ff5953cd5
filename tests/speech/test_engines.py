"""The engines on real models and real speech."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest

from speech.catalogue import Catalogue
from speech.engines.base import EngineUnavailable, LanguageDetector, Transcriber, Utterance
from speech.engines.load import load_draft, load_refine
from speech.engines.sensevoice import hypothesis
from speech.words import Hypothesis
from tests.conftest import MODELS
from tests.media import DATA, load

TEXTS = {
    row["path"]: row["text"]
    for row in map(json.loads, (DATA / "manifest.jsonl").read_text().splitlines())
}


def error_rate(reference: str, heard: Hypothesis) -> float:
    def plain(text: str) -> str:
        return " ".join(re.sub(r"[^a-z ]", " ", text.lower().replace("-", " ").replace("mr.", "mister")).split())

    return float(jiwer.wer(plain(reference), plain(" ".join(phrase.text for phrase in heard.phrases))))


@pytest.fixture(scope="module")
def refiner() -> Transcriber:
    return load_refine(
        Catalogue(MODELS), engine="whisper", model="base", device="cpu", compute_type="int8", threads=2
    )


@pytest.fixture(scope="module")
def drafter() -> Transcriber:
    return load_draft(Catalogue(MODELS), engine="auto", device="cpu", compute_type="int8", threads=2)


def test_refined_words_and_their_times(refiner: Transcriber) -> None:
    samples = load("jfk.flac")
    (heard,) = refiner.transcribe([Utterance(samples, language="en")])
    assert error_rate(TEXTS["jfk.flac"], heard) == 0
    words = heard.words
    assert all(0 <= w.start <= w.end <= 11 for w in words)
    assert all(left.start <= right.start for left, right in pairwise(words))
    # "ask" follows the first pause
    assert abs(next(w.end for w in words if w.text.startswith("ask")) - 3.6) < 0.4
    assert {"avg_logprob", "no_speech_prob", "compression_ratio", "temperature"} <= set(heard.signals)


def test_a_batch_gives_what_each_member_gives_alone(refiner: Transcriber) -> None:
    names = ["librivox_0870.flac", "jfk.flac", "librivox_0930.flac"]
    batch = [Utterance(load(name), language="en") for name in names]
    together = refiner.transcribe(batch)
    alone = [refiner.transcribe([utterance])[0] for utterance in batch]
    assert [[p.text for p in h.phrases] for h in together] == [[p.text for p in h.phrases] for h in alone]
    assert all(error_rate(TEXTS[name], heard) < 0.2 for name, heard in zip(names, together, strict=True))


def test_a_batch_may_mix_languages_and_hotwords(refiner: Transcriber) -> None:
    english, chinese = refiner.transcribe(
        [Utterance(load("jfk.flac"), hotwords=("Kennedy",)), Utterance(load("zh_asr_example.flac"))]
    )
    assert (english.language, chinese.language) == ("en", "zh")
    assert error_rate(TEXTS["jfk.flac"], english) < 0.1
    assert any("\u4e00" <= character <= "\u9fff" for character in chinese.words[0].text)


def test_silence_and_noise_are_not_made_into_words(refiner: Transcriber) -> None:
    noise = np.random.default_rng(1).normal(0, 0.001, 16_000 * 20).astype(np.float32)
    for samples in (np.zeros(16_000 * 20, np.float32), noise, np.zeros(3200, np.float32)):
        (heard,) = refiner.transcribe([Utterance(samples, language="en")])
        assert len(heard.words) < 8


def test_the_draft_says_what_it_stands_in_for(drafter: Transcriber) -> None:
    if Catalogue(MODELS).present("sensevoice-small"):
        assert drafter.info.engine == "sensevoice-onnx"
        return
    assert (drafter.info.engine, drafter.info.instead_of) == ("whisper", "sensevoice-small")
    assert isinstance(drafter, LanguageDetector)
    assert drafter.detect_language(Utterance(load("zh_asr_example.flac"))) == "zh"
    (heard,) = drafter.transcribe([Utterance(load("jfk.flac"), language="en")])
    assert error_rate(TEXTS["jfk.flac"], heard) < 0.15
    assert all(0 <= w.start <= w.end <= 11 for w in heard.words)


def test_what_cannot_load_says_why_in_one_sentence(tmp_path: Path) -> None:
    empty = Catalogue(tmp_path)
    for engine, said in [("auto", "models pull"), ("sensevoice-onnx", "sensevoice-small"), ("odd", "odd")]:
        with pytest.raises(EngineUnavailable, match=said):
            load_draft(empty, engine=engine, device="cpu", compute_type="auto", threads=1)
    with pytest.raises(EngineUnavailable, match="whisper-huge"):
        load_refine(empty, engine="whisper", model="huge", device="cpu", compute_type="auto", threads=1)


def test_pieces_of_sensevoice_become_words() -> None:
    tokens = ["<|en|>", "\u2581this", "\u2581is", "\u2581long", "hand", ".", "\u2581\u4f60", "\u597d", "\u3002"]
    starts = [0.0, 0.2, 0.5, 0.8, 1.0, 1.2, 2.0, 2.2, 2.4]
    heard = hypothesis(tokens, starts, [], language="en", duration=3.0)
    assert [w.text for w in heard.words] == ["this", "is", "longhand.", "\u4f60", "\u597d\u3002"]
    assert [p.text for p in heard.phrases] == ["this is longhand.", "\u4f60\u597d\u3002"]
    assert [w.start for w in heard.words] == [0.2, 0.5, 0.8, 2.0, 2.2]
    assert all(w.start <= w.end <= 3.0 for w in heard.words)
