"""SenseVoice's engine, on a network with random weights, and decoding of its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from speech.asr.sensevoice.ctc import Posteriors, Tags, best_classes
from speech.asr.sensevoice.hypothesis import build_hypothesis
from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.tokens import Token, detokenize
from speech.audio.filterbank import fbank, stack_frames
from speech.conversion.parity import reference
from speech.engines import Utterance
from tests.media import DATA, load

B = "\N{LOWER ONE EIGHTH BLOCK}"


@pytest.fixture(scope="module")
def engine() -> SenseVoiceEngine:
    return SenseVoiceEngine(DATA / "sensevoice-random", threads=2)


def tokens(*pieces: tuple[str, float], confidence: float = 0.9) -> list[Token]:
    return [Token(piece, start, confidence) for piece, start in pieces]


def test_a_batch_gives_the_same_as_single_utterances(engine: SenseVoiceEngine) -> None:
    utterances = [Utterance(load(name), language="en") for name in ("jfk.flac", "librivox_0880.flac")]
    assert engine.transcribe(utterances) == [engine.transcribe([u])[0] for u in utterances]


def test_words_are_in_order_inside_the_recording(engine: SenseVoiceEngine) -> None:
    (hypothesis,) = engine.transcribe([Utterance(load("jfk.flac"))])
    assert hypothesis.words
    assert all(0 <= w.start <= w.end <= 11 and 0 < w.confidence <= 1 for w in hypothesis.words)
    (output,) = engine.posteriors([engine.features(Utterance(load("jfk.flac")))], ["auto"], True)
    _, decoded = engine.decode(output)
    assert len({token.confidence for token in decoded}) > 50, "posteriors differ from token to token"
    assert hypothesis.signals["avg_logprob"] < 0


def test_language_and_itn_reach_the_network(engine: SenseVoiceEngine) -> None:
    features = [engine.features(Utterance(load("librivox_0880.flac")))]
    texts = {
        engine.raw_text(engine.posteriors(features, [language], itn)[0])
        for language in ("auto", "zh", "ko")
        for itn in (True, False)
    }
    assert len(texts) == 6


def test_very_short_utterances(engine: SenseVoiceEngine) -> None:
    for count in (0, 1, 399, 800):
        (hypothesis,) = engine.transcribe([Utterance(np.zeros(count, np.float32))])
        assert all(w.end <= count / 16_000 for w in hypothesis.words)


def test_tags_become_fields(engine: SenseVoiceEngine) -> None:
    names = ["<|en|>", "<|HAPPY|>", "<|Speech|>", "<|withitn|>", f"{B}"]
    ids = [engine.pieces.index(name) for name in names]
    tags, decoded = engine.decode(Posteriors(np.array(ids), np.array([0.75, 0.7, 0.9, 1, 0.5], np.float32)))
    assert tags == Tags("en", 0.75, "happy", "speech", True)
    assert [t.piece for t in decoded] == [B]
    no_speech = [engine.pieces.index(name) for name in ("<|nospeech|>", "<|EMO_UNKNOWN|>", "<|BGM|>", "<|woitn|>")]
    tags, decoded = engine.decode(Posteriors(np.array(no_speech), np.ones(4, np.float32)))
    assert (tags.language, tags.emotion, tags.event, tags.itn, decoded) == (None, None, "bgm", False, [])


def test_greedy_ctc_merges_runs_and_drops_blanks(engine: SenseVoiceEngine) -> None:
    a, b = 40, 41
    ids = np.array([0, 0, 0, 0, a, a, 0, a, b, 0])
    _, decoded = engine.decode(Posteriors(ids, np.linspace(0.1, 1, 10).astype(np.float32)))
    assert [engine.pieces.index(t.piece) for t in decoded] == [a, a, b]
    assert [t.start for t in decoded] == pytest.approx([0.0, 0.15, 0.21])
    assert [t.confidence for t in decoded] == pytest.approx([0.6, 0.8, 0.9])


def test_posteriors_are_a_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 30, (5, 9)).astype(np.float32)
    posteriors = best_classes(logits)
    wide = np.exp(logits.astype(np.float64))
    assert (posteriors.ids == wide.argmax(1)).all()
    assert posteriors.probabilities == pytest.approx(wide.max(1) / wide.sum(1), rel=1e-5)


def test_pieces_become_words_and_phrases() -> None:
    hypothesis = build_hypothesis(
        tokens(
            *((f"{B}this", 0.2), (f"{B}is", 0.5), (f"{B}long", 0.8), ("hand", 1.0), (".", 1.2)),
            *((f"{B}你好", 2.0), ("。", 2.4)),
        ),
        Tags("en", 0.9, "neutral", "speech", True),
        duration=3.0,
    )
    assert [w.text for w in hypothesis.words] == ["this", "is", "longhand.", "你", "好。"]
    assert [p.text for p in hypothesis.phrases] == ["this is longhand.", "你好。"]
    assert [w.start for w in hypothesis.words] == pytest.approx([0.2, 0.5, 0.8, 2.0, 2.32])
    assert all(w.start <= w.end <= 3.0 for w in hypothesis.words)
    assert (hypothesis.language, hypothesis.emotion, hypothesis.event, hypothesis.itn) == (
        "en",
        "neutral",
        "speech",
        True,
    )
    assert type(hypothesis).from_json(hypothesis.to_json()).emotion == "neutral"


def test_scripts_side_by_side() -> None:
    hypothesis = build_hypothesis(
        tokens((f"{B}我", 0.1), ("用", 0.3), ("py", 0.5), ("thon", 0.7), ("写", 0.9)), Tags("zh"), duration=2
    )
    assert [w.text for w in hypothesis.words] == ["我", "用", "python", "写"]


def test_bytes_and_control_pieces() -> None:
    assert detokenize([f"{B}a", "<0xE4>", "<0xBD>", "<0xA0>", "</s>", "b"]) == "a你b"
    assert detokenize(["<unk>"]).strip() == "\N{DOUBLE QUESTION MARK}"


@pytest.mark.parametrize("window", ["hamming", "povey"])
def test_filter_banks_equal_kaldis(window: str) -> None:
    clip = load("jfk.flac")
    banks, expected = fbank(clip, window=window, scale=32768), reference.fbank(clip, window=window, scale=32768)
    assert banks.shape == expected.shape
    assert np.abs(banks - expected).max() < 0.02
    assert np.abs(banks - expected).mean() < 1e-4


def test_stacked_frames() -> None:
    rows = np.arange(13, dtype=np.float32)[:, None]
    assert stack_frames(rows, width=7, step=6).tolist() == [
        [0, 0, 0, 0, 1, 2, 3],
        [3, 4, 5, 6, 7, 8, 9],
        [9, 10, 11, 12, 12, 12, 12],
    ]
