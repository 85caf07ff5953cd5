"""SenseVoice's engine: a network of its architecture with random weights, and what is read from its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from speech.asr.sensevoice import (
    Posteriors,
    SenseVoiceEngine,
    Tags,
    Token,
    best_path,
    detokenize,
    hypothesis,
)
from speech.audio.filterbank import fbank, stack
from speech.conversion.parity import reference
from speech.engines import Utterance
from tests.media import DATA, load

B = "\N{LOWER ONE EIGHTH BLOCK}"


@pytest.fixture(scope="module")
def engine() -> SenseVoiceEngine:
    return SenseVoiceEngine(DATA / "sensevoice-random", threads=2)


def tokens(*pieces: tuple[str, float], confidence: float = 0.9) -> list[Token]:
    return [Token(piece, start, confidence) for piece, start in pieces]


def test_a_batch_gives_what_each_member_gives_alone(engine: SenseVoiceEngine) -> None:
    utterances = [Utterance(load(name), language="en") for name in ("jfk.flac", "librivox_0880.flac")]
    assert engine.transcribe(utterances) == [engine.transcribe([u])[0] for u in utterances]


def test_words_lie_in_order_inside_the_recording(engine: SenseVoiceEngine) -> None:
    (heard,) = engine.transcribe([Utterance(load("jfk.flac"))])
    assert heard.words
    assert all(0 <= w.start <= w.end <= 11 and 0 < w.confidence <= 1 for w in heard.words)
    (output,) = engine.posteriors([engine.features(Utterance(load("jfk.flac")))], ["auto"], True)
    _, spoken = engine.read(output)
    assert len({token.confidence for token in spoken}) > 50, "posteriors differ from token to token"
    assert heard.signals["avg_logprob"] < 0


def test_language_and_itn_reach_the_network(engine: SenseVoiceEngine) -> None:
    features = [engine.features(Utterance(load("librivox_0880.flac")))]
    texts = {
        engine.text(engine.posteriors(features, [language], itn)[0])
        for language in ("auto", "zh", "ko")
        for itn in (True, False)
    }
    assert len(texts) == 6


def test_next_to_no_sound(engine: SenseVoiceEngine) -> None:
    for count in (0, 1, 399, 800):
        (heard,) = engine.transcribe([Utterance(np.zeros(count, np.float32))])
        assert all(w.end <= count / 16_000 for w in heard.words)


def test_tags_become_fields(engine: SenseVoiceEngine) -> None:
    names = ["<|en|>", "<|HAPPY|>", "<|Speech|>", "<|withitn|>", f"{B}"]
    ids = [engine.pieces.index(name) for name in names]
    tags, heard = engine.read(Posteriors(np.array(ids), np.array([0.75, 0.7, 0.9, 1, 0.5], np.float32)))
    assert tags == Tags("en", 0.75, "happy", "speech", True)
    assert [t.piece for t in heard] == [B]
    nothing = [engine.pieces.index(name) for name in ("<|nospeech|>", "<|EMO_UNKNOWN|>", "<|BGM|>", "<|woitn|>")]
    tags, heard = engine.read(Posteriors(np.array(nothing), np.ones(4, np.float32)))
    assert (tags.language, tags.emotion, tags.event, tags.itn, heard) == (None, None, "bgm", False, [])


def test_greedy_ctc_merges_runs_and_drops_blanks(engine: SenseVoiceEngine) -> None:
    a, b = 40, 41
    ids = np.array([0, 0, 0, 0, a, a, 0, a, b, 0])
    _, heard = engine.read(Posteriors(ids, np.linspace(0.1, 1, 10).astype(np.float32)))
    assert [engine.pieces.index(t.piece) for t in heard] == [a, a, b]
    assert [t.start for t in heard] == pytest.approx([0.0, 0.15, 0.21])
    assert [t.confidence for t in heard] == pytest.approx([0.6, 0.8, 0.9])


def test_posteriors_are_a_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 30, (5, 9)).astype(np.float32)
    found = best_path(logits)
    wide = np.exp(logits.astype(np.float64))
    assert (found.ids == wide.argmax(1)).all()
    assert found.probabilities == pytest.approx(wide.max(1) / wide.sum(1), rel=1e-5)


def test_pieces_become_words_and_phrases() -> None:
    heard = hypothesis(
        tokens(
            *((f"{B}this", 0.2), (f"{B}is", 0.5), (f"{B}long", 0.8), ("hand", 1.0), (".", 1.2)),
            *((f"{B}你好", 2.0), ("。", 2.4)),
        ),
        Tags("en", 0.9, "neutral", "speech", True),
        duration=3.0,
    )
    assert [w.text for w in heard.words] == ["this", "is", "longhand.", "你", "好。"]
    assert [p.text for p in heard.phrases] == ["this is longhand.", "你好。"]
    assert [w.start for w in heard.words] == pytest.approx([0.2, 0.5, 0.8, 2.0, 2.32])
    assert all(w.start <= w.end <= 3.0 for w in heard.words)
    assert (heard.language, heard.emotion, heard.event, heard.itn) == ("en", "neutral", "speech", True)
    assert type(heard).from_json(heard.to_json()).emotion == "neutral"


def test_scripts_side_by_side() -> None:
    heard = hypothesis(
        tokens((f"{B}我", 0.1), ("用", 0.3), ("py", 0.5), ("thon", 0.7), ("写", 0.9)), Tags("zh"), duration=2
    )
    assert [w.text for w in heard.words] == ["我", "用", "python", "写"]


def test_bytes_and_control_pieces() -> None:
    assert detokenize([f"{B}a", "<0xE4>", "<0xBD>", "<0xA0>", "</s>", "b"]) == "a你b"
    assert detokenize(["<unk>"]).strip() == "\N{DOUBLE QUESTION MARK}"


@pytest.mark.parametrize("window", ["hamming", "povey"])
def test_the_filter_banks_are_kaldis(window: str) -> None:
    clip = load("jfk.flac")
    found, wanted = fbank(clip, window=window, scale=32768), reference.fbank(clip, window=window, scale=32768)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 0.02
    assert np.abs(found - wanted).mean() < 1e-4


def test_stacked_frames() -> None:
    rows = np.arange(13, dtype=np.float32)[:, None]
    assert stack(rows, width=7, step=6).tolist() == [
        [0, 0, 0, 0, 1, 2, 3],
        [3, 4, 5, 6, 7, 8, 9],
        [9, 10, 11, 12, 12, 12, 12],
    ]
