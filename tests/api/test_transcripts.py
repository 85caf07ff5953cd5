"""``GET /v1/jobs/{id}/transcript``: every format, from the bucket or from the rows, and from the command line."""

from __future__ import annotations

import csv
import io
import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import docx
import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.main import app as command_line
from db.models import Chunk, Job, JobStatus, Role, SegmentSource, StoredHypothesis, StoredSegment
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from speech.text.formats import Format
from speech.text.words import Hypothesis, Phrase, Word
from tests.jobs import make_job

NAME = 'Zoë\'s "team" ..\\meeting\u202e.2026.wav'
WORDS = [
    {"text": text, "start": 1.0 + i, "end": 1.8 + i, "confidence": 0.7}
    for i, text in enumerate(["We", "met", "on", "Sunday."])
]
DROPPED = Hypothesis("en", (Phrase(0, 1, "made up", (Word("made", 0, 0.5, 0.2), Word("up", 0.5, 1, 0.2)), 0.2),))


@pytest.fixture
def job_id(sessions: Sessions) -> uuid.UUID:
    """A completed job of two chunks, one of whose drafts was dropped. It has stored no file."""
    made = make_job(sessions, filename=NAME)
    with job_transaction(sessions, made) as tx:
        for chunk in (0, 1):
            tx.session.add(Chunk(job_id=made, index=chunk, start=30 * chunk, end=30 * chunk + 30, key=f"c{chunk}"))
        tx.session.flush()
        tx.session.add(
            StoredHypothesis(job_id=made, chunk=1, role=Role.DRAFT, engine={}, content=DROPPED.to_json())
        )
        tx.session.add(
            StoredSegment(
                job_id=made, index=0, chunk=0, start=1.0, end=4.8, text="We met on Sunday.", speaker="SPEAKER_00",
                language="en", confidence=0.7, source=SegmentSource.REFINED, words=WORDS,
            )
        )  # fmt: skip
        tx.job.status, tx.job.transcript_prefix, tx.job.duration = JobStatus.COMPLETED, f"jobs/{made}/old/", 60.0
    return made


def text_of(answer: httpx.Response, format_: Format) -> str:
    assert answer.status_code == 200, answer.text
    if format_ is not Format.DOCX:
        return answer.text
    return "\n".join(paragraph.text for paragraph in docx.Document(io.BytesIO(answer.content)).paragraphs)


def test_every_format_has_its_type_and_name(client: httpx.Client, job_id: uuid.UUID) -> None:
    for format_ in Format:
        answer = client.get(f"/v1/jobs/{job_id}/transcript", params={"format": format_})
        text = text_of(answer, format_)
        assert format_ is Format.RTTM or "Sunday." in text
        # what was drafted and dropped is in none of them
        assert "made" not in text
        assert answer.headers["content-type"] == format_.media_type
        kind, plain, full = answer.headers["content-disposition"].split("; ")
        assert (kind, plain) == ("attachment", f'filename="Zo_\'s _team_ .._meeting.2026.{format_.ending}"')
        assert unquote(full) == f"filename*=UTF-8''Zoë's _team_ .._meeting.2026.{format_.ending}"


def test_a_plain_name_needs_no_other(client: httpx.Client, sessions: Sessions) -> None:
    made = make_job(sessions, filename="talk.flac")
    answer = client.get(f"/v1/jobs/{made}/transcript?format=karaoke")
    assert answer.headers["content-disposition"] == 'attachment; filename="talk.karaoke.vtt"'


def test_a_correction_is_in_every_format_at_once(client: httpx.Client, job_id: uuid.UUID) -> None:
    def get(format_: Format, **options: Any) -> str:
        wanted = {"format": format_, **options}
        return text_of(client.get(f"/v1/jobs/{job_id}/transcript", params=wanted), format_)

    assert not [format_ for format_ in Format if "Monday" in get(format_)]
    change = {"text": "They met on Monday.", "speaker": "Ada"}
    assert client.patch(f"/v1/jobs/{job_id}/segments/0", json=change).status_code == 200
    assert [format_ for format_ in Format if "Monday" not in get(format_)] == [Format.RTTM]
    assert [format_ for format_ in Format if "Ada" not in get(format_)] == [Format.CTM]
    for format_ in (Format.SRT, Format.VTT, Format.KARAOKE):
        assert "Monday" in get(format_, max_lines=1)


