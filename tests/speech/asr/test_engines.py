"""The engines on real models and real speech."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest

from speech.asr.whisper.decoding import LIVE
from speech.asr.whisper.engine import WhisperEngine
from speech.engines import SAMPLE_RATE, EngineUnavailable, LanguageDetector, Said, Samples, Transcriber, Utterance
from speech.load import load_draft, load_first_available, load_refine, parse_engine_names
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.script import join_words
from speech.text.words import Hypothesis
from tests.conftest import MODELS
from tests.media import DATA, load

TEXTS = {row["path"]: row["text"] for row in map(json.loads, (DATA / "manifest.jsonl").read_text().splitlines())}


def error_rate(reference: str, transcript: Hypothesis | str) -> float:
    def plain(text: str) -> str:
        return " ".join(re.sub(r"[^a-z ]", " ", text.lower().replace("-", " ").replace("mr.", "mister")).split())

    text = transcript if isinstance(transcript, str) else " ".join(phrase.text for phrase in transcript.phrases)
    return float(jiwer.wer(plain(reference), plain(text)))


@pytest.fixture(scope="module")
def refiner() -> Transcriber:
    return load_refine(
        Catalogue(MODELS), RefineEngine.WHISPER, model="base", device="cpu", compute_type="int8", threads=2
    )


@pytest.fixture(scope="module")
def drafter() -> Transcriber:
    return load_draft(Catalogue(MODELS), DraftEngine.WHISPER, threads=2)


def test_whisper_words_and_their_times(refiner: Transcriber) -> None:
    samples = load("jfk.flac")
    (hypothesis,) = refiner.transcribe([Utterance(samples, language="en")])
    assert error_rate(TEXTS["jfk.flac"], hypothesis) == 0
    words = hypothesis.words
    assert all(0 <= w.start <= w.end <= 11 for w in words)
    assert all(left.start <= right.start for left, right in pairwise(words))
    # "ask" follows the first pause
    assert abs(next(w.end for w in words if w.text.startswith("ask")) - 3.6) < 0.4
    assert {"avg_logprob", "no_speech_prob", "compression_ratio", "temperature"} <= set(hypothesis.signals)


def test_a_batch_gives_the_same_as_single_utterances(refiner: WhisperEngine) -> None:
    names = ["librivox_0870.flac", "jfk.flac", "librivox_0930.flac"]
    batch = [Utterance(load(name), language="en") for name in names]
    together = refiner.transcribe_batch(batch)
    alone = refiner.transcribe(batch)
    assert [[p.text for p in h.phrases] for h in together] == [[p.text for p in h.phrases] for h in alone]
    assert all(error_rate(TEXTS[name], hypothesis) < 0.2 for name, hypothesis in zip(names, together, strict=True))


def test_on_a_cpu_a_chunk_is_heard_as_if_it_were_alone(refiner: WhisperEngine) -> None:
    sound = np.concatenate([load("jfk.flac"), load("librivox_0870.flac"), load("librivox_0930.flac")])
    windows = [
        sound[start * SAMPLE_RATE :][: seconds * SAMPLE_RATE] for start, seconds in ((0, 24), (3, 24), (5, 9))
    ]
    batch = [Utterance(window, language="en") for window in windows]
    alone = [refiner.transcribe([utterance])[0] for utterance in batch]
    assert refiner.transcribe_batch(batch) == alone
    assert refiner.transcribe(2 * batch) == 2 * alone


def test_a_batch_may_mix_languages_and_hotwords(refiner: WhisperEngine) -> None:
    english, chinese = refiner.transcribe_batch(
        [Utterance(load("jfk.flac"), hotwords=("Kennedy",)), Utterance(load("zh_asr_example.flac"))]
    )
    assert (english.language, chinese.language) == ("en", "zh")
    assert error_rate(TEXTS["jfk.flac"], english) < 0.1
    assert any("\u4e00" <= character <= "\u9fff" for character in chinese.words[0].text)


def test_a_live_utterance_may_say_what_can_be_said_in_its_time() -> None:
    engine = WhisperEngine(
        Catalogue(MODELS).locate("whisper-tiny.en"), name="tiny.en", decoding=LIVE, device="cpu"
    )
    sound = load("jfk.flac")
    # however much of the prompt is taken already
    for hotwords in ((), ("Kennedy", "inauguration", "Washington", "Massachusetts", "Hyannis Port")):
        (hypothesis,) = engine.transcribe([Utterance(sound, "en", hotwords=hotwords)])
        assert error_rate(TEXTS["jfk.flac"], hypothesis) < 0.1
        (beginning,) = engine.transcribe([Utterance(sound[: SAMPLE_RATE // 2], "en", hotwords=hotwords)])
        assert len(beginning.words) <= (LIVE.max_tokens(0.5) or 0) == 16
    # what was said before is heard with it, and not said again, nor does it take the room of what follows
    for seconds in (3, 8):
        first, rest = sound[: seconds * SAMPLE_RATE], sound[seconds * SAMPLE_RATE :]
        (before,) = engine.transcribe([Utterance(first, "en")])
        (after,) = engine.transcribe([Utterance(rest, "en", before=(Said(first, before.words, "en"),))])
        assert error_rate(TEXTS["jfk.flac"], replace(before, phrases=before.phrases + after.phrases)) < 0.1
        assert all(0 <= word.start <= word.end <= len(rest) / SAMPLE_RATE for word in after.words)
        assert after.signals["avg_logprob"] < 0


def test_silence_and_noise_give_hardly_any_words(refiner: Transcriber) -> None:
    noise = np.random.default_rng(1).normal(0, 0.001, 16_000 * 20).astype(np.float32)
    for samples in (np.zeros(16_000 * 20, np.float32), noise, np.zeros(3200, np.float32)):
        (hypothesis,) = refiner.transcribe([Utterance(samples, language="en")])
        assert len(hypothesis.words) < 8


def test_the_draft_engine_uses_the_model_for_the_language(drafter: Transcriber) -> None:
    assert isinstance(drafter, LanguageDetector)
    assert drafter.detect_language(Utterance(load("zh_asr_example.flac"))) == "zh"
    (hypothesis,) = drafter.transcribe([Utterance(load("jfk.flac"), language="en")])
    assert error_rate(TEXTS["jfk.flac"], hypothesis) < 0.15
    assert all(0 <= w.start <= w.end <= 11 for w in hypothesis.words)
    assert "de" in drafter.languages


@pytest.mark.parametrize("engine", ["refiner", "drafter"])
def test_the_language_of_each_chunk_is_detected(engine: str, request: pytest.FixtureRequest) -> None:
    whisper: Transcriber = request.getfixturevalue(engine)
    names = ["zh_asr_example.flac", "jfk.flac", "ocean_0036.flac"]
    clips = [load(name)[: 20 * 16_000] for name in names]
    by_expected = {language: [Utterance(clip, expected=language) for clip in clips] for language in ("en", "zh")}
    # an accent is not another language, whichever is expected
    assert [hypothesis.language for hypothesis in whisper.transcribe(by_expected["en"])] == ["zh", "en", "en"]
    assert [hypothesis.language for hypothesis in whisper.transcribe(by_expected["zh"][:2])] == ["zh", "en"]
    with_language = [Utterance(clips[0], language="en", expected="zh")]
    assert [hypothesis.language for hypothesis in whisper.transcribe(with_language)] == ["en"]


def two_language_samples() -> Samples:
    english, chinese, more = load("jfk.flac"), load("zh_asr_example.flac"), load("librivox_0890.flac")
    pause = np.zeros(8000, np.float32)
    return np.concatenate([english, pause, chinese, pause, more])


@pytest.mark.parametrize("expected", ["en", "zh"])
def test_a_chunk_in_two_languages_loses_no_words(refiner: WhisperEngine, expected: str) -> None:
    (hypothesis,) = refiner.transcribe([Utterance(two_language_samples(), expected=expected)])
    runs = [(language, join_words(words)) for language, words in hypothesis.by_language]
    assert [language for language, _ in runs] == ["en", "zh", "en"]
    assert error_rate(TEXTS["jfk.flac"], runs[0][1]) < 0.1
    assert "\u8a9e\u97f3" in runs[1][1] or "\u8bed\u97f3" in runs[1][1]  # speech
    assert error_rate(TEXTS["librivox_0890.flac"], runs[2][1]) < 0.2
    words = hypothesis.words
    assert all(left.start <= right.start for left, right in pairwise(words))
    starts = [next(word for word in run).start for _, run in hypothesis.by_language]
    assert 11 < starts[1] < 13
    assert 17 < starts[2] < 18


def test_a_batch_may_hold_a_chunk_in_two_languages(refiner: WhisperEngine) -> None:
    alone, mixed = Utterance(load("librivox_0930.flac")), Utterance(two_language_samples())
    hypotheses = refiner.transcribe_batch([alone, mixed])
    assert error_rate(TEXTS["librivox_0930.flac"], hypotheses[0]) < 0.2
    assert [language for language, _ in hypotheses[1].by_language] == ["en", "zh", "en"]


def test_an_accent_is_transcribed_in_its_own_language(refiner: WhisperEngine) -> None:
    """Where another was expected: Chinese is nearly as probable as English."""
    samples = load("ocean_0036.flac")[: 12 * 16_000]
    (hypothesis,) = refiner.transcribe([Utterance(samples, expected="zh")])
    assert hypothesis.language == "en"
    assert error_rate(" ".join(TEXTS["ocean_0036.flac"].split()[:22]), hypothesis) < 0.3


def test_a_given_language_is_not_detected(refiner: WhisperEngine) -> None:
    samples = np.concatenate([load("jfk.flac"), load("zh_asr_example.flac")])
    (hypothesis,) = refiner.transcribe([Utterance(samples, language="en")])
    assert [language for language, _ in hypothesis.by_language] == ["en"]
    assert "language_probability" not in hypothesis.signals


def test_whisper_cpp_gives_the_same_as_whisper() -> None:
    catalogue = Catalogue(MODELS)
    if not catalogue.present("whisper-base-ggml"):
        pytest.skip("no ggml model; `longhand models pull whisper-base-ggml` makes one")
    engine = load_refine(catalogue, RefineEngine.WHISPER_CPP, model="base", threads=2)
    names = ["jfk.flac", "zh_asr_example.flac"]
    english, chinese = engine.transcribe([Utterance(load(name)) for name in names])
    assert (english.language, chinese.language) == ("en", "zh")
    assert error_rate(TEXTS["jfk.flac"], english) == 0
    assert {len(word.text.strip("\uff0c\u3002,.")) for word in chinese.words} == {1}
    for hypothesis, end in ((english, 11), (chinese, 5.6)):
        assert all(0 <= w.start <= w.end <= end for w in hypothesis.words)
        assert all(left.start <= right.start for left, right in pairwise(hypothesis.words))


def test_engines_that_cannot_load_give_the_reason_in_one_sentence(tmp_path: Path) -> None:
    empty = Catalogue(tmp_path)
    for name, message in [(DraftEngine.WHISPER, "models pull"), (DraftEngine.SENSEVOICE_ONNX, "sensevoice-small")]:
        with pytest.raises(EngineUnavailable, match=message):
            load_draft(empty, name)
    with pytest.raises(EngineUnavailable, match="whisper-huge"):
        load_refine(empty, RefineEngine.WHISPER, model="huge")
    with pytest.raises(EngineUnavailable, match="LONGHAND_DRAFT_ENGINE is 'odd'; it takes one or more of"):
        parse_engine_names("odd", DraftEngine, "LONGHAND_DRAFT_ENGINE")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineUnavailable, match=r"model\.onnx cannot be loaded"):
        load_draft(empty, DraftEngine.SENSEVOICE_ONNX, sensevoice=str(tmp_path))


def test_the_first_available_engine_names_the_one_it_replaces(tmp_path: Path, drafter: Transcriber) -> None:
    names = parse_engine_names("sensevoice-onnx, whisper", DraftEngine, "")

    def load_one(name: DraftEngine) -> Transcriber:
        return drafter if name == DraftEngine.WHISPER else load_draft(Catalogue(tmp_path), name)

    selected = load_first_available(names, load_one)
    assert selected.engine is drafter
    assert (selected.info.engine, selected.info.instead_of) == ("whisper", "sensevoice-onnx")
    assert load_first_available(names[1:], load_one).info.instead_of is None
    with pytest.raises(EngineUnavailable, match="sensevoice-small is not in"):
        load_first_available(names[:1], load_one)


def test_a_model_that_failed_its_parity_gate_is_refused(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    path = catalogue.path("campplus") / "campplus.onnx"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    catalogue.write_parity("campplus", "G2", True, "cosine distance 1e-7")
    assert catalogue.locate("campplus") == path.parent
    catalogue.write_parity("campplus", "G2", False, "cosine distance 0.2")
    with pytest.raises(EngineUnavailable, match=r"failed its parity gate G2 \(cosine distance 0\.2\)"):
        catalogue.locate("campplus")
