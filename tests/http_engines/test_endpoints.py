"""The operators' file: what it may say, and how it says what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from http_engines.endpoints import EndpointsFile, parse
from http_engines.errors import InvalidEndpoints
from speech.asr.qwen import LANGUAGES as QWEN_LANGUAGES
from speech.text.languages import LANGUAGES

WHOLE = """
[[model]]
name = "qwen3-asr-1.7b"
model = "Qwen/Qwen3-ASR-1.7B"
hosts = ["http://asr-1:8000", "http://10.0.0.7:8000/v1/"]
serves = ["refine", "draft"]
languages = ["zh", "en"]
concurrency = 32
base_seconds = 15
seconds_per_second = 0.5
aligners = ["qwen3-aligner", "whisper"]
price_per_minute = 0.004
key_file = "/run/secrets/qwen"

[[model]]
name = "groq"
hosts = ["https://api.groq.com/openai"]
shape = "transcriptions"
key_env = "GROQ_API_KEY"

[[aligner]]
name = "qwen3-aligner"
hosts = ["http://aligner:8000"]
"""


def test_what_it_says() -> None:
    endpoints = parse(WHOLE)
    first, second = endpoints.model
    assert first.hosts == ("http://asr-1:8000", "http://10.0.0.7:8000")
    assert first.served_name == "Qwen/Qwen3-ASR-1.7B"
    assert first.seconds_for(30) == 30
    assert first.known_languages == {"zh", "en"}
    assert (second.served_name, second.known_languages) == ("groq", LANGUAGES)
    assert second.key({"GROQ_API_KEY": " gsk-1 "}) == "gsk-1"
    assert [model.name for model in endpoints.serving("draft")] == ["qwen3-asr-1.7b"]
    assert [model.name for model in endpoints.serving("refine")] == ["qwen3-asr-1.7b", "groq"]
    assert parse('[[model]]\nname = "a"\nhosts = ["http://a"]').model[0].known_languages == QWEN_LANGUAGES
    assert not parse("").model


MODEL = '[[model]]\nname = "a"\nhosts = ["http://a"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[model", "is no TOML"),
        ("[[models]]\n", "[[models]]"),
        ('[[model]]\nname = "a"\n', "[[model]] 1, hosts: Field required"),
        (f"{MODEL}host = 1\n", "[[model]] 1, host: Extra inputs are not permitted"),
        (f'{MODEL}[[model]]\nname = "b"\nhosts = ["http://b", "ftp://b"]', "[[model]] 2, hosts 2"),
        (f'{MODEL}[[model]]\nname = "a"\nhosts = ["http://b"]', "two are called a"),
        ('[[model]]\nname = "a"\nhosts = ["http://me:secret@a"]', "key_env or key_file"),
        ('[[model]]\nname = "a"\nhosts = ["http://a?key=secret"]', "without `?` and `#`"),
        ('[[model]]\nname = "a"\nhosts = ["http://a", "http://a/v1"]', "a host stands there twice"),
        ('[[model]]\nname = "whisper"\nhosts = ["http://a"]', "name of an engine"),
        ('[[model]]\nname = "a b"\nhosts = ["http://a"]', "[[model]] 1, name"),
        (f'{MODEL}languages = ["english"]', "no language code"),
        (f'{MODEL}aligners = ["none"]', "a: there is no aligner none"),
        (f'{MODEL}shape = "grpc"', "[[model]] 1, shape"),
        (f'{MODEL}shape = "transcriptions"\naudio = "url"', "only the shape `chat`"),
        (f'{MODEL}key_env = "A"\nkey_file = "b"', "either key_env or key_file"),
        (f'{MODEL}key_env = "sk-secret"', "[[model]] 1, key_env"),
        (f"{MODEL}base_seconds = 200", "might take 920 s, and may take 600"),
        (f"{MODEL}concurrency = 0", "[[model]] 1, concurrency"),
        (f"{MODEL}price_per_minute = nan", "[[model]] 1, price_per_minute"),
    ],
)
def test_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(InvalidEndpoints) as raised:
        parse(text)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_it_is_read_again_when_it_changes_and_stays_what_it_was_when_it_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "endpoints.toml"
    file = EndpointsFile(path)
    assert not file.current.model
    assert "cannot be read" in caplog.text
    path.write_text(MODEL)
    assert [model.name for model in file.current.model] == ["a"]
    caplog.clear()
    path.write_text(f"{MODEL}nonsense")
    assert [file.current.model[0].name for _ in range(3)] == ["a"] * 3
    assert caplog.text.count("stay as they were") == 1
    # as a mounted ConfigMap changes: another file takes the name
    other = tmp_path / "next.toml"
    other.write_text(MODEL.replace('"a"', '"b"'))
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    other.rename(path)
    assert [model.name for model in file.current.model] == ["b"]


def test_without_a_file_there_are_none() -> None:
    assert EndpointsFile(None).current == EndpointsFile(None).read()


def test_keys_are_neither_kept_nor_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    model = parse(f'{MODEL}key_file = "{tmp_path / "key"}"').model[0]
    assert model.key() == "sk-secret"
    assert "sk-secret" not in repr(model)
    (tmp_path / "key").write_text("two\nlines")
    with pytest.raises(InvalidEndpoints) as raised:
        model.key()
    assert "lines" not in str(raised.value)
