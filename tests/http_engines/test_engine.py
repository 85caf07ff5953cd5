"""The engine against a server that speaks vLLM's wire, and fails in every way."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from http_engines import breaker, look, pool
from http_engines.endpoints import Endpoints, EndpointsFile, parse
from http_engines.engine import HttpEngine
from http_engines.engines import RemoteEngines
from http_engines.errors import Failed, Refused
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Aligner, EngineAway, EngineUnavailable, Samples, SomeFailed, Utterance
from speech.text.words import Hypothesis, Word
from tests.http_engines.server import (
    MODEL,
    SAID,
    Asked,
    VllmServer,
    completion,
    cut,
    erring,
    nonsense,
    raw,
    slow,
    vllm,
)
from tests.tasks.fetch.server import serving, whole

SOUND = np.random.default_rng(7).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
UTTERANCE = Utterance(SOUND, expected="en")


class EvenAligner:
    """Divides the time of the audio among the words."""

    name = "even"
    languages = frozenset({"en"})

    def align(self, samples: Samples, text: str, language: str) -> list[Word]:
        seconds, words = len(samples) / SAMPLE_RATE, text.split()
        return [
            Word(w, i * seconds / len(words), (i + 1) * seconds / len(words), 1.0) for i, w in enumerate(words)
        ]


def no_whisper() -> Aligner:
    raise EngineUnavailable("no Whisper here")


ALIGNER = '[[aligner]]\nname = "exact"\nhosts = ["{url}"]\n'
Make = Callable[..., HttpEngine]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def engine(
        *servers: VllmServer, whisper: Callable[[], Aligner] = EvenAligner, tables: str = "", **fields: Any
    ) -> HttpEngine:
        known: dict[str, Any] = {"name": "qwen", "model": MODEL, "hosts": [server.url for server in servers]}
        known |= {"base_seconds": 2.0, "seconds_per_second": 0.0} | fields
        lines = "\n".join(f"{name} = {_toml(value)}" for name, value in known.items())
        file = tmp_path / "endpoints.toml"
        file.write_text(f"[[model]]\n{lines}\n{tables}")
        return RemoteEngines(EndpointsFile(file), whisper).engine("qwen")

    return engine


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WAIT_SECONDS", 0.2)


@pytest.fixture
def server() -> Iterator[VllmServer]:
    with vllm() as running:
        yield running


def one(engine: HttpEngine, utterance: Utterance = UTTERANCE) -> Hypothesis:
    (hypothesis,) = engine.transcribe([utterance])
    return hypothesis


def failure(engine: HttpEngine, utterance: Utterance = UTTERANCE) -> Exception:
    with pytest.raises(SomeFailed) as raised:
        engine.transcribe([utterance])
    (output,) = raised.value.outputs
    assert isinstance(output, Exception)
    return output


def text_of(hypothesis: Hypothesis) -> str:
    return " ".join(phrase.text for phrase in hypothesis.phrases)


def assert_timed(hypothesis: Hypothesis, seconds: float = 4.0) -> None:
    words = hypothesis.words
    assert words
    assert all(0 <= word.start < word.end <= seconds for word in words)
    assert all(before.end <= after.start + 1e-9 for before, after in pairwise(words))


class TestChat:
    def test_what_is_sent_and_what_is_made_of_the_answer(self, server: VllmServer, make: Make) -> None:
        heard = one(make(server))
        (asked,) = server.asked
        assert asked.samples is not None
        assert np.abs(asked.samples - SOUND).max() < 1e-4
        assert (heard.language, text_of(heard)) == ("en", "We met on Monday.")
        assert [word.confidence for word in heard.words] == pytest.approx([np.exp(-0.1)] * 4)
        assert heard.signals["avg_logprob"] == pytest.approx(-0.1)
        assert heard.word_times == "even"
        assert_timed(heard)

    def test_silence(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "language None<asr_text>"
        assert one(make(server)).phrases == ()

    def test_a_forced_language_is_the_beginning_of_the_answer(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "Wir trafen uns." if asked.forced else SAID
        german = Utterance(SOUND, language="de")
        assert text_of(one(make(server, forces_language=True), german)) == "Wir trafen uns."
        assert server.asked[-1].forced == "language German<asr_text>"
        assert one(make(server), german).language == "en"  # as it was heard
        assert server.asked[-1].forced == ""

    def test_several_languages(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "language Chinese<asr_text>我们星期一见面。language English<asr_text>On Monday."
        heard = one(make(server))
        assert heard.language in ("zh", "en")
        assert [(language, len(words)) for language, words in heard.by_language] == [("zh", 7), ("en", 2)]
        assert_timed(heard)

    def test_audio_by_url(self, server: VllmServer, make: Make) -> None:
        with serving_flac(SOUND) as url:
            one(make(server, audio="url"), Utterance(SOUND, url=url))
        assert server.asked[0].samples is not None
        assert len(server.asked[0].samples) == len(SOUND)

    def test_short_audio_is_padded(self, server: VllmServer, make: Make) -> None:
        one(make(server), Utterance(SOUND[:1600]))
        assert server.asked[0].samples is not None
        assert len(server.asked[0].samples) == SAMPLE_RATE // 2


@contextmanager
def serving_flac(samples: Samples) -> Iterator[str]:
    with serving() as web:
        web.routes["/chunk.flac"] = whole(flac.encode(samples))
        yield f"{web.url}/chunk.flac"


class TestTranscriptions:
    def test_the_servers_own_words(self, server: VllmServer, make: Make) -> None:
        words = [(" We", 0.1, 0.3), (" met", 0.3, 0.6), (" on", 0.0, 0.0), (" Monday.", 0.9, 1.4)]
        server.words = lambda asked: [{"word": w, "start": s, "end": e, "probability": 0.7} for w, s, e in words]
        heard = one(make(server, shape="transcriptions"), Utterance(SOUND, language="en", hotwords=("Ada",)))
        assert (heard.language, heard.word_times) == ("en", None)
        assert [word.text for word in heard.words] == ["We", "met", "on", "Monday."]
        assert heard.words[3].start == 0.9
        assert_timed(heard)
        assert server.asked[0].fields["language"] == "en"
        assert server.asked[0].context == "Ada"

    def test_text_alone(self, server: VllmServer, make: Make) -> None:
        heard = one(make(server, shape="transcriptions", words=False))
        assert (text_of(heard), heard.language, heard.word_times) == ("We met on Monday.", "en", "even")
        assert server.asked[0].fields["response_format"] == "json"


class TestContext:
    HOTWORDS = ("Xanthippe", "Zanzibar", "hemidemisemiquaver")

    def test_hotwords_and_text_before(self, server: VllmServer, make: Make) -> None:
        engine = make(server, context=["hotwords", "text"])
        one(engine, Utterance(SOUND, hotwords=self.HOTWORDS, preceding="It was late."))
        assert server.asked[0].context == "It was late. Xanthippe, Zanzibar, hemidemisemiquaver"

    @pytest.mark.parametrize(
        "echo",
        [
            "Xanthippe Zanzibar hemidemisemiquaver",
            "Xanthippe, Zanzibar, hemidemisemiquaver. We met on Monday.",
            "Zanzibar.",
            "It was late in the evening. We met on Monday.",
        ],
    )
    def test_it_never_comes_back_as_text(self, server: VllmServer, make: Make, echo: str) -> None:
        server.say = lambda asked: f"language English<asr_text>{echo}" if asked.context else SAID
        engine = make(server, context=["hotwords", "text"])
        said = Utterance(SOUND, hotwords=self.HOTWORDS, preceding="It was late in the evening.")
        assert text_of(one(engine, said)) == "We met on Monday."
        assert [bool(asked.context) for asked in server.asked] == [True, False]

    def test_hotwords_that_were_said_stay(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "language English<asr_text>We met Xanthippe in Zanzibar."
        assert "Xanthippe" in text_of(one(make(server), Utterance(SOUND, hotwords=self.HOTWORDS)))
        assert len(server.asked) == 1

    def test_a_model_that_takes_none_is_told_none(self, server: VllmServer, make: Make) -> None:
        one(make(server, context=[]), Utterance(SOUND, hotwords=self.HOTWORDS))
        assert server.asked[0].context == ""


class TestFaults:
    def test_a_slow_host_is_given_up_by_the_length_of_the_audio(self, server: VllmServer, make: Make) -> None:
        server.behaviour = slow(1.0)
        engine = make(server, base_seconds=0.1, seconds_per_second=0.05, retries=0)
        begun = time.monotonic()
        assert isinstance(failure(engine), Failed)
        assert time.monotonic() - begun < 0.9

    def test_one_that_nobody_waits_for_any_more(self, server: VllmServer, make: Make) -> None:
        server.behaviour = slow(5.0)
        begun = time.monotonic()
        error = failure(make(server, base_seconds=30), Utterance(SOUND, late_at=begun + 0.2))
        assert isinstance(error, Failed)
        assert time.monotonic() - begun < 2

    def test_the_chunk_s_deadline_is_for_both_hearings(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "language English<asr_text>Ada." if asked.context else SAID
        server.behaviour = slow(0.6)
        begun = time.monotonic()
        error = failure(make(server, base_seconds=30), Utterance(SOUND, hotwords=("Ada",), late_at=begun + 1.0))
        assert isinstance(error, Failed)
        assert time.monotonic() - begun < 1.5

    def test_429_is_asked_again_when_it_says_so(self, server: VllmServer, make: Make) -> None:
        server.behaviour = erring(429, times=2, Retry_After="1")
        begun = time.monotonic()
        assert text_of(one(make(server))) == "We met on Monday."
        assert time.monotonic() - begun > 1
        assert len(server.asked) == 3

    @pytest.mark.parametrize("behaviour", [erring(500, times=1), erring(503, times=2)])
    def test_what_may_pass_is_asked_again(self, server: VllmServer, make: Make, behaviour: Any) -> None:
        server.behaviour = behaviour
        assert text_of(one(make(server))) == "We met on Monday."

    def test_a_cut_answer(self, server: VllmServer, make: Make) -> None:
        left = [2]

        def behave(handler: Any) -> bool:
            left[0] -= 1
            return cut(handler) if left[0] >= 0 else False

        server.behaviour = behave
        assert text_of(one(make(server))) == "We met on Monday."

    def test_500_for_ever_is_a_failure_and_then_an_outage(self, server: VllmServer, make: Make) -> None:
        server.behaviour = erring(500)
        engine = make(server)
        assert isinstance(failure(engine), Failed)
        assert isinstance(failure(engine), EngineAway)

    def test_who_is_in_a_hurry_takes_no_host_from_others(self, server: VllmServer, make: Make) -> None:
        server.behaviour = slow(0.3)
        engine = make(server)
        for _ in range(4):
            assert isinstance(failure(engine, Utterance(SOUND, late_at=time.monotonic() + 0.1)), Failed)
        assert text_of(one(engine)) == "We met on Monday."

    def test_a_chunk_at_which_the_server_errs_is_no_outage(self, server: VllmServer, make: Make) -> None:
        """It would wait at no cost for ever, while others are served."""

        def behave(handler: Any) -> bool:
            samples = server.asked[-1].samples
            return samples is not None and len(samples) < SAMPLE_RATE and erring(500)(handler)

        server.behaviour = behave
        engine = make(server)
        for _ in range(2):
            assert isinstance(failure(engine, Utterance(SOUND[:12_000])), Failed)
            deadline = time.monotonic() + 10
            while True:
                try:
                    one(engine)
                    break
                except SomeFailed:
                    assert time.monotonic() < deadline

    @pytest.mark.parametrize(
        "body",
        [
            [],
            {},
            {"choices": []},
            {"choices": [{"message": {"content": 7}}]},
            "text",
            {"choices": [{"message": None}]},
        ],
    )
    def test_nonsense(self, server: VllmServer, make: Make, body: Any) -> None:
        server.behaviour = nonsense(body)
        assert isinstance(failure(make(server, retries=0)), Failed)

    @pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
    def test_numbers_that_are_none(self, server: VllmServer, make: Make, number: str) -> None:
        body = json.loads(json.dumps(completion(SAID)).replace("-0.1", number))
        server.behaviour = nonsense(body)
        assert isinstance(failure(make(server, retries=0)), Failed)

    @pytest.mark.parametrize("content", ["[" * 100_000, '{"choices": 1' + "0" * 400 + "}"])
    def test_json_that_breaks_its_reader(self, server: VllmServer, make: Make, content: str) -> None:
        server.behaviour = raw(content.encode())
        assert isinstance(failure(make(server, retries=0)), Failed)

    @pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
    def test_texts_that_python_takes_for_numbers(self, server: VllmServer, make: Make, number: str) -> None:
        server.words = lambda asked: [{"word": "We", "start": number, "end": 1.0}]
        assert isinstance(failure(make(server, shape="transcriptions", retries=0)), Failed)

    def test_half_a_character(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: f"{SAID} \ud83d\x00"
        assert text_of(one(make(server, shape="transcriptions", words=False))) == "We met on Monday."

    def test_packed_answers_are_not_unpacked(self, server: VllmServer, make: Make) -> None:
        packed = gzip.compress(json.dumps(completion(SAID)).encode() + b" " * 10_000_000)
        server.behaviour = raw(packed, Content_Encoding="gzip")
        assert isinstance(failure(make(server, retries=0)), Failed)

    def test_an_endless_answer(self, server: VllmServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool, "MAX_ANSWER_BYTES", 10_000)
        server.behaviour = nonsense(completion("ha " * 20_000))
        assert isinstance(failure(make(server, retries=0)), Failed)

    def test_a_request_that_is_refused_is_not_repeated(self, server: VllmServer, make: Make) -> None:
        server.behaviour = erring(400)
        assert isinstance(failure(make(server)), Refused)
        assert len(server.asked) == 1

    def test_another_model_than_expected(self, server: VllmServer, make: Make) -> None:
        server.models = ["Qwen/Qwen3-ASR-1.7B"]
        error = failure(make(server))
        assert isinstance(error, EngineAway)
        assert server.url not in str(error)

    def test_nobody_listens(self, make: Make) -> None:
        with vllm() as gone:
            pass
        error = failure(make(gone, patience=3600))
        assert isinstance(error, EngineAway)
        assert not error.for_good
        assert isinstance(error := failure(make(gone, patience=0)), EngineAway)
        assert error.for_good

    def test_a_machine_that_is_off_is_away_at_once(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """No attempt is spent on one that does not even refuse."""
        monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.2)
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            with ExitStack() as waiting:
                for _ in range(2):  # what comes after them is dropped
                    client = waiting.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(address)
                error = failure(make(VllmServer(port=address[1]), retries=0, patience=600))
        assert isinstance(error, EngineAway)

    def test_one_of_a_batch_costs_the_others_nothing(self, server: VllmServer, make: Make) -> None:
        def behave(handler: Any) -> bool:
            samples = server.asked[-1].samples
            return samples is not None and len(samples) < SAMPLE_RATE and erring(422)(handler)

        server.behaviour = behave
        engine = make(server, concurrency=1)
        with pytest.raises(SomeFailed) as raised:
            engine.transcribe([UTTERANCE, Utterance(SOUND[:12_000]), UTTERANCE])
        assert [type(output) for output in raised.value.outputs] == [Hypothesis, Refused, Hypothesis]
        assert len(server.asked) == 3

    def test_loops_are_cut_in_two_and_heard_anew(self, server: VllmServer, make: Make) -> None:
        sound = np.concatenate([SOUND] * 3)

        def say(asked: Asked) -> str:
            assert asked.samples is not None
            whole = len(asked.samples) == len(sound)
            return f"language English<asr_text>{'I am a geek. ' * 40 if whole else 'We met.'}"

        server.say = say
        heard = one(make(server), Utterance(sound))
        assert text_of(heard) == "We met. We met."
        assert_timed(heard, 12.0)

    def test_loops_of_a_batch_do_not_wait_for_one_another(self, server: VllmServer, make: Make) -> None:
        sound = np.concatenate([SOUND] * 3)

        def say(asked: Asked) -> str:
            assert asked.samples is not None
            whole = len(asked.samples) == len(sound)
            return f"language English<asr_text>{'I am a geek. ' * 40 if whole else 'We met.'}"

        server.say, server.behaviour = say, slow(0.5)
        begun = time.monotonic()
        heard = make(server, base_seconds=10).transcribe([Utterance(sound)] * 8)
        assert {text_of(each) for each in heard} == {"We met. We met."}
        assert time.monotonic() - begun < 4

    def test_a_character_over_and_over(self, server: VllmServer, make: Make) -> None:
        server.say = lambda asked: "language Chinese<asr_text>" + "嗯" * 500
        assert text_of(one(make(server))) == "嗯"


class TestHosts:
    def test_the_least_busy_one_is_asked_and_none_is_overrun(self, make: Make) -> None:
        with ExitStack() as stack:
            servers = [stack.enter_context(vllm(behaviour=slow(0.05))) for _ in range(3)]
            make(*servers, concurrency=2).transcribe([UTTERANCE] * 24)
        assert [server.most_under_way for server in servers] == [2, 2, 2]
        assert all(6 <= len(server.asked) <= 10 for server in servers)

    def test_a_dead_one_costs_nothing(self, make: Make) -> None:
        with vllm() as dead:
            pass
        with vllm() as alive:
            heard = make(dead, alive).transcribe([UTTERANCE] * 8)
        assert len(heard) == 8
        assert len(alive.asked) == 8

    def test_one_that_dies_amid_requests(self, make: Make) -> None:
        with vllm() as alive, ExitStack() as stack:
            dying = stack.enter_context(vllm())
            killed: list[bool] = []

            def die(handler: Any) -> bool:
                if not killed:
                    killed.append(True)
                    stack.close()
                time.sleep(0.1)
                return False

            dying.behaviour = die
            assert len(make(dying, alive).transcribe([UTTERANCE] * 8)) == 8

    def test_one_that_is_back_is_noticed_in_seconds(self, make: Make) -> None:
        with vllm() as first:
            engine = make(first)
            one(engine)
        assert isinstance(failure(engine), EngineAway)
        with vllm(port=first.port) as again:
            begun = time.monotonic()
            while True:
                try:
                    one(engine)
                    break
                except SomeFailed:
                    assert time.monotonic() - begun < 10
            assert time.monotonic() - begun < 2 * breaker.LONGEST_PAUSE_SECONDS
            assert again.looks >= 1

    def test_a_host_that_lists_its_models_and_fails_is_left_alone_all_the_same(
        self, server: VllmServer, make: Make
    ) -> None:
        server.behaviour = erring(500)
        engine = make(server, retries=2, patience=0)
        assert isinstance(failure(engine), Failed)
        asked = len(server.asked)
        error = failure(engine)
        assert isinstance(error, EngineAway)
        assert error.for_good
        assert len(server.asked) <= asked + 3


class TestKeys:
    def test_from_a_file_which_may_change(
        self, server: VllmServer, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server.key = "first-secret"
        key_file = tmp_path / "key"
        key_file.write_text("first-secret\n")
        engine = make(server, key_file=str(key_file))
        one(engine)
        server.key = "second-secret"
        error = failure(engine)
        assert isinstance(error, EngineAway)
        key_file.write_text("second-secret")
        deadline = time.monotonic() + 10
        while True:
            try:
                one(engine)
                break
            except SomeFailed:
                assert time.monotonic() < deadline
        assert "secret" not in caplog.text
        assert "secret" not in str(error)

    def test_one_that_is_missing(self, server: VllmServer, make: Make) -> None:
        error = failure(make(server, key_env="NO_SUCH_VARIABLE"))
        assert isinstance(error, EngineAway)
        assert "NO_SUCH_VARIABLE" not in str(error)
        assert server.asked == []


class TestWordTimes:
    def test_by_an_aligner_behind_http(self, server: VllmServer, make: Make) -> None:
        with vllm(models=["exact"]) as aligner:
            words = [("We", 0.1, 0.4), ("met", 0.4, 0.4), ("on", 0.5, 0.6), ("Monday", 0.6, 1.2)]
            aligner.align = lambda asked: [{"text": w, "start_time": s, "end_time": e} for w, s, e in words]
            heard = one(make(server, tables=ALIGNER.format(url=aligner.url), aligners=["exact", "whisper"]))
            assert heard.word_times == "exact"
            assert (heard.words[0].start, heard.words[3].end) == (0.1, 1.2)
            assert_timed(heard)
            assert aligner.asked[0].fields["text"] == "We met on Monday."

    def test_zeros_are_no_times(self, server: VllmServer, make: Make) -> None:
        with vllm(models=["exact"]) as aligner:
            aligner.align = lambda asked: [
                {"word": w, "start": 0.0, "end": 0.0} for w in ["We", "met", "on", "Monday"]
            ]
            heard = one(make(server, tables=ALIGNER.format(url=aligner.url), aligners=["exact", "whisper"]))
            assert heard.word_times == "even"
            assert len(aligner.asked) == 1
            assert_timed(heard)

    def test_by_the_drafts_words(self, server: VllmServer, make: Make) -> None:
        draft = (Word("we", 1.0, 1.2, 0.9), Word("met", 1.2, 1.5, 0.9), Word("monday", 1.8, 2.4, 0.9))
        heard = one(make(server, whisper=no_whisper), Utterance(SOUND, draft=draft))
        assert heard.word_times == "draft"
        assert [(w.text, w.start, w.end) for w in heard.words if w.text != "on"] == [
            ("We", 1.0, 1.2), ("met", 1.2, 1.5), ("Monday.", 1.8, 2.4),
        ]  # fmt: skip
        assert_timed(heard)

    @pytest.mark.parametrize("draft", [(), (Word("something", 0.0, 0.1, 0.9), Word("else", 0.1, 0.1, 0.9))])
    def test_by_nothing_at_all(self, server: VllmServer, make: Make, draft: tuple[Word, ...]) -> None:
        heard = one(make(server, whisper=no_whisper), Utterance(SOUND, draft=draft))
        assert heard.word_times == "spread"
        assert_timed(heard)


@pytest.mark.parametrize("listed", [b"[" * 100_000, gzip.compress(b" " * 10_000_000), b"x" * 2_000_000])
def test_a_list_of_models_that_breaks_its_reader(server: VllmServer, listed: bytes) -> None:
    server.list_models = raw(listed, Content_Encoding="gzip")
    seen = look.survey(_listing(server))
    assert len(seen["a"]) == 1


def test_what_is_wrong_with_a_certificate_is_told(server: VllmServer) -> None:
    listing = parse(f'[[model]]\nname = "a"\nhosts = ["{server.url.replace("http", "https")}"]')
    (seen,) = look.survey(listing)["a"].values()
    assert "SSL" in seen.found


def _listing(server: VllmServer) -> Endpoints:
    return parse(f'[[model]]\nname = "a"\nhosts = ["{server.url}"]')


def test_names_of_models_are_cleaned(server: VllmServer) -> None:
    server.models = ["\n\x1b[31mERROR all is lost\u202e" + "x" * 1000]
    ((seen,),) = [hosts.values() for hosts in look.survey(_listing(server)).values()]
    assert seen.found.isprintable()
    assert len(seen.found) < 200


def test_hosts_are_looked_at_with_the_name_of_the_model(server: VllmServer, tmp_path: Path) -> None:
    with vllm() as dead:
        pass
    file = tmp_path / "endpoints.toml"
    hosts = f'["{server.url}", "{dead.url}"]'
    first = f'[[model]]\nname = "a"\nmodel = "{MODEL}"\nhosts = {hosts}\n'
    file.write_text(f'{first}[[model]]\nname = "b"\nhosts = ["{server.url}"]\n')
    seen = look.survey(EndpointsFile(file).current)
    assert [each.state for each in seen["a"].values()] == ["ok", "away"]
    assert [each.state for each in seen["b"].values()] == ["wrong"]
