"""/openapi.json as generators of clients read it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.app import create_app
from api.transcript_views import TranscriptView
from db.settings import Settings
from speech.text.formats import Format, render
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Source, Turn, Word


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len({*names}) > 60
    assert {"create_job", "list_jobs", "stream_events", "create_transcription"} <= {*names}
    assert all(re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name) for name in names)


def test_every_schema_that_is_named_is_there(document: dict[str, Any]) -> None:
    named = {*re.findall(r'"\$ref": "([^"]*)"', json.dumps(document))}
    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert named
    assert named - there == set()


def test_schemas_are_named_for_people(document: dict[str, Any]) -> None:
    # two classes of one name would have their modules in it
    assert [name for name in document["components"]["schemas"] if "__" in name] == []


def test_every_answer_with_a_body_has_a_schema(document: dict[str, Any]) -> None:
    bare = [
        (path, method, status, media)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        for media, content in answer.get("content", {}).items()
        if not content.get("schema")
    ]
    assert bare == []


def test_a_transcript_is_as_described() -> None:
    words = (Word("We", 0, 1, 1), Word("met", 1, 2, 0.5, glued=True))
    segment = Segment(0, 0, 0.0, 2.0, "Wemet", 1.0, Source.REFINED, "en", "SPEAKER_00", words)
    voice = "6f1c8f5e-0000-4000-8000-000000000000"
    transcript = Transcript(
        voice,
        "completed",
        "en",
        2.0,
        (segment,),
        (Turn(0, 2, "SPEAKER_00"),),
        (Speaker("SPEAKER_00", "Ann", voice, 0.9),),
    )
    said = json.loads(render(transcript, Format.JSON))
    described = TranscriptView.model_validate(said, extra="forbid").model_dump(mode="json", exclude_unset=True)
    assert described == said
