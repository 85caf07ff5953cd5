"""A gateway of live sessions whose stages are other processes, which die."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cli.stack.process import free_port
from db.settings import Settings
from live.assembly import RemoteStages, load_stages
from live.remote.asr import RemoteRecognizer
from live.stages import Stages
from tests.live.clients import RATE, LiveClient, Pcm, live_client, speech
from tests.live.conftest import serving
from tests.live.fakes import fake_stages
from tests.live.stages.servers import StageServer, running


@pytest.fixture(scope="module")
def talk() -> Pcm:
    return np.concatenate([speech("librivox_0870.flac"), speech("librivox_0880.flac")])


def say_all(client: LiveClient, talk: Pcm) -> list[str]:
    client.start(options={"diarize": False})
    client.say(talk)
    client.command("end")
    client.rest()
    return client.words


def calm_words(settings: Settings, talk: Pcm) -> list[str]:
    """What is heard where all is in one process."""
    with serving(settings, fake_stages(settings)) as url, live_client(url) as client:
        words = say_all(client, talk)
    assert len(words) > 10
    return words


def remote_stages(settings: Settings, *servers: StageServer, **changes: object) -> Stages:
    """ASR and voice detection of these servers; as PCM, so that they hear the same to the bit."""
    urls = {"asr_routes": {"*": [server.url for server in servers]}, "vad_url": servers[0].url}
    remote = settings.model_copy(update={"asr_link_codec": "pcm", **urls, **changes})
    here = fake_stages(settings)
    there = RemoteStages(remote)
    return Stages(there.vad(instead=here.vad) or here.vad, there.asr() or here.asr)


def test_a_killed_asr_costs_no_word_and_revises_none(settings: Settings, tmp_path: Path, talk: Pcm) -> None:
    expected = calm_words(settings, talk)
    with running(StageServer(tmp_path, "--counting")) as one, running(StageServer(tmp_path, "--counting")) as two:
        stages = remote_stages(settings, one, two)
        assert isinstance(stages.asr, RemoteRecognizer)
        counts = {server.url: server for server in stages.asr._pool._servers.values()}
        with serving(settings, stages) as url, live_client(url) as client:
            client.start(options={"diarize": False})
            client.say(talk[: 4 * RATE], speed=4.0)  # hypotheses are about more and more of it
            while not any(partial["stable"] for partial in client.of("asr_partial")):
                client.receive()
            (busy,) = [server for server in (one, two) if counts[server.url].sessions]
            busy.kill()
            client.say(talk[4 * RATE :])
            client.command("end")
            client.rest()
        assert client.words == expected
        stable: dict[int, list[list[str]]] = {}
        for partial in client.of("asr_partial"):
            stable.setdefault(partial["utterance"], []).append(partial["stable"].split())
        for said in stable.values():
            assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(said))


def test_a_dead_asr_leaves_words_to_the_queue_and_voices_to_the_gateway(
    settings: Settings, tmp_path: Path, talk: Pcm
) -> None:
    nobody = StageServer(tmp_path, port=free_port())
    with serving(settings, remote_stages(settings, nobody)) as url, live_client(url) as client:
        client.start(options={"diarize": False}, **{"return": ["asr", "record_url"]})
        client.say(talk)
        client.command("end")
        client.rest()
    assert client.words == []
    assert client.of("record_url")[0]["url"].startswith(settings.public_base)
    assert {error["code"] for error in client.of("error")} & {"asr_unavailable", "asr_busy"}
    assert client.of("end")[0]["reason"] != "error"


def test_a_gateway_hears_over_opus_by_its_settings(
    settings: Settings, stage_server: StageServer, talk: Pcm
) -> None:
    remote = settings.model_copy(
        update={
            "asr_routes": {"*": [stage_server.url]},
            "vad_url": stage_server.url,
            "lid_url": stage_server.url,
            "denoise_url": stage_server.url,
            "enable_denoise": True,
        }
    )
    with serving(settings, load_stages(remote)) as url, live_client(url) as client:
        say_all(client, talk)
    finals = client.of("asr_final")
    assert finals
    assert client.of("lid")[0]["language"] in ("en", "zh")
    assert [final["start"] for final in finals] == sorted(final["start"] for final in finals)
    assert finals[-1]["end"] <= len(talk) / RATE
