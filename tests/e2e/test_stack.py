"""Real recordings through real processes and real models."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import cast

import httpx
import jiwer
import openai
import pytest
from tusclient.client import TusClient

from cli.stack.stack import PORTS, WORKERS, Plan, Stack, running_stack
from db.objects.storage import Storage
from longhand import Client, Event, Job, JobOptions, LonghandError
from speech.audio import flac
from tests.conftest import settings_from
from tests.files import files_under
from tests.media import BAD_MEDIA, DATA, tone
from tests.tasks.fetch.server import serving as receiving
from tests.tasks.fetch.server import whole
from tests.tasks.webhooks.receivers import received
from tests.waiting import LIMIT_SECONDS, until

FINISHED = ("completed", "failed", "cancelled")


def wait_until_finished(api: Client, job_id: str) -> Job:
    def finished_job() -> Job | None:
        job = api.jobs.get(job_id)
        return job if job["status"] in FINISHED else None

    return until(finished_job)


def test_openais_client_hears_what_was_said(api: Client, stack: Stack) -> None:
    client = openai.OpenAI(base_url=f"{stack.api_url}/v1", api_key="any", max_retries=0)
    create = client.audio.transcriptions.create
    spoken = (DATA / "jfk.flac").read_bytes()
    heard = create(file=("audio", spoken), model="whisper-1", response_format="verbose_json")
    assert "ask what you can do for your country" in heard.text
    assert heard.language == "english"
    assert heard.duration == pytest.approx(11.0, abs=0.1)
    assert heard.segments
    assert heard.segments[0].avg_logprob < 0 < heard.segments[0].no_speech_prob < 1
    *_, done = create(file=spoken, model="gpt-4o-transcribe", language="en", stream=True)
    assert done.type == "transcript.text.done"
    assert "ask what you can do for your country" in done.text
    told = create(
        file=(DATA / "demo.flac").open("rb"), model="gpt-4o-transcribe-diarize", response_format="diarized_json"
    )
    assert [who for who, _ in groupby(segment.speaker for segment in told.segments)] == ["A", "B"]
    # nothing of it is kept
    until(lambda: "audio" not in {job["audio"]["filename"] for job in api.jobs.list(limit=100)})


@pytest.mark.filterwarnings("ignore:deprecated")
def test_other_languages_are_written_in_english(stack: Stack) -> None:
    client = openai.OpenAI(base_url=f"{stack.api_url}/v1", api_key="any", max_retries=0)
    spoken = (DATA / "zh_asr_example.flac").read_bytes()
    heard = client.audio.translations.create(file=spoken, model="whisper-1", response_format="verbose_json")
    assert heard.language == "english"
    assert heard.text.isascii()
    # of 欢迎大家来体验达摩院推出的语音识别模型 the smallest model catches no more than the beginning
    assert heard.text.lower().startswith("welcome")
    assert heard.segments
    assert heard.segments[-1].end <= heard.duration


def test_speakers_are_known_by_samples(stack: Stack) -> None:
    """Two people read in turns; of the second there is a sample from another recording."""
    client = openai.OpenAI(base_url=f"{stack.api_url}/v1", api_key="any", max_retries=0)
    sample = "data:audio/flac;base64," + b64encode((DATA / "librivox_0890.flac").read_bytes()).decode()
    told = client.audio.transcriptions.create(
        file=(DATA / "demo.flac").open("rb"),
        model="gpt-4o-transcribe-diarize",
        response_format="diarized_json",
        extra_body={"known_speaker_names": ["Reader"], "known_speaker_references": [sample]},
    )
    assert "Reader" in {segment.speaker for segment in told.segments}


def submit(api: Client, folder: Path, body: bytes, **options: object) -> str:
    file = folder / "recording.bin"
    file.write_bytes(body)
    return str(api.jobs.submit(file, cast(JobOptions, options))["id"])


def words(text: str) -> str:
    kept = "".join(c if c.isalpha() or c == " " else " " for c in text.lower().replace("mr.", "mister"))
    return " ".join(kept.split())


def submit_in_pieces(stack: Stack, file: Path, **options: object) -> str:
    """By a tus client, then as an upload that is complete."""
    metadata = {"filename": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    client = TusClient(f"{stack.api_url}/v1/uploads").uploader(str(file), chunk_size=200_000, metadata=metadata)
    client.upload()
    assert client.url is not None
    wanted = {"upload_id": client.url.rpartition("/")[2], "options": options}
    return str(httpx.post(f"{stack.api_url}/v1/jobs", json=wanted, timeout=LIMIT_SECONDS).json()["id"])


def test_a_recording_becomes_a_transcript_in_every_format(api: Client, stack: Stack) -> None:
    job_id = submit_in_pieces(stack, DATA / "demo.flac", language="en")
    events = list(api.jobs.events(job_id))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("job.queued", "job.completed")
    for chunk in {event.data["chunk"] for event in events if event.type == "segment.final"}:
        mine = [event.type for event in events if event.data.get("chunk") == chunk]
        assert mine == sorted(mine), "drafts of a chunk come before its finals"
        assert mine[0] == "segment.draft"
    job = api.jobs.get(job_id)
    assert (job["status"], job["degraded"], job["progress"]["percent"]) == ("completed", False, 100)
    assert (job["audio"]["filename"], job["audio"]["bytes"]) == ("demo.flac", (DATA / "demo.flac").stat().st_size)
    assert job["models"]["refine"]["model"] == "base"
    assert job["models"]["draft"]["instead_of"] in (None, "sensevoice-onnx")
    assert job["models"]["embed"]["engine"] == "campplus-onnx"
    transcript = api.jobs.transcript(job_id)
    assert transcript["duration"] == pytest.approx(38.7, abs=0.1)
    assert [speaker["label"] for speaker in transcript["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert {s["speaker"] for s in transcript["segments"] if s["end"] < 11.2} == {"SPEAKER_00"}
    assert {s["speaker"] for s in transcript["segments"] if s["start"] > 11} == {"SPEAKER_01"}
    spans = [(s["start"], s["end"]) for s in transcript["segments"]]
    assert spans == sorted(spans)
    rows = [json.loads(line) for line in (DATA / "manifest.jsonl").read_text().splitlines()]
    reference = next(row["text"] for row in rows if row["path"] == "demo.flac")
    assert jiwer.wer(words(reference), words(api.jobs.transcript_as(job_id, "txt").decode())) < 0.1
    assert api.jobs.transcript_as(job_id, "srt").decode().startswith("1\n00:00:0")
    assert api.jobs.transcript_as(job_id, "vtt").decode().startswith("WEBVTT\n")


def test_a_broken_stream_resumes_without_gaps_or_repeats(api: Client, stack: Stack) -> None:
    job_id = api.jobs.submit(DATA / "demo.flac")["id"]
    seen: list[int] = []
    while True:
        taken = 0
        with httpx.stream(
            "GET",
            f"{stack.api_url}/v1/jobs/{job_id}/events",
            headers={"Last-Event-ID": str(seen[-1] if seen else 0)},
            timeout=LIMIT_SECONDS,
        ) as answer:
            if answer.status_code == 204:
                break
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    seen.append(int(line[4:]))
                    taken += 1
                    if taken == 3:
                        break
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 8


def test_the_end_of_a_job_is_told_by_webhook(api: Client) -> None:
    with receiving() as web:
        web.routes["/hook"] = whole(b"")
        hook = api.webhooks.create(f"{web.url}/hook", ["job.completed", "speakers.assigned"])
        job_id = api.jobs.submit(DATA / "jfk.flac", {"language": "en"})["id"]
        until(lambda: len(web.bodies) == 2)
        told = received(web, hook["secret"])
        api.webhooks.delete(hook["id"])
    assert [message["type"] for message in told] == ["speakers.assigned", "job.completed"]
    assert {message["data"]["id"] for message in told} == {job_id}


@pytest.mark.parametrize("name", ["text renamed .mp3", "an MP4 cut off before its index", "video without sound"])
def test_bad_media_fails_the_job_and_not_the_worker(api: Client, stack: Stack, tmp_path: Path, name: str) -> None:
    before = stack.supervisor.pids()["cpu"]
    make, code = BAD_MEDIA[name]
    job = wait_until_finished(api, submit(api, tmp_path, make()))
    assert job["error"]
    assert (job["status"], job["error"]["code"]) == ("failed", code)
    assert "Traceback" not in job["error"]["message"]
    assert stack.supervisor.pids()["cpu"] == before


def test_silence_completes_with_an_empty_transcript(api: Client, tmp_path: Path) -> None:
    job = wait_until_finished(api, submit(api, tmp_path, flac.encode(tone(30)[0] * 0)))
    assert job["status"] == "completed"
    assert api.jobs.transcript(job["id"])["segments"] == []
    assert api.jobs.transcript_as(job["id"], "srt").decode().strip() == ""


def wait_for(api: Client, job_id: str, wanted: str) -> Event:
    return next(event for event in api.jobs.events(job_id) if event.type == wanted)


def test_a_deleted_job_leaves_no_objects(api: Client, stack: Stack) -> None:
    job_id = api.jobs.submit(DATA / "jfk.flac")["id"]
    wait_until_finished(api, job_id)
    bucket = stack.plan.data_dir / "s3" / "longhand" / "jobs" / job_id
    assert [path for path in files_under(bucket) if path.suffix == ".flac"]
    assert httpx.delete(f"{stack.api_url}/v1/jobs/{job_id}").status_code == 204
    until(lambda: not files_under(bucket))


def test_cancelling_stops_a_running_job(api: Client, stack: Stack) -> None:
    job_id = api.jobs.submit(DATA / "ocean_0036.flac")["id"]
    wait_for(api, job_id, "job.started")
    answer = httpx.post(f"{stack.api_url}/v1/jobs/{job_id}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert [event.type for event in api.jobs.events(job_id)][-1] == "job.cancelled"


def test_flower_shows_the_workers(stack: Stack) -> None:
    url = next(process.url for process in stack.supervisor.processes if process.name == "flower")

    def all_there() -> bool:
        names = httpx.get(f"{url}/api/workers", params={"refresh": "1"}, timeout=LIMIT_SECONDS).json()
        return {name.split("@")[0] for name in names} >= {"cpu", "gpu", "io"}

    assert until(all_there)
    told = httpx.get(f"{stack.api_url}/v1/server").json()["flower_url"]
    assert httpx.URL(told) == httpx.URL(url).copy_with(username=None, password=None), "the page links it"


def test_every_process_tells_what_it_has_done(
    api: Client, stack: Stack, metrics_port: int, tmp_path: Path
) -> None:
    wait_until_finished(api, submit(api, tmp_path, (DATA / "jfk.flac").read_bytes(), language="en"))
    told = [httpx.get(f"http://127.0.0.1:{metrics_port + place}/metrics").text for place in range(len(WORKERS))]
    told += [httpx.get(f"{url}/metrics").text for url in (stack.api_url, stack.live_url.replace("ws:", "http:"))]
    cpu, gpu, io, server, live = (
        {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
        for text in told
    )
    for process, kinds in ((cpu, ("ingest", "draft")), (gpu, ("refine", "diarize")), (io, ("align", "finalize"))):
        for kind in kinds:
            assert process[f'longhand_workers{{kind="{kind}"}}'] == 1
            assert process[f'longhand_steps_total{{kind="{kind}",outcome="done"}}'] > 0
        assert process["longhand_database_pool_size"] == 4
    healed = [process['longhand_healing_rounds_total{outcome="done"}'] for process in (cpu, gpu, io)]
    assert sum(healed) > 0, "one heals for all"
    assert gpu['longhand_asr_rtf_count{engine="whisper"}'] > 0
    assert gpu['longhand_audio_seconds_total{engine="whisper",kind="refine"}'] > 5
    assert io['longhand_jobs_ended_total{purpose="recording",status="completed"}'] > 0
    assert cpu["longhand_job_first_draft_seconds_count"] > 0
    assert server['longhand_jobs_created_total{priority="normal",purpose="recording"}'] > 0
    assert server["longhand_database_readable"] == 1
    assert live["orchestrator_active_sessions"] >= 0


def test_flower_names_the_jobs_of_tasks_and_keeps_them_over_a_restart(api: Client, stack: Stack) -> None:
    flower = next(process for process in stack.supervisor.processes if process.name == "flower")
    # a step that waited for long is run without a task: of several jobs one has tasks alone
    job_ids = [api.jobs.submit(DATA / "jfk.flac")["id"] for _ in range(3)]
    for job_id in job_ids:
        wait_until_finished(api, job_id)
    expected = {"longhand.ingest", "longhand.draft", "longhand.finalize"}

    def are_shown() -> bool:
        tasks = httpx.get(f"{flower.url}/api/tasks", params={"limit": 1000}, timeout=LIMIT_SECONDS).json()
        return any(
            expected <= {task["name"] for task in tasks.values() if job_id in (task["result"] or "")}
            for job_id in job_ids
        )

    until(are_shown, "the tasks of a job are shown", despite=(httpx.HTTPError,))
    before = flower.pid
    assert before is not None
    os.kill(before, signal.SIGTERM)
    until(
        lambda: flower.pid != before and are_shown(),
        "they are shown again",
        despite=(httpx.HTTPError, ValueError),
    )


@pytest.mark.parametrize(
    "path", ["/", "/workers", "/api/workers", "/api/task/send-task/longhand.sweep", "/metrics"]
)
def test_flower_asks_for_its_password(stack: Stack, path: str) -> None:
    url = httpx.URL(next(process.url for process in stack.supervisor.processes if process.name == "flower"))
    open_to_all = url.copy_with(username=None, password=None)
    method = "POST" if "send-task" in path else "GET"
    assert httpx.request(method, open_to_all.join(path)).status_code == 401
    assert httpx.request(method, open_to_all.join(path), auth=("longhand", "guess")).status_code == 401
    assert httpx.get(open_to_all.join("/healthcheck")).status_code == 200
    if method == "GET":
        assert httpx.get(open_to_all.join(path), auth=(url.username, url.password)).status_code == 200


def longhand(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("longhand")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def all_but(url: str, job_id: str) -> list[Job]:
    jobs: list[Job] = httpx.get(f"{url}/v1/jobs", params={"limit": 100}).json()["data"]
    return [job for job in jobs if job["id"] != job_id]


def test_a_backup_restored_into_a_fresh_stack_shows_the_same_jobs(
    api: Client, stack: Stack, tmp_path: Path
) -> None:
    done = api.jobs.submit(DATA / "librivox_0880.flac")["id"]
    wait_until_finished(api, done)
    at_work = api.jobs.submit(DATA / "ocean_0036.flac")["id"]
    saved = longhand("backup", str(tmp_path / "saved"), "--data-dir", str(stack.plan.data_dir))
    assert saved.returncode == 0, saved.stderr
    wait_until_finished(api, at_work)
    listed = all_but(stack.api_url, at_work)
    transcript = api.jobs.transcript(done)
    again = longhand("restore", str(tmp_path / "saved"), "--data-dir", str(stack.plan.data_dir))
    assert (again.returncode, "jobs already" in again.stderr) == (1, True)
    parts = ("postgres", "redis", "s3", "api")
    with running_stack(
        Plan(tmp_path / "fresh", parts=parts, ports=dict.fromkeys(PORTS, 0)), lambda line: None
    ) as fresh:
        restored = longhand("restore", str(tmp_path / "saved"), "--data-dir", str(fresh.plan.data_dir))
        assert restored.returncode == 0, restored.stderr
        assert all_but(fresh.api_url, at_work) == listed
        verified = longhand("verify", "--data-dir", str(fresh.plan.data_dir))
        assert (verified.returncode, "is there" in verified.stdout) == (0, True), verified.stdout
        other = Client(fresh.api_url)
        assert other.jobs.get(at_work)["id"] == at_work
        assert other.jobs.transcript(done) == transcript
        assert [event.type for event in other.jobs.events(done)] == [event.type for event in api.jobs.events(done)]
        audio = httpx.get(f"{fresh.api_url}/v1/jobs/{done}/audio", follow_redirects=True)
        assert audio.content == (DATA / "librivox_0880.flac").read_bytes()


def test_an_enrolled_voice_names_its_speaker(api: Client, stack: Stack) -> None:
    server = ["--url", stack.api_url]
    enrolled = longhand("voices", "enrol", "Ada", str(DATA / "ocean_0001.flac"), *server)
    assert enrolled.returncode == 0, enrolled.stdout
    voice_id = enrolled.stdout.strip()
    refused = longhand("voices", "enrol", "Bob", str(DATA / "two_voices_stereo.wav"), *server)
    assert refused.returncode == 1
    assert "voice_" in refused.stderr
    job = api.jobs.submit(DATA / "ocean_0001.flac")["id"]
    wait_until_finished(api, job)
    (speaker,) = api.jobs.transcript(job)["speakers"]
    assert (speaker["name"], speaker["voice_id"]) == ("Ada", voice_id)
    assert "ready" in longhand("voices", "list", *server).stdout
    assert longhand("voices", "delete", voice_id, *server).returncode == 0
    assert voice_id not in longhand("voices", "list", *server).stdout


def test_no_log_holds_what_was_said_or_what_anybody_is_called(api: Client, stack: Stack, tmp_path: Path) -> None:
    """Not even where something fails: a chunk without audio, a name that is taken, a row that Postgres refuses."""
    recording = tmp_path / "Zanzibar quarterly.flac"
    recording.write_bytes((DATA / "demo.flac").read_bytes())
    job_id = api.jobs.submit(recording, {"language": "en"})["id"]
    assert wait_until_finished(api, job_id)["status"] == "completed"
    segments = api.jobs.transcript(job_id)["segments"]
    corrected = {"text": "Xanthippe rehearsed the hemidemisemiquavers", "speaker": "Xanthippe"}
    assert httpx.patch(
        f"{stack.api_url}/v1/jobs/{job_id}/segments/{segments[0]['index']}", json=corrected
    ).is_success
    for _ in range(2):
        with suppress(LonghandError):
            api.voices.enrol("Xanthippe", DATA / "ocean_0001.flac")
    lost = api.jobs.submit(recording, {"language": "en"})["id"]
    wait_for(api, lost, "segment.draft")
    storage = Storage(settings_from(stack.environment))
    storage.delete(key for key, _ in storage.list(f"jobs/{lost}/chunks/"))
    wait_until_finished(api, lost)
    spoken = [segment["text"] for segment in segments]
    phrases = {
        " ".join(found) for text in spoken for found in zip(*[text.split()[i:] for i in range(3)], strict=False)
    }
    said = [*phrases, "Xanthippe", "hemidemisemiquavers", "Zanzibar"]
    logs = {
        path: path.read_text(errors="replace")
        for path in files_under(stack.plan.data_dir)
        if path.suffix == ".log"
    }
    assert len(logs) > 6
    assert sum(map(len, logs.values())) > 1000
    assert {(path.name, words) for path, text in logs.items() for words in said if words in text} == set()


def test_disk_usage_of_a_stack(stack: Stack) -> None:
    completed = longhand("disk", "--data-dir", str(stack.plan.data_dir))
    assert completed.returncode == 0
    assert {"postgres", "redis", "s3", "logs", "free"} <= {
        line.split()[0] for line in completed.stdout.splitlines()
    }
