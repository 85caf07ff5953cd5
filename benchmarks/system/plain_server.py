"""``python -m benchmarks.system.plain_server FOLDER THREADS PORT``: faster-whisper in a plain FastAPI handler."""

from __future__ import annotations

import sys
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Form, UploadFile
from faster_whisper import WhisperModel


def create_app(folder: str, threads: int) -> FastAPI:
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads)
    app = FastAPI()

    @app.post("/v1/audio/transcriptions")
    def transcribe(file: UploadFile, language: Annotated[str, Form()]) -> dict[str, str]:
        # the beam and the word times that the stack has
        segments, _ = model.transcribe(file.file, language=language, beam_size=5, word_timestamps=True)
        return {"text": "".join(segment.text for segment in segments).strip()}

    return app


if __name__ == "__main__":
    _, folder, threads, port = sys.argv
    uvicorn.run(create_app(folder, int(threads)), port=int(port), access_log=False, log_level="warning")