def test_what_is_stored_is_sent_unless_options_ask_for_more(
    client: httpx.Client, settings: Settings, job_id: uuid.UUID
) -> None:
    url = f"/v1/jobs/{job_id}/transcript"
    for format_ in Format:
        name = f"jobs/{job_id}/old/{format_.file_name}"
        Storage(settings).put(name, b"as it was stored", format_.media_type)
    for format_ in Format:
        answer = client.get(url, params={"format": format_})
        assert (answer.content == b"as it was stored") == format_.stored
    assert client.get(f"{url}?format=srt&max_lines=2&speaker_names=true").text == "as it was stored"
    assert "SPEAKER_00: We met" in client.get(f"{url}?format=srt&max_lines=1").text
    assert "\nWe met on Sunday." in client.get(f"{url}?format=srt&speaker_names=false").text


def test_options_of_subtitles_and_tables(client: httpx.Client, job_id: uuid.UUID) -> None:
    def get(**wanted: Any) -> str:
        return text_of(client.get(f"/v1/jobs/{job_id}/transcript", params=wanted), Format.TXT)

    assert "We met on\nSunday." in get(format="vtt", max_line_width=10)
    assert get(format="vtt", max_line_width=10, max_lines=1).count("-->") == 2
    assert "00:00:01.000 --> 00:00:02.800" in get(format="vtt", max_duration=2)
    assert "00:00:01.000 --> 00:00:09.000" in get(format="karaoke", min_duration=8, max_duration=8)
    assert get(format="csv", bom=True).startswith("\ufeffindex,")
    (row,) = csv.DictReader(io.StringIO(get(format="csv")))
    assert row == {
        "index": "0", "start": "1.000", "end": "4.800", "speaker": "SPEAKER_00", "language": "en",
        "confidence": "0.700", "text": "We met on Sunday.",
    }  # fmt: skip


REFUSED = [
    ("format=pdf", "'docx'"),
    ("format=srt&max_lines=0", "query.max_lines: Input should be greater than or equal to 1"),
    ("format=srt&max_line_width=9", "query.max_line_width: Input should be greater"),
    ("format=vtt&max_line_width=x", "query.max_line_width: Input should be a valid integer"),
    ("format=vtt&max_reading_speed=nan", "query.max_reading_speed"),
    ("format=vtt&max_duration=inf", "query.max_duration"),
    ("format=vtt&min_duration=5&max_duration=2", "`min_duration` is above `max_duration`"),
    ("format=json&max_lines=1", "`json` does not take `max_lines`"),
    ("max_lines=2&bom=false", "`json` does not take `bom`, `max_lines`"),
    ("format=srt&bom=true", "`srt` does not take `bom`"),
    ("format=srt&speaker_names=perhaps", "query.speaker_names"),
]


def test_what_cannot_be_asked_for(client: httpx.Client, job_id: uuid.UUID) -> None:
    for query, said in REFUSED:
        answer = client.get(f"/v1/jobs/{job_id}/transcript?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert said in answer.json()["detail"]


def test_a_running_job_shows_its_drafts(client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        session.get_one(Job, job_id).status = JobStatus.PROCESSING
    for format_ in Format:
        if format_ is not Format.RTTM:
            text = text_of(client.get(f"/v1/jobs/{job_id}/transcript", params={"format": format_}), format_)
            assert "made" in text, format_


def test_from_the_command_line(client: httpx.Client, job_id: uuid.UUID, tmp_path: Path) -> None:
    def run(*arguments: object) -> Result:
        server = ("--url", client.base_url)
        return CliRunner().invoke(command_line, ["transcript", *map(str, (job_id, *arguments, *server))])

    out = tmp_path / "talk.docx"
    assert run("--format", "docx", "--out", out).exit_code == 0
    assert docx.Document(str(out)).paragraphs[-1].text.endswith("We met on Sunday.")
    # bytes go through a pipe as they are
    piped = run("-f", "docx").stdout_bytes
    assert docx.Document(io.BytesIO(piped)).paragraphs[-1].text.endswith("We met on Sunday.")
    assert json.loads(run("-f", "json").stdout)["job_id"] == str(job_id)
    assert run("-f", "srt", "-o", "max_line_width=10", "-o", "speaker_names=false").stdout.endswith(
        "\nWe met on\nSunday.\n"
    )
    refused = run("-f", "srt", "-o", "max_lines=99")
    assert refused.exit_code == 1
    assert "max_lines" in refused.output
    nowhere = run("--out", tmp_path / "no" / "such.txt")
    assert (nowhere.exit_code, "such.txt" in nowhere.output) == (1, True)


def test_a_client_knows_from_where_on_to_follow_it(
    client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
) -> None:
    url = f"/v1/jobs/{job_id}"
    assert client.patch(f"{url}/segments/0", json={"text": "They met. " * 400}).status_code == 200
    answer = client.get(f"{url}/transcript")
    with sessions() as session:
        assert answer.headers["last-event-id"] == str(session.get_one(Job, job_id).event_seq)
    assert answer.headers["content-encoding"] == "gzip"
    plain = client.get(f"{url}/transcript", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
