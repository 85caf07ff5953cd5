"""Qwen3-ForcedAligner behind ``POST /v1/audio/alignments``: wants ``qwen-asr``, FastAPI and a GPU.

    uvicorn --app-dir docker/qwen3-aligner server:app --host 0.0.0.0

Nothing of it was run by Longhand's tests, which have neither the weights nor a GPU.
"""

from __future__ import annotations

import io
import os
from typing import Annotated, Any

import soundfile
import torch
from fastapi import FastAPI, File, Form, HTTPException
from qwen_asr import Qwen3ForcedAligner

MODEL = os.environ.get("ALIGNER_MODEL", "Qwen/Qwen3-ForcedAligner-0.6B")
LANGUAGES = {
    **{"zh": "Chinese", "yue": "Cantonese", "en": "English", "ja": "Japanese", "ko": "Korean", "de": "German"},
    **{"fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "ru": "Russian"},
}

app = FastAPI()
aligner = Qwen3ForcedAligner.from_pretrained(MODEL, dtype=torch.bfloat16, device_map="cuda:0")


@app.get("/v1/models")
def models() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}


@app.post("/v1/audio/alignments")
def align(
    file: Annotated[bytes, File()], text: Annotated[str, Form()], language: Annotated[str, Form()]
) -> dict[str, Any]:
    if language not in LANGUAGES:
        raise HTTPException(422, f"The language {language!r} is not among {', '.join(sorted(LANGUAGES))}.")
    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32")
    (found,) = aligner.align(audio=(samples, rate), text=text, language=LANGUAGES[language])
    return {"words": [{"word": item.text, "start": item.start_time, "end": item.end_time} for item in found]}
