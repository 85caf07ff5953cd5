"""The whole pipeline on one short recording, in one process: from its bytes to speakers and text."""

from __future__ import annotations

from pathlib import Path

from speech.asr.alignment.align import align
from speech.audio import chunking
from speech.audio.media import open_media
from speech.engines import Utterance
from speech.load import load_draft, load_first_available, load_refine, load_segmentation, load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine, VoiceEngine
from speech.speakers.diarization import ChunkDiarizer, LocalSpeakers
from speech.speakers.labels import label_segments
from speech.speakers.reconstruction import diarize_recording
from speech.text.formats import Format, render
from speech.text.transcript import Transcript
from speech.text.words import Segment


def transcribe(models: Path, recording: Path) -> str:
    """The recording's text. Raises EngineUnavailable when an engine cannot load."""
    catalogue = Catalogue(models)
    drafter = load_first_available(
        [DraftEngine.SENSEVOICE_ONNX, DraftEngine.WHISPER], lambda name: load_draft(catalogue, name)
    ).engine
    diarizer = ChunkDiarizer(load_segmentation(catalogue), load_voice(catalogue, VoiceEngine.CAMPPLUS_ONNX))
    local: list[LocalSpeakers] = []
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu")
    segments: list[Segment] = []
    with recording.open("rb") as file, open_media(file, max_duration=3600) as media:
        for chunk in chunking.cut(media.blocks(seconds=8), load_vad(catalogue).stream()):
            utterance = Utterance(chunk.samples, language="en")
            (draft,), (refined,) = drafter.transcribe([utterance]), refiner.transcribe([utterance])
            timeline = chunk.timeline
            placed = (timeline.place(draft), timeline.place(refined))
            segments += align(*placed, chunk=chunk.index, timeline=timeline).segments
            local.append(diarizer.diarize_chunk(chunk.samples, timeline))
        duration = media.decoded_seconds
    speakers = diarize_recording(local)
    segments = label_segments(segments, speakers.turns)
    transcript = Transcript(
        job_id="", status="completed", language="en", duration=duration, segments=tuple(segments)
    )
    return render(transcript, Format.TXT).decode().strip()
