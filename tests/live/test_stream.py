from __future__ import annotations

from db.settings import Settings
from tests.live.clients import live_client, speech
from tests.live.conftest import serving


def test_real_speech_comes_back_while_it_is_spoken(settings: Settings) -> None:
    with serving(settings) as url, live_client(url) as client:
        client.start(flowId="talk", hints={"user_lang_pref": "en"})
        client.say(speech(), speed=2.0)
        client.command("end")
        client.rest()
    text = " ".join(final["text"] for final in client.of("asr_final"))
    assert "Dashwood had then leisure to consider" in text
    assert client.close_code == 1000
